"""The reconciler: takes projects in turn, one lease each. Crash-only: started again it finds the same next step."""

from __future__ import annotations

import logging
import os
import platform
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import psutil

from common import logs
from common.errors import StoreError
from common.loop import ActiveLearningLoop
from common.store import Store

LEASE_S = 600.0
RENEW_S = LEASE_S / 4
"""A step may take longer than a lease: it is renewed meanwhile."""
IDLE_S = 0.5
FIRST_REST_S, LONGEST_REST_S = 5.0, 600.0
"""After an error nobody foresaw a project rests this long, twice as long each time."""

log = logging.getLogger(__name__)


def _machine() -> str:
    """This machine's name, short enough for the column that holds lease owners."""
    return platform.node()[:50]


def identity(pid: int | None = None) -> str:
    """host:pid:start time; a pid that was used again is somebody else."""
    process = psutil.Process(pid or os.getpid())
    return f"{_machine()}:{process.pid}:{process.create_time():.0f}"


def is_gone(owner: str) -> bool:
    """Whether a lease holder of this machine is no longer there; unknown machines count as alive."""
    host, _, pid = owner.rpartition(":")[0].rpartition(":")
    if host != _machine():
        return False
    try:
        gone = identity(int(pid)) != owner
        return gone or psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE
    except (psutil.Error, ValueError):
        return True


def take(store: Store, key: str, me: str) -> bool:
    """The lease on a project, or one whose holder died on this machine; of other machines only those that ran out."""
    if store.projects.lease(key, me, LEASE_S) is not None:
        return True
    for owner in filter(is_gone, store.projects.owners()):
        log.info("%s is gone; its projects are taken over", owner)
        store.projects.release(owner)
    return store.projects.lease(key, me, LEASE_S) is not None


class Worker:
    """Steps every project until told to stop."""

    def __init__(self, store: Store, loop: ActiveLearningLoop) -> None:
        self._store = store
        self._loop = loop
        self._me = identity()
        self._stop = threading.Event()
        self._rests: dict[str, tuple[float, float]] = {}

    def stop(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """Finish the step that is under way, then leave."""
        self._stop.set()

    def run(self) -> None:
        """Until ``stop``; SIGTERM and SIGINT call it."""
        signal.signal(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGINT, self.stop)
        try:
            while not self._stop.is_set():
                if not self._safe_turn():
                    self._stop.wait(IDLE_S)
        finally:
            self._loop.tools.trainer.close()
            self._store.projects.release(self._me)

    def _safe_turn(self) -> bool:
        try:
            return self.turn()
        except StoreError as error:
            log.warning("%s", error)
        except Exception:
            log.exception("the worker could not even look at its projects; it goes on")
        return False

    def turn(self) -> bool:
        """One step of every project that nobody else works on; returns whether any moved."""
        self._adopt()
        moved = False
        for row in self._store.projects.all():
            if self._stop.is_set():
                break
            gone = row.state == "archived"
            rests = self._rests.get(row.key, (0.0, 0.0))[0] > time.monotonic() and not gone
            if not rests and take(self._store, row.key, self._me):
                moved |= self._step(row.key)
                if gone:  # who disconnects waits for this
                    self._store.projects.release(self._me, row.key)
        return moved

    def _step(self, key: str) -> bool:
        try:
            with logs.bound(project=key), self._kept(key):
                moved = self._loop.step(key)
        except StoreError:
            raise
        except Exception as error:
            with logs.bound(**logs.of_error(error)):
                log.exception("%s: unexpected %s", key, type(error).__name__)
                self._rest(key, error)
            return False
        self._rests.pop(key, None)
        return moved

    def _rest(self, key: str, error: Exception) -> None:
        """A fault of ours in one project must not stop the others, nor fill the log."""
        wait = min(max(FIRST_REST_S, self._rests.get(key, (0.0, 0.0))[1] * 2), LONGEST_REST_S)
        self._rests[key] = (time.monotonic() + wait, wait)
        self._loop.give_up(key, error, wait)

    @contextmanager
    def _kept(self, key: str) -> Iterator[None]:
        """The lease does not run out inside."""
        done = threading.Event()
        keeper = threading.Thread(target=self._renew, args=(key, done), name="lease", daemon=True)
        keeper.start()
        try:
            yield
        finally:
            done.set()
            keeper.join()

    def _renew(self, key: str, done: threading.Event) -> None:
        while not done.wait(RENEW_S):
            try:
                self._store.projects.lease(key, self._me, LEASE_S)
            except StoreError as error:
                log.warning("%s: the lease could not be renewed: %s", key, error)

    def _adopt(self) -> None:
        """Events of projects that are not connected: a person who added us is heard, the rest is dropped."""
        known = {(p.platform, p.external) for p in self._store.projects.all() if p.state != "archived"}
        for name, external in self._store.inbox.projects() - known:
            hints = self._store.inbox.pending(name, external)
            if any(h.event.kind == "connect" for h in hints):
                self._store.projects.ask(name, external)
            self._store.inbox.done([h.id for h in hints])
