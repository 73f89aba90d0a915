"""What Label Studio really sends, against the application: every recorded exchange, and every way it can go wrong."""

from __future__ import annotations

import base64
import json
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from common.config import SECRET_HEADER
from common.domain import Event, LabelledBox, Prediction, QueueItem, ShownBox
from common.errors import HardfirstError
from common.loop import ActiveLearningLoop
from common.ports import Model
from common.store import engine
from common.store.projects import ProjectRow
from common.web.app import MAX_BODY, create_app
from common.web.backend import Backend
from common.worker import Worker
from ls_backend import PLATFORM, app, label_config, wire
from tests.fakes import FakePlatform, World, make_world

KEY = "label-studio:2"
CONFIG = (
    '<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">'
    '<Label value="Car" predicted_values="kitty"/><Label value="Dog"/></RectangleLabels></View>'
)
BASIC = {"BASIC_AUTH_USER": "ann", "BASIC_AUTH_PASS": "open sesame"}
SIGNED = {"Authorization": "Basic " + base64.b64encode(b"ann:open sesame").decode()}
SECRET = {SECRET_HEADER: "hush"}

HERE = ("health", "setup", "predict", "versions", "webhook")
"""Recorded exchanges whose names start so are what Label Studio sends to a backend: all are replayed in this file."""
ELSEWHERE = {
    "test_ls_wire.py": {
        *("api.task_with_annotations", "api.task_skipped", "api.export_json", "api.tasks_list_slim"),
        *("api.import_predictions_dropped_silently", "api.project_create"),
        *("region.rectanglelabels_rotated", "region.choices"),
    },
    "test_ls_client.py": {
        *("api.ssrf_blocked_error", "api.ml_connect_wrong_password", "api.import_predictions_bad_task_error"),
    },
    "test_ls_replay.py": {
        *("api.ml_connect", "api.ml_list", "api.view_create_ordered", "api.webhook_unknown_event_error"),
        *("api.project_enable_uncertainty", "api.project_model_version_unknown_error"),
        *("api.project_after_delete_model_version", "api.model_versions_extended"),
        *("api.model_versions", "api.delete_model_version"),  # that we never make these
        *("api.import_tasks", "api.next_task_uncertainty"),  # the demo and its annotator
        *("api.next_task_as_displayed", "ui.label_all_tasks", "ui.label_tasks_as_displayed"),  # what our tab causes
    },
}
"""What we send, and what we only read, by the test file that replays it."""
READ_HERE = {
    *("region.rectanglelabels", "region.polygonlabels", "region.keypointlabels", "region.ellipselabels"),
    *("region.brushlabels", "region.videorectangle", "ui.submit_annotation_from_prediction"),
    *("api.annotation_create", "api.export_json_all_tasks", "api.task_with_draft", "api.tasks_list_fields_all"),
    *("api.tasks_list_completed_since", "api.webhook_set_secret_header", "api.webhooks_list_after_connect"),
    *("api.import_predictions", "api.predictions_of_task", "api.train", "api.webhooks_info", "api.ml_versions"),
}
"""Others that tests of this file read."""


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


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Service]:
    """With Basic auth and a webhook secret."""
    made = Service(tmp_path, webhook_secret=("hush",), **BASIC)
    yield made
    made.store.close()


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all requests that must leave no trace."""
    made = Service(tmp_path_factory.mktemp("still"))
    yield made
    made.store.close()


@pytest.fixture(scope="module")
def guarded_still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The same with Basic auth and a webhook secret."""
    made = Service(tmp_path_factory.mktemp("guarded"), webhook_secret=("hush",), **BASIC)
    yield made
    made.store.close()


@pytest.fixture
def recorded(shared: Path) -> Callable[[str], Any]:
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


# --- coverage --------------------------------------------------------------------------------------------


def test_every_recorded_exchange_stands_once_in_the_table(shared: Path) -> None:
    found = set(names(shared, ""))
    here = {n for n in found if n.startswith(HERE)}
    table = [here, READ_HERE, *ELSEWHERE.values()]
    assert found - set().union(*table) == set()
    assert set().union(*table) - found == set()
    assert sum(map(len, table)) == len(found), "an exchange stands in two places of the table"


@pytest.mark.parametrize("file", ELSEWHERE)
def test_the_other_files_replay_what_the_table_says(file: str) -> None:
    text = (Path(__file__).parent / file).read_text()
    assert [n for n in ELSEWHERE[file] if f'"{n}"' not in text] == []


def test_this_file_reads_what_the_table_says() -> None:
    text = Path(__file__).read_text().partition("# --- coverage")[2]
    assert [n for n in READ_HERE if f'"{n}"' not in text] == []


# --- health, setup, versions -----------------------------------------------------------------------------


def test_health_answers_as_recorded(guarded: Service, recorded: Callable[[str], Any]) -> None:
    answer, wanted = replay(guarded, recorded("health.request")), recorded("health.response")
    assert (answer.status_code, shape(answer.json)) == (wanted["status"], shape(wanted["body"]))
    assert answer.json["status"] == "UP"


def test_health_without_the_password_is_refused_as_recorded(guarded: Service, recorded: Callable[[str], Any]) -> None:
    answer, wanted = replay(guarded, recorded("health.unauthorized.request")), recorded("health.unauthorized.response")
    assert (answer.status_code, shape(answer.json)) == (wanted["status"], shape(wanted["body"]))


def test_setup_answers_as_recorded(guarded: Service, recorded: Callable[[str], Any]) -> None:
    answer, wanted = replay(guarded, recorded("setup.request")), recorded("setup.response")
    assert (answer.status_code, shape(answer.json)) == (wanted["status"], shape(wanted["body"]))


def test_setup_says_the_version_annotators_are_served_by(guarded: Service, recorded: Callable[[str], Any]) -> None:
    guarded.settle()
    answer = replay(guarded, recorded("setup.request"))
    assert answer.json == {"model_version": guarded.world.platform.active}


def test_setup_of_a_project_a_person_connected_there_only_leaves_a_hint(service: Service) -> None:
    service.post("/setup", {"project": "77.1795196587", "schema": CONFIG, "access_token": "t0ken"})
    assert service.hints("77") == [Event("label-studio", "77", "connect")]
    assert [p.key for p in service.store.projects.all()] == [KEY]


def test_setup_of_a_known_project_writes_nothing(service: Service) -> None:
    for _ in range(3):
        service.post("/setup", {"project": "2.1", "schema": CONFIG})
    assert service.hints() == []


def test_versions_lists_what_is_on_the_platform_newest_first(guarded: Service, recorded: Callable[[str], Any]) -> None:
    guarded.settle()
    first = guarded.world.platform.active
    guarded.store.projects.update(KEY, order_asked=guarded.world.clock[0])
    guarded.settle()
    answer, wanted = replay(guarded, recorded("versions.request")), recorded("versions.response")
    assert (answer.status_code, shape(answer.json)) == (wanted["status"], shape(wanted["body"]))
    assert shape(answer.json) == shape(recorded("api.ml_versions")["response"]["body"]), "handed to its page as it is"
    assert answer.json["versions"] == [guarded.world.platform.active, first]


def test_neither_hello_nor_hint_touches_the_platform_or_a_model(service: Service) -> None:
    service.settle()
    service.opened.clear()
    calls, seen = len(service.world.platform.calls), len(service.world.models.seen)
    service.client.get("/")
    service.client.get("/health")
    service.client.get("/versions")
    service.client.get("/metrics")
    service.post("/setup", {"project": "2.1"})
    service.post("/webhook", {"action": "START_TRAINING", "project": {"id": 2}})
    assert service.opened == []
    assert len(service.world.platform.calls) == calls
    assert (len(service.world.models.seen), service.model.asked) == (seen, [])


# --- predict ---------------------------------------------------------------------------------------------


def test_predictions_have_the_recorded_shape_length_and_order(guarded: Service, shared: Path, recorded: Any) -> None:
    guarded.settle()
    requests = [n for n in names(shared, "predict.") if n.endswith(".request")]
    assert len(requests) >= 6
    for name in requests:
        sent, wanted = recorded(name), recorded("predict.response")
        sent["body"]["label_config"] = CONFIG
        sent["headers"] |= {"Authorization": "Basic REDACTED"}
        for i, task in enumerate(sent["body"]["tasks"]):
            task["data"]["image"] = f"{i}.png"
        sent["body"]["project"] = "2.1795196587"
        answer = replay(guarded, sent)
        assert answer.status_code == wanted["status"], name
        assert len(answer.json["results"]) == len(sent["body"]["tasks"]), name
        ignored = ("cluster", "neighbors", "mislabeling")  # Label Studio drops them
        like = {k: v for k, v in wanted["body"]["results"][0].items() if k not in ignored}
        assert [shape(r) for r in answer.json["results"]] == [shape(like)] * len(sent["body"]["tasks"]), name


def tasks(*ids: Any, image: str | None = None) -> list[dict[str, Any]]:
    return [{"id": i, "data": {"image": image or f"{int(i) - 1}.png"}, "project": 2} for i in ids]


def predict(service: Service, sent: list[Any], **more: Any) -> list[dict[str, Any]]:
    answer = service.post("/predict", {"tasks": sent, "project": "2.1", "label_config": CONFIG, **more})
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json["results"]
    assert len(results) == len(sent)
    return results


def test_what_the_store_knows_is_answered_without_a_model(service: Service) -> None:
    service.settle()
    (one,) = predict(service, tasks(3))
    assert one["result"][0]["value"]["rectanglelabels"] == ["Car"]
    assert service.model.asked == []


def test_an_image_nobody_scored_goes_through_the_resident_model_once(service: Service) -> None:
    service.settle()
    service.store.predictions.forget()
    fresh = tasks(400, 401, image="0.png")
    first, again = predict(service, fresh), predict(service, fresh)
    assert [r["result"][0]["id"] for r in first] == [r["result"][0]["id"] for r in again]
    assert service.model.asked == ["0.png"]


def test_answers_are_in_the_order_of_the_tasks_also_when_a_task_comes_twice(service: Service) -> None:
    service.settle()
    one, two, three, four = predict(service, tasks(5, 2, 5, 9))
    assert one == three
    assert len({r["result"][0]["id"] for r in (one, two, four)}) == 3


def test_an_unreadable_image_gives_an_empty_result_and_a_line_in_the_log(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.settle()
    good, bad = predict(service, [*tasks(1), *tasks(500, image="absent.png")])
    assert good["result"]
    assert (bad["result"], bad["score"]) == ([], 1.0)
    assert "task 500: no boxes: absent.png: there is no such image" in caplog.text


def test_a_failing_model_gives_empty_results_that_stand_last(service: Service) -> None:
    service.settle()
    service.store.predictions.forget()
    service.backend._score = lambda _model, paths, _imgsz: ["the model failed: no memory"] * len(paths)
    assert [(r["result"], type(r["score"])) for r in predict(service, tasks(1, 2))] == [([], float)] * 2


def test_a_task_without_boxes_never_comes_before_the_others(service: Service) -> None:
    """Label Studio serves the lowest score first, and SQLite puts no score at all before the lowest."""
    service.settle()
    assert [r["score"] for r in predict(service, [*tasks(500, image="absent.png"), "odd"])] == [1.0, 1.0]


def test_the_platform_being_down_gives_empty_results(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    service.settle()
    service.store.predictions.forget()

    def closed(_row: ProjectRow) -> FakePlatform:
        raise HardfirstError("LABEL_STUDIO_URL is not set")

    service.backend._ports._open = closed
    service.backend._ports.drop(KEY)
    assert predict(service, tasks(1))[0]["result"] == []
    assert "LABEL_STUDIO_URL is not set" in caplog.text


ODD = [
    {},
    None,
    7,
    "task",
    [],
    {"id": None},
    {"id": True, "data": {"image": "0.png"}},
    {"id": "1; drop table", "data": {"image": "0.png"}},
    {"id": 10**30, "data": {"image": "0.png"}},
    {"id": -1, "data": {"image": "0.png"}},
    {"id": 1.5, "data": {"image": "0.png"}},
    {"id": "\ud800", "data": {"image": "0.png"}},
    {"id": 900, "data": None},
    {"id": 901, "data": []},
    {"id": 902, "data": {"image": ["0.png"]}},
    {"id": 903, "data": {"image": "\ud800.png"}},
    {"id": 904, "data": {"image": ""}},
    {"id": 905, "data": {"image": "0.png"}, "updated_at": "yesterday", "total_annotations": "many"},
    {"id": 906, "data": {"image": "a" * 200}},
]


def test_odd_tasks_get_an_answer_each_and_do_no_harm_to_their_neighbours(service: Service) -> None:
    service.settle()
    results = predict(service, [*tasks(1), *ODD, *tasks(2)])
    assert results[0]["result"]
    assert results[-1]["result"]
    assert all(set(r) == {"result", "score", "model_version"} for r in results)


def test_a_thousand_tasks_at_once_are_answered(service: Service) -> None:
    service.settle()
    assert len(predict(service, tasks(*range(1, 1001), image="0.png"))) == 1000


def test_labels_the_model_does_not_know_get_no_boxes(service: Service) -> None:
    service.settle()
    config = CONFIG.replace('predicted_values="kitty"', "")
    assert [r["result"] for r in predict(service, tasks(1, 2), label_config=config)] == [[], []]


@pytest.mark.parametrize("context", [None, {}, {"result": []}, {"result": [{"type": "rectanglelabels"}]}])
def test_interactive_calls_are_answered_with_and_without_context(service: Service, context: Any) -> None:
    service.settle()
    (one,) = predict(service, tasks(1), params={"login": None, "password": None, "context": context})
    assert one["result"]


@pytest.mark.parametrize("config", ["", None, "<View>", "<View><Video/></View>", 5])
def test_a_label_config_that_is_not_served_gives_empty_results(service: Service, config: Any) -> None:
    service.store.projects.update(KEY, spec={"title": "", "classes": []})
    assert [r["result"] for r in predict(service, tasks(1, 2), label_config=config)] == [[], []]


def test_a_project_nobody_connected_gets_empty_results_and_nothing_is_fetched(still: Service) -> None:
    calls = len(still.world.platform.calls)
    answer = still.post("/predict", {"tasks": tasks(1, 2), "project": "99.1", "label_config": CONFIG})
    assert [r["result"] for r in answer.json["results"]] == [[], []]
    assert still.world.platform.calls[calls:] == []
    assert still.opened == []


@pytest.mark.parametrize("body", [{}, {"tasks": None}, {"tasks": {"id": 1}}, {"tasks": "all"}])
def test_predict_without_a_list_of_tasks_says_so(still: Service, body: Any) -> None:
    answer = still.post("/predict", body)
    assert answer.status_code == 400
    assert answer.json["error"].startswith("tasks is a ")


def test_no_task_at_all_is_answered_with_no_result(still: Service) -> None:
    assert predict(still, []) == []


def test_a_locked_database_is_a_503_so_that_no_empty_answer_is_kept_for_good(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.settle()

    def locked(*_: Any) -> Any:
        raise engine.StoreError("the database answered 'locked'; nothing was changed, try again")

    monkeypatch.setattr(service.store.samples, "some", locked)
    answer = service.post("/predict", {"tasks": tasks(1), "project": "2.1", "label_config": CONFIG})
    assert (answer.status_code, answer.json["error"].startswith("the database")) == (503, True)


# --- webhooks --------------------------------------------------------------------------------------------

HINTS: dict[str, Event | None] = {
    "annotation_created": Event("label-studio", "2", "labels", ("1",), ("1",)),
    "annotation_created_basic_auth_in_url": Event("label-studio", "2", "labels", ("1",), ("1",)),
    "annotation_created_no_payload": Event("label-studio", "2", "labels"),
    "annotation_created_skipped": Event("label-studio", "2", "labels", ("2",), ("2",)),
    "annotation_updated": Event("label-studio", "2", "labels", ("1",), ("1",)),
    "annotation_updated_ground_truth": Event("label-studio", "2", "labels", ("1",), ("1",)),
    "annotations_created": Event("label-studio", "2", "labels", ("4",), ("3",)),
    "annotations_deleted": Event("label-studio", "2", "labels", (), ("1",)),
    "annotations_deleted_bulk": Event("label-studio", "2", "labels", (), ("2", "3")),
    "project_updated": None,
    "start_training": Event("label-studio", "2", "train"),
    "tasks_created": Event("label-studio", "2", "samples"),
    "tasks_created_imported_with_annotations": Event("label-studio", "2", "samples"),
    "tasks_created_single": Event("label-studio", "2", "samples"),
    "tasks_deleted": Event("label-studio", "2", "samples"),
}


def test_every_recorded_webhook_becomes_the_right_hint(guarded: Service, shared: Path, recorded: Any) -> None:
    guarded.store.projects.update(KEY, state="active")
    found = {}
    for name in names(shared, "webhook."):
        sent = recorded(name)
        if "no_payload" in name:
            sent["headers"] |= SECRET  # recorded from a hook of its own, which had none
        answer = replay(guarded, sent)
        assert (answer.status_code, answer.json) == (200, {"status": "ok"}), name
        hints = guarded.hints()
        guarded.store.inbox.done([h.id for h in guarded.store.inbox.pending("label-studio", "2")])
        found[name.removeprefix("webhook.")] = hints[0] if hints else None
        assert len(hints) <= 1
    assert found == HINTS


def test_the_webhook_we_ask_for_is_one_that_label_studio_knows_and_that_we_understand(recorded: Any) -> None:
    known = set(recorded("api.webhooks_info")["response"]["body"])
    assert set(app.KINDS) - {"START_TRAINING"} <= known


def test_our_secret_comes_as_the_header_that_label_studio_lets_a_webhook_carry(recorded: Any) -> None:
    header = recorded("api.webhook_set_secret_header")["request"]["body"]["headers"]
    assert len(header) == 1
    (hook,) = recorded("api.webhooks_list_after_connect")["response"]["body"]
    assert hook["headers"] == {}, "a hook that Label Studio registers by itself carries no secret"


def test_label_studio_takes_a_start_of_training_for_done_whatever_we_answer(recorded: Any, service: Service) -> None:
    assert recorded("api.train")["response"]["status"] == 200
    service.post("/webhook", {"action": "START_TRAINING", "project": {"id": 2}})
    assert service.hints() == [Event("label-studio", "2", "train")]


def test_older_servers_ask_for_training_at_another_address(service: Service) -> None:
    assert service.post("/train", {"project": "2.17"}).status_code == 202
    assert service.hints() == [Event("label-studio", "2", "train")]
    assert service.post("/train", {"project": "x"}).status_code == 400


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {SECRET_HEADER: ""},
        {SECRET_HEADER: "hus"},
        {SECRET_HEADER: "hushh"},
        {"Authorization": "Basic " + base64.b64encode(b"ann:wrong").decode()},
        {"Authorization": "Basic " + base64.b64encode(b"ann").decode()},
        {"Authorization": "Basic ???"},
        {"Authorization": "Bearer hush"},
        {"X-AL-Secret": "hush"},
    ],
)
def test_a_webhook_without_the_secret_is_refused_and_its_body_not_read(
    guarded_still: Service, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.web.body.json.loads", lambda *_, **__: pytest.fail("the body was parsed"))
    answer = guarded_still.client.post("/webhook", data="{not json", headers=headers, content_type="application/json")
    assert answer.status_code == 401
    assert guarded_still.hints() == []


@pytest.mark.parametrize("headers", [SECRET, SIGNED, {**SECRET, **SIGNED}, {**SIGNED, SECRET_HEADER: "old"}])
def test_the_secret_or_basic_auth_will_do(guarded: Service, headers: dict[str, str]) -> None:
    assert guarded.post("/webhook", {"action": "START_TRAINING", "project": {"id": 2}}, headers).status_code == 200


def test_secrets_are_compared_in_constant_time_and_all_of_them(
    guarded_still: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[bytes] = []

    def compare(_given: bytes, kept: bytes) -> bool:
        compared.append(kept)
        return True

    monkeypatch.setattr("common.web.auth.hmac.compare_digest", compare)
    guarded_still.post("/webhook", {"action": "NOTHING"}, {SECRET_HEADER: "x"})
    assert compared == [b"hush"]


def test_during_a_rotation_the_old_and_the_new_secret_pass(tmp_path: Path) -> None:
    made = Service(tmp_path, webhook_secret="new, old", **BASIC)
    answers = [made.post("/webhook", {"action": "X"}, {SECRET_HEADER: s}).status_code for s in ("new", "old", "older")]
    assert answers == [200, 200, 401]
    made.store.close()


def test_with_nothing_configured_this_machine_may_start_a_training_but_a_wrong_secret_is_wrong(
    service: Service,
) -> None:
    start = {"action": "START_TRAINING", "project": {"id": 2}}
    (made,) = service.backend.settings.secrets()
    assert service.post("/webhook", start).status_code == 200
    assert service.post("/webhook", start, {SECRET_HEADER: made}).status_code == 200
    assert service.post("/webhook", start, {SECRET_HEADER: "guess"}).status_code == 401


def test_a_configured_secret_alone_is_asked_for(tmp_path: Path) -> None:
    made = Service(tmp_path, webhook_secret="hush")
    assert made.post("/webhook", {"action": "X"}).status_code == 401
    assert made.post("/webhook", {"action": "X"}, SECRET).status_code == 200
    assert made.client.get("/health").status_code == 200
    made.store.close()


def test_a_webhook_secret_opens_no_other_door(guarded_still: Service) -> None:
    for path in ("/health", "/", "/versions", "/metrics", "/api/queue?project=label-studio:2", "/nowhere"):
        assert guarded_still.client.get(path, headers=SECRET).status_code == 401, path
    assert guarded_still.post("/predict", {"tasks": []}, SECRET).status_code == 401


def test_the_same_event_ten_times_at_once_has_one_effect(service: Service, recorded: Any) -> None:
    service.settle()
    sent = recorded("webhook.annotation_created")["body"]
    service.world.platform.annotate("1", LabelledBox("Car", (0.1, 0.1, 0.5, 0.5)))
    start = threading.Barrier(10)

    def post(_: int) -> int:
        start.wait()
        return service.flask.test_client().post("/webhook", json=sent).status_code

    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(post, range(10))) == [200] * 10
    assert len(service.hints()) == 10
    before = service.store.projects.get(KEY)
    service.settle()
    after = service.store.projects.get(KEY)
    assert before is not None
    assert after is not None
    assert after.revision == before.revision + 1
    assert len(service.store.labels.at(KEY)["1"]) == 1
    assert service.hints() == []


def test_events_in_any_order_end_in_the_same_labels(service: Service, recorded: Any) -> None:
    service.settle()
    for name in ("annotations_deleted", "annotation_updated", "annotation_created"):
        service.post("/webhook", recorded(f"webhook.{name}")["body"])
    service.settle()
    assert service.store.labels.at(KEY) == {}


def test_a_locked_inbox_is_a_503_never_a_4xx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BUSY_S", 0.05)
    made = Service(tmp_path)
    other = sqlite3.connect(made.backend.settings.folder / "inbox.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    answer = made.post("/webhook", {"action": "START_TRAINING", "project": {"id": 2}})
    assert answer.status_code == 503
    assert "locked" in answer.json["error"]
    other.execute("ROLLBACK")
    other.close()
    assert made.post("/webhook", {"action": "START_TRAINING", "project": {"id": 2}}).status_code == 200
    made.store.close()


def test_twenty_megabytes_are_too_much(still: Service) -> None:
    assert MAX_BODY < 20_000_000
    body = b'{"action": "' + b"x" * 20_000_000 + b'"}'
    answer = still.client.post("/webhook", data=body, content_type="application/json")
    assert (answer.status_code, still.hints()) == (413, [])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"null",
        b'"x"',
        b"[" * 10_000 + b"]" * 10_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"action": NaN}',
        b'{"action": "START_TRAINING", "project": {"id": Infinity}}',
        b'{"project": ' + b"9" * 5000 + b"}",
        b"\xff\xfe\x00",
    ],
)
@pytest.mark.parametrize("path", ["/webhook", "/setup", "/predict", "/train"])
def test_a_body_that_is_no_json_object_is_a_400_in_one_sentence(still: Service, path: str, body: bytes) -> None:
    answer = still.client.post(path, data=body, content_type="application/json")
    assert answer.status_code == 400
    assert "\n" not in answer.json["error"]
    assert still.hints() == []


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_another_content_type_is_a_400(still: Service, kind: str) -> None:
    answer = still.client.post("/webhook", data=b'{"action": "START_TRAINING", "project": 2}', content_type=kind)
    assert (answer.status_code, still.hints()) == (400, [])


@pytest.mark.parametrize("action", ["PROJECT_UPDATED", "LABEL_LINK_CREATED", "", None, 7, ["START_TRAINING"], {}])
def test_an_unknown_action_is_accepted_and_ignored(still: Service, action: Any) -> None:
    assert still.post("/webhook", {"action": action, "project": {"id": 2}}).status_code == 200
    assert still.hints() == []


@pytest.mark.parametrize("number", ["\ud800", "1 or 1=1", True, -3, 2.5, 10**40, "²", [], {}])
def test_ids_that_are_no_ids_hint_at_nothing(service: Service, number: Any) -> None:
    sent = {"action": "ANNOTATION_CREATED", "project": {"id": 2}, "annotation": {"id": number, "task": number}}
    assert service.post("/webhook", sent).status_code == 200
    assert service.hints() == [Event("label-studio", "2", "labels")]


def test_a_project_nobody_connected_leaves_a_hint_and_nothing_else(service: Service) -> None:
    sent = {"action": "ANNOTATION_CREATED", "project": {"id": 999}, "annotation": {"id": 1, "task": 1}}
    assert service.post("/webhook", sent).status_code == 200
    calls = len(service.world.platform.calls)
    assert len(service.hints("999")) == 1
    Worker(service.store, ActiveLearningLoop(service.world.tools))._adopt()
    assert service.hints("999") == []
    assert [p.key for p in service.store.projects.all()] == [KEY]
    assert service.world.platform.calls[calls:] == []


def test_nothing_of_a_body_that_carries_tokens_reaches_the_log(
    service: Service, recorded: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    sent = recorded("setup.request")["body"] | {"access_token": "t0ken-of-a-person"}
    service.post("/setup", sent)
    service.post("/webhook", {"action": "ODD", "project": {"id": 2, "token": "t0ken-of-a-person"}})
    service.post("/predict", {"tasks": [], "params": {"login": "x", "password": "t0ken-of-a-person"}})
    service.post("/setup", {"project": None, "access_token": "t0ken-of-a-person"})
    assert "t0ken" not in caplog.text


# --- what we only read -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["polygonlabels", "keypointlabels", "ellipselabels", "brushlabels", "videorectangle"])
def test_a_region_of_another_kind_trains_as_nothing_and_is_said(kind: str, recorded: Any) -> None:
    region = {
        "polygonlabels": "region.polygonlabels",
        "keypointlabels": "region.keypointlabels",
        "ellipselabels": "region.ellipselabels",
        "brushlabels": "region.brushlabels",
        "videorectangle": "region.videorectangle",
    }[kind]
    kept, dropped = wire.boxes(_regions(recorded(region)), label_config.parse(CONFIG))
    assert kept == []
    assert len(dropped) == 1


def _regions(found: Any) -> list[Any]:
    region = found.get("region", found) if isinstance(found, dict) else found
    return region if isinstance(region, list) else [region]


def test_a_recorded_rectangle_trains_as_itself(recorded: Any) -> None:
    (region,) = _regions(recorded("region.rectanglelabels"))
    name = region["value"]["rectanglelabels"][0]
    config = CONFIG.replace('"Dog"', f'"{name}"') if name != "Car" else CONFIG
    config = config.replace('name="label"', f'name="{region["from_name"]}"')
    config = config.replace('name="image"', f'name="{region["to_name"]}"').replace(
        'toName="image"', f'toName="{region["to_name"]}"'
    )
    (box,), dropped = wire.boxes([region], label_config.parse(config))
    assert (box.name, dropped) == (name, [])
    assert box.xyxy[0] == pytest.approx(region["value"]["x"] / 100)


def test_a_prediction_submitted_untouched_is_known_as_such(recorded: Any) -> None:
    sent = recorded("ui.submit_annotation_from_prediction")["request"]["body"]
    (box,), _ = wire.boxes(sent["result"], label_config.parse(CONFIG))
    assert box.origin == "prediction"


@pytest.mark.parametrize("name", ["api.annotation_create", "api.export_json_all_tasks", "api.task_with_draft"])
def test_annotations_in_every_recorded_form_are_read(name: str, recorded: Any) -> None:
    spec = label_config.parse(CONFIG)
    body = recorded(name)["response"]["body"]
    for task in body if isinstance(body, list) else [body]:
        for raw in task.get("annotations", [task] if "result" in task else []):
            assert wire.annotation(raw, spec, task).id == str(raw["id"])
    if name == "api.task_with_draft":
        assert body["drafts"]
        assert body["annotations"] == [], "a draft is no answer"


@pytest.mark.parametrize("name", ["api.tasks_list_fields_all", "api.tasks_list_completed_since"])
def test_every_recorded_listing_of_tasks_is_read(name: str, recorded: Any) -> None:
    listed = recorded(name)["response"]["body"]["tasks"]
    found = [wire.sample(t, label_config.parse(CONFIG)) for t in listed]
    assert [s.id for s in found] == [str(t["id"]) for t in listed]


def test_our_rows_have_the_fields_of_a_recorded_import(recorded: Any) -> None:
    sent = recorded("api.import_predictions")["request"]["body"]
    stored = recorded("api.predictions_of_task")["response"]["body"]
    row = wire.prediction(
        QueueItem("1", 0.5, (ShownBox("Car", (1, 2, 30, 40), 0.9),), 64, 48), "v", label_config.parse(CONFIG)
    )
    assert set(row) <= set(sent[0])
    assert set(row) <= set(stored[0])
