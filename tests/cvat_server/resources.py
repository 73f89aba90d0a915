"""The plain resources of the stand-in CVAT: server, users, organisations, projects and labels.

The JSON of every kind is in `bodies` and can be imported from here too.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flask import Blueprint, Response, request

from tests.cvat_server import jobs as _jobs
from tests.cvat_server import organizations as _organizations
from tests.cvat_server.access import Caller, current, require_creator, require_manager, require_view, throttle_anonymous
from tests.cvat_server.bodies import (
    job_json,
    label_json,
    membership_json,
    organization_json,
    project_json,
    request_json,
    self_json,
    task_json,
    token_json,
    user_json,
)
from tests.cvat_server.labels import change_labels, delete_label
from tests.cvat_server.lists import Kind, page
from tests.cvat_server.replies import forbidden, invalid, missing, reply, sent
from tests.cvat_server.world import Job, Json, Label, Organization, Project, Task, User, World, snapshot

__all__ = [
    "job_json", "label_json", "membership_json", "organization_json", "project_json", "request_json", "self_json",
    "task_json", "token_json", "user_json",
]  # fmt: skip

FORMATS = (
    "COCO 1.0", "CVAT for images 1.1", "Datumaro 1.0", "LabelMe 3.0", "PASCAL VOC 1.1", "YOLO 1.1",
    "Ultralytics YOLO Detection 1.0", "Ultralytics YOLO Oriented Bounding Boxes 1.0",
    "Ultralytics YOLO Segmentation 1.0", "Ultralytics YOLO Pose 1.0", "Ultralytics YOLO Classification 1.0",
)  # fmt: skip
_PROJECT_FIELDS = ("name", "labels", "owner_id", "assignee_id", "bug_tracker", "target_storage", "source_storage")


def blueprint(world: World) -> Blueprint:
    """Routes of /api/server, users, organizations, memberships, invitations, projects and labels."""
    routes = Blueprint("resources", __name__, url_prefix="/api")
    _add_server(routes, world)
    _organizations.add_users(routes, world)
    _organizations.add_organizations(routes, world)
    _add_projects(routes, world)
    _add_labels(routes, world)
    _jobs.add_tasks(routes, world)
    _jobs.add_jobs(routes, world)
    return routes


def _add_server(routes: Blueprint, world: World) -> None:
    @routes.get("/server/about")
    def about() -> Response:
        throttle_anonymous(world)
        body = {"name": "Computer Vision Annotation Tool", "description": "A stand-in for tests."}
        logo = f"{world.base_url}/static/logo.svg"
        return reply(body | {"version": world.version, "logo_url": logo, "subtitle": "Open Data Annotation Platform"})

    @routes.get("/server/health/")
    def health() -> Response:
        parts = ("Cache backend: default", "Cache backend: media", "DatabaseBackend", "DatabaseBackend[default]")
        more = ("DiskUsage", "MemoryUsage", "OPAHealthCheck")
        answer = reply(dict.fromkeys(parts + more, "working"))
        answer.content_type = "application/json"
        return answer

    @routes.get("/server/plugins")
    def plugins() -> Response:
        return reply({"ANALYTICS": False, "MODELS": False})

    @routes.get("/server/annotation/formats")
    def formats() -> Response:
        known = [
            {"name": name, "ext": "ZIP", "version": name.split()[-1], "enabled": True, "dimension": "2d"}
            for name in FORMATS
        ]
        return reply({"importers": known, "exporters": known})

    @routes.get("/server/share")
    def share() -> Response:
        current(world)
        return reply(_listing(world.share, request.args.get("directory", "")))


def _listing(share: Path | None, directory: str) -> list[Json]:
    if share is None or not (share / directory).is_dir():
        raise invalid([f"{directory} is an invalid directory"])
    return [
        {"name": one.name, "type": "DIR", "mime_type": "DIR"}
        if one.is_dir()
        else {"name": one.name, "type": "REG", "mime_type": "image"}
        for one in sorted((share / directory).iterdir())
    ]


def _projects(world: World) -> Kind[Project]:
    def name_of(number: int | None) -> str | None:
        return world.users[number].username if number else None

    fields: dict[str, Callable[[Project], object]] = {
        "id": lambda one: one.id,
        "name": lambda one: one.name,
        "status": lambda one: one.status,
        "updated_date": lambda one: one.updated_date,
        "owner": lambda one: name_of(one.owner_id),
        "assignee": lambda one: name_of(one.assignee_id),
    }
    return Kind(fields, ("name", "status", "owner", "assignee"))


def find_project(world: World, number: int) -> Project:
    """Raises RefusalError 404 where there is no such project."""
    if number not in world.projects:
        raise missing("Project")
    return world.projects[number]


def _add_projects(routes: Blueprint, world: World) -> None:
    kind = _projects(world)

    @routes.get("/projects")
    def list_projects() -> Response:
        caller = current(world)
        seen = [one for one in list(world.projects.values()) if caller.lists(one)]
        return page(seen, kind, lambda one: project_json(world, one))

    @routes.post("/projects")
    def create_project() -> Response:
        caller, body = current(world), sent()
        require_creator(caller)
        if not body.get("name"):
            raise invalid({"name": ["This field is required."]})
        made = make_project(world, caller.user, caller.organization, body)
        return reply(project_json(world, made), 201, {"Location": f"{world.base_url}/api/projects/{made.id}"})

    @routes.route("/projects/<int:number>", methods=["GET", "PATCH", "DELETE"])
    def one_project(number: int) -> Response:
        caller, project = current(world), find_project(world, number)
        require_manager(caller, project)
        if request.method == "PATCH":
            _change_project(world, caller, project, sent())
        if request.method == "DELETE":
            _delete_project(world, caller, project)
            return reply(status=204)
        return reply(project_json(world, project))


def make_project(world: World, owner: User, organization: Organization | None, body: Json) -> Project:
    """A project with its labels, stored and announced to nobody: no webhook can be older than it."""
    with world.lock:
        number, created = world.next_id("project"), world.now()
        where = organization.id if organization else None
        made = Project(number, body["name"], owner.id, where, created, world.now())
        made.bug_tracker, made.assignee_id = body.get("bug_tracker", ""), body.get("assignee_id")
        change_labels(world, made, body.get("labels", []))
        world.projects[number] = made
    return made


def _change_project(world: World, caller: Caller, project: Project, body: Json) -> None:
    if set(body) - set(_PROJECT_FIELDS):
        raise forbidden("Attempted to update an unknown field")
    with world.saving(caller.user, project):
        change_labels(world, project, body.get("labels", []))
        for name in ("name", "bug_tracker", "assignee_id"):
            if name in body:
                setattr(project, name, body[name])
        project.updated_date = world.now()


def _delete_project(world: World, caller: Caller, project: Project) -> None:
    with world.lock:
        world.changed("project", "delete:project", {}, snapshot(project), caller.user)
        for task in world.tasks_of(project):
            _jobs.delete_task(world, caller.user, task)
        for label in world.labels_of(project):
            delete_label(world, label)
        del world.projects[project.id]


_LABELS: Kind[Label] = Kind(
    {
        "id": lambda one: one.id,
        "name": lambda one: one.name,
        "type": lambda one: one.type,
        "color": lambda one: one.color,
        "project_id": lambda one: one.project_id,
        "task_id": lambda one: one.task_id,
    },
    ("name", "type", "color"),
    newest_first=False,
)


def _add_labels(routes: Blueprint, world: World) -> None:
    @routes.get("/labels")
    def list_labels() -> Response:
        return page(_seen_labels(world, current(world)), _LABELS, label_json)

    @routes.route("/labels/<int:number>", methods=["GET", "PATCH", "DELETE"])
    def one_label(number: int) -> Response:
        caller, label = current(world), world.labels.get(number)
        if label is None:
            raise missing("Label")
        owner = world.projects.get(label.project_id or 0) or world.tasks[label.task_id or 0]
        require_manager(caller, owner)
        with world.saving(caller.user, owner):
            if request.method == "DELETE":
                delete_label(world, label)
                return reply(status=204)
            if request.method == "PATCH":
                change_labels(world, owner, [sent() | {"id": number}])
        return reply(label_json(label))


def _seen_labels(world: World, caller: Caller) -> list[Label]:
    owner = _asked_owner(world)
    if owner is not None:
        require_view(caller, owner)
        return world.labels_of(owner)
    owners: list[Project | Task] = [*world.projects.values(), *world.tasks.values()]
    seen = (label for one in owners if caller.lists(one) for label in world.labels_of(one))
    return list({label.id: label for label in seen}.values())


def _asked_owner(world: World) -> Project | Task | Job | None:
    number = {name: request.args.get(name, 0, type=int) for name in ("job_id", "task_id", "project_id")}
    if "job_id" in request.args:
        return _jobs.find_job(world, number["job_id"])
    if "task_id" in request.args:
        return _jobs.find_task(world, number["task_id"])
    return find_project(world, number["project_id"]) if "project_id" in request.args else None
