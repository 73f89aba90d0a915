"""Open platform ports of the web process: made once, lent to one thread at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from common.loop.tools import OpenPlatform
from common.ports import Platform
from common.store.projects import ProjectRow

KEPT = 2
"""Idle ports of one project; more are closed when they come back."""


class OpenPorts:
    """Opening a port may load a platform's SDK, a second's work; lending one again is free."""

    def __init__(self, open_platform: OpenPlatform) -> None:
        self._open = open_platform
        self._idle: dict[str, list[Platform]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def lend(self, row: ProjectRow) -> Iterator[Platform]:
        """A port of one project, nobody else's until the block ends; one that failed in it is closed.

        Raises:
            HardfirstError: As the platform's ``open``.
        """
        with self._lock:
            idle = self._idle.get(row.key) or []
            port = idle.pop() if idle else None
        port = port or self._open(row)
        try:
            yield port
        except BaseException:
            _close(port)
            raise
        with self._lock:
            idle = self._idle.setdefault(row.key, [])
            full = len(idle) >= KEPT
            if not full:
                idle.append(port)
        if full:
            _close(port)

    def drop(self, key: str) -> None:
        """Close the idle ports of a project that is no longer served."""
        with self._lock:
            idle = self._idle.pop(key, [])
        for port in idle:
            _close(port)


def _close(port: Any) -> None:
    close = getattr(port, "close", None)
    if close is not None:
        close()
