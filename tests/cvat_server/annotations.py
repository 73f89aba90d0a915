"""Routes of /api/jobs/N/annotations and /api/tasks/N/annotations: who may, which jobs, and the events of a save."""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, Response, request

from tests.cvat_server import annotation_rules as rules_of
from tests.cvat_server.access import Caller, current, require_manager, require_view
from tests.cvat_server.annotation_rules import Rules
from tests.cvat_server.replies import RefusalError, invalid, missing, reply, sent
from tests.cvat_server.world import Job, Json, Label, Task, World

Write = Callable[[Job, Json, Rules], Json]

ACTIONS: dict[str, Write] = {
    "create": rules_of.create,
    "update": rules_of.update,
    "delete": lambda job, data, _: rules_of.delete(job, data),
}


def blueprint(world: World) -> Blueprint:
    """The routes of annotations, with and without the slash at the end."""
    routes = Blueprint("annotations", __name__, url_prefix="/api")
    methods = ["GET", "PUT", "PATCH", "DELETE"]

    @routes.route("/jobs/<int:number>/annotations/", methods=methods, strict_slashes=False)
    def of_job(number: int) -> Response:
        caller = current(world)
        with world.lock:
            job = world.jobs.get(number)
            if job is None:
                raise missing("Job")
            require_view(caller, job)
            return _answer(world, caller, [job], part_of=lambda data, _: data)

    @routes.route("/tasks/<int:number>/annotations/", methods=methods, strict_slashes=False)
    def of_task(number: int) -> Response:
        caller = current(world)
        with world.lock:
            task = world.tasks.get(number)
            if task is None:
                raise missing("Task")
            require_manager(caller, task)
            _require_data(task)
            jobs = [job for job in world.jobs_of(task) if job.type == "annotation"]
            return _answer(world, caller, jobs, part_of=rules_of.slice_of)

    return routes


def _require_data(task: Task) -> None:
    if not task.frames:
        raise RefusalError(400, "Exporting annotations from a task without data is not allowed", html=True)


def _answer(world: World, caller: Caller, jobs: list[Job], part_of: Callable[[Json, Job], Json]) -> Response:
    """Reads or writes the annotations of these jobs; `part_of` says which part of a body is a job's."""
    if request.method == "GET":
        return _shown(rules_of.merged((job, rules_of.annotations_of(job)) for job in jobs))
    if request.method == "DELETE":
        for job in jobs:
            with world.saving(caller.user, *world.chain(job)):
                if rules_of.clear(job):
                    world.touch(job)
        return reply(status=204)
    action = request.args.get("action", "")
    if request.method == "PATCH" and action not in ACTIONS:
        raise invalid(["Please specify a correct 'action' for the request"])
    write = ACTIONS[action] if request.method == "PATCH" else rules_of.replace
    data = rules_of.read(sent())
    return _shown(rules_of.merged(save(world, caller, [(job, part_of(data, job)) for job in jobs], write)))


def save(world: World, caller: Caller, parts: list[tuple[Job, Json]], write: Write) -> list[tuple[Job, Json]]:
    """Writes each job's part, all or none, and announces each job that was written to."""
    if not parts:
        return []
    rules = rules_for(world, parts[0][0])
    for _, part in parts:
        rules.check_all(part)
    answers = []
    for job, part in parts:
        with world.saving(caller.user, *world.chain(job)):
            had = write is rules_of.replace and rules_of.clear(job)
            answers.append((job, write(job, part, rules)))
            if had or not rules_of.is_empty(part):
                world.touch(job)
    return answers


def rules_for(world: World, job: Job) -> Rules:
    """The labels and attributes that a write to this job may name."""
    labels: list[Label] = world.labels_of(job)
    every = [one for label in labels for one in (label, *label.sublabels)]
    defaults = {label.id: {spec.id: spec.default_value for spec in label.attributes} for label in every}
    return Rules(defaults, world.next_id)


def _shown(data: Json) -> Response:
    """The one body of reads and writes; the version never moves."""
    return reply({"version": 0, **data, "intervals": []})
