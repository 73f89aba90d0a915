"""The newest map of each project, one row, so that it is there as a whole or not; and who is on it."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from common.domain import Floats, Ints
from common.store.engine import transaction, upsert
from common.store.gallery import Seat
from common.store.publications import Place, PublicationRow
from common.store.samples import SampleRow
from common.store.schema import map_, queue, sample

EMPTY = len(zlib.compress(b"", 1))
"""Bytes of a packed map without images; any image makes them more."""

PART = 500
"""Rows of a crowd that are there at once."""


@dataclass(frozen=True)
class MapHead:
    """What is known of a map without its points.

    Attributes:
        publication: Id of the order whose model's embeddings it shows.
        made: When, seconds since the epoch.
        empty: Whether no image is on it.
    """

    publication: int
    made: float
    empty: bool


@dataclass(frozen=True)
class MapRow:
    """One map.

    Attributes:
        publication: Id of the order whose model's embeddings it shows.
        made: When, seconds since the epoch.
        seconds: Processor time it took.
        samples: Shape (n,), ids of sample rows, ascending.
        points: Shape (n, 2), in [-1, 1]: alike images lie close together; directions mean nothing.
    """

    project: str
    publication: int
    made: float
    seconds: float
    samples: Ints
    points: Floats

    def __post_init__(self) -> None:
        """Check shapes."""
        if self.points.shape != (len(self.samples), 2):
            raise ValueError(f"points must have shape ({len(self.samples)}, 2), got {self.points.shape}")


@dataclass(frozen=True)
class Crowd:
    """Every image of a project that is still there: n of them, in queue order as far as they have a place.

    Attributes:
        ids: Shape (n,), of sample rows.
        names: Platform ids.
        answered: Shape (n,).
        utility: Shape (n,), NaN where an image has no place in the queue.
    """

    ids: Ints
    names: Sequence[str]
    answered: NDArray[np.bool_]
    utility: NDArray[np.float64]


class Maps:
    """By project."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def publication(self, key: str) -> int | None:
        """The order a project's map is of, None = there is no map; cheap, to be asked often."""
        with transaction(self._engine, write=False) as connection:
            found: int | None = connection.scalar(sa.select(map_.c.publication).where(map_.c.project == key))
        return found

    def head(self, key: str) -> MapHead | None:
        """What the map of a project is of, None when there is none yet; its points are not read."""
        empty = sa.func.length(map_.c.body) <= EMPTY
        query = sa.select(map_.c.publication, map_.c.made, empty).where(map_.c.project == key)
        with transaction(self._engine, write=False) as connection:
            r = connection.execute(query).first()
        return MapHead(r[0], r[1], bool(r[2])) if r else None

    def get(self, key: str) -> MapRow | None:
        """The map of a project, None when there is none yet."""
        with transaction(self._engine, write=False) as connection:
            r = connection.execute(sa.select(map_).where(map_.c.project == key)).mappings().first()
        if r is None:
            return None
        body = zlib.decompress(r["body"])
        count = len(body) // 16
        samples = np.frombuffer(body, "<i8", count).astype(np.int64)
        points = np.frombuffer(body, "<f4", 2 * count, 8 * count).reshape(-1, 2).astype(np.float32)
        return MapRow(key, r["publication"], r["made"], r["seconds"], samples, points)

    def put(self, key: str, publication: int, seconds: float, samples: Ints, points: Floats) -> None:
        """Keep a map in the place of the one before; see ``MapRow``."""
        row = MapRow(key, publication, time.time(), round(seconds, 3), samples, points)
        packed = zlib.compress(row.samples.astype("<i8").tobytes() + row.points.astype("<f4").tobytes(), 1)
        values = {"project": key, "publication": publication, "made": row.made, "seconds": row.seconds, "body": packed}
        with transaction(self._engine, write=True) as connection:
            upsert(connection, map_, [values], ["project"], ["publication", "made", "seconds", "body"])

    def crowd(self, key: str, publication: int | None) -> Crowd:
        """Who is there, and where in this order; a few narrow columns, for 80,000 images at a request."""
        there = sa.select(sample.c.external, sample.c.id, sample.c.answers)
        there = there.where(sample.c.project == key, ~sample.c.gone)
        seats = sa.select(queue.c.sample, queue.c.utility, queue.c.place, queue.c.rank)
        seats = seats.where(queue.c.publication == publication)
        with transaction(self._engine, write=False) as connection:  # joined here: SQLite looks each of them up
            names, *numbers = _columns(connection.execute(there), 3)
            seated, *floats = _columns(connection.execute(seats), 4)
        row_of = {name: i for i, name in enumerate(names)}
        rows = np.array([row_of.get(name, -1) for name in seated], np.int64)
        ids, answers = (np.array(column, np.int64) for column in numbers)
        utility, place, rank = (_spread(column, rows, len(names)) for column in floats)
        order = np.lexsort((ids, rank, place))  # NaN, no place, comes last
        return Crowd(ids[order], [names[i] for i in order.tolist()], answers[order] > 0, utility[order])

    def seat(self, row: PublicationRow, name: str) -> Seat | None:
        """One image with its place in an order, answered or not, None when it is not there; position 0: not counted."""
        if "\0" in name:  # PostgreSQL takes no such text
            return None
        columns = [sample.c[n].label(f"sample_{n}") for n in SampleRow.__dataclass_fields__]
        mine = (sample.c.project == row.project) & (sample.c.external == name) & ~sample.c.gone
        place = (queue.c.sample == sample.c.external) & (queue.c.publication == row.id)
        query = sa.select(queue, *columns).select_from(sample.outerjoin(queue, place)).where(mine)
        with transaction(self._engine, write=False) as connection:
            r = connection.execute(query).mappings().first()
        if r is None:
            return None
        at = Place(r["rank"] or 0, name, r["place"] or 0.0, r["utility"] or 0.0, r["parts"] or {})
        return Seat(0, at, SampleRow(**{n: r[f"sample_{n}"] for n in SampleRow.__dataclass_fields__}))


def _columns(found: sa.CursorResult[Any], count: int) -> list[list[Any]]:
    """A few rows at a time: the garbage collector would walk over all of them again and again."""
    columns: list[list[Any]] = [[] for _ in range(count)]
    for part in found.partitions(PART):
        for column, values in zip(columns, zip(*part, strict=True), strict=True):
            column.extend(values)
    return columns


def _spread(values: Sequence[float], rows: Ints, count: int) -> NDArray[np.float64]:
    """Shape (count,): each value in its row, those of row -1 left out, NaN where there is none."""
    spread = np.full(count + 1, np.nan)
    spread[rows] = values
    return spread[:count]
