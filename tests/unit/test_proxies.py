"""Below a path and behind proxies: where links begin, what of a request is believed, and what answers carry."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Blueprint, Flask, jsonify, request
from flask.testing import FlaskClient

from common.config import Settings, load
from common.errors import SettingError
from common.web.app import HEADERS, create_app
from common.web.backend import Backend
from common.web.pages.routes import TABS
from tests.fakes import World, make_world
from tests.unit import gallery_pool as pool
from tests.unit.test_loop import KEY

HTML = {"Accept": "text/html"}
LINKS = re.compile(r'(?:href|src|action|data-[a-z-]+)="(/[^"]*)"')


class Echo:
    """A platform that tells what it takes a request for."""

    name = "echo"

    def blueprint(self, _backend: Any) -> Blueprint:
        routes = Blueprint("echo", __name__)
        routes.add_url_rule("/", "index", lambda: jsonify(status="UP"))
        routes.add_url_rule("/health", "health", lambda: jsonify(seen()))
        routes.add_url_rule("/predict", "predict", lambda: jsonify(seen()), methods=["POST"])
        return routes


def seen() -> dict[str, str | None]:
    return {"url": request.url, "from": request.remote_addr}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = make_world(tmp_path_factory.mktemp("proxies"), 1)
    made.models.names = pool.CLASSES
    pool.fill(made, 200)
    pool.rounds(made, 0.5, 0.6)
    pool.review(made, 70)
    yield made
    made.tools.store.close()


def app_of(world: World, **settings: Any) -> Flask:
    world.tools.settings = Settings(_env_file=None, home=world.tools.settings.home, **settings)
    plugins: Any = [Echo()]
    return create_app(Backend(world.tools, lambda _model, _paths, _imgsz: []), plugins)


class Client(FlaskClient):
    """Reads every answer at once: a file that is sent stays open until then."""

    def open(self, *arguments: Any, **options: Any) -> Any:
        return super().open(*arguments, **{"buffered": True, **options})


def client_of(world: World, **settings: Any) -> FlaskClient:
    app = app_of(world, **settings)
    app.test_client_class = Client
    return app.test_client()


# --- below a path ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", ["", "/hardfirst"], ids=["the proxy strips it", "the proxy passes it on"])
@pytest.mark.parametrize("view", TABS)
def test_every_link_of_every_page_begins_with_the_path_and_leads_somewhere(world: World, view: str, sent: str) -> None:
    client = client_of(world, base_path="/hardfirst")
    text = client.get(f"{sent}/projects/{KEY}/{view}", headers=HTML).text
    links = set(LINKS.findall(text))
    assert len(links) > 5
    for link in links:
        assert link.startswith("/hardfirst/")
    for link in sorted(links)[:12]:
        address = link.removeprefix("/hardfirst" if not sent else "").replace("&amp;", "&")
        expected = {405} if "/actions/" in link else {200, 302}
        assert client.get(address, headers=HTML).status_code in expected, link


@pytest.mark.parametrize("sent", ["", "/hardfirst"])
def test_machines_find_what_they_ask_for_with_and_without_the_path(world: World, sent: str) -> None:
    client = client_of(world, base_path="hardfirst/", url="http://hardfirst:9090")
    assert client.get(f"{sent}/").json == {"status": "UP"}
    assert client.get(sent or "/").json == {"status": "UP"}
    for path in ("/health", f"/api/status?project={KEY}", f"/api/queue?project={KEY}", "/metrics"):
        assert client.get(f"{sent}{path}").status_code == 200
    assert client.post(f"{sent}/predict", json={}).status_code == 200
    assert client.post(f"{sent}/api/train", json={"project": KEY}).status_code == 200


@pytest.mark.parametrize("path", ["/hardfirstly/health", "/hardfirst/hardfirst/health", "/other/health"])
def test_only_the_path_itself_is_taken_away_and_once(world: World, path: str) -> None:
    assert client_of(world, base_path="/hardfirst").get(path).status_code == 404


def test_redirects_and_forms_stay_below_the_path(world: World) -> None:
    client = client_of(world, base_path="/a/b")
    for path in (f"/projects/{KEY}", f"/a/b/projects/{KEY}"):
        assert client.get(path, headers=HTML).headers["Location"] == f"/a/b/projects/{KEY}/queue"
    asked = client.get(f"/a/b/projects/{KEY}/confirm/train", headers=HTML).text
    token = re.search(r'name="token" value="([^"]+)"', asked)
    assert token is not None
    done = client.post(f"/a/b/projects/{KEY}/actions/train", data={"token": token[1]})
    assert (done.status_code, done.headers["Location"]) == (303, f"/a/b/projects/{KEY}/rounds?did=train")


def test_the_path_of_the_public_address_counts_where_no_other_is_set(world: World) -> None:
    client = client_of(world, url="https://labels.example.org/hardfirst/")
    found = client.get("/hardfirst/projects", headers=HTML)
    assert found.status_code == 404
    assert 'href="/hardfirst/"' in found.text
    assert 'href="/"' in client_of(world, url="https://x.example/hardfirst", base_path="/").get("/", headers=HTML).text


def test_an_error_is_a_page_for_browsers_and_a_sentence_for_all_others(world: World) -> None:
    client = client_of(world, base_path="/hardfirst")
    long = f"/projects/{'x' * 3000}/queue"
    for path in ("/hardfirst/nowhere", long, "/hardfirst/projects/a:1/nowhere", "/projects/%00/queue"):
        answer = client.get(path, headers=HTML)
        assert (answer.status_code, answer.mimetype) == (404, "text/html"), path
        assert 'href="/hardfirst/"' in answer.text
        assert len(answer.text) < 5000
    answer = client.get("/hardfirst/nowhere")
    assert (answer.status_code, answer.mimetype) == (404, "application/json")


@pytest.mark.parametrize("path", ["/projects", "api", "/health/", "/static"])
def test_a_path_where_our_own_pages_begin_is_refused(world: World, path: str) -> None:
    with pytest.raises(SettingError, match="where pages of our own begin"):
        app_of(world, base_path=path)


@pytest.mark.parametrize("path", ["/a b", "/a/../b", "//a//b", "/a?b", "/ü", "/a%20b", "http://x/y"])
def test_a_path_that_is_none_is_said_in_one_sentence(path: str) -> None:
    with pytest.raises(SettingError, match=r"HARDFIRST_BASE_PATH is .*give a path such as /hardfirst"):
        load(base_path=path, _env_file=None)


def test_a_public_address_with_a_path_that_cannot_be_ours_is_said() -> None:
    with pytest.raises(SettingError, match=r"HARDFIRST_URL is 'http://x\.example/a b'"):
        _ = load(url="http://x.example/a b", _env_file=None).base


# --- what proxies say ------------------------------------------------------------------------------------

TOLD = {
    "X-Forwarded-For": "198.51.100.7",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "labels.example.org",
    "X-Forwarded-Prefix": "/told",
}


def test_nothing_that_a_request_says_of_proxies_is_believed_unless_there_are_some(world: World) -> None:
    client = client_of(world)
    assert client.get("/health", headers=TOLD).json == {"url": "http://localhost/health", "from": "127.0.0.1"}
    assert 'href="/told' not in client.get("/", headers={**HTML, **TOLD}).text


def test_one_proxy_is_believed_for_its_own_word_only(world: World) -> None:
    client = client_of(world, proxies=1, hosts="labels.example.org")
    wanted = {"url": "https://labels.example.org/told/health", "from": "198.51.100.7"}
    assert client.get("/health", headers=TOLD).json == wanted
    lied = {**TOLD, "X-Forwarded-For": "10.0.0.1, 198.51.100.7", "X-Forwarded-Proto": "http, https"}
    assert client.get("/health", headers=lied).json == wanted
    assert f'href="/told/projects/{KEY}/queue"' in client.get("/", headers={**HTML, **TOLD}).text


def test_the_name_that_the_proxy_tells_is_the_one_that_must_be_ours(world: World) -> None:
    client = client_of(world, proxies=1)
    assert client.get("/health", headers=TOLD).status_code == 400
    assert client_of(world).get("/health", headers=TOLD).status_code == 200


def test_a_foreign_page_does_not_get_in_by_telling_of_a_proxy(world: World) -> None:
    """Given a page whose name leads to loopback; when it adds the headers of a proxy; I expect a refusal."""
    client = client_of(world, proxies=1, base_path="/x")
    for name in ("localhost", "127.0.0.1:9090"):
        lied = {"Host": "evil.example:9090", "X-Forwarded-Host": name}
        assert client.get("/health", headers=lied).status_code == 400
        assert client.get("/health", headers={"Host": "localhost:9090", "X-Forwarded-Host": name}).status_code == 200


def test_the_path_that_is_set_wins_over_the_path_that_is_told(world: World) -> None:
    client = client_of(world, proxies=1, base_path="/set", hosts="labels.example.org")
    assert 'href="/set/' in client.get("/", headers={**HTML, **TOLD}).text


# --- what answers carry ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", f"/projects/{KEY}/queue", "/static/pages.css", "/metrics", "/nowhere"])
def test_every_answer_keeps_other_sites_out_and_sets_no_cookie(world: World, path: str) -> None:
    client = client_of(world, read_only=False)
    for accept in ("text/html", "*/*"):
        answer = client.get(path, headers={"Accept": accept})
        assert set(HEADERS) <= set(answer.headers.keys())
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "Set-Cookie" not in answer.headers


def test_a_static_file_is_kept_by_its_version_and_asked_about_without(world: World) -> None:
    client = client_of(world, base_path="/hardfirst")
    address = re.search(r'href="(/hardfirst/static/pages\.css\?v=[0-9a-f]{12})"', client.get("/", headers=HTML).text)
    assert address is not None
    for path, kept in ((address[1], True), (address[1][:-12] + "0" * 12, False), ("/static/pages.css", False)):
        answer = client.get(path)
        assert answer.status_code == 200
        assert ("immutable" in answer.headers["Cache-Control"]) is kept, path
        again = client.get(path, headers={"If-None-Match": answer.headers["ETag"]})
        assert (again.status_code, again.data) == (304, b"")


@pytest.mark.parametrize("path", ["/", f"/projects/{KEY}/queue", f"/projects/{KEY}/thumbnails/1", "/static/pages.css"])
def test_the_head_of_an_answer_is_had_without_it(world: World, path: str) -> None:
    client = client_of(world)
    whole, head = client.get(path, headers=HTML), client.head(path, headers=HTML)
    assert (head.status_code, head.data) == (200, b"")
    for name in ("Content-Type", "Cache-Control", "ETag"):
        assert head.headers.get(name) == whole.headers.get(name)
