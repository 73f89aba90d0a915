"""The Flask application: the platforms' blueprints, the queue as JSON, metrics."""

from __future__ import annotations

import logging
import secrets as _secrets
import time
from collections.abc import Iterable
from typing import Any

from flask import Flask, Response, g, jsonify, request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from werkzeug.exceptions import HTTPException

from common.errors import HardfirstError, StoreError
from common.ports import PlatformPlugin
from common.web.auth import guard
from common.web.backend import Backend
from common.web.metrics import collect, observe

MAX_BODY = 20 * 1024 * 1024
"""Bytes of a request; more is answered with 413."""

log = logging.getLogger(__name__)


def create_app(backend: Backend, plugins: Iterable[PlatformPlugin]) -> Flask:
    """The application; nothing is loaded and no connection is made until a request needs it."""
    app = Flask("hardfirst", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.strict_slashes = False
    webhook_secrets = backend.settings.secrets()
    app.before_request(lambda: _start(backend, webhook_secrets))
    app.after_request(_finish)
    _errors(app)
    for plugin in plugins:
        app.register_blueprint(plugin.blueprint(backend))
    app.add_url_rule("/api/queue", "queue", lambda: _queue(backend))
    app.add_url_rule("/metrics", "metrics", lambda: _metrics(backend))
    return app


def _start(backend: Backend, webhook_secrets: tuple[str, ...]) -> Response | None:
    g.started = time.perf_counter()
    g.trace = _secrets.token_hex(4)
    return guard(backend.settings, webhook_secrets)


def _finish(response: Response) -> Response:
    seconds = time.perf_counter() - g.get("started", time.perf_counter())
    endpoint = (request.endpoint or "unknown").rpartition(".")[2]
    observe(endpoint, response.status_code, seconds)
    if seconds > 1:
        log.warning("%s took %.1f s", endpoint, seconds)
    return response


def _errors(app: Flask) -> None:
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(StoreError, lambda e: (jsonify(error=str(e)), 503))
    app.register_error_handler(HardfirstError, lambda e: (jsonify(error=str(e)), 400))
    app.register_error_handler(Exception, _unexpected)


def _http_error(error: HTTPException) -> Any:
    return jsonify(error=error.description or error.name), error.code or 500


def _unexpected(error: Exception) -> Any:
    log.error("unexpected %s (trace %s)", type(error).__name__, g.get("trace"), exc_info=error)
    return jsonify(error=f"unexpected {type(error).__name__}; the log has trace {g.get('trace')}"), 500


def _queue(backend: Backend) -> Any:
    key = request.args.get("project", "")
    limit = request.args.get("limit")
    if ":" not in key:
        return jsonify(error=f"project is {key!r}; give it as platform:id, such as label-studio:12"), 400
    if limit is not None and not limit.isdigit():
        return jsonify(error=f"limit is {limit!r}; give a whole number, 0 or more"), 400
    found = backend.queue(key, int(limit) if limit is not None else None)
    if found is None:
        known = [p.key for p in backend.store.projects.all()]
        return jsonify(error=f"no project {key!r}; there are {known}"), 404
    return jsonify(found)


def _metrics(backend: Backend) -> Response:
    collect(backend.store)
    return Response(generate_latest(), content_type=CONTENT_TYPE_LATEST)
