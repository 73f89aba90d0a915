"""Queue tasks (``--queue task``): copies of the best frames in exact order, where long jobs cannot be handed out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from common.ports import Change, Drift
from cvat_adapter import queue_plan
from cvat_adapter.copy_back import CopyBack
from cvat_adapter.listening import Saver
from cvat_adapter.nouns import Job, Labels, sample_id
from cvat_adapter.queue_book import QueueBook
from cvat_adapter.queue_images import QueueImages
from cvat_adapter.queue_maker import QueueMaker
from cvat_adapter.queue_plan import CLOSED, OPEN
from cvat_adapter.queue_project import QueueProject
from cvat_adapter.ranking import Offer

if TYPE_CHECKING:
    from common.config import Settings
    from common.ports import Memory
    from cvat_adapter.client import Api
    from cvat_adapter.reading import Reader

Places = Mapping[str, Mapping[str, Any]]
Json = dict[str, Any]


class QueueTasks:
    """Makes, offers, copies back and clears the queue tasks of one project.

    The keeper calls ``step`` until it returns False, hands ``offers`` to the inbox in place of the project's own jobs,
    and pre-annotates a queue job with the places of ``wanted`` and the label ids of ``labels``.
    """

    def __init__(
        self,
        project: str,
        api: Api,
        reader: Reader,
        memory: Memory,
        settings: Settings,
        state: dict[str, Any],
        save: Saver,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Sends nothing. ``project`` is the source's id; ``clock`` gives seconds since the epoch."""
        self._api, self._reader, self._settings = api, reader, settings
        self._sibling = QueueProject(project, api, settings, state, save)
        self._book = QueueBook(api, memory, clock)
        folder = settings.folder / "queue-tasks" / project
        images = QueueImages(folder, api, reader, settings.max_image_pixels)
        self._maker = QueueMaker(api, reader, memory, self._book, self._sibling, images)
        self._copies = CopyBack(api, reader, memory, settings)

    def step(self, version: str, places: Places, jobs: Sequence[Job], *, annotators: int = 1) -> bool:
        """Do the next short piece of work; sends nothing when there is none.

        Most pieces take a second or three; the one that uploads waits until CVAT has taken the images in.

        Args:
            version: The active order.
            places: Its rows, source sample -> {"order", ...}.
            jobs: Every job of the source and of its sibling, as CVAT lists them now.
            annotators: How many people get jobs.

        Returns:
            Whether something was done, so that more may be waiting; ``jobs`` is old then.
        """
        plan = self._maker.plan
        if plan is not None:
            self._maker.step(plan, version)
            return True
        rounds = self._book.rounds()
        old = [t for t, row in rounds.items() if row["state"] == OPEN and row["version"] != version]
        if old:
            self._change_order(version, places, jobs, rounds, old)
            return True
        return self._begin(version, places, jobs, rounds, annotators) or self._clear_up(jobs, rounds)

    @property
    def left(self) -> bool:
        """Whether a queue task is being made, or something is left to do about one that was."""
        return self._maker.plan is not None or any(not row.get("finished") for row in self._book.rounds().values())

    def wind_down(self, jobs: Sequence[Job]) -> bool:
        """Do the next short piece of work after people went back to the inbox; sends nothing when there is none.

        What was labelled in queue tasks is copied back, those that nobody has worked in go; see ``step``.
        """
        plan = self._maker.plan
        if plan is not None:
            self._maker.abandon(plan)
            return True
        rounds = self._book.rounds()
        for task, row in rounds.items():
            if row["state"] == OPEN:
                self._book.note(task, {**row, "state": CLOSED})
                rounds[task] = {**row, "state": CLOSED}
        return self._clear_up(jobs, rounds)

    def _clear_up(self, jobs: Sequence[Job], rounds: Mapping[int, Json]) -> bool:
        return self._copies.step(jobs, rounds, self._sibling.twins) or any(
            self._tidied(task, row, jobs) for task, row in rounds.items() if not row.get("finished")
        )

    def offers(self, jobs: Iterable[Job]) -> list[Offer]:
        """The jobs of open queue tasks that are not done, best first, whoever has them."""
        rounds = self._book.rounds()
        alive = (j for j in jobs if rounds.get(j.task, {}).get("state") == OPEN)
        mine = queue_plan.in_order(j for j in alive if not j.done(self._settings.done_stage))
        first = self._book.samples_at([sample_id(j.task, j.start) for j in mine])
        return [
            Offer(
                job,
                1 - i / len(mine),
                first.get(sample_id(job.task, job.start), ""),
                f"block {i + 1} of {len(mine)} in the queue, its {len(job.frames)} frames in order",
            )
            for i, job in enumerate(mine)
        ]

    def wanted(self, job: Job) -> dict[int, str]:
        """Frame of a queue job -> source sample, for pre-annotation; {} for any other job."""
        places = {sample_id(job.task, n): n for n in job.frames}
        return {places[place]: sample for place, sample in self._book.samples_at(list(places)).items()}

    def labels(self) -> Labels:
        """Labels of the queue jobs: the source's names, other ids. One request."""
        return self._sibling.labels()

    def drift(self) -> list[Drift]:
        """What of the queue tasks' project was not as we left it, put right."""
        return [Drift(what, healed=True) for what in self._sibling.mend()]

    def remove(self) -> list[Change]:
        """For ``disconnect``: copy back what is finished, delete what nobody has worked in; the rest stays."""
        number = self._sibling.id
        if number is None:
            return []
        rounds, jobs = self._book.rounds(), self._reader.jobs()
        while self._copies.step(jobs, rounds, self._sibling.twins):
            pass
        for raw in self._sibling.tasks():
            if raw["name"].startswith(queue_plan.PREFIX) and self._book.is_untouched(raw):
                self._book.delete(raw["id"])
        self._maker.drop()
        stay = len(self._sibling.tasks())
        what, where = f"project {number} of the queue tasks", f"{self._api.base}/projects/{number}"
        self._sibling.unlisten()
        if not stay:
            self._sibling.delete()
            return [Change(what, where, "deleted")]
        self._sibling.forget()
        why = f"people work or worked in {stay} of its tasks, and not all of it may be in the jobs it came from"
        return [Change(what, where, f"stays: {why}; delete it in CVAT when you need it no more")]

    # --- one piece of work -------------------------------------------------------------------------------

    def _free(self, jobs: Iterable[Job]) -> list[Job]:
        """Jobs that nobody has or gets, best first."""
        taken = self._book.taken()
        return queue_plan.in_order(j for j in jobs if j.writable and j.id not in taken)

    def _out(self, jobs: Iterable[Job], states: Mapping[int, str], mapped: Mapping[str, str]) -> set[str]:
        return queue_plan.spoken_for(jobs, states, mapped, self._book.taken()) | self._book.left_out()

    def _change_order(
        self, version: str, places: Places, jobs: Sequence[Job], rounds: Mapping[int, Json], old: Sequence[int]
    ) -> None:
        """Close the queue tasks of another order, or keep them where their free jobs are the new order's best."""
        states = {t: CLOSED if t in old else str(row["state"]) for t, row in rounds.items()}
        mapped = self._book.mapped()
        left = queue_plan.samples_of(self._free(j for j in jobs if j.task in old), mapped)
        fits = bool(left) and queue_plan.next_samples(places, self._out(jobs, states, mapped), len(left)) == left
        for task in old:
            self._book.note(task, {**rounds[task], **({"version": version} if fits else {"state": CLOSED})})

    def _begin(
        self, version: str, places: Places, jobs: Sequence[Job], rounds: Mapping[int, Json], annotators: int
    ) -> bool:
        """Plan the next queue task where fewer jobs are free than everybody together may want."""
        states = {t: str(row["state"]) for t, row in rounds.items()}
        free = self._free(j for j in jobs if states.get(j.task) == OPEN)
        if len(free) >= annotators * self._settings.wip:
            return False
        out = self._out(jobs, states, self._book.mapped())
        samples = queue_plan.next_samples(places, out, queue_plan.task_size(annotators, self._settings.wip))
        if samples and not self._maker.prepare():
            self._maker.begin(version, 1 + sum(row["version"] == version for row in rounds.values()), samples)
        return bool(samples)

    def _tidied(self, task: int, row: Json, jobs: Sequence[Job]) -> bool:
        """Delete a closed task that nobody has worked in, or finish one that is worked through."""
        mine = [j for j in jobs if j.task == task]
        if not mine:
            return self._book.is_gone(task)
        free = {j.id for j in self._free(mine)} if row["state"] == CLOSED else set()
        if len(free) == len(mine) and not row.get("worked"):
            if self._book.is_untouched({"id": task, "size": row["frames"]}):
                self._book.delete(task)
            else:
                self._book.note(task, {**row, "worked": True})
            return True
        over = all(j.id in free or j.done(self._settings.done_stage) for j in mine)
        if over and not self._copies.waits(mine):
            self._book.finish(task, row)
            return True
        return False
