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

_parts = queue.c.parts
SHOW: dict[str, Callable[[], sa.ColumnElement[bool]]] = {
    "random": lambda: _parts["random_slice"].as_boolean(),
    "uncertain": lambda: _parts["uncertain_boxes"].as_integer() > 0,
    "rare": lambda: _parts["rare_class"].as_string().is_not(None),
    "duplicates": lambda: _parts["duplicate_group_size"].as_integer() > 1,
    "outliers": lambda: _parts["outlier"].as_boolean(),
    "arrived": lambda: _parts["arrived"].as_string().is_not(None),
    "unreadable": lambda: sample.c.problem != "",
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

    def seats(self, row: PublicationRow, wanted: Wanted, start: int, limit: int) -> list[Seat]:
        """Places whose sample is open, in queue order: of those that are wanted ``limit`` from offset ``start``."""
        samples = [sample.c[name].label(f"sample_{name}") for name in SampleRow.__dataclass_fields__]
        query = sa.select(queue, *samples).select_from(_join(row)).where(_open(row))
        by_place = (queue.c.place, queue.c.rank)
        if wanted == Wanted():
            query = query.order_by(*by_place).offset(start).limit(limit)
        else:
            numbered = sa.select(queue.c.rank, sa.func.row_number().over(order_by=by_place).label("position"))
            numbers = numbered.select_from(_join(row)).where(_open(row)).subquery()
            query = query.add_columns(numbers.c.position).join(numbers, numbers.c.rank == queue.c.rank)
            query = query.where(*_filters(wanted)).order_by(numbers.c.position).offset(start).limit(limit)
        with transaction(self._engine, write=False) as connection:
            rows = connection.execute(query).mappings().all()
        return [_seat(r, r.get("position") or start + n) for n, r in enumerate(rows, start=1)]

    def count(self, row: PublicationRow, wanted: Wanted) -> int:
        """How many open places are wanted."""
        query = sa.select(sa.func.count()).select_from(_join(row)).where(_open(row), *_filters(wanted))
        with transaction(self._engine, write=False) as connection:
            return int(connection.scalar(query) or 0)


def _join(row: PublicationRow) -> sa.Join:
    mine = (sample.c.external == queue.c.sample) & (sample.c.project == row.project)
    return queue.join(sample, mine)


def _open(row: PublicationRow) -> sa.ColumnElement[bool]:
    return (queue.c.publication == row.id) & ~sample.c.gone & (sample.c.answers == 0)


def _filters(wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    kind = [SHOW[wanted.show]()] if wanted.show else []
    text = [_parts["reason"].as_string().icontains(wanted.reason, autoescape=True)] if wanted.reason else []
    return [*kind, *text]


def _seat(r: Any, position: int) -> Seat:
    place = Place(r["rank"], r["sample"], r["place"], r["utility"], r["parts"])
    return Seat(position, place, SampleRow(**{n: r[f"sample_{n}"] for n in SampleRow.__dataclass_fields__}))
