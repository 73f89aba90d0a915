"""Who may post an event of CVAT, to which address, and with which body."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from hypothesis import given, settings
from hypothesis import strategies as st

from common.config import SECRET_HEADER
from common.web.app import create_app
from cvat_adapter import PLATFORM, app
from cvat_adapter.app import MAX_EVENT, SIGNATURE
from tests.contract.cvat_app_service import COMPLETED, KEY, LABELS, NOW, SECRET, Service, job_event, sign

BASIC = {"BASIC_AUTH_USER": "ann", "BASIC_AUTH_PASS": "open sesame"}
SIGNED_IN = {"Authorization": "Basic " + base64.b64encode(b"ann:open sesame").decode()}


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
