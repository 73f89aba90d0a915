"""Keeps the jobs as the active version wants them: ranked, pre-annotated best first, handed out."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from common.config import Settings
from common.errors import AccessDeniedError, PlatformError, PlatformUnreachableError, ProjectGoneError
from common.ports import Memory
from cvat_adapter import wire
from cvat_adapter.inbox import Inbox
from cvat_adapter.job_rows import JobRows
from cvat_adapter.ledger import Ledger
from cvat_adapter.listing import Listing
from cvat_adapter.nouns import Job, Labels, sample_id
from cvat_adapter.places import PLACE, item_of
from cvat_adapter.preannotations import Preannotations
from cvat_adapter.queue_book import ROUND
from cvat_adapter.queue_task import QueueTasks
from cvat_adapter.ranking import Offer, rank, samples_of
from cvat_adapter.reading import Reader
from cvat_adapter.refusals import FailedError

WRITTEN = "written"
"""Kind of memory: job -> [version, places] its pre-annotations were made from."""
NEWS_S, BURST, IDLE_S = 5.0, 10.0, 60.0
"""Looks at CVAT: with news one every NEWS_S, of which BURST may be saved up, so that who finishes a job need not wait;
without news one every IDLE_S."""
SLICE_S = 3.0
"""Writing stops after this long and goes on at the next call."""
TRIES = 3
"""A job whose pre-annotations fail so often is handed out without; so many jobs of a task that fail in a row are one
trouble, and the other tasks go on."""
OUTAGES = (PlatformUnreachableError, AccessDeniedError, ProjectGoneError)

log = logging.getLogger(__name__)


@dataclass
class _Plan:
    """What one look at CVAT found to do.

    Attributes:
        version: Active then.
        jobs: All of them.
        offers: Those that may be written and handed out, best first.
        at: When the jobs were listed.
        labels: Of the jobs, once they were needed.
        passed_by: Of the offers, the ids of those that could not be written; the next look tries again.
        counts: Job -> its frames that have a place, once they were counted.
        failed: Task -> its jobs that could not be written, one after the other.
        settled: Whether the claims were compared with the jobs.
        old: Whether we changed assignees since the jobs were listed.
        over: Whether nothing is left to do.
    """

    version: str
    jobs: list[Job]
    offers: list[Offer]
    at: float
    labels: Labels | None = None
    passed_by: set[int] = field(default_factory=set)
    counts: dict[int, int] = field(default_factory=dict)
    failed: Counter[int] = field(default_factory=Counter)
    settled: bool = False
    old: bool = False
    over: bool = False


class Keeper:
    """Work on one project in short pieces. What must survive is in the memory; the rest is found by looking."""

    def __init__(
        self,
        reader: Reader,
        memory: Memory,
        settings: Settings,
        state: dict[str, Any],
        inbox: Inbox,
        ledger: Ledger,
        preannotations: Preannotations,
        queue: QueueTasks,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Sends nothing. ``clock`` gives seconds since the epoch."""
        self._reader, self._memory, self._settings, self._state = reader, memory, settings, state
        self._inbox, self._ledger, self._pre, self._queue, self._clock = inbox, ledger, preannotations, queue, clock
        self.there: AbstractSet[str] | None = None
        self._plan: _Plan | None = None
        self._jobs, self._rows = Listing(reader), JobRows(memory, settings.done_stage)
        self._looked_at = float("-inf")
        self._news = self._again = False
        self._credit, self._credit_at = BURST, clock()
        self._orders: tuple[str, int, dict[str, float]] = ("", 0, {})
        self._written: dict[str, Any] | None = None
        self._fails: dict[int, int] = {}

    def _option(self, name: str) -> str:
        return str((self._state.get("options") or {}).get(name) or "")

    @property
    def _by_task(self) -> bool:
        return self._option("queue") == "task"

    def places_came(self, version: str, orders: Mapping[str, float]) -> None:
        """Rows of places were written, so that a look is due; those that were read already are not read again."""
        if self._orders[0] == version:
            there = {**self._orders[2], **orders}
            self._orders = (version, len(there), there)
        self._news = True

    def tend(self, *, news: bool) -> bool:
        """See ``Platform.tend``."""
        version = self._state.get("active")
        if not version or self._state.get("leaving"):
            return False
        self._news |= news
        if self._is_due(version):
            self._look(version)
        plan = self._plan
        return plan is not None and not plan.over and self._work(plan)

    # --- looking -----------------------------------------------------------------------------------------

    def _is_due(self, version: str) -> bool:
        if self._plan is None or self._plan.version != version or self._again:
            return True
        if not 0 <= self._clock() - self._looked_at < IDLE_S:
            return True
        return self._news and self._may_look()

    def _may_look(self) -> bool:
        now = self._clock()
        self._credit = min(BURST, self._credit + max(0.0, now - self._credit_at) / NEWS_S)
        self._credit_at = now
        allowed = self._credit >= 1
        self._credit -= allowed
        return allowed

    def _look(self, version: str) -> None:
        began = self._clock()
        jobs = self._jobs.now(began)
        orders = self._places(version)
        ranked = self._queue.offers(jobs) if self._by_task else self._ranked(jobs, orders)
        self._rows.show(jobs, ranked, mode="task" if self._by_task else "inbox")
        self._forget_gone(jobs)
        self._plan = _Plan(version, jobs, [o for o in ranked if o.job.writable], self._clock())
        self._looked_at, self._news, self._again = began, False, False

    def _places(self, version: str) -> dict[str, float]:
        """Sample -> order; read where rows were added since."""
        kind = PLACE + version
        count = self._memory.counts(kind).get(kind, 0)
        if self._orders[:2] != (version, count):
            orders = {sample: float(row["order"]) for sample, row in self._memory.all(kind).items()}
            self._orders = (version, len(orders), orders)
        return self._orders[2]

    def _ranked(self, jobs: Sequence[Job], orders: Mapping[str, float]) -> list[Offer]:
        stage = self._settings.done_stage
        without = {s for job in jobs if job.done(stage) for s in samples_of(job)}
        if self.there is not None:
            without |= orders.keys() - self.there
        queued = self._memory.all(ROUND)  # from a time with queue tasks: their frames are in jobs of their own
        open_ = (job for job in jobs if not job.done(stage) and str(job.task) not in queued)
        return rank(open_, orders, without=without, how=self._option("job_value") or "max")

    def _forget_gone(self, jobs: Sequence[Job]) -> None:
        here = {str(job.id) for job in jobs}
        if gone := [key for key in self._marks() if key not in here]:
            self._memory.drop(WRITTEN, gone)
            self._written = {key: mark for key, mark in self._marks().items() if key in here}

    # --- working -----------------------------------------------------------------------------------------

    def _work(self, plan: _Plan) -> bool:
        """One slice: first what annotators lack, then the rest, so that a free place does not wait for all jobs."""
        until = time.monotonic() + SLICE_S
        if not plan.settled:
            plan.settled, plan.old = True, self._inbox.settle(plan.jobs)
            if self._inbox.take_back(plan.jobs):
                self._again = True
                return True
        taken = self._inbox.taken()
        offers = [o for o in plan.offers if o.job.id not in taken]
        room = self._inbox.room(plan.jobs)
        found = self._write(plan, offers[:room], until)
        given = bool(room) and self._inbox.refill(self._ready(plan, offers), plan.jobs)
        found |= self._write(plan, offers, until)
        plan.old |= given
        if found or given or self._step(plan):
            return True
        plan.over, self._again = True, plan.old
        return plan.old

    def _step(self, plan: _Plan) -> bool:
        """The next piece of work on queue tasks; it takes a listing that is as good as new."""
        if not (self._by_task or self._queue.left):
            return False
        old = not 0 <= self._clock() - plan.at < NEWS_S
        self._again = old or self._queue_step(plan)
        return self._again

    def _queue_step(self, plan: _Plan) -> bool:
        if not self._by_task:
            return self._queue.wind_down(plan.jobs)
        people = max(1, len(self._inbox.annotators()))
        places = {sample: {"order": order} for sample, order in self._orders[2].items()}
        return self._queue.step(plan.version, places, plan.jobs, annotators=people)

    def _ready(self, plan: _Plan, offers: Sequence[Offer]) -> list[Offer]:
        """The offers up to the first that waits for its pre-annotations: nothing overtakes a better job."""
        left = (o for o in offers if o.job.id not in plan.passed_by)
        return list(takewhile(lambda o: self._is_written(plan, o.job), left))

    # --- pre-annotations ---------------------------------------------------------------------------------

    def _write(self, plan: _Plan, offers: Sequence[Offer], until: float) -> bool:
        """Pre-annotate jobs in this order until time is up; returns whether there was one to write."""
        found = False
        for job in (o.job for o in offers):
            if job.id in plan.passed_by or self._is_written(plan, job):
                continue
            if time.monotonic() >= until:
                return True
            found = True
            try:
                self._write_one(plan, job)
                plan.failed[job.task] = 0
            except PlatformError as error:
                if isinstance(error, OUTAGES) and not isinstance(error, FailedError):
                    raise
                self._pass_by(plan, job, str(error))
                self._blame(plan, job.task, error)
        return found

    def _blame(self, plan: _Plan, task: int, error: PlatformError) -> None:
        """Leave a task where one job after the other fails; raises ``error`` where none could be written at all."""
        plan.failed[task] += 1
        if plan.failed[task] < TRIES:
            return
        plan.passed_by.update(o.job.id for o in plan.offers if o.job.task == task)
        written = any(version == plan.version for version, _ in self._marks().values())
        if not written and all(o.job.id in plan.passed_by for o in plan.offers):
            raise error

    def _write_one(self, plan: _Plan, job: Job) -> None:
        frames = self._frames(job)
        rows = self._memory.get(PLACE + plan.version, frames.values())
        labels = self._labels_of(plan) if rows else Labels({})
        wanted = {
            number: wire.shapes(item_of(sample, rows[sample]), number, labels)
            for number, sample in frames.items()
            if sample in rows
        }
        self._pre.write(job, wanted, plan.version)
        if self._ledger.row(job.id).goal:  # proved to be there
            self._fails.pop(job.id, None)
            self._mark(plan, job)
        else:
            self._pass_by(plan, job, "what is there is not as intended")

    def _pass_by(self, plan: _Plan, job: Job, why: str) -> None:
        """Leave a job for this look; one that fails again and again is handed out as it is."""
        plan.passed_by.add(job.id)
        self._fails[job.id] = self._fails.get(job.id, 0) + 1
        log.warning("job %d could not be pre-annotated: %s", job.id, why)
        if self._fails[job.id] >= TRIES:
            self._mark(plan, job)

    def _frames(self, job: Job) -> dict[int, str]:
        """Frame -> the sample whose place it shows."""
        return self._queue.wanted(job) if self._by_task else {n: sample_id(job.task, n) for n in job.frames}

    def _labels_of(self, plan: _Plan) -> Labels:
        if plan.labels is None:
            plan.labels = self._queue.labels() if self._by_task else self._reader.labels()
        return plan.labels

    def _is_written(self, plan: _Plan, job: Job) -> bool:
        return self._marks().get(str(job.id)) == self._mark_of(plan, job)

    def _mark(self, plan: _Plan, job: Job) -> None:
        self._marks()[str(job.id)] = mark = self._mark_of(plan, job)
        self._memory.put(WRITTEN, {str(job.id): mark})

    def _mark_of(self, plan: _Plan, job: Job) -> list[Any]:
        """Places never change within a version, they only come: their number tells them apart."""
        if job.id not in plan.counts:
            plan.counts[job.id] = sum(sample in self._orders[2] for sample in self._frames(job).values())
        return [plan.version, plan.counts[job.id]]

    def _marks(self) -> dict[str, Any]:
        if self._written is None:
            self._written = self._memory.all(WRITTEN)
        return self._written
