"""The Flask application: the platforms' blueprints, the queue and the rounds as JSON, the pages, metrics."""

from __future__ import annotations

import logging
import secrets as _secrets
import time
from collections.abc import Iterable
from typing import Any

from flask import Flask, Response, g, jsonify, request
from werkzeug.exceptions import HTTPException

from common.errors import HardfirstError, StoreError
from common.ports import PlatformPlugin
from common.web import pages, rounds
from common.web.auth import guard
from common.web.backend import Backend
from common.web.body import MAX_LIMIT, BadRequestError, limit
from common.web.metrics import ProjectMetrics, observe

__all__ = ["MAX_BODY", "MAX_LIMIT", "create_app"]

MAX_BODY = 16 * 1024 * 1024
"""Bytes of a request; more is answered with 413. The largest webhook of a platform has some 3 MB."""

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
    app.register_blueprint(rounds.blueprint(backend))
    app.register_blueprint(pages.blueprint(backend))
    app.add_url_rule("/api/queue", "queue", lambda: _queue(backend))
    metrics = ProjectMetrics(backend.tools)
    app.add_url_rule("/metrics", "metrics", lambda: _metrics(metrics))
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
    app.register_error_handler(BadRequestError, lambda e: (jsonify(error=str(e)), 400))
    app.register_error_handler(HardfirstError, lambda e: (jsonify(error=str(e)), 503))
    app.register_error_handler(Exception, _unexpected)


def _http_error(error: HTTPException) -> Any:
    return jsonify(error=error.description or error.name), error.code or 500


def _unexpected(error: Exception) -> Any:
    log.error("unexpected %s (trace %s)", type(error).__name__, g.get("trace"), exc_info=error)
    return jsonify(error=f"unexpected {type(error).__name__}; the log has trace {g.get('trace')}"), 500


def _queue(backend: Backend) -> Any:
    key = rounds.project_key(request.args.get("project", ""))
    found = backend.queue(key, limit())
    return rounds.unknown(backend, key) if found is None else jsonify(found)


def _metrics(metrics: ProjectMetrics) -> Response:
    text, kind = metrics.exposition()
    return Response(text, content_type=kind)
