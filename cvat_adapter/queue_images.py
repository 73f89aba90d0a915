"""Images on their way into a queue task: a folder of checked files, filled a few seconds at a time."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import PlatformError, PlatformUnreachableError, UnreadableImageError
from common.media.decode import Decoder
from cvat_adapter.nouns import Task, place_of, sample_id
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


@dataclass
class Fetched:
    """What one call came to.

    Attributes:
        complete: All that can be had are there now.
        broken: Samples that are no images -> why.
        refused: Samples that CVAT would not give -> why.
    """

    complete: bool = False
    broken: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


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

    def fetch(self, samples: Sequence[str], tasks: Mapping[int, Task]) -> Fetched:
        """Fetch some of those that are not there, for about ``SLICE_S``.

        Args:
            samples: Of the source.
            tasks: Of the source, by id.

        Raises:
            PlatformUnreachableError: CVAT does not answer at all.
        """
        found, end = Fetched(), time.monotonic() + SLICE_S
        while waiting := self._waiting(samples, found):
            if time.monotonic() >= end:
                return found
            self._fetch_some(waiting, tasks, found)
        found.complete = True
        return found

    def _waiting(self, samples: Iterable[str], found: Fetched) -> list[str]:
        known = self._there().keys() | found.broken.keys() | found.refused.keys()
        return [s for s in samples if s not in known]

    def _fetch_some(self, waiting: Sequence[str], tasks: Mapping[int, Task], found: Fetched) -> None:
        """Fetch the first one, and what comes in the same chunk."""
        task, _ = place_of(waiting[0])
        if task not in tasks:
            found.refused[waiting[0]] = f"task {task} is gone"
            return
        names = {sample_id(task, f.number): f.name for f in self._reader.frames(tasks[task]) if not f.deleted}
        mates = _chunk_mates(waiting, tasks[task].chunk_size)
        found.refused |= {s: f"frame {place_of(s)[1]} of task {task} was deleted" for s in mates if s not in names}
        group = [s for s in mates if s in names]
        if len(group) >= SPARSE:
            wanted = {self._reader.media_url(s, ""): s for s in group}
            for url, data in self._reader.media_bulk(list(wanted)):
                if url in wanted:
                    self._store(wanted[url], data, names, found)
        for sample in self._waiting(group, found):
            self._take_one(sample, names, found)

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

    def _take_one(self, sample: str, names: Mapping[str, str], found: Fetched) -> None:
        task, frame = place_of(sample)
        params = {"type": "frame", "number": frame, "quality": "original"}
        try:
            data = self._api.bytes(f"api/tasks/{task}/data/", params, what=f"fetch frame {frame} of task {task}")
        except PlatformError as error:
            if isinstance(error, PlatformUnreachableError):  # the server, or this frame alone?
                self._api.get(f"api/tasks/{task}", what=f"look at task {task}")
            found.refused[sample] = str(error)
            return
        self._store(sample, data, names, found)

    def _store(self, sample: str, data: bytes, names: Mapping[str, str], found: Fetched) -> None:
        task, frame = place_of(sample)
        try:
            image = self._decoder.check(data, f"frame {frame} of task {task}")
        except UnreadableImageError as error:
            found.broken[sample] = str(error)
            return
        path = self._folder / file_name(sample, names[sample], image.suffix)
        self._folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(path.name + _UNFINISHED)
        unfinished.write_bytes(image.data)
        unfinished.replace(path)


def _chunk_mates(samples: Sequence[str], size: int) -> list[str]:
    """Those of the first sample's task that come in the same chunk of ``size`` frames, itself first."""
    task, frame = place_of(samples[0])
    places = ((s, *place_of(s)) for s in samples)
    return [s for s, t, n in places if t == task and n // max(1, size) == frame // max(1, size)]
