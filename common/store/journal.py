"""The journal: what happened to a project, in plain words."""

from __future__ import annotations

import time
from dataclasses import dataclass

import sqlalchemy as sa

from common.store.engine import transaction
from common.store.schema import journal

KEPT = 2000
"""Entries kept per project."""


@dataclass(frozen=True)
class Entry:
    """One line of the journal; ``level`` is 'info', 'warning' or 'error'."""

    at: float
    level: str
    text: str


class Journal:
    """Append, and read the newest."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def write(self, project: str, text: str, level: str = "info") -> None:
        """Add an entry; the same text as the newest entry is not written again."""
        newest = sa.select(journal.c.text).where(journal.c.project == project).order_by(journal.c.id.desc()).limit(1)
        with transaction(self._engine, write=True) as connection:
            if connection.scalar(newest) == text:
                return
            row = {"project": project, "at": time.time(), "level": level, "text": text}
            connection.execute(sa.insert(journal), row)
            old = (
                sa.select(journal.c.id)
                .where(journal.c.project == project)
                .order_by(journal.c.id.desc())
                .offset(KEPT)
                .limit(1)
            )
            edge = connection.scalar(old)
            if edge is not None:
                connection.execute(sa.delete(journal).where(journal.c.project == project, journal.c.id <= edge))

    def newest(self, project: str, limit: int = 20) -> list[Entry]:
        """The newest entries, newest first."""
        query = sa.select(journal).where(journal.c.project == project).order_by(journal.c.id.desc()).limit(limit)
        with transaction(self._engine, write=False) as connection:
            return [Entry(r["at"], r["level"], r["text"]) for r in connection.execute(query).mappings()]
