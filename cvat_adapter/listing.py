"""All jobs of one project as they are now, in few requests: of many only those that changed are asked for."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from cvat_adapter.nouns import Job

if TYPE_CHECKING:
    from cvat_adapter.reading import Reader

FULL_S, FEW_JOBS = 600.0, 300
"""All jobs are listed anew after this long, or where there are so few; else those that changed."""
OVERLAP, RECENT_S = timedelta(seconds=5), 60.0
"""What changed so shortly before the newest change is listed again, where that was recent when it was listed: a
transaction may commit after its time. All jobs of a new task have nearly the same."""


class Listing:
    """The jobs of a project, and when they were listed; times are seconds since the epoch."""

    def __init__(self, reader: Reader) -> None:
        """Sends nothing."""
        self._reader = reader
        self._jobs: dict[int, Job] = {}
        self._at = self._whole_at = float("-inf")

    def now(self, at: float) -> list[Job]:
        """The jobs at the moment ``at``; one that is gone stays until all are listed anew."""
        if len(self._jobs) <= FEW_JOBS or not 0 <= at - self._whole_at < FULL_S:
            self._jobs = {job.id: job for job in self._reader.jobs()}
            self._whole_at = at
        else:
            newest = max(job.updated for job in self._jobs.values())
            recent = self._at - newest.timestamp() < RECENT_S
            changed = self._reader.jobs(newest - OVERLAP if recent else newest)
            self._jobs |= {job.id: job for job in changed}
        self._at = at
        return list(self._jobs.values())
