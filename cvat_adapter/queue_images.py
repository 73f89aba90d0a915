"""Images on their way into a queue task: a folder of checked files, filled a few seconds at a time."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import PlatformError, PlatformUnreachableError, UnreadableImageError
from common.media.decode import Decoder
from cvat_adapter.nouns import Task, place_of
from cvat_adapter.queue_plan import file_name, sample_of

if TYPE_CHECKING:
    from cvat_adapter.client import Api
    from cvat_adapter.reading import Reader

SLICE_S = 3.0
"""How long one call fetches: the loop has other things to do."""
SPARSE = 4
"""Fewer wanted frames of a chunk come one by one: a chunk of 72 photographs may be 200 MB."""
_UNFINISHED = ".part"

log = logging.getLogger(__name__)


class QueueImages:
    """The images of one planned queue task. Files outlive us: frames of CVAT never change."""

    def __init__(self, folder: Path, api: Api, reader: Reader, max_pixels: int) -> None:
        """Nothing is made or sent yet.

        Args:
            folder: Of this project's queue tasks alone.
            api: Fetches frames.
            reader: Fetches chunks and knows the names of frames.
            max_pixels: A larger image is left out.
        """
        self._folder, self._api, self._reader, self._decoder = folder, api, reader, Decoder(max_pixels)

    def fetch(self, samples: Sequence[str], tasks: Mapping[int, Task]) -> tuple[bool, dict[str, str], dict[str, str]]:
        """Fetch some of those that are not there, for about ``SLICE_S``.

        Args:
            samples: Of the source.
            tasks: Of the source, by id.

        Returns:
            Whether all are there now; the samples that are no images -> why; those that CVAT would not give -> why.

        Raises:
            PlatformUnreachableError: CVAT does not answer at all.
        """
        broken: dict[str, str] = {}
        refused: dict[str, str] = {}
        end = time.monotonic() + SLICE_S
        there = self._there()
        waiting = [s for s in samples if s not in there]
        while waiting and time.monotonic() < end:
            group = _chunk_mates(waiting, tasks)
            if not group:
                refused[waiting[0]] = f"task {place_of(waiting[0])[0]} is gone"
            elif len(group) >= SPARSE:
                self._take_bulk(group, tasks, broken)
            there = self._there()
            for sample in (s for s in group if s not in there and s not in broken):
                self._take_one(sample, tasks, broken, refused)
            there = self._there()
            waiting = [s for s in waiting if s not in there and s not in broken and s not in refused]
        return not waiting, broken, refused

    def files(self, samples: Iterable[str]) -> list[tuple[str, Path]]:
        """(name in the queue task, file) of samples that are there, in their order."""
        there = self._there()
        return [(there[s].name, there[s]) for s in samples]

    def clear(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _there(self) -> dict[str, Path]:
        if not self._folder.is_dir():
            return {}
        found = ((sample_of(p.name), p) for p in self._folder.iterdir() if p.suffix != _UNFINISHED)
        return {sample: path for sample, path in found if sample is not None}

    def _take_bulk(self, group: Sequence[str], tasks: Mapping[int, Task], broken: dict[str, str]) -> None:
        wanted = {self._reader.media_url(s, ""): s for s in group}
        for url, data in self._reader.media_bulk(list(wanted)):
            if url in wanted:
                self._store(wanted[url], data, tasks, broken)

    def _take_one(
        self, sample: str, tasks: Mapping[int, Task], broken: dict[str, str], refused: dict[str, str]
    ) -> None:
        task, frame = place_of(sample)
        params = {"type": "frame", "number": frame, "quality": "original"}
        try:
            data = self._api.bytes(f"api/tasks/{task}/data/", params, what=f"fetch frame {frame} of task {task}")
        except PlatformError as error:
            if isinstance(error, PlatformUnreachableError):  # the server, or this frame alone?
                self._api.get(f"api/tasks/{task}", what=f"look at task {task}")
            refused[sample] = str(error)
            return
        self._store(sample, data, tasks, broken)

    def _store(self, sample: str, data: bytes, tasks: Mapping[int, Task], broken: dict[str, str]) -> None:
        task, frame = place_of(sample)
        try:
            image = self._decoder.check(data, f"frame {frame} of task {task}")
        except UnreadableImageError as error:
            broken[sample] = str(error)
            return
        names = {f.number: f.name for f in self._reader.frames(tasks[task])}
        path = self._folder / file_name(sample, names.get(frame, ""), image.suffix)
        self._folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(path.name + _UNFINISHED)
        unfinished.write_bytes(image.data)
        unfinished.replace(path)


def _chunk_mates(samples: Sequence[str], tasks: Mapping[int, Task]) -> list[str]:
    """The first sample and those that come in the same chunk; [] where its task is gone."""
    task, frame = place_of(samples[0])
    if task not in tasks:
        return []
    size = max(1, tasks[task].chunk_size)
    places = ((s, *place_of(s)) for s in samples)
    return [s for s, t, n in places if t == task and n // size == frame // size]
