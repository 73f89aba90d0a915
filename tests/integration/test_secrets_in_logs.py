"""A real `hardfirst serve` beside a platform that fails: no secret in any line, one trace from request to worker."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from common.config import Settings
from common.domain import Event
from common.store import open_store
from tests.service import Hardfirst
from tests.serving import in_a_thread

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
KEY = "k3y0f1abe1studi0" + "0" * 24
SECRETS = {
    "LABEL_STUDIO_API_KEY": KEY,
    "CVAT_ACCESS_TOKEN": "t0ken-0f-cvat-1234",
    "BASIC_AUTH_PASS": "b4sic/pass w\u00f6rd",
    "HARDFIRST_WEBHOOK_SECRET": "we8hook-secret-new,olde8-secret-1",
}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Failing(BaseHTTPRequestHandler):
    """A platform that answers every request with an error which repeats what it was sent."""

    def _answer(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode(errors="replace")
        signed = f"https://bucket/a.jpg?X-Amz-Signature=5igned0f3&token=qu3ry-t0ken {self.headers.get('Authorization')}"
        body = json.dumps({"detail": f"no: {signed} {sent} {SECRETS['CVAT_ACCESS_TOKEN']}"}).encode()
        self.send_response(400)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815 - the library's names

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture
def platform() -> Iterator[str]:
    with in_a_thread(ThreadingHTTPServer(("127.0.0.1", 0), Failing)) as url:
        yield url.replace("://", "://us3r:pas5w0rd@")


@pytest.mark.parametrize("as_json", ["0", "1"])
def test_no_secret_is_in_any_output_of_a_service_whose_platform_and_webhooks_fail(
    tmp_path: Path, platform: str, as_json: str
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    store = open_store(Settings(_env_file=None, home=home).database, home)
    store.projects.ask("label-studio", "1")
    store.projects.update("label-studio:1", state="active")
    store.close()
    access = {**SECRETS, "LABEL_STUDIO_URL": platform, "CVAT_URL": platform, "BASIC_AUTH_USER": "ann"}
    service = Hardfirst(home, "label-studio", access, {"HARDFIRST_LOG_JSON": as_json, "HARDFIRST_HOST": "127.0.0.1"})
    service.healthy = lambda: _status(service) in (200, 401)  # type: ignore[method-assign]
    with service:
        said = [_post(service, **how) for how in WEBHOOKS]
        service.wait(lambda: "reads what" in service.log.read_text(), "the worker to read the event", 60)
        service.wait(lambda: "label-studio:1: " in service.log.read_text().split("reads what")[1], "its failure", 60)
        if as_json == "0":
            said += [service.run("status"), service.run("status", "--json"), service.run("settings")]
        _break(home)
        said.append(_post(service, secret="we8hook-secret-new"))
    everything = service.log.read_text() + "".join(said)
    for secret in [*_values(), "pas5w0rd", "5igned0f3", "qu3ry-t0ken", "wr0ng-secret-99"]:
        assert secret not in everything, secret
    assert "/webhook answered 503: the database answered 'no such table: event'" in service.log.read_text()
    assert "***" in service.log.read_text()  # they were there to be taken out
    if as_json == "1":
        lines = [json.loads(line) for line in service.log.read_text().splitlines() if line.startswith("{")]
        of_trace = {(line["process"], line["logger"]) for line in lines if line.get("trace") == TRACE}
        assert {("web", "gunicorn.access"), ("worker", "common.loop.reading")} <= of_trace
        others = [line for line in service.log.read_text().splitlines() if not line.startswith("{")]
        assert len(others) == 1  # what a person reads first: the address


WEBHOOKS: list[dict[str, Any]] = [
    {"secret": "we8hook-secret-new"},
    {"secret": "wr0ng-secret-99"},
    {"password": SECRETS["BASIC_AUTH_PASS"]},
    {"secret": "olde8-secret-1", "query": "?token=qu3ry-t0ken&X-Amz-Signature=5igned0f3"},
    {"secret": "we8hook-secret-new", "body": b"{" * 2000},
]
"""Right, wrong, with Basic auth, with secrets in the address, with a body that is none."""


def _post(service: Hardfirst, secret: str = "", password: str = "", query: str = "", body: bytes | None = None) -> str:
    sent = body or json.dumps({"action": "START_TRAINING", "project": {"id": 1}}).encode()
    headers = {"Content-Type": "application/json", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    headers |= {"X-Hardfirst-Secret": secret} if secret else {}
    auth = ("ann", password) if password else None
    answer = httpx.post(
        f"{service.url}/webhook{query}", content=sent, headers=headers, auth=auth, timeout=30, trust_env=False
    )
    assert answer.headers["X-Request-ID"] == TRACE
    return answer.text


def _status(service: Hardfirst) -> int:
    try:
        return httpx.get(f"{service.url}/health", timeout=5, trust_env=False).status_code
    except httpx.HTTPError:
        return 0


def _break(home: Path) -> None:
    """Every webhook fails from now on."""
    with sqlite3.connect(home / "inbox.db") as inbox:
        inbox.execute("DROP TABLE event")
    inbox.close()


def _values() -> list[str]:
    plain = [value for text in SECRETS.values() for value in text.split(",")]
    pair = base64.b64encode(f"ann:{SECRETS['BASIC_AUTH_PASS']}".encode()).decode()
    return [*plain, pair, json.dumps(SECRETS["BASIC_AUTH_PASS"])[1:-1]]


def test_an_event_keeps_its_trace_in_a_file_that_an_earlier_version_made(tmp_path: Path) -> None:
    url = Settings(_env_file=None, home=tmp_path).database
    open_store(url, tmp_path).close()
    with sqlite3.connect(tmp_path / "inbox.db") as inbox:
        inbox.execute("DROP TABLE event_trace")
    inbox.close()
    store = open_store(url, tmp_path)
    store.inbox.add(Event("fake", "1", "train"))
    assert [hint.trace for hint in store.inbox.pending("fake", "1")] == [""]
    store.close()
