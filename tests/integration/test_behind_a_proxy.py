"""A real web process below a path, behind a proxy that strips it and one that passes it on: pages, forms, machines."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest

from bench import gallery
from common.config import SECRET_HEADER
from common.store import Store, open_store
from ls_backend.local_process import free_port
from tests.small_proxy import proxy

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
KEY = "label-studio:1"
BASE = "/tools/hardfirst"
LOGIN = ("ann", "long-enough")
SECRET, TOKEN = "hook-secret", "script-token"
LINKS = re.compile(r'(?:(?:href|src)="|data-[a-z-]+="(?=/))([^"#]+)"')
NAMES = "labels.example.org"


class Web:
    """`hardfirst web` as `serve` starts it."""

    def __init__(self, home: Path) -> None:
        self.home, self.port = home, free_port()
        self.log = home.parent / "web.log"
        foreign = ("HARDFIRST_", "LABEL_STUDIO_", "CVAT_", "BASIC_")
        clean = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        own = {
            **{"HARDFIRST_HOME": str(home), "HARDFIRST_PORT": str(self.port), "HARDFIRST_HOST": "127.0.0.1"},
            **{"BASIC_AUTH_USER": LOGIN[0], "BASIC_AUTH_PASS": LOGIN[1], "HARDFIRST_API_TOKEN": TOKEN},
            **{"HARDFIRST_WEBHOOK_SECRET": SECRET, "HARDFIRST_URL": f"https://{NAMES}{BASE}"},
            **{"HARDFIRST_PROXIES": "1", "HARDFIRST_HOSTS": NAMES},
            **{"LABEL_STUDIO_URL": "http://127.0.0.1:9", "LABEL_STUDIO_API_KEY": "f" * 40},
        }
        with self.log.open("wb") as log:
            command = [sys.executable, "-m", "common.cli", "web"]
            self.process = subprocess.Popen(command, env=clean | own, stdout=log, stderr=log)

    def up(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=5, trust_env=False).status_code == 401
        except httpx.HTTPError:
            return False


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    home = tmp_path_factory.mktemp("proxy") / "home"
    opened = open_store(f"sqlite:///{home / 'hardfirst.db'}", home)
    opened.projects.ask("label-studio", "1")
    gallery.rounds(opened, KEY, str(home), [0.5, 0.6])
    row = opened.projects.get(KEY)
    gallery.fill(
        opened,
        KEY,
        150,
        title="Far away",
        imgsz=640,
        predicted=150,
        model=gallery.weights(2),
        checkpoint=row.checkpoint,
    )
    opened.reviews.record(KEY, 2, gallery.findings(3), time.time())
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def web(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    started = Web(Path(str(store.gallery._engine.url.database)).parent)
    deadline = time.monotonic() + 90
    while not started.up():
        assert started.process.poll() is None, started.log.read_text()
        assert time.monotonic() < deadline, started.log.read_text()
        time.sleep(0.1)
    yield started
    started.process.terminate()
    started.process.wait(30)


@pytest.fixture(params=[True, False], ids=["stripped", "passed on"])
def outside(web: Web, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    """A browser on the other side of the proxy."""
    with (
        proxy(web.port, BASE, strips=request.param) as address,
        httpx.Client(
            base_url=address, auth=LOGIN, headers={"Accept": "text/html", "Host": NAMES}, timeout=60, trust_env=False
        ) as client,
    ):
        yield client


def test_every_page_and_all_it_shows_is_found_through_the_proxy(outside: httpx.Client) -> None:
    home = outside.get(f"{BASE}/")
    assert home.status_code == 200
    todo, seen = [f"{BASE}/"], set()
    while todo:
        path = todo.pop()
        answer = outside.get(path, follow_redirects=False)
        assert answer.status_code in (200, 302), (path, answer.text[:300])
        seen.add(path)
        if not answer.headers["Content-Type"].startswith("text/html") or len(seen) > 60:
            continue
        for link in (unescape(found) for found in LINKS.findall(answer.text)):
            if link.startswith("http://127.0.0.1:9/"):  # into Label Studio
                continue
            where = urljoin(path, link)
            if where.startswith("/"):
                assert where.startswith(f"{BASE}/"), (path, link)
            if where.startswith("/") and where not in seen | set(todo) and "start=" not in where:
                todo.append(where)
    for view in ("queue", "rounds", "curve", "review", "kpi", "events"):
        assert f"{BASE}/projects/{KEY}/{view}" in seen
    assert any("/static/pages.css?v=" in path for path in seen)
    assert any("/thumbnails/" in path for path in seen)


def test_a_form_is_sent_and_answered_through_the_proxy(outside: httpx.Client, store: Store) -> None:
    asked = outside.get(f"{BASE}/projects/{KEY}/confirm/train").text
    action = re.search(r'<form[^>]*action="([^"]+)"', asked)
    token = re.search(r'name="token" value="([^"]+)"', asked)
    assert action is not None
    assert token is not None
    site = {"Sec-Fetch-Site": "same-origin", "Origin": f"https://{NAMES}"}
    done = outside.post(unescape(action[1]), data={"token": unescape(token[1])}, headers=site)
    assert (done.status_code, done.headers["Location"]) == (303, f"{BASE}/projects/{KEY}/rounds?did=train")
    assert "A round was asked for" in outside.get(done.headers["Location"]).text
    row = store.projects.get(KEY)
    assert row is not None
    assert row.training_asked is not None
    assert outside.post(unescape(action[1]), data={"token": "x"}).status_code == 403


def test_what_platforms_and_scripts_ask_for_is_answered_through_the_proxy(outside: httpx.Client, store: Store) -> None:
    any_kind: dict[str, Any] = {"headers": {"Accept": "*/*"}}
    assert outside.get(f"{BASE}/health", **any_kind).json()["status"] == "UP"
    assert outside.post(f"{BASE}/setup", json={"project": "1.5"}, **any_kind).json()["model_version"]
    predicted = outside.post(f"{BASE}/predict", json={"tasks": [{"id": 3, "project": 1}], "project": "1.5"}, **any_kind)
    assert len(predicted.json()["results"]) == 1
    assert "hardfirst_samples" in outside.get(f"{BASE}/metrics", **any_kind).text
    assert outside.get(f"{BASE}/api/queue?project={KEY}&limit=2", **any_kind).json()["total"] == 150
    before = len(store.inbox.pending("label-studio", "1"))
    event = {"action": "ANNOTATION_CREATED", "project": {"id": 1}, "task": {"id": 3}}
    hook = {"auth": None, "json": event}
    assert outside.post(f"{BASE}/webhook", **hook).status_code == 401
    assert outside.post(f"{BASE}/webhook", headers={SECRET_HEADER: SECRET}, **hook).status_code == 200
    assert len(store.inbox.pending("label-studio", "1")) == before + 1


def test_nobody_comes_in_without_a_password_or_under_a_foreign_name(outside: httpx.Client) -> None:
    refused = outside.get(f"{BASE}/", auth=None)
    assert (refused.status_code, refused.headers["WWW-Authenticate"][:5]) == (401, "Basic")
    with_token = {"Authorization": f"Bearer {TOKEN}"}
    assert outside.get(f"{BASE}/api/rounds?project={KEY}", auth=None, headers=with_token).status_code == 200
    foreign = outside.get(f"{BASE}/", headers={"Host": "evil.example"})
    assert foreign.status_code == 400
    assert "'evil.example'" in foreign.text


def test_the_port_itself_believes_no_header_that_names_another_path(web: Web) -> None:
    """Given headers that gunicorn takes from proxies it trusts; I expect them to change nothing."""
    lies = {"SCRIPT_NAME": "/evil", "X-Forwarded-Proto": "https", "Accept": "text/html"}
    found = httpx.get(f"http://127.0.0.1:{web.port}/", auth=LOGIN, headers=lies, trust_env=False)
    assert found.status_code == 200
    assert "/evil" not in found.text
