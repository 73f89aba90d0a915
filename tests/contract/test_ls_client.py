"""The Platform port against a small Label Studio that behaves, and refuses, as recorded."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from common.config import SECRET_HEADER, Settings
from common.domain import QueueItem
from common.errors import (
    AccessDeniedError,
    PlatformError,
    PlatformUnreachableError,
    ProjectGoneError,
    PublishError,
    SettingError,
)
from ls_backend.client import open_platform
from ls_backend.project import LabelStudioPlatform
from ls_backend.snapshot import ACTIONS
from ls_backend.tokens import Credentials, checked, is_personal
from tests.contract.ls_recorded import TOKEN as LEGACY
from tests.contract.ls_recorded import recorded_answer

CONFIG = (
    '<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">'
    '<Label value="Car"/></RectangleLabels></View>'
)
GONE = {"status_code": 404, "version": "1.23.2", "detail": "No Project matches the given query."}


def jwt(kind: str) -> str:
    parts = ({"alg": "HS256"}, {"token_type": kind, "exp": 8071306345})
    return ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts) + ".c2ln"


class FakeLabelStudio(httpx.BaseTransport):
    """One project, its backends, webhooks and tabs; ``refuse`` makes it say no, ``lost`` loses an answer."""

    def __init__(self) -> None:
        self.project: dict[str, Any] = {"id": 5, "title": "Floor", "label_config": CONFIG}
        self.project |= {"sampling": "Sequential sampling", "model_version": "", "show_collab_predictions": True}
        self.rows: dict[str, dict[int, dict[str, Any]]] = {"ml": {}, "webhooks": {}, "dm/views": {}}
        self.versions: set[str] = set()
        self.seen: list[tuple[str, str, Any]] = []
        self.headers: list[str] = []
        self.refuse: Callable[[str], httpx.Response | None] = lambda _: None
        self.lost = 0
        self.ids = iter(range(1, 1000))
        self.access = iter(f"access-{n}" for n in range(100))

    def writes(self) -> list[str]:
        return [f"{method} {path}" for method, path, _ in self.seen if method != "GET"]

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/ls").strip("/")
        body = json.loads(request.read() or b"null")
        self.seen.append((request.method, path, body))
        self.headers.append(request.headers.get("Authorization", ""))
        answer = self.refuse(f"{request.method} {path}")
        if answer is None:
            status, found = self._answer(request.method, path.removeprefix("api/"), body)
            answer = httpx.Response(status, json=found)
        if request.method != "GET" and len(self.writes()) == self.lost:
            answer = httpx.Response(502, text="bad gateway")
        answer.request = request
        return answer

    def _answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if path == "token/refresh":
            return 200, {"access": next(self.access)}
        if path == "tasks":
            return 200, {"tasks": []}
        if path == "projects/5":
            return self._project(method, body)
        if path == "projects/5/import/predictions":
            self.versions |= {row["model_version"] for row in body}
            return 201, {"created": len(body)}
        kind, _, row = path.rpartition("/") if path.rpartition("/")[2].isdecimal() else (path, "", "")
        return self._rows(method, kind, int(row or 0), body)

    def _project(self, method: str, body: Any) -> tuple[int, Any]:
        if method == "PATCH":
            version = body.get("model_version")
            if version and version not in self.versions | {b["title"] for b in self.rows["ml"].values()}:
                said = "Model version doesn't exist either as live model or as static predictions."
                return 400, {"detail": "Validation error", "validation_errors": {"model_version": [said]}}
            self.project |= body
        return 200, self.project

    def _rows(self, method: str, kind: str, row: int, body: Any) -> tuple[int, Any]:
        rows = self.rows[kind]
        if method == "GET":
            return 200, list(rows.values())
        if method == "DELETE":
            if kind == "ml" and row in rows and rows[row]["title"] == self.project["model_version"]:
                self.project["model_version"] = ""
            return (204, None) if rows.pop(row, None) else (404, {"detail": "Not found."})
        if method == "PATCH":
            rows[row] |= {"actions": [], **body}
            return 200, rows[row]
        made = {"id": next(self.ids), **body}
        rows[made["id"]] = made
        if kind == "ml":
            self._connected(body)
        return 201, made

    def _connected(self, body: Any) -> None:
        """What Label Studio does by itself when a backend is added."""
        self.project["model_version"] = self.project["model_version"] or body["title"]
        if body["url"] + "/webhook" in [hook["url"] for hook in self.rows["webhooks"].values()]:
            return
        hook = {"id": next(self.ids), "url": body["url"] + "/webhook", "headers": {}, "actions": []}
        self.rows["webhooks"][hook["id"]] = hook | {
            "send_payload": True,
            "send_for_all_actions": True,
            "is_active": True,
        }


@pytest.fixture
def server() -> FakeLabelStudio:
    return FakeLabelStudio()


class Opened:
    """Opens ports on the fake and closes them at the end."""

    def __init__(self, server: FakeLabelStudio, home: Path) -> None:
        self.server, self.home = server, home
        self.state: dict[str, Any] = {}
        self.saved: list[tuple[int, str]] = []
        self.ports: list[LabelStudioPlatform] = []

    def __call__(self, **changes: Any) -> LabelStudioPlatform:
        known: dict[str, Any] = {
            "label_studio_url": "http://studio:8080",
            "label_studio_api_key": LEGACY,
            "url": "http://us:9090",
            "home": self.home,
            "webhook_secret": ("s3cret",),
        }
        settings = Settings(_env_file=None, **known | changes)
        port = open_platform("5", settings, self.state, self._save, transport=self.server)
        self.ports.append(port)
        return port

    def _save(self, state: dict[str, Any]) -> None:
        self.saved.append((len(self.server.writes()), json.dumps(state)))


@pytest.fixture
def opened(server: FakeLabelStudio, tmp_path: Path) -> Iterator[Opened]:
    made = Opened(server, tmp_path)
    yield made
    for port in made.ports:
        port.close()


# --- connect and its undoing ---


def test_what_was_before_is_kept_before_the_first_write(opened: Opened) -> None:
    opened().connect(dry_run=False, replace=False)

    writes, state = opened.saved[0]
    assert writes == 0
    assert json.loads(state)["before"]["project"]["sampling"] == "Sequential sampling"


def test_a_webhook_is_always_sent_whole(opened: Opened, server: FakeLabelStudio) -> None:
    opened().connect(dry_run=False, replace=False)

    (sent,) = [body for method, path, body in server.seen if method == "PATCH" and path.startswith("api/webhooks")]
    assert set(sent) == {"url", "send_payload", "send_for_all_actions", "headers", "is_active", "actions"}
    assert (sent["headers"], sent["actions"]) == ({SECRET_HEADER: "s3cret"}, list(ACTIONS))


def test_the_title_trap_is_undone_at_once(opened: Opened, server: FakeLabelStudio) -> None:
    opened().connect(dry_run=False, replace=False)
    assert server.project["model_version"] == ""


def test_basic_authentication_goes_to_label_studio_and_into_no_change(opened: Opened, server: FakeLabelStudio) -> None:
    port = opened(basic_auth_user="us", basic_auth_pass=SecretStr("hidden-word"))

    told = " ".join(map(str, port.connect(dry_run=False, replace=False)))

    (row,) = server.rows["ml"].values()
    assert (row["auth_method"], row["basic_auth_user"], row["basic_auth_pass"]) == ("BASIC_AUTH", "us", "hidden-word")
    assert "hidden-word" not in told + json.dumps(opened.state)
    assert "s3cret" not in told


@pytest.mark.parametrize("write", [1, 2, 3, 4])
def test_an_answer_lost_at_any_write_is_taken_up_and_undone(
    opened: Opened, server: FakeLabelStudio, write: int
) -> None:
    before = json.dumps([server.project, server.rows])
    server.lost = write
    with pytest.raises(PlatformUnreachableError):
        opened().connect(dry_run=False, replace=False)
    opened.state = json.loads(opened.saved[-1][1])

    opened().connect(dry_run=False, replace=False)

    assert [len(rows) for rows in server.rows.values()] == [1, 1, 1]
    opened().disconnect()
    assert json.dumps([server.project, server.rows]) == before


@pytest.mark.parametrize("write", [1, 2, 3, 4])
def test_a_disconnect_that_broke_off_is_finished(opened: Opened, server: FakeLabelStudio, write: int) -> None:
    before = json.dumps([server.project, server.rows])
    port = opened()
    port.connect(dry_run=False, replace=False)
    port.publish("v", [QueueItem("1", 0.5)])
    port.activate("v")
    server.lost = len(server.writes()) + write
    with pytest.raises(PlatformUnreachableError):
        port.disconnect()

    opened().disconnect()

    assert json.dumps([server.project, server.rows]) == before
    assert opened.state == {}


def test_a_version_that_is_gone_at_disconnect_becomes_empty_and_is_said(
    opened: Opened, server: FakeLabelStudio
) -> None:
    server.versions = {"older"}
    server.project["model_version"] = "older"
    port = opened()
    port.connect(dry_run=False, replace=False)
    port.publish("v", [QueueItem("1", 0.5)])
    port.activate("v")
    server.versions = set()

    (change,) = [c for c in port.disconnect() if c.what == "model_version"]

    assert change.after == "'' (Label Studio no longer has 'older')"
    assert (server.project["model_version"], server.project["sampling"]) == ("", "Sequential sampling")


def test_a_webhook_that_was_there_before_gets_its_own_headers_and_events_back(
    opened: Opened, server: FakeLabelStudio
) -> None:
    theirs = {"id": 77, "url": "http://us:9090/webhook/", "headers": {"A": "b"}, "actions": ["TASKS_CREATED"]}
    theirs |= {"send_payload": False, "send_for_all_actions": False, "is_active": False}
    server.rows["webhooks"][77] = dict(theirs)
    port = opened()
    port.connect(dry_run=False, replace=False)
    assert server.rows["webhooks"][77]["headers"] == {"A": "b", SECRET_HEADER: "s3cret"}

    port.disconnect()

    assert server.rows["webhooks"][77] == theirs


# --- refusals: one sentence each, with the fix ---


def test_a_private_address_is_refused_and_the_row_taken_back(
    opened: Opened, server: FakeLabelStudio, shared: Path
) -> None:
    def half(call: str) -> httpx.Response | None:
        if call != "POST api/ml":
            return None
        server.rows["ml"][90] = {"id": 90, "title": "hardfirst", "url": "http://us:9090"}
        return recorded_answer(shared, "api.ssrf_blocked_error")

    server.refuse = half
    with pytest.raises(
        PlatformError, match=r"HARDFIRST_URL http://us:9090, a private address.*SSRF_PROTECTION_ENABLED"
    ):
        opened().connect(dry_run=False, replace=False)
    assert server.rows["ml"] == {}


def test_a_backend_with_another_password_is_said(opened: Opened, server: FakeLabelStudio, shared: Path) -> None:
    wrong = recorded_answer(shared, "api.ml_connect_wrong_password")
    server.refuse = lambda call: wrong if call == "POST api/ml" else None
    with pytest.raises(PlatformError, match="does not accept BASIC_AUTH_USER and BASIC_AUTH_PASS"):
        opened().connect(dry_run=False, replace=False)


def test_an_unreachable_backend_is_said_without_markup(opened: Opened, server: FakeLabelStudio) -> None:
    said = "Can't connect to ML backend http://us:9090, health check failed. <a href='x'>Learn more</a>"
    body = {"detail": "Validation error", "validation_errors": {"non_field_errors": [said]}}
    down = httpx.Response(400, json=body)
    server.refuse = lambda call: down if call == "POST api/ml" else None
    with pytest.raises(PlatformError, match="start 'hardfirst serve'") as caught:
        opened().connect(dry_run=False, replace=False)
    assert "<a" not in str(caught.value)


LEGACY_OFF = "Authentication token no longer valid: legacy token authentication has been disabled for this organization"


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (httpx.Response(401, json={"detail": "Invalid token."}), AccessDeniedError, "does not accept the token"),
        (httpx.Response(401, json={"detail": LEGACY_OFF}), AccessDeniedError, "no longer takes legacy tokens"),
        (
            httpx.Response(403, json={"detail": "No."}),
            AccessDeniedError,
            "read project 5: it lacks the right 'projects.view'",
        ),
        (httpx.Response(404, json=GONE), ProjectGoneError, "has no project 5 for this token"),
        (httpx.Response(404, text="<html>nginx</html>"), PlatformError, "does not answer like Label Studio"),
        (httpx.Response(200, text="<html>hello</html>"), PlatformError, "does not answer like Label Studio"),
        (httpx.Response(301, headers={"Location": "https://x"}), PlatformError, "with http or https"),
        (httpx.Response(500, text="oops"), PlatformUnreachableError, "status 500"),
        (httpx.Response(429, json={}), PlatformUnreachableError, "try again later"),
        (httpx.Response(418, json={"detail": "tea"}), PlatformError, r"status 418\): tea"),
    ],
)
def test_each_refusal_is_one_sentence_without_the_token(
    opened: Opened, server: FakeLabelStudio, answer: httpx.Response, kind: type[Exception], says: str, quick: None
) -> None:
    server.refuse = lambda _: answer
    with pytest.raises(PlatformError, match=says) as caught:
        opened().spec()
    assert type(caught.value) is kind
    assert LEGACY not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_writes_without_rights_name_the_right(opened: Opened, server: FakeLabelStudio) -> None:
    server.refuse = lambda call: None if call.startswith("GET") else httpx.Response(403, json={"detail": "No."})
    with pytest.raises(
        AccessDeniedError, match=r"add an ML backend to project 5: it lacks the right 'projects.change'"
    ):
        opened().connect(dry_run=False, replace=False)
    with pytest.raises(AccessDeniedError, match=r"change project 5.*'projects.change'"):
        opened().activate("v")
    with pytest.raises(AccessDeniedError, match=r"import predictions into project 5.*'predictions.any'"):
        opened().publish("v", [QueueItem("1", 0.5)])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between tries."""
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)


def test_reading_is_tried_again_and_writing_is_not(opened: Opened, server: FakeLabelStudio, quick: None) -> None:
    down = iter([httpx.Response(502), httpx.Response(503), None])
    server.refuse = lambda _: next(down)
    assert opened().spec().names == ("Car",)

    server.refuse = lambda call: httpx.Response(502) if call.startswith("PATCH") else None
    with pytest.raises(PlatformUnreachableError):
        opened().activate("v")
    assert server.writes() == ["PATCH api/projects/5"]


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (httpx.ConnectError("[Errno 111] Connection refused"), "cannot be reached .*LABEL_STUDIO_URL"),
        (httpx.ReadTimeout("timed out"), "did not answer in time when asked to read project 5"),
    ],
)
def test_silence_is_one_sentence(
    opened: Opened, server: FakeLabelStudio, failure: Exception, says: str, quick: None
) -> None:
    def fail(_: str) -> httpx.Response:
        raise failure

    server.refuse = fail
    with pytest.raises(PlatformUnreachableError, match=says):
        opened().spec()


# --- tokens ---


def test_a_legacy_token_is_sent_as_it_is(opened: Opened, server: FakeLabelStudio) -> None:
    port = opened(label_studio_api_key=SecretStr(f" {LEGACY}\n"))
    port.spec()
    assert server.headers == [f"Token {LEGACY}"]
    assert dict(port.media_headers()) == {"Authorization": f"Token {LEGACY}"}


def test_a_personal_token_is_exchanged_once_and_again_when_refused(opened: Opened, server: FakeLabelStudio) -> None:
    port = opened(label_studio_api_key=SecretStr(jwt("refresh")))
    port.spec()
    port.spec()
    assert server.headers == ["", "Bearer access-0", "Bearer access-0"]
    assert dict(port.media_headers()) == {"Authorization": "Bearer access-0"}

    stale = iter([httpx.Response(401, json={"detail": "expired"})])
    server.refuse = lambda call: next(stale, None) if call == "PATCH api/projects/5" else None
    port.activate("")
    assert server.headers[-3:] == ["Bearer access-0", "", "Bearer access-1"]


def test_a_personal_token_is_renewed_before_it_dies() -> None:
    now, made = [0.0], iter("abc")
    credentials = Credentials(jwt("refresh"), lambda _: next(made), lambda: now[0])
    seen = []
    for now[0] in (0, 209, 211, 420, 422):
        seen.append(credentials.headers()["Authorization"])
    assert seen == ["Bearer a", "Bearer a", "Bearer b", "Bearer b", "Bearer c"]


def test_an_access_token_is_refused_before_it_dies() -> None:
    assert is_personal(jwt("refresh"))
    assert not is_personal(LEGACY)
    assert not is_personal("a.b.c")
    with pytest.raises(AccessDeniedError, match="lives five minutes"):
        checked(jwt("access"))


@pytest.mark.parametrize("token", ["", "   ", "two words", "tökén"])
def test_what_cannot_be_a_token_is_refused(token: str) -> None:
    with pytest.raises(SettingError, match="LABEL_STUDIO_API_KEY"):
        checked(token)


def test_tokens_and_secrets_never_reach_the_log(
    opened: Opened, server: FakeLabelStudio, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for token in (LEGACY, jwt("refresh")):
        port = opened(
            label_studio_api_key=SecretStr(token), basic_auth_user="u", basic_auth_pass=SecretStr("hidden-word")
        )
        port.connect(dry_run=False, replace=False)
        port.media_headers()
        assert "api/projects/5" in caplog.text
        assert not [s for s in (token, "access-0", "s3cret", "hidden-word") if s in caplog.text]


@pytest.mark.parametrize(
    ("project", "changes", "says"),
    [
        ("5", {"label_studio_url": None}, "LABEL_STUDIO_URL is not set"),
        ("5", {"label_studio_api_key": None}, "LABEL_STUDIO_API_KEY is not set"),
        ("5", {"label_studio_url": "studio:8080"}, "LABEL_STUDIO_URL is 'studio:8080'"),
        ("floor", {}, "project is 'floor'"),
    ],
)
def test_missing_settings_are_one_sentence(project: str, changes: dict[str, Any], says: str) -> None:
    known = {"label_studio_url": "http://studio:8080", "label_studio_api_key": LEGACY}
    with pytest.raises(SettingError, match=says):
        open_platform(project, Settings(_env_file=None, **known | changes), {})


# --- publishing ---


def test_rows_that_would_be_dropped_are_not_sent(opened: Opened, server: FakeLabelStudio) -> None:
    with pytest.raises(PublishError, match="score is nan"):
        opened().publish("v", [QueueItem("1", 0.5), QueueItem("2", float("nan"))])
    assert server.writes() == []


def test_a_row_added_to_the_version_that_serves_keeps_its_exact_place_and_switches_nothing(
    opened: Opened, server: FakeLabelStudio
) -> None:
    port, between = opened(), 0.25 + 1e-12
    port.publish("v", [QueueItem("1", 0.25), QueueItem("2", 0.5)])
    port.activate("v")
    assert port.publish("v", [QueueItem("3", between)]) == 1
    imported = "POST api/projects/5/import/predictions"
    assert server.writes() == [imported, "PATCH api/projects/5", imported]
    (row,) = server.seen[-1][2]
    assert (row["task"], row["model_version"], row["score"]) == (3, "v", between)


def test_nothing_to_publish_sends_nothing(opened: Opened, server: FakeLabelStudio) -> None:
    assert opened().publish("v", []) == 0
    assert server.seen == []


def test_a_deleted_task_in_the_queue_is_said(opened: Opened, server: FakeLabelStudio, shared: Path) -> None:
    bad = recorded_answer(shared, "api.import_predictions_bad_task_error")
    server.refuse = lambda call: bad if call.startswith("POST") else None
    with pytest.raises(PublishError, match="a task of the queue was deleted from project 5"):
        opened().publish("v", [QueueItem("1", 0.5)])


# --- addresses ---


@pytest.mark.parametrize(
    ("base", "uri", "url"),
    [
        ("http://studio:8080", "/data/upload/1/a.png", "http://studio:8080/data/upload/1/a.png"),
        ("http://studio:8080/", "/data/local-files/?d=a/b.png", "http://studio:8080/data/local-files/?d=a/b.png"),
        ("https://h/ls", "/data/upload/1/a.png", "https://h/ls/data/upload/1/a.png"),
        ("https://h/ls", "/ls/data/upload/1/a.png", "https://h/ls/data/upload/1/a.png"),
        ("https://h/ls", "s3://b/a.png", "https://h/ls/tasks/7/resolve/?fileuri=czM6Ly9iL2EucG5n"),
        ("https://h", "gs://b/a?.png", "https://h/tasks/7/resolve/?fileuri=Z3M6Ly9iL2E_LnBuZw=="),
        ("https://h", "azure-blob://b/a.png", "https://h/tasks/7/resolve/?fileuri=YXp1cmUtYmxvYjovL2IvYS5wbmc="),
        ("https://h", "https://elsewhere/a.png", "https://elsewhere/a.png"),
        ("https://h", "//elsewhere/a.png", "//elsewhere/a.png"),
        ("https://h", "", ""),
    ],
)
def test_an_image_has_one_absolute_address(opened: Opened, base: str, uri: str, url: str) -> None:
    assert opened(label_studio_url=base).media_url("7", uri) == url


def test_origin_and_link_know_the_path_label_studio_lives_under(opened: Opened) -> None:
    port = opened(label_studio_url="https://h:8443/ls/")
    assert port.media_origin() == "https://h:8443"
    assert port.link("7") == "https://h:8443/ls/projects/5/data?task=7"
    assert port.spec().title == "Floor"


def test_links_begin_with_the_address_that_browsers_know(opened: Opened) -> None:
    port = opened(label_studio_url="http://studio:8080", label_studio_links="https://label.example/")
    assert port.link("7") == "https://label.example/projects/5/data?task=7"
    assert port.media_origin() == "http://studio:8080"
