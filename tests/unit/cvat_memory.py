"""A memory that keeps the promises of common.ports.Memory in a dict: for tests of ports that write rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any


class DictMemory:
    """Values live as JSON text, so that nobody changes them from outside and nothing else gets in."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], str] = {}

    def get(self, kind: str, keys: Iterable[str]) -> dict[str, Any]:
        return {key: json.loads(self.rows[kind, key]) for key in keys if (kind, key) in self.rows}

    def all(self, kind: str) -> dict[str, Any]:
        return self.get(kind, self._keys(kind))

    def counts(self, prefix: str = "") -> dict[str, int]:
        kinds = {kind for kind, _ in self.rows if kind.startswith(prefix)}
        return {kind: len(self._keys(kind)) for kind in sorted(kinds)}

    def put(self, kind: str, rows: Mapping[str, Any]) -> None:
        self.rows |= {(kind, key): json.dumps(value, allow_nan=False) for key, value in rows.items()}

    def add(self, kind: str, key: str, value: Any) -> bool:
        if (kind, key) in self.rows:
            return False
        self.put(kind, {key: value})
        return True

    def drop(self, kind: str, keys: Iterable[str] | None = None, limit: int | None = None) -> int:
        going = self._keys(kind)[:limit] if keys is None else list(keys)
        return sum(self.rows.pop((kind, key), None) is not None for key in going)

    def _keys(self, kind: str) -> list[str]:
        return sorted(key for found, key in self.rows if found == kind)
