"""What goes wrong around a real Label Studio, and that it comes right by itself or is said in one sentence.

Label Studio, our HTTP side, store, images and loop are real; only the model and its training are stand-ins.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug.serving import BaseWSGIServer, make_server

from common import compose
from common.config import Settings
from common.connection import connect_project, disconnect_project, forget_project
from common.domain import LabelledBox
from common.errors import UnsupportedProjectError
from common.loop import ActiveLearningLoop, Tools
from common.loop.overview import project_status
from common.loop.reading import labels_at
from common.ports import Model
from common.store import Store, open_store
from common.store.projects import ProjectRow
from common.web.app import create_app
from common.web.backend import Backend
from ls_backend.local_process import free_port
from ls_backend.local_server import LocalLabelStudio
from ls_backend.snapshot import ACTIONS
from tests.fakes import FakeModels, FakeTrainer, picture

pytestmark = pytest.mark.e2e

CONFIG = (
    '<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">'
    '<Label value="Car"/><Label value="Dog"/></RectangleLabels></View>'
)
THEIRS = "theirs@1"
BOX = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0}


def region(name: str = "Car", **more: Any) -> dict[str, Any]:
    value = {**BOX, "rectanglelabels": [name]}
    return {"from_name": "label", "to_name": "image", "type": "rectanglelabels", "value": value, **more}


class Receiver:
    """Our HTTP side, which may be down."""

    def __init__(self, tools: Tools) -> None:
        self._app = create_app(
            Backend(tools, lambda _model, paths, _imgsz: ["not asked here"] * len(paths)), [_plugin()]
        )
        self._port = tools.settings.port
        self._server: BaseWSGIServer | None = None
        self.start()

    def start(self) -> None:
        self._server = make_server("127.0.0.1", self._port, self._app, threaded=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


def _plugin() -> Any:
    return compose.plugin("label-studio")


class ByNameModels(FakeModels):
    """Knows the project's classes after the first round, like a real one."""

    def install(self, trained: Path) -> Model:
        return dataclasses.replace(super().install(trained), names=("Car", "Dog"))


class Desk:
    """One project of a Label Studio with its person, and hardfirst as one process."""

    def __init__(self, server: LocalLabelStudio, folder: Path, tasks: int, config: str = CONFIG) -> None:
        self.http = server.client()
        self.folder = folder / "pictures"
        self.folder.mkdir(parents=True)
        self.project = int(self.json("POST", "/api/projects", {"title": "desk", "label_config": config})["id"])
        self._prefix = server.serve_folder(self.project, self.folder)
        self._drawn = 0
        self.tasks = self.add(tasks) if tasks else []
        port = free_port()
        self.settings = Settings(
            _env_file=None,
            label_studio_url=server.url,
            label_studio_api_key=server.token,
            home=folder / "home",
            port=port,
            url=f"http://127.0.0.1:{port}",
            min_new_labels=3,
            pause_s=0,
            first_block=5,
            keep_publications=2,
        )
        self.shift = 0.0
        self.trainer = FakeTrainer()
        self.store: Store = open_store(self.settings.database, self.settings.folder)
        self.tools = Tools(
            store=self.store,
            settings=self.settings,
            media=compose.media(self.settings),
            models=ByNameModels(),
            trainer=self.trainer,
            open=lambda row: compose.open_platform(self.settings, self.store, row),
            clock=lambda: time.time() + self.shift,
        )
        self.receiver = Receiver(self.tools)
        self.loop = ActiveLearningLoop(self.tools)

    def close(self) -> None:
        self.receiver.stop()
        for port in self.loop._platforms.values():
            port.close()  # type: ignore[attr-defined]
        self.tools.media.__exit__(None, None, None)
        self.store.close()
        self.http.close()
        gc.collect()  # ports that were dropped close their connections now, not in another test

    # --- the person ---

    def json(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        answer = self.http.request(method, path, json=body, params=params or None)
        assert answer.is_success, (answer.status_code, answer.text[:500])
        return answer.json() if answer.content else None

    def add(self, count: int, **more: Any) -> list[str]:
        rows = []
        for _ in range(count):
            self._drawn += 1
            picture(self.folder / f"{self._drawn}.png", self._drawn)
            rows.append({"data": {"image": f"{self._prefix}{self._drawn}.png"}, **more})
        made = self.json("POST", f"/api/projects/{self.project}/import?return_task_ids=1", rows)
        return [str(i) for i in made["task_ids"]]

    def submit(self, task: str, *regions: dict[str, Any], **more: Any) -> int:
        body = {"result": list(regions or [region()]), "lead_time": 2.5, **more}
        return int(self.json("POST", f"/api/tasks/{task}/annotations", body)["id"])

    def predictions(self, version: str) -> list[dict[str, Any]]:
        found = self.json("GET", "/api/predictions/", project=self.project)
        return sorted((p for p in found if p["model_version"] == version), key=lambda p: int(p["id"]))

    def foreign(self, tasks: list[str]) -> str:
        rows = [{"task": int(t), "model_version": THEIRS, "score": 0.3, "result": [region(score=0.4)]} for t in tasks]
        self.json("POST", f"/api/projects/{self.project}/import/predictions", rows)
        return self.bytes_of(THEIRS)

    def bytes_of(self, version: str) -> str:
        rows = self.predictions(version)
        return json.dumps([{k: v for k, v in r.items() if k != "created_ago"} for r in rows], sort_keys=True)

    def human(self) -> dict[str, str]:
        tasks = self.json("GET", f"/api/projects/{self.project}/export", exportType="JSON")
        ids = [a["id"] for t in tasks for a in t["annotations"]]
        found = [self.json("GET", f"/api/annotations/{i}") for i in ids]
        return {str(a.pop("id")): json.dumps({**a, "created_ago": ""}, sort_keys=True) for a in found}

    @property
    def version(self) -> str:
        return str(self.json("GET", f"/api/projects/{self.project}/")["model_version"] or "")

    def change(self, **values: Any) -> None:
        self.json("PATCH", f"/api/projects/{self.project}/", values)

    # --- hardfirst ---

    @property
    def key(self) -> str:
        return f"label-studio:{self.project}"

    @property
    def row(self) -> ProjectRow:
        found = self.store.projects.get(self.key)
        assert found is not None
        return found

    def connect(self) -> None:
        connect_project(self.settings, "label-studio", str(self.project), dry_run=False, replace=False)
        self.settle()

    def settle(self) -> None:
        for _ in range(80):
            if not self.loop.step(self.key):
                return
        pytest.fail(f"the loop never came to rest: {self.row}")

    def later(self) -> None:
        """The next comparison is due."""
        self.shift += 4000
        self.settle()

    def round(self, count: int = 3) -> None:
        """People label what is served next; a round trains and its queue is published."""
        for _ in range(count):
            task = self.json("GET", f"/api/projects/{self.project}/next")
            self.submit(str(task["id"]))
        self.later()
        self.trainer.finish()
        self.later()

    def status(self) -> str:
        return str(project_status(self.tools, self.row)["state"])

    def known(self) -> set[tuple[str, str, bool]]:
        """(task, annotation, skipped) of everything in the store."""
        return {(t, a.id, a.skipped) for t, found in self.store.labels.at(self.key).items() for a in found}

    def journal(self) -> list[str]:
        return [e.text for e in self.store.journal.newest(self.key, 100)]


@pytest.fixture
def desk(label_studio: LocalLabelStudio, tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    made: list[Desk] = []

    def make(tasks: int = 10, config: str = CONFIG) -> Desk:
        made.append(Desk(label_studio, tmp_path / str(len(made)), tasks, config))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_everything_that_happened_while_we_were_down_is_found(desk: Callable[..., Desk]) -> None:
    here = desk(tasks=26)
    before = here.submit(here.tasks[0])
    here.connect()
    here.receiver.stop()

    made = {task: here.submit(task) for task in here.tasks[1:21]}
    for task in here.tasks[1:3]:
        here.json("DELETE", f"/api/annotations/{made.pop(task)}")
    again = here.tasks[3]
    here.json("PATCH", f"/api/annotations/{made[again]}", {"result": [region("Dog")]})
    skipped = here.submit(here.tasks[21], was_cancelled=True, result=[])
    imported = here.add(2, annotations=[{"result": [region("Dog")]}])
    plain = here.add(1)
    converted = here.tasks[22]
    action = {"selectedItems": {"all": False, "included": [int(converted)]}, "model_version": here.version}
    here.json("POST", "/api/dm/actions", action, id="predictions_to_annotations", project=here.project)
    here.json("DELETE", f"/api/tasks/{here.tasks[23]}")
    assert here.store.inbox.pending("label-studio", str(here.project)) == []

    here.receiver.start()
    here.later()

    tasks = here.json("GET", f"/api/projects/{here.project}/export", exportType="JSON")
    there = {(str(t["id"]), str(a["id"]), bool(a["was_cancelled"])) for t in tasks for a in t["annotations"]}
    assert (here.tasks[0], str(before), False) in there
    assert (here.tasks[21], str(skipped), True) in there
    assert here.known() == there
    labels = labels_at(here.tools, here.row)
    assert set(labels) == {here.tasks[0], *made, *imported}
    assert [b.name for b in labels[again].boxes] == ["Dog"]
    assert labels[here.tasks[4]].boxes == (LabelledBox("Car", (0.1, 0.2, 0.4, 0.6)),)
    if here.store.rounds.running(here.key):
        here.trainer.finish()
    here.later()
    publication = here.store.publications.get(here.row.publication or 0)
    queue = {p.sample for p in here.store.publications.open_places(publication)[0]}
    assert queue == {*here.tasks[1:3], here.tasks[21], *here.tasks[24:], *plain}


def test_tasks_that_come_later_are_served_where_their_places_are(desk: Callable[..., Desk]) -> None:
    here = desk(tasks=12)
    here.connect()
    version, before = here.version, here.predictions(here.version)
    late = here.add(3)
    here.later()

    assert here.version == version
    now = here.predictions(version)
    assert [(p["id"], p["task"], p["score"]) for p in now[:12]] == [(p["id"], p["task"], p["score"]) for p in before]
    assert sorted(str(p["task"]) for p in now[12:]) == sorted(late)
    publication = here.store.publications.get(here.row.publication or 0)
    queue = [p.sample for p in here.store.publications.open_places(publication)[0]]
    stands = [queue.index(task) + 1 for task in queue if task in late]
    assert "3 new images took their places {}, {} and {} of 15".format(*stands) in " ".join(here.journal())
    served = []
    while len(served) < 15:
        served.append(str(here.json("GET", f"/api/projects/{here.project}/next")["id"]))
        here.submit(served[-1])
    assert served == queue


def test_predictions_of_others_and_every_human_annotation_stay_byte_identical(desk: Callable[..., Desk]) -> None:
    here = desk(tasks=16)
    theirs = here.foreign(here.tasks)
    here.change(model_version=THEIRS)
    first = here.submit(here.tasks[0])
    human = here.human()
    assert set(human) == {str(first)}

    here.connect()
    for number in (1, 2, 3):
        here.round()
        assert here.version.startswith(f"hardfirst@{number}.")
        now = here.human()
        assert {i: now[i] for i in human} == human
        human = now
        assert here.bytes_of(THEIRS) == theirs
    kept = [v for v in here.loop._platforms[here.key].published() if v.startswith("hardfirst@")]
    assert len(kept) == 2

    disconnect_project(
        here.settings, "label-studio", str(here.project), keep_predictions=False, progress=lambda _rows: None
    )
    assert here.version == THEIRS
    assert here.bytes_of(THEIRS) == theirs
    assert here.human() == human
    versions = {p["model_version"] for p in here.json("GET", "/api/predictions/", project=here.project)}
    assert versions == {THEIRS}


def test_a_model_version_that_a_person_chose_stops_the_project_until_it_is_put_back(
    desk: Callable[..., Desk],
) -> None:
    here = desk()
    here.foreign(here.tasks)
    here.connect()
    ours = here.version
    here.change(model_version=THEIRS)
    here.later()
    assert here.row.state == "stopped"
    said = here.status()
    assert f"model_version of project {here.project} is '{THEIRS}', hardfirst left '{ours}'" in said
    assert "\n" not in said
    for task in here.tasks[:3]:
        here.submit(task)
    here.later()
    assert here.version == THEIRS
    assert here.trainer.started == []

    here.change(model_version=ours)
    here.later()
    assert here.row.state == "active"
    assert here.row.reason == ""
    assert len(here.known()) == 3


def test_a_choice_made_just_before_a_new_queue_is_not_overwritten_by_it(desk: Callable[..., Desk]) -> None:
    here = desk()
    here.foreign(here.tasks)
    here.connect()
    here.change(model_version=THEIRS)
    here.store.projects.update(here.key, order_asked=time.time())
    here.settle()
    assert (here.row.state, here.version) == ("stopped", THEIRS)


def test_the_backends_title_as_model_version_heals(desk: Callable[..., Desk]) -> None:
    here = desk()
    here.connect()
    ours = here.version
    here.change(model_version="hardfirst")
    here.later()
    assert (here.row.state, here.version) == ("active", ours)
    assert any("healed: model_version" in text for text in here.journal())


def test_a_webhook_whose_events_were_emptied_heals(desk: Callable[..., Desk]) -> None:
    here = desk()
    here.connect()
    (hook,) = here.json("GET", "/api/webhooks", project=here.project)
    here.json("PATCH", f"/api/webhooks/{hook['id']}", {"url": hook["url"]})
    assert here.json("GET", f"/api/webhooks/{hook['id']}")["actions"] == []
    here.later()
    healed = here.json("GET", f"/api/webhooks/{hook['id']}")
    assert sorted(healed["actions"]) == sorted(ACTIONS)
    here.submit(here.tasks[0])
    assert here.store.inbox.pending("label-studio", str(here.project)) != []


def test_a_switch_that_we_did_not_live_to_note_is_not_taken_for_a_persons(
    desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = desk()
    here.connect()
    here.store.projects.update(here.key, order_asked=time.time())
    with monkeypatch.context() as dying:
        dying.setattr(here.store.publications, "activate", lambda _row: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            here.settle()
    here.loop = ActiveLearningLoop(here.tools)
    here.later()
    assert here.row.state == "active"
    assert here.version == here.store.publications.get(here.row.publication or 0).version
    assert len(here.predictions(here.version)) == 10


def test_a_deleted_project_is_archived_and_forget_leaves_no_row(desk: Callable[..., Desk]) -> None:
    here = desk()
    here.connect()
    for task in here.tasks[:3]:
        here.submit(task)
    here.later()
    assert here.store.rounds.running(here.key) is not None
    here.json("DELETE", f"/api/projects/{here.project}/")
    here.later()
    assert here.row.state == "archived"
    assert f"has no project {here.project}" in here.status()
    newest = here.store.rounds.newest(here.key)
    assert newest is not None
    assert newest.state == "cancelled"

    forget_project(here.settings, here.key)
    assert here.store.projects.get(here.key) is None
    assert here.store.samples.all(here.key) == []
    assert here.store.rounds.all(here.key) == []
    assert here.store.publications.all(here.key) == []


def test_a_class_that_is_added_keeps_every_label_and_trains_by_its_name(desk: Callable[..., Desk]) -> None:
    here = desk()
    here.connect()
    for task in here.tasks[:2]:
        here.submit(task)
    here.change(label_config=CONFIG.replace('<Label value="Car"/>', '<Label value="Ship"/><Label value="Car"/>'))
    here.submit(here.tasks[2], region("Ship"))
    here.later()
    (spec,), (samples,) = here.trainer.started, here.trainer.samples
    assert spec.classes == ("Ship", "Car", "Dog")
    assert sorted(b.name for s in samples for b in s.label.boxes) == ["Car", "Car", "Ship"]
    assert any("classes added: Ship" in text for text in here.journal())


def test_a_class_that_is_renamed_leaves_training_and_status_says_so(desk: Callable[..., Desk]) -> None:
    here = desk()
    for task in here.tasks[:3]:
        here.submit(task)
    dog = here.submit(here.tasks[3], region("Dog"))
    here.connect()
    here.trainer.finish("failed", "enough for now")
    here.settle()
    # Label Studio keeps a class while annotations have it; the last one is drawn anew, as another class.
    here.receiver.stop()
    here.json("DELETE", f"/api/annotations/{dog}")
    here.change(label_config=CONFIG.replace('"Dog"', '"Cat"'))
    here.receiver.start()
    here.later()
    assert any("classes renamed or removed: Dog" in text for text in here.journal())
    assert here.row.spec.names == ("Car", "Cat")
    assert here.row.state == "active"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (CONFIG.replace("<RectangleLabels", '<Image name="other" value="$other"/><RectangleLabels'), "2 Image tags"),
        (
            '<View><Video name="v" value="$video"/><Labels name="l" toName="v"><Label value="A"/></Labels></View>',
            "ideo",
        ),
        (
            '<View><Image name="image" value="$image"/><Choices name="c" toName="image"><Choice value="A"/>'
            '<Choice value="B"/></Choices></View>',
            "RectangleLabels",
        ),
    ],
    ids=["several images per task", "video", "no RectangleLabels"],
)
def test_a_project_we_cannot_serve_is_refused_in_one_sentence_and_left_alone(
    desk: Callable[..., Desk], config: str, said: str
) -> None:
    here = desk(tasks=0, config=config)
    with pytest.raises(UnsupportedProjectError, match=said) as refused:
        connect_project(here.settings, "label-studio", str(here.project), dry_run=False, replace=False)
    assert "\n" not in str(refused.value)
    assert here.json("GET", "/api/ml", project=here.project) == []
    assert here.json("GET", "/api/webhooks", project=here.project) == []
    assert here.store.projects.get(here.key) is None
