"""The application as Label Studio meets it, and the recorded requests to send to it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from common.config import SECRET_HEADER
from common.domain import Event, Prediction
from common.loop import ActiveLearningLoop
from common.ports import Model
from common.store.projects import ProjectRow
from common.web.app import create_app
from common.web.backend import Backend
from ls_backend import PLATFORM, label_config
from tests.fakes import FakePlatform, World, make_world

KEY = "label-studio:2"
CONFIG = (
    '<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">'
    '<Label value="Car" predicted_values="kitty"/><Label value="Dog"/></RectangleLabels></View>'
)
BASIC = {"BASIC_AUTH_USER": "ann", "BASIC_AUTH_PASS": "open sesame"}
SIGNED = {"Authorization": "Basic " + base64.b64encode(b"ann:open sesame").decode()}
SECRET = {SECRET_HEADER: "hush"}


class FakeModel:
    """Scores through the world's models and remembers what it was asked."""

    def __init__(self, world: World) -> None:
        self.world, self.asked = world, list[str]()

    def __call__(self, model: Model, paths: Sequence[str], imgsz: int) -> list[Prediction | str]:
        self.asked += [Path(p).name for p in paths]
        return self.world.models.detector(model).predict([Path(p) for p in paths])


class Service:
    """The application over a store with one connected Label Studio project, '2', whose task N is image N-1."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.world = make_world(folder, model_score_threshold=0.0, **settings)
        tools = self.world.tools
        self.opened: list[str] = []

        def open_(row: ProjectRow) -> FakePlatform:
            self.opened.append(row.key)
            return self.world.platform

        tools.open = open_
        tools.store.forget("fake:1")
        tools.store.projects.ask("label-studio", "2")
        spec = label_config.parse(CONFIG, title="Pets", show_from=0.0)
        self.world.platform.spec = lambda: spec  # type: ignore[method-assign]
        self.world.platform.tasks = {str(i + 1): f"{i}.png" for i in range(12)}
        self.model = FakeModel(self.world)
        self.backend = Backend(tools, self.model)
        self.flask = create_app(self.backend, [PLATFORM])
        self.client: FlaskClient = self.flask.test_client()
        self.store = tools.store

    def settle(self) -> None:
        """Let the worker work until nothing moves."""
        loop = ActiveLearningLoop(self.world.tools)
        for _ in range(60):
            if not loop.step(KEY):
                return
        pytest.fail("the loop never came to rest")

    def hints(self, project: str = "2") -> list[Event]:
        return [h.event for h in self.store.inbox.pending("label-studio", project)]

    def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> TestResponse:
        return self.client.post(path, json=body, headers=dict(headers or {}))


@pytest.fixture(name="service")
def service_fixture(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    made.store.close()


@pytest.fixture(name="guarded")
def guarded_fixture(tmp_path: Path) -> Iterator[Service]:
    """With Basic auth and a webhook secret."""
    made = Service(tmp_path, webhook_secret=("hush",), **BASIC)
    yield made
    made.store.close()


@pytest.fixture(name="still", scope="module")
def still_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all requests that must leave no trace."""
    made = Service(tmp_path_factory.mktemp("still"))
    yield made
    made.store.close()


@pytest.fixture(name="recorded")
def recorded_fixture(shared: Path) -> Callable[[str], Any]:
    folder = shared / "contracts/label-studio"
    return lambda name: json.loads((folder / f"{name}.json").read_text())


def names(shared: Path, *starts: str) -> list[str]:
    return sorted(p.stem for p in (shared / "contracts/label-studio").glob("*.json") if p.stem.startswith(starts))


def replay(service: Service, sent: Mapping[str, Any]) -> TestResponse:
    """The recorded request, with our own password and secret where the recording has REDACTED."""
    headers = {k: v for k, v in sent["headers"].items() if k not in ("Host", "Content-Length", "Connection")}
    if headers.get("Authorization") == "Basic REDACTED":
        headers |= SIGNED
    if headers.pop("X-AL-Secret", None):
        headers |= SECRET
    path = "/webhook" if sent["path"].startswith("/hook-") else sent["path"]  # the recorder's own address
    data = None if sent["body"] is None else json.dumps(sent["body"])
    return service.client.open(path, method=sent["method"], headers=headers, data=data)


def shape(value: Any) -> Any:
    """Keys and kinds of values; of a list its first element's."""
    if isinstance(value, dict):
        return {k: shape(v) for k, v in value.items()}
    if isinstance(value, list):
        return [shape(v) for v in value[:1]]
    return "number" if isinstance(value, int | float) else type(value).__name__
