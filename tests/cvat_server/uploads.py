"""How data comes into a task of the stand-in CVAT: Upload-Start, -Multiple and -Finish, TUS, the share folder."""

from __future__ import annotations

import base64
import uuid
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

from flask import Blueprint, Response, request

from tests.cvat_server import background
from tests.cvat_server.access import Caller, current, require_manager
from tests.cvat_server.jobs import find_task
from tests.cvat_server.media import ImportFailedError, attach, ordered, read_frames
from tests.cvat_server.replies import RefusalError, invalid, reply, sent
from tests.cvat_server.world import Json, Task, World


def add_uploads(routes: Blueprint, world: World) -> None:
    """Routes POST /tasks/{id}/data/ and those of a TUS upload under it."""

    @routes.post("/tasks/<int:number>/data")
    def upload(number: int) -> Response:
        caller = current(world)
        with world.lock:
            task = find_task(world, number)
            require_manager(caller, task)
            rq_id = _rq_id(task)
            if task.frames or (rq_id in world.requests and world.requests[rq_id].is_open):
                raise invalid(["Adding more data is not supported"])
            return _step(world, caller, task)

    @routes.route("/tasks/<int:number>/data/<file_id>", methods=["PATCH", "HEAD"])
    def part(number: int, file_id: str) -> Response:
        caller = current(world)
        require_manager(caller, find_task(world, number))
        with world.lock:
            return _part(world, file_id)


def _rq_id(task: Task) -> str:
    return f"action=create&target=task&target_id={task.id}"


def _step(world: World, caller: Caller, task: Task) -> Response:
    _begin(world, caller, task)
    if "Upload-Start" in request.headers:
        return reply(status=202)
    if "Upload-Length" in request.headers:
        return _new_file(world, task)
    for one in request.files.values():
        name = PurePosixPath(one.filename or "")
        task.uploads[name.name if name.is_absolute() else str(name)] = one.read()
    if "Upload-Multiple" in request.headers:
        return reply(status=200)
    return _finish(world, caller, task, sent() if not request.files else dict(request.form))


def _begin(world: World, caller: Caller, task: Task) -> None:
    if task.data_id is None:
        with world.saving(caller.user, task):
            task.data_id, task.updated_date = world.next_id("data"), world.now()


def _new_file(world: World, task: Task) -> Response:
    """Starts a TUS upload of one big file."""
    meta = dict(one.split(" ", 1) for one in request.headers["Upload-Metadata"].split(","))
    name = base64.b64decode(meta["filename"]).decode()
    file_id = uuid.uuid4().hex
    world.uploads[file_id] = {
        "task": task, "name": name, "length": int(request.headers["Upload-Length"]), "data": bytearray(),
    }  # fmt: skip
    where = f"{world.base_url}/api/tasks/{task.id}/data/{file_id}"
    return reply(status=201, headers={"Location": where, "Upload-Filename": name, "Tus-Resumable": "1.0.0"})


def _part(world: World, file_id: str) -> Response:
    upload = world.uploads.get(file_id)
    if upload is None:
        raise RefusalError(404, {"detail": "Not found."})
    data: bytearray = upload["data"]
    if request.method == "PATCH":
        if int(request.headers["Upload-Offset"]) != len(data):
            raise RefusalError(409, None, headers={"Upload-Offset": str(len(data))})
        data += request.get_data()
        if len(data) >= upload["length"]:
            upload["task"].uploads[upload["name"]] = bytes(data)
    headers = {"Upload-Offset": str(len(data)), "Upload-Length": str(upload["length"]), "Tus-Resumable": "1.0.0"}
    return reply(status=200 if request.method == "HEAD" else 204, headers=headers)


def _finish(world: World, caller: Caller, task: Task, params: Json) -> Response:
    _check(params)
    with world.saving(caller.user, task):
        task.updated_date = world.now()
    background.start(
        world, caller, _rq_id(task), "create:task", lambda: _import(world, caller, task, params),
        task_id=task.id, project_id=task.project_id, organization_id=task.organization_id,
    )  # fmt: skip
    return reply({"rq_id": _rq_id(task)}, 202)


def _check(params: Json) -> None:
    names = Counter(name for job in params.get("job_file_mapping") or [] for name in job)
    for name, count in names.items():
        if count > 1:
            text = f"The same file '{name}' cannot be used multiple times in the job file mapping"
            raise invalid({"job_file_mapping": [text]})
    if params.get("remote_files") or params.get("cloud_storage_id"):
        raise invalid(["The stand-in takes local and share files only"])


def _import(world: World, caller: Caller, task: Task, params: Json) -> None:
    """The background work: all or nothing."""
    _check_mapping(task, params)
    server_files = params.get("server_files") or []
    images = dict(_from_share(world.share, server_files)) if server_files else dict(task.uploads)
    if server_files:
        params = {"upload_file_order": list(images)} | params
    frames = read_frames(task, ordered(images, params))
    attach(world, task, frames, params, caller.user)
    task.uploads.clear()


def _check_mapping(task: Task, params: Json) -> None:
    """A mapping says which frame is where, so nothing else may."""
    if not params.get("job_file_mapping"):
        return
    wrong: list[Any] = ["segment_size"] if task.segment_size else []
    wrong += [name for name in ("start_frame", "stop_frame", "filename_pattern") if params.get(name)]
    if params.get("sorting_method", "lexicographical") != "lexicographical":
        wrong.append("sorting_method")
    if wrong:
        raise ImportFailedError(f"ValidationError: job_file_mapping can't be used with {wrong[0]}\n")


def _from_share(share: Path | None, names: list[str]) -> list[tuple[str, bytes]]:
    if share is None:
        raise ImportFailedError("ValidationError: this server has no share\n")
    files: list[Path] = []
    for name in names:
        place = share / name
        files += sorted(one for one in place.rglob("*") if one.is_file()) if place.is_dir() else [place]
    absent = [str(one.relative_to(share)) for one in files if not one.is_file()]
    if absent:
        raise ImportFailedError(f"FileNotFoundError: no such files on the share: {absent}\n")
    return [(one.relative_to(share).as_posix(), one.read_bytes()) for one in files]
