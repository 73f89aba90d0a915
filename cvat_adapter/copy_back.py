"""Answers of finished queue jobs to the source: written once, beside nobody's shapes, into jobs nobody has open.

Nothing is moved: whatever cannot be copied stays in the queue task, counts there, and keeps it from being deleted.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from common.errors import AccessDeniedError, PlatformError, PlatformUnreachableError
from cvat_adapter import wire
from cvat_adapter.label_twins import Twins
from cvat_adapter.ledger import Ledger, bare
from cvat_adapter.nouns import NEW, STAGES, Frame, Job, place_of, sample_id
from cvat_adapter.preannotations import Preannotations
from cvat_adapter.queue_plan import in_order

if TYPE_CHECKING:
    from common.config import Settings
    from common.ports import Memory
    from cvat_adapter.client import Api
    from cvat_adapter.reading import Reader

KINDS = ("shapes", "tags")
COPIED = "copied"
"""Memory kind. Key 'QUEUEJOB' -> {"reopened"}: all of it was looked at. Key 'QUEUEJOB/SOURCEJOB' -> {"shapes", "tags",
"sent"}: what goes, or went, into one source job; on the disk before the request."""

Json = dict[str, Any]

log = logging.getLogger(__name__)


class CopyBack:
    """Copies what people answered in queue jobs to the jobs the frames came from."""

    def __init__(self, api: Api, reader: Reader, memory: Memory, settings: Settings) -> None:
        self._api, self._memory, self._stage = api, memory, settings.done_stage
        self._boxes, self._deleted = Preannotations(api, Ledger(memory), reader.deleted), reader.deleted

    def step(self, jobs: Sequence[Job], queues: Mapping[int, Any], twins: Callable[[], Twins]) -> bool:
        """Copy one finished queue job; returns whether there was one.

        Args:
            jobs: Of the source and of the queue tasks.
            queues: By queue task id.
            twins: Labels of the queue tasks -> labels of the source; read when there is something to copy.
        """
        mine = in_order(j for j in jobs if j.task in queues)
        rows = self._memory.get(COPIED, [str(j.id) for j in mine])
        for job in mine:
            row = rows.get(str(job.id))
            if row is None and job.done(self._stage):
                self._copy(job, [j for j in jobs if j.task not in queues], twins())
                return True
            if row is not None and row["reopened"] == job.done(self._stage):
                self._tell(job)
        return False

    def waits(self, jobs: Iterable[Job]) -> bool:
        """Whether one of these queue jobs is finished and not copied yet."""
        done = [str(j.id) for j in jobs if j.done(self._stage)]
        return len(self._memory.get(COPIED, done)) < len(done)

    def _tell(self, job: Job) -> None:
        """A finished job went back to work, or is finished once more: nothing at the source is touched again."""
        again = job.done(self._stage)
        text = "finished once more; its changes" if again else "reopened; its first answers stay at the source, later"
        log.warning("queue job %d was %s are in the queue task alone", job.id, text + ("" if again else " ones"))
        self._memory.put(COPIED, {str(job.id): {"reopened": not again}})

    def _copy(self, job: Job, sources: Sequence[Job], twins: Twins) -> None:
        parts = self._memory.all(COPIED)
        left: dict[str, str] = {}
        for source, frames in self._by_source(job, sources, left).items():
            key = f"{job.id}/{source.id}"
            if not parts.get(key, {}).get("sent"):
                self._into(key, job, source, frames, parts.get(key), twins, left)
        self._memory.put(COPIED, {str(job.id): {"reopened": False}})
        for sample, why in left.items():
            log.info("answer of queue job %d about %s stays in the queue task alone: %s", job.id, sample, why)

    def _by_source(self, job: Job, sources: Sequence[Job], left: dict[str, str]) -> dict[Job, dict[int, int]]:
        """Source job -> (frame of the queue task -> frame of the source); of overlapping jobs the first."""
        mapped = self._memory.get("mapped", [sample_id(job.task, n) for n in job.frames])
        meta = self._api.get(f"api/jobs/{job.id}/data/meta", what=f"read the frames of job {job.id}")
        found: dict[Job, dict[int, int]] = defaultdict(dict)
        for number in job.frames:
            sample = mapped.get(sample_id(job.task, number))
            if sample is None or number in meta["deleted_frames"]:
                continue
            task, frame = place_of(sample)
            here = [j for j in sources if j.task == task and frame in j.frames]
            if here:
                found[min(here, key=lambda j: (j.start, j.id))][number] = frame
            else:
                left[sample] = "it is in no job any more"
        return dict(found)

    def _into(
        self,
        key: str,
        job: Job,
        source: Job,
        frames: Mapping[int, int],
        begun: Mapping[str, Any] | None,
        twins: Twins,
        left: dict[str, str],
    ) -> None:
        """Write the answers about some frames into one source job, as far as it is free for them."""
        intent = dict(begun) if begun else self._intent(job, frames, twins)
        samples = {f: sample_id(source.task, f) for f in frames.values()}
        there = self._free(source)
        if there is None:
            left |= dict.fromkeys(samples.values(), f"job {source.id} is not new and unassigned")
            return
        lacking, busy = missing(intent, there)
        left |= {samples[f]: f"somebody's shapes are in job {source.id}" for f in busy if f in samples}
        if self._memory.get(COPIED, [key]).get(key) != begun:
            return  # another process went on here while this one slept
        self._memory.put(COPIED, {key: {**intent, "sent": False}})
        if lacking["shapes"] or lacking["tags"]:
            try:
                self._send(f"copy the answers of job {job.id} into job {source.id}", key, source, lacking)
            except (AccessDeniedError, PlatformUnreachableError):
                raise
            except PlatformError as error:  # it would be refused for ever, and hold up everything else
                left |= dict.fromkeys(samples.values(), str(error))
                return
        self._memory.put(COPIED, {key: {**intent, "sent": True}})

    def _send(self, what: str, key: str, source: Job, lacking: Json) -> None:
        path = f"api/jobs/{source.id}/annotations/"
        made = self._api.send("PATCH", path, {"version": 0, "tracks": [], **lacking}, {"action": "create"}, what=what)
        if self._memory.get(COPIED, [key]).get(key, {}).get("sent"):
            twice = {"version": 0, "tracks": [], **{kind: made[kind] for kind in KINDS}}
            self._api.send("PATCH", path, twice, {"action": "delete"}, what=f"take back what was copied twice: {what}")
            return
        # CVAT drops what it does not like and says so only by what it sends back.
        if any(len(made[kind]) < len(lacking[kind]) for kind in KINDS):
            log.warning("CVAT kept less than was sent when asked to %s", what)

    def _intent(self, job: Job, frames: Mapping[int, int], twins: Twins) -> Json:
        """What of a queue job belongs to these frames, as the source takes it."""
        said = self._api.get(f"api/jobs/{job.id}/annotations/", what=f"read the annotations of job {job.id}")
        made: Json = {kind: [] for kind in KINDS}
        seen, rest = stills(said.get("tracks", ()), job, self._deleted(job))
        for kind, items in (("shapes", [*said.get("shapes", ()), *seen]), ("tags", said.get("tags", ()))):
            for item in (i for i in items if i["frame"] in frames):
                new = twins.translated(item, frames[item["frame"]])
                if new is None:
                    log.warning("a label of queue job %d is unknown at the source: its answer stays there", job.id)
                else:
                    made[kind].append(new)
        if rest:
            log.warning("queue job %d has %d tracks that are no rectangles: they stay in the queue task", job.id, rest)
        return made

    def _free(self, source: Job) -> Json | None:
        """The annotations of a source job, read right before a write; None where somebody may have it open.

        Boxes of ours from before the queue tasks go first: they would stand beside the answer.
        """
        self._boxes.remove(source)
        raw = self._api.get(f"api/jobs/{source.id}", what=f"look at job {source.id}")
        if raw["state"] != NEW or raw["stage"] != STAGES[0] or raw["assignee"] is not None:
            return None
        said: Json = self._api.get(f"api/jobs/{source.id}/annotations/", what=f"read the annotations of {source.id}")
        return said


def stills(tracks: Iterable[Json], job: Job, deleted: Collection[int]) -> tuple[list[Json], int]:
    """(tracks of rectangles as shapes, one for each frame where they are seen; how many other tracks there are).

    In the source the frames are no neighbours, so that no track could run through them.
    """
    inside = {n: Frame(n, "", 0, 0, n in deleted) for n in job.frames}
    seen: list[Json] = []
    rest = 0
    for track in tracks:
        if any(one["type"] != wire.RECTANGLE for one in track["shapes"]):
            rest += 1
            continue
        for number, shape in wire.positions(track, inside):
            values = [*track.get("attributes", ()), *shape.get("attributes", ())]
            seen.append({**shape, "frame": number, "group": track.get("group", 0), "attributes": values})
    return seen, rest


def missing(intent: Mapping[str, Any], there: Mapping[str, Any]) -> tuple[Json, set[int]]:
    """(what of ``intent`` is not there yet, frames left out because something of somebody else's is on them).

    Equal content counts as ours, so that a write that was cut off is finished and not repeated.
    """
    ours = Counter(_key(kind, item) for kind in KINDS for item in intent[kind])
    found = Counter(_key(kind, item) for kind in KINDS for item in there.get(kind, ()))
    busy = {frame for _, frame, _ in found - ours}
    for track in there.get("tracks", ()):  # where it ends does not matter: a person was there
        busy |= {item["frame"] for kind in KINDS for item in intent[kind] if item["frame"] >= track["frame"]}
    lacking: Json = {kind: [] for kind in KINDS}
    for kind in KINDS:
        for item in intent[kind]:
            key = _key(kind, item)
            if found[key] > 0:
                found[key] -= 1
            elif item["frame"] not in busy:
                lacking[kind].append(item)
    return lacking, busy


def _key(kind: str, item: Mapping[str, Any]) -> tuple[str, int, object]:
    """What two equal items share; attributes aside, as CVAT fills in those that were not sent."""
    content: object = item["label_id"] if kind == "tags" else bare(item)
    return kind, int(item["frame"]), content
