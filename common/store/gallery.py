"""The queue as people look at it: open places with their samples, by the page, never all of them at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from common.store.engine import transaction
from common.store.publications import Place, PublicationRow
from common.store.samples import SampleRow
from common.store.schema import queue, sample

SHOW: dict[str, Callable[[Any], sa.ColumnElement[bool]]] = {
    "random": lambda c: c.parts["random_slice"].as_boolean(),
    "uncertain": lambda c: c.parts["uncertain_boxes"].as_integer() > 0,
    "rare": lambda c: c.parts["rare_class"].as_string().is_not(None),
    "duplicates": lambda c: c.parts["duplicate_group_size"].as_integer() > 1,
    "outliers": lambda c: c.parts["outlier"].as_boolean(),
    "arrived": lambda c: c.parts["arrived"].as_string().is_not(None),
    "unreadable": lambda c: c.sample_problem != "",
}
"""Kind of image -> which places are of it; strategies that do not tell such a thing have none."""


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
        query = _open(row, queue, *_SAMPLE).order_by(*_BY_PLACE).offset(start).limit(limit)
        with transaction(self._engine, write=False) as connection:
            rows = connection.execute(query).mappings().all()
        return [_seat(r, start + n) for n, r in enumerate(rows, start=1)]

    def count(self, row: PublicationRow) -> int:
        """How many places are open."""
        with transaction(self._engine, write=False) as connection:
            return int(connection.scalar(_open(row, sa.func.count())) or 0)

    def filtered(self, row: PublicationRow, wanted: Wanted, start: int, limit: int) -> tuple[list[Seat], int]:
        """(open places that are wanted, ``limit`` from offset ``start``; how many are), each with its true position.

        Looks at every open place: slower than ``seats``.
        """
        position = sa.func.row_number().over(order_by=_BY_PLACE).label("position")
        c = _open(row, queue, *_SAMPLE, position).subquery().c
        found = sa.select(*c, sa.func.count().over().label("total")).where(*_filters(c, wanted)).order_by(c.position)
        with transaction(self._engine, write=False) as connection:
            rows = connection.execute(found.offset(start).limit(limit)).mappings().all()
            beyond = connection.execute(found.limit(1)).mappings().all() if start and not rows else rows
        total = int(beyond[0]["total"]) if beyond else 0
        return [_seat(r, r["position"]) for r in rows], total


_SAMPLE = [sample.c[name].label(f"sample_{name}") for name in SampleRow.__dataclass_fields__]
_BY_PLACE = (queue.c.place, queue.c.rank)


def _open(row: PublicationRow, *columns: Any) -> Any:
    join = queue.join(sample, (sample.c.external == queue.c.sample) & (sample.c.project == row.project))
    open_ = (queue.c.publication == row.id) & ~sample.c.gone & (sample.c.answers == 0)
    return sa.select(*columns).select_from(join).where(open_)


def _filters(c: Any, wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    kind = [SHOW[wanted.show](c)] if wanted.show else []
    text = [c.parts["reason"].as_string().icontains(wanted.reason, autoescape=True)] if wanted.reason else []
    return [*kind, *text]


def _seat(r: Any, position: int) -> Seat:
    place = Place(r["rank"], r["sample"], r["place"], r["utility"], r["parts"])
    return Seat(position, place, SampleRow(**{n: r[f"sample_{n}"] for n in SampleRow.__dataclass_fields__}))
