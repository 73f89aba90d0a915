"""Puts the model's boxes into jobs, and takes them away again. The only code that deletes shapes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol

from common.errors import PlatformError
from cvat_adapter import ledger as rows
from cvat_adapter.ledger import Due, Ledger, Row, Scene, Sent, Shape, Wanted, bare, digest, due, read
from cvat_adapter.nouns import AUTO, Job, moment, understood

log = logging.getLogger(__name__)

Deleted = Callable[[Job], Collection[int]]
"""From a job as it is now to the numbers of its task's deleted frames."""
WRITE_S = 300.0
"""A write that is given up too early may arrive all the same, and must be found again."""
UNANSWERED = 3
"""So many creates without an answer, and a job is left until it is clear what became of them."""


class Requests(Protocol):
    """What is needed of ``client.Api``."""

    def get(self, path: str, params: Mapping[str, Any] | None = None, *, what: str) -> Any:
        """JSON of a GET."""

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        params: Mapping[str, Any] | None = None,
        *,
        what: str,
        limit_s: float = WRITE_S,
    ) -> Any:
        """JSON of a write, never repeated."""


class Preannotations:
    """Our shapes in the jobs of one project.

    CVAT has no locking, and what a person draws is in the browser until saved. Therefore:

    - only jobs that are new and unassigned are written to, and job and annotations are read again before each write;
    - only shapes that are ours beyond doubt (see ``ledger.read``) are deleted; nothing is ever updated or replaced;
    - frames with anything of a person's are left as they are.

    What a person does between two of our requests survives, with one exception that cannot be closed: somebody moves
    one of our *old* boxes in an unassigned job after the last read and before the delete, which follows it at once,
    has arrived. Who saves a box of their own in the moment before a create keeps it, beside ours.

    A request without an answer may have arrived, or may still: the next call finds what it made by its content, adopts
    it once, and deletes what is there twice. Where nothing of it is there it counts as not arrived.
    """

    def __init__(
        self,
        api: Requests,
        ledger: Ledger,
        deleted: Deleted,
        *,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        """Sends nothing.

        Args:
            api: Of CVAT.
            ledger: Of the project.
            deleted: See ``Reader.deleted``.
            clock: Now, in UTC.
        """
        self._api, self._ledger, self._deleted = api, ledger, deleted
        self._clock = clock or (lambda: datetime.now(UTC))

    def write(self, job: Job, wanted: Wanted, version: str) -> bool:
        """Make our shapes in a job those of a version, as far as people have left room for them.

        No request where the ledger proves that they are there and the job has not moved since.

        Args:
            job: As listed lately; nothing happens unless it is ``writable``.
            wanted: All of our shapes by frame, bodies as for a PATCH (source auto); frames outside the job are ignored.
            version: Whose they are.

        Returns:
            Whether something was written. What is not as intended afterwards is logged, and repaired by the next call.

        Raises:
            PlatformError: CVAT said no or did not answer; calling again is safe.
        """
        if not job.writable:
            return False
        inside = {frame: [{**s, "source": AUTO} for s in wanted[frame]] for frame in job.frames if wanted.get(frame)}
        row, goal = self._ledger.row(job.id), digest(inside)
        if row.settled(goal, job.updated) or not (inside or row.holds):
            if (row.version, row.goal) != (version, goal):
                self._ledger.keep(job.id, replace(row, version=version, goal=goal, updated=row.updated or job.updated))
            return False
        visit = _Visit(self._api, self._ledger, self._clock, job, inside)
        visit.look(row)
        visit.leave_deleted_frames(self._deleted)
        # Delete first: who opens the job between the two sees too few boxes, never old and new ones together, of which
        # they might delete the new; and what they save by then keeps the create away from their frames.
        deleted = visit.delete()
        created = visit.create()
        visit.settle(version, goal)
        return deleted or created

    def remove(self, job: Job) -> bool:
        """Take away what is ours and untouched, also beside a person's shapes; only where the job is ``writable``.

        Returns:
            Whether something was deleted.

        Raises:
            PlatformError: CVAT said no or did not answer; calling again is safe.
        """
        row = self._ledger.row(job.id)
        if not job.writable or not row.holds:
            return False
        visit = _Visit(self._api, self._ledger, self._clock, job, {}, everywhere=True)
        visit.look(row)
        deleted = visit.delete()
        visit.settle("", "")
        return deleted

    def untouched(self, job: Job, annotations: Mapping[str, Any]) -> bool:
        """Whether a job holds exactly what the ledger says, by content, and nothing else; no request.

        Args:
            job: Any, also an assigned one.
            annotations: JSON of its annotations, just read.
        """
        row = self._ledger.row(job.id)
        scene = read(row, annotations, stop=job.stop, now=self._clock())
        return not row.writing and scene.intact and not scene.others


class _Visit:
    """One job's turn: read, delete, read, create, read."""

    def __init__(
        self,
        api: Requests,
        ledger: Ledger,
        clock: Callable[[], datetime],
        job: Job,
        wanted: Wanted,
        *,
        everywhere: bool = False,
    ) -> None:
        self._api, self._ledger, self._clock = api, ledger, clock
        self._job, self._wanted, self._everywhere = job, wanted, everywhere
        self._path = f"api/jobs/{job.id}"
        self._deleted_frames: frozenset[int] = frozenset()
        self._scene = Scene(Row(), {}, frozenset(), intact=True)
        self._kept: Row | None = None

    def look(self, row: Row) -> None:
        """Read job and annotations, annotations last, and tell ours apart with ``row``."""
        raw = self._api.get(self._path, what=f"read job {self._job.id}")
        annotations = self._api.get(f"{self._path}/annotations/", what=f"read the shapes of job {self._job.id}")
        with understood(f"job {self._job.id}"):
            self._job = _now(self._job, raw)
            self._scene = read(row, annotations, stop=self._job.stop, now=self._clock())
        if frames := self._scene.row.closed - row.closed:
            log.info(
                "job %d: a person changed or deleted boxes of ours on %s, which we leave alone from now on",
                self._job.id,
                _frames(frames),
            )

    def leave_deleted_frames(self, deleted: Deleted) -> None:
        """Frames that were deleted in CVAT are left as they are; asked for only where there is something to do."""
        if self._due():
            self._deleted_frames = frozenset(deleted(self._job))

    def delete(self) -> bool:
        """Delete what is ours and no longer wanted; whether there was something."""
        row, announced = self._scene.row, self._due().old
        if not announced:
            return False
        self._keep(replace(row, goal="", deleting=row.deleting | announced))
        self.look(row)  # after the row, so that nothing of ours is between this read and the request
        old = self._due().old & announced
        if not old:
            return False
        shapes = [dict(self._scene.ours[number]) for number in sorted(old)]
        row = replace(self._scene.row, goal="", deleting=self._scene.row.deleting | old)
        self._patch("delete", shapes)
        self.look(row)
        return True

    def create(self) -> bool:
        """Create what is wanted and not there; whether there was something."""
        row, new = self._scene.row, self._due().new
        if not new:
            return False
        if len(row.sent) >= UNANSWERED:
            log.warning(
                "job %d: %d creates without an answer; it gets no boxes until it is clear what became of them",
                self._job.id,
                len(row.sent),
            )
            return False
        places = tuple((int(shape["frame"]), bare(shape)) for shape in new)
        row = replace(row, goal="")
        self._keep(replace(row, sent=(*row.sent, Sent(self._clock(), places))))
        made = _answered(self._patch("create", new), self._job.id)
        if lost := Counter(places) - Counter(made.values()):
            log.warning(
                "job %d: CVAT made %d of %d boxes; it dropped some on %s",
                self._job.id,
                len(made),
                len(new),
                _frames(frame for frame, _ in lost),
            )
        row = replace(row, fresh=made)
        self._keep(row)
        self.look(row)
        return True

    def settle(self, version: str, goal: str) -> None:
        """Put down what was found at last; as proved to be there only where nothing is left to do."""
        row, rest = self._scene.row, self._due()
        if rest:
            log.warning(
                "job %d is not as intended: %d boxes of ours are missing, %d are too many; the next look repairs it",
                self._job.id,
                len(rest.new),
                len(rest.old),
            )
        if rest or row.sent or not self._job.writable:
            row = replace(row, goal="")
        else:
            updated = self._job.updated if goal else None
            row = replace(row, version=version, goal=goal, updated=updated, deleting=frozenset())
        if row != self._kept:
            self._keep(row)

    def _due(self) -> Due:
        if not self._job.writable:
            return Due()
        left = () if self._everywhere else self._scene.left | self._deleted_frames
        return due(self._scene, self._wanted, left)

    def _keep(self, row: Row) -> None:
        self._ledger.keep(self._job.id, row)
        self._kept = row

    def _patch(self, action: str, shapes: Iterable[Shape]) -> Any:
        body = {"version": 0, "tags": [], "shapes": list(shapes), "tracks": []}
        what = f"{action} shapes of job {self._job.id}"
        path = f"{self._path}/annotations/"
        return self._api.send("PATCH", path, body, {"action": action}, what=what, limit_s=WRITE_S)


def _now(job: Job, raw: Mapping[str, Any]) -> Job:
    """The job with what may have changed since it was listed."""
    assignee = raw.get("assignee") or {}
    return replace(
        job,
        state=raw["state"],
        stage=raw["stage"],
        assignee=assignee.get("id"),
        assignee_name=assignee.get("username", ""),
        updated=moment(raw["updated_date"]) or job.updated,
    )


def _answered(answer: Any, job: int) -> dict[int, rows.Place]:
    """Id -> frame and content of what a create made.

    Raises:
        PlatformError: No ids in it; what was made is found by its content next time.
    """
    try:
        return {int(shape["id"]): (int(shape["frame"]), bare(shape)) for shape in answer["shapes"]}
    except (KeyError, TypeError, ValueError):
        raise PlatformError(
            f"CVAT answered the create of shapes in job {job} without their ids; they are looked for at the next try"
        ) from None


def _frames(frames: Iterable[int]) -> str:
    found = sorted(set(frames))
    shown = ", ".join(map(str, found[:10])) + (", ..." if len(found) > 10 else "")
    return f"frame {shown}" if len(found) == 1 else f"frames {shown}"
