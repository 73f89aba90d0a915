"""Background requests of the stand-in CVAT: imports and exports that are queued, started, then done.

Nothing runs by itself: a request goes on when it is asked for, and after `world.work_takes` seconds at the next
call of anybody. So a test sees every status, and no thread is left over.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from flask import Blueprint, Response, request

from tests.cvat_server.access import Caller, current
from tests.cvat_server.bodies import request_json
from tests.cvat_server.lists import Kind, page
from tests.cvat_server.replies import RefusalError, forbidden, not_a_page, reply, sent
from tests.cvat_server.world import Request, World

NO_NUCLIO = (
    "HTTPConnectionPool(host='nuclio', port=8070): Max retries exceeded with url: /api/functions (Caused by "
    "NameResolutionError(\"HTTPConnection(host='nuclio', port=8070): Failed to resolve 'nuclio' ([Errno -2] Name or "
    'service not known)"))'
)
_KEPT = {"create:task": timedelta(seconds=500), "failed": timedelta(days=365)}


def start(world: World, caller: Caller, rq_id: str, kind: str, work: Callable[[], None], **more: Any) -> Request:
    """Stores a request; its `work` is done when it goes on.

    Args:
        world: the world.
        caller: who asks.
        rq_id: "action=create&target=task&target_id=4"; an older request of this id is forgotten.
        kind: "create:task", "export:dataset" ...
        work: called with the world's lock; an exception fails the request with its text.
        more: other fields of `Request`.
    """
    one = Request(rq_id, kind, caller.user.id, world.now(), work, asked=time.monotonic(), **more)
    world.requests.pop(rq_id, None)
    world.requests[rq_id] = one
    return one


def settle(world: World) -> None:
    """Finishes the requests that nobody asks about and whose time is over."""
    with world.lock:
        for one in list(world.requests.values()):
            if one.is_open and time.monotonic() - one.asked >= world.work_takes:
                _finish(world, one)


def advance(world: World, one: Request) -> None:
    """One step: the first question starts a request, the next one finds it done (see `World.polls`)."""
    if not one.is_open:
        return
    one.seen += 1
    if one.status == "queued":
        one.status, one.started_date = "started", world.now()
        one.message = "Media files are being extracted..." if one.type == "create:task" else ""
    if one.seen > world.polls:
        _finish(world, one)


def _finish(world: World, one: Request) -> None:
    one.started_date = one.started_date or world.now()
    try:
        one.work()
        one.status, one.message = "finished", ""
    except Exception as error:  # noqa: BLE001 - whatever the work meets becomes the request's message
        one.status, one.message, one.result_url = "failed", str(error), None
    one.finished_date = world.now()
    kept = _KEPT.get(one.type if one.status == "finished" else "failed", timedelta(days=1))
    one.expiry_date = one.finished_date + kept
    world.changed("request", f"completed:request[{one.type}]", {}, request_json(world, one), world.users[one.owner_id])


def _find(world: World, caller: Caller, rq_id: str) -> Request:
    one = world.requests.get(rq_id)
    if one is None or (one.expiry_date is not None and one.expiry_date <= world.now()):
        raise RefusalError(404, "There is no request with specified id", html=True)
    if one.owner_id != caller.user.id and not caller.user.is_superuser:
        raise forbidden()
    return one


_REQUESTS: Kind[Request] = Kind(
    {
        "created_date": lambda one: one.created_date,
        "status": lambda one: one.status,
        "action": lambda one: one.type.partition(":")[0],
        "subresource": lambda one: one.type.partition(":")[2],
        "target": lambda one: one.target,
        "project_id": lambda one: one.project_id,
        "task_id": lambda one: one.task_id,
        "job_id": lambda one: one.job_id,
        "format": lambda one: one.format,
    },
    ("status", "action", "subresource", "target", "project_id", "task_id", "job_id", "format"),
)


def blueprint(world: World) -> Blueprint:
    """Routes of /api/requests, and of what an open-source server without helpers does not have."""
    routes = Blueprint("background", __name__, url_prefix="/api")

    @routes.get("/requests")
    def list_requests() -> Response:
        caller = current(world)
        own = [one for one in list(world.requests.values()) if one.owner_id == caller.user.id]
        return page(own, _REQUESTS, lambda one: request_json(world, one), sort_key="created_date")

    @routes.get("/requests/<path:rq_id>")
    def one_request(rq_id: str) -> Response:
        caller = current(world)
        with world.lock:
            one = _find(world, caller, rq_id)
            advance(world, one)
            return reply(request_json(world, one))

    @routes.post("/requests/<path:rq_id>/cancel")
    def cancel(rq_id: str) -> Response:
        caller = current(world)
        with world.lock:
            one = _find(world, caller, rq_id)
            if one.status != "queued":
                raise RefusalError(400, "Only requests that have not yet been started can be cancelled", html=True)
            del world.requests[rq_id]
        return reply()

    _add_absent(routes, world)
    return routes


def _add_absent(routes: Blueprint, world: World) -> None:
    @routes.route("/functions", methods=["GET", "POST"])
    @routes.route("/functions/<path:rest>", methods=["GET", "POST"])
    def functions(rest: str = "") -> Response:
        raise not_a_page()

    @routes.get("/lambda/<path:rest>")
    def serverless(rest: str) -> Response:
        current(world)
        raise RefusalError(503, NO_NUCLIO)

    @routes.get("/events")
    def list_events() -> Response:
        current(world)
        return reply({"query_id": str(uuid.uuid4())}, 202)

    @routes.post("/events")
    def send_events() -> Response:
        if current(world).token is not None:
            raise forbidden()
        return reply(sent(), 201)

    @routes.post("/events/export")
    def export_events() -> Response:
        caller = current(world)
        rq_id = f"action=export&target=events&id={uuid.uuid4()}&user_id={caller.user.id}"
        task_id = request.args.get("task_id", type=int)
        start(world, caller, rq_id, "export:events", _no_clickhouse, target="events", task_id=task_id)
        return reply({"rq_id": rq_id}, 202)


def _no_clickhouse() -> None:
    raise RuntimeError("requests.exceptions.ConnectionError: clickhouse:8123: Connection refused\n")
