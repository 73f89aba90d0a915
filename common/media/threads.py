"""What threads that fetch images at the same time share: one fetch per URL, and one view of an outage."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from common.errors import MediaError, RefusedAddressError
from common.media.fetch import MediaUnavailableError


class Flights:
    """One thread at a time per key: eight threads that want one URL fetch it once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, tuple[threading.Lock, int]] = {}

    @contextmanager
    def alone(self, key: str) -> Iterator[None]:
        """Wait until nobody else holds ``key``, then hold it."""
        with self._lock:
            own, users = self._held.get(key, (threading.Lock(), 0))
            self._held[key] = (own, users + 1)
        try:
            with own:
                yield
        finally:
            with self._lock:
                _, users = self._held.pop(key)
                if users > 1:
                    self._held[key] = (own, users - 1)


class Outage:
    """Counts images in a row that nothing answered for."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._row = 0
        self._last = ""

    def count(self, error: MediaError | None) -> None:
        """Note how one image went; a refused address says nothing about the servers."""
        if isinstance(error, RefusedAddressError):
            return
        with self._lock:
            if self._row < self._limit:
                self._row = self._row + 1 if isinstance(error, MediaUnavailableError) else 0
                self._last = str(error)

    def check(self) -> None:
        """Raise MediaUnavailableError when the outage has begun; it lasts as long as this object."""
        if self._row >= self._limit:
            raise MediaUnavailableError(f"not tried, because nothing answers; the last failure was: {self._last}")
