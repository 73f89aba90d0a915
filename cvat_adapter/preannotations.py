"""Puts the model's boxes into jobs, and takes them away again: when, and the rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from cvat_adapter.ledger import Ledger, Wanted, digest, read
from cvat_adapter.nouns import AUTO, Job
from cvat_adapter.visit import Deleted, Requests, Visit


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

    Of two processes at one job, one of which slept while its lease ran out, the row on the disk tells: who finds
    another's row there writes nothing, and takes back what it has just created.
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
        visit = Visit(self._api, self._ledger, self._clock, job, inside)
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
        visit = Visit(self._api, self._ledger, self._clock, job, {}, everywhere=True)
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
