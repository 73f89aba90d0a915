"""Log lines: JSON for machines, one trace from a request to the published order, no secret in any."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, jsonify, request

from common import logs
from common.config import Settings
from common.domain import Event
from common.jobs import LocalRunner
from common.logs.lines import VARIABLE, JsonHandler, TextLines
from common.logs.redaction import RedactingFilter
from common.ports import TrainingSpec
from common.web.app import create_app
from common.web.backend import Backend
from common.worker import Worker
from tests.fakes import World, make_world
from tests.unit.test_loop import CAT, KEY

TRACE = "0af7651916cd43dd8448eb211c80319c"


class Lines:
    """What a handler of ours wrote."""

    def __init__(self, *secrets: str) -> None:
        self.out = io.StringIO()
        self.handler = JsonHandler("worker")
        self.handler.setStream(self.out)
        self.handler.addFilter(RedactingFilter(logs.Redactor(secrets)))

    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.getvalue().splitlines()]

    def of(self, trace: str) -> list[str]:
        return [line["message"] for line in self.all() if line.get("trace") == trace]


@pytest.fixture
def lines() -> Iterator[Lines]:
    made, root = Lines("s3cret-of-ours"), logging.getLogger()
    root.addHandler(made.handler)
    level = root.level
    root.setLevel(logging.INFO)
    yield made
    root.removeHandler(made.handler)
    root.setLevel(level)


def test_a_json_line_says_when_in_utc_where_what_and_of_which_work(lines: Lines) -> None:
    with logs.bound(trace=TRACE, project="fake:1", round=3):
        logging.getLogger("some.library").warning("%d of %s", 2, "three", extra={"seconds": 0.5})
    (line,) = lines.all()
    assert datetime.fromisoformat(line.pop("time")).tzinfo == UTC
    assert line == {
        **{"level": "warning", "process": "worker", "logger": "some.library", "message": "2 of three"},
        **{"trace": TRACE, "project": "fake:1", "round": 3, "seconds": 0.5},
    }


def test_an_error_is_one_json_line_with_its_type_and_where_it_came_from(lines: Lines) -> None:
    try:
        raise ZeroDivisionError("s3cret-of-ours divided by zero")
    except ZeroDivisionError:
        logging.getLogger("x").exception("it went wrong")
    (line,) = lines.all()
    assert (line["level"], line["error"]) == ("error", "ZeroDivisionError")
    assert line["traceback"].endswith("ZeroDivisionError: *** divided by zero")


def test_what_cannot_be_formatted_is_a_line_all_the_same(lines: Lines) -> None:
    logging.getLogger("x").warning("%d images", "many")
    assert lines.all()[0]["message"] == "%d images (cannot be formatted: TypeError)"


def test_a_text_line_ends_with_the_trace_and_has_no_control_character() -> None:
    record = logging.LogRecord("x", logging.INFO, "x.py", 1, "done", None, None)
    with logs.bound(trace=TRACE):
        assert TextLines("%(levelname)s %(message)s").format(record) == f"INFO done  [trace {TRACE}]"
    assert TextLines("%(message)s").format(record) == "done"


def test_a_library_with_handlers_of_its_own_writes_through_ours(capsys: pytest.CaptureFixture[str]) -> None:
    library = logging.getLogger("ultralytics")
    own = logging.StreamHandler(io.StringIO())
    library.addHandler(own)
    try:
        logs.set_up(Settings(_env_file=None, log_json=True, label_studio_api_key="k3y-of-label-studio"), "web")
        library.error("no weights for k3y-of-label-studio")
        assert own.stream.getvalue() == ""
        assert json.loads(capsys.readouterr().err)["message"] == "no weights for ***"
    finally:
        library.removeHandler(own)
        library.filters.clear()


# --- traces ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}, TRACE),
        ({"traceparent": f"cc-{TRACE}-b7ad6b7169203331-01-what-comes-later"}, TRACE),
        ({"X-Request-ID": "req-2026.11_21"}, "req-2026.11_21"),
        ({"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "X-Request-ID": "req-2026"}, TRACE),
    ],
)
def test_a_trace_that_a_request_names_is_taken(headers: dict[str, str], wanted: str) -> None:
    assert logs.taken(headers) == wanted


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"traceparent": f"ff-{TRACE}-b7ad6b7169203331-01"},
        {"traceparent": f"00-{'0' * 32}-b7ad6b7169203331-01"},
        {"traceparent": f"00-{TRACE}-{'0' * 16}-01"},
        {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01-more"},
        {"traceparent": f"00-{TRACE.upper()}-b7ad6b7169203331-01"},
        {"X-Request-ID": "short"},
        {"X-Request-ID": "x" * 65},
        {"X-Request-ID": 'forged"\nline 12345'},
    ],
)
def test_no_other_is(headers: dict[str, str]) -> None:
    found = logs.taken(headers)
    assert len(found) == 32
    assert found not in str(headers)


class FakePlugin:
    """A platform whose webhook says which kind of event it is."""

    name = "fake"
    options = ()

    def blueprint(self, backend: Backend) -> Blueprint:
        routes = Blueprint("fake", __name__)

        def webhook() -> Any:
            sent = request.get_json()
            backend.record(Event("fake", "1", sent["kind"], tuple(sent.get("samples", ()))))
            return jsonify(status="ok")

        routes.add_url_rule("/webhook", "webhook", webhook, methods=["POST"])
        return routes


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = make_world(tmp_path, images=6)
    yield made
    made.tools.store.close()


def settle(world: World) -> None:
    worker = Worker(world.tools.store, loop_of(world))
    for _ in range(60):
        if not worker.turn():
            return
    pytest.fail("the worker never came to rest")


def loop_of(world: World) -> Any:
    from common.loop import ActiveLearningLoop

    return ActiveLearningLoop(world.tools)


def post(world: World, kind: str, trace: str, *samples: str) -> Any:
    app = create_app(Backend(world.tools, lambda *_: []), [FakePlugin()])  # type: ignore[list-item]
    answer = app.test_client().post(
        "/webhook", json={"kind": kind, "samples": samples}, headers={"X-Request-ID": trace}
    )
    assert (answer.status_code, answer.headers["X-Request-ID"]) == (200, trace)
    return answer


def test_one_id_goes_from_the_webhook_to_the_published_order(world: World, lines: Lines) -> None:
    settle(world)
    lines.out.seek(0)
    lines.out.truncate()
    world.clock[0] += 1
    for task in world.platform.order()[:4]:
        world.platform.annotate(task, CAT)
        post(world, "labels", "of-the-labels", task)
    post(world, "train", "of-the-wish")
    settle(world)
    world.trainer.finish()
    settle(world)

    said = lines.of("of-the-wish")
    beginnings = [text.removeprefix(f"{KEY}: ").split(":")[0] for text in said]
    version = world.platform.active
    assert beginnings[0].startswith("round 1 starts")
    assert [b for b in beginnings if b.startswith(("round 1 done", "ordered 6", "ordered 2"))] == beginnings[1:3]
    assert f"{KEY}: published {version}, which is active: 2 images" in said
    assert f"{KEY}: reads what 5 events are about: labels, train" in lines.of("of-the-labels")
    (line,) = [line for line in lines.all() if "round 1 done" in line["message"]]
    assert (line["project"], line["round"]) == (KEY, 1)

    from common.loop.asking import ANSWERS

    row = world.tools.store.projects.get(KEY)
    assert row is not None
    assert [r["trace"] for r in ANSWERS["rounds"](world.tools, row)["rounds"]] == ["of-the-wish"]
    assert ANSWERS["status"](world.tools, row)[0]["trace"] == "of-the-wish"


def test_labels_begin_a_round_under_the_trace_of_the_first_of_those_read_together(world: World, lines: Lines) -> None:
    settle(world)
    for number, task in enumerate(world.platform.order()[:4]):
        world.platform.annotate(task, CAT)
        post(world, "labels", f"label-no-{number}", task)
    settle(world)
    world.clock[0] += 61
    settle(world)
    assert any("round 1 starts" in text for text in lines.of("label-no-0"))
    assert not lines.of("label-no-1")


def test_a_trace_survives_the_restart_of_the_worker_and_of_the_store(tmp_path: Path, world: World) -> None:
    post(world, "train", "of-the-wish")
    (hint,) = world.tools.store.inbox.pending("fake", "1")
    assert hint.trace == "of-the-wish"
    world.tools.store.inbox.forget("fake", "1")
    with logs.bound(trace="another-one"):
        world.tools.store.inbox.add(Event("fake", "1", "labels"))
    world.tools.store.inbox.add(Event("fake", "1", "labels"))
    assert [h.trace for h in world.tools.store.inbox.pending("fake", "1")] == ["another-one", ""]


def test_a_failure_is_told_under_the_trace_of_the_event_that_was_being_read(world: World, lines: Lines) -> None:
    settle(world)
    post(world, "labels", "of-the-label")
    world.platform.down = True
    settle(world)
    assert f"{KEY}: the platform does not answer" in lines.of("of-the-label")


def test_a_request_leaves_no_trace_to_the_next_one_of_its_thread(world: World) -> None:
    first = post(world, "labels", "of-the-first").headers["X-Request-ID"]
    assert (first, logs.current()) == ("of-the-first", "")


def test_an_error_of_ours_names_the_trace_and_no_secret(world: World, lines: Lines) -> None:
    app = create_app(Backend(world.tools, lambda *_: []), [])

    def broken() -> Any:
        raise KeyError("token=abcdefgh12345678")

    app.add_url_rule("/broken", "broken", broken)
    answer = app.test_client().get("/broken", headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"})
    assert (answer.status_code, answer.json["trace"], answer.headers["X-Request-ID"]) == (500, TRACE, TRACE)
    assert TRACE in answer.json["error"]
    (line,) = [line for line in lines.all() if line.get("trace") == TRACE]
    assert line["error"] == "KeyError"
    assert "abcdefgh" not in lines.out.getvalue()


def test_a_training_is_told_the_trace_though_another_thread_starts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from common.yolo import trainer

    told = tmp_path / "told.json"
    code = f"import os, pathlib; pathlib.Path({str(told)!r}).write_text(os.environ[{VARIABLE!r}])"
    monkeypatch.setattr(trainer, "command", lambda _folder, _parent: ["python3", "-c", code])
    (tmp_path / "base.pt").write_bytes(b"")
    runner = LocalRunner(tmp_path)
    spec = TrainingSpec(tmp_path / "round", tmp_path / "base.pt", ("cat",), 64, 4, 0, 4, "cpu", 1, 1, 1)
    with logs.bound(trace=TRACE, project=KEY, round=7):
        runner.start(spec)
    wait = threading.Event()
    for _ in range(200):
        if told.exists() and told.read_text():
            break
        wait.wait(0.05)
    runner.close()
    assert json.loads(told.read_text())["fields"] == {"trace": TRACE, "project": KEY, "round": 7}


# --- secrets ---------------------------------------------------------------------------------------------

SECRET = 'pä55 w/ord&"x'


@pytest.mark.parametrize(
    "text",
    [
        "the token is {secret}",
        "GET http://h/x?a=1&b=p%C3%A4%35%35 refused {secret}",
        "b={quoted}",
        '{{"message": {json}}}',
        "Authorization: Basic {pair}",
    ],
)
def test_a_configured_secret_is_seen_in_no_coding(text: str) -> None:
    import base64
    from urllib.parse import quote

    settings = Settings(_env_file=None, basic_auth_user="ann", basic_auth_pass=SECRET)
    pair = base64.b64encode(f"ann:{SECRET}".encode()).decode()
    given = text.format(secret=SECRET, quoted=quote(SECRET, safe=""), json=json.dumps(SECRET), pair=pair)
    redacted = logs.Redactor(logs.known_secrets(settings, {}))(given)
    assert "***" in redacted
    for form in (SECRET, quote(SECRET, safe=""), json.dumps(SECRET)[1:-1], pair):
        assert form not in redacted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("http://ann:pw@h/x", "http://***@h/x"),
        ("postgresql+psycopg://u:pw@h/db refused", "postgresql+psycopg://***@h/db refused"),
        (
            "https://b/x?X-Amz-Credential=A%2Fb&X-Amz-Signature=0f",
            "https://b/x?X-Amz-Credential=***&X-Amz-Signature=***",
        ),
        ("https://h/i.jpg?w=3&token=abc", "https://h/i.jpg?w=3&token=***"),
        ("https://b/x?sv=2&sig=ab%3D", "https://b/x?sv=2&sig=***"),
        ("{'Authorization': 'Token 0123abcd'}", "{'Authorization': 'Token ***'}"),
        ("X-Hardfirst-Secret: abc", "X-Hardfirst-Secret: ***"),
        ("sent Bearer eyJhbGciOi.eyJ1c2Vy.c2ln", "sent Bearer ***"),
        ("Cookie: a=b; sessionid=c", "Cookie: ***"),
        ('{"password": "a b", "key": "cvat:4"}', '{"password": "***", "key": "cvat:4"}'),
    ],
)
def test_what_looks_like_a_secret_is_not_seen_either(text: str, wanted: str) -> None:
    assert logs.Redactor()(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "LABEL_STUDIO_API_KEY is not set: copy a personal access token",
        "the token has expired; Basic authentication is on",
        "project is '12'; give it as platform:id, such as label-studio:12",
        "https://h/a?author=ann&design=2&project=label-studio:12",
        "no platform 'x'; there are ['cvat', 'label-studio']",
    ],
)
def test_sentences_stay_as_they_are(text: str) -> None:
    assert logs.Redactor()(text) == text


def test_every_secret_of_the_settings_is_known(tmp_path: Path) -> None:
    (tmp_path / "webhook-secret").write_text("made-by-ourselves\n")
    secret = [n for n, f in Settings.model_fields.items() if "SecretStr" in str(f.annotation)]
    assert len(secret) >= 4
    settings = Settings(
        _env_file=None,
        home=tmp_path,
        **{name: f"value-of-{name}" for name in secret},
        basic_auth_user="ann",
        webhook_secret=("first-secret", "second-secret"),
        database_url="postgresql+psycopg://u:db%2Fpass@h/x",
    )
    found = logs.known_secrets(settings, {"AWS_SECRET_ACCESS_KEY": "of-somebody", "TOKEN_COUNT": "3"})
    wanted = {f"value-of-{name}" for name in secret}
    assert {
        *wanted,
        "first-secret",
        "second-secret",
        "db%2Fpass",
        "db/pass",
        "of-somebody",
        "made-by-ourselves",
    } <= set(found)
    assert "3" not in found
