"""Projects: what they want, where they stand, who works on them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from common.domain import ClassMapping, ProjectSpec
from common.store import schema
from common.store.engine import transaction
from common.store.schema import project

STATES = ("asked", "active", "stopped", "archived")


@dataclass(frozen=True)
class ProjectRow:
    """One project.

    Attributes:
        key: 'platform:id'.
        state: 'asked' (a person added us on the platform; to be connected), 'active', 'stopped' (a person has to
            decide, ``reason`` says what), 'archived' (gone or disconnected).
        revision: Counts recorded label changes.
        arrivals: 'asked', when images without a place in the queue were noticed; 'threshold', where the running
            quantile of the strategy stream stands. Written by the loop alone.
        way_back: What a person asked for, empty when nobody did: 'to', the publication version to go back to, or
            'round', the number of the round whose weights are to serve; and 'asked', when.
        reviewed: Number of the newest round whose review list was made, 0 = none.
        watermark: Labels changed up to here are known, seconds since the epoch, None = never read.
        checkpoint: Id of the serving checkpoint, None = the service's default weights.
        publication: Id of the active publication.
        settings: Its own values of settings, see ``common.config.for_project``.
        created: When it was first asked for, seconds since the epoch: a forgotten one that comes again is another.
    """

    key: str
    platform: str
    external: str
    title: str
    state: str
    reason: str
    spec: ProjectSpec
    platform_state: dict[str, Any]
    revision: int
    watermark: float | None
    first_read: float | None
    reconciled: float | None
    retry_at: float | None
    asked: float | None
    training_asked: float | None
    order_asked: float | None
    arrivals: dict[str, Any]
    way_back: dict[str, Any]
    reviewed: int
    checkpoint: int | None
    publication: int | None
    fence: int
    settings: dict[str, Any]
    created: float


def _row(r: Any) -> ProjectRow:
    spec = dict(r["spec"] or {"title": r["title"], "classes": []})
    spec["classes"] = tuple(ClassMapping(c["name"], tuple(c["model_names"])) for c in spec["classes"])
    values: dict[str, Any] = {n: r[n] for n in ProjectRow.__dataclass_fields__}
    return ProjectRow(**{**values, "spec": ProjectSpec(**spec)})


class Projects:
    """Rows by key; every change is one transaction."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def get(self, key: str) -> ProjectRow | None:
        """One project, None when unknown."""
        if "\0" in key:  # PostgreSQL takes no such text
            return None
        with transaction(self._engine, write=False) as connection:
            r = connection.execute(sa.select(project).where(project.c.key == key)).mappings().first()
        return _row(r) if r else None

    def all(self) -> list[ProjectRow]:
        """Every project, oldest first."""
        with transaction(self._engine, write=False) as connection:
            return [_row(r) for r in connection.execute(sa.select(project).order_by(project.c.created)).mappings()]

    def ask(self, platform: str, external: str) -> None:
        """Remember that somebody wants this project connected; harmless when it is known and alive."""
        key, now = f"{platform}:{external}", time.time()
        with transaction(self._engine, write=True) as connection:
            state = connection.scalar(sa.select(project.c.state).where(project.c.key == key))
            if state is None:
                row = {
                    "key": key,
                    "platform": platform,
                    "external": external,
                    "state": "asked",
                    "asked": now,
                    "created": now,
                }
                connection.execute(sa.insert(project), row)
            elif state == "archived":
                connection.execute(
                    sa.update(project)
                    .where(project.c.key == key)
                    .values(state="asked", reason="", retry_at=None, asked=now)
                )

    def update(self, key: str, **values: Any) -> None:
        """Set columns; a ``spec`` may be given as ProjectSpec."""
        if isinstance(values.get("spec"), ProjectSpec):
            values["title"] = values["spec"].title
            values["spec"] = asdict(values["spec"])
        with transaction(self._engine, write=True) as connection:
            connection.execute(sa.update(project).where(project.c.key == key).values(**values))

    def keep_state(self, key: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        """Write what changed in a port's ``platform_state`` since ``before``; what others changed meanwhile stays."""
        with transaction(self._engine, write=True) as connection:
            there = connection.scalar(sa.select(project.c.platform_state).where(project.c.key == key).with_for_update())
            kept = {n: v for n, v in (there or {}).items() if n in now or n not in before}
            kept |= {n: v for n, v in now.items() if n not in before or before[n] != v}
            connection.execute(sa.update(project).where(project.c.key == key).values(platform_state=kept))

    def lease(self, key: str, owner: str, seconds: float) -> int | None:
        """Take or renew the lease on one project; returns the fencing number, None when somebody else has it."""
        now = time.time()
        free = (project.c.lease_until.is_(None)) | (project.c.lease_until < now) | (project.c.lease_owner == owner)
        with transaction(self._engine, write=True) as connection:
            r = connection.execute(sa.select(project).where(project.c.key == key, free)).mappings().first()
            if r is None:
                return None
            fence: int = r["fence"] + int(r["lease_owner"] != owner)
            values = {"lease_owner": owner, "lease_until": now + seconds, "fence": fence}
            connection.execute(sa.update(project).where(project.c.key == key).values(**values))
        return fence

    def owners(self) -> set[str]:
        """Everybody who holds a lease."""
        query = sa.select(project.c.lease_owner).where(project.c.lease_until.is_not(None))
        with transaction(self._engine, write=False) as connection:
            return {o for o in connection.scalars(query) if o}

    def release(self, owner: str, key: str | None = None) -> None:
        """Give back the lease of ``owner`` on one project, or every one."""
        which = (project.c.lease_owner == owner) & (sa.true() if key is None else project.c.key == key)
        with transaction(self._engine, write=True) as connection:
            connection.execute(sa.update(project).where(which).values(lease_until=None))

    def forget(self, key: str) -> None:
        """Delete every row that belongs to one project."""
        s = schema
        with transaction(self._engine, write=True) as connection:
            mine = sa.select(s.publication.c.id).where(s.publication.c.project == key)
            connection.execute(sa.delete(s.queue).where(s.queue.c.publication.in_(mine)))
            rounds = (s.checkpoint, s.round_, s.measurement, s.review)
            for table in (s.sample, s.annotation, *rounds, s.publication, s.map_, s.memory, s.journal):
                connection.execute(sa.delete(table).where(table.c.project == key))
            connection.execute(sa.delete(project).where(project.c.key == key))
