"""What CVAT and people ask of us: POST /webhooks takes events as hints, GET /api/jobs shows the ranked jobs."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flask import Blueprint, Response, jsonify, request

from common.config import Settings
from common.domain import Event
from common.errors import SettingError
from common.store.projects import ProjectRow
from common.web import rounds
from common.web.auth import ChecksItself
from common.web.backend import Backend
from common.web.body import BadRequestError, json_object, limit
from cvat_adapter.nouns import STAGES, done, place_of

PLATFORM = "cvat"
SIGNATURE = "X-Signature-256"
MAX_EVENT = 2**20
"""Bytes of an event; the largest recorded one has 1,600."""
SAVED_S = 30.0
"""After a save in a completed job: one press of "Save" makes up to nine events, and a person saves again."""
IMPORT_S = 5.0
"""After the first job of a new task: every further one is an event of its own."""

Wanted = tuple[str, float]
"""Kind of a hint, and seconds until it is looked at."""

log = logging.getLogger(__name__)


def blueprint(backend: Backend) -> Blueprint:
    """The routes; the secrets are read once, here."""
    routes = Blueprint(PLATFORM, __name__)
    secrets = tuple(s for s in backend.settings.secrets() if s)
    webhooks = ChecksItself(lambda: _webhook(backend, secrets))
    for path in ("/webhooks", "/webhooks/"):  # CVAT would follow a redirect from one to the other as an empty GET
        routes.add_url_rule(path, "cvat_webhook", webhooks, methods=["GET", "POST"], strict_slashes=False)
    routes.add_url_rule("/api/jobs", "cvat_jobs", lambda: _jobs(backend))
    return routes


# --- events ----------------------------------------------------------------------------------------------


def _webhook(backend: Backend, secrets: Sequence[str]) -> tuple[Response, int]:
    if request.method != "POST":
        return _not_posted(), 405
    request.max_content_length = MAX_EVENT
    given = request.headers.get(SIGNATURE, "")
    if not (given and signed(secrets, request.get_data(), given)):
        error = f"{SIGNATURE} is missing or wrong: run `hardfirst connect cvat` again, which gives CVAT our secret"
        return jsonify(error=error), 401
    found = hint(backend, json_object())
    if found is not None:
        backend.record(*found)
    return jsonify(status="ok"), 200


def _not_posted() -> Response:
    told = f"CVAT posts its events here, and this was a {request.method}: a redirect on the way turns a POST into a GET"
    refused: Response = jsonify(error=f"{told}, so give HARDFIRST_URL as it is behind the redirect")
    refused.headers["Allow"] = "POST"
    return refused


def signed(secrets: Sequence[str], body: bytes, given: str) -> bool:
    """Whether ``given`` is the signature of these very bytes with one of the secrets, compared in constant time."""
    right = [f"sha256={hmac.new(s.encode(), body, 'sha256').hexdigest()}" for s in secrets]
    matches = [hmac.compare_digest(r.encode(), given.encode(errors="replace")) for r in right]  # all: constant time
    return any(matches)


def hint(backend: Backend, sent: Mapping[str, Any]) -> tuple[Event, float] | None:
    """What an event makes worth a look, and in how many seconds; None where it is nothing for us.

    Events come twice, late and in any order: they only say where to look, never what is there.
    """
    event = sent.get("event")
    meaning = MEANINGS.get(event) if isinstance(event, str) else None
    wanted = meaning(sent) if meaning else None
    project = project_of(sent)
    if wanted is None or not project:
        return None
    row, is_sibling = _connected(backend, project)
    if row is None:
        log.debug("an event of project %s, which is not connected", project)
        return None
    kind, delay_s = wanted
    me = _id(_object(row.platform_state.get("user")).get("id"))
    if me and _sender(sent) == me and _ours(kind, changed(sent), is_sibling):
        return None
    return Event(PLATFORM, row.external, kind), delay_s


def _connected(backend: Backend, project: str) -> tuple[ProjectRow | None, bool]:
    """(the connected project that a project of CVAT's is, or whose queue tasks it holds; whether it is the latter)."""
    row = backend.store.projects.get(f"{PLATFORM}:{project}")
    if row is not None and row.state != "archived":
        return row, False
    alive = (r for r in backend.store.projects.all() if r.platform == PLATFORM and r.state != "archived")
    return next((r for r in alive if str(r.platform_state.get("sibling")) == project), None), True


ASSIGNING = frozenset({"assignee", "assignee_id", "assignee_updated_date"})
JOB_NEWS = frozenset({"state", "stage", *ASSIGNING})
PROJECT_NEWS = frozenset({"name", "labels"})
"""Fields of CVAT whose change is worth a look."""


def _ours(kind: str, fields: frozenset[str], is_sibling: bool) -> bool:
    """Whether it is what we do ourselves: assign jobs, make queue tasks. All else a person did with our account."""
    return is_sibling if kind == "samples" else bool(fields) and fields <= ASSIGNING


def _job(sent: Mapping[str, Any]) -> Wanted | None:
    fields, job = changed(sent), _object(sent.get("job"))
    if job.get("type", "annotation") != "annotation":
        return None
    if fields & JOB_NEWS:
        return "labels", 0.0
    return ("labels", SAVED_S) if done(job.get("state"), job.get("stage"), STAGES[0]) else None


def _import(sent: Mapping[str, Any]) -> Wanted | None:
    return ("samples", 0.0) if _object(sent.get("request")).get("status") == "finished" else None


MEANINGS: dict[str, Callable[[Mapping[str, Any]], Wanted | None]] = {
    "update:job": _job,
    "create:job": lambda _: ("samples", IMPORT_S),
    "delete:job": lambda _: ("samples", IMPORT_S),
    "create:task": lambda _: ("samples", 0.0),
    "delete:task": lambda _: ("samples", 0.0),
    "update:task": lambda sent: ("samples", 0.0) if changed(sent) else None,
    "update:project": lambda sent: ("samples", 0.0) if changed(sent) & PROJECT_NEWS else None,
    "delete:project": lambda _: ("samples", 0.0),  # the next look finds it gone
    "completed:request[create:task]": _import,
}
"""Event -> what it makes worth a look; every other event is none of ours."""


def changed(sent: Mapping[str, Any]) -> frozenset[str]:
    """Fields that changed besides the time; servers before 2.73 say only what was there before."""
    changes = sent.get("changes")
    said = changes if isinstance(changes, dict) else _object(sent.get("before_update"))
    return frozenset(said) - {"updated_date"}


def project_of(sent: Mapping[str, Any]) -> str:
    """CVAT's id of the project that an event is about, '' where it names none."""
    operation = _object(_object(sent.get("request")).get("operation"))
    owners = [_object(sent.get(noun)) for noun in ("job", "task")] + [operation, _object(sent.get("webhook"))]
    ids = [_id(o.get("project_id")) for o in owners] + [_id(_object(sent.get("project")).get("id"))]
    return next(filter(None, ids), "")


def _sender(sent: Mapping[str, Any]) -> str:
    """Id of the user who did it, '' where nobody is named; events of requests name only their owner."""
    who = sent.get("sender") or _object(sent.get("request")).get("owner")
    return _id(_object(who).get("id"))


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _id(value: Any) -> str:
    """An id of CVAT as text, '' where it is none."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63 else ""


# --- jobs ------------------------------------------------------------------------------------------------


def _jobs(backend: Backend) -> Any:
    key, wanted = rounds.project_key(request.args.get("project", "")), limit()
    row = backend.store.projects.get(key)
    if row is None:
        return rounds.unknown(backend, key)
    if row.platform != PLATFORM:
        raise BadRequestError(f"project is {key!r}, which has no jobs; give one of CVAT, such as {PLATFORM}:4")
    return jsonify(jobs(backend, row, wanted))


def jobs(backend: Backend, row: ProjectRow, most: int | None) -> dict[str, Any]:
    """The jobs of a project as annotators get them, best first; those without a rank come last."""
    found = backend.store.memories.of(row.key).all("job") if row.state != "archived" else {}
    ranked = sorted(found.items(), key=lambda item: (item[1]["rank"] is None, item[1]["rank"], int(item[0])))
    modes = [r["mode"] for r in found.values()] or [row.platform_state.get("options", {}).get("queue") or "inbox"]
    base = _base(backend.settings)
    return {
        "project": row.key,
        "version": backend.version(PLATFORM, row.external),
        "mode": modes[0],
        "jobs": [_shown(base, int(number), r) for number, r in ranked[:most]],
    }


def _base(settings: Settings) -> str:
    """CVAT's address, '' where it is missing: the jobs are worth showing without links."""
    from cvat_adapter.client import address

    try:
        return settings.cvat_links or address(settings.cvat_url)
    except SettingError as error:
        log.warning("the jobs are shown without links: %s", error)
        return ""


def _shown(base: str, number: int, r: Mapping[str, Any]) -> dict[str, Any]:
    same = ("rank", "value", "reason", "task", "state", "stage")
    shown = {"id": number, **{name: r[name] for name in same}, "frames": [r["start"], r["stop"]]}
    shown |= {"assignee": r["assignee_name"] or None, "link": _link(base, number, r)}
    order = ("id", "rank", "value", "reason", "task", "frames", "state", "stage", "assignee", "link")
    return {name: shown[name] for name in order}


def _link(base: str, number: int, r: Mapping[str, Any]) -> str:
    """The job at its best frame; that of a queue task is another task's, so the job opens at its first frame."""
    task, frame = place_of(r["sample"]) if r.get("sample") else (0, 0)
    at = frame if task == r["task"] and r["start"] <= frame <= r["stop"] else r["start"]
    return f"{base}/tasks/{r['task']}/jobs/{number}?frame={at}" if base else ""
