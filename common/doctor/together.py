"""Several looks side by side, each given up after its time: one that hangs is a finding, not a doctor that hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any


class LateError(Exception):
    """A look gave no answer in time."""


def together(calls: Mapping[str, Callable[[], Any]], limit_s: float) -> dict[str, Any]:
    """Name -> what the call returned, or the exception it raised, or LateError.

    Args:
        calls: Each runs in a thread of its own, which is left behind when it is late.
        limit_s: Seconds for all of them.
    """
    found: dict[str, Any] = {}

    def run(name: str, call: Callable[[], Any]) -> None:
        try:
            found[name] = call()
        except Exception as error:  # noqa: BLE001 - handed to the caller as it is
            found[name] = error

    until = time.monotonic() + limit_s
    # Threads of a pool would be waited for when the process ends.
    threads = [threading.Thread(target=run, args=item, name=f"doctor-{item[0]}", daemon=True) for item in calls.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    done = dict(found)
    return {name: done.get(name, LateError(f"no answer within {limit_s:g} s")) for name in calls}
