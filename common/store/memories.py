"""What platform ports must remember by the row: JSON-able values by project, kind and key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import sqlalchemy as sa

from common.store.engine import transaction, upsert
from common.store.schema import memory

_KEY = ["project", "kind", "key"]
_SLICE = 500


class ProjectMemory:
    """The rows of one project. See ``common.ports.Memory`` for the contract."""

    def __init__(self, engine: sa.Engine, project: str) -> None:
        self._engine, self._project = engine, project

    def _of(self, kind: str) -> sa.ColumnElement[bool]:
        return (memory.c.project == self._project) & (memory.c.kind == kind)

    def get(self, kind: str, keys: Iterable[str]) -> dict[str, Any]:
        """Key -> value of those that are there."""
        found: dict[str, Any] = {}
        with transaction(self._engine, write=False) as connection:
            for some in _slices(keys):
                query = sa.select(memory.c.key, memory.c.value).where(self._of(kind), memory.c.key.in_(some))
                found |= {r.key: r.value for r in connection.execute(query)}
        return found

    def all(self, kind: str) -> dict[str, Any]:
        """Key -> value of every row of a kind, by key."""
        query = sa.select(memory.c.key, memory.c.value).where(self._of(kind)).order_by(memory.c.key)
        with transaction(self._engine, write=False) as connection:
            return {r.key: r.value for r in connection.execute(query)}

    def counts(self, prefix: str = "") -> dict[str, int]:
        """Kind -> number of rows, for every kind that begins with ``prefix`` and has rows."""
        mine = (memory.c.project == self._project) & memory.c.kind.startswith(prefix, autoescape=True)
        query = sa.select(memory.c.kind, sa.func.count()).where(mine).group_by(memory.c.kind)
        with transaction(self._engine, write=False) as connection:
            return {r[0]: r[1] for r in connection.execute(query)}

    def put(self, kind: str, rows: Mapping[str, Any]) -> None:
        """Write rows, replacing those of the same key, ``_SLICE`` rows per transaction."""
        for some in _slices(rows):
            values = [{"project": self._project, "kind": kind, "key": key, "value": rows[key]} for key in some]
            with transaction(self._engine, write=True) as connection:
                upsert(connection, memory, values, _KEY, ["value"])

    def add(self, kind: str, key: str, value: Any) -> bool:
        """Write one row where there is none; False where there is one."""
        row = {"project": self._project, "kind": kind, "key": key, "value": value}
        try:
            with transaction(self._engine, write=True) as connection:
                connection.execute(sa.insert(memory), row)
        except sa.exc.IntegrityError:
            return False
        return True

    def drop(self, kind: str, keys: Iterable[str] | None = None, limit: int | None = None) -> int:
        """Delete rows of a kind (None = all of them, at most ``limit``); returns how many went."""
        if keys is None:
            query = sa.select(memory.c.key).where(self._of(kind)).order_by(memory.c.key).limit(limit)
            with transaction(self._engine, write=False) as connection:
                keys = list(connection.scalars(query))
        gone = 0
        for some in _slices(keys):
            with transaction(self._engine, write=True) as connection:
                gone += connection.execute(sa.delete(memory).where(self._of(kind), memory.c.key.in_(some))).rowcount
        return gone


class Memories:
    """One memory per project."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def of(self, project: str) -> ProjectMemory:
        """The memory of a project, by its key."""
        return ProjectMemory(self._engine, project)


def _slices(keys: Iterable[str]) -> Iterable[list[str]]:
    left = iter(keys)
    while some := list(islice(left, _SLICE)):
        yield some
