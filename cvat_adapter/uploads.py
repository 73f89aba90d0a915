"""The images of a new task: the three steps of CVAT's upload, and the wait until it has taken them in."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from common.errors import PlatformError, PlatformUnreachableError
from cvat_adapter import refusals

QUALITY = 95
"""JPEG quality of what annotators see of an uploaded image."""
BATCH = 32 * 2**20
"""Bytes of images in one request."""
FORM, JSON = {"Content-Type": "multipart/form-data"}, {"Content-Type": "application/json"}

File = tuple[str, Path]
"""(name in the task, image)."""


def send(post: Callable[..., Any], files: Sequence[File], mapping: Sequence[Sequence[str]], batch: int = BATCH) -> str:
    """Send the images of one task; returns the id of the background request that takes them in.

    Args:
        post: Called with headers, and ``fields`` or ``body``; returns CVAT's JSON.
        files: Names plain and unique: CVAT drops folders from them.
        mapping: Names of each job, in order.
        batch: Bytes of images in one request.

    Raises:
        PlatformError: Also where CVAT does not say how to follow the upload.
    """
    post({"Upload-Start": ""})
    for group in batches(files, batch):
        parts = {f"client_files[{i}]": (name, image.read_bytes()) for i, (name, image) in enumerate(group)}
        post({"Upload-Multiple": "", **FORM}, fields={"image_quality": str(QUALITY), **parts})
    body = {"image_quality": QUALITY, "job_file_mapping": [list(names) for names in mapping]}
    begun = post({"Upload-Finish": "", **JSON}, body=body)
    if not isinstance(begun, Mapping) or not begun.get("rq_id"):
        raise PlatformError("CVAT took the upload but did not say how to follow it: look at its log")
    return str(begun["rq_id"])


def batches(files: Sequence[File], size: int = BATCH) -> Iterator[list[File]]:
    """The files in order, in groups of at most ``size`` bytes; a larger file is a group of its own."""
    group: list[File] = []
    held = 0
    for name, image in files:
        here = image.stat().st_size
        if group and held + here > size:
            yield group
            group, held = [], 0
        group.append((name, image))
        held += here
    if group:
        yield group


def follow(get: Callable[[str], Any], request: str, *, base: str, what: str, limit_s: float) -> None:
    """Wait for a background request.

    Args:
        get: JSON of a path.
        request: Its id.
        base: CVAT's address, for messages.
        what: In words, for messages.
        limit_s: Seconds that it may last.

    Raises:
        PlatformError: It failed; the message is CVAT's.
        PlatformUnreachableError: It lasts longer.
    """
    end, pause = time.monotonic() + limit_s, 0.1
    while True:
        # CVAT's ids hold '&' and '=': one element of a path only when encoded.
        row = get(f"api/requests/{quote(request, safe='')}")
        if row["status"] == "finished":
            return
        if row["status"] == "failed":
            raise refusals.failed_request(base, what, row.get("message"))
        if time.monotonic() + pause > end:
            raise PlatformUnreachableError(
                f"CVAT at {base} is still busy after {limit_s:.0f} s when asked to {what}: look at its Requests page"
            )
        time.sleep(pause)
        pause = min(5.0, pause * 1.5)
