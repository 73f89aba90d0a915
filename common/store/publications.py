"""Publications: orders and what of them is on the platform. The ledger: only versions in it are ever deleted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from common.ports import chunks
from common.store.engine import count_anew, read_whole, transaction
from common.store.schema import project, publication, queue, sample

MANY = 500
"""Places from which on it matters how a database looks for them."""


@dataclass(frozen=True)
class PublicationRow:
    """One order and what of it is on the platform.

    Attributes:
        state: 'building', 'sending', 'active', 'retired', 'failed' or 'gone' (no row is left there).
        sent: Places passed.
        rows: Rows the platform confirmed.
        in_flight: Rows of a call that was not answered yet.
        upto: Places passed once that call is answered.
        activated: When it began to serve, the last time it did; None = never, or it is about to serve once more.
        activations: Every time it began to serve, ascending: which order an answer came from is told by these.
    """

    id: int
    project: str
    number: int
    round: int
    checkpoint: int | None
    version: str
    state: str
    total: int
    sent: int
    rows: int
    in_flight: int
    upto: int
    seconds: dict[str, float]
    created: float
    activated: float | None
    activations: list[float]


@dataclass(frozen=True)
class Place:
    """One place of a queue.

    Attributes:
        rank: From 1, in the order in which places are sent. In an order as it was made that is the order of ``place``
            too; a sample that arrives later gets the next rank and a place between others.
        sample: Platform id.
        place: In [0, 1], low = label first: the order of the queue.
        utility: In [0, 1], the strategy's own.
        parts: What speaks for the image; with 'arrived', how it got in, where it came after the order was made.
    """

    rank: int
    sample: str
    place: float
    utility: float
    parts: dict[str, Any]


def _row(publication_id: int, p: Place) -> dict[str, Any]:
    return {"publication": publication_id, **vars(p)}


def _give_up(connection: sa.Connection, key: str, but: int) -> None:
    """Every publication of a project that is not on the platform as a whole yet has failed, except one."""
    older = (
        (publication.c.project == key) & publication.c.state.in_(["sending", "building"]) & (publication.c.id != but)
    )
    connection.execute(sa.update(publication).where(older).values(state="failed"))


def _fulfil(connection: sa.Connection, key: str, wish: dict[str, Any], **values: Any) -> None:
    """Set columns of the project; the wish is done with, unless there is a later one."""
    now = connection.scalar(sa.select(project.c.way_back).where(project.c.key == key).with_for_update())
    values["way_back"] = {} if now == wish else now
    connection.execute(sa.update(project).where(project.c.key == key).values(**values))


class Publications:
    """Publications by project and number."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def create(
        self,
        key: str,
        *,
        name: str,
        round_number: int,
        checkpoint: int | None,
        sha8: str,
        places: Sequence[Place],
        seconds: dict[str, float],
        order_asked: float | None = None,
        wish: dict[str, Any] | None = None,
    ) -> PublicationRow:
        """Store an order under a version that was never used: ``NAME@ROUND.PUBLICATION-SHA8``.

        Args:
            key: The project.
            name: First part of the version.
            round_number: Of the model.
            checkpoint: Whose predictions it shows.
            sha8: Last part of the version.
            places: In the order in which they are sent.
            seconds: What it took so far.
            order_asked: When the next order was asked for, None = this one is what was asked for.
            wish: ``ProjectRow.way_back`` of a person who goes back to this order: fulfilled, its model serving, in
                the transaction that makes it the next one.
        """
        with transaction(self._engine, write=True) as connection:
            numbers = sa.select(sa.func.max(publication.c.number)).where(publication.c.project == key)
            seen = sa.select(project.c.numbered).where(project.c.key == key)
            number = max(connection.scalar(numbers) or 0, connection.scalar(seen) or 0) + 1
            values: dict[str, Any] = {
                "project": key,
                "number": number,
                "round": round_number,
                "checkpoint": checkpoint,
                "version": f"{name}@{round_number}.{number}-{sha8}",
                "state": "building",
                "total": len(places),
                "sent": 0,
                "rows": 0,
                "in_flight": 0,
                "upto": 0,
                "seconds": seconds,
                "created": time.time(),
                "activated": None,
                "activations": [],
            }
            new: int = connection.execute(sa.insert(publication).returning(publication.c.id), values).scalar_one()
        for part in chunks(places, 500):
            with transaction(self._engine, write=True) as connection:
                connection.execute(sa.insert(queue), [_row(new, p) for p in part])
        with transaction(self._engine, write=True) as connection:
            _give_up(connection, key, new)
            connection.execute(sa.update(publication).where(publication.c.id == new).values(state="sending"))
            connection.execute(sa.update(project).where(project.c.key == key).values(order_asked=order_asked))
            if wish is not None:
                _fulfil(connection, key, wish, checkpoint=checkpoint)
            if len(places) >= MANY:
                count_anew(connection, queue, sample)
        return self.get(new)

    def restore(self, row: PublicationRow, rows: int, wish: dict[str, Any]) -> None:
        """In one transaction: this one, with ``rows`` on the platform, is the next to serve; its model serves."""
        with transaction(self._engine, write=True) as connection:
            _give_up(connection, row.project, row.id)
            if row.state != "active":
                waits = {"state": "sending", "activated": None, "rows": rows, "in_flight": 0}
                connection.execute(sa.update(publication).where(publication.c.id == row.id).values(**waits))
            _fulfil(connection, row.project, wish, checkpoint=row.checkpoint, order_asked=None)

    def fulfil(self, key: str, wish: dict[str, Any], **values: Any) -> None:
        """In one transaction: columns of the project, and a person's wish is done with."""
        with transaction(self._engine, write=True) as connection:
            _fulfil(connection, key, wish, **values)

    def insert(self, row: PublicationRow, places: Sequence[Place], arrivals: dict[str, Any]) -> None:
        """Add places to a publication that is completely sent; they are sent like any others, by rank.

        Each transaction leaves it whole: cut off in between, the samples that are left have no place yet.

        Args:
            row: The publication as it is.
            places: At least one; ranks ``row.total`` + 1 and up, without a gap.
            arrivals: Of the project, from the last place on.
        """
        for part in chunks(places, 500):
            with transaction(self._engine, write=True) as connection:
                connection.execute(sa.insert(queue), [_row(row.id, p) for p in part])
                grown = {"total": part[-1].rank}
                connection.execute(sa.update(publication).where(publication.c.id == row.id).values(**grown))
                if part[-1] is places[-1]:
                    mine = project.c.key == row.project
                    connection.execute(sa.update(project).where(mine).values(arrivals=arrivals))

    def get(self, publication_id: int) -> PublicationRow:
        """One publication by id."""
        with transaction(self._engine, write=False) as connection:
            r = connection.execute(sa.select(publication).where(publication.c.id == publication_id)).mappings().one()
        return PublicationRow(**r)

    def all(self, key: str) -> list[PublicationRow]:
        """Every publication, oldest first."""
        query = sa.select(publication).where(publication.c.project == key).order_by(publication.c.number)
        with transaction(self._engine, write=False) as connection:
            return [PublicationRow(**r) for r in connection.execute(query).mappings()]

    def unfinished(self, key: str) -> PublicationRow | None:
        """The publication whose rows are not all on the platform yet, or that waits to serve once more."""
        waiting = [
            p for p in self.all(key) if p.state in ("sending", "active") and (p.sent < p.total or p.activated is None)
        ]
        return max(waiting, key=lambda p: (p.state == "sending", p.number), default=None)

    def update(self, publication_id: int, **values: Any) -> None:
        """Set columns."""
        with transaction(self._engine, write=True) as connection:
            connection.execute(sa.update(publication).where(publication.c.id == publication_id).values(**values))

    def activate(self, row: PublicationRow) -> None:
        """In one transaction: this one serves, the one before is retired."""
        with transaction(self._engine, write=True) as connection:
            others = (publication.c.project == row.project) & (publication.c.state == "active")
            connection.execute(sa.update(publication).where(others).values(state="retired"))
            now = time.time()
            times = connection.scalar(sa.select(publication.c.activations).where(publication.c.id == row.id))
            served = {"state": "active", "activated": now, "activations": [*(times or ()), now]}
            connection.execute(sa.update(publication).where(publication.c.id == row.id).values(**served))
            connection.execute(sa.update(project).where(project.c.key == row.project).values(publication=row.id))

    def places(self, publication_id: int, start: int = 0, limit: int | None = None) -> list[Place]:
        """Places by rank, the order in which they are sent, from offset ``start``."""
        query = sa.select(queue).where(queue.c.publication == publication_id).order_by(queue.c.rank).offset(start)
        with transaction(self._engine, write=False) as connection:
            rows = connection.execute(query.limit(limit) if limit is not None else query).mappings().all()
        return [Place(r["rank"], r["sample"], r["place"], r["utility"], r["parts"]) for r in rows]

    def open_places(self, row: PublicationRow, limit: int | None = None) -> tuple[list[Place], int]:
        """(places whose sample nobody has answered or skipped yet, how many there are), best first."""
        open_ = (
            (queue.c.publication == row.id)
            & (sample.c.project == row.project)
            & ~sample.c.gone
            & (sample.c.answers == 0)
        )
        join = queue.join(sample, sample.c.external == queue.c.sample)
        query = sa.select(queue).select_from(join).where(open_).order_by(queue.c.place, queue.c.rank)
        with transaction(self._engine, write=False) as connection:
            rows = connection.execute(query.limit(limit) if limit is not None else query).mappings().all()
            total = connection.scalar(sa.select(sa.func.count()).select_from(join).where(open_)) or 0
        return [Place(r["rank"], r["sample"], r["place"], r["utility"], r["parts"]) for r in rows], total

    def places_of(self, publication_id: int, samples: Sequence[str]) -> dict[str, float]:
        """Sample id -> its place, for those that have one."""
        found: dict[str, float] = {}
        with transaction(self._engine, write=False) as connection:
            for part in chunks(list(samples), 500):
                where = (queue.c.publication == publication_id) & queue.c.sample.in_(part)
                found |= dict(connection.execute(sa.select(queue.c.sample, queue.c.place).where(where)).all())
        return found

    def answered_in(self, row: PublicationRow, first: int) -> int:
        """How many of the order's first ``first`` places have been answered: whether the block is used up.

        By rank: images that came later are not of the block, wherever they stand.
        """
        join = queue.join(sample, sample.c.external == queue.c.sample)
        where = (queue.c.publication == row.id) & (queue.c.rank <= first) & (sample.c.project == row.project)
        query = sa.select(sa.func.count()).select_from(join).where(where, (sample.c.answers > 0) | sample.c.gone)
        with transaction(self._engine, write=False) as connection:
            return int(connection.scalar(query) or 0)

    def lost(self, row: PublicationRow) -> int:
        """Places whose sample the platform no longer has: their rows went with it."""
        mine = queue.c.publication == row.id
        join = queue.join(sample, (sample.c.project == row.project) & (sample.c.external == queue.c.sample))
        places = sa.select(sa.func.count()).select_from(queue).where(mine)
        there = sa.select(sa.func.count()).select_from(join).where(mine, ~sample.c.gone)
        with transaction(self._engine, write=False) as connection:
            read_whole(connection)
            return int(connection.scalar(places) or 0) - int(connection.scalar(there) or 0)

    def placed(self, key: str) -> set[int]:
        """Ids of the publications whose places are kept."""
        mine = sa.select(publication.c.id).where(publication.c.project == key)
        kept = sa.exists().where(queue.c.publication == publication.c.id)
        with transaction(self._engine, write=False) as connection:
            return set(connection.scalars(mine.where(kept)))

    def drop_queue(self, publication_id: int) -> None:
        """Forget the places of a publication that is gone."""
        with transaction(self._engine, write=True) as connection:
            connection.execute(sa.delete(queue).where(queue.c.publication == publication_id))
