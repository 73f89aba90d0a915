"""What the stand-in CVAT announces to webhooks: which change goes to which webhook, and the body of the call."""

from __future__ import annotations

from typing import Any

from tests.cvat_server import bodies
from tests.cvat_server.access import Caller
from tests.cvat_server.courier import Courier, Parcel
from tests.cvat_server.world import Json, User, Webhook, World


def courier_of(world: World) -> Courier:
    """The webhook worker of a world, made and told of every change at the first question; `world.courier`."""
    found: Courier | None = getattr(world, "courier", None)
    if found is None:
        found = Courier(world)
        world.courier = found  # type: ignore[attr-defined]
        world.listeners.append(_Announcer(world, found).tell)
    return found


class _Announcer:
    """Turns changes of the world into calls of the webhooks that asked for them."""

    def __init__(self, world: World, courier: Courier) -> None:
        self._world, self._courier = world, courier

    def tell(self, kind: str, event: str, before: Json, after: Json, sender: User | None) -> None:
        hooks = [one for one in self._world.webhooks.values() if one.is_active and event in one.events]
        if not hooks:
            return
        project_id, organization_id = self._place(kind, after)
        for hook in hooks:
            if project_id == hook.project_id if hook.type == "project" else organization_id == hook.organization_id:
                body = payload(self._world, hook, kind, event, before, after, sender)
                self._courier.post(Parcel(hook.id, body))

    def _place(self, kind: str, after: Json) -> tuple[int | None, int | None]:
        """Ids of the project and the organisation that a change belongs to."""
        world, number = self._world, after["id"]
        if kind == "request":
            return after["operation"]["project_id"], after["operation"]["org_id"]
        if kind == "job":
            number = world.jobs[number].task_id
        if kind in ("job", "task"):
            return world.tasks[number].project_id, world.tasks[number].organization_id
        if kind == "project":
            return number, world.projects[number].organization_id
        return None, number if kind == "organization" else after.get("organization")


def payload(world: World, hook: Webhook, kind: str, event: str, before: Json, after: Json, sender: User | None) -> Json:
    """The body of one call, keys in CVAT's order."""
    thing = after if kind == "request" else _thing(world, kind, after, sender)
    if kind == "request":
        return {"event": event, "request": thing, "webhook_id": hook.id}
    by_worker = is_workers(kind, event, before, after, thing)
    who = {"id": sender.id, "username": sender.username, "email": sender.email} if by_worker and sender else None
    who = who or bodies.user_json(world, sender.id if sender else None)
    thing = as_seen_by_worker(world, thing) if by_worker else thing
    if event.startswith("delete"):
        return {"event": event, kind: thing, "sender": who, "webhook_id": hook.id}
    body = {"event": event, "webhook_id": hook.id, kind: thing, "sender": who}
    if not event.startswith("update"):
        return body
    changed = [name for name in before if before[name] != after[name]]
    return body | {
        "before_update": {name: before[name] for name in changed},
        "changes": {name: {"from": before[name], "to": after[name]} for name in changed},
    }


def is_workers(kind: str, event: str, before: Json, after: Json, thing: Json) -> bool:
    """Whether CVAT announces this from the process that imports data: jobs made and fields set by an import."""
    if event == "create:job":
        return bool(thing["type"] == "annotation")
    return kind == "task" and before.get("mode", "") != after.get("mode", "")


def as_seen_by_worker(world: World, value: Any) -> Any:
    """A body written outside a web request: addresses without a host, and names that need permission are null."""
    if isinstance(value, list):
        return [as_seen_by_worker(world, one) for one in value]
    if isinstance(value, str):
        return value.removeprefix(world.base_url)
    if not isinstance(value, dict):
        return value
    found = {key: as_seen_by_worker(world, one) for key, one in value.items()}
    hidden: Json = {"task_name": None, "project_name": None, "issues": None}
    if "task_id" in found:
        hidden |= {"data_chunk_size": None, "data_compressed_chunk_type": "", "data_original_chunk_type": ""}
        hidden |= {"dimension": "", "mode": "", "media_type": ""}
    return found | {key: one for key, one in hidden.items() if key in found}


def _thing(world: World, kind: str, after: Json, sender: User | None) -> Json:
    number = after["id"]
    if kind == "project":
        return bodies.project_json(world, world.projects[number])
    viewer = _viewer(world, sender) if sender else None
    if kind == "job":
        return bodies.job_json(world, world.jobs[number], viewer)
    return bodies.task_json(world, world.tasks[number], viewer) if kind == "task" else after


def _viewer(world: World, user: User) -> Caller:
    roles = {one.organization_id: one.role for one in world.memberships.values() if one.user_id == user.id}
    return Caller(world, user, roles=roles)
