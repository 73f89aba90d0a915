"""The ML-backend protocol: /health /setup /predict /webhook /train /versions. Parses, asks the backend, formats."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, jsonify, request

from common.domain import Event, ProjectSpec, RemoteSample
from common.errors import HardfirstError, StoreError, UnsupportedProjectError
from common.web.backend import Answer, Backend
from common.web.body import BadRequestError, json_object
from ls_backend import label_config, wire

PLATFORM = "label-studio"
MODEL_CLASS = "hardfirst"

KINDS = {
    "ANNOTATION_CREATED": "labels",
    "ANNOTATIONS_CREATED": "labels",
    "ANNOTATION_UPDATED": "labels",
    "ANNOTATIONS_DELETED": "labels",
    "TASKS_CREATED": "samples",
    "TASKS_DELETED": "samples",
    "START_TRAINING": "train",
}
"""Webhook action -> what it hints at."""

MAX_PREDICT = 64 * 1024 * 1024
"""Bytes of a /predict: "Retrieve predictions" sends every task of the project at once."""
MAX_ID = 18
"""Digits of an id: what a database's integers hold."""

log = logging.getLogger(__name__)


def blueprint(backend: Backend) -> Blueprint:
    """The routes Label Studio calls."""
    routes = Blueprint("label_studio", __name__)
    routes.add_url_rule("/", "index", lambda: jsonify(_health()))
    routes.add_url_rule("/health", "health", lambda: jsonify(_health()))
    routes.add_url_rule("/setup", "setup", lambda: jsonify(setup(backend, json_object())), methods=["POST"])
    routes.add_url_rule("/predict", "predict", lambda: _predict(backend), methods=["POST"])
    routes.add_url_rule("/webhook", "webhook", lambda: _webhook(backend), methods=["POST"])
    routes.add_url_rule("/train", "train", lambda: _train(backend), methods=["POST"])
    routes.add_url_rule("/versions", "versions", lambda: jsonify(versions=_versions(backend)))
    return routes


def _health() -> dict[str, str]:
    return {"status": "UP", "model_class": MODEL_CLASS}


def project_id(value: Any) -> str:
    """'12' of '12.1795196587', of 12 and of {'id': 12}; '' when there is none."""
    if isinstance(value, Mapping):
        value = value.get("id")
    return row_id(value.partition(".")[0] if isinstance(value, str) else value)


def row_id(value: Any) -> str:
    """An id of Label Studio, a number or its digits, as text; '' when it is none."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return ""
    if isinstance(value, int) and not 0 <= value < 10**MAX_ID:
        return ""
    text = str(value)
    return text if text.isascii() and text.isdecimal() and len(text) <= MAX_ID else ""


def setup(backend: Backend, sent: Mapping[str, Any]) -> dict[str, Any]:
    """Label Studio's hello: at every page load, so nothing is loaded and one row at most is written."""
    project = project_id(sent.get("project"))
    if not project:
        raise BadRequestError(f"project is {sent.get('project')!r}; Label Studio sends 'ID.TIMESTAMP'")
    row = backend.store.projects.get(f"{PLATFORM}:{project}")
    if row is None or row.state == "archived":
        backend.record(Event(PLATFORM, project, "connect"))
    return {"model_version": version(backend, project)}


def version(backend: Backend, project: str) -> str:
    """The version annotators are served by; before the first one a name under which nothing is stored."""
    return backend.version(PLATFORM, project) or f"{MODEL_CLASS}@0"


def _predict(backend: Backend) -> Response:
    request.max_content_length = MAX_PREDICT
    return jsonify(predict(backend, json_object()))


def predict(backend: Backend, sent: Mapping[str, Any]) -> dict[str, Any]:
    """One result per task, in order, whatever the tasks are.

    Raises:
        BadRequestError: ``tasks`` is not a list.
        StoreError: Worth another try: Label Studio would store an empty answer for good.
    """
    tasks = sent.get("tasks")
    if not isinstance(tasks, list):
        raise BadRequestError(f"tasks is a {type(tasks).__name__}; send a list of tasks")
    project = project_id(sent.get("project")) or next(
        (p for t in tasks if isinstance(t, dict) and (p := project_id(t.get("project")))), ""
    )
    known = [t for t in tasks if isinstance(t, dict) and row_id(t.get("id"))]
    if len(known) < len(tasks):
        log.warning("%s:%s: %d of %d tasks have no id", PLATFORM, project, len(tasks) - len(known), len(tasks))
    now = version(backend, project)
    answers = _answers(backend, f"{PLATFORM}:{project}", sent, known, now)
    by_task = dict(zip((id(t) for t in known), answers, strict=True))
    return {"results": [by_task.get(id(t), _nothing(now)) for t in tasks]}


def _answers(
    backend: Backend, key: str, sent: Mapping[str, Any], tasks: list[dict[str, Any]], now: str
) -> list[dict[str, Any]]:
    try:
        spec = _spec(backend, key, sent)
        found = backend.predict(key, spec, [_sample(t, spec) for t in tasks])
    except StoreError:
        raise
    except HardfirstError as error:
        log.warning("%s: /predict answers without boxes: %s", key, error)
        return [_nothing(now) for _ in tasks]
    return [_result(a, spec, now) for a in found]


def _nothing(now: str) -> dict[str, Any]:
    """No boxes; a score, because Label Studio sorts tasks without one before all others."""
    return {"result": [], "score": 1.0, "model_version": now}


def _sample(task: Mapping[str, Any], spec: ProjectSpec) -> RemoteSample:
    """Only what a prediction needs; text that is no valid Unicode names no image."""
    uri = wire.image_uri(task.get("data"), spec.details["image"])
    return RemoteSample(row_id(task["id"]), uri if uri == uri.encode(errors="ignore").decode() else "")


def _result(answer: Answer, spec: ProjectSpec, now: str) -> dict[str, Any]:
    if answer.problem:
        log.warning("task %s: no boxes: %.500s", answer.item.sample, answer.problem)
    row = wire.prediction(answer.item, answer.version or now, spec)
    return {name: row[name] for name in ("result", "score", "model_version")}


def _spec(backend: Backend, key: str, sent: Mapping[str, Any]) -> ProjectSpec:
    """From the label config in the request: it may be newer than what the worker read."""
    config = sent.get("label_config")
    if isinstance(config, str) and config.strip():
        return label_config.parse(config, show_from=backend.settings.model_score_threshold)
    row = backend.store.projects.get(key)
    if row is None or not row.spec.details:
        raise UnsupportedProjectError(f"{key} is not connected and the request carries no label_config")
    return row.spec


def _webhook(backend: Backend) -> tuple[Response, int]:
    for event in events(backend, json_object()):
        backend.record(event)
    return jsonify(status="ok"), 200


def events(backend: Backend, sent: Mapping[str, Any]) -> list[Event]:
    """What a webhook's body hints at; unknown actions hint at nothing."""
    action = sent.get("action")
    kind = _kind(action)
    if kind is None:
        log.debug("webhook action %r is not ours", action)
        return []
    project = project_id(sent.get("project"))
    if not project:  # send_payload is off: the hook does not even say which project
        return [
            Event(PLATFORM, p.external, kind)
            for p in backend.store.projects.all()
            if p.platform == PLATFORM and p.state == "active"
        ]
    if kind != "labels":
        return [Event(PLATFORM, project, kind)]
    found = _listed(sent.get("annotation")) + _listed(sent.get("annotations"))
    samples = {row_id(a.get("task")) for a in found} | {row_id(t.get("id")) for t in _listed(sent.get("task"))}
    annotations = {row_id(a.get("id")) for a in found}
    return [Event(PLATFORM, project, kind, tuple(sorted(samples - {""})), tuple(sorted(annotations - {""})))]


def _kind(action: Any) -> str | None:
    return KINDS.get(action) if isinstance(action, str) else None


def _listed(value: Any) -> list[dict[str, Any]]:
    items = value if isinstance(value, list) else [value]
    return [v for v in items if isinstance(v, dict)]


def _train(backend: Backend) -> tuple[Response, int]:
    """Older servers and scripts ask here; the worker trains."""
    sent = json_object()
    project = project_id(sent.get("project"))
    if not project:
        raise BadRequestError(f"project is {sent.get('project')!r}; send the project's id")
    backend.record(Event(PLATFORM, project, "train"))
    return jsonify(status="queued"), 202


def _versions(backend: Backend) -> list[str]:
    """Every version we ever made active, newest first; Label Studio does not say for which project it asks."""
    rows = [p for p in backend.store.projects.all() if p.platform == PLATFORM and p.state != "archived"]
    return [v for p in rows for v in backend.versions(PLATFORM, p.external)]
