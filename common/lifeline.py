"""A child that must not outlive its parent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

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


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_CHECK_S)
    os._exit(1)
