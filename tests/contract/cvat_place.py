"""One small stand-in CVAT with people, a project and a task, and short ways to ask it; its fixtures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.contract.cvat_story import picture
from tests.cvat_server.courier import Courier
from tests.cvat_server.faults import Faults
from tests.cvat_server.people import Annotator, Manager
from tests.cvat_server.receiver import Receiver
from tests.cvat_server.server import FakeCvat

BOX = [10.0, 10.0, 60.0, 60.0]
IMAGES = [(f"{number}.jpg", picture()) for number in range(6)]


class Place:
    """A served CVAT with a manager, two workers, one project and one task: frames 0 to 5 in jobs of two."""

    def __init__(self, cvat: FakeCvat) -> None:
        self.cvat, self.world = cvat, cvat.world
        self.manager, self.ann, self.bob = (cvat.add_user(name) for name in ("manager", "ann", "bob"))
        lab = cvat.add_organization("lab", self.manager)
        for worker in (self.ann, self.bob):
            cvat.add_member(lab, worker, "worker")
        self.project = cvat.add_project("cars", ["car", "van"], owner=self.manager, org=lab)
        self.task = cvat.add_task(self.project, "pool", IMAGES, segment_size=2)
        self.jobs = cvat.jobs(self.task)
        self.car, self.van = (label.id for label in self.world.labels_of(self.project))
        self.token = cvat.add_token(self.manager)
        headers = {"Authorization": f"Bearer {self.token}", "X-Organization": "lab"}
        self.http = httpx.Client(base_url=cvat.url, headers=headers, trust_env=False)

    @property
    def courier(self) -> Courier:
        return self.cvat.courier

    @property
    def faults(self) -> Faults:
        return self.cvat.faults

    def box(self, frame: int = 0, **more: Any) -> dict[str, Any]:
        return {"type": "rectangle", "label_id": self.car, "frame": frame, "points": BOX, **more}

    def patch(self, action: str, *shapes: dict[str, Any], of: str | None = None) -> httpx.Response:
        path = f"/api/{of or f'tasks/{self.task.id}'}/annotations/"
        return self.http.patch(path, params={"action": action}, json={"shapes": list(shapes)})

    def create(self, *shapes: dict[str, Any], of: str | None = None) -> list[dict[str, Any]]:
        answer = self.patch("create", *shapes, of=of)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["shapes"]
        return found

    def shapes(self, of: str | None = None) -> list[dict[str, Any]]:
        path = f"/api/{of or f'tasks/{self.task.id}'}/annotations"
        found: list[dict[str, Any]] = self.http.get(path).raise_for_status().json()["shapes"]
        return found

    def of(self, number: int) -> str:
        return f"jobs/{self.jobs[number].id}"

    def hook(self, target: str, *events: str, **more: Any) -> int:
        body = {"target_url": target, "type": "project", "project_id": self.project.id, "events": events, **more}
        number: int = self.http.post("/api/webhooks", json=body).raise_for_status().json()["id"]
        return number

    def deliveries(self, hook: int) -> list[dict[str, Any]]:
        answer = self.http.get(f"/api/webhooks/{hook}/deliveries", params={"page_size": 100})
        found: list[dict[str, Any]] = answer.raise_for_status().json()["results"]
        return found

    def set_state(self, state: str) -> None:
        self.http.patch(f"/api/{self.of(0)}", json={"state": state}).raise_for_status()


@pytest.fixture(name="place")
def place_fixture() -> Iterator[Place]:
    with FakeCvat() as cvat:
        made = Place(cvat)
        yield made
        made.http.close()
        assert made.world.crashes == []


@pytest.fixture(name="receiver")
def receiver_fixture() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


@pytest.fixture(name="ann")
def ann_fixture(place: Place) -> Iterator[Annotator]:
    with Annotator(place.cvat.url, "ann", "pass", "lab") as made:
        yield made


@pytest.fixture(name="manager")
def manager_fixture(place: Place) -> Iterator[Manager]:
    with Manager(place.cvat.url, "manager", "pass", "lab") as made:
        yield made
