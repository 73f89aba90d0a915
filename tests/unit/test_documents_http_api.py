"""docs/http-api.md lists every route that there is, and no other, with the check that guards it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from common.compose import plugins
from common.loop import asking
from common.web.app import MAX_BODY, create_app
from common.web.auth import ChecksItself
from common.web.backend import Backend
from common.web.body import MAX_LIMIT
from common.web.rounds import WISHES
from cvat_adapter.app import MAX_EVENT
from ls_backend.app import MAX_PREDICT
from tests.fakes import make_world
from tests.test_docs import table

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "http-api.md").read_text()
SECTIONS = ("Asking", "Acting", "What platforms call", "Pages")
ROWS = [row for heading in SECTIONS for row in table(PAGE, heading)]
MIB = 2**20


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """The real application with every installed platform, over a store of fakes."""
    world = make_world(tmp_path_factory.mktemp("routes"))
    backend = Backend(world.tools, lambda _model, paths, _imgsz: ["no model"] * len(paths))
    yield create_app(backend, plugins().values())
    world.tools.store.close()


def routes(app: Flask) -> dict[tuple[str, str], str]:
    """(method, path) -> endpoint; a path with and without its last slash is one."""
    return {
        (method, rule.rule.rstrip("/") or "/"): rule.endpoint
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }


def test_every_route_is_listed_and_every_listed_route_is_there(app: Flask) -> None:
    there = set(routes(app)) - {("GET", "/webhooks")}  # there only to say what went wrong
    assert {(row[0], row[1]) for row in ROWS} == there


def test_no_route_is_listed_twice_but_the_one_with_two_answers() -> None:
    listed = [(row[0], row[1]) for row in ROWS]
    assert sorted(r for r in listed if listed.count(r) > 1) == [("GET", "/")] * 2


def guarded_by(app: Flask, endpoint: str) -> str:
    """The check that the code makes; see ``common.web.auth.guard``."""
    if isinstance(app.view_functions[endpoint], ChecksItself):
        return "signature"
    return "secret" if endpoint.rpartition(".")[2].startswith("webhook") else "basic"


def test_each_row_names_the_check_that_guards_it(app: Flask) -> None:
    known = routes(app)
    assert [row[1] for row in ROWS if row[2] != guarded_by(app, known[row[0], row[1]])] == []


def test_what_can_be_asked_and_done_is_what_the_code_answers() -> None:
    assert {row[1] for row in table(PAGE, "Acting")} == {f"/api/{path}" for path in WISHES}
    asked = {row[1] for row in table(PAGE, "Asking")}
    assert asked >= {f"/api/{name}" for name in asking.ANSWERS}


def test_limits_are_those_of_the_code() -> None:
    said = re.search(r"at most (\d+) MiB\s+\(`/predict`\s+(\d+),\s+`/webhooks`\s+(\d+)\)", PAGE)
    assert said is not None
    assert [int(n) * MIB for n in said.groups()] == [MAX_BODY, MAX_PREDICT, MAX_EVENT]
    assert f"0 to {MAX_LIMIT}" in PAGE


@pytest.mark.parametrize("row", [r for r in table(PAGE, "Asking") if r[1] != "/metrics"], ids=lambda r: r[1])
def test_asking_without_a_project_is_400_and_for_an_unknown_one_404(app: Flask, row: list[str]) -> None:
    client: Any = app.test_client()
    answer = client.get(row[1])
    assert (answer.status_code, "error" in answer.json, "X-Request-ID" in answer.headers) == (400, True, True)
    assert client.get(row[1], query_string={"project": "cvat:99"}).status_code == 404


@pytest.mark.parametrize("row", table(PAGE, "Acting"), ids=lambda r: r[1])
def test_acting_takes_json_only_and_names_the_projects_there_are(app: Flask, row: list[str]) -> None:
    client: Any = app.test_client()
    assert client.post(row[1], data={"project": "fake:1"}).status_code == 400
    answer = client.post(row[1], json={"project": "fake:99"})
    assert (answer.status_code, "fake:1" in answer.json["error"]) == (404, True)
    assert client.get(row[1]).status_code == 405
