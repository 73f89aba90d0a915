"""The frames of tasks, read once for each state of a task, and which of them are deleted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cvat_adapter.nouns import Frame, Job, Task, understood

FRAMES_S = 1800.0
"""Seconds after which frames are read again: deleting one need not move the time of its task's last change."""
FRESH_S = 60.0
"""Seconds after which they are read again before something is written."""


@dataclass(frozen=True)
class _Seen:
    """The frames of a task, when they were read, and what was known then.

    Attributes:
        frames: Deleted ones included.
        task: Last change of the task as it was listed.
        at: By our clock.
        newest: A moment, by CVAT's clock, up to which every change of the task is in ``frames``.
    """

    frames: list[Frame]
    task: datetime
    at: float
    newest: datetime


class Frames:
    """What was read of the frames of one project's tasks."""

    def __init__(self, read: Callable[[str, str], Any], clock: Callable[[], float]) -> None:
        """Sends nothing.

        Args:
            read: From a path and what it is read for to JSON; None for what is gone.
            clock: Seconds, for the age of what is known.
        """
        self._read, self._clock = read, clock
        self._seen: dict[int, _Seen] = {}
        self._newest = datetime.fromtimestamp(0, UTC)

    def listed(self, jobs: Iterable[Job]) -> None:
        """Take note of how far CVAT's clock has come: what is read from now on is no older."""
        self._newest = max([self._newest, *(job.updated for job in jobs)])

    def keep(self, tasks: Collection[int]) -> None:
        """Forget the frames of all other tasks."""
        self._seen = {number: seen for number, seen in self._seen.items() if number in tasks}

    def of(self, task: Task) -> list[Frame]:
        """The frames of a task, deleted ones included; [] when it is gone. Read once for each state of the task."""
        known = self._seen.get(task.id)
        if known is None or known.task != task.updated or self._clock() - known.at > FRAMES_S:
            known = self._look_at(task)
        return known.frames

    def deleted(self, task: Task, job: Job) -> Collection[int]:
        """Numbers of the deleted frames of a task, as of the last change of one of its jobs or later.

        Deleting one moves the times of the jobs that show it. Where it should not, that is noticed after ``FRESH_S``.
        No request where the frames were read since.
        """
        self.listed([job])
        known = self._seen.get(task.id)
        if known is None or known.newest < job.updated or self._clock() - known.at > FRESH_S:
            known = self._look_at(task)
        return {frame.number for frame in known.frames if frame.deleted}

    def _look_at(self, task: Task) -> _Seen:
        newest, at = self._newest, self._clock()  # of before: what changes meanwhile may be in it, or not
        path, what = f"api/tasks/{task.id}/data/meta", f"read the frames of task {task.id}"
        raw = self._read(path, what) if task.size else None
        self._seen[task.id] = found = _Seen(frames_of(task, raw or {}), task.updated, at, newest)
        return found


def frames_of(task: Task, raw: Mapping[str, Any]) -> list[Frame]:
    """The frames of a task from its data/meta; a video is described once for all of its frames."""
    with understood(f"the frames of task {task.id}"):
        described = raw.get("frames") or []
        if len(described) == 1:
            described = described * task.size
        gone = set(raw.get("deleted_frames") or ())
        return [
            Frame(n, str(one.get("name") or ""), int(one.get("width") or 0), int(one.get("height") or 0), n in gone)
            for n, one in enumerate(described[: task.size])
        ]
