"""A CVAT project, hardfirst beside it, people at work: adapter, loop, store, web application and library are real."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pytest
from PIL import Image
from pydantic import SecretStr
from werkzeug.serving import make_server

from common import compose, connection
from common.config import Settings
from common.domain import Instances, Prediction
from common.loop import ActiveLearningLoop, Tools, lookalikes
from common.ports import Model
from common.store import Store, open_store
from common.store.projects import ProjectRow
from common.web.app import create_app
from common.web.backend import Backend
from cvat_adapter import PLATFORM
from cvat_adapter.client import open_api
from cvat_adapter.project import CvatPlatform
from cvat_adapter.queue_plan import sample_of
from tests.cvat_server.announcements import courier_of
from tests.cvat_server.people import Annotator, Manager
from tests.cvat_server.server import FakeCvat
from tests.cvat_server.world import Job, Task
from tests.fakes import FakeDetector, FakeModels, FakeTrainer

SIZE = (64, 48)
BOX = [8.0, 8.0, 40.0, 32.0]
"""What annotators draw, xyxy pixels."""
CREATE, ASSIGN = r"/api/jobs/\d+/annotations/$", r"/api/jobs/\d+$"
"""Paths of our two kinds of writes; the method is PATCH."""


@pytest.fixture(name="near_duplicates", autouse=True)
def near_duplicates_fixture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring how near they are takes longer than everything else here, and is tested elsewhere."""
    monkeypatch.setattr(lookalikes, "calibrate", lambda *_: 1.0)


@cache
def photo(seed: int) -> bytes:
    """An image that is like no other seed's."""
    rng = np.random.default_rng(seed)
    coarse = np.clip(rng.integers(20, 235) + rng.integers(-60, 60, (6, 8, 3)), 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC).save(out, "PNG")
    return out.getvalue()


@dataclass
class Shifted(FakeDetector):
    """Its one box begins ``shift`` pixels further to the right, and it is less sure of what is bright."""

    shift: int = 0

    def predict(self, paths: Sequence[Path]) -> list[Prediction | str]:
        return [replace(p, instances=self._moved(p.instances)) for p in super().predict(paths)]

    def _moved(self, seen: Instances) -> Instances:
        scores = seen.scores * np.float32(0.6) + np.float32(0.03) if self.shift else seen.scores
        return Instances(seen.boxes + np.array([[self.shift, 0, 0, 0]], np.float32), scores)


class LearningModels(FakeModels):
    """Each round's model draws its box a little elsewhere, so that pre-annotations change and orders, too."""

    def detector(self, model: Model, *views: Any, **more: Any) -> FakeDetector:
        super().detector(model, *views, **more)
        return Shifted(model.names, self.seen, shift=int(model.sha256[0]))


class Life:
    """Use it in ``with``. All of it, CVAT too, lives by ``clock[0]``, which only ``settle`` and ``later`` move."""

    def __init__(self, folder: Path, *, tasks: int = 4, images: int = 50, job: int = 5, **settings: Any) -> None:
        self.cvat = FakeCvat()
        self.folder = folder
        self._plan = (tasks, images, job)
        self._more = settings
        self.people: dict[str, Annotator] = {}

    def __enter__(self) -> Self:
        self.clock = [time.time() + 60]
        self.cvat.world.clock = lambda: datetime.fromtimestamp(self.clock[0], UTC)
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
        self.token = world.add_token(owner)
        self._serve(self.token)
        return self

    def _serve(self, token: str) -> None:
        self._http = make_server("127.0.0.1", 0, lambda environ, start: self._app(environ, start), threaded=True)
        values = {"home": self.folder / "home", "min_new_labels": 10, "pause_s": 0, "validation_share": 0.3}
        values["model_score_threshold"] = 0.05  # a dark image has a box, too
        access = {"cvat_url": self.cvat.url, "cvat_access_token": SecretStr(token)}
        self.settings = Settings(
            **{**values, **access, "url": f"http://127.0.0.1:{self._http.server_port}", **self._more}, _env_file=None
        )
        self.settings.folder.mkdir(parents=True, exist_ok=True)
        self.models, self.trainer = LearningModels(("cat",)), FakeTrainer()
        self.tools = self.worker()
        self._app = create_app(Backend(self.tools, lambda *_: []), [PLATFORM])
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.loop = ActiveLearningLoop(self.tools)

    def worker(self) -> Tools:
        """What one worker process works with; a second one shares the database and the folder."""
        store = open_store(self.settings.database, self.settings.folder)
        return Tools(
            store=store,
            settings=self.settings,
            media=compose.media(self.settings),
            models=self.models,
            trainer=self.trainer,
            open=lambda row: self._open(store, row),
            clock=lambda: self.clock[0],
        )

    def _open(self, store: Store, row: ProjectRow) -> CvatPlatform:
        """As ``compose.open_platform`` does it, by our clock."""
        memory = store.memories.of(row.key)

        def save(state: dict[str, Any]) -> None:
            store.projects.update(row.key, platform_state=state)

        now, state = lambda: self.clock[0], dict(row.platform_state)
        return CvatPlatform(row.external, open_api(self.settings), self.settings, state, save, memory, clock=now)

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

    def leave(self, *, keep: bool = False) -> None:
        """`hardfirst disconnect cvat`, perhaps with --keep-predictions."""
        number = str(self.project.id)
        connection.disconnect_project(self.settings, "cvat", number, keep_predictions=keep, progress=lambda _: None)

    def later(self, seconds: float) -> None:
        """Time passes; nobody does anything."""
        self.clock[0] += seconds

    def settle(self, steps: int = 300, until: Callable[[], bool] | None = None) -> None:
        """Webhooks arrive and the loop works, until nothing moves twice in a row; a step takes a second, a rest six."""
        quiet = 0
        for _ in range(steps):
            courier_of(self.cvat.world).settle(10)
            moved = self.loop.step(self.key)
            quiet = 0 if moved else quiet + 1
            if until() if until else quiet == 2:
                return
            self.later(1 if moved else 6)
        raise AssertionError(f"the loop never came to rest: {self.journal()[-5:]}")

    def compare(self) -> None:
        """The next comparison is due, and everything that follows from it is done."""
        self.later(10 * self.settings.reconcile_s)
        self.settle()

    def journal(self) -> list[str]:
        return [entry.text for entry in self.tools.store.journal.newest(self.key, 50)]

    def person(self, name: str) -> Any:
        """Somebody at work, logged in once."""
        if name not in self.people:
            kind = Manager if name == "plugin" else Annotator
            self.people[name] = kind(self.cvat.url, name, "pass", "allab")
        return self.people[name]

    @property
    def manager(self) -> Manager:
        """The owner of the organisation, in whose name hardfirst works too."""
        found: Manager = self.person("plugin")
        return found

    @property
    def row(self) -> ProjectRow:
        """The project in the store."""
        found = self.tools.store.projects.get(self.key)
        assert found is not None
        return found

    @property
    def jobs(self) -> list[Job]:
        """Every annotation job, those of queue tasks too, by id."""
        return [job for _, job in sorted(self.cvat.world.jobs.items()) if job.type == "annotation"]

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
        place = self.places()
        answered = {s.external for s in self.tools.store.samples.all(self.key) if s.answers}
        found: dict[int, float] = {}
        for job in self.cvat.world.jobs.values():
            frames = [f"{job.task_id}:{frame}" for frame in job.frame_numbers]
            worth = [1 - place[f] for f in frames if f in place and f not in answered]
            if worth:
                found[job.id] = max(worth)
        return found

    def places(self) -> dict[str, float]:
        """Sample -> place in the order that serves, 0 = first."""
        assert self.row.publication is not None
        return {p.sample: p.place for p in self.tools.store.publications.places(self.row.publication, 0, 100_000)}

    def sources(self) -> Counter[str]:
        """How many shapes of each source there are in the project."""
        return Counter(shape["source"] for job in self.cvat.world.jobs.values() for shape in job.shapes)

    # --- what must hold whatever happened ----------------------------------------------------------------

    def free(self) -> list[Job]:
        """Jobs that nobody has or had, by id."""
        return [j for j in self.jobs if j.assignee_id is None and j.state == "new"]

    def rounds(self) -> list[int]:
        """Their numbers."""
        return [r.number for r in self.tools.store.rounds.all(self.key)]

    def checksum(self, jobs: Iterable[Job] | None = None) -> str:
        """Of every shape that a person made or changed, as it is in CVAT, ids included."""
        found = [
            (job.id, shape)
            for job in (self.jobs if jobs is None else jobs)
            for shape in job.shapes
            if shape["source"] != "auto"
        ]
        text = json.dumps(sorted(found, key=lambda one: one[1]["id"]), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def drawn(self, job: Job) -> list[Any]:
        """(frame, points) of what people drew in a job."""
        return [(s["frame"], s["points"]) for s in job.shapes if s["source"] == "manual"]

    def doubles(self) -> list[tuple[int, int]]:
        """(job, frame) wherever there is more than one box of ours: the model sees one on each image."""
        found = Counter((j.id, s["frame"]) for j in self.jobs for s in j.shapes if s["source"] == "auto")
        return [place for place, count in found.items() if count > 1]

    def truth(self) -> dict[str, list[Any]]:
        """Sample -> the boxes in every completed job that shows it, as CVAT has them: (label, x1, y1, x2, y2)."""
        names = {label.id: label.name for label in self.cvat.world.labels.values()}
        found: dict[str, list[Any]] = {}
        for job in (j for j in self.jobs if j.state == "completed"):
            task = self.cvat.world.tasks[job.task_id]
            for frame in (n for n in job.frame_numbers if n not in task.deleted_frames):
                name, mine = task.frames[frame].name, task.project_id == self.project.id
                home = f"{task.id}:{frame}" if mine else sample_of(name)
                boxes = [(names[s["label_id"]], *map(round, s["points"])) for s in job.shapes if s["frame"] == frame]
                found.setdefault(str(home), []).append(sorted(boxes))
        return found

    def told(self) -> dict[str, list[Any]]:
        """The same as the store knows it."""
        scale = (*SIZE, *SIZE)
        found: dict[str, list[Any]] = {}
        for sample, answers in self.tools.store.labels.at(self.key).items():
            for answer in answers:
                boxes = [(b.name, *(round(v * s) for v, s in zip(b.xyxy, scale, strict=True))) for b in answer.boxes]
                found.setdefault(sample, []).append(sorted(boxes))
        return found

    def check(self) -> None:
        """CVAT and the store say the same, nothing of ours is doubled, and the stand-in had no error of its own."""
        assert self.cvat.world.crashes == []
        assert self.doubles() == []
        assert self.told() == self.truth()


@contextmanager
def begun(folder: Path, **wanted: Any) -> Iterator[Life]:
    """A project of 12 images in 6 jobs, connected; all that follows is to come."""
    with Life(folder, **{"tasks": 1, "images": 12, "job": 2, "validation_share": 0, **wanted}) as life:
        life.connect()
        yield life
        life.check()


@contextmanager
def at_rest(folder: Path, **wanted: Any) -> Iterator[Life]:
    """The same in order, pre-annotated and handed out."""
    with begun(folder, **wanted) as life:
        life.settle()
        yield life
