"""One job's turn: read, delete, read, create, read. The only code that deletes shapes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

from common.errors import PlatformError
from cvat_adapter.ledger import Due, Ledger, Place, Row, Scene, Sent, Shape, Wanted, bare, due, read
from cvat_adapter.nouns import Job, moment, understood

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


class Visit:
    """Our shapes in one job, for once. See ``Preannotations`` for the rules."""

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
        self._disk: Row | None = None

    def look(self, row: Row) -> None:
        """Read job and annotations, annotations last, and tell ours apart with ``row``."""
        if self._disk is None:
            self._disk = row
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
        if not self._is_ours_alone():
            self._take_back(made)
            raise _overtaken(self._job)
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
        if row != self._disk:
            self._keep(row)

    def _due(self) -> Due:
        if not self._job.writable:
            return Due()
        left = () if self._everywhere else self._scene.left | self._deleted_frames
        return due(self._scene, self._wanted, left)

    def _keep(self, row: Row) -> None:
        """Write the row down. Raises PlatformError where another process wrote one since we read ours."""
        if not self._is_ours_alone():
            raise _overtaken(self._job)
        self._ledger.keep(self._job.id, row)
        self._disk = row

    def _is_ours_alone(self) -> bool:
        return self._disk is None or self._ledger.holds(self._job.id, self._disk)

    def _take_back(self, made: Mapping[int, Place]) -> None:
        """Delete what we created beside another process, but for what that one counts as its own by now."""
        known = self._ledger.row(self._job.id)
        said = self._api.get(f"{self._path}/annotations/", what=f"read the shapes of job {self._job.id}")
        ours = made.keys() - known.shapes.keys() - known.fresh.keys()
        there = [s for s in said["shapes"] if s["id"] in ours and (s["frame"], bare(s)) == made[s["id"]]]
        if there:
            self._patch("delete", there)

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


def _overtaken(job: Job) -> PlatformError:
    return PlatformError(f"another process of hardfirst has written to job {job.id} meanwhile; it is left to that one")


def _answered(answer: Any, job: int) -> dict[int, Place]:
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
