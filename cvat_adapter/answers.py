"""What people answered about samples, from the annotations of the done jobs that show them: one answer per job."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from common.domain import Annotation, LabelledBox
from common.errors import PlatformUnreachableError
from cvat_adapter import wire
from cvat_adapter.nouns import Frame, Job, Labels, Task, place_of, understood
from cvat_adapter.refusals import FailedError

FEW_JOBS = 3
"""So many jobs of a task are read one by one; more of them by one request for the whole task."""
PATIENCE = 20
"""So many jobs in a row over which CVAT breaks down are not their fault."""

log = logging.getLogger(__name__)

Json = Mapping[str, Any]
Places = Mapping[str, Sequence[tuple[int, int]]]
"""Sample -> (task, frame) wherever it is shown."""
Told = dict[int, list[tuple[Job, list[LabelledBox], list[str]]]]
"""Frame of a task -> what was drawn there, of each done job."""


class Answers:
    """Reads task by task, and keeps no more than one task of the project at once."""

    def __init__(
        self,
        read: Callable[[str, str], Any],
        frames: Callable[[Task], list[Frame]],
        labels: Callable[[int], Labels],
        tasks: Mapping[int, Task],
        done: Iterable[Job],
    ) -> None:
        """Sends nothing.

        Args:
            read: From a path and what it is read for to JSON; None for what is gone.
            frames: Of a task, deleted ones included.
            labels: Of a project, by id.
            tasks: By id.
            done: The jobs that count.
        """
        self._read, self._frames, self._labels, self._tasks = read, frames, labels, tasks
        self.unread: dict[int, Job] = {}
        self._failed = 0
        self._done: dict[int, list[Job]] = {}
        for job in sorted(done, key=lambda j: (j.start, j.id)):
            self._done.setdefault(job.task, []).append(job)
        self._known: dict[int, Labels] = {}

    def of(self, places: Places) -> Iterator[tuple[str, list[Annotation]]]:
        """(sample, its answers) of every sample, by task and frame; [] where no done job shows it.

        Samples in a job whose annotations cannot be had are left out, so that what is known of them stays; such jobs
        are in ``unread`` then.

        Raises:
            PlatformError: CVAT does not answer, or breaks down over one job after the other.
        """
        wanted: dict[int, set[int]] = {}
        for shown in places.values():
            for task, number in shown:
                wanted.setdefault(task, set()).add(number)
        told: dict[int, Told] = {}
        for home, samples in groupby(sorted(places, key=place_of), lambda sample: place_of(sample)[0]):
            for sample in samples:
                found: list[Annotation] = []
                for task, number in places[sample]:
                    if task not in told:
                        told[task] = self._told(task, wanted[task])
                    found += [_annotation(sample, number, *one) for one in told[task].get(number, ())]
                if not any(self._is_unread(task, number) for task, number in places[sample]):
                    yield sample, found
            told.pop(home, None)

    def _is_unread(self, task: int, number: int) -> bool:
        return any(job.task == task and number in job.frames for job in self.unread.values())

    def _told(self, number: int, wanted: set[int]) -> Told:
        jobs = [job for job in self._done.get(number, ()) if not wanted.isdisjoint(job.frames)]
        if not jobs or number not in self._tasks:
            return {}
        task, found = self._tasks[number], Told()
        frames = {frame.number: frame for frame in self._frames(task)}
        if task.project not in self._known:
            self._known[task.project] = self._labels(task.project)
        for job, raw in self._raw(task, jobs):
            inside = {n: frames[n] for n in job.frames if n in frames}
            with understood(f"the annotations of job {job.id}"):
                drawn = wire.answers(raw, inside, self._known[task.project])
            for n, (boxes, dropped) in drawn.items():
                found.setdefault(n, []).append((job, boxes, dropped))
        return found

    def _raw(self, task: Task, jobs: Sequence[Job]) -> Iterator[tuple[Job, Json]]:
        """(job, its annotations): where jobs overlap CVAT merges them when the task is asked, so each is asked."""
        if not task.overlap and len(jobs) > FEW_JOBS:
            try:
                raw = self._read(f"api/tasks/{task.id}/annotations/", f"read the annotations of task {task.id}")
            except PlatformUnreachableError as error:  # away, or too slow for a task of thousands of jobs?
                log.warning("%s; its jobs are read one by one", error)
            else:
                yield from _split(raw, jobs) if raw is not None else ()
                return
        for job in jobs:
            try:
                raw = self._read(f"api/jobs/{job.id}/annotations/", f"read the annotations of job {job.id}")
            except FailedError as error:
                self._pass_by(job, error)
                continue
            self._failed = 0
            if raw is not None:
                yield job, raw

    def _pass_by(self, job: Job, error: FailedError) -> None:
        self._failed += 1
        if self._failed >= PATIENCE:
            raise error
        self.unread[job.id] = job
        log.warning("%s; the answers of job %d are passed by for now", error, job.id)


def _split(raw: Json, jobs: Sequence[Job]) -> Iterator[tuple[Job, Json]]:
    """The annotations of a task job by job; a track belongs to the job in which it begins."""
    owner = {n: job.id for job in jobs for n in job.frames}
    parts: dict[int, dict[str, list[Json]]] = {job.id: {"shapes": [], "tracks": []} for job in jobs}
    for kind in ("shapes", "tracks"):
        for one in raw.get(kind) or ():
            if one["frame"] in owner:
                parts[owner[one["frame"]]][kind].append(one)
    for job in jobs:
        yield job, parts.pop(job.id)


def _annotation(sample: str, number: int, job: Job, boxes: Sequence[LabelledBox], dropped: Sequence[str]) -> Annotation:
    return Annotation(
        id=f"{job.id}:{number}",
        sample=sample,
        updated=job.updated,
        person="" if job.assignee is None else str(job.assignee),
        boxes=tuple(boxes),
        dropped=tuple(dropped),
        own_time=False,
    )


def places(samples: Iterable[str], mapped: Mapping[str, str]) -> dict[str, list[tuple[int, int]]]:
    """Where each sample is shown: at home, and in the queue tasks.

    Args:
        samples: 'TASK:FRAME' of the project.
        mapped: 'TASK:FRAME' of a queue task -> sample.
    """
    found = {sample: [place_of(sample)] for sample in samples}
    for place, sample in sorted(mapped.items(), key=lambda item: place_of(item[0])):
        if sample in found:
            found[sample].append(place_of(place))
    return found
