"""Routes of /api/webhooks: making webhooks, looking at their deliveries, ping and redelivery."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, request

from tests.cvat_server import bodies
from tests.cvat_server.access import BOSSES, Caller, current
from tests.cvat_server.announcements import courier_of
from tests.cvat_server.courier import Courier, Parcel, as_stored
from tests.cvat_server.lists import Kind, page
from tests.cvat_server.replies import forbidden, invalid, missing, reply, sent, server_error
from tests.cvat_server.world import Delivery, Json, Webhook, World, stamp

GROUPS = {
    "task": "Task",
    "job": "Job",
    "issue": "Issue",
    "comment": "Comment",
    "request[export:annotations]": "Dataset export",
    "request[export:dataset]": "Dataset export",
    "request[export:backup]": "Backup export",
    "request[create:task]": "Task data creation",
    "request[merge:task]": "Consensus merge",
    "request[merge:job]": "Consensus merge",
    "request[calculate:quality]": "Quality report creation",
    "project": "Project",
    "organization": "Organization",
    "invitation": "Invitation",
    "membership": "Membership",
}
_EVERY = [
    *(f"{verb}:{what}" for what in ("task", "job", "issue", "comment") for verb in ("create", "update", "delete")),
    *(f"completed:{what}" for what in GROUPS if what.startswith("request")),
]
EVENTS = {
    "project": [*_EVERY, "update:project", "delete:project"],
    "organization": [
        *_EVERY,
        *(f"{verb}:project" for verb in ("create", "update", "delete")),
        "update:organization",
        *("create:invitation", "delete:invitation", "create:membership", "update:membership", "delete:membership"),
    ],
}


def webhook_json(world: World, hook: Webhook) -> Json:
    """A webhook; the secret is never shown, the last delivery only where there is one."""
    body: Json = {
        "id": hook.id,
        "url": bodies.url(world, f"webhooks/{hook.id}"),
        "target_url": hook.target_url,
        "description": hook.description,
        "type": hook.type,
        "content_type": hook.content_type,
        "is_active": hook.is_active,
        "enable_ssl": hook.enable_ssl,
        "created_date": stamp(hook.created_date),
        "updated_date": stamp(hook.updated_date),
        "owner": bodies.user_json(world, hook.owner_id),
        "project_id": hook.project_id,
        "organization": hook.organization_id,
        "events": sorted(hook.events),
    }
    made = [one for one in world.deliveries.values() if one.webhook_id == hook.id]
    if made:
        body |= {"last_status": made[-1].status_code, "last_delivery_date": stamp(made[-1].updated_date)}
    return body


def delivery_json(one: Delivery) -> Json:
    return {
        "id": one.id,
        "webhook_id": one.webhook_id,
        "event": one.event,
        "status_code": one.status_code,
        "redelivery": one.redelivery,
        "attempt": one.attempt,
        "request_duration": int(one.request_duration or 0),
        "created_date": stamp(one.created_date),
        "updated_date": stamp(one.updated_date),
        "changed_fields": one.changed_fields,
        "request": one.request,
        "response": one.response,
    }


_HOOKS: Kind[Webhook] = Kind(
    fields={
        "id": lambda one: one.id,
        "target_url": lambda one: one.target_url,
        "type": lambda one: one.type,
        "description": lambda one: one.description,
        "project_id": lambda one: one.project_id,
        "updated_date": lambda one: one.updated_date,
    },
    queries=("target_url", "type", "project_id"),
)
_DELIVERIES: Kind[Delivery] = Kind(fields={"id": lambda one: one.id})


def blueprint(world: World) -> Blueprint:
    """Routes of /api/webhooks; from here on the world's changes are announced."""
    routes = Blueprint("webhooks", __name__, url_prefix="/api/webhooks")
    courier = courier_of(world)
    _add_list(routes, world)
    _add_hook(routes, world, courier)
    _add_deliveries(routes, world, courier)
    return routes


def _add_list(routes: Blueprint, world: World) -> None:
    @routes.get("/events")
    def events() -> Response:
        kind = request.args.get("type", "")
        if kind not in EVENTS:
            raise invalid(["Incorrect value of type parameter"])
        found = [{"key": key, "group": {"display_name": GROUPS[key.partition(":")[2]]}} for key in EVENTS[kind]]
        return reply({"webhook_type": kind, "events": found})

    @routes.get("")
    def listed() -> Response:
        caller = current(world)
        with world.lock:
            mine = [one for one in world.webhooks.values() if _may(caller, one) and _here(caller, one)]
            return page(mine, _HOOKS, lambda one: webhook_json(world, one))

    @routes.post("")
    def create() -> Response:
        caller, body = current(world), sent()
        with world.lock:
            hook = _made(world, caller, body)
            answer = webhook_json(world, hook)
        return reply(answer, 201, {"Location": answer["url"]})


def _add_hook(routes: Blueprint, world: World, courier: Courier) -> None:
    @routes.route("/<int:number>", methods=["GET", "PATCH", "PUT", "DELETE"])
    def one(number: int) -> Response:
        caller = current(world)
        with world.lock:
            hook = _found(world, caller, number)
            if request.method == "DELETE":
                _remove(world, courier, hook)
                return reply(status=204)
            if request.method != "GET":
                _set(hook, _checked(sent(), hook.type))
                hook.updated_date = world.now()
                if not hook.is_active:
                    courier.forget(hook.id)
            return reply(webhook_json(world, hook))

    @routes.post("/<int:number>/ping")
    def ping(number: int) -> Response:
        caller = current(world)
        with world.lock:
            hook = _found(world, caller, number)
            sender = bodies.user_json(world, hook.owner_id)
            body = {"event": "ping", "webhook": webhook_json(world, hook), "sender": sender}
        delivery = courier.deliver(Parcel(number, body))
        return reply(delivery_json(delivery) if delivery else {})


def _add_deliveries(routes: Blueprint, world: World, courier: Courier) -> None:
    def found(number: int, delivery_id: int) -> Delivery:
        _found(world, current(world), number)
        one = world.deliveries.get(delivery_id)
        if one is None or one.webhook_id != number:
            raise missing("WebhookDelivery")
        return one

    @routes.get("/<int:number>/deliveries")
    def deliveries(number: int) -> Response:
        with world.lock:
            _found(world, current(world), number)
            made = [one for one in world.deliveries.values() if one.webhook_id == number]
            return page(made, _DELIVERIES, delivery_json)

    @routes.get("/<int:number>/deliveries/<int:delivery_id>")
    def delivery(number: int, delivery_id: int) -> Response:
        with world.lock:
            return reply(delivery_json(found(number, delivery_id)))

    @routes.post("/<int:number>/deliveries/<int:delivery_id>/redelivery")
    def redeliver(number: int, delivery_id: int) -> Response:
        with world.lock:
            again = found(number, delivery_id).request
        courier.post(Parcel(number, as_stored(again), redelivery=True))
        return reply({})


def _may(caller: Caller, hook: Webhook) -> bool:
    """Owners and maintainers of the organisation, the webhook's maker, and whoever owns its project."""
    if caller.user.is_superuser or caller.roles.get(hook.organization_id or 0) in BOSSES:
        return True
    project = caller.world.projects.get(hook.project_id or 0)
    owns = project is not None and project.owner_id == caller.user.id
    return caller.user.id == hook.owner_id or owns


def _here(caller: Caller, hook: Webhook) -> bool:
    if caller.organization is not None:
        return hook.organization_id == caller.organization.id
    return not caller.personal or hook.organization_id is None


def _found(world: World, caller: Caller, number: int) -> Webhook:
    hook = world.webhooks.get(number)
    if hook is None:
        raise missing("Webhook")
    if not _may(caller, hook):
        raise forbidden()
    return hook


def _made(world: World, caller: Caller, body: Json) -> Webhook:
    kind, project_id = body.get("type", ""), body.get("project_id")
    wanted = _checked(body, kind, new=True)
    project = world.projects.get(project_id or 0)
    if kind == "project" and project is None:
        raise server_error() if caller.organization and project_id is None else forbidden()
    if not _may_make(caller, kind, project.owner_id if project else None):
        raise forbidden()
    now, org = world.now(), caller.organization.id if caller.organization else None
    if project is not None:
        org = project.organization_id
    hook = Webhook(world.next_id("webhook"), "", kind, caller.user.id, project_id, org, [], now, world.now())
    _set(hook, wanted)
    world.webhooks[hook.id] = hook
    return hook


def _may_make(caller: Caller, kind: str, owner_id: int | None) -> bool:
    if caller.user.is_superuser or caller.role in BOSSES:
        return True
    own = kind == "project" and owner_id == caller.user.id
    return own and (caller.organization is None or caller.role == "supervisor")


_CHECKS: dict[str, Callable[[Any], str | None]] = {
    "target_url": lambda value: None if str(value).startswith(("http://", "https://")) else "Enter a valid URL.",
    "content_type": lambda value: None if value == "application/json" else f'"{value}" is not a valid choice.',
    "type": lambda value: None if value in EVENTS else f'"{value}" is not a valid choice.',
}


def _checked(body: Json, kind: str, *, new: bool = False) -> Json:
    """The fields of a request that are a webhook's; RefusalError where one is missing or wrong."""
    needed = ("events", "target_url", "type") if new else ()
    errors = {name: ["This field is required."] for name in needed if name not in body}
    for name, check in _CHECKS.items():
        if name in body and (wrong := check(body[name])):
            errors[name] = [wrong]
    strange = [event for event in body.get("events", []) if event not in EVENTS.get(kind, ())]
    if strange:
        errors["events"] = [f'"{strange[0]}" is not a valid choice.']
    if errors:
        raise invalid(errors)
    settable = ("target_url", "description", "content_type", "secret", "is_active", "enable_ssl", "events")
    return {name: body[name] for name in settable if name in body}


def _set(hook: Webhook, values: Json) -> None:
    for name, value in values.items():
        setattr(hook, name, value)


def _remove(world: World, courier: Courier, hook: Webhook) -> None:
    courier.forget(hook.id)
    del world.webhooks[hook.id]
    for number in [one.id for one in world.deliveries.values() if one.webhook_id == hook.id]:
        del world.deliveries[number]
