"""The pages with Flask's client over 5,000 samples: every view, paging, filters, hostile names, who may do what."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Flask, jsonify
from flask.testing import FlaskClient

from common.config import Settings
from common.web.app import create_app
from common.web.backend import Backend
from common.web.pages import routes, words
from common.web.pages.routes import TABS
from tests.fakes import World, make_world, picture
from tests.unit import gallery_pool as pool
from tests.unit.test_loop import KEY
from tests.unit.way_back_world import row_of

MANY = 5_000
HOSTILE = '<script>alert("x")</script>'
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


class Health:
    """A platform whose protocol needs the root."""

    name = "health"

    def blueprint(self, _backend: Any) -> Blueprint:
        routes = Blueprint("health", __name__)
        routes.add_url_rule("/", "index", lambda: jsonify(status="UP"))
        return routes


def app_of(world: World) -> Flask:
    plugins: Any = [Health()]
    return create_app(Backend(world.tools, lambda _model, _paths, _imgsz: []), plugins)


def client_of(world: World, **settings: Any) -> FlaskClient:
    if settings:
        home = world.tools.settings.home
        world.tools.settings = Settings(_env_file=None, home=home, **settings)
    return app_of(world).test_client()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Read only: tests that change something make their own."""
    made = make_world(tmp_path_factory.mktemp("many"), 1)
    made.models.names = pool.CLASSES
    pool.fill(made, MANY)
    pool.review(made, 70)
    yield made
    made.tools.store.close()


@pytest.fixture
def client(many: World) -> FlaskClient:
    return client_of(many)


@pytest.fixture
def few(tmp_path: Path) -> Iterator[World]:
    made = make_world(tmp_path, 4)
    made.models.names = pool.CLASSES
    pool.fill(made, 60)
    yield made
    made.tools.store.close()


def page(client: FlaskClient, path: str, **options: Any) -> str:
    answer = client.get(path, headers=HTML, **options)
    assert answer.status_code == 200, answer.text
    return answer.text


def ranks(text: str) -> list[int]:
    return [int(n.replace(",", "")) for n in re.findall(r'"rank"><span[^>]*>Place </span>([\d,]+)<', text)]


def shown(text: str) -> list[str]:
    return re.findall(r"/tasks/(\d+)\"", text)


def token(client: FlaskClient, action: str = "train", **options: Any) -> str:
    text = client.get(f"/projects/{KEY}/confirm/{action}", **options).text
    found = re.search(r'name="token" value="([^"]+)"', text)
    assert found, text
    return unescape(found[1])


# --- views -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", TABS)
def test_every_view_is_a_page_of_its_own_and_asks_for_nothing_from_elsewhere(client: FlaskClient, view: str) -> None:
    answer = client.get(f"/projects/{KEY}/{view}", headers=HTML)
    assert answer.status_code == 200
    assert answer.text.count("<h1>") == answer.text.count("<main") == answer.text.count('aria-current="page"')
    fetched = re.findall(r'<(?:img|script|link)[^>]*?(?:src|href)="([^"]+)"', answer.text)
    assert fetched
    assert all(address.startswith("/") and not address.startswith("//") for address in fetched)
    assert re.search(r"\son\w+=|style=|javascript:", answer.text) is None
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert "unsafe" not in policy


def test_the_root_is_a_page_for_browsers_and_the_platforms_answer_for_all_others(client: FlaskClient) -> None:
    assert "Many pictures" in page(client, "/")
    for accept in (None, "*/*", "application/json"):
        answer = client.get("/", headers={"Accept": accept} if accept else {})
        assert answer.json == {"status": "UP"}


def test_the_list_of_projects_says_where_each_stands(few: World) -> None:
    pool.rounds(few, 0.5, 0.6)
    few.tools.store.journal.write(KEY, "the platform does not answer", "error")
    few.clock[0] = few.tools.store.journal.newest(KEY)[0].at
    text = page(client_of(few), "/")
    for part in ("fake:1", "<b>0 %</b> <span>0 of 60 images", "<b>60</b>", "Round 2 promoted: mAP50-95 .300"):
        assert part in text
    for problem in ("1 image cannot be read", "The platform does not answer."):
        assert problem in text


def test_numbers_and_sentences_read_alike_on_every_page() -> None:
    assert [words.short(v) for v in (0.594, -0.02, 1, -1.5, 0)] == [".59", "-.02", "1.00", "-1.50", ".00"]
    assert [words.ratio(v) for v in (0.7819, 1.0, None)] == [".782", "1.000", "–"]
    assert [words.counted(n, "image") for n in (0, 1, 5000)] == ["0 images", "1 image", "5,000 images"]
    assert [words.sentence(t) for t in ("no project 'x'", "Done!", "")] == ["No project 'x'.", "Done!", ""]


def test_a_project_without_anything_says_what_comes_next(tmp_path: Path) -> None:
    world = make_world(tmp_path, 1)
    client = client_of(world)
    for view in TABS:
        assert page(client, f"/projects/{KEY}/{view}")
    assert "There is no queue yet" in page(client, f"/projects/{KEY}/queue")
    world.tools.store.projects.forget(KEY)
    assert "No project is connected yet" in page(client, "/")
    world.tools.store.close()


def test_an_unknown_project_is_one_sentence(client: FlaskClient) -> None:
    for path in ("/projects/fake:9/queue", "/projects/fake:9", f"/projects/{KEY}/confirm/explode"):
        answer = client.get(path, headers=HTML, follow_redirects=True)
        assert answer.status_code == 404
        assert 'role="alert"' in answer.text


def test_rounds_and_curve_show_the_numbers(few: World) -> None:
    pool.rounds(few, 0.5, 0.6, 0.65)
    client = client_of(few)
    text = page(client, f"/projects/{KEY}/rounds")
    assert [text.count(words) for words in ("promoted provisionally", ".650", "serves")] == [1, 1, 2]
    curve = page(client, f"/projects/{KEY}/curve")
    assert curve.count("<circle") == 3
    assert ".600 to .700" in curve


def test_the_running_round_is_followed(few: World) -> None:
    store = few.tools.store
    row = store.rounds.start(KEY, revision=1, labels=20, reason="", folder="/f", token=1)
    assert row is not None
    store.rounds.update(row.id, progress={"message": "epoch 3 of 10", "epoch": 3, "epochs": 10})
    client = client_of(few)
    text = page(client, f"/projects/{KEY}/rounds")
    assert "Round 1 is training on 20 labels" in text
    assert '<noscript><meta http-equiv="refresh"' in text
    now = client.get(f"/projects/{KEY}/progress").json
    assert now == {"running": 1, "message": "epoch 3 of 10", "epoch": 3, "epochs": 10}
    store.rounds.end(row.id, "cancelled", "")
    assert client.get(f"/projects/{KEY}/progress").json["running"] == 0


# --- the queue -------------------------------------------------------------------------------------------


def test_pages_of_sixty_show_every_open_place_once_in_order(client: FlaskClient, many: World) -> None:
    first = page(client, f"/projects/{KEY}/queue")
    assert ranks(first) == list(range(1, 61))
    assert "1 to 60 of 5,000" in first
    last = page(client, f"/projects/{KEY}/queue?start=4980")
    assert ranks(last) == list(range(4981, 5001))
    assert 'rel="next"' not in last
    queue = client.get(f"/api/queue?project={KEY}&limit=120").json["items"]
    second = page(client, f"/projects/{KEY}/queue?start=60")
    assert shown(first) + shown(second) == [str(i["id"]) for i in queue]


def test_an_answered_image_leaves_the_gallery_as_it_leaves_the_queue(few: World) -> None:
    client, store = client_of(few), few.tools.store
    before = shown(page(client, f"/projects/{KEY}/queue"))
    store.samples.drop(KEY, before[:1])
    after = page(client, f"/projects/{KEY}/queue")
    assert shown(after) == before[1:]
    assert ranks(after) == list(range(1, 60))


@pytest.mark.parametrize(
    ("query", "count"),
    [
        *[("show=random", 500), ("show=duplicates", 250), ("show=unreadable", 100), ("show=outliers", 50)],
        *[("show=uncertain", 3334), ("show=rare", 714), ("show=arrived", 0)],
        *[("reason=BY+chance", 500), ("reason=%25", 0), ("show=random&reason=between", 0)],
    ],
)
def test_filters_keep_the_place_in_the_whole_queue(client: FlaskClient, query: str, count: int) -> None:
    text = page(client, f"/projects/{KEY}/queue?{query}")
    assert f"{count:,} image" in text
    assert len(ranks(text)) == min(count, 60)
    beyond = page(client, f"/projects/{KEY}/queue?{query}&start=4999")
    assert (f"none of {count:,} here" in beyond) == (count > 0)
    if query == "show=random":
        assert ranks(text) == list(range(10, 610, 10))
        assert ranks(page(client, f"/projects/{KEY}/queue?{query}&start=480")) == list(range(4810, 5010, 10))


def test_a_class_is_looked_for_in_what_the_model_said(client: FlaskClient) -> None:
    found, start, text = [], 0, ""
    for _ in range(10):
        text = page(client, f"/projects/{KEY}/queue?class=cat&start={start}")
        found += [int(s) for s in shown(text)]
        following = re.search(r'rel="next" href="[^"]*start=(\d+)', text)
        if following is None:
            break
        start = int(following[1])
    even = set(range(0, 400, 2))
    assert set(found) == even
    assert len(found) == len(even)
    assert "no open image" not in text


@pytest.mark.parametrize("query", ["show=all", "start=-1", "start=x", "start=9999999999", "start=%C2%B2"])
def test_a_wrong_filter_is_one_sentence(client: FlaskClient, query: str) -> None:
    answer = client.get(f"/projects/{KEY}/queue?{query}", headers=HTML)
    assert answer.status_code == 400
    assert 'role="alert"' in answer.text


def test_a_card_says_in_words_what_it_draws(client: FlaskClient) -> None:
    text = page(client, f"/projects/{KEY}/queue?class=cat")
    assert "2 predicted boxes: 1 cat, 1 dog" in text
    assert '<rect x="40.0" y="40.0" width="260.0" height="260.0"/>' in text
    assert ">cat .90</text>" in text
    for part in ("uncertain <b>.90", "typical <b>.40", "different <b>.31", "nearest labelled image .31 away"):
        assert part in text
    assert "the file is empty" in page(client, f"/projects/{KEY}/queue?show=unreadable")


def test_names_of_people_and_files_are_text_and_never_markup(few: World) -> None:
    store = few.tools.store
    made = pool.fill(few, 60, title=HOSTILE)
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE sample SET problem = ?", (HOSTILE,))
        connection.exec_driver_sql("UPDATE queue SET parts = json_set(parts, '$.reason', ?)", (HOSTILE,))
    store.journal.write(KEY, HOSTILE, "error")
    pool.review(few, 3, reason=HOSTILE)
    pool.rounds(few, 0.5)
    assert made.total == 60
    client = client_of(few)
    paths = ["/", *(f"/projects/{KEY}/{view}" for view in TABS), f"/projects/{KEY}/queue?reason={HOSTILE}"]
    for path in (*paths, f"/projects/{KEY}/thumbnails/1", f"/projects/{KEY}/confirm/rollback?to={HOSTILE}"):
        text = page(client, path)
        assert "alert(" in text, path
        assert "<script>alert" not in text, path


# --- thumbnails ------------------------------------------------------------------------------------------


def test_a_thumbnail_is_made_once_small_and_known_again(few: World) -> None:
    large = few.folder / "large.png"
    picture(large, 1)
    few.tools.media._paths[pool.digest("7")] = large  # type: ignore[attr-defined]
    client = client_of(few)
    answer = client.get(f"/projects/{KEY}/thumbnails/7")
    assert (answer.status_code, answer.mimetype) == (200, "image/jpeg")
    large.unlink()
    assert client.get(f"/projects/{KEY}/thumbnails/7").data == answer.data
    again = client.get(f"/projects/{KEY}/thumbnails/7", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_an_image_that_is_not_there_is_a_drawing_with_a_sentence(few: World) -> None:
    client = client_of(few)
    missing = client.get(f"/projects/{KEY}/thumbnails/8")
    assert (missing.status_code, missing.mimetype) == (200, "image/svg+xml")
    assert "no longer kept" in missing.text
    assert client.get(f"/projects/{KEY}/thumbnails/none").status_code == 404


# --- who may do what -------------------------------------------------------------------------------------


def post(client: FlaskClient, action: str, given: dict[str, str], **options: Any) -> Any:
    return client.post(f"/projects/{KEY}/actions/{action}", data=given, **options)


def test_an_action_is_asked_back_and_then_done(few: World) -> None:
    client = client_of(few)
    assert "Start a training round now?" in page(client, f"/projects/{KEY}/confirm/train")
    assert row_of(few).training_asked is None
    answer = post(client, "train", {"token": token(client)})
    assert answer.status_code == 303
    assert "A round was asked for" in page(client, answer.headers["Location"])
    assert row_of(few).training_asked is not None


def test_every_other_action_reaches_the_project(few: World) -> None:
    pool.rounds(few, 0.5, 0.6)
    pool.review(few, 1)
    client, store = client_of(few), few.tools.store
    (few.folder / "1.pt").write_bytes(b"")
    ours = token(client)
    assert post(client, "promote", {"token": ours, "round": "1"}).status_code == 303
    assert row_of(few).way_back["round"] == 1
    finding = store.reviews.all(KEY)[0].id
    assert post(client, "dismiss", {"token": ours, "id": str(finding)}).status_code == 303
    assert store.reviews.all(KEY)[0].state == "dismissed"
    row = store.rounds.start(KEY, revision=1, labels=2, reason="", folder="/f", token=1)
    assert row is not None
    assert post(client, "cancel", {"token": ours}).status_code == 303
    assert store.rounds.running(KEY) is None


def test_what_cannot_be_done_is_said_in_a_sentence(few: World) -> None:
    client = client_of(few)
    ours = token(client)
    for action, given, status in (
        *(("cancel", {}, 409), ("rollback", {}, 409), ("promote", {"round": "9"}, 404)),
        *(("promote", {"round": "x"}, 400), ("dismiss", {}, 400), ("explode", {}, 404)),
    ):
        answer = post(client, action, {"token": ours, **given})
        assert answer.status_code == status, action
        assert 'role="alert"' in answer.text
        assert "Nothing was changed." in answer.text
        assert (f'href="/projects/{KEY}/rounds"' in answer.text) == (status != 404)


def test_a_form_that_is_too_old_leads_back_to_its_question_with_all_it_said(few: World) -> None:
    client = client_of(few)
    answer = post(client, "promote", {"token": "of yesterday", "round": "3"})
    assert answer.status_code == 403
    again = re.search(r'href="([^"]+)">Ask me again', answer.text)
    assert again
    assert "Make the model of round 3 the one that serves?" in page(client, unescape(again[1]))


def test_a_form_of_another_site_changes_nothing(few: World) -> None:
    client = client_of(few)
    ours = token(client)
    for given in ({}, {"token": ""}, {"token": "x"}, {"token": ours[:-1]}, {"token": "1" + ours}):
        assert post(client, "train", given).status_code == 403
    crossed = post(client, "train", {"token": ours}, headers={"Sec-Fetch-Site": "cross-site"})
    assert crossed.status_code == 403
    assert client.get(f"/projects/{KEY}/actions/train").status_code == 405
    assert row_of(few).training_asked is None


def test_a_token_of_another_person_is_refused(few: World) -> None:
    client = client_of(few, basic_auth_user="ann", basic_auth_pass="secret")
    open_client = client_of(few, basic_auth_user=None, basic_auth_pass=None)
    nobodys = token(open_client)
    client = client_of(few, basic_auth_user="ann", basic_auth_pass="secret")
    assert post(client, "train", {"token": nobodys}, auth=("ann", "secret")).status_code == 403
    hers = token(client, auth=("ann", "secret"))
    assert post(client, "train", {"token": hers}, auth=("ann", "secret")).status_code == 303


def test_a_password_protects_every_page_and_what_belongs_to_it(few: World) -> None:
    client = client_of(few, basic_auth_user="ann", basic_auth_pass="secret")
    views = [f"/projects/{KEY}/{view}" for view in (*TABS, "progress", "thumbnails/1", "confirm/train")]
    for path in ("/", *views, "/static/pages.css"):
        assert client.get(path, headers=HTML).status_code == 401, path
        with client.get(path, headers=HTML, auth=("ann", "secret")) as answer:
            assert answer.status_code == 200, path
    assert post(client, "train", {}).status_code == 401


def test_read_only_hides_and_refuses_every_action(few: World) -> None:
    pool.rounds(few, 0.5, 0.6)
    pool.review(few, 2)
    writable = client_of(few)
    ours = token(writable)
    assert "Train now" in page(writable, f"/projects/{KEY}/rounds")
    client = client_of(few, read_only=True)
    for view in TABS:
        text = page(client, f"/projects/{KEY}/{view}")
        assert "/confirm/" not in text
        assert "/actions/" not in text
    assert client.get(f"/projects/{KEY}/confirm/train").status_code == 403
    assert post(client, "train", {"token": ours}).status_code == 403
    assert client.post("/api/train", json={"project": KEY}).status_code == 403
    assert row_of(few).training_asked is None


def test_a_browser_that_asks_for_the_icon_by_its_old_name_is_shown_ours(client: FlaskClient) -> None:
    answer = client.get("/favicon.ico")
    assert (answer.status_code, "icon.svg" in answer.headers["Location"]) == (302, True)


def test_an_unexpected_error_is_a_page_for_a_browser_and_json_for_a_script(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret of ours")

    monkeypatch.setattr(routes, "facts", broken)
    for accept, kind in (("text/html", "text/html"), ("application/json", "application/json")):
        answer = client.get("/projects/fake:1/rounds", headers={"Accept": accept})
        assert (answer.status_code, answer.mimetype, "secret" in answer.text) == (500, kind, False)
        assert "nexpected RuntimeError" in answer.text
