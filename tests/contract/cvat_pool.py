"""A project of many small jobs in the stand-in CVAT, its port, and people who work: for tests of ``tend``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from common.config import Settings
from common.domain import QueueItem, ShownBox
from cvat_adapter.client import open_api
from cvat_adapter.project import CvatPlatform
from tests.contract.cvat_story import picture
from tests.cvat_server.people import Annotator, Manager
from tests.cvat_server.server import FakeCvat
from tests.cvat_server.world import Job
from tests.unit.cvat_memory import DictMemory

SIZE = (100, 100)


class Pool:
    """Organisation `lab` of `plugin`, workers `ann` and `bob`, project `cars`. Time stands still, see ``later``.

    Frame n of the first task is in job ``jobs[n // segment]``.
    """

    def __init__(self, folder: Path, frames: int = 12, segment: int = 2, **settings: Any) -> None:
        self.cvat = FakeCvat()
        self.cvat.start()
        self._stack = ExitStack()
        self._stack.callback(self.cvat.__exit__, None, None, None)
        self.now = time.time()
        self.world = self.cvat.world
        self.world.clock = lambda: datetime.fromtimestamp(self.now, UTC)
        owner = self.cvat.add_user("plugin")
        self.lab = self.cvat.add_organization("lab", owner)
        self.users = {name: self.cvat.add_user(name) for name in ("ann", "bob")}
        for user in self.users.values():
            self.cvat.add_member(self.lab, user)
        self.project = self.cvat.add_project("cars", ["car", "van"], owner=owner, org=self.lab)
        images = [(f"{n:05}.jpg", picture()) for n in range(frames)]
        self.task = self.cvat.add_task(self.project, "pool", images, segment_size=segment)
        self.settings = Settings(
            **{
                "cvat_url": self.cvat.url,
                "cvat_access_token": SecretStr(self.cvat.add_token(owner)),
                "home": folder,
                "url": "http://127.0.0.1:9",
                "webhook_secret": "s",
                **settings,
            },
            _env_file=None,
        )
        self.memory: Any = DictMemory()
        self.state: dict[str, Any] = {"organization": "lab", "options": {}}
        self.port = self.open()

    def close(self) -> None:
        self._stack.close()
        assert self.world.crashes == []

    def open(self) -> CvatPlatform:
        """A port as another process, or this one after a crash, opens it: only state and memory are shared."""
        state = dict(self.state)

        def save(now: dict[str, Any]) -> None:
            self.state = dict(now)

        api = open_api(self.settings)
        self._stack.callback(api.close)
        return CvatPlatform(str(self.project.id), api, self.settings, state, save, self.memory, clock=lambda: self.now)

    def person(self, name: str) -> Annotator:
        return self._stack.enter_context(Annotator(self.cvat.url, name, "pass", "lab"))

    def manager(self) -> Manager:
        return self._stack.enter_context(Manager(self.cvat.url, "plugin", "pass", "lab"))

    @property
    def jobs(self) -> list[Job]:
        return self.cvat.jobs(self.task)

    def later(self, seconds: float) -> None:
        self.now += seconds

    def publish(self, frames: Sequence[int], version: str = "v@0.1-aaaaaaaa", boxes: int = 1) -> None:
        """Publish and activate an order: these frames of the first task, best first."""
        self.port.publish(version, [self.item(n, place, len(frames), boxes) for place, n in enumerate(frames)])
        self.port.activate(version)

    def item(self, frame: int, place: int, places: int, boxes: int = 1) -> QueueItem:
        shown = tuple(ShownBox("car", (10.0 + b, 10.0, 40.0 + b, 40.0 + place % 50), 0.9) for b in range(boxes))
        return QueueItem(f"{self.task.id}:{frame}", (place + 1) / (places + 1), shown, *SIZE)

    def tend(self, port: CvatPlatform | None = None, *, news: bool = True, most: int = 500) -> int:
        """Tend until nothing is left to do; returns how often something was done."""
        for done in range(most):
            if not (port or self.port).tend(news=news):
                return done
            news = False
        raise AssertionError(f"still at work after {most} calls")

    def inbox(self, name: str) -> list[int]:
        """A person's open jobs, as indexes of ``jobs``."""
        mine = self.users[name].id
        return [n for n, job in enumerate(self.jobs) if job.assignee_id == mine and job.state != "completed"]

    def finish(self, name: str, index: int) -> None:
        """The person completes a job; as CVAT's page does it, without the page."""
        job = self.jobs[index]
        assert job.assignee_id == self.users[name].id
        with self.world.lock:
            job.state = "completed"
            self.world.touch(job)


@contextmanager
def pool(folder: Path, frames: int = 12, segment: int = 2, **settings: Any) -> Iterator[Pool]:
    made = Pool(folder, frames, segment, **settings)
    try:
        yield made
    finally:
        made.close()
