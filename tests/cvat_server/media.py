"""Images to frames, frames to jobs, and back to bytes: the order, the segments and the chunks of a task."""

from __future__ import annotations

import io
import random
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from PIL import Image

from tests.cvat_server.jobs import make_job
from tests.cvat_server.world import Frame, Job, Task, User, World, snapshot

MAX_JOBS = 5000


class ImportFailedError(Exception):
    """Data that cannot become frames; the text is the message of the failed background request."""


def read_frames(task: Task, images: Iterable[tuple[str, bytes]]) -> list[Frame]:
    """Frames with the size found in each image's header.

    Raises:
        ImportFailedError: an image that cannot be read; the message is CVAT's.
    """
    sizes: dict[int, tuple[int, int]] = {}
    frames = []
    for name, data in images:
        if id(data) not in sizes:
            try:
                with Image.open(io.BytesIO(data)) as image:
                    sizes[id(data)] = image.size
            except (OSError, ImportError):  # ultralytics makes Pillow look for more plugins, which may be absent
                path = f"/home/django/data/data/{task.data_id}/raw/{name}"
                text = f"PIL.UnidentifiedImageError: cannot identify image file '{path}'\n"
                raise ImportFailedError(text) from None
        frames.append(Frame(name, *sizes[id(data)], data))
    return frames


def ordered(images: Mapping[str, bytes], params: Mapping[str, Any]) -> list[tuple[str, bytes]]:
    """The images in the order of the frames: of the mapping, as sent, by name, by number or by chance.

    Raises:
        ImportFailedError: no images at all, or the mapping names a file that was not sent.
    """
    if mapping := params.get("job_file_mapping"):
        names = [name for job in mapping for name in job]
    else:
        names = _sorted(list(images), params)
    unknown = sorted(set(names) - set(images))
    if unknown or not names:
        raise ImportFailedError(f"ValidationError: No such files: {unknown}\n" if unknown else "No media data found\n")
    return [(name, images[name]) for name in names]


def _sorted(names: list[str], params: Mapping[str, Any]) -> list[str]:
    method = params.get("sorting_method", "lexicographical")
    if method == "predefined":
        return list(params.get("upload_file_order") or names)
    if method == "random":
        return random.Random(0).sample(sorted(names), len(names))  # noqa: S311
    if method == "natural":
        return sorted(names, key=lambda name: [int(one) if one.isdigit() else one for one in re.split(r"(\d+)", name)])
    return sorted(names)


def attach(world: World, task: Task, frames: list[Frame], params: Mapping[str, Any], sender: User | None) -> None:
    """Gives a task its frames and jobs, with the events of it: create:job for each, then update:task.

    Raises:
        ImportFailedError: more than `MAX_JOBS` jobs.
    """
    mapping = params.get("job_file_mapping")
    segments = list(_mapped(mapping) if mapping else _equal(len(frames), task.segment_size, task.overlap or 0))
    if len(segments) > MAX_JOBS:
        raise ImportFailedError(f"ValidationError: The maximum number of jobs is {MAX_JOBS}, got {len(segments)}\n")
    with world.saving(sender, task):
        largest = max(frame.width * frame.height for frame in frames)
        task.frames = frames
        task.chunk_size = int(params.get("chunk_size") or max(2, min(72, 36 * 1920 * 1080 // largest)))
        task.image_quality = int(params.get("image_quality", 70))
        task.storage = "share" if params.get("server_files") and not params.get("copy_data") else "local"
        for start, stop in segments:
            job = make_job(world, task, "annotation", start, stop)
            if world.listeners:
                world.changed("job", "create:job", {}, snapshot(job), sender)
        task.dimension, task.mode, task.media_type = "2d", "annotation", "image"
        task.overlap = task.overlap or 0
        task.segment_size = 0 if mapping else task.segment_size or len(frames)
        task.chunks_updated_date = task.updated_date = world.now()


def _mapped(mapping: Sequence[Sequence[str]]) -> Iterator[tuple[int, int]]:
    start = 0
    for names in mapping:
        yield start, start + len(names) - 1
        start += len(names)


def _equal(size: int, segment_size: int, overlap: int) -> Iterator[tuple[int, int]]:
    segment_size = min(segment_size or size, size)
    overlap = min(overlap, segment_size - 1)
    for start in range(0, size - overlap, segment_size - overlap):
        yield start, min(start + segment_size, size) - 1


def content_type(name: str) -> str:
    known = {".png": "image/png", ".bmp": "image/bmp", ".webp": "image/webp", ".tif": "image/tiff"}
    return known.get(PurePosixPath(name).suffix.lower(), "image/jpeg")


def compressed(frame: Frame, quality: int) -> bytes:
    """The frame as CVAT shows it in the browser: JPEG of the task's quality."""
    with Image.open(io.BytesIO(frame.data)) as image:
        out = io.BytesIO()
        image.convert("RGB").save(out, "JPEG", quality=quality)
    return out.getvalue()


def chunk_frames(task: Task, number: int, job: Job | None = None) -> list[Frame]:
    """The frames of a chunk; of a job only those that are in it."""
    span = range(number * task.chunk_size, min((number + 1) * task.chunk_size, task.size))
    return [task.frames[one] for one in span if job is None or job.has_frame(one)]


def chunk_zip(frames: Sequence[Frame], quality: int | None) -> bytes:
    """A chunk: 000000.jpg, 000001.jpg ...; the original bytes, or JPEG where a quality is given."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number, frame in enumerate(frames):
            suffix = PurePosixPath(frame.name).suffix.lower() if quality is None else ".jpeg"
            data = frame.data if quality is None else compressed(frame, quality)
            archive.writestr(f"{number:06d}{suffix}", data)
    return out.getvalue()
