"""Tasks and jobs of the stand-in CVAT: lists, changes, states, stages, assignees, ground truth jobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, request

from tests.cvat_server.access import Caller, current, require_creator, require_manager, require_view
from tests.cvat_server.bodies import job_json, task_json, url
from tests.cvat_server.labels import change_labels, delete_label
from tests.cvat_server.lists import Kind, page
from tests.cvat_server.replies import forbidden, invalid, missing, reply, sent, server_error
from tests.cvat_server.world import Job, Json, Organization, Project, Task, User, World, snapshot

STAGES = ("annotation", "validation", "acceptance")
STATES = ("new", "in progress", "completed", "rejected")
_TASK_FIELDS = (
    "name", "project_id", "owner_id", "assignee_id", "bug_tracker", "labels", "subset", "target_storage",
    "source_storage", "organization_id",
)  # fmt: skip


def find_task(world: World, number: int) -> Task:
    """Raises RefusalError 404 where there is no such task."""
    if number not in world.tasks:
        raise missing("Task")
    return world.tasks[number]


def find_job(world: World, number: int) -> Job:
    """Raises RefusalError 404 where there is no such job."""
    if number not in world.jobs:
        raise missing("Job")
    return world.jobs[number]


def _name(world: World, number: int | None) -> str | None:
    return world.users[number].username if number else None


def _tasks(world: World) -> Kind[Task]:
    def project_name(task: Task) -> str | None:
        project = world.project_of(task)
        return project.name if project else None

    fields: dict[str, Callable[[Task], Any]] = {
        "id": lambda one: one.id,
        "name": lambda one: one.name,
        "project_id": lambda one: one.project_id,
        "project_name": project_name,
        "owner": lambda one: _name(world, one.owner_id),
        "assignee": lambda one: _name(world, one.assignee_id),
        "status": lambda one: one.status,
        "subset": lambda one: one.subset,
        "mode": lambda one: one.mode,
        "dimension": lambda one: one.dimension,
        "tracker_link": lambda one: one.bug_tracker,
        "updated_date": lambda one: one.updated_date,
        "validation_mode": lambda one: one.validation_mode,
    }
    return Kind(fields, [name for name in fields if name not in ("id", "updated_date")])


def _jobs(world: World) -> Kind[Job]:
    def project_name(job: Job) -> str | None:
        project = world.project_of(world.task_of(job))
        return project.name if project else None

    fields: dict[str, Callable[[Job], Any]] = {
        "id": lambda one: one.id,
        "task_id": lambda one: one.task_id,
        "task_name": lambda one: world.task_of(one).name,
        "project_id": lambda one: world.task_of(one).project_id,
        "project_name": project_name,
        "assignee": lambda one: _name(world, one.assignee_id),
        "stage": lambda one: one.stage,
        "state": lambda one: one.state,
        "type": lambda one: one.type,
        "mode": lambda one: world.task_of(one).mode,
        "dimension": lambda one: world.task_of(one).dimension,
        "updated_date": lambda one: one.updated_date,
        "parent_job_id": lambda one: one.parent_job_id,
    }
    return Kind(fields, [name for name in fields if name not in ("id", "updated_date")])


def add_tasks(routes: Blueprint, world: World) -> None:
    """Routes of /tasks, without data and annotations."""
    kind = _tasks(world)

    @routes.get("/tasks")
    def list_tasks() -> Response:
        caller = current(world)
        with world.lock:
            seen = [one for one in world.tasks.values() if caller.lists(one)]
            return page(seen, kind, lambda one: task_json(world, one, caller))

    @routes.post("/tasks")
    def create_task() -> Response:
        caller, body = current(world), sent()
        made = _create_task(world, caller, body)
        return reply(task_json(world, made, caller), 201, {"Location": url(world, f"tasks/{made.id}")})

    @routes.route("/tasks/<int:number>", methods=["GET", "PATCH", "DELETE"])
    def one_task(number: int) -> Response:
        caller = current(world)
        with world.lock:
            task = find_task(world, number)
            require_manager(caller, task)
            if request.method == "PATCH":
                _change_task(world, caller, task, sent())
            if request.method == "DELETE":
                delete_task(world, caller.user, task)
                return reply(status=204)
            return reply(task_json(world, task, caller))


def _create_task(world: World, caller: Caller, body: Json) -> Task:
    if not body.get("name"):
        raise invalid({"name": ["This field is required."]})
    project = world.projects.get(body.get("project_id") or 0)
    if body.get("project_id") and project is None:
        raise invalid({"project_id": [f"The specified project #{body['project_id']} does not exist."]})
    if project is None:
        require_creator(caller)
    else:
        require_manager(caller, project)
        if body.get("labels"):
            raise invalid({"labels": ["Tasks inside a project use the project's labels."]})
    organization = caller.organization
    with world.lock:
        made = make_task(world, caller.user, organization, project, body)
        world.changed("task", "create:task", {}, snapshot(made), caller.user)
    return made


def make_task(
    world: World, owner: User, organization: Organization | None, project: Project | None, body: Json
) -> Task:
    """A task without data; in a project it belongs to the project's organisation."""
    number, created = world.next_id("task"), world.now()
    where = project.organization_id if project else organization.id if organization else None
    made = Task(number, body["name"], owner.id, where, project.id if project else None, created, world.now())
    for name in ("bug_tracker", "subset", "overlap", "segment_size", "assignee_id"):
        if name in body:
            setattr(made, name, body[name])
    world.tasks[number] = made
    change_labels(world, made, body.get("labels", []) if project is None else [])
    return made


def _change_task(world: World, caller: Caller, task: Task, body: Json) -> None:
    if set(body) - set(_TASK_FIELDS):
        raise forbidden("Attempted to update an unknown field")
    if body.get("assignee_id"):
        _check_assignee(world, caller, task, body["assignee_id"])
    with world.saving(caller.user, task):
        if body.get("labels"):
            change_labels(world, task, body["labels"])
        for name in ("name", "bug_tracker", "subset", "assignee_id"):
            if name in body:
                setattr(task, name, body[name])
        if "assignee_id" in body:
            task.assignee_updated_date = world.now()
        task.updated_date = world.now()


def delete_task(world: World, sender: User, task: Task) -> None:
    """Takes the task and its jobs away, and announces it while it is still there."""
    world.changed("task", "delete:task", {}, snapshot(task), sender)
    for number in task.job_ids:
        world.jobs.pop(number, None)
    for label in [one for one in world.labels.values() if one.task_id == task.id]:
        delete_label(world, label)
    world.requests = {key: one for key, one in world.requests.items() if one.task_id != task.id}
    del world.tasks[task.id]


def add_jobs(routes: Blueprint, world: World) -> None:
    """Routes of /jobs, without data and annotations."""
    kind = _jobs(world)

    @routes.get("/jobs")
    def list_jobs() -> Response:
        caller = current(world)
        with world.lock:
            seen = [one for one in world.jobs.values() if caller.lists(one)]
            return page(seen, kind, lambda one: job_json(world, one, caller))

    @routes.post("/jobs")
    def create_job() -> Response:
        caller, body = current(world), sent()
        with world.lock:
            made = _create_job(world, caller, body)
            return reply(job_json(world, made, caller), 201, {"Location": url(world, f"jobs/{made.id}")})

    @routes.route("/jobs/<int:number>", methods=["GET", "PATCH", "DELETE"])
    def one_job(number: int) -> Response:
        caller = current(world)
        with world.lock:
            job = find_job(world, number)
            require_view(caller, job)
            if request.method == "PATCH":
                _change_job(world, caller, job, sent())
            if request.method == "DELETE":
                _delete_job(world, caller, job)
                return reply(status=204)
            return reply(job_json(world, job, caller))


def make_job(world: World, task: Task, kind: str, start: int, stop: int) -> Job:
    """A stored job of a task over the frames start..stop (both in it); announced to nobody."""
    number, created = world.next_id("job"), world.now()
    job = Job(number, task.id, kind, start, stop, created, world.now())
    world.jobs[number] = job
    task.job_ids.append(number)
    return job


def _create_job(world: World, caller: Caller, body: Json) -> Job:
    if body.get("type") != "ground_truth":
        raise invalid([f"Unexpected job type '{body.get('type')}'"])
    task = find_task(world, int(body.get("task_id", 0)))
    require_manager(caller, task)
    if any(job.type == "ground_truth" for job in world.jobs_of(task)):
        raise invalid(['Task with validation mode "gt" cannot have more than 1 GT job'])
    frames = body.get("frames") or []
    if body.get("frame_selection_method") != "manual" or not frames:
        raise invalid({"frames": ["This list may not be empty."]})
    if not set(frames) <= set(range(task.size)):
        raise invalid([f"Invalid frames: {sorted(set(frames) - set(range(task.size)))}"])
    job = make_job(world, task, "ground_truth", 0, task.size - 1)
    job.frames = tuple(sorted(set(frames)))
    task.validation_mode = "gt"
    world.changed("job", "create:job", {}, snapshot(job), caller.user)
    return job


def _delete_job(world: World, caller: Caller, job: Job) -> None:
    task = world.task_of(job)
    require_manager(caller, task)
    if job.type != "ground_truth":
        raise invalid(["Only ground truth jobs can be removed"])
    world.changed("job", "delete:job", {}, snapshot(job), caller.user)
    task.job_ids.remove(job.id)
    task.validation_mode = None
    del world.jobs[job.id]


def _change_job(world: World, caller: Caller, job: Job, body: Json) -> None:
    _check_change(world, caller, job, body)
    with world.saving(caller.user, job, world.task_of(job)):
        if "stage" in body and body["stage"] != job.stage:
            job.stage, job.state = body["stage"], "new"
        job.state = body.get("state", job.state)
        if "assignee" in body and body["assignee"] != job.assignee_id:
            job.assignee_id, job.assignee_updated_date = body["assignee"], world.now()
        job.updated_date = world.now()
        _follow(world, world.task_of(job))


def _check_change(world: World, caller: Caller, job: Job, body: Json) -> None:
    if set(body) - {"assignee", "stage", "state"}:
        raise forbidden("Attempted to update an unknown field")
    task = world.task_of(job)
    if {"assignee", "stage"} & set(body):
        require_manager(caller, task)
    for name, allowed in (("stage", STAGES), ("state", STATES)):
        if name in body and body[name] not in allowed:
            raise invalid({name: [f'"{body[name]}" is not a valid choice.']})
    if body.get("assignee") is not None:
        _check_assignee(world, caller, task, body["assignee"])


def _check_assignee(world: World, caller: Caller, task: Task, number: Any) -> None:
    """Somebody who does not exist is a server error; somebody the caller cannot see is forbidden."""
    if not isinstance(number, int):
        raise invalid({"assignee": ["A valid integer is required."]})
    if number not in world.users:
        raise server_error()
    if number == caller.user.id or caller.user.is_superuser:
        return
    members = {one.user_id for one in world.memberships.values() if one.organization_id == task.organization_id}
    if task.organization_id is None or number not in members:
        raise forbidden()


def _follow(world: World, task: Task) -> None:
    """The task's legacy status follows its jobs': the lowest of them, completed when all are."""
    found = {job.status for job in world.jobs_of(task)}
    status = next((one for one in ("annotation", "validation") if one in found), "completed")
    if status != task.status:
        task.status, task.updated_date = status, world.now()
