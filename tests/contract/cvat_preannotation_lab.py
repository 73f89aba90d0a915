"""Small jobs in the stand-in CVAT, our account and a manager: for tests of our shapes in them."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from PIL import Image

from cvat_adapter.client import Api
from cvat_adapter.ledger import Ledger, bare
from cvat_adapter.nouns import Job, moment
from cvat_adapter.preannotations import Preannotations
from tests.cvat_server.faults import faults_of
from tests.cvat_server.people import Manager
from tests.cvat_server.server import FakeCvat
from tests.unit.cvat_memory import DictMemory

Json = dict[str, Any]
SIZE = 4
"""Frames of a job."""


class Lab:
    """One project with one task of small jobs, our account, a manager, and the disk."""

    def __init__(self, cvat: FakeCvat, api: Api, manager: Manager, labels: list[int]) -> None:
        self.cvat, self.api, self.manager, self.labels = cvat, api, manager, labels
        self.disk, self.now = DictMemory(), datetime(2026, 11, 1, tzinfo=UTC)
        self.job_id = 0

    # --- us ----------------------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        return f"/api/jobs/{self.job_id}"

    def ours(self, api: Any = None, memory: DictMemory | None = None) -> Preannotations:
        """What a process that has just started has."""
        return Preannotations(api or self.api, Ledger(memory or self.disk), self.deleted, clock=lambda: self.now)

    def deleted(self, job: Job) -> set[int]:
        return self.cvat.world.tasks[job.task].deleted_frames

    def listed(self) -> Job:
        raw = self.manager.call("GET", self.path)
        who = (raw["assignee"] or {}).get("id")
        updated = moment(raw["updated_date"])
        assert updated is not None
        return Job(
            raw["id"], raw["task_id"], raw["start_frame"], raw["stop_frame"], raw["state"], raw["stage"], who, updated
        )

    def write(self, version: str, **with_: Any) -> bool:
        return self.ours(**with_).write(self.listed(), self.wanted(version), version)

    def remove(self, **with_: Any) -> bool:
        return self.ours(**with_).remove(self.listed())

    def box(self, frame: int, x: float, *, source: str = "auto", label: int = 0) -> Json:
        """10 by 10 pixels at x on a frame of the job, from 0."""
        points = [x, 0.0, x + 10, 10.0]
        body = {"type": "rectangle", "frame": self.frame(frame), "label_id": self.labels[label], "points": points}
        return {**body, "source": source, "attributes": [], **({"score": 0.7} if source == "auto" else {})}

    def frame(self, frame: int) -> int:
        return self.cvat.world.jobs[self.job_id].start_frame + frame

    def wanted(self, version: str) -> dict[int, list[Json]]:
        """v1 and v2 share a box of frame 0; frame 1 changes, frame 2 loses its boxes, frame 3 gets one."""
        told = {
            "v1": {0: [0, 20], 1: [0], 2: [0, 20]},
            "v2": {0: [0, 40], 1: [5], 3: [0]},
            "one": {1: [0]},
            "": {},
        }
        return {self.frame(f): [self.box(f, x) for x in xs] for f, xs in told[version].items()}

    # --- what is there -----------------------------------------------------------------------------------

    def stored(self) -> list[Json]:
        return list(self.cvat.world.jobs[self.job_id].shapes)

    def at(self, frame: int) -> list[Json]:
        return [s for s in self.stored() if s["frame"] == self.frame(frame)]

    def autos(self) -> Counter[Any]:
        return Counter((s["frame"] - self.frame(0), bare(s)[3]) for s in self.stored() if s["source"] == "auto")

    def expected(self, version: str) -> Counter[Any]:
        shapes = [s for some in self.wanted(version).values() for s in some]
        return Counter((s["frame"] - self.frame(0), bare(s)[3]) for s in shapes)

    def checksum(self) -> str:
        """Over everything in the job that is not the model's, ids and all."""
        job = self.cvat.world.jobs[self.job_id]
        human = [[s for s in job.shapes if s["source"] != "auto"], job.tags, job.tracks]
        return hashlib.sha256(json.dumps(human, sort_keys=True).encode()).hexdigest()

    def patches(self) -> list[str]:
        """Actions of the writes of shapes since the log was cleared."""
        found = [path.partition("action=")[2] for _, path in self.cvat.log.matching("PATCH", self.path)]
        return [action for action in found if action]

    # --- people ------------------------------------------------------------------------------------------

    def person(self, action: str, *shapes: Json) -> list[Json]:
        """What a script or an open tab of a manager sends; the job stays new and unassigned."""
        body = {"version": 0, "tags": [], "shapes": list(shapes), "tracks": []}
        made: list[Json] = self.manager.call("PATCH", f"{self.path}/annotations", params={"action": action}, json=body)[
            "shapes"
        ]
        return made

    def draw(self, frame: int, x: float = 70) -> Json:
        return self.person("create", self.box(frame, x, source="manual"))[0]

    def moved(self, shape: Json) -> Json:
        x = shape["points"][0] + 1.5
        return {**shape, "points": [x, 1.0, x + 11, 12.0], "source": "semi-auto"}


def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (120, 40)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(name="shop", scope="module")
def shop_fixture() -> Iterator[tuple[FakeCvat, Api, Manager, Any]]:
    with FakeCvat() as cvat:
        boss, chief = cvat.add_user("boss"), cvat.add_user("chief")
        org = cvat.add_organization("lab", boss)
        cvat.add_member(org, chief, "maintainer")
        labels = [
            {"name": "car", "type": "rectangle", "attributes": [_attribute("occluded by", ["nothing", "tree"])]},
            {"name": "tree", "type": "rectangle"},
        ]
        project = cvat.add_project("demo", labels, owner=boss, org=org)
        api = Api(cvat.url, token=cvat.add_token(boss))
        api.organization = "lab"
        with Manager(cvat.url, "chief", "pass", "lab") as manager:
            yield cvat, api, manager, project
        api.close()
        assert cvat.world.crashes == []


def _attribute(name: str, values: list[str]) -> Json:
    return {"name": name, "mutable": False, "input_type": "select", "values": values, "default_value": values[0]}


@pytest.fixture(name="fresh")
def fresh_fixture(shop: tuple[FakeCvat, Api, Manager, Any]) -> Iterator[Callable[[], Lab]]:
    """A new job whose frames do not begin with 0, as often as wanted."""
    cvat, api, manager, project = shop
    labels = sorted(label.id for label in cvat.world.labels_of(project))

    def make() -> Lab:
        images = [(f"{n}.png", picture()) for n in range(2 * SIZE)]
        lab = Lab(cvat, api, manager, labels)
        lab.job_id = cvat.jobs(cvat.add_task(project, "pool", images, segment_size=SIZE))[1].id
        cvat.log.clear()
        return lab

    yield make
    faults_of(cvat.world).clear()


@pytest.fixture(name="lab")
def lab_fixture(fresh: Callable[[], Lab]) -> Lab:
    return fresh()
