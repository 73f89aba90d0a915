"""What we know of the queue tasks, by rows on the disk, and what must be looked at before one of them is deleted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cvat_adapter import ledger, queue_plan, refusals
from cvat_adapter.copy_back import COPIED
from cvat_adapter.ledger import Ledger
from cvat_adapter.nouns import NEW, STAGES, sample_id
from cvat_adapter.queue_plan import CLOSED

if TYPE_CHECKING:
    from common.ports import Memory
    from cvat_adapter.client import Api

ROUND, MAPPED, LEFT = "round_task", "mapped", "left_out"
"""Memory kinds. Queue task -> {"version", "state", "frames", "at"} and, once so, "worked" (people did something in it)
and "finished" (nothing is left to do); 'TASK:FRAME' of a queue task -> source sample; source sample that could not be
had -> {"why", "until"}."""
REST_S = 3600.0
"""A frame that CVAT does not give is asked for again after this long."""

Json = dict[str, Any]


class QueueBook:
    """The queue tasks of one project."""

    def __init__(self, api: Api, memory: Memory, clock: Callable[[], float] = time.time) -> None:
        """Sends nothing. ``clock`` gives seconds since the epoch."""
        self._api, self._memory, self._clock = api, memory, clock
        self._ledger = Ledger(memory)

    def rounds(self) -> dict[int, Json]:
        """Queue task -> its row."""
        return {int(task): row for task, row in self._memory.all(ROUND).items()}

    def note(self, task: int, row: Mapping[str, Any]) -> None:
        """Write the row of a queue task."""
        self._memory.put(ROUND, {str(task): {"at": self._clock(), **row}})

    def mapped(self) -> dict[str, str]:
        """'TASK:FRAME' of every queue task -> source sample."""
        return self._memory.all(MAPPED)

    def samples_at(self, places: Sequence[str]) -> dict[str, str]:
        """The same of some frames."""
        return self._memory.get(MAPPED, places)

    def map(self, task: int, samples: Sequence[str | None]) -> None:
        """Write down which source sample each frame of a queue task is; None = of none we know."""
        rows = {sample_id(task, n): sample for n, sample in enumerate(samples) if sample is not None}
        self._memory.put(MAPPED, rows)

    def left_out(self) -> set[str]:
        """Source samples that go into no queue task now."""
        now = self._clock()
        return {s for s, row in self._memory.all(LEFT).items() if row["until"] is None or row["until"] > now}

    def leave_out(self, why: Mapping[str, str], *, for_good: bool) -> None:
        """Source samples that are no images, or that CVAT does not give at present."""
        until = None if for_good else self._clock() + REST_S
        self._memory.put(LEFT, {sample: {"why": text, "until": until} for sample, text in why.items()})

    def taken(self) -> set[int]:
        """Jobs that the inbox has promised to somebody."""
        return {int(job) for job in self._memory.all("taken")}

    def names(self, raw: Json) -> list[str]:
        """Names of the frames of a task as CVAT lists it, [] while it has no data."""
        if not raw.get("size"):
            return []
        meta = self._api.get(f"api/tasks/{raw['id']}/data/meta", what=f"read the frames of task {raw['id']}")
        return [str(frame["name"]) for frame in meta["frames"]]

    def adopt(self, raw: Json) -> None:
        """Take note of a queue task that is not handed out, by the names of its frames: its answers count."""
        samples = [queue_plan.sample_of(name) for name in self.names(raw)]
        self.map(raw["id"], samples)
        self.note(raw["id"], {"version": "", "state": CLOSED, "frames": len(samples)})

    def is_untouched(self, raw: Json) -> bool:
        """Whether nobody has a job of it or drew in it; asked right before what cannot be undone."""
        if not raw.get("size"):
            return True
        jobs = self._jobs(raw["id"])
        if any(j["state"] != NEW or j["stage"] != STAGES[0] or j["assignee"] for j in jobs):
            return False
        path = f"api/tasks/{raw['id']}/annotations/"
        said = self._api.get(path, what=f"read the annotations of task {raw['id']}")
        return not any(self._holds_work(job, said) for job in jobs)

    def _holds_work(self, job: Json, said: Json) -> bool:
        """Whether something in a job is not, or no longer, as we wrote it; a shape that a person deleted, too."""
        frames, kinds = range(job["start_frame"], job["stop_frame"] + 1), ("shapes", "tags", "tracks")
        here: Json = {kind: [i for i in said[kind] if i["frame"] in frames] for kind in kinds}
        now = datetime.fromtimestamp(self._clock(), UTC)
        return bool(ledger.read(self._ledger.row(job["id"]), here, stop=job["stop_frame"], now=now).left)

    def delete(self, task: int) -> None:
        """Delete a task at CVAT and forget it; harmless when it is gone."""
        jobs = self._jobs(task)
        what = f"delete task {task}"
        status, said = self._api.try_send("DELETE", f"api/tasks/{task}", what=what)
        if status not in (204, 404):
            raise refusals.refusal(status, said, base=self._api.base, what=what)
        self.forget(task, [j["id"] for j in jobs])

    def is_gone(self, task: int) -> bool:
        """Whether CVAT has the task no more; then it is forgotten."""
        status, _ = self._api.try_send("GET", f"api/tasks/{task}", what=f"look at task {task}")
        if status == 404:
            self.forget(task, [])
        return status == 404

    def finish(self, task: int, row: Mapping[str, Any]) -> None:
        """Close a task in which people worked: it is the truth about its frames and is never deleted by us."""
        raw = self._api.get(f"api/tasks/{task}", what=f"look at task {task}")
        if not raw["name"].endswith(queue_plan.DONE):
            body = {"name": raw["name"] + queue_plan.DONE}
            self._api.send("PATCH", f"api/tasks/{task}", body, what=f"rename task {task}")
        self.note(task, {**row, "state": CLOSED, "finished": True})

    def forget(self, task: int, jobs: Sequence[int]) -> None:
        """Forget a task that is gone; its row goes last, so that what is cut off is done again."""
        keys = {str(j) for j in jobs}
        self._memory.drop(MAPPED, [k for k in self.mapped() if k.startswith(f"{task}:")])
        for kind in (ledger.KIND, "job"):
            self._memory.drop(kind, keys)
        self._memory.drop(COPIED, [k for k in self._memory.all(COPIED) if k.partition("/")[0] in keys])
        self._memory.drop(ROUND, [str(task)])

    def _jobs(self, task: int) -> list[Json]:
        rows = self._api.pages("api/jobs", {"task_id": task}, what=f"list the jobs of task {task}")
        return [row for row in rows if row.get("type", "annotation") == "annotation"]
