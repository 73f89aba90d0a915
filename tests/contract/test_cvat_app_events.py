"""What CVAT's events mean: every recorded one and others, twice, late, in any order, and what they cost."""

from __future__ import annotations

import itertools
import json
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from common.domain import Event, LabelledBox
from common.loop import ActiveLearningLoop
from common.store import engine
from common.worker import Worker
from cvat_adapter import app, webhook
from cvat_adapter.app import SAVED_S
from tests.contract.cvat_app_service import (
    ANNOTATOR,
    COMPLETED,
    IMPORT,
    KEY,
    LABELS,
    NOW,
    SAMPLES,
    SAVED,
    US,
    Service,
    job_event,
    service_fixture,  # noqa: F401 - fixtures are found by name
    sign,
)

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


Recorded = Callable[[str], Any]


@pytest.fixture
def recorded(shared: Path) -> Recorded:
    return lambda name: json.loads((folder_of(shared) / f"{name}.json").read_text())


def folder_of(shared: Path) -> Path:
    return shared / "contracts/cvat/webhook_events"


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
