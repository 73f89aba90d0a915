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


class Service:
    """Use it in ``with``; ``settings`` are environment variables on top of ``QUICK``."""

    def __init__(self, home: Path, server: LocalLabelStudio, settings: Mapping[str, str]) -> None:
        self.home = home
        self.server = server
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = home.parent / f"{home.name}.log"
        self._settings = {**QUICK, **settings}
        self._process: subprocess.Popen[bytes] | None = None

    def environment(self) -> dict[str, str]:
        """What hardfirst's processes see."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("HARDFIRST_", "LABEL_STUDIO_", "BASIC_"))}
        own = {
            "LABEL_STUDIO_URL": self.server.url,
            "LABEL_STUDIO_API_KEY": self.server.token,
            "HARDFIRST_HOME": str(self.home),
            "HARDFIRST_PORT": str(self.port),
            "HARDFIRST_URL": self.url,
        }
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

    def run(self, *arguments: str) -> str:
        """A `hardfirst` command; fails the test with what it printed."""
        command = [sys.executable, "-m", "common.cli", *arguments]
        done = subprocess.run(command, env=self.environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def queue(self, project: int, limit: int | None = None) -> dict[str, Any]:
        """What GET /api/queue says."""
        asked = {"project": f"label-studio:{project}"} | ({} if limit is None else {"limit": str(limit)})
        found = httpx.get(f"{self.url}/api/queue", params=asked, timeout=60, trust_env=False)
        return dict(found.raise_for_status().json())

    def version(self, project: int) -> str:
        """The active version, '' while there is none."""
        return str(self.queue(project, 0)["version"])

    def status(self, project: int) -> dict[str, Any]:
        """What `hardfirst status` says."""
        return dict(json.loads(self.run("status", "--json", "--project", f"label-studio:{project}"))[0])

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
