"""The queue as people look at it: open places with their samples, by the page, never all of them at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from common.store.engine import read_whole, transaction
from common.store.publications import Place, PublicationRow
from common.store.samples import SampleRow
from common.store.schema import queue, sample

SHOW: dict[str, Callable[[Any, str], sa.ColumnElement[bool]]] = {
    "random": lambda c, _: c.parts["random_slice"].as_boolean(),
    "uncertain": lambda c, _: c.parts["uncertain_boxes"].as_float() > 0,
    "rare": lambda c, _: c.parts["rare_class"].as_string().is_not(None),
    "duplicates": lambda c, _: c.parts["duplicate_group_size"].as_float() > 1,
    "outliers": lambda c, _: c.parts["outlier"].as_boolean(),
    "arrived": lambda c, _: c.parts["arrived"].as_string().is_not(None),
    "unreadable": lambda c, key: c.sample.in_(_samples(key).where(sample.c.problem != "")),
}
"""Kind of image -> which places (columns, project) are of it; strategies that do not tell such a thing have none."""

FEW = 5_000
"""Up to so many places the sample of each is looked up."""


@dataclass(frozen=True)
class Seat:
    """One open place with its sample; ``position`` is its number among all open places, from 1, 1 = label first."""

    position: int
    place: Place
    sample: SampleRow


@dataclass(frozen=True)
class Wanted:
    """What of the queue is looked at.

    Attributes:
        show: A key of ``SHOW``, '' = every image.
        reason: Text that the reason must hold, in any case; '' = any.
    """

    show: str = ""
    reason: str = ""


class Gallery:
    """Reads only."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def seats(self, row: PublicationRow, start: int, limit: int) -> list[Seat]:
        """Places whose sample is open, in queue order: ``limit`` from offset ``start``."""
        few = start + limit <= FEW
        page = self._open(row, queue.c.rank, few=few).order_by(*_BY_PLACE).offset(start).limit(limit)
        with transaction(self._engine, write=False) as connection:
            if not few:
                read_whole(connection)
            ranks = connection.scalars(page).all()
        return self._seats(row, {rank: start + n for n, rank in enumerate(ranks, start=1)})

    def count(self, row: PublicationRow) -> int:
        """How many places are open."""
        places = sa.select(sa.func.count()).where(queue.c.publication == row.id)
        placed = sa.exists().where(queue.c.publication == row.id, queue.c.sample == sample.c.external)
        closed = sa.select(sa.func.count()).where(_closed(row.project), placed)
        with transaction(self._engine, write=False) as connection:
            return int((connection.scalar(places) or 0) - (connection.scalar(closed) or 0))

    def filtered(self, row: PublicationRow, wanted: Wanted, start: int, limit: int) -> tuple[list[Seat], int]:
        """(open places that are wanted, ``limit`` from offset ``start``; how many are), each with its true position.

        Looks at every open place: slower than ``seats``.
        """
        waiting = self._open(row, queue.c.rank, queue.c.place, queue.c.sample, queue.c.parts).cte("waiting")
        # PostgreSQL cannot guess how many places a filter of JSON takes, and would look every sample up.
        c = waiting.prefix_with("MATERIALIZED", dialect="postgresql").c
        total = sa.func.count().over().label("total")
        found = sa.select(c.rank, c.place, total).where(*_filters(c, row.project, wanted)).order_by(c.place, c.rank)
        with transaction(self._engine, write=False) as connection:
            read_whole(connection)
            page = connection.execute(found.offset(start).limit(limit)).mappings().all()
            beyond = connection.execute(found.limit(1)).mappings().all() if start and not page else page
            positions = self._positions(connection, row, page) if page else {}
        return self._seats(row, positions), int(beyond[0]["total"]) if beyond else 0

    def _positions(self, connection: sa.Connection, row: PublicationRow, page: Sequence[Any]) -> dict[int, int]:
        """Rank -> position of these places: only what comes before the last of them is numbered."""
        position = sa.func.row_number().over(order_by=_BY_PLACE).label("position")
        before = self._open(row, queue.c.rank, position).where(queue.c.place <= page[-1]["place"]).subquery()
        chosen = before.c.rank.in_([r["rank"] for r in page])
        numbered = connection.execute(sa.select(before.c.rank, before.c.position).where(chosen))
        return {r.rank: r.position for r in numbered}

    def _open(self, row: PublicationRow, *columns: Any, few: bool = False) -> Any:
        """Places of open samples; ``few`` = only the first ones are looked at, each sample by itself.

        Else the closed ones are read once, which is faster for all of them; each database has a way of saying so that
        the other is slow at.
        """
        if few:
            it = sa.select(sa.literal(1)).where(_closed(row.project), sample.c.external == queue.c.sample)
            closed: sa.ColumnElement[bool] = _apart(it.correlate(queue), self._engine).exists()
        elif self._engine.dialect.name == "postgresql":
            closed = sa.exists().where(_closed(row.project), sample.c.external == queue.c.sample)
        else:
            closed = queue.c.sample.in_(sa.select(sample.c.external).where(_closed(row.project)))
        return sa.select(*columns).where(queue.c.publication == row.id, ~closed)

    def _seats(self, row: PublicationRow, positions: dict[int, int]) -> list[Seat]:
        """The few places of a page (rank -> position) with everything about them, in queue order.

        Asked for by their ranks and not by a join with the query that found them: PostgreSQL, which has not yet counted
        a queue that was just written, takes it for one row and would run that query once for every place.
        """
        if not positions:
            return []
        there = queue.join(sample, (sample.c.project == row.project) & (sample.c.external == queue.c.sample))
        chosen = (queue.c.publication == row.id) & queue.c.rank.in_(list(positions))
        page = sa.select(queue, *_SAMPLE).select_from(there).where(chosen).order_by(*_BY_PLACE)
        with transaction(self._engine, write=False) as connection:
            rows = connection.execute(page).mappings().all()
        return [_seat(r, positions[r["rank"]]) for r in rows]


_SAMPLE = [sample.c[name].label(f"sample_{name}") for name in SampleRow.__dataclass_fields__]
_BY_PLACE = (queue.c.place, queue.c.rank)


def _samples(key: str) -> Any:
    return sa.select(sample.c.external).where(sample.c.project == key)


def _closed(key: str) -> sa.ColumnElement[bool]:
    """Answered, or no longer there."""
    return (sample.c.project == key) & (sample.c.gone | (sample.c.answers > 0))


def _apart(query: Any, engine: sa.Engine) -> Any:
    """A query in another one that PostgreSQL does not make a join of, as an offset has it.

    It guesses how many samples are closed by what it counted some time ago, before people labelled, and would walk over
    all of them for every place.
    """
    return query.offset(0) if engine.dialect.name == "postgresql" else query


def _filters(c: Any, key: str, wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    kind = [SHOW[wanted.show](c, key)] if wanted.show else []
    text = [c.parts["reason"].as_string().icontains(wanted.reason, autoescape=True)] if wanted.reason else []
    return [*kind, *text]


def _seat(r: Any, position: int) -> Seat:
    place = Place(r["rank"], r["sample"], r["place"], r["utility"], r["parts"])
    return Seat(position, place, SampleRow(**{n: r[f"sample_{n}"] for n in SampleRow.__dataclass_fields__}))
