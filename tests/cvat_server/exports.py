"""Exports of the stand-in CVAT: asked for, refused while the same one runs, downloaded as a small zip."""

from __future__ import annotations

import io
import zipfile

from flask import Blueprint, Response, request

from tests.cvat_server import background
from tests.cvat_server.access import BOSSES, Caller, current
from tests.cvat_server.jobs import find_job, find_task
from tests.cvat_server.replies import RefusalError, forbidden, invalid, reply
from tests.cvat_server.resources import FORMATS, find_project
from tests.cvat_server.world import Job, Project, Request, Task, World

Exported = Project | Task | Job


def add_exports(routes: Blueprint, world: World) -> None:
    """Routes of /{projects,tasks,jobs}/{id}/dataset/export and /dataset/download."""

    @routes.post("/<any(projects, tasks, jobs):place>/<int:number>/dataset/export")
    def export(place: str, number: int) -> Response:
        caller = current(world)
        with world.lock:
            thing = _find(world, place, number)
            _check(caller, thing)
            return _start(world, caller, thing, place)

    @routes.get("/<any(projects, tasks, jobs):place>/<int:number>/dataset/download")
    def download(place: str, number: int) -> Response:
        caller = current(world)
        _check(caller, _find(world, place, number))
        one = world.requests.get(request.args.get("rq_id", ""))
        if one is None or one.status != "finished":
            raise RefusalError(404, "The exported file has expired", html=True)
        name = f"{place[:-1]}_{number}_{(one.format or '').lower()}.zip"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(one.result, 200, headers, content_type="application/zip")


def _find(world: World, place: str, number: int) -> Exported:
    if place == "tasks":
        return find_task(world, number)
    if place == "jobs":
        return find_job(world, number)
    return find_project(world, number)


def _check(caller: Caller, thing: Exported) -> None:
    """Workers export nothing, not even their own jobs."""
    role = caller.roles.get(caller.world.organization_id_of(thing) or 0)
    if not caller.views(thing) or (role not in (None, "supervisor", *BOSSES) and not caller.manages(thing)):
        raise forbidden()


def _start(world: World, caller: Caller, thing: Exported, place: str) -> Response:
    known = request.args.get("format", "")
    if known not in FORMATS:
        raise invalid(["Unknown format specified for the request"])
    target = place[:-1]
    images = request.args.get("save_images", "false").lower() == "true"
    part = "dataset" if images else "annotations"
    slug = known.replace(" ", "_").replace(".", "~")
    rq_id = f"action=export&target={target}&target_id={thing.id}&user_id={caller.user.id}&format={slug}"
    rq_id += f"&subresource={part}"
    running = world.requests.get(rq_id)
    if running is not None and running.is_open:
        return reply({"rq_id": rq_id}, 409)
    task = world.task_of(thing) if isinstance(thing, Job) else thing if isinstance(thing, Task) else None
    one = background.start(
        world, caller, rq_id, f"export:{part}", lambda: _fill(one, task, known, images), target=target, format=known,
        job_id=thing.id if isinstance(thing, Job) else None, task_id=task.id if task else None,
        project_id=task.project_id if task else thing.id, organization_id=world.organization_id_of(thing),
    )  # fmt: skip
    one.result_url = None
    return reply({"rq_id": rq_id}, 202)


def _fill(one: Request, task: Task | None, name: str, images: bool) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("README.txt", f"{name}: what the stand-in exports is not the real thing\n")
        for frame in task.frames if task and images else []:
            archive.writestr(f"images/{frame.name}", frame.data)
    one.result = out.getvalue()
    number = {"task": one.task_id, "job": one.job_id, "project": one.project_id}[one.target]
    one.result_url = f"{one.target}s/{number}/dataset/download"
