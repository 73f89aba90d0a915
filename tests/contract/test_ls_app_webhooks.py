"""Webhooks of Label Studio: what each means, who may post, odd bodies, and the same event at once ten times."""

from __future__ import annotations

import base64
import logging
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from common.config import SECRET_HEADER
from common.domain import Event, LabelledBox
from common.loop import ActiveLearningLoop
from common.store import engine
from common.web.app import MAX_BODY
from common.worker import Worker
from ls_backend import app
from tests.contract.ls_app_service import (
    BASIC,
    KEY,
    SECRET,
    SIGNED,
    Service,
    guarded_fixture,  # noqa: F401 - fixtures are found by name
    names,
    recorded_fixture,  # noqa: F401
    replay,
    service_fixture,  # noqa: F401
    still_fixture,  # noqa: F401
)


@pytest.fixture(scope="module")
def guarded_still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The same with Basic auth and a webhook secret."""
    made = Service(tmp_path_factory.mktemp("guarded"), webhook_secret=("hush",), **BASIC)
    yield made
    made.store.close()


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
