"""`hardfirst serve`: one web process and one worker, each started again when it ends, later each time."""

from __future__ import annotations

import fcntl
import logging
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from common.config import Settings
from common.errors import SettingError
from common.lifeline import die_with

STEADY_S = 60.0
"""A process that ran this long starts its back-off from the beginning."""
LONGEST_WAIT_S = 30.0
GRACE_S = 20.0

log = logging.getLogger(__name__)


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """Inside, no other `serve` of this machine works on ``home``; the kernel ends the hold with the process.

    Raises:
        SettingError: One does already.
    """
    home.mkdir(parents=True, exist_ok=True)
    # By machine: several may share one home, each with a serve of its own.
    with (home / f"serve.{platform.node()}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SettingError(
                f"HARDFIRST_HOME is {str(home)!r}, where another `hardfirst serve` is at work: stop it, or name another"
            ) from error
        yield


@dataclass
class _Child:
    name: str
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    again_at: float = 0.0
    wait: float = field(default=0.5)


class Supervisor:
    """Keeps commands running until told to stop; they die with it."""

    def __init__(self, commands: dict[str, Sequence[str]]) -> None:
        self._children = [_Child(name, command) for name, command in commands.items()]
        self._stop = threading.Event()

    def stop(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """End every child in order, then ``run`` returns."""
        self._stop.set()

    def run(self) -> None:
        """Until ``stop``; SIGTERM, SIGINT and a closed terminal call it."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self.stop)
        try:
            while not self._stop.is_set():
                for child in self._children:
                    self._tend(child)
                self._stop.wait(0.2)
        finally:
            self._end()

    def _tend(self, child: _Child) -> None:
        now = time.monotonic()
        if child.process is not None and child.process.poll() is None:
            return
        if child.process is not None:
            steady = now - child.started > STEADY_S
            child.wait = 0.5 if steady else min(child.wait * 2, LONGEST_WAIT_S)
            log.warning("%s ended (%s); again in %.1f s", child.name, child.process.returncode, child.wait)
            child.process, child.again_at = None, now + child.wait
        if now >= child.again_at:
            # A session of its own: Ctrl-C is for us, who end the children in order.
            child.process = subprocess.Popen(child.command, start_new_session=True)
            child.started = now

    def _end(self) -> None:
        alive = [c.process for c in self._children if c.process is not None and c.process.poll() is None]
        for process in alive:
            process.terminate()
        deadline = time.monotonic() + GRACE_S
        for process in alive:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def commands() -> dict[str, Sequence[str]]:
    """What one machine runs; each dies with this process."""
    me, parent = [sys.executable, "-m", "common.cli"], ["--parent", str(os.getpid())]
    return {"web": [*me, "web", *parent], "worker": [*me, "worker", *parent]}


def _follow(_arbiter: Any, _worker: Any) -> None:
    """Gunicorn answers in a process of its own, which must not keep the port when the one above it is killed."""
    die_with(os.getppid())


def run_web(settings: Settings, make_app: Callable[[], Any]) -> None:
    """Gunicorn in this process: one worker with threads, restarted when it hangs."""
    from gunicorn.app.base import BaseApplication

    from common.logs.access import GunicornLines

    host = f"[{settings.bind}]" if ":" in settings.bind else settings.bind

    class Application(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            options = {
                "bind": f"{host}:{settings.port}",
                "workers": 1,
                "worker_class": "gthread",
                "threads": 16,
                "timeout": 120,
                "graceful_timeout": 10,
                "keepalive": 5,
                "proc_name": "hardfirst",
                "loglevel": "warning",
                "logger_class": GunicornLines,
                "accesslog": "-" if settings.log_json else None,
                "control_socket_disable": True,
                "forwarded_allow_ips": "",  # what proxies say is believed in common.web.proxies, or not at all
                "post_fork": _follow,
            }
            for name, value in options.items():
                if name in self.cfg.settings:
                    self.cfg.set(name, value)

        def load(self) -> Any:
            return make_app()

    Application().run()
