"""Training children on this machine: started, watched, stopped. Their state is in their folders, not here."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from common import logs
from common.ports import TrainingProgress, TrainingSpec
from common.yolo import offline, trainer

log = logging.getLogger(__name__)
_GRACE_S = 5.0
"""Between asking a child to end and ending it."""


class LocalRunner:
    """Implements ``common.ports.JobRunner`` with one child process per training.

    Args:
        home: HARDFIRST_HOME; ultralytics keeps its settings there.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._children: dict[Path, subprocess.Popen[bytes]] = {}
        self._lock = Lock()
        # Linux ends a child when the thread that started it ends, so one thread that lives as long as we do starts all.
        self._starter = ThreadPoolExecutor(1, "training")

    def start(self, spec: TrainingSpec) -> None:
        """See ``JobRunner``. A training that already runs, or is already done, only gets the new fencing token."""
        folder = spec.folder.resolve()
        with self._lock:
            if self._alive(folder) and not trainer.has_ended(folder) and trainer.is_same(spec):
                trainer.dump_spec(spec)
                return
            if self._alive(folder):  # another training, or one that is on its way out
                _stop([self._children[folder]])
            if not trainer.begin(spec):
                return
            self._children[folder] = self._starter.submit(
                self._spawn, folder, spec.threads, logs.environment()
            ).result()
            log.info("training %s started as process %d", folder.name, self._children[folder].pid)

    def poll(self, folder: Path) -> TrainingProgress:
        """See ``JobRunner``."""
        folder = folder.resolve()
        alive = self._alive(folder)
        child = self._children.get(folder)
        return trainer.progress(folder, alive=alive, ended=_ending(child.returncode) if child else "")

    def cancel(self, folder: Path) -> None:
        """See ``JobRunner``."""
        with self._lock:
            child = self._children.get(folder.resolve())
            if child is not None:
                _stop([child])

    def close(self) -> None:
        """See ``JobRunner``; a closed runner starts nothing any more."""
        with self._lock:
            _stop(list(self._children.values()))
            self._starter.shutdown()

    def _alive(self, folder: Path) -> bool:
        child = self._children.get(folder)
        return child is not None and child.poll() is None

    def _spawn(self, folder: Path, threads: int, told: dict[str, str]) -> subprocess.Popen[bytes]:
        with (folder / trainer.LOG).open("ab") as out:
            return subprocess.Popen(
                trainer.command(folder, os.getpid()),
                cwd=folder,
                env=offline.child_env(self._home, threads) | told,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )


def _stop(children: list[subprocess.Popen[bytes]]) -> None:
    """Ask all to end, then end those that did not, with whatever they started."""
    for child in children:
        _signal(child, signal.SIGTERM)
    for child in children:
        try:
            child.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            _signal(child, signal.SIGKILL)
            child.wait()


def _signal(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if child.poll() is None:
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            return  # it ended between the look and the signal


def _ending(code: int | None) -> str:
    if code is None:
        return ""
    if code >= 0:
        return f"it ended with status {code}"
    name = signal.Signals(-code).name
    return f"it was ended by {name}" + (": perhaps the machine ran out of memory" if name == "SIGKILL" else "")
