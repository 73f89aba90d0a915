"""The reconciler: takes projects in turn, one lease each. Crash-only: started again it finds the same next step."""

from __future__ import annotations

import logging
import os
import platform
import signal
import threading
from types import FrameType

import psutil

from common.errors import StoreError
from common.loop import ActiveLearningLoop
from common.store import Store

LEASE_S = 600.0
IDLE_S = 0.5

log = logging.getLogger(__name__)


def identity(pid: int | None = None) -> str:
    """host:pid:start time; a pid that was used again is somebody else."""
    process = psutil.Process(pid or os.getpid())
    return f"{platform.node()}:{process.pid}:{process.create_time():.0f}"


def _dead(owner: str) -> bool:
    """Whether a lease holder of this machine is no longer there; unknown machines count as alive."""
    host, _, rest = owner.rpartition(":")[0].rpartition(":")
    if host != platform.node():
        return False
    try:
        return identity(int(rest)) != owner
    except (psutil.Error, ValueError):
        return True


class Worker:
    """Steps every project until told to stop."""

    def __init__(self, store: Store, loop: ActiveLearningLoop) -> None:
        self._store = store
        self._loop = loop
        self._me = identity()
        self._stop = threading.Event()

    def stop(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """Finish the step that is under way, then leave."""
        self._stop.set()

    def run(self) -> None:
        """Until ``stop``; SIGTERM and SIGINT call it."""
        signal.signal(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGINT, self.stop)
        for owner in self._store.projects.owners():
            if _dead(owner):
                self._store.projects.release(owner)
        while not self._stop.is_set():
            try:
                moved = self.turn()
            except StoreError as error:
                log.warning("%s", error)
                moved = False
            if not moved:
                self._stop.wait(IDLE_S)
        self._store.projects.release(self._me)
        self._loop.tools.trainer.close()

    def turn(self) -> bool:
        """One step of every project; returns whether any moved."""
        self._adopt()
        moved = False
        for row in self._store.projects.all():
            if self._stop.is_set():
                break
            if self._store.projects.lease(row.key, self._me, LEASE_S) is not None:
                moved |= self._loop.step(row.key)
        return moved

    def _adopt(self) -> None:
        """Events of projects that are not connected: a person who added us is heard, the rest is dropped."""
        known = {(p.platform, p.external) for p in self._store.projects.all() if p.state != "archived"}
        for name, external in self._store.inbox.projects() - known:
            hints = self._store.inbox.pending(name, external)
            if any(h.event.kind == "connect" for h in hints):
                self._store.projects.ask(name, external)
            self._store.inbox.done([h.id for h in hints])
