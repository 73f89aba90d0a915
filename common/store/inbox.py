"""The inbox: hints that something changed on a platform, one committed row each."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from common import logs
from common.domain import Event
from common.store.engine import transaction
from common.store.schema import event, event_trace

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hint:
    """One stored event; ``at`` is when it was to be looked at, seconds since the epoch, ``trace`` '' where unknown."""

    id: int
    event: Event
    at: float
    trace: str = ""


def _event(r: Any) -> Event:
    return Event(r["platform"], r["project"], r["kind"], tuple(r["samples"]), tuple(r["annotations"]))


def _waits(connection: sa.Connection, new: Event) -> bool:
    """Whether a hint like it is not due yet: what that one will make us read includes what this one is about."""
    mine = (event.c.platform == new.platform) & (event.c.project == new.project) & (event.c.kind == new.kind)
    query = _traced().where(event.c.done.is_(None), event.c.at > time.time(), mine)
    like = next((r for r in connection.execute(query).mappings() if _event(r) == new), None)
    if like is not None:
        log.debug(
            "event %d, which waits, is enough for this one; its trace is %s", like["id"], like["trace"] or "unknown"
        )
    return like is not None


def _traced() -> sa.Select[Any]:
    return sa.select(event, event_trace.c.trace).outerjoin(event_trace, event_trace.c.event == event.c.id)


class Inbox:
    """Written by the web process, drained by the worker."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def add(self, new: Event, delay_s: float = 0.0) -> None:
        """Commit one row, under the trace that is current; returns only when it is on the disk.

        Args:
            new: What to look at.
            delay_s: Seconds until it is pending; a hint like it that waits already is enough, so that a burst is one.
        """
        row = {
            "at": time.time() + delay_s,
            "platform": new.platform,
            "project": new.project,
            "kind": new.kind,
            "samples": list(new.samples),
            "annotations": list(new.annotations),
            "done": None,
        }
        with transaction(self._engine, write=True) as connection:
            if not (delay_s and _waits(connection, new)):
                number = connection.execute(sa.insert(event).returning(event.c.id), row).scalar_one()
                if trace := logs.current():
                    connection.execute(sa.insert(event_trace), {"event": number, "trace": trace})

    def pending(self, platform: str, project: str, limit: int = 1000) -> list[Hint]:
        """The oldest hints of one project that are due and that nobody has acted on."""
        mine = (event.c.platform == platform) & (event.c.project == project) & (event.c.at <= time.time())
        query = _traced().where(event.c.done.is_(None), mine).order_by(event.c.id).limit(limit)
        with transaction(self._engine, write=False) as connection:
            rows = connection.execute(query).mappings().all()
        return [Hint(r["id"], _event(r), r["at"], r["trace"] or "") for r in rows]

    def projects(self) -> set[tuple[str, str]]:
        """(platform, project) of every hint that is due and that nobody has acted on."""
        due = event.c.done.is_(None) & (event.c.at <= time.time())
        query = sa.select(event.c.platform, event.c.project).where(due).distinct()
        with transaction(self._engine, write=False) as connection:
            return {(p, q) for p, q in connection.execute(query)}

    def done(self, ids: Sequence[int]) -> None:
        """Mark hints as acted on; older marks are deleted after a day."""
        now = time.time()
        with transaction(self._engine, write=True) as connection:
            for start in range(0, len(ids), 500):
                part = list(ids[start : start + 500])
                connection.execute(sa.update(event).where(event.c.id.in_(part)).values(done=now))
            self._delete(connection, event.c.done < now - 86400)

    def forget(self, platform: str, project: str) -> None:
        """Delete every hint of one project."""
        with transaction(self._engine, write=True) as connection:
            self._delete(connection, (event.c.platform == platform) & (event.c.project == project))

    def _delete(self, connection: sa.Connection, which: sa.ColumnElement[bool]) -> None:
        of_these = event_trace.c.event.in_(sa.select(event.c.id).where(which))
        connection.execute(sa.delete(event_trace).where(of_these))
        connection.execute(sa.delete(event).where(which))
