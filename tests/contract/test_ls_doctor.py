"""What the doctor finds in Label Studio, against recorded answers with one thing wrong at a time."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from common.config import SECRET_HEADER, Settings
from common.errors import SettingError
from common.ports import Finding, Patient
from ls_backend.checks import CHECKS, FIRST, examine
from ls_backend.client import open_platform
from ls_backend.project import LabelStudioPlatform
from ls_backend.snapshot import ACTIONS, SAMPLING
from tests.contract.ls_recorded import TOKEN, RecordedLabelStudio
from tests.unit.cvat_memory import DictMemory

STUDIO, HERE, SECRET = "http://studio:8080", "http://127.0.0.1:9191", "hush"
VERSION = "hardfirst@1.1-0a1b2c3d"


class Surgery:
    """The recorded project 31, connected and well; what is changed before ``look`` is what is wrong."""

    def __init__(self, server: RecordedLabelStudio, home: Path) -> None:
        self.server, self.home = server, home
        self.project = server.body("api.project_create") | {"sampling": SAMPLING, "model_version": VERSION}
        (self.backend,) = server.body("api.ml_list")
        (hook,) = server.body("api.webhooks_list_after_connect")
        good = {"send_for_all_actions": False, "actions": list(ACTIONS), "headers": {SECRET_HEADER: SECRET}}
        self.hooks: list[dict[str, Any]] = [hook | good]
        self.connected, self.answers, self.version = True, True, VERSION
        self.coming: str | None = None

    def settings(self, **changes: Any) -> Settings:
        known: dict[str, Any] = {
            "label_studio_url": STUDIO,
            "label_studio_api_key": SecretStr(TOKEN),
            "home": self.home,
        }
        known |= {"url": HERE, "basic_auth_user": "user1", "basic_auth_pass": SecretStr("hidden")}
        return Settings(_env_file=None, **known | {"webhook_secret": (SECRET,)} | changes)

    def play(self) -> None:
        says = self.server.says
        says("GET /health", {"status": "UP"})
        says("GET /api/current-user/whoami", {"id": 1, "email": "admin@example.com"})
        says("GET /api/projects/31", self.project)
        says("GET /api/ml", [self.backend] if self.backend else [])
        says("GET /api/webhooks", self.hooks)
        says("GET /api/dm/views", [])

    def look(self, **changes: Any) -> dict[str, Finding]:
        self.play()
        return self.seen(**changes)

    def seen(self, **changes: Any) -> dict[str, Finding]:
        version = self.version or None
        patient = Patient("31", self.connected, self.answers, version, {}, DictMemory(), self.port, self.coming)
        found = examine(self.settings(**changes), [patient], transport=self.server)
        assert not any(secret in str(f) for f in found for secret in (TOKEN, SECRET, "hidden"))
        return {f.name: f for f in found}

    @contextmanager
    def port(self) -> Iterator[LabelStudioPlatform]:
        port = open_platform("31", self.settings(), {}, transport=self.server)
        yield port
        port.close()


@pytest.fixture
def surgery(shared: Path, tmp_path: Path) -> Surgery:
    return Surgery(RecordedLabelStudio(shared), tmp_path)


def bad(found: dict[str, Finding]) -> list[str]:
    return [name for name, f in found.items() if f.state in ("problem", "warning")]


def test_a_healthy_project_has_every_check_and_nothing_to_say(surgery: Surgery) -> None:
    found = surgery.look()
    assert list(found) == [*FIRST, *CHECKS]
    assert bad(found) == []
    assert {f.about for n, f in found.items() if n in CHECKS} == {"31"}
    assert surgery.server.writes() == []


def test_the_requests_are_the_recorded_ones(surgery: Surgery) -> None:
    surgery.look()
    assert surgery.server.differences("api.ml_list") == []
    assert surgery.server.differences("api.webhooks_list_after_connect") == []


# --- Label Studio itself ---------------------------------------------------------------------------------


class Refuses(httpx.BaseTransport):
    """No connection, or one answer to everything."""

    def __init__(self, answer: httpx.Response | None = None) -> None:
        self.answer = answer

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self.answer is None:
            raise httpx.ConnectError("[Errno 111] Connection refused", request=request)
        return self.answer


def test_a_refused_connection_is_a_finding_with_its_fix(surgery: Surgery) -> None:
    found = {f.name: f for f in examine(surgery.settings(), [], transport=Refuses())}
    assert found["address"].state == "problem"
    assert "Connection refused" in found["address"].evidence
    assert "LABEL_STUDIO_URL" in found["address"].fix
    assert list(found) == ["address", "clock"]


def test_another_program_at_the_address_is_said(surgery: Surgery) -> None:
    page = httpx.Response(200, text="<html>nginx</html>", headers={"Date": "Sat, 01 Jan 2000 00:00:00 GMT"})
    address, clock = examine(surgery.settings(), [], transport=Refuses(page))
    assert "does not answer like Label Studio" in address.evidence
    assert (clock.state, "behind ours" in clock.evidence) == ("warning", True)


def test_settings_that_are_missing_are_the_callers_to_tell() -> None:
    with pytest.raises(SettingError, match="LABEL_STUDIO_URL is not set"):
        examine(Settings(_env_file=None), [])


def access_token() -> str:
    parts = ({"alg": "HS256"}, {"token_type": "access"})
    return ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts) + ".c2ln"


def test_the_wrong_kinds_of_token_are_told_apart(surgery: Surgery) -> None:
    short = surgery.look(label_studio_api_key=SecretStr(access_token()))["token"]
    assert (short.state, "five minutes" in short.evidence) == ("problem", True)
    server = RecordedLabelStudio(surgery.server._folder.parents[1])
    surgery.server = server
    server.says("GET /health", {"status": "UP"})
    said = "Authentication token no longer valid: legacy token authentication has been disabled for this organization"
    server.says("GET /api/current-user/whoami", {"detail": said}, 401)
    found = surgery.seen()
    assert "no longer takes legacy tokens" in found["token"].evidence
    assert "personal access token" in found["token"].fix
    assert list(found) == ["address", "clock", "token"]


def test_a_project_that_the_token_may_not_read_is_said(surgery: Surgery) -> None:
    surgery.server.says("GET /api/projects/31", {"detail": "no"}, 403)
    found = surgery.look()
    assert (found["rights"].state, "projects.view" in found["rights"].fix) == ("problem", True)


# --- the project -----------------------------------------------------------------------------------------


def test_a_label_config_that_is_not_served_is_said(surgery: Surgery) -> None:
    surgery.project["label_config"] = "<View><Video name='v' value='$v'/></View>"
    assert bad(surgery.look()) == ["label config"]


def test_a_backend_that_a_person_took_out_is_said(surgery: Surgery) -> None:
    surgery.backend = None
    found = surgery.look()
    assert "no ML backend has the address http://127.0.0.1:9191" in found["backend"].evidence
    assert "hardfirst connect label-studio --project 31" in found["backend"].fix


def test_refused_private_addresses_need_both_settings(surgery: Surgery) -> None:
    """Label Studio does not say why: it reaches nothing, and hardfirst answers at that address all the same."""
    surgery.backend |= {"state": "DI", "readable_state": "Disconnected"}
    found = surgery.look()
    assert bad(found) == ["backend", "private addresses"]
    for name in ("ML_BLOCK_LOCAL_IP=false", "SSRF_PROTECTION_ENABLED=false"):
        assert name in found["private addresses"].fix


def test_the_recorded_refusal_is_known_by_its_words(surgery: Surgery) -> None:
    said = surgery.server.body("api.ssrf_blocked_error")["detail"]
    surgery.backend |= {"state": "ER", "error_message": said}
    surgery.answers = False
    found = surgery.look()
    assert found["private addresses"].state == "problem"
    assert found["backend"].fix == "start `hardfirst serve`"


def test_before_the_project_is_connected_a_private_address_is_a_warning(surgery: Surgery) -> None:
    surgery.backend, surgery.hooks, surgery.connected, surgery.version = None, [], False, ""
    found = surgery.look()
    assert bad(found) == ["private addresses"]
    assert found["private addresses"].state == "warning"
    assert surgery.seen(url="http://8.8.8.8:9090")["private addresses"].state == "ok"


def test_a_backend_without_our_password_is_said(surgery: Surgery) -> None:
    surgery.backend |= {"state": "DI", "auth_method": "NONE", "basic_auth_user": None}
    assert "BASIC_AUTH_USER" in surgery.look()["backend"].fix


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"headers": {}}, "carries no secret"),
        ({"headers": {SECRET_HEADER: "old"}}, "or another one"),
        ({"is_active": False}, "inactive"),
        ({"actions": ["ANNOTATION_CREATED"]}, "1 events"),
    ],
)
def test_a_webhook_that_is_not_ours_alone_is_found_and_mended(
    surgery: Surgery, change: dict[str, Any], said: str
) -> None:
    good, surgery.hooks = surgery.hooks, [surgery.hooks[0] | change]
    found = surgery.look()
    assert bad(found) == ["webhook"]
    assert said in found["webhook"].evidence
    surgery.server.says("PATCH /api/webhooks/10", {})
    assert found["webhook"].mend is not None
    assert "the webhook of project 31 was" in found["webhook"].mend()
    assert surgery.server.writes() == ["PATCH /api/webhooks/10"]
    sent = surgery.server.sent[-1].body
    assert (sent["headers"][SECRET_HEADER], set(sent["actions"])) == (SECRET, set(good[0]["actions"]))


def test_a_webhook_that_is_gone_is_made_by_the_mend(surgery: Surgery) -> None:
    surgery.hooks = []
    found = surgery.look()
    assert bad(found) == ["private addresses", "webhook"]
    surgery.server.says("POST /api/webhooks", {"id": 11}, 201)
    assert found["webhook"].mend is not None
    found["webhook"].mend()
    assert surgery.server.writes() == ["POST /api/webhooks"]


def test_webhooks_of_a_hardfirst_elsewhere_are_found_and_deleted(surgery: Surgery) -> None:
    surgery.hooks.append(surgery.hooks[0] | {"id": 12, "url": "http://10.0.0.9:9191/webhook"})
    found = surgery.look()
    assert bad(found) == ["orphan webhooks"]
    assert "http://10.0.0.9:9191/webhook" in found["orphan webhooks"].evidence
    surgery.server.says("DELETE /api/webhooks/12", None, 204)
    assert found["orphan webhooks"].mend is not None
    assert found["orphan webhooks"].mend() == "deleted 1 webhooks that were ours: 12"
    assert surgery.server.writes() == ["DELETE /api/webhooks/12"]


def test_a_webhook_of_somebody_elses_backend_is_only_named(surgery: Surgery) -> None:
    surgery.hooks.append(surgery.hooks[0] | {"id": 13, "url": "http://u:pw@other:1/webhook", "headers": {}})
    orphan = surgery.look()["orphan webhooks"]
    assert (orphan.state, orphan.mend, "u:pw" in orphan.evidence) == ("warning", None, False)


def test_what_is_left_after_a_backend_was_deleted_is_an_orphan(surgery: Surgery) -> None:
    surgery.backend, surgery.connected, surgery.version = None, False, ""
    assert surgery.look()["orphan webhooks"].state == "problem"


def test_an_order_that_takes_over_at_this_moment_is_no_problem(surgery: Surgery) -> None:
    surgery.coming = surgery.project["model_version"] = "hardfirst@2.3-0a1b2c3d"
    found = surgery.look()
    assert bad(found) == []
    assert "takes over" in found["model version"].evidence


def test_a_model_version_equal_to_the_backends_title_is_found_and_mended(surgery: Surgery) -> None:
    surgery.project["model_version"] = "al-yolo"
    found = surgery.look()
    assert bad(found) == ["model version"]
    assert "the order is random" in found["model version"].evidence
    surgery.server.says("PATCH /api/projects/31", {})
    assert found["model version"].mend is not None
    assert "it is put back" in found["model version"].mend()
    assert surgery.server.sent[-1].body == {"model_version": VERSION}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"model_version": "somebody's"}, "model version"),
        ({"sampling": "Sequential sampling"}, "sampling"),
        ({"show_collab_predictions": False}, "sampling"),
    ],
)
def test_what_a_person_chose_is_said_and_never_mended(surgery: Surgery, change: dict[str, Any], name: str) -> None:
    surgery.project |= change
    found = surgery.look()
    assert bad(found) == [name]
    assert found[name].mend is None
