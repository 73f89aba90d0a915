"""A CVAT project, hardfirst beside it, people at work: adapter, loop, store, web application and library are real."""

from __future__ import annotations

import io
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from PIL import Image
from pydantic import SecretStr
from werkzeug.serving import make_server

from common import compose, connection
from common.config import Settings
from common.loop import ActiveLearningLoop, Tools
from common.store import open_store
from common.web.app import create_app
from common.web.backend import Backend
from cvat_adapter import PLATFORM
from tests.cvat_server.announcements import courier_of
from tests.cvat_server.people import Annotator, Manager
from tests.cvat_server.server import FakeCvat
from tests.cvat_server.world import Job, Task
from tests.fakes import FakeModels, FakeTrainer

SIZE = (64, 48)
BOX = [8.0, 8.0, 40.0, 32.0]
"""What annotators draw, xyxy pixels."""


def photo(seed: int) -> bytes:
    """An image that is like no other seed's."""
    rng = np.random.default_rng(seed)
    coarse = np.clip(rng.integers(20, 235) + rng.integers(-60, 60, (6, 8, 3)), 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC).save(out, "PNG")
    return out.getvalue()


class Life:
    """Use it in ``with``. What the clock of the loop shows is ``clock[0]``; a step takes no time there."""

    def __init__(self, folder: Path, *, tasks: int = 4, images: int = 50, job: int = 5, **settings: Any) -> None:
        self.cvat = FakeCvat()
        self.folder = folder
        self._plan = (tasks, images, job)
        self._more = settings
        self.people: dict[str, Annotator] = {}

    def __enter__(self) -> Self:
        self.cvat.__enter__()
        world = self.cvat
        owner = world.add_user("plugin")
        self.organization = world.add_organization("allab", owner)
        self.project = world.add_project("al-demo", ["cat", "dog"], org=self.organization, owner=owner)
        self.label = {label.name: label.id for label in world.world.labels_of(self.project)}
        for name in ("anna", "ben"):
            world.add_member(self.organization, world.add_user(name), "worker")
        tasks, images, job = self._plan
        self.tasks = [self.add_task(f"pool {t}", range(t * images, (t + 1) * images), job) for t in range(tasks)]
        self._serve(world.add_token(owner))
        return self

    def _serve(self, token: str) -> None:
        self._http = make_server("127.0.0.1", 0, lambda environ, start: self._app(environ, start), threaded=True)
        values = {"home": self.folder / "home", "min_new_labels": 10, "pause_s": 0, "validation_share": 0.3}
        access = {"cvat_url": self.cvat.url, "cvat_access_token": SecretStr(token)}
        self.settings = Settings(
            **{**values, **access, "url": f"http://127.0.0.1:{self._http.server_port}", **self._more}, _env_file=None
        )
        self.settings.folder.mkdir(parents=True, exist_ok=True)
        store = open_store(self.settings.database, self.settings.folder)
        self.clock = [1_800_000_000.0]
        self.models, self.trainer = FakeModels(("cat",)), FakeTrainer()
        self.tools = Tools(
            store=store,
            settings=self.settings,
            media=compose.media(self.settings),
            models=self.models,
            trainer=self.trainer,
            open=lambda row: compose.open_platform(self.settings, store, row),
            clock=lambda: self.clock[0],
        )
        self._app = create_app(Backend(self.tools, lambda *_: []), [PLATFORM])
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.loop = ActiveLearningLoop(self.tools)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
        for person in self.people.values():
            person.close()
        for port in self.loop._platforms.values():
            port.close()  # type: ignore[attr-defined]
        self.tools.media.close()
        self.tools.store.close()
        self.cvat.__exit__(kind, error, trace)

    @property
    def key(self) -> str:
        """As commands name the project."""
        return f"cvat:{self.project.id}"

    @property
    def http(self) -> Any:
        """A client of our own service."""
        return self._app.test_client()

    def add_task(self, name: str, seeds: range, job: int) -> Task:
        return self.cvat.add_task(
            self.project, name, [(f"{seed:04}.png", photo(seed)) for seed in seeds], segment_size=job
        )

    def connect(self, **options: Any) -> tuple[list[str], list[str]]:
        """`hardfirst connect cvat`; (changes, warnings)."""
        changes, warnings = connection.connect_project(
            self.settings, "cvat", str(self.project.id), dry_run=False, replace=False, options=options
        )
        return [str(c) for c in changes], warnings

    def settle(self, steps: int = 300, until: Callable[[], bool] | None = None) -> None:
        """Webhooks arrive and the loop works, until nothing moves twice in a row."""
        quiet = 0
        for _ in range(steps):
            courier_of(self.cvat.world).settle(10)
            quiet = 0 if self.loop.step(self.key) else quiet + 1
            if until() if until else quiet == 2:
                return
        raise AssertionError(f"the loop never came to rest: {self.journal()[-5:]}")

    def journal(self) -> list[str]:
        return [entry.text for entry in self.tools.store.journal.newest(self.key, 50)]

    def person(self, name: str) -> Annotator:
        """Somebody at work, logged in once."""
        if name not in self.people:
            kind = Manager if name == "plugin" else Annotator
            self.people[name] = kind(self.cvat.url, name, "pass", "allab")
        return self.people[name]

    def inbox(self, name: str) -> list[Job]:
        """A person's open jobs, by id."""
        mine = self.person(name).id
        open_ = [j for j in self.cvat.world.jobs.values() if j.assignee_id == mine and j.state != "completed"]
        return sorted(open_, key=lambda j: j.id)

    def finish(self, name: str, job: Job) -> None:
        """The person draws one cat on each frame of the job and finishes it."""
        boxes = [(frame, self.label["cat"], BOX) for frame in job.frame_numbers]
        self.person(name).annotate(job.id, boxes)

    def values(self) -> dict[int, float]:
        """Job id -> what it is worth by the stored order, reckoned here: its best frame, 1 = first."""
        row = self.tools.store.projects.get(self.key)
        assert row is not None
        assert row.publication is not None
        places = self.tools.store.publications.places(row.publication, 0, 100_000)
        place = {p.sample: p.place for p in places}
        answered = {s.external for s in self.tools.store.samples.all(self.key) if s.answers}
        found: dict[int, float] = {}
        for job in self.cvat.world.jobs.values():
            frames = [f"{job.task_id}:{frame}" for frame in job.frame_numbers]
            worth = [1 - place[f] for f in frames if f in place and f not in answered]
            if worth:
                found[job.id] = max(worth)
        return found

    def sources(self) -> Counter[str]:
        """How many shapes of each source there are in the project."""
        return Counter(shape["source"] for job in self.cvat.world.jobs.values() for shape in job.shapes)
