"""The backend as a `LabelStudioMLBase` subclass, against a small stand-in of that base as of label-studio-ml 2.x."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from common.domain import Event
from common.loop import ActiveLearningLoop
from common.web.backend import Backend
from ls_backend import label_config, model
from tests.fakes import World, make_world

KEY = "label-studio:2"
CONFIG = (
    '<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">'
    '<Label value="Car" predicted_values="kitty"/><Label value="Dog"/></RectangleLabels></View>'
)


class Base:
    """The parts of label_studio_ml.model.LabelStudioMLBase that its server uses: made anew for every request."""

    TRAIN_EVENTS: tuple[str, ...] = ("ANNOTATION_CREATED", "START_TRAINING")
    CACHE: dict[tuple[str, str], str] = {}  # noqa: RUF012 - shared by all, as there

    def __init__(self, project_id: str | None = None, label_config: str | None = None) -> None:
        self.project_id = project_id or ""
        if label_config is not None:
            self.set("label_config", label_config)
        if not self.model_version:
            self.set("model_version", "0.0.1")
        self.setup()

    def get(self, key: str) -> str | None:
        return self.CACHE.get((self.project_id, key))

    def set(self, key: str, value: str) -> None:
        self.CACHE[self.project_id, key] = value

    @property
    def label_config(self) -> str | None:
        return self.get("label_config")

    @property
    def model_version(self) -> str | None:
        return self.get("model_version")

    def process_event(self, event: str, data: dict[str, Any], job_id: str, additional: dict[str, Any]) -> Any:
        return self.fit(event=event, data=data, job_id=job_id, **additional) if event in self.TRAIN_EVENTS else None

    def setup(self) -> None:
        raise NotImplementedError

    def fit(self, event: str, data: dict[str, Any], **more: Any) -> Any:
        raise NotImplementedError


class ModelResponse:
    """As label_studio_ml.response has it."""

    def __init__(self, *, predictions: list[dict[str, Any]]) -> None:
        self.predictions = predictions


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(Base, "CACHE", {})
    made = make_world(tmp_path, images=4, model_score_threshold=0.0)
    made.tools.store.forget("fake:1")
    made.tools.store.projects.ask("label-studio", "2")
    spec = label_config.parse(CONFIG)
    made.platform.spec = lambda: spec  # type: ignore[method-assign]
    made.platform.tasks = {str(i + 1): f"{i}.png" for i in range(4)}
    loop = ActiveLearningLoop(made.tools)
    while loop.step(KEY):
        pass
    yield made
    made.tools.store.close()


@pytest.fixture
def made(world: World) -> Any:
    return model.make_model(
        lambda: Backend(world.tools, lambda _model, paths, _imgsz: ["no model here"] * len(paths)), Base
    )


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The framework, as far as we import it."""
    package, base, response = ModuleType("label_studio_ml"), ModuleType("model"), ModuleType("response")
    base.LabelStudioMLBase = Base  # type: ignore[attr-defined]
    response.ModelResponse = ModelResponse  # type: ignore[attr-defined]
    for name, module in (("", package), (".model", base), (".response", response)):
        monkeypatch.setitem(sys.modules, f"label_studio_ml{name}", module)


TASKS = [{"id": i, "data": {"image": f"{i - 1}.png"}} for i in (3, 1)]


@pytest.mark.usefixtures("installed")
def test_predict_answers_a_model_response_with_one_prediction_per_task(made: Any, world: World) -> None:
    answer = made(project_id="2", label_config=CONFIG).predict(TASKS, context=None, login=None, password=None)
    assert isinstance(answer, ModelResponse)
    assert [p["model_version"] for p in answer.predictions] == [world.platform.active] * 2
    assert [p["result"][0]["value"]["rectanglelabels"] for p in answer.predictions] == [["Car"]] * 2


def test_without_the_frameworks_response_its_plain_form_is_given(made: Any) -> None:
    answer = made(project_id="2", label_config=CONFIG).predict(TASKS, context={"result": []})
    assert [set(p) for p in answer["predictions"]] == [{"result", "score", "model_version"}] * 2


def test_setup_says_the_version_annotators_are_served_by(made: Any, world: World) -> None:
    assert made(project_id="2", label_config=CONFIG).model_version == world.platform.active


def test_setup_of_an_unknown_project_leaves_the_hint_that_connects_it(made: Any, world: World) -> None:
    assert made(project_id="8", label_config=CONFIG).model_version == "hardfirst@0"
    (hint,) = world.tools.store.inbox.pending("label-studio", "8")
    assert hint.event == Event("label-studio", "8", "connect")


def test_the_framework_makes_one_without_any_project_at_start(made: Any) -> None:
    assert made().model_version == "0.0.1"


@pytest.mark.parametrize(
    ("event", "data", "wanted"),
    [
        ("START_TRAINING", {"project": {"id": 2}}, [Event("label-studio", "2", "train")]),
        ("START_TRAINING", {}, [Event("label-studio", "2", "train")]),
        (
            "ANNOTATION_CREATED",
            {"project": {"id": 2}, "annotation": {"id": 5, "task": 1}},
            [Event("label-studio", "2", "labels", ("1",), ("5",))],
        ),
        (
            "ANNOTATIONS_DELETED",
            {"project": {"id": 2}, "annotations": [{"id": 5}]},
            [Event("label-studio", "2", "labels", (), ("5",))],
        ),
        ("PROJECT_UPDATED", {"project": {"id": 2}}, []),
    ],
)
def test_fit_takes_every_event_we_know_as_a_hint(made: Any, world: World, event: str, data: Any, wanted: Any) -> None:
    made(project_id="2", label_config=CONFIG).process_event(event, dict(data), "job", {"hostname": ""})
    assert [h.event for h in world.tools.store.inbox.pending("label-studio", "2")] == wanted


def test_an_unreadable_image_is_an_empty_prediction(made: Any) -> None:
    answer = made(project_id="2", label_config=CONFIG).predict([{"id": 9, "data": {"image": "absent.png"}}])
    assert [p["result"] for p in answer["predictions"]] == [[]]


@pytest.mark.usefixtures("installed")
def test_the_ready_class_reads_its_settings_at_the_first_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model._ready.cache_clear()
    model._backend.cache_clear()
    monkeypatch.chdir(tmp_path)
    ready = model.Hardfirst
    assert ready is model.Hardfirst
    assert issubclass(ready, Base)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("HARDFIRST_HOME", str(tmp_path / "home"))
    assert ready(project_id="5", label_config=CONFIG).model_version == "hardfirst@0"
    assert (tmp_path / "home" / "hardfirst.db").exists()
    model._backend().store.close()
    model._ready.cache_clear()
    model._backend.cache_clear()


def test_another_name_is_not_there() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Softfirst'"):
        _ = model.Softfirst


def test_importing_it_loads_neither_the_framework_nor_a_platform_nor_a_model() -> None:
    code = (
        "import sys, ls_backend.model; "
        "print([m for m in ('label_studio_ml', 'label_studio_sdk', 'torch', 'ultralytics') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
