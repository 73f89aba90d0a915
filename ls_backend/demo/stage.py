"""The stage of the demo: both servers, one project, all state in one folder, so that a second run resumes."""

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

from common.errors import HardfirstError, PlatformUnreachableError
from ls_backend.local_process import free_port, port_is_free
from ls_backend.local_server import LocalLabelStudio

PASSWORD = "hardest-first"  # noqa: S105 - of a server on this machine's loopback, printed for the user
Tell = Callable[[str], None]


class Stage:
    """Starts in ``with``, stops all it started at the end; ``folder/demo.json`` remembers ports and project."""

    def __init__(self, folder: Path, images: Path, settings: Mapping[str, str], tell: Tell) -> None:
        """Nothing starts yet.

        Args:
            folder: All state of the demo.
            images: What the project labels.
            settings: Environment of hardfirst besides addresses and token.
            tell: Called with one sentence at a time.
        """
        self.folder = folder.resolve()
        self.images = images.resolve()
        self._settings = dict(settings)
        self._tell = tell
        self._file = self.folder / "demo.json"
        self.memory: dict[str, Any] = json.loads(self._file.read_text()) if self._file.exists() else {}
        self.server = LocalLabelStudio(
            self.folder / "label-studio",
            port=self._port("label_studio_port", 8080),
            document_root=self.images.parent,
            username="demo@example.com",
            password=PASSWORD,
            progress=tell,
        )
        self._service: subprocess.Popen[bytes] | None = None

    def _port(self, name: str, preferred: int) -> int:
        if name not in self.memory or not port_is_free(self.memory[name]):
            self.remember(**{name: free_port(preferred)})
        return int(self.memory[name])

    def remember(self, **values: Any) -> None:
        """Keep values for the next run, atomically."""
        self.memory |= values
        self.folder.mkdir(parents=True, exist_ok=True)
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps(self.memory, indent=2))
        fresh.replace(self._file)

    @property
    def home(self) -> Path:
        """HARDFIRST_HOME of the demo."""
        return self.folder / "hardfirst"

    @property
    def url(self) -> str:
        """Where hardfirst answers."""
        return f"http://127.0.0.1:{self.memory['hardfirst_port']}"

    @property
    def key(self) -> str:
        """The project's key."""
        return f"label-studio:{self.memory['project']}"

    def environment(self) -> dict[str, str]:
        """The environment hardfirst runs in."""
        addresses = {
            "LABEL_STUDIO_URL": self.server.url,
            "LABEL_STUDIO_API_KEY": self.server.token,
            "HARDFIRST_HOME": str(self.home),
            "HARDFIRST_PORT": str(self.memory["hardfirst_port"]),
            "HARDFIRST_URL": self.url,
        }
        return {**os.environ, **self._settings, **addresses}

    def __enter__(self) -> Self:
        """Start Label Studio, then hardfirst."""
        self.server.start()
        self._port("hardfirst_port", 9090)
        try:
            self._start_service()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop both."""
        self._stop()

    def _start_service(self) -> None:
        log = (self.folder / "hardfirst.log").open("ab")
        self._service = subprocess.Popen(
            [sys.executable, "-m", "common.cli", "serve", "--parent", str(os.getpid())],
            env=self.environment(),
            stdout=log,
            stderr=log,
        )
        log.close()
        self.wait(lambda: self._healthy(), "hardfirst to answer", 120)

    def _healthy(self) -> bool:
        if self._service is not None and self._service.poll() is not None:
            tail = (self.folder / "hardfirst.log").read_text(errors="replace").strip().splitlines()[-5:]
            raise HardfirstError("hardfirst did not start: " + " / ".join(tail))
        try:
            return httpx.get(f"{self.url}/health", timeout=5, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def _stop(self) -> None:
        if self._service is not None:
            self._service.terminate()
            try:
                self._service.wait(30)
            except subprocess.TimeoutExpired:
                self._service.kill()
        self.server.stop()

    def wait(self, done: Callable[[], bool], what: str, limit_s: float) -> None:
        """Until ``done`` says yes. Raises PlatformUnreachableError after ``limit_s``."""
        deadline = time.monotonic() + limit_s
        while not done():
            if time.monotonic() > deadline:
                log = self.folder / "hardfirst.log"
                raise PlatformUnreachableError(f"waited {limit_s:.0f} s for {what}; what went wrong is in {log}")
            time.sleep(0.5)

    def run(self, *arguments: str) -> str:
        """A `hardfirst` command in the demo's environment; returns what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "common.cli", *arguments],
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise HardfirstError((done.stderr or done.stdout).strip().removeprefix("Error: "))
        return done.stdout

    def project(self, title: str, config: str, files: list[Path]) -> int:
        """The demo's project with these images; made once."""
        with self.server.client() as http:
            if "project" not in self.memory:
                made = http.post("/api/projects", json={"title": title, "label_config": config})
                self.remember(project=int(made.raise_for_status().json()["id"]))
            project = int(self.memory["project"])
            if not self.memory.get("imported"):
                prefix = self.server.serve_folder(project, self.images)
                tasks = [{"image": prefix + f.resolve().relative_to(self.images).as_posix()} for f in files]
                http.post(f"/api/projects/{project}/import", json=tasks).raise_for_status()
                self.remember(imported=len(tasks))
        return project

    def queue(self, limit: int = 0) -> dict[str, Any]:
        """What GET /api/queue says."""
        asked = {"project": self.key, "limit": str(limit)}
        found = httpx.get(f"{self.url}/api/queue", params=asked, timeout=30, trust_env=False)
        return dict(found.raise_for_status().json()) if found.status_code == 200 else {"version": "", "total": 0}

    def status(self) -> dict[str, Any]:
        """What `hardfirst status` says of the project."""
        return dict(json.loads(self.run("status", "--json", "--project", self.key))[0])
