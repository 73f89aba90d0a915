"""/api/: the answers of the commands, wishes as JSON that no foreign web page can send."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from common.loop import asking
from common.store import schema
from common.web.app import create_app
from common.web.backend import Backend
from tests.fakes import World, settle
from tests.unit.test_loop import KEY
from tests.unit.way_back_world import FIRST, a_round, make, row_of, start_round

POSTS = ["train", "cancel", "rollback", "promote", "review/dismiss"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = make(tmp_path)
    settle(made)
    yield made
    made.tools.store.close()


@pytest.fixture
def client(world: World) -> FlaskClient:
    return client_of(world)


def client_of(world: World) -> FlaskClient:
    return create_app(Backend(world.tools, lambda _model, _paths, _imgsz: []), []).test_client()


def post(client: FlaskClient, path: str, **asked: Any) -> tuple[int, Any]:
    answer = client.post(f"/api/{path}", json=asked)
    return answer.status_code, answer.json


@pytest.mark.parametrize("name", sorted(asking.ANSWERS))
def test_every_answer_is_the_one_of_the_command(world: World, client: FlaskClient, name: str) -> None:
    a_round(world)
    answer = client.get(f"/api/{name}?project={KEY}")
    assert answer.status_code == 200
    wanted = json.loads(json.dumps(asking.ANSWERS[name](world.tools, row_of(world))))
    assert answer.json == wanted
    first = wanted[0]["key"] if name == "status" else wanted["project"]
    assert first == KEY


@pytest.mark.parametrize("name", sorted(asking.ANSWERS))
def test_a_project_is_asked_for_by_its_whole_key(client: FlaskClient, name: str) -> None:
    for query in ("", "?project=", "?project=12"):
        answer = client.get(f"/api/{name}{query}")
        assert answer.status_code == 400
        assert "give it as platform:id" in answer.json["error"]
    unknown = client.get(f"/api/{name}?project=fake:9")
    assert (unknown.status_code, unknown.json) == (404, {"error": "no project 'fake:9'; there are ['fake:1']"})


@pytest.mark.parametrize("path", POSTS)
def test_a_wish_names_its_project_too(client: FlaskClient, path: str) -> None:
    for project in (None, "", 12, "12", ["fake:1"]):
        status, said = post(client, path, project=project, round=1, id=1)
        assert status == 400
        assert "give it as platform:id" in said["error"]
    assert post(client, path, project="fake:9", round=1, id=1)[0] == 404


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_what_a_foreign_page_may_send_unasked_changes_nothing(
    world: World, client: FlaskClient, path: str, kind: str
) -> None:
    body = json.dumps({"project": KEY, "round": 1, "id": 1})
    answer = client.post(f"/api/{path}", data=body, content_type=kind)
    assert answer.status_code == 400
    assert answer.json["error"].endswith("send application/json")
    assert "Access-Control-Allow-Origin" not in client.options(f"/api/{path}").headers
    row = row_of(world)
    assert (row.training_asked, row.way_back) == (None, {})


@pytest.mark.parametrize("body", ["", "{", "[]", "null", "[" * 100_000, '{"project": NaN}'])
def test_a_body_that_is_no_object_is_one_sentence(client: FlaskClient, body: str) -> None:
    answer = client.post("/api/train", data=body, content_type="application/json")
    assert answer.status_code == 400
    assert answer.json["error"].endswith("send an object")


@pytest.mark.parametrize("path", [*POSTS, *sorted(asking.ANSWERS)])
def test_a_password_protects_every_route(world: World, path: str) -> None:
    values = {"basic_auth_user": "ann", "basic_auth_pass": "secret", "webhook_secret": "hook"}
    world.tools.settings = type(world.tools.settings)(_env_file=None, home=world.tools.settings.home, **values)
    client, key = client_of(world), f"?project={KEY}"
    call = client.post if path in POSTS else client.get
    for headers in ({}, {"X-Hardfirst-Secret": "hook"}):
        assert call(f"/api/{path}{key}", headers=headers, json={"project": KEY}).status_code == 401
    assert row_of(world).training_asked is None
    assert call(f"/api/{path}{key}", auth=("ann", "secret"), json={"project": KEY}).status_code != 401


def test_a_get_changes_nothing(client: FlaskClient) -> None:
    for path in ("train", "cancel", "rollback", "promote", "review/dismiss"):
        assert client.get(f"/api/{path}?project={KEY}").status_code == 405


def test_training_is_asked_for_and_cancelled(world: World, client: FlaskClient) -> None:
    assert post(client, "train", project=KEY) == (200, {"project": KEY, "training": "asked"})
    assert row_of(world).training_asked is not None
    status, said = post(client, "cancel", project=KEY)
    assert (status, said["error"].split(":")[0]) == (409, "no round of fake")
    world.tools.store.projects.update(KEY, training_asked=None)
    start_round(world)
    assert post(client, "cancel", project=KEY) == (200, {"project": KEY, "round": 1, "state": "cancelled"})


def test_going_back_and_promoting_are_wishes_that_the_loop_fulfils(world: World, client: FlaskClient) -> None:
    status, said = post(client, "rollback", project=KEY)
    assert (status, "nothing to go back to" in said["error"]) == (409, True)
    second = a_round(world)
    assert post(client, "rollback", project=KEY) == (200, {"project": KEY, "from": second, "to": FIRST})
    settle(world)
    assert world.platform.active == FIRST
    assert post(client, "rollback", project=KEY, to=second)[0] == 200
    settle(world)
    assert world.platform.active == second
    assert post(client, "promote", project=KEY, round=1)[0] == 409
    assert post(client, "rollback", project=KEY, to="hardfirst@9.9-x")[0] == 404


@pytest.mark.parametrize(
    ("path", "asked", "said"),
    [
        ("rollback", {"to": 5}, "to is 5; give the version of a queue, or leave it out"),
        ("rollback", {"to": ""}, "to is ''; give the version of a queue, or leave it out"),
        ("promote", {}, "round is None; give its number, from 1"),
        ("promote", {"round": "1"}, "round is '1'; give its number, from 1"),
        ("promote", {"round": True}, "round is True; give its number, from 1"),
        ("review/dismiss", {"id": 10**30}, f"id is {10**30}; give its number, from 1"),
    ],
)
def test_a_wish_that_is_not_whole_is_said(client: FlaskClient, path: str, asked: dict[str, Any], said: str) -> None:
    assert post(client, path, project=KEY, **asked) == (400, {"error": said})


def test_a_finding_that_is_not_there_is_said(client: FlaskClient) -> None:
    assert post(client, "review/dismiss", project=KEY, id=7)[0] == 404


def test_the_review_list_is_asked_for_by_state_as_the_command_does(world: World, client: FlaskClient) -> None:
    boxes: list[dict[str, object]] = []
    values = {"project": KEY, "sample": "100", "kind": "missed", "mark": "m", "reason": "r", "weight": 0.5}
    rest = {"boxes": boxes, "round": 1, "state": "dismissed", "at": 1.0}
    with world.tools.store.engine.begin() as connection:
        connection.execute(sa.insert(schema.review).values(**values, **rest))
    lists = {s: client.get(f"/api/review?project={KEY}&state={s}").json["review"] for s in ("open", "dismissed")}
    assert {s: [f["sample"] for f in found] for s, found in lists.items()} == {"open": [], "dismissed": ["100"]}
    unknown = client.get(f"/api/review?project={KEY}&state=odd")
    assert (unknown.status_code, unknown.json["error"].split(";")[0]) == (404, "no state 'odd' of a finding")
