"""What CVAT really sends, against the application: every recorded event, every way it can go wrong; /api/jobs."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from common.config import SECRET_HEADER
from common.domain import Event, LabelledBox
from common.loop import ActiveLearningLoop
from common.store import engine
from common.store.projects import ProjectRow
from common.store.publications import Place
from common.web.app import create_app
from common.web.backend import Backend
from common.worker import Worker
from cvat_adapter import PLATFORM, app, webhook
from cvat_adapter.app import IMPORT_S, MAX_EVENT, SAVED_S, SIGNATURE
from tests.fakes import FakePlatform, World, make_world

KEY = "cvat:4"
SECRET = "contract-test-secret"
"""What the recorded events are signed with."""
US, ANNOTATOR = 2, 3
CONFIGURED = {"webhook_secret": (SECRET,), "cvat_url": "http://cvat.example:8080/"}
BASIC = {"BASIC_AUTH_USER": "ann", "BASIC_AUTH_PASS": "open sesame"}
SIGNED_IN = {"Authorization": "Basic " + base64.b64encode(b"ann:open sesame").decode()}
LABELS, SAMPLES = Event("cvat", "4", "labels"), Event("cvat", "4", "samples")
NOW, SAVED, IMPORT = 0.0, SAVED_S, IMPORT_S

HINTS: dict[str, tuple[Event, float] | None] = {
    "completed_request_create_task__failed": None,
    "completed_request_create_task__finished": (SAMPLES, NOW),
    "completed_request_export_annotations__failed": None,
    "completed_request_export_annotations__finished": None,
    "completed_request_export_dataset__failed": None,
    "completed_request_export_dataset__finished": None,
    "create_comment": None,
    "create_issue": None,
    "create_job": (SAMPLES, IMPORT),
    "create_task": (SAMPLES, NOW),
    "delete_job": (SAMPLES, IMPORT),
    "delete_task": (SAMPLES, NOW),
    "ping": None,
    "update_issue__resolved": None,
    "update_job__annotations_or_touch_only": None,
    "update_job__assignee_id+assignee_updated_date_cleared": (LABELS, NOW),
    "update_job__assignee_id+assignee_updated_date_set": (LABELS, NOW),
    "update_job__stage+state+status_acceptance_completed": (LABELS, NOW),
    "update_job__stage+state+status_annotation_new": (LABELS, NOW),
    "update_job__stage+state+status_validation_new": (LABELS, NOW),
    "update_job__state_completed": (LABELS, NOW),
    "update_job__state_in-progress": (LABELS, NOW),
    "update_job__state_rejected": (LABELS, NOW),
    "update_project__annotations_or_touch_only": None,
    "update_task__annotations_or_touch_only": None,
    "update_task__bug_tracker+name": (SAMPLES, NOW),
    "update_task__data_id": (SAMPLES, NOW),
    "update_task__dimension+media_type+mode": (SAMPLES, NOW),
    "update_task__dimension+media_type+mode+overlap": (SAMPLES, NOW),
    "update_task__dimension+media_type+mode+overlap+segment_size": (SAMPLES, NOW),
}
"""What each recorded event makes worth a look, and in how many seconds."""


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


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    made.store.close()


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all requests that must leave no trace."""
    made = Service(tmp_path_factory.mktemp("still"))
    made.connected()
    yield made
    made.store.close()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Service]:
    """With Basic auth."""
    made = Service(tmp_path, **BASIC)
    yield made
    made.store.close()


Recorded = Callable[[str], Any]


@pytest.fixture
def recorded(shared: Path) -> Recorded:
    return lambda name: json.loads((folder_of(shared) / f"{name}.json").read_text())


def folder_of(shared: Path) -> Path:
    return shared / "contracts/cvat/webhook_events"


def job_event(changes: Mapping[str, Any] | None, *, state: str = "new", sender: int = ANNOTATOR, **more: Any) -> Any:
    job = {"id": 10, "task_id": 4, "project_id": 4, "type": "annotation", "state": state, "stage": "annotation"}
    said = {} if changes is None else {"changes": {"updated_date": {"from": "a", "to": "b"}, **changes}}
    return {"event": "update:job", "webhook_id": 2, "job": job | more, "sender": {"id": sender}, **said}


COMPLETED = job_event({"state": {"from": "in progress", "to": "completed"}}, state="completed")


# --- recorded events -------------------------------------------------------------------------------------


def test_every_recorded_event_stands_in_the_table(shared: Path) -> None:
    assert {p.stem for p in folder_of(shared).glob("*.json")} == set(HINTS)


@pytest.mark.parametrize("path", ["/webhooks", "/webhooks/"])
def test_every_recorded_event_is_believed_and_becomes_the_right_hint(
    service: Service, recorded: Recorded, path: str
) -> None:
    service.connected()
    found: dict[str, tuple[Event, float] | None] = {}
    for name in HINTS:
        sent = recorded(name)
        service.backend.taken = []
        answer = service.client.post(path, data=sent["raw_body"].encode(), headers=sent["request_headers"])
        assert (answer.status_code, answer.json) == (200, {"status": "ok"}), name
        assert len(service.backend.taken) <= 1
        found[name] = service.backend.taken[0] if service.backend.taken else None
    assert found == HINTS


def test_servers_that_say_only_what_was_before_are_understood_all_the_same(
    service: Service, recorded: Recorded
) -> None:
    service.connected()
    for name, wanted in HINTS.items():
        body = recorded(name)["body"]
        body.pop("changes", None)
        assert service.taken(body) == ([wanted] if wanted else []), name


def test_a_redelivered_event_has_its_keys_in_another_order_and_is_believed(
    service: Service, recorded: Recorded
) -> None:
    service.connected()
    for name, wanted in HINTS.items():
        assert service.taken(turned(recorded(name)["body"])) == ([wanted] if wanted else []), name


def turned(value: Any) -> Any:
    """The same JSON, every object's keys the other way round."""
    return {k: turned(value[k]) for k in reversed(value)} if isinstance(value, dict) else value


def test_the_events_we_ask_for_are_those_we_understand() -> None:
    assert set(webhook.WANTED) <= set(app.MEANINGS)
    assert webhook.target("http://adapter.example:9000/") == "http://adapter.example:9000/webhooks"


# --- what an event means ---------------------------------------------------------------------------------


def test_a_save_in_a_completed_job_is_looked_at_once_later_and_in_another_job_never(service: Service) -> None:
    service.connected()
    save = job_event({}, state="completed")
    assert service.taken(save, save, save) == [(LABELS, SAVED_S)] * 3
    assert service.hints() == []
    with sqlite3.connect(service.backend.settings.folder / "inbox.db") as inbox:
        assert inbox.execute("SELECT count(*) FROM event").fetchone() == (1,)
    inbox.close()
    for state in ("new", "in progress", "rejected"):
        assert service.taken(job_event({}, state=state)) == []


@pytest.mark.parametrize(
    ("event", "wanted"),
    [
        (job_event({"assignee": {"from": None, "to": {"id": 3}}}), [(LABELS, NOW)]),
        (job_event({"guide_id": {"from": None, "to": 3}}), []),
        (job_event(None, state="completed"), [(LABELS, SAVED_S)]),
        (job_event({"state": {"from": "new", "to": "completed"}}, type="ground_truth"), []),
        (job_event({"state": {"from": "new", "to": "completed"}}, type="consensus_replica"), []),
        ({"event": "update:project", "project": {"id": 4}, "changes": {"name": {}}}, [(SAMPLES, NOW)]),
        ({"event": "update:project", "project": {"id": 4}, "changes": {"labels": {}}}, [(SAMPLES, NOW)]),
        ({"event": "update:project", "project": {"id": 4}, "changes": {"bug_tracker": {}}}, []),
        ({"event": "delete:project", "project": {"id": 4}}, [(SAMPLES, NOW)]),
        ({"event": "create:task", "task": {"id": 9, "project_id": None}}, []),
        ({"event": "create:membership", "membership": {"id": 9}}, []),
        ({"event": "update:user", "project": {"id": 4}}, []),
    ],
)
def test_further_events_that_were_not_recorded(service: Service, event: Any, wanted: Any) -> None:
    service.connected()
    assert service.taken(event) == wanted


def test_what_we_do_ourselves_makes_no_work(service: Service, recorded: Recorded) -> None:
    service.connected(user={"id": US, "name": "plugin"}, sibling=40)
    assign = recorded("update_job__assignee_id+assignee_updated_date_set")["body"]
    assert assign["sender"]["id"] == US
    queue_task = {"event": "create:task", "task": {"id": 9, "project_id": 40}, "sender": {"id": US}}
    imported = recorded("completed_request_create_task__finished")["body"]
    imported["request"]["operation"]["project_id"] = 40
    assert service.taken(assign, queue_task, imported) == []
    others = [assign | {"sender": {"id": ANNOTATOR}}, queue_task | {"sender": {"id": ANNOTATOR}}]
    assert service.taken(*others) == [(LABELS, NOW), (SAMPLES, NOW)]


def test_a_person_who_labels_with_our_account_is_heard(service: Service, recorded: Recorded) -> None:
    """We never change a job's state nor add tasks to the project: without an organisation there is one account."""
    service.connected(user={"id": US, "name": "plugin"})
    completed, created = recorded("update_job__state_completed")["body"], recorded("create_task")["body"]
    assert (completed["sender"]["id"], created["sender"]["id"]) == (US, US)
    assert service.taken(completed, created) == [(LABELS, NOW), (SAMPLES, NOW)]


def test_queue_tasks_in_the_sibling_project_are_told_of_the_project_they_are_for(service: Service) -> None:
    service.connected(sibling=40)
    service.store.projects.ask("cvat", "5")
    job = job_event({"state": {"from": "in progress", "to": "completed"}}, project_id=40)
    assert service.taken(job) == [(LABELS, NOW)]
    service.store.projects.update(KEY, state="archived")
    assert service.taken(job) == []


@pytest.mark.parametrize("state", [None, "archived"])
def test_a_project_that_is_not_connected_leaves_no_row_and_is_not_connected_by_an_event(
    service: Service, state: str | None
) -> None:
    if state is None:
        service.store.forget(KEY)
    else:
        service.store.projects.update(KEY, state=state)
    assert service.taken(COMPLETED) == []
    Worker(service.store, ActiveLearningLoop(service.world.tools))._adopt()
    assert [p.state for p in service.store.projects.all()] == ([] if state is None else [state])


@pytest.mark.parametrize("state", ["asked", "stopped"])
def test_a_project_that_waits_for_something_hears_all_the_same(service: Service, state: str) -> None:
    service.store.projects.update(KEY, state=state)
    assert service.taken(COMPLETED) == [(LABELS, NOW)]


@pytest.mark.parametrize(
    ("state", "stage", "read"),
    [
        ("completed", "annotation", True),
        ("in progress", "annotation", False),
        ("in progress", "validation", True),
        ("rejected", "validation", False),
        ("in progress", None, False),
    ],
)
def test_what_is_saved_in_a_job_that_counts_is_read(
    service: Service, state: str, stage: str | None, *, read: bool
) -> None:
    service.connected()
    assert service.taken(job_event({}, state=state, stage=stage)) == ([(LABELS, SAVED)] if read else [])


# --- twice, late, in any order ---------------------------------------------------------------------------


def test_events_in_any_order_and_again_leave_the_same_hints(service: Service, recorded: Recorded) -> None:
    service.connected(user={"id": 99, "name": "robot"})
    names = ("update_job__state_in-progress", "update_job__state_completed", "update_job__state_rejected", "create_job")
    bodies = [recorded(n)["body"] for n in names]
    for order in itertools.permutations(bodies):
        again = [*order, turned(order[0]), order[-1]]
        assert set(service.taken(*again)) == {(LABELS, NOW), (SAMPLES, IMPORT)}
        assert set(service.hints()) == {LABELS}
        service.store.inbox.forget("cvat", "4")


def test_the_same_event_ten_times_at_once_has_one_effect(service: Service) -> None:
    service.settle()
    service.platform.annotate("100", LabelledBox("cat", (0.1, 0.1, 0.5, 0.5)))
    start = threading.Barrier(10)
    data = json.dumps(COMPLETED).encode()

    def post(_: int) -> int:
        start.wait()
        client = service.flask.test_client()
        return client.post("/webhooks", data=data, headers=sign(data), content_type="application/json").status_code

    before = service.row().revision
    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(post, range(10))) == [200] * 10
    service.settle()
    assert service.row().revision == before + 1
    assert len(service.store.labels.at(KEY)["100"]) == 1
    assert service.hints() == []


# --- who may post ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {SIGNATURE: ""},
        {SIGNATURE: "sha256="},
        {SIGNATURE: "sha256=" + "0" * 64},
        {SIGNATURE: sign(b"{other")[SIGNATURE]},
        {SIGNATURE: sign(b"{not json", "guess")[SIGNATURE]},
        {SIGNATURE: sign(b"{not json", "")[SIGNATURE]},
        {SIGNATURE: sign(b"{not json")[SIGNATURE].removeprefix("sha256=")},
        {SIGNATURE: sign(b"{not json")[SIGNATURE].replace("sha256", "sha1")},
        {SIGNATURE: "sha256=\xe9\xff"},
        {SECRET_HEADER: SECRET},
        SIGNED_IN,
    ],
)
def test_an_event_without_the_right_signature_is_refused_and_not_parsed(
    guarded: Service, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.web.body.json.loads", lambda *_, **__: pytest.fail("the body was parsed"))
    for path in ("/webhooks", "/webhooks/"):
        answer = guarded.client.post(path, data=b"{not json", headers=headers, content_type="application/json")
        assert answer.status_code == 401
        assert SIGNATURE.encode() in answer.data
    assert guarded.backend.taken == []


def test_the_signature_is_enough_and_opens_no_other_door(guarded: Service) -> None:
    guarded.connected()
    assert guarded.taken(COMPLETED) == [(LABELS, NOW)]
    for path in (f"/api/jobs?project={KEY}", f"/api/queue?project={KEY}", "/metrics", "/nowhere"):
        assert guarded.client.get(path, headers=sign(b"")).status_code == 401, path
    assert guarded.client.get(f"/api/jobs?project={KEY}", headers=SIGNED_IN).status_code == 200


def test_the_signature_is_of_the_bytes_and_not_of_what_they_say(still: Service) -> None:
    spaced = json.dumps(COMPLETED, indent=1).encode()
    dense = json.dumps(COMPLETED, separators=(",", ":")).encode()
    answer = still.client.post("/webhooks", data=dense, headers=sign(spaced), content_type="application/json")
    assert answer.status_code == 401


def test_during_a_rotation_the_old_and_the_new_secret_pass(tmp_path: Path) -> None:
    made = Service(tmp_path)
    rotating = made.backend.settings.model_copy(update={"webhook_secret": ("new", "old", "")})
    made.backend.tools.settings = rotating
    client = create_app(made.backend, [PLATFORM]).test_client()
    data = b'{"event": "ping"}'
    answers = [
        client.post("/webhooks", data=data, headers=sign(data, s), content_type="application/json").status_code
        for s in ("new", "old", "older", "")
    ]
    assert answers == [200, 200, 401, 401]
    made.store.close()


def test_signatures_are_compared_in_constant_time_and_with_all_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    def compare(right: bytes, _given: bytes) -> bool:
        compared.append(right)
        return True

    monkeypatch.setattr("cvat_adapter.app.hmac.compare_digest", compare)
    assert app.signed(["one", "two"], b"x", "sha256=0")
    assert compared == [sign(b"x", s)[SIGNATURE].encode() for s in ("one", "two")]


# --- the address -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/webhooks", "/webhooks/"])
def test_only_a_post_is_taken(still: Service, method: str, path: str) -> None:
    assert still.client.open(path, method=method).status_code == 405


def test_a_get_is_told_what_makes_one_of_a_post_also_without_a_password(guarded: Service) -> None:
    answer = guarded.client.get("/webhooks/")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert answer.json["error"].endswith("so give HARDFIRST_URL as it is behind the redirect")


@pytest.mark.parametrize("strict", [True, False])
def test_neither_form_of_the_address_redirects(still: Service, strict: bool) -> None:
    flask = Flask("strict", static_folder=None)
    flask.url_map.strict_slashes = strict
    flask.register_blueprint(PLATFORM.blueprint(still.backend))
    data = b'{"event": "ping"}'
    for path in ("/webhooks", "/webhooks/"):
        answer = flask.test_client().post(path, data=data, headers=sign(data), content_type="application/json")
        assert answer.status_code == 200


# --- bodies ----------------------------------------------------------------------------------------------


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
        b'{"event": NaN}',
        b'{"event": "ping", "webhook": {"project_id": ' + b"9" * 5000 + b"}}",
        b"\xff\xfe\x00",
    ],
)
def test_a_signed_body_that_is_no_json_object_is_a_400_in_one_sentence(still: Service, body: bytes) -> None:
    answer = still.post(body)
    assert answer.status_code == 400
    assert "\n" not in answer.json["error"]
    assert still.hints() == []


def test_a_megabyte_is_enough_for_any_event(still: Service) -> None:
    answer = still.post({"event": "update:job", "padding": "x" * MAX_EVENT})
    assert (answer.status_code, still.hints()) == (413, [])


NOUNS = ("job", "task", "project", "request", "webhook", "sender", "changes", "before_update")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
odd_nouns = st.fixed_dictionaries(
    {},
    optional={
        name: st.just(4) | st.sampled_from(["4", "annotation", "completed", "finished"]) | json_values
        for name in ("id", "project_id", "state", "type", "status", "operation", "owner")
    },
)
odd_events = st.fixed_dictionaries(
    {"event": st.sampled_from([*app.MEANINGS, "ping"]) | json_values},
    optional=dict.fromkeys(NOUNS, odd_nouns | json_values),
)


@settings(max_examples=300, deadline=None)
@given(sent=odd_events | st.dictionaries(st.text(max_size=8), json_values))
def test_no_signed_object_whatever_it_holds_is_an_error_of_ours(still: Service, sent: Any) -> None:
    assert still.post(sent).status_code in (200, 400)


@pytest.mark.parametrize("number", ["4", True, -4, 0, 4.0, 10**40, [4], {"id": 4}, None])
def test_an_id_that_is_none_names_no_project(still: Service, number: Any) -> None:
    assert still.taken(job_event({"state": {}}, project_id=number)) == []


# --- what it costs ---------------------------------------------------------------------------------------


def test_an_event_costs_one_read_by_key_one_row_with_its_trace_and_calls_nobody(service: Service) -> None:
    service.connected(user={"id": US, "name": "plugin"})
    said: list[str] = []
    for one in (service.store.engine, service.store._inbox_engine):
        sa.event.listen(one, "before_cursor_execute", lambda *a: said.append(a[2].split()[0]))
    service.taken(COMPLETED)
    assert [word for word in said if word not in ("BEGIN", "PRAGMA")] == ["SELECT", "INSERT", "INSERT"]
    said.clear()
    service.taken({"event": "ping"}, job_event({}), {"event": "create:comment", "comment": {"id": 1}})
    assert said == []
    assert service.platform.calls == []


def test_a_locked_inbox_is_a_503_so_that_cvat_tries_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BUSY_S", 0.05)
    made = Service(tmp_path)
    other = sqlite3.connect(made.backend.settings.folder / "inbox.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    answer = made.post(COMPLETED)
    assert (answer.status_code, "locked" in answer.json["error"]) == (503, True)
    other.execute("ROLLBACK")
    other.close()
    assert made.post(COMPLETED).status_code == 200
    made.store.close()


# --- /api/jobs and /api/queue ----------------------------------------------------------------------------


def kept(rank: int | None, **values: Any) -> dict[str, Any]:
    """What the keeper writes about a job of frames 4 to 7 of task 4."""
    about = {"rank": rank, "value": 0.9, "reason": "frame 5: entropy 0.9", "sample": "4:5", "task": 4}
    place = {"start": 4, "stop": 7, "state": "new", "stage": "annotation"}
    return {**about, **place, "assignee": None, "assignee_name": "", "mode": "inbox", **values}


def test_jobs_come_best_first_with_their_assignee_and_reason(service: Service) -> None:
    publish(service)
    rows = {"9": kept(2, assignee=3, assignee_name="annotator1"), "10": kept(1), "11": kept(None), "8": kept(None)}
    service.store.memories.of(KEY).put("job", rows)
    answer = service.client.get(f"/api/jobs?project={KEY}")
    assert answer.status_code == 200
    assert list(answer.json) == ["project", "version", "mode", "jobs"]
    assert (answer.json["project"], answer.json["mode"]) == (KEY, "inbox")
    assert answer.json["version"] == service.backend.version("cvat", "4") != ""
    assert [(j["id"], j["rank"], j["assignee"]) for j in answer.json["jobs"]] == [
        (10, 1, None),
        (9, 2, "annotator1"),
        (8, None, None),
        (11, None, None),
    ]
    first = answer.json["jobs"][0]
    wanted = ["id", "rank", "value", "reason", "task", "frames", "state", "stage", "assignee", "link"]
    assert list(first) == wanted
    assert (first["frames"], first["state"], first["stage"]) == ([4, 7], "new", "annotation")
    assert first["link"] == "http://cvat.example:8080/tasks/4/jobs/10?frame=5"


def test_a_job_of_a_queue_task_opens_at_its_first_frame(service: Service) -> None:
    service.connected(options={"queue": "task"})
    assert service.client.get(f"/api/jobs?project={KEY}").json["mode"] == "task"
    row = kept(1, sample="4:5", task=77, start=0, stop=9, mode="task")
    service.store.memories.of(KEY).put("job", {"30": row, "31": {**row, "sample": "", "rank": 2}})
    links = [j["link"] for j in service.client.get(f"/api/jobs?project={KEY}").json["jobs"]]
    assert links == [f"http://cvat.example:8080/tasks/77/jobs/{n}?frame=0" for n in (30, 31)]


def test_without_cvats_address_the_jobs_are_shown_without_links(tmp_path: Path) -> None:
    made = Service(tmp_path, cvat_url=None)
    made.store.memories.of(KEY).put("job", {"9": kept(1)})
    assert [j["link"] for j in made.client.get(f"/api/jobs?project={KEY}").json["jobs"]] == [""]
    made.store.close()


def test_links_begin_with_the_address_that_browsers_know(tmp_path: Path) -> None:
    made = Service(tmp_path, cvat_links="https://cvat.example/")
    made.store.memories.of(KEY).put("job", {"9": kept(1)})
    link = made.client.get(f"/api/jobs?project={KEY}").json["jobs"][0]["link"]
    assert link.startswith("https://cvat.example/tasks/")
    made.store.close()


def test_a_limit_shortens_the_list_of_jobs(service: Service) -> None:
    service.store.memories.of(KEY).put("job", {str(n): kept(n) for n in range(1, 6)})
    for limit, length in (("0", 0), ("2", 2), ("100", 5)):
        assert len(service.client.get(f"/api/jobs?project={KEY}&limit={limit}").json["jobs"]) == length
    for limit in ("-1", "x", "", "9" * 30):
        answer = service.client.get(f"/api/jobs?project={KEY}&limit={limit}")
        assert answer.status_code == 400
        assert answer.json == service.client.get(f"/api/queue?project={KEY}&limit={limit}").json


def test_a_project_without_jobs_is_said_as_the_queue_says_it(service: Service) -> None:
    empty = {"project": KEY, "version": "", "mode": "inbox", "jobs": []}
    assert service.client.get(f"/api/jobs?project={KEY}").json == empty
    service.store.memories.of(KEY).put("job", {"9": kept(1)})
    service.store.projects.update(KEY, state="archived")
    assert service.client.get(f"/api/jobs?project={KEY}").json == empty
    service.store.projects.ask("label-studio", "2")
    for query in ("", "?project=4", "?project=cvat:9"):
        ours, queues = (service.client.get(f"/api/{name}{query}") for name in ("jobs", "queue"))
        assert (ours.status_code, ours.json) == (queues.status_code, queues.json)
    answer = service.client.get("/api/jobs?project=label-studio:2")
    assert (answer.status_code, answer.json["error"].endswith("give one of CVAT, such as cvat:4")) == (400, True)


def test_five_thousand_jobs_are_shown_at_once(service: Service) -> None:
    service.store.memories.of(KEY).put("job", {str(n): kept(n) for n in range(1, 5001)})
    answer = service.client.get(f"/api/jobs?project={KEY}")
    assert [j["id"] for j in answer.json["jobs"]] == list(range(1, 5001))


def test_the_queue_has_links_into_cvats_jobs(service: Service) -> None:
    publish(service, "4:5", "4:0")
    items = service.client.get(f"/api/queue?project={KEY}").json["items"]
    assert [(i["id"], i["link"]) for i in items] == [
        ("4:5", "http://cvat.example:8080/tasks/4/jobs/9?frame=5"),
        ("4:0", "http://cvat.example:8080/tasks/4/jobs/9?frame=0"),
    ]


def publish(service: Service, *samples: str) -> None:
    """An active order of these samples."""
    service.connected()
    service.platform.tasks = dict.fromkeys(samples, "0.png")
    service.store.samples.replace(KEY, service.platform.samples())
    places = [Place(i, s, i / 10, 1 - i / 10, {}) for i, s in enumerate(samples, start=1)]
    row = service.store.publications.create(
        KEY, name="hardfirst", round_number=0, checkpoint=None, sha8="0" * 8, places=places, seconds={}
    )
    service.store.publications.activate(row)
