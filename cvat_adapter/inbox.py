"""The inbox: every annotator keeps a few open jobs, the best there are.

CVAT cannot compare and set, so each step is: claim in the memory, read the job, assign, read it again. What a person
did meanwhile wins.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any

from common.config import Settings
from common.ports import Memory
from cvat_adapter.assigning import REFUSED, Assigning
from cvat_adapter.claims import QUIET_S, Claim, Claims, busy
from cvat_adapter.nouns import NEW, STAGES, Job
from cvat_adapter.ranking import Offer

if TYPE_CHECKING:
    from cvat_adapter.client import Api

REST_S = 600.0
"""A refused assignment is tried again after this long."""
SAID_S = 3600.0
"""What was refused is said again after this long."""
SLICE_S = 5.0
"""Handing out stops after this long and goes on at the next call."""

Untouched = Callable[[Job, Mapping[str, Any]], bool]
"""Whether a job's annotations are exactly what we wrote."""

log = logging.getLogger(__name__)


class _Outcome(Enum):
    GIVEN = "given"
    LOST = "lost"
    REFUSED = "refused"


class Inbox:
    """Who has which jobs. ``state["options"]["annotators"]`` names those who get jobs; default every worker."""

    def __init__(
        self,
        api: Api,
        memory: Memory,
        settings: Settings,
        state: dict[str, Any],
        untouched: Untouched,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Sends nothing.

        Args:
            api: Of CVAT.
            memory: Of the project.
            settings: ``wip``.
            state: Of the project's port.
            untouched: See ``Preannotations.untouched``.
            clock: Seconds since the epoch.
        """
        self._settings, self._state, self._is_ours, self._clock = settings, state, untouched, clock
        self._cvat, self._claims = Assigning(api, clock), Claims(memory, clock)
        self._rests: dict[int, float] = {}
        self._told: dict[tuple[int, int], float] = {}

    # --- who ---------------------------------------------------------------------------------------------

    def annotators(self) -> list[int]:
        """Ids of those who get jobs; nobody without an organization."""
        options = self._state.get("options") or {}
        named = {n.strip() for n in str(options.get("annotators") or "").split(",") if n.strip()}
        members = self._cvat.members().items()
        return sorted(i for i, m in members if (m.name in named if named else m.role == "worker"))

    def taken(self) -> set[int]:
        """Jobs that are claimed for somebody."""
        return set(self._claims.all())

    def room(self, jobs: Iterable[Job]) -> int:
        """Jobs that annotators lack now, all together."""
        users = self._willing()
        counts = self._open(jobs) if users else Counter[int]()
        return sum(max(0, self._settings.wip - counts[u]) for u in users)

    def _willing(self) -> list[int]:
        """Annotators, without those to whom CVAT refused a job a moment ago."""
        now = self._clock()
        self._rests = {u: until for u, until in self._rests.items() if until > now}
        return [u for u in self.annotators() if u not in self._rests]

    def _open(self, jobs: Iterable[Job]) -> Counter[int]:
        """User -> open jobs: those CVAT lists as theirs, and those claimed since it was asked.

        Who has completed a job is done with it, whatever review it waits for or is in.
        """
        theirs = {j.id: j.assignee for j in jobs if j.assignee is not None and not j.done(STAGES[0])}
        theirs |= {c.job: c.user for c in self._claims.all().values()}
        return Counter(u for u in theirs.values() if u is not None)

    @property
    def _version(self) -> str:
        return str(self._state.get("active") or "")

    # --- handing out -------------------------------------------------------------------------------------

    def refill(self, offers: Sequence[Offer], jobs: Iterable[Job]) -> bool:
        """Fill everybody's inbox from the offers, best first; returns whether something was assigned or settled.

        Args:
            offers: Jobs that may be assigned, best first.
            jobs: All jobs as CVAT listed them last.
        """
        if not self._cvat.possible:
            return False
        listed = {j.id: j for j in jobs}
        with self._claims.turn() as ours:
            if not ours:
                return False
            settled = self._settle(listed)
            return self._hand_out(offers, self._open(listed.values())) or settled

    def _hand_out(self, offers: Sequence[Offer], counts: Counter[int]) -> bool:
        until, refused = self._clock() + SLICE_S, Counter[str]()
        taken, moved = self.taken(), False
        left = [o.job for o in offers if o.job.id not in taken]
        while left and self._clock() < until:
            free = [u for u in self._willing() if counts[u] < self._settings.wip]
            if not free:
                break
            user, job = min(free, key=lambda u: (counts[u], u)), left.pop(0)
            outcome = self._give(job, user, counts)
            if outcome is _Outcome.REFUSED:
                # One refusal does not tell whose fault it is: the job goes to the next, the person gets another one.
                refused.update([f"user {user}", f"job {job.id}"])
                left[1:1] = [job] if refused[f"job {job.id}"] < 2 else []
                if refused[f"user {user}"] == 2:
                    self._rests[user] = self._clock() + REST_S
            counts[user] += outcome is _Outcome.GIVEN
            moved |= outcome is _Outcome.GIVEN
        return moved

    def _give(self, job: Job, user: int, counts: Counter[int]) -> _Outcome:
        """Assign one job; what a person did meanwhile wins."""
        claim = self._claims.make(job.id, user, self._settings.wip)
        if claim is None:
            return _Outcome.LOST
        fresh = self._cvat.read(job.id)
        if fresh is None or not fresh.writable:
            self._claims.drop(claim)
            if fresh is not None and fresh.assignee is not None:
                counts[fresh.assignee] += 1
            return _Outcome.LOST
        return self._finish(claim)

    def _finish(self, claim: Claim) -> _Outcome:
        """Assign what is claimed and free, and look whether it stays so."""
        status = self._cvat.assign(claim.job, claim.user)
        if status in REFUSED:
            self._claims.drop(claim)
            self._tell(claim, status)
            return _Outcome.LOST if status == 404 else _Outcome.REFUSED
        fresh = self._cvat.read(claim.job)
        if fresh is None or fresh.assignee != claim.user:
            self._claims.drop(claim)
            return _Outcome.LOST
        self._claims.arrived(claim, fresh.updated.isoformat(), self._version)
        return _Outcome.GIVEN

    def _tell(self, claim: Claim, status: int) -> None:
        """Once an hour for each person and answer."""
        last = self._told.get((claim.user, status), float("-inf"))
        if self._clock() - last >= SAID_S:
            self._told[claim.user, status] = self._clock()
            member = self._cvat.members().get(claim.user)
            name = member.name if member else f"user {claim.user}"
            text = "CVAT would not change who has job %d, for %s (status %d): the others go on, it is tried again later"
            log.warning(text, claim.job, name, status)

    # --- clearing up -------------------------------------------------------------------------------------

    def settle(self, jobs: Iterable[Job]) -> bool:
        """Compare the claims with CVAT, so that what is done makes room; returns whether one was finished or dropped.

        Args:
            jobs: All jobs as CVAT listed them last.
        """
        with self._claims.turn() as ours:
            return ours and self._cvat.possible and self._settle({j.id: j for j in jobs})

    def _settle(self, listed: Mapping[int, Job]) -> bool:
        """A claim that the listing does not confirm is looked at now: the listing may be older than the claim."""
        self._claims.tidy()
        members, claims = self._cvat.members(), list(self._claims.all().values())
        doubtful = [c for c in claims if c.user not in members or not self._confirmed(c, listed.get(c.job))]
        moved = [self._settled(c, stays=c.user in members) for c in doubtful]
        return any(moved)

    def _confirmed(self, claim: Claim, job: Job | None) -> bool:
        return job is not None and job.assignee == claim.user and not job.done(STAGES[0]) and bool(claim.updated)

    def _settled(self, claim: Claim, *, stays: bool) -> bool:
        job = self._cvat.read(claim.job)
        if job is None or job.done(STAGES[0]):
            self._claims.drop(claim)
            return True
        if stays and job.assignee == claim.user:
            return self._arrived(claim, job)
        if stays and job.writable and not claim.updated:  # cut off between claim and assignment
            return self._finish(claim) is _Outcome.GIVEN
        if not stays and self._unmoved(claim, job):
            return self._unassign(claim)
        self._claims.drop(claim)
        return True

    def _arrived(self, claim: Claim, job: Job) -> bool:
        """Cut off right after the assignment, or the listing was old."""
        if claim.updated:
            return False
        self._claims.arrived(claim, job.updated.isoformat(), self._version)
        return True

    def _unmoved(self, claim: Claim, job: Job) -> bool:
        """Nobody saved anything since we assigned it, and it is as we left it."""
        return job.state == NEW and job.assignee == claim.user and job.updated.isoformat() == claim.updated

    def _unassign(self, claim: Claim) -> bool:
        """Give a job back to nobody; False where CVAT refuses."""
        status = self._cvat.assign(claim.job, None)
        if status in REFUSED:
            self._tell(claim, status)
            return False
        self._claims.drop(claim)
        return True

    # --- taking back -------------------------------------------------------------------------------------

    def take_back(self, jobs: Iterable[Job]) -> bool:
        """Unassign what was assigned under another version and nobody has begun; returns whether there was something.

        Of each person one job, and no further one before that is made good, so that nobody finds an empty list; and
        only from those who had it for, and saved nothing for, ``QUIET_S``: an open browser tab holds unsaved edits.

        Args:
            jobs: All jobs as CVAT listed them last.
        """
        listed = {j.id: j for j in jobs}
        old = [c for c in self._claims.all().values() if c.updated and c.version != self._version]
        due = [c for c in old if c.job in listed and self._unmoved(c, listed[c.job])]
        counts = self._open(listed.values()) if due else Counter[int]()
        due = [c for c in due if counts[c.user] >= self._settings.wip]
        if not due or not self._cvat.possible:
            return False
        with self._claims.turn() as ours:
            quiet = self._quiet(listed.values()) if ours else set[int]()
            ready = {c.user: c for c in due if c.user in quiet and self._clock() - c.at >= QUIET_S}
            back = [self._taken_back(claim) for claim in ready.values()]
            return any(back)

    def _taken_back(self, claim: Claim) -> bool:
        job = self._cvat.read(claim.job)
        if job is None or not self._unmoved(claim, job):
            return False
        if not self._is_ours(job, self._cvat.shapes(claim.job)) or not self._unassign(claim):
            return False
        self._give_back_if_begun(claim)
        return True

    def _give_back_if_begun(self, claim: Claim) -> None:
        """Who saved between our last look and our request keeps the job: begun and nobody's, it would stay so."""
        job = self._cvat.read(claim.job)
        if job is None or job.assignee is not None:
            return
        if job.state != NEW or not self._is_ours(job, self._cvat.shapes(claim.job)):
            self._cvat.assign(claim.job, claim.user)

    def _quiet(self, jobs: Iterable[Job]) -> set[int]:
        """Everybody with a claim who saved nothing for a while; what our own assignment moved does not count."""
        claims = self._claims.all()
        ours = {number: claim.updated for number, claim in claims.items()}
        return {c.user for c in claims.values()} - busy(jobs, ours, self._clock())
