"""A project in the stand-in CVAT whose images are handed out in queue tasks, and its two annotators."""

from __future__ import annotations

import copy
import io
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import SecretStr

from common.config import Settings
from common.domain import QueueItem, ShownBox
from common.store import open_store
from cvat_adapter import wire
from cvat_adapter.client import open_api
from cvat_adapter.inbox import Inbox
from cvat_adapter.ledger import Ledger
from cvat_adapter.nouns import sample_id
from cvat_adapter.preannotations import Preannotations
from cvat_adapter.queue_plan import sample_of
from cvat_adapter.queue_task import QueueTasks
from cvat_adapter.reading import Reader
from tests.cvat_server import world as stored
from tests.cvat_server.people import Annotator, Manager
from tests.cvat_server.server import FakeCvat

FIRST, SECOND = "hardfirst@1.1-abcd", "hardfirst@1.2-ef01"
BOX = [10.0, 8.0, 40.0, 30.0]
TAIL = {"name": "tail", "mutable": False, "input_type": "select", "values": ["no", "yes"], "default_value": "no"}
LABELS: list[Any] = [{"name": "cat", "type": "rectangle", "color": "#112233", "attributes": [TAIL]}, "dog"]


@cache
def photo(seed: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 48), (seed % 256, 37 * seed % 256, 11)).save(out, "PNG")
    return out.getvalue()


class Desk:
    """A project of two tasks with jobs of 35 frames, two annotators, and the queue tasks with all they work with."""

    def __init__(self, cvat: FakeCvat, folder: Path, images: int = 70) -> None:
        self.cvat, self.folder, self.world = cvat, folder, cvat.world
        owner = cvat.add_user("plugin")
        lab = cvat.add_organization("lab", owner)
        for name in ("anna", "ben"):
            cvat.add_member(lab, cvat.add_user(name), "worker")
        self.project = cvat.add_project("Birds", LABELS, owner=owner, org=lab)
        photos = [(f"night/{i:03}.png", photo(i)) for i in range(2 * images)]
        halves = (photos[:images], photos[images:])
        self.sources = [
            cvat.add_task(self.project, f"pool {n}", half, segment_size=35) for n, half in enumerate(halves)
        ]
        self.settings = Settings(
            home=folder / "home",
            cvat_url=cvat.url,
            cvat_access_token=SecretStr(cvat.add_token(owner)),
            url="http://127.0.0.1:9",
            _env_file=None,
        )
        self.settings.folder.mkdir(parents=True, exist_ok=True)
        self.store = open_store(self.settings.database, self.settings.folder)
        self.memory = self.store.memories.of(f"cvat:{self.project.id}")
        self.saved: dict[str, Any] = {}
        self.clock = [1_900_000_000.0]
        self.api = open_api(self.settings)
        self.api.organization = "lab"
        self.people: dict[str, Annotator | Manager] = {}
        self.orders = {FIRST: self.shuffled(1), SECOND: self.shuffled(2)}
        self.version = FIRST
        self.start()

    def shuffled(self, seed: int) -> dict[str, dict[str, float]]:
        """Every frame of the source at a place of its own."""
        samples = [sample_id(t.id, n) for t in self.sources for n in range(t.size)]
        shuffled = np.random.default_rng(seed).permutation(samples).tolist()
        return {s: {"order": i / len(samples)} for i, s in enumerate(shuffled)}

    def best(self, count: int, *, out: set[str] = frozenset()) -> list[str]:  # type: ignore[assignment]
        places = self.orders[self.version]
        return sorted((s for s in places if s not in out), key=lambda s: places[s]["order"])[:count]

    def start(self) -> None:
        """A new process: what it knows is on the disk."""
        self.state = copy.deepcopy(self.saved)
        self.state["active"] = self.version
        project = str(self.project.id)

        def save(state: dict[str, Any]) -> None:
            self.saved = copy.deepcopy(state)

        def clock() -> float:
            return self.clock[0]

        self.reader = Reader(self.api, project, self.settings, self.memory, self.state)
        self.queue = QueueTasks(
            project, self.api, self.reader, self.memory, self.settings, self.state, save, clock=clock
        )
        self.pre = Preannotations(self.api, Ledger(self.memory), self.reader.deleted)
        self.inbox = Inbox(self.api, self.memory, self.settings, self.state, self.pre.untouched, clock=clock)

    def close(self) -> None:
        for person in self.people.values():
            person.close()
        self.api.close()
        self.store.close()

    def person(self, name: str) -> Any:
        if name not in self.people:
            kind = Manager if name == "plugin" else Annotator
            self.people[name] = kind(self.cvat.url, name, "pass", "lab")
        return self.people[name]

    # --- what the keeper does ----------------------------------------------------------------------------

    def step(self) -> bool:
        return self.queue.step(self.version, self.orders[self.version], self.reader.jobs(), annotators=2)

    def settle(self) -> int:
        """Steps until there is nothing to do; returns how many did something."""
        for count in range(100):
            if not self.step():
                return count
        raise AssertionError("the queue tasks never come to rest")

    def hand_out(self) -> None:
        jobs = self.reader.jobs()
        self.inbox.refill([o for o in self.queue.offers(jobs) if o.job.writable], jobs)

    def preannotate(self) -> None:
        labels = self.queue.labels()
        for offer in self.queue.offers(self.reader.jobs()):
            boxes = (ShownBox("cat", (1.0, 2.0, 30.0, 40.0), 0.75),)
            wanted = {
                n: wire.shapes(QueueItem(s, 0.0, boxes, 64, 48), n, labels)
                for n, s in self.queue.wanted(offer.job).items()
            }
            self.pre.write(offer.job, wanted, self.version)

    # --- what is there -----------------------------------------------------------------------------------

    @property
    def tasks(self) -> list[stored.Task]:
        """The queue tasks, oldest first."""
        return [t for t in self.world.tasks.values() if t.project_id != self.project.id]

    def samples(self, task: stored.Task) -> list[str | None]:
        return [sample_of(f.name) for f in task.frames]

    def jobs(self, task: stored.Task) -> list[stored.Job]:
        return self.world.jobs_of(task)

    def held(self, name: str) -> list[stored.Job]:
        mine = self.person(name).id
        return [j for j in self.world.jobs.values() if j.assignee_id == mine and j.state != "completed"]

    def label(self, name: str) -> int:
        """Id of a label in the project of the queue tasks."""
        return self.queue.labels().ids[name]

    def source(self, sample: str) -> stored.Job:
        task, _, frame = sample.partition(":")
        return next(j for j in self.world.jobs.values() if j.task_id == int(task) and j.has_frame(int(frame)))

    def shapes(self, sample: str) -> list[dict[str, Any]]:
        """What is on a frame of the source."""
        frame = int(sample.partition(":")[2])
        return [s for s in self.source(sample).shapes if s["frame"] == frame]

    def assign(self, job: stored.Job, name: str) -> None:
        self.person("plugin").assign(job.id, self.person(name).id)

    def answer(self, job: stored.Job, *frames: int, name: str = "anna") -> None:
        """The person draws a dog on these frames of the job and finishes it."""
        self.assign(job, name)
        self.person(name).annotate(job.id, [(n, self.label("dog"), BOX) for n in frames])

    def writes(self, method: str | None = None, start: str = "") -> list[tuple[str, str]]:
        return [r for r in self.cvat.log.matching(method, start) if r[0] != "GET"]


@pytest.fixture(name="desk")
def desk_fixture(tmp_path: Path) -> Iterator[Desk]:
    with FakeCvat() as cvat:
        made = Desk(cvat, tmp_path)
        yield made
        made.close()
        assert made.world.crashes == []


def everywhere(desk: Desk) -> Counter[str | None]:
    """Source sample -> queue jobs where it is offered, or held, or answered."""
    offered = {o.job.id for o in desk.queue.offers(desk.reader.jobs())}
    found: Counter[str | None] = Counter()
    for task in desk.tasks:
        samples = desk.samples(task)
        for job in desk.jobs(task):
            if job.id in offered or job.assignee_id or job.state != "new":
                found.update(samples[n] for n in job.frame_numbers)
    return found
