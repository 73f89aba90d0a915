"""Samples: every image a platform listed, and what became of its bytes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from common.domain import RemoteSample
from common.ports import chunks
from common.store.engine import transaction, upsert
from common.store.schema import queue, sample


@dataclass(frozen=True)
class SampleRow:
    """One image of a project; ``problem`` is '' or one sentence why it cannot be read."""

    id: int
    external: str
    uri: str
    answers: int
    skips: int
    sha256: str | None
    width: int
    height: int
    problem: str
    seen: float


_COLUMNS = [sample.c[n] for n in SampleRow.__dataclass_fields__]


class Samples:
    """Rows by (project, platform id)."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def all(self, project: str) -> list[SampleRow]:
        """Every sample that is still there, oldest first."""
        query = sa.select(*_COLUMNS).where(sample.c.project == project, ~sample.c.gone).order_by(sample.c.id)
        with transaction(self._engine, write=False) as connection:
            return [SampleRow(**r) for r in connection.execute(query).mappings()]

    def some(self, project: str, externals: Sequence[str]) -> dict[str, SampleRow]:
        """Samples by platform id."""
        found: dict[str, SampleRow] = {}
        with transaction(self._engine, write=False) as connection:
            for part in chunks([e for e in externals if "\0" not in e], 500):  # PostgreSQL takes no such text
                query = sa.select(*_COLUMNS).where(sample.c.project == project, sample.c.external.in_(part))
                found |= {r["external"]: SampleRow(**r) for r in connection.execute(query).mappings()}
        return found

    def counts(self, project: str) -> dict[str, int]:
        """{'samples', 'answered', 'skipped', 'unreadable', 'fetched'}."""
        c = sample.c
        query = sa.select(
            sa.func.count().label("samples"),
            sa.func.coalesce(sa.func.sum(sa.case((c.answers > 0, 1), else_=0)), 0).label("answered"),
            sa.func.coalesce(sa.func.sum(sa.case(((c.skips > 0) & (c.answers == 0), 1), else_=0)), 0).label("skipped"),
            sa.func.coalesce(sa.func.sum(sa.case((c.problem != "", 1), else_=0)), 0).label("unreadable"),
            sa.func.coalesce(sa.func.sum(sa.case((c.sha256.is_not(None), 1), else_=0)), 0).label("fetched"),
        ).where(c.project == project, ~c.gone)
        with transaction(self._engine, write=False) as connection:
            return {k: int(v) for k, v in connection.execute(query).mappings().one().items()}

    def replace(self, project: str, remote: Iterable[RemoteSample]) -> tuple[list[str], list[str], list[str]]:
        """Make the stored list equal to the platform's, but for the numbers of answers: those come with the answers.

        So a reading that is cut off before the answers are recorded finds the same samples again.

        Returns:
            Platform ids of (new samples, samples that went, samples whose answers or skips are not as recorded).
        """
        listed = {r.id: r for r in remote}
        query = sa.select(sample.c.external, sample.c.uri, sample.c.answers, sample.c.skips, sample.c.gone).where(
            sample.c.project == project
        )
        with transaction(self._engine, write=False) as connection:
            known: dict[str, Any] = {r["external"]: r for r in connection.execute(query).mappings()}
        alive = {k for k, r in known.items() if not r["gone"]}
        new = [k for k in listed if k not in alive]
        lost = [k for k in alive if k not in listed]
        moved = [
            k
            for k in listed
            if k in alive and (known[k]["answers"], known[k]["skips"]) != (listed[k].answers, listed[k].skips)
        ]
        changed = [k for k in listed if k in alive and known[k]["uri"] != listed[k].uri]
        self._write(project, [listed[k] for k in new])
        self._reset(project, [listed[k] for k in changed])
        self.drop(project, lost)
        fresh = [k for k in new if listed[k].answers or listed[k].skips]
        return new, lost, [*moved, *fresh]

    def _write(self, project: str, remote: list[RemoteSample]) -> None:
        now = time.time()
        for part in chunks(remote, 500):
            rows = [
                {
                    "project": project,
                    "external": r.id,
                    "uri": r.uri,
                    "updated": r.updated.timestamp() if r.updated else None,
                    "answers": 0,
                    "skips": 0,
                    "gone": False,
                    "seen": now,
                }
                for r in part
            ]
            with transaction(self._engine, write=True) as connection:
                upsert(
                    connection,
                    sample,
                    rows,
                    ["project", "external"],
                    ["uri", "updated", "gone"],
                )

    def unplaced(self, project: str, publication: int) -> list[SampleRow]:
        """Samples nobody has answered that have no place in a publication, oldest first."""
        c = sample.c
        there = sa.exists().where(queue.c.publication == publication, queue.c.sample == c.external)
        query = sa.select(*_COLUMNS).where(c.project == project, ~c.gone, c.answers == 0, ~there).order_by(c.id)
        with transaction(self._engine, write=False) as connection:
            return [SampleRow(**r) for r in connection.execute(query).mappings()]

    def _reset(self, project: str, remote: list[RemoteSample]) -> None:
        """The image behind these samples was exchanged: forget what was known of its bytes."""
        with transaction(self._engine, write=True) as connection:
            for r in remote:
                where = (sample.c.project == project) & (sample.c.external == r.id)
                values = {"uri": r.uri, "sha256": None, "width": 0, "height": 0, "problem": "", "tried": None}
                connection.execute(sa.update(sample).where(where).values(**values))

    def drop(self, project: str, externals: Sequence[str]) -> None:
        """These samples are no longer on the platform."""
        for part in chunks(list(externals), 500):
            where = (sample.c.project == project) & sample.c.external.in_(part)
            with transaction(self._engine, write=True) as connection:
                connection.execute(sa.update(sample).where(where).values(gone=True))

    def unfetched(self, project: str, limit: int, retry_before: float) -> list[SampleRow]:
        """Samples whose image has not been had yet; failed ones again when last tried before ``retry_before``.

        Labelled ones come first: a round waits for them.
        """
        c = sample.c
        due = c.tried.is_(None) | (c.tried < retry_before)
        query = (
            sa.select(*_COLUMNS)
            .where(c.project == project, ~c.gone, c.sha256.is_(None), due)
            .order_by((c.answers == 0), c.id)
            .limit(limit)
        )
        with transaction(self._engine, write=False) as connection:
            return [SampleRow(**r) for r in connection.execute(query).mappings()]

    def awaited(self, project: str) -> bool:
        """Whether the image of a labelled sample has never been asked for yet."""
        c = sample.c
        never = (c.project == project) & ~c.gone & (c.answers > 0) & c.sha256.is_(None) & c.tried.is_(None)
        with transaction(self._engine, write=False) as connection:
            return connection.scalar(sa.select(c.id).where(never).limit(1)) is not None

    def fetched(self, project: str, rows: Sequence[dict[str, Any]]) -> None:
        """Record fetch results: dicts of id, sha256, width, height, problem and, where it is not now, tried."""
        now = time.time()
        statement = (
            sa.update(sample)
            .where(sample.c.project == project, sample.c.id == sa.bindparam("row_id"))
            .values(
                sha256=sa.bindparam("new_sha"),
                width=sa.bindparam("new_width"),
                height=sa.bindparam("new_height"),
                problem=sa.bindparam("new_problem"),
                tried=sa.bindparam("new_tried"),
            )
        )
        names = {"id": "row_id", "sha256": "new_sha", "width": "new_width", "height": "new_height"}
        names |= {"problem": "new_problem", "tried": "new_tried"}
        renamed = [{names[k]: v for k, v in {"tried": now, **r}.items()} for r in rows]
        for part in chunks(renamed, 500):
            with transaction(self._engine, write=True) as connection:
                connection.execute(statement, part)

    def problems(self, project: str, limit: int = 50) -> list[SampleRow]:
        """Samples whose image cannot be read."""
        query = (
            sa.select(*_COLUMNS).where(sample.c.project == project, ~sample.c.gone, sample.c.problem != "").limit(limit)
        )
        with transaction(self._engine, write=False) as connection:
            return [SampleRow(**r) for r in connection.execute(query).mappings()]
