"""What takes long to count, kept for a moment: many pages show it, and it changes little from one to the next."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Any


class Kept:
    """One value per name; of several who ask at once one computes, the others wait for it. Safe between threads.

    Args:
        seconds: How long a value is kept.
        clock: Seconds, only ever compared.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._values: dict[Hashable, tuple[Hashable, float, Any]] = {}
        self._turns: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def of(self, name: Hashable, state: Hashable, make: Callable[[], Any]) -> Any:
        """The value of ``name``, made anew when it is too old or was made in another ``state``.

        Args:
            name: Of as many as there are projects and kinds: nothing is ever forgotten.
            state: What the value follows from, as far as that costs nothing to know.
            make: Computes it; what it raises is not kept.
        """
        with self._lock:
            turn = self._turns.setdefault(name, threading.Lock())
        with turn:
            was, at, value = self._values.get(name, (None, -self._seconds, None))
            if name not in self._values or was != state or self._clock() - at >= self._seconds:
                value = make()
                self._values[name] = state, self._clock(), value
            return value
