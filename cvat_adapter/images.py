"""Images of a CVAT project: the address of one, and a whole chunk of them in one request."""

from __future__ import annotations

import logging
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BytesIO
from typing import TYPE_CHECKING
from zipfile import BadZipFile, ZipFile, ZipInfo

from common.errors import PlatformError, PlatformUnreachableError
from cvat_adapter.nouns import IMAGES, Frame, Task
from cvat_adapter.refusals import FailedError

if TYPE_CHECKING:
    from cvat_adapter.client import Api

AGAIN = 4
"""A chunk that was had before is fetched again for a quarter of its frames or more: the others were no images, or were
dropped from a full disk one by one."""

log = logging.getLogger(__name__)


class Images:
    """The images of one project. One thread at a time."""

    def __init__(
        self,
        api: Api,
        tasks: Callable[[Iterable[int]], dict[int, Task]],
        frames: Callable[[Task], list[Frame]],
        max_bytes: int,
    ) -> None:
        """Sends nothing.

        Args:
            api: CVAT.
            tasks: From ids to those of the tasks that are there.
            frames: Of a task, deleted ones included.
            max_bytes: A larger file is not unpacked.
        """
        self._api, self._tasks, self._frames, self._max_bytes = api, tasks, frames, max_bytes
        self._had: set[tuple[int, int]] = set()
        self._address = re.compile(
            re.escape(f"{api.base}/api/tasks/") + r"(\d+)/data/\?type=frame&number=(\d+)&quality=original"
        )

    def url(self, task: int, number: int) -> str:
        """Where one frame is, in its original quality."""
        return f"{self._api.base}/api/tasks/{task}/data/?type=frame&number={number}&quality=original"

    def bulk(self, urls: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """(URL, bytes) of every frame of the chunks that hold these, but for deleted ones; each chunk once.

        A chunk that CVAT does not give, or not as images, yields nothing: its frames are left to be fetched singly.

        Raises:
            PlatformUnreachableError: CVAT does not answer.
        """
        places = [(int(found[1]), int(found[2])) for found in map(self._address.fullmatch, urls) if found]
        tasks = self._tasks(task for task, _ in places)
        with_data = [(task, n) for task, n in places if task in tasks and _in_archives(tasks[task])]
        wanted = Counter((task, n // tasks[task].chunk_size) for task, n in with_data)
        for (number, chunk), count in wanted.items():
            task = tasks[number]
            if (number, chunk) not in self._had or AGAIN * count >= len(_span(task, chunk)):
                yield from self._chunk(task, chunk)

    def _chunk(self, task: Task, chunk: int) -> Iterator[tuple[str, bytes]]:
        # Original chunks of a video are video, too; the others hold a picture for each frame, or are video as well.
        quality = "original" if task.original_chunks == IMAGES else "compressed"
        what = f"fetch chunk {chunk} of task {task.id}"
        try:
            query = {"type": "chunk", "number": chunk, "quality": quality}
            data = self._api.bytes(f"api/tasks/{task.id}/data/", query, what=what)
        except PlatformError as error:
            if isinstance(error, PlatformUnreachableError) and not isinstance(error, FailedError):
                raise
            log.warning("%s", error)
            self._had.add((task.id, chunk))
            return
        yield from self._unpacked(task, chunk, data)
        self._had.add((task.id, chunk))

    def _unpacked(self, task: Task, chunk: int, data: bytes) -> Iterator[tuple[str, bytes]]:
        """The members by their order: the first one is the first frame of the chunk."""
        span = _span(task, chunk)
        try:
            archive = ZipFile(BytesIO(data))
        except BadZipFile:
            log.info("chunk %d of task %d is no archive of images: its frames are fetched singly", chunk, task.id)
            return
        with archive:
            members = archive.infolist()
            if len(members) != len(span):
                log.warning("chunk %d of task %d has %d images, not %d", chunk, task.id, len(members), len(span))
                return
            alive = {frame.number for frame in self._frames(task) if not frame.deleted}
            for number, member in zip(span, members, strict=True):
                image = self._member(archive, member) if number in alive else None
                if image is not None:
                    yield self.url(task.id, number), image

    def _member(self, archive: ZipFile, member: ZipInfo) -> bytes | None:
        """One file; None where it is too large or damaged, which its own turn then says."""
        if member.file_size > self._max_bytes:
            return None
        try:
            return archive.read(member)
        except (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
            return None


def _in_archives(task: Task) -> bool:
    """Whether there are chunks that hold images; frames of a video may come one by one only."""
    return task.chunk_size > 0 and IMAGES in (task.original_chunks, task.compressed_chunks)


def _span(task: Task, chunk: int) -> range:
    """The frames of a chunk."""
    first = chunk * task.chunk_size
    return range(first, min(first + task.chunk_size, task.size))
