"""The Flask application: the platforms' blueprints, the queue and the rounds as JSON, the pages, metrics."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable
from typing import Any

from flask import Flask, Response, g, jsonify, request
from werkzeug.exceptions import HTTPException

from common import logs
from common.errors import HardfirstError
from common.ports import PlatformPlugin
from common.web import hosts, pages, proxies, rounds
from common.web.auth import guard
from common.web.backend import Backend
from common.web.body import MAX_LIMIT, BadRequestError, limit
from common.web.metrics import ProjectMetrics, observe

__all__ = ["MAX_BODY", "MAX_LIMIT", "create_app"]

MAX_BODY = 16 * 1024 * 1024
"""Bytes of a request; more is answered with 413. The largest webhook of a platform has some 3 MB."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
"""Of every answer, where it has none of its own: nothing of it may be shown in, or read by, another site's page."""

log = logging.getLogger(__name__)


def create_app(backend: Backend, plugins: Iterable[PlatformPlugin]) -> Flask:
    """The application; nothing is loaded and no connection is made until a request needs it."""
    app = Flask("hardfirst", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.strict_slashes = False
    webhook_secrets = backend.settings.secrets()
    ours = hosts.names(backend.settings)
    app.before_request(lambda: _start(backend, webhook_secrets, ours))
    app.after_request(_finish)
    app.teardown_request(_leave)
    _errors(app, logs.Redactor(logs.known_secrets(backend.settings)))
    for plugin in plugins:
        app.register_blueprint(plugin.blueprint(backend))
    app.register_blueprint(rounds.blueprint(backend))
    app.register_blueprint(pages.blueprint(backend))
    app.add_url_rule("/api/queue", "queue", lambda: _queue(backend))
    metrics = ProjectMetrics(backend.tools)
    app.add_url_rule("/metrics", "metrics", lambda: _metrics(metrics))
    proxies.settle(app, backend.settings)
    return app


def _start(backend: Backend, webhook_secrets: tuple[str, ...], ours: Collection[str] | None) -> Response | None:
    g.started = time.perf_counter()
    g.trace = logs.taken(request.headers)
    g.told = logs.begin(trace=g.trace)
    return hosts.refused(request, ours) or guard(backend.settings, webhook_secrets)


def _finish(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    seconds = time.perf_counter() - g.get("started", time.perf_counter())
    endpoint = (request.endpoint or "unknown").rpartition(".")[2]
    observe(endpoint, response.status_code, seconds)
    if seconds > 1:
        log.warning("%s took %.1f s", endpoint, seconds)
    response.headers[logs.REQUEST_ID] = g.get("trace") or logs.fresh()
    return response


def _leave(_error: BaseException | None) -> None:
    """The next request of this thread has a trace of its own."""
    if (told := g.pop("told", None)) is not None:
        logs.end(told)


def _errors(app: Flask, redact: logs.Redactor) -> None:
    """Every error as JSON or as a page, without secrets; from 500 on with the trace, of which the log tells more."""

    def answer(said: str, status: int = 503) -> Any:
        said = redact(said)
        if status < 500:
            return jsonify(error=said), status
        if status != 500:  # those are logged where they were caught
            log.warning("%s answered %d: %s", request.path, status, said)
        return jsonify(error=said, trace=g.get("trace")), status

    def http(error: HTTPException) -> Any:
        said, status = error.description or error.name, error.code or 500
        return pages.problem(said, status) if _from_a_browser() else answer(said, status)

    def unexpected(error: Exception) -> Any:
        log.error("unexpected %s", type(error).__name__, exc_info=error)
        said = f"unexpected {type(error).__name__}; the log has trace {g.get('trace')}"
        return pages.problem(said, 500) if _from_a_browser() else answer(said, 500)

    app.register_error_handler(HTTPException, http)
    app.register_error_handler(BadRequestError, lambda e: answer(str(e), 400))
    app.register_error_handler(HardfirstError, lambda e: answer(str(e)))
    app.register_error_handler(Exception, unexpected)


def _from_a_browser() -> bool:
    return pages.wants_page() and not request.path.startswith("/api/")


def _queue(backend: Backend) -> Any:
    key = rounds.project_key(request.args.get("project", ""))
    found = backend.queue(key, limit())
    return rounds.unknown(backend, key) if found is None else jsonify(found)


def _metrics(metrics: ProjectMetrics) -> Response:
    text, kind = metrics.exposition()
    return Response(text, content_type=kind)
