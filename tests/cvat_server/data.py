"""Frames, chunks and their metadata of the stand-in CVAT, by task and by job."""

from __future__ import annotations

from flask import Blueprint, Response, request

from tests.cvat_server.access import Caller, current, require_manager, require_view
from tests.cvat_server.exports import add_exports
from tests.cvat_server.jobs import find_job, find_task
from tests.cvat_server.media import chunk_frames, chunk_zip, compressed, content_type
from tests.cvat_server.replies import RefusalError, invalid, reply, sent
from tests.cvat_server.resources import find_project
from tests.cvat_server.uploads import add_uploads
from tests.cvat_server.world import Frame, Job, Json, Project, Task, World, stamp

NO_DATA = "The task has no data"


def blueprint(world: World) -> Blueprint:
    """Routes of data, meta and previews of tasks and jobs, of uploads and of exports."""
    routes = Blueprint("data", __name__, url_prefix="/api")
    _add_tasks(routes, world)
    _add_jobs(routes, world)
    add_uploads(routes, world)
    add_exports(routes, world)
    return routes


def _add_tasks(routes: Blueprint, world: World) -> None:
    @routes.get("/tasks/<int:number>/data")
    def task_data(number: int) -> Response:
        caller, task = current(world), find_task(world, number)
        require_manager(caller, task)
        return _data(task, None)

    @routes.route("/tasks/<int:number>/data/meta", methods=["GET", "PATCH"])
    def task_meta(number: int) -> Response:
        caller, task = current(world), find_task(world, number)
        require_manager(caller, task)
        _check_data(task)
        if request.method == "PATCH":
            _delete_frames(world, caller, task, range(task.size))
        return reply(_meta(task, None))

    @routes.get("/tasks/<int:number>/preview")
    def task_preview(number: int) -> Response:
        caller, task = current(world), find_task(world, number)
        require_manager(caller, task)
        return _preview(task.frames)

    @routes.get("/projects/<int:number>/preview")
    def project_preview(number: int) -> Response:
        caller, project = current(world), find_project(world, number)
        require_manager(caller, project)
        return _preview(_first_frames(world, project))


def _add_jobs(routes: Blueprint, world: World) -> None:
    @routes.get("/jobs/<int:number>/data")
    def job_data(number: int) -> Response:
        caller, job = current(world), find_job(world, number)
        require_view(caller, job)
        return _data(world.task_of(job), job)

    @routes.route("/jobs/<int:number>/data/meta", methods=["GET", "PATCH"])
    def job_meta(number: int) -> Response:
        caller, job = current(world), find_job(world, number)
        require_view(caller, job)
        if request.method == "PATCH":
            _delete_frames(world, caller, world.task_of(job), job.frame_numbers)
        return reply(_meta(world.task_of(job), job))

    @routes.get("/jobs/<int:number>/preview")
    def job_preview(number: int) -> Response:
        caller, job = current(world), find_job(world, number)
        require_view(caller, job)
        return _preview(world.task_of(job).frames[job.frame_numbers[0] :])


def _check_data(task: Task) -> None:
    if not task.frames:
        raise invalid(NO_DATA)


def _data(task: Task, job: Job | None) -> Response:
    _check_data(task)
    quality = request.args.get("quality", "compressed")
    if quality not in ("original", "compressed"):
        raise invalid(f"Unknown frame quality: {quality}")
    kind = request.args.get("type")
    if kind == "frame":
        return _frame(task, job, quality)
    if kind == "chunk":
        return _chunk(task, job, quality)
    raise invalid({"type": [f'"{kind}" is not a valid choice.']})


def _frame(task: Task, job: Job | None, quality: str) -> Response:
    number = _number("number")
    if job is not None and not job.has_frame(number):
        raise invalid(f"Incorrect requested frame number: {number}")
    if not 0 <= number < task.size:
        raise invalid(f"Invalid frame '{number}'. The frame number should be in the [0, {task.size}] range")
    frame = task.frames[number]
    if quality == "original":
        return Response(frame.data, content_type=content_type(frame.name))
    return Response(compressed(frame, task.image_quality), content_type="image/jpeg")


def _chunk(task: Task, job: Job | None, quality: str) -> Response:
    if job is not None and "index" in request.args:
        number = job.start_frame // task.chunk_size + _number("index")
    else:
        number = _number("number")
    frames = chunk_frames(task, number, job) if number >= 0 else []
    if not frames:
        raise RefusalError(400, f"Incorrect chunk number: {number}")
    data = chunk_zip(frames, None if quality == "original" else task.image_quality)
    return Response(data, content_type="application/zip")


def _number(name: str) -> int:
    value = request.args.get(name, type=int)
    if value is None:
        raise invalid({name: ["A valid integer is required."]})
    return value


def _preview(frames: list[Frame]) -> Response:
    if not frames:
        raise RefusalError(404, {"detail": "Not found."})
    return Response(compressed(frames[0], 70), content_type="image/jpeg")


def _first_frames(world: World, project: Project) -> list[Frame]:
    return next((task.frames for task in world.tasks_of(project) if task.frames), [])


def _meta(task: Task, job: Job | None) -> Json:
    start, stop = (job.start_frame, job.stop_frame) if job else (0, task.size - 1)
    span = range(start, stop + 1)
    chosen = job.frames if job else None
    return {
        "chapters": None,
        "chunks_updated_date": stamp(job.created_date if job and chosen else task.chunks_updated_date),
        "chunk_size": task.chunk_size,
        "size": len(chosen) if chosen is not None else len(span),
        "image_quality": task.image_quality,
        "start_frame": start,
        "stop_frame": stop,
        "frame_filter": "",
        "frames": [_frame_meta(task.frames[one], chosen is None or one in chosen) for one in span],
        "deleted_frames": sorted(one for one in task.deleted_frames if job is None or job.has_frame(one)),
        "included_frames": list(chosen) if chosen is not None else None,
        "storage": task.storage,
        "cloud_storage_id": None,
    }


def _frame_meta(frame: Frame, included: bool) -> Json:
    name = frame.name if included else "placeholder.jpg"
    size = {"width": frame.width, "height": frame.height}
    return size | {"name": name, "related_files": 0, "has_related_context": False}


def _delete_frames(world: World, caller: Caller, task: Task, span: range | tuple[int, ...]) -> None:
    """Replaces the list of deleted frames within `span`; touches the jobs whose frames came or went."""
    wanted = sent().get("deleted_frames")
    if wanted is None:
        return
    inside = set(span)
    with world.lock:
        new = (task.deleted_frames - inside) | (set(wanted) & inside)
        moved = new ^ task.deleted_frames
        jobs = [job for job in world.jobs_of(task) if any(job.has_frame(one) for one in moved)]
        things = {id(thing): thing for job in jobs for thing in world.chain(job)}
        with world.saving(caller.user, *things.values()):
            task.deleted_frames = new
            for job in jobs:
                world.touch(job)
