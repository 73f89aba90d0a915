"""Reading a CVAT project in few requests: tasks, jobs, frames, samples, answers. Writes nothing."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from common.config import Settings
from common.domain import Annotation, RemoteSample
from common.errors import PlatformError, ProjectGoneError
from common.ports import Memory, chunks
from cvat_adapter import wire
from cvat_adapter.answers import Answers, places
from cvat_adapter.frames import Frames
from cvat_adapter.images import Images
from cvat_adapter.nouns import (
    COMPLETED,
    STAGES,
    Frame,
    Job,
    Labels,
    Task,
    job_of,
    place_of,
    sample_id,
    task_of,
)

if TYPE_CHECKING:
    from cvat_adapter.client import Api

PAGE = 100
"""Rows of one page, and ids of one filter."""
MAPPED = "mapped"
"""Kind of memory: 'TASK:FRAME' of a queue task -> the source sample it shows."""

Json = Mapping[str, Any]
ANNOTATION: Json = {"==": [{"var": "type"}, "annotation"]}
"""Jobs people annotate in: neither ground truth nor replicas of a consensus."""


class Reader:
    """One project, with the project of its queue tasks where there is one. One thread at a time."""

    def __init__(
        self,
        api: Api,
        project: str,
        settings: Settings,
        memory: Memory,
        state: Mapping[str, Any] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Sends nothing.

        Args:
            api: CVAT.
            project: Its id.
            settings: From which stage on a completed job counts as labelled; how large an image may be.
            memory: Of the project; kind 'mapped' says which source sample a frame of a queue task shows.
            state: Of the platform port, looked at in every call: ``sibling`` is the id of the queue tasks' project.
            clock: Seconds, for the age of what is known.
        """
        self._api, self._project, self._memory, self._stage = api, int(project), memory, settings.done_stage
        self._state: Mapping[str, Any] = {} if state is None else state
        self._listed: dict[int, Task] = {}
        self._frames = Frames(self._unless_gone, clock)
        self._unread: set[int] = set()
        self._images = Images(api, self._known, self.frames, int(settings.max_image_mb * 2**20))

    # --- lists -------------------------------------------------------------------------------------------

    def tasks(self) -> dict[int, Task]:
        """Every task of the project and of its sibling, by id; ``Task.project`` tells which. One listing."""
        self._listed = self._tasks()
        self._frames.keep(self._listed)
        return dict(self._listed)

    def jobs(self, since: datetime | None = None) -> list[Job]:
        """Every annotation job of both projects, by id; with ``since`` those that changed after it. One listing."""
        return self._jobs(*_changed_after(since))

    def frames(self, task: Task) -> list[Frame]:
        """The frames of a task, deleted ones included; [] when it is gone. Read once for each state of the task."""
        return self._frames.of(task)

    def deleted(self, job: Job) -> Collection[int]:
        """Numbers of the deleted frames of a job's task, as of the job's last change or later; see ``Frames``."""
        if job.task not in self._listed or job.stop >= self._listed[job.task].size:
            self.tasks()
        task = self._listed.get(job.task)
        return () if task is None else self._frames.deleted(task, job)

    def labels(self) -> Labels:
        """The labels of the project. Raises ProjectGoneError."""
        return self._labels(self._project)

    def _labels(self, project: int) -> Labels:
        what = f"read the labels of project {project}"
        return wire.labels(self._api.pages("api/labels", {"project_id": project}, what=what, gone=str(project)))

    def _tasks(self, *wanted: Json) -> dict[int, Task]:
        rows = self._rows("api/tasks", self._ours(), *wanted, what=f"list the tasks of project {self._project}")
        found = {task.id: task for task in map(task_of, rows)}
        return {number: found[number] for number in sorted(found)}

    def _jobs(self, *wanted: Json) -> list[Job]:
        what = f"list the jobs of project {self._project}"
        rows = self._rows("api/jobs", self._ours(), ANNOTATION, *wanted, what=what)
        found = {job.id: job for job in map(job_of, rows)}
        self._frames.listed(found.values())
        return [found[number] for number in sorted(found)]

    def _known(self, numbers: Iterable[int]) -> dict[int, Task]:
        """The tasks with these ids as they were listed last; those that never were are looked up."""
        wanted = sorted(set(numbers))
        for some in chunks([n for n in wanted if n not in self._listed], PAGE):
            self._listed |= self._tasks({"in": [{"var": "id"}, list(some)]})
        return {n: self._listed[n] for n in wanted if n in self._listed}

    @property
    def _finished(self) -> Json:
        """The filter for jobs that may be done, see ``nouns.done``."""
        completed: Json = {"==": [{"var": "state"}, COMPLETED]}
        later = STAGES[STAGES.index(self._stage) + 1 :]
        return {"or": [completed, {"in": [{"var": "stage"}, list(later)]}]} if later else completed

    def _ours(self) -> Json:
        """The filter for the project and its sibling."""
        sibling = self._state.get("sibling")
        return {"in": [{"var": "project_id"}, [self._project, *([int(sibling)] if sibling else [])]]}

    def _rows(self, path: str, *wanted: Json, what: str) -> Iterator[dict[str, Any]]:
        """The rows of a list, the oldest change first; a row that changes meanwhile comes once more.

        Each page starts after the last row of the one before, so that what comes, goes or changes meanwhile hides
        nothing, as it would with numbered pages.
        """
        after: list[Json] = []
        reached: tuple[Any, Any] | None = None
        while True:
            query = {"filter": json.dumps({"and": [*wanted, *after]}), "sort": "updated_date,id"}
            rows, more = self._api.page(path, query, what=what, gone=str(self._project))
            yield from rows
            if not more or not rows:
                return
            last = rows[-1]
            if reached == (reached := (last["updated_date"], last["id"])):
                raise PlatformError(f"CVAT sends the same rows again and again when asked to {what}: look at its log")
            when, number = [{"var": "updated_date"}, last["updated_date"]], [{"var": "id"}, last["id"]]
            after = [{"or": [{">": when}, {"and": [{"==": when}, {">": number}]}]}]

    def _unless_gone(self, path: str, what: str) -> Any:
        """JSON of a GET; None for what was deleted since it was listed."""
        try:
            return self._api.get(path, what=what, gone=str(self._project))
        except ProjectGoneError:
            return None

    # --- samples and answers -----------------------------------------------------------------------------

    def samples(self) -> Iterator[RemoteSample]:
        """Every frame that is not deleted and belongs to an annotation job, by task and number.

        ``updated`` is the last change of its jobs; ``answers`` counts the done jobs that show it, as ``annotations``
        yields them.
        """
        tasks, jobs = self.tasks(), self.jobs()
        answered, mapped = Counter[str](), self._mapped()
        changed: dict[int, dict[int, datetime]] = {}
        for job in jobs:
            task = tasks.get(job.task)
            if task is None:
                continue
            if job.done(self._stage):
                answered.update(s for n in self._counting(task, job) if (s := self._source(task, n, mapped)))
            newest = changed.setdefault(task.id, {})
            newest |= {n: max(job.updated, newest.get(n, job.updated)) for n in job.frames}
        for task in tasks.values():
            if task.project == self._project and task.id in changed:
                yield from self._samples(task, changed[task.id], answered)

    def _samples(
        self, task: Task, changed: Mapping[int, datetime], answered: Mapping[str, int]
    ) -> Iterator[RemoteSample]:
        for frame in self.frames(task):
            name = sample_id(task.id, frame.number)
            if frame.number in changed and not frame.deleted:
                yield RemoteSample(name, frame.name, changed[frame.number], answers=answered.get(name, 0))

    def _counting(self, task: Task, job: Job) -> Iterable[int]:
        """Frames of a done job that are answers; deleted ones of the project's own tasks are no samples anyway."""
        if task.project == self._project:
            return job.frames
        there = {frame.number for frame in self.frames(task) if not frame.deleted}
        return [n for n in job.frames if n in there]

    def _mapped(self) -> dict[str, str]:
        return self._memory.all(MAPPED) if self._state.get("sibling") else {}

    def _source(self, task: Task, number: int, mapped: Mapping[str, str]) -> str | None:
        """The sample that a frame shows; None for one of the sibling that is not known."""
        place = sample_id(task.id, number)
        return place if task.project == self._project else mapped.get(place)

    def annotations(
        self, *, since: datetime | None = None, samples: Sequence[str] = ()
    ) -> Iterator[tuple[str, list[Annotation]]]:
        """(sample, its answers), one answer for each done job that shows it; see ``Platform.annotations``.

        A sample without a done job comes with []: with ``since`` where a job of it changed, so that a rejected job
        takes its answers back, and wherever ``samples`` names it. A job whose annotations CVAT could not give is read
        again at the next call with ``since``.
        """
        mapped = self._mapped()
        moved = [] if samples else self._moved(since)
        shown = places(samples or self._shown(moved, mapped), mapped)
        everything = since is None and not samples
        tasks, jobs = self._around(shown, moved, complete=everything)
        done = [job for job in jobs if job.done(self._stage)]
        answers = Answers(self._unless_gone, self.frames, self._labels, tasks, done)
        for sample, found in answers.of(shown):
            if found or not everything:
                yield sample, found
        self._unread = ((self._unread - {job.id for job in done}) if samples else set()) | answers.unread.keys()

    def _moved(self, since: datetime | None) -> list[Job]:
        """The jobs to read: all that are finished, or those that changed since, with those that could not be read."""
        if since is None:
            return self._jobs(self._finished)
        moved = self._jobs(*_changed_after(since))
        left = sorted(self._unread - {job.id for job in moved})
        return moved + [job for some in chunks(left, PAGE) for job in self._jobs({"in": [{"var": "id"}, list(some)]})]

    def _shown(self, jobs: Sequence[Job], mapped: Mapping[str, str]) -> list[str]:
        """The samples that these jobs show, each once."""
        tasks = self._known(job.task for job in jobs)
        found = (self._source(tasks[j.task], n, mapped) for j in jobs if j.task in tasks for n in j.frames)
        return list(dict.fromkeys(sample for sample in found if sample))

    def _around(
        self, shown: Mapping[str, Sequence[tuple[int, int]]], moved: Sequence[Job], *, complete: bool
    ) -> tuple[dict[int, Task], Sequence[Job]]:
        """The tasks in which samples are shown, and their finished jobs; listed where ``moved`` need not hold all."""
        numbers = sorted({number for some in shown.values() for number, _ in some})
        tasks = self._known(numbers)
        alone = (
            moved and not any(task.overlap for task in tasks.values()) and not any(len(s) > 1 for s in shown.values())
        )
        if complete or alone or not tasks:
            return tasks, moved
        near = [{"in": [{"var": "task_id"}, list(some)]} for some in chunks(list(tasks), PAGE)]
        return tasks, [job for some in near for job in self._jobs(self._finished, some)]

    # --- images ------------------------------------------------------------------------------------------

    def media_url(self, sample: str, uri: str = "") -> str:  # noqa: ARG002
        """Where the image is, in its original quality, whatever its name."""
        return self._images.url(*place_of(sample))

    def media_bulk(self, urls: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """(URL, bytes) of every frame in the chunks that hold these; see ``Platform.media_bulk``."""
        return self._images.bulk(urls)


def _changed_after(since: datetime | None) -> list[Json]:
    if since is None:
        return []
    return [{">": [{"var": "updated_date"}, since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")]}]
