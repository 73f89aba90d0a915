"""What people are told of the jobs of one project: a row for each, and how many are done, in hands and free."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from common.ports import TOLD, Memory
from cvat_adapter.nouns import Job
from cvat_adapter.queue_book import ROUND
from cvat_adapter.ranking import Offer

JOB = "job"
"""Kind of memory: job -> what ``GET /api/jobs`` shows."""
LINE = "jobs"
"""Key of our line in the memory of kind ``TOLD``."""


class JobRows:
    """The rows, written where something of them changed."""

    def __init__(self, memory: Memory, done_stage: str) -> None:
        """Sends nothing, reads nothing."""
        self._memory, self._stage = memory, done_stage
        self._shown: dict[str, Any] | None = None
        self._told = ""

    def show(self, jobs: Sequence[Job], ranked: Iterable[Offer], *, mode: str) -> None:
        """Keep the rows of these jobs and of no others.

        Args:
            jobs: All there are.
            ranked: Those that are offered, best first.
            mode: 'inbox', or 'task' where jobs of queue tasks alone are handed out.
        """
        if self._shown is None:
            self._shown = self._memory.all(JOB)
        offers = {o.job.id: (n, o) for n, o in enumerate(ranked, start=1)}
        rows = {str(job.id): _row(job, *offers.get(job.id, (None, None)), mode=mode) for job in jobs}
        self._memory.put(JOB, {key: row for key, row in rows.items() if self._shown.get(key) != row})
        self._memory.drop(JOB, self._shown.keys() - rows.keys())
        self._shown = rows
        self._tell(jobs, mode)

    def _tell(self, jobs: Sequence[Job], mode: str) -> None:
        queued = self._memory.all(ROUND) if mode == "task" else None
        told = counted((j for j in jobs if queued is None or str(j.task) in queued), self._stage)
        if queued is not None:
            told += ", of queue tasks"
        if told != self._told:
            self._memory.put(TOLD, {LINE: told})
            self._told = told


def counted(jobs: Iterable[Job], stage: str) -> str:
    """How many jobs are done from ``stage`` on, how many of the others somebody has, and how many nobody."""
    done = held = free = 0
    for job in jobs:
        counts = job.done(stage)
        done += counts
        held += not counts and job.assignee is not None
        free += not counts and job.assignee is None
    return f"{done} done, {held} in somebody's hands, {free} free"


def _row(job: Job, number: int | None, offer: Offer | None, *, mode: str) -> dict[str, Any]:
    """What people see of a job; one that is done has no rank."""
    return {
        "rank": number,
        "value": round(offer.value, 6) if offer else None,
        "reason": offer.reason if offer else "",
        "sample": offer.sample if offer else "",
        "task": job.task,
        "start": job.start,
        "stop": job.stop,
        "state": job.state,
        "stage": job.stage,
        "assignee": job.assignee,
        "assignee_name": job.assignee_name,
        "mode": mode,
    }
