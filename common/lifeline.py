"""A child that must not outlive its parent, or its work."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_CHECK_S = 0.5


def die_with(parent: int) -> None:
    """Call it early in a child: it is killed as soon as its parent is gone, also when that is so already.

    On Linux by the kernel, when the thread that started the child ends; everywhere by looking twice a second.

    Args:
        parent: Process id of the parent, as the parent told it: a child that asks too late is told its new parent's.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    threading.Thread(target=_watch, args=(parent,), name="lifeline", daemon=True).start()


def die_without(path: Path) -> None:
    """End this process soon after a file of it was taken away, which is there now: nobody wants its work any more."""
    threading.Thread(target=_look_for, args=(path,), name="file", daemon=True).start()


def _look_for(path: Path) -> None:
    while True:
        try:
            path.stat()
        except FileNotFoundError:
            os._exit(1)
        except OSError:  # cannot be told now
            pass
        time.sleep(_CHECK_S)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_CHECK_S)
    os._exit(1)
