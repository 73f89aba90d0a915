"""Who gets which job: on the disk before CVAT hears of it, so that of two that hand out at once one wins.

Rows of the memory: "slot", key 'USER/N' -> {"job", "at"}, one for each job that a person has from us; "taken", key job
-> {"user", "at", "slot", "updated", "version"}. CVAT cannot compare and set; these rows can.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from common.ports import Memory
from cvat_adapter.nouns import NEW, Job

SLOT, TAKEN, TURN = "slot", "taken", "turn"
"""Kinds of rows."""
QUIET_S = 1800.0
"""Who saved nothing for this long has no job open with unsaved edits, as far as anybody can tell."""
TOUCHED = timedelta(seconds=5)
"""An assignment itself moves a job's updated_date by as much at most."""
TURN_S = 60.0
"""A turn that is not over after this long was cut off: the next one begins."""


@dataclass(frozen=True)
class Claim:
    """One job that is somebody's, or about to be.

    Attributes:
        job: CVAT's id.
        user: CVAT's id.
        at: When, seconds since the epoch.
        slot: Key of its slot.
        updated: What CVAT said of the job's last change right after the assignment; '' = not known to have arrived.
        version: Active when it was assigned.
    """

    job: int
    user: int
    at: float
    slot: str
    updated: str = ""
    version: str = ""


class Claims:
    """The claims of one project."""

    def __init__(self, memory: Memory, clock: Callable[[], float] = time.time) -> None:
        self._memory, self._clock = memory, clock

    @contextmanager
    def turn(self) -> Iterator[bool]:
        """Whether it is ours to hand out and take back until the end of the block; of two at once one is told so."""
        mine = self._begin()
        try:
            yield mine is not None
        finally:
            if mine is not None:
                self._memory.put(TURN, {mine: {"over": True, "at": self._clock()}})

    def _begin(self) -> str | None:
        turns = self._memory.all(TURN)
        last = max((int(key) for key in turns), default=0)
        if last and not self._is_over(turns[str(last)]):
            return None
        mine = str(last + 1)
        if not self._memory.add(TURN, mine, {"over": False, "at": self._clock()}):
            return None
        # One who read long ago may get a number that was used and cleared away: then there are higher ones.
        if max(int(key) for key in self._memory.all(TURN)) != int(mine):
            self._memory.drop(TURN, [mine])
            return None
        self._memory.drop(TURN, [key for key in turns if int(key) < last])
        return mine

    def _is_over(self, turn: dict[str, Any]) -> bool:
        return bool(turn["over"]) or not 0 <= self._clock() - turn["at"] <= TURN_S

    def all(self) -> dict[int, Claim]:
        """Job -> its claim."""
        return {int(key): Claim(int(key), **row) for key, row in self._memory.all(TAKEN).items()}

    def tidy(self) -> None:
        """Slots whose claim was never written, or is gone, are free again. Only in one's turn."""
        used = {claim.slot: job for job, claim in self.all().items()}
        slots = self._memory.all(SLOT)
        self._memory.drop(SLOT, [key for key, row in slots.items() if used.get(key) != row["job"]])

    def make(self, job: int, user: int, most: int) -> Claim | None:
        """Claim a job for a person with at most ``most`` slots; None where it is taken, or all of them are."""
        at = self._clock()
        slots = (f"{user}/{n}" for n in range(most))
        slot = next((s for s in slots if self._memory.add(SLOT, s, {"job": job, "at": at})), None)
        if slot is None:
            return None
        row: dict[str, Any] = {"user": user, "at": at, "slot": slot, "updated": "", "version": ""}
        if self._memory.add(TAKEN, str(job), row):
            return Claim(job, **row)
        self._memory.drop(SLOT, [slot])
        return None

    def arrived(self, claim: Claim, updated: str, version: str) -> None:
        """CVAT has it."""
        row = {"user": claim.user, "at": claim.at, "slot": claim.slot, "updated": updated, "version": version}
        self._memory.put(TAKEN, {str(claim.job): row})

    def drop(self, claim: Claim) -> None:
        """The job is no longer theirs through us. The slot goes last: a slot alone is known to be nobody's."""
        self._memory.drop(TAKEN, [str(claim.job)])
        self._memory.drop(SLOT, [claim.slot])


def busy(jobs: Iterable[Job], ours: Mapping[int, str], now: float) -> set[int]:
    """Users who saved something in the last ``QUIET_S`` in a job of theirs.

    Args:
        jobs: All jobs as CVAT listed them last.
        ours: Job -> the time of its last change right after we assigned it, as text: that was no save.
        now: Seconds since the epoch.
    """
    since = datetime.fromtimestamp(now, UTC) - timedelta(seconds=QUIET_S)
    moved = (j for j in jobs if j.updated > since and ours.get(j.id) != j.updated.isoformat())
    return {j.assignee for j in moved if j.assignee is not None and not only_assigned(j)}


def only_assigned(job: Job) -> bool:
    """Whether the last change of a job was its assignment, by whomever: the first save ends the state 'new'."""
    return job.state == NEW and job.assigned is not None and job.updated - job.assigned <= TOUCHED
