"""The application as CVAT meets it, and events to post to it."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from common.domain import Event
from common.loop import ActiveLearningLoop
from common.store.projects import ProjectRow
from common.web.app import create_app
from common.web.backend import Backend
from cvat_adapter import PLATFORM
from cvat_adapter.app import IMPORT_S, SAVED_S, SIGNATURE
from tests.fakes import FakePlatform, World, make_world

KEY = "cvat:4"
SECRET = "contract-test-secret"
"""What the recorded events are signed with."""
US, ANNOTATOR = 2, 3
CONFIGURED = {"webhook_secret": (SECRET,), "cvat_url": "http://cvat.example:8080/"}
LABELS, SAMPLES = Event("cvat", "4", "labels"), Event("cvat", "4", "samples")
NOW, SAVED, IMPORT = 0.0, SAVED_S, IMPORT_S


class Remembering(Backend):
    """Knows which hints it took, also those that wait."""

    taken: list[tuple[Event, float]]

    def record(self, event: Event, delay_s: float = 0.0) -> None:
        super().record(event, delay_s)
        self.taken.append((event, delay_s))


class Cvat(FakePlatform):
    """Links as CVAT's."""

    def link(self, sample: str) -> str:
        task, _, frame = sample.partition(":")
        return f"http://cvat.example:8080/tasks/{task}/jobs/9?frame={frame}"


class Service:
    """The application over a store with one connected project of CVAT, '4'."""

    def __init__(self, folder: Path, **values: Any) -> None:
        self.world: World = make_world(folder, **{**CONFIGURED, **values})
        self.platform = Cvat(tasks=dict(self.world.platform.tasks))
        tools = self.world.tools
        tools.open = lambda _row: self.platform
        self.store = tools.store
        self.store.forget("fake:1")
        self.store.projects.ask("cvat", "4")
        self.backend = Remembering(tools, lambda _model, paths, _imgsz: ["no model"] * len(paths))
        self.backend.taken = []
        self.flask = create_app(self.backend, [PLATFORM])
        self.client: FlaskClient = self.flask.test_client()

    def connected(self, **state: Any) -> None:
        self.store.projects.update(KEY, state="active", platform_state=state)

    def settle(self) -> None:
        loop = ActiveLearningLoop(self.world.tools)
        for _ in range(60):
            if not loop.step(KEY):
                return
        pytest.fail("the loop never came to rest")

    def hints(self, project: str = "4") -> list[Event]:
        return [h.event for h in self.store.inbox.pending("cvat", project)]

    def row(self) -> ProjectRow:
        found = self.store.projects.get(KEY)
        assert found is not None
        return found

    def post(self, body: Any, path: str = "/webhooks", secret: str = SECRET) -> TestResponse:
        """``body`` as CVAT posts it: bytes as they are, anything else as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.client.post(path, data=data, headers=sign(data, secret), content_type="application/json")

    def taken(self, *bodies: Any) -> list[tuple[Event, float]]:
        """The hints that these events left."""
        self.backend.taken = []
        assert [self.post(b).status_code for b in bodies] == [200] * len(bodies)
        return self.backend.taken


def sign(data: bytes, secret: str = SECRET) -> dict[str, str]:
    return {SIGNATURE: "sha256=" + hmac.new(secret.encode(), data, hashlib.sha256).hexdigest()}


@pytest.fixture(name="service")
def service_fixture(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    made.store.close()


def job_event(changes: Mapping[str, Any] | None, *, state: str = "new", sender: int = ANNOTATOR, **more: Any) -> Any:
    job = {"id": 10, "task_id": 4, "project_id": 4, "type": "annotation", "state": state, "stage": "annotation"}
    said = {} if changes is None else {"changes": {"updated_date": {"from": "a", "to": "b"}, **changes}}
    return {"event": "update:job", "webhook_id": 2, "job": job | more, "sender": {"id": sender}, **said}


COMPLETED = job_event({"state": {"from": "in progress", "to": "completed"}}, state="completed")
