"""Making one queue task: plan on the disk, images into a folder, task, upload, check; each step may be the last."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from common.errors import PlatformError, PlatformUnreachableError, PublishError
from cvat_adapter import queue_plan
from cvat_adapter.queue_plan import MAKING, OPEN, Plan

if TYPE_CHECKING:
    from common.ports import Memory
    from cvat_adapter.client import Api
    from cvat_adapter.queue_book import QueueBook
    from cvat_adapter.queue_images import QueueImages
    from cvat_adapter.queue_project import QueueProject
    from cvat_adapter.reading import Reader

PLAN = "round_plan"
"""Memory kind; key 'next' -> the queue task that is being made, see ``Plan``."""

Json = dict[str, Any]

log = logging.getLogger(__name__)


class QueueMaker:
    """Makes the queue tasks of one project, one at a time."""

    def __init__(
        self, api: Api, reader: Reader, memory: Memory, book: QueueBook, sibling: QueueProject, images: QueueImages
    ) -> None:
        """Sends nothing."""
        self._api, self._reader, self._memory = api, reader, memory
        self._book, self._sibling, self._images = book, sibling, images

    @property
    def plan(self) -> Plan | None:
        """What is being made."""
        row = self._memory.get(PLAN, ["next"]).get("next")
        return Plan.of(row) if row else None

    def prepare(self) -> bool:
        """Have the project, and take note of the queue tasks there that hold answers from an earlier connection.

        Returns:
            Whether that changed what is known, so that a plan would be made of something old.
        """
        had, known = self._sibling.id, self._book.rounds()
        self._sibling.ensure()
        there = [t for t in self._sibling.tasks() if t["name"].startswith(queue_plan.PREFIX)]
        strays = [t for t in there if t["id"] not in known]
        for raw in strays:
            self._book.adopt(raw)
        return bool(strays) or had != self._sibling.id

    def begin(self, version: str, part: int, samples: Sequence[str]) -> None:
        """Plan a queue task of source samples, best first; the ``part``-th one of its order."""
        self._keep(Plan(version, queue_plan.task_name(self._sibling.title(), version, part), tuple(samples)))

    def step(self, plan: Plan, version: str) -> None:
        """Go on with the plan; ``version`` is the active order."""
        if plan.version != version:
            self.abandon(plan)
            return
        found = self._images.fetch(plan.kept, self._reader.tasks())
        if found.broken or found.refused:
            self._leave_out(plan, found.broken, found.refused)
        elif found.complete:
            self._fill(plan)

    def drop(self) -> None:
        """Forget the plan and its images; what it began at CVAT stays."""
        self._images.clear()
        self._memory.drop(PLAN)

    def _keep(self, plan: Plan) -> None:
        self._memory.put(PLAN, {"next": plan.as_json()})

    def _leave_out(self, plan: Plan, broken: Mapping[str, str], refused: Mapping[str, str]) -> None:
        """Go on without some frames: for good those that are no images, for a while those CVAT would not give."""
        for why in [*broken.values(), *refused.values()]:
            log.warning("left out of %r: %s", plan.name, why)
        self._book.leave_out(broken, for_good=True)
        self._book.leave_out(refused, for_good=False)
        smaller = replace(plan, left={**plan.left, **broken, **refused})
        if smaller.kept:
            self._keep(smaller)
        else:
            self.drop()

    def _ours(self, plan: Plan) -> list[Json]:
        """Tasks that were made for this plan: of its name, and not there before."""
        before = plan.before or ()
        return [t for t in self._sibling.tasks() if t["name"] == plan.name and t["id"] not in before]

    def abandon(self, plan: Plan) -> None:
        """Nobody wants it any more: what was begun goes, unless somebody got at it."""
        for raw in self._ours(plan) if plan.before is not None else ():
            if self._book.is_untouched(raw):
                self._book.delete(raw["id"])
            else:
                self._book.adopt(raw)
        self.drop()

    def _fill(self, plan: Plan) -> None:
        """Create the task and give it its images; what an attempt that was cut off left is finished or deleted."""
        sibling = self._sibling.ensure()
        if plan.before is None:
            plan = replace(plan, before=tuple(t["id"] for t in self._ours(plan)))
            self._keep(plan)
        files = self._images.files(plan.kept)
        names = [name for name, _ in files]
        for raw in self._ours(plan):
            if self._book.names(raw) == names:
                self._open(plan, raw["id"])
                return
            self._book.delete(raw["id"])
        body = {"name": plan.name, "project_id": sibling}
        task = int(self._api.send("POST", "api/tasks", body, what=f"create the task {plan.name!r}")["id"])
        self._book.note(task, {"version": plan.version, "state": MAKING, "frames": len(names)})
        try:
            what = f"fill the task {plan.name!r}"
            self._api.upload(task, files, job_file_mapping=queue_plan.blocks(names), what=what)
        except PlatformUnreachableError:
            raise  # CVAT may still finish it: the next attempt looks
        except PlatformError as error:
            self._book.delete(task)
            self._blame(plan, names, error)
            return
        self._check(plan, task, names)

    def _blame(self, plan: Plan, names: Sequence[str], error: PlatformError) -> None:
        """CVAT could not take in an image that we can read: it says which one, and the others go without it."""
        named = [s for n in names if n in str(error) and (s := queue_plan.sample_of(n)) is not None]
        if not named:
            raise error
        self._leave_out(plan, dict.fromkeys(named, str(error)), {})

    def _check(self, plan: Plan, task: int, names: Sequence[str]) -> None:
        raw = self._api.get(f"api/tasks/{task}", what=f"look at task {task}")
        if self._book.names(raw) != list(names):
            self._book.delete(task)
            raise PublishError(f"task {plan.name!r} did not get its frames in the order they were sent; it was deleted")
        self._open(plan, task)

    def _open(self, plan: Plan, task: int) -> None:
        """From here on its jobs are handed out; the plan goes last, so that what is cut off is done again."""
        self._book.map(task, plan.kept)
        self._book.note(task, {"version": plan.version, "state": OPEN, "frames": len(plan.kept)})
        self.drop()
        log.info("queue task %d is open: %r, %d frames", task, plan.name, len(plan.kept))
