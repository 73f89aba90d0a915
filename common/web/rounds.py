"""/api/: the course of a project's rounds as JSON, and the wishes of people; who may ask is in ``common.web.auth``.

Every GET takes ?project=KEY, that of the review list ?state= too; every POST takes a JSON object with it. A POST must
say application/json: see ``common.web.body`` for why no foreign web page can send one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from flask import Blueprint, jsonify, request

from common.errors import RefusedError, UnknownNameError
from common.loop import asking, way_back
from common.loop.tools import Tools
from common.store.projects import ProjectRow
from common.web.backend import Backend
from common.web.body import BadRequestError, json_object

Wish = Callable[[Tools, ProjectRow, dict[str, Any]], Any]


def _to(asked: dict[str, Any]) -> str | None:
    to = asked.get("to")
    if to is not None and not (isinstance(to, str) and to):
        raise BadRequestError(f"to is {to!r}; give the version of a queue, or leave it out")
    return to


def _whole(asked: dict[str, Any], name: str) -> int:
    value = asked.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
        raise BadRequestError(f"{name} is {value!r}; give its number, from 1")
    return value


WISHES: dict[str, Wish] = {
    "train": lambda tools, row, _: asking.ask_training(tools, row),
    "cancel": lambda tools, row, _: asking.cancel(tools, row),
    "rollback": lambda tools, row, asked: way_back.ask_way_back(tools, row, _to(asked)),
    "promote": lambda tools, row, asked: way_back.ask_promotion(tools, row, _whole(asked, "round")),
    "review/dismiss": lambda tools, row, asked: asking.dismiss_finding(tools, row, _whole(asked, "id")),
}
"""Path under /api/ -> what a POST does."""


def blueprint(backend: Backend) -> Blueprint:
    """The routes; each answers what the command of its name prints with --json."""
    routes = Blueprint("rounds", __name__, url_prefix="/api")
    for name, answer in {**asking.ANSWERS, "review": partial(_review, backend)}.items():
        routes.add_url_rule(f"/{name}", f"api_{name}", lambda answer=answer: _answer(backend, answer))
    for path, wish in WISHES.items():
        endpoint = f"api_{path.replace('/', '_')}"
        routes.add_url_rule(f"/{path}", endpoint, lambda wish=wish: _wish(backend, wish), methods=["POST"])
    routes.register_error_handler(UnknownNameError, lambda e: (jsonify(error=str(e)), 404))
    routes.register_error_handler(RefusedError, lambda e: (jsonify(error=str(e)), 409))
    return routes


def _answer(backend: Backend, answer: Callable[[Tools, ProjectRow], Any]) -> Any:
    key = project_key(request.args.get("project", ""))
    row = backend.store.projects.get(key)
    return unknown(backend, key) if row is None else jsonify(answer(_tools(backend), row))


def _review(backend: Backend, tools: Tools, row: ProjectRow) -> dict[str, Any]:
    return asking.review(tools, row, request.args.get("state", "open"), links=backend.links)


def _wish(backend: Backend, wish: Wish) -> Any:
    if backend.settings.read_only:
        return jsonify(error="HARDFIRST_READ_ONLY is set: nothing can be changed here; commands still can"), 403
    asked = json_object()
    key = project_key(asked.get("project", ""))
    row = backend.store.projects.get(key)
    return unknown(backend, key) if row is None else jsonify(wish(_tools(backend), row, asked))


def _tools(backend: Backend) -> Tools:
    """With a memory of labels of its own: requests come in many threads."""
    return replace(backend.tools, labels={}, seconds={})


def project_key(key: Any) -> str:
    """The key as it was given. Raises BadRequestError."""
    if not isinstance(key, str) or ":" not in key:
        raise BadRequestError(f"project is {key!r}; give it as platform:id, such as label-studio:12")
    return key


def unknown(backend: Backend, key: str) -> Any:
    """404 with the projects there are."""
    known = [p.key for p in backend.store.projects.all()]
    return jsonify(error=f"no project {key!r}; there are {known}"), 404
