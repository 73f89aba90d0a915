"""A real `hardfirst serve` in its own process, over a home of its own, for end-to-end tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import psutil

from ls_backend.local_process import free_port
from ls_backend.local_server import LocalLabelStudio

QUICK = {
    "HARDFIRST_IMGSZ": "128",
    "HARDFIRST_UPDATES": "8",
    "HARDFIRST_BATCH": "4",
    "HARDFIRST_MIN_NEW_LABELS": "4",
    "HARDFIRST_PAUSE_S": "1",
    "HARDFIRST_RECONCILE_S": "3",
    "HARDFIRST_THREADS": "1",
}


class Hardfirst:
    """A service of its own beside any platform; use it in ``with``.

    Args:
        home: Its HARDFIRST_HOME, made where it is missing; the log lies beside it.
        platform: As in project keys: 'label-studio' or 'cvat'.
        access: Environment variables that say where the platform is and who we are there.
        settings: Environment variables on top of ``QUICK``.
    """

    def __init__(self, home: Path, platform: str, access: Mapping[str, str], settings: Mapping[str, str]) -> None:
        self.home, self.platform = home, platform
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = home.parent / f"{home.name}.log"
        self._settings = {**QUICK, **access, **settings}
        self._process: subprocess.Popen[bytes] | None = None

    def key(self, project: int) -> str:
        """As commands name a project."""
        return f"{self.platform}:{project}"

    def environment(self) -> dict[str, str]:
        """What hardfirst's processes see."""
        foreign = ("HARDFIRST_", "LABEL_STUDIO_", "CVAT_", "BASIC_")
        clean = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        own = {"HARDFIRST_HOME": str(self.home), "HARDFIRST_PORT": str(self.port), "HARDFIRST_URL": self.url}
        return {**clean, **own, **self._settings}

    def __enter__(self) -> Self:
        self.home.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "common.cli", "serve"], env=self.environment(), stdout=log, stderr=log
            )
        self.wait(self.healthy, "the service to answer", 90)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)

    def healthy(self) -> bool:
        """Whether /health answers 200."""
        try:
            return httpx.get(f"{self.url}/health", timeout=5, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def processes(self, word: str) -> list[psutil.Process]:
        """Its processes with this word in their command: 'worker', 'web', 'common.yolo.train_child'."""
        assert self._process is not None
        found = []
        for process in psutil.Process(self._process.pid).children(recursive=True):
            try:
                if word in process.cmdline():
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return found

    def run(self, *arguments: str) -> str:
        """A `hardfirst` command; fails the test with what it printed."""
        command = [sys.executable, "-m", "common.cli", *arguments]
        done = subprocess.run(command, env=self.environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def queue(self, project: int, limit: int | None = None) -> dict[str, Any]:
        """What GET /api/queue says."""
        asked = {"project": self.key(project)} | ({} if limit is None else {"limit": str(limit)})
        found = httpx.get(f"{self.url}/api/queue", params=asked, timeout=60, trust_env=False)
        return dict(found.raise_for_status().json())

    def version(self, project: int) -> str:
        """The active version, '' while there is none."""
        return str(self.queue(project, 0)["version"])

    def status(self, project: int) -> dict[str, Any]:
        """What `hardfirst status` says."""
        return dict(json.loads(self.run("status", "--json", "--project", self.key(project)))[0])

    def wait(self, done: Callable[[], bool], what: str, limit_s: float) -> None:
        """Until ``done``; fails the test with the end of the log."""
        deadline = time.monotonic() + limit_s
        while not done():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {limit_s:.0f} s for {what}\n{self.log.read_text()[-3000:]}")
            time.sleep(0.3)

    def await_version(self, project: int, start: str, limit_s: float = 180) -> str:
        """Until the active version begins with ``start``; returns it."""
        self.wait(lambda: self.version(project).startswith(start), f"a version {start}...", limit_s)
        return self.version(project)


class Service(Hardfirst):
    """The same beside a Label Studio of our own."""

    def __init__(self, home: Path, server: LocalLabelStudio, settings: Mapping[str, str]) -> None:
        access = {"LABEL_STUDIO_URL": server.url, "LABEL_STUDIO_API_KEY": server.token}
        super().__init__(home, "label-studio", access, settings)
        self.server = server
