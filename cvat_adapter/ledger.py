"""What we wrote into which job, by rows on the disk: the only proof that a shape is ours. No requests in here."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from common.ports import Memory
from cvat_adapter import wire
from cvat_adapter.nouns import moment

KIND = "shapes"
"""Kind of the rows in the memory; the key is the job's id."""
LATE = timedelta(hours=1)
"""A request that got no answer and shows no effect after this long will have none."""

Content = tuple[Any, ...]
Shape = Mapping[str, Any]
Place = tuple[int, Content]
"""Frame, and what a person can change of a shape there."""
Wanted = Mapping[int, Sequence[Shape]]
"""Frame -> the shapes that should be there, as in a PATCH."""


@dataclass(frozen=True)
class Sent:
    """One create of which we do not know whether it arrived: its shapes are there, may still come, or never will."""

    at: datetime
    shapes: tuple[Place, ...]


@dataclass(frozen=True)
class Row:
    """What we know of our shapes in one job.

    Attributes:
        version: The last one that was found to be there as wanted.
        goal: ``digest`` of what was wanted then; '' from the beginning of a write until it has proved to end well.
        updated: ``Job.updated`` right before that was found, None = never.
        shapes: Id -> frame and content, as CVAT showed them.
        fresh: Id -> frame and content as we sent them; not seen in CVAT yet.
        deleting: Ids that we have set out to delete and that may be gone by now; never kept again.
        sent: Creates without an answer.
        closed: Frames where a person changed or deleted a shape of ours: left as they are for ever.
    """

    version: str = ""
    goal: str = ""
    updated: datetime | None = None
    shapes: Mapping[int, Place] = field(default_factory=dict)
    fresh: Mapping[int, Place] = field(default_factory=dict)
    deleting: frozenset[int] = frozenset()
    sent: tuple[Sent, ...] = ()
    closed: frozenset[int] = frozenset()

    @property
    def writing(self) -> bool:
        """Whether a write began whose end is not known."""
        return bool(self.sent or self.deleting)

    @property
    def holds(self) -> bool:
        """Whether a shape of ours is or may be in the job."""
        return bool(self.shapes or self.fresh or self.writing)

    @property
    def says_something(self) -> bool:
        """Whether it is worth a row on the disk."""
        return bool(self.holds or self.closed or self.updated)

    def settled(self, goal: str, updated: datetime) -> bool:
        """Whether exactly this is known to be there, as nothing has moved since."""
        # Not 'at most': of two saves at once the later may leave the earlier time.
        return not self.writing and self.goal == goal and updated == self.updated


class Ledger:
    """The rows of one project."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def row(self, job: int) -> Row:
        """Of one job; an empty one where there is none."""
        return _row(self._memory.get(KIND, [str(job)]).get(str(job), {}))

    def keep(self, job: int, row: Row) -> None:
        """Write one row; on the disk when this returns. One that says nothing is deleted."""
        if row.says_something:
            self._memory.put(KIND, {str(job): _json(row)})
        else:
            self._memory.drop(KIND, [str(job)])

    def holds(self, job: int, row: Row) -> bool:
        """Whether ``row`` is what the disk says of a job, as far as a row survives there."""
        return self.row(job) == (_row(_json(row)) if row.says_something else Row())

    def jobs(self) -> list[int]:
        """Ids of the jobs where a shape of ours is or may be, ascending."""
        return sorted(int(key) for key, value in self._memory.all(KIND).items() if _row(value).holds)


@dataclass(frozen=True)
class Scene:
    """One job's annotations, told apart with the help of its row.

    Attributes:
        row: Brought up to what is there.
        ours: Shapes of ours that nobody touched, by id, as CVAT shows them.
        others: Frames with a shape, tag or track that is not (or no longer) ours.
        intact: Nobody changed or deleted a shape of ours since the row was written.
    """

    row: Row
    ours: Mapping[int, Shape]
    others: frozenset[int]
    intact: bool

    @property
    def left(self) -> frozenset[int]:
        """Frames where we neither add nor replace."""
        return self.others | self.row.closed


def read(row: Row, annotations: Mapping[str, Any], *, stop: int, now: datetime) -> Scene:
    """Tell our untouched shapes from everything else.

    A shape is ours where its id is in the row and its content is the row's, or where it is of source auto and equal to
    one that was sent without an answer. An id of ours with another content, or that is gone without our doing, closes
    its frame.

    Args:
        row: As it was on the disk.
        annotations: JSON of a job's annotations.
        stop: Last frame of the job.
        now: Requests older than ``LATE`` that show no effect are forgotten.
    """
    there: dict[int, Shape] = {int(shape["id"]): shape for shape in annotations.get("shapes") or []}
    ours: dict[int, Shape] = {}
    closed: set[int] = set()
    for known, as_seen in ((row.shapes, seen), (row.fresh, bare)):
        for number, (frame, content) in known.items():
            shape = there.get(number)
            if shape is not None and as_seen(shape) == content:
                ours[number] = shape
            elif shape is not None or number not in row.deleting:
                closed.add(frame)
    known_ids = {*row.shapes, *row.fresh}
    unknown = [there[i] for i in sorted(there) if i not in known_ids and not wire.human(there[i])]
    came, missing, waiting = _arrived(row.sent, unknown, now)
    ours |= came
    new = Row(
        version=row.version,
        goal=row.goal,
        updated=row.updated,
        shapes={number: (int(shape["frame"]), seen(shape)) for number, shape in sorted(ours.items())},
        deleting=row.deleting & ours.keys(),
        sent=waiting,
        closed=row.closed | closed | missing,
    )
    return Scene(new, ours, _others(annotations, ours, stop), intact=not closed | missing)


def _arrived(
    sent: Sequence[Sent], unknown: Sequence[Shape], now: datetime
) -> tuple[dict[int, Shape], set[int], tuple[Sent, ...]]:
    """(shapes that a request without an answer made, frames where one of them is gone, requests still open).

    CVAT carries out a request whole or not at all: where some of its shapes are there, a person deleted the others.
    Requests that are there whole go first; each shape that was sent matches at most one.
    """
    free: dict[Place, list[Shape]] = {}
    for shape in unknown:
        free.setdefault((int(shape["frame"]), bare(shape)), []).append(shape)
    came: dict[int, Shape] = {}
    missing: set[int] = set()
    open_: list[Sent] = []
    for request in sorted(sent, key=lambda one: not _whole(one, free)):
        found = [free[place].pop(0) for place in request.shapes if free.get(place)]
        came |= {int(shape["id"]): shape for shape in found}
        if found:
            there = Counter((int(shape["frame"]), bare(shape)) for shape in found)
            missing |= {frame for frame, _ in Counter(request.shapes) - there}
        elif now - request.at < LATE:
            open_.append(request)
    return came, missing, tuple(sorted(open_, key=lambda one: one.at))


def _whole(request: Sent, free: Mapping[Place, Sequence[Shape]]) -> bool:
    return all(len(free.get(place, ())) >= count for place, count in Counter(request.shapes).items())


def _others(annotations: Mapping[str, Any], ours: Mapping[int, Shape], stop: int) -> frozenset[int]:
    frames = {int(shape["frame"]) for shape in annotations.get("shapes") or [] if int(shape["id"]) not in ours}
    frames |= {int(tag["frame"]) for tag in annotations.get("tags") or []}
    for track in annotations.get("tracks") or []:
        frames |= set(range(int(track["frame"]), stop + 1))  # where it ends does not matter: a person was there
    for interval in annotations.get("intervals") or []:
        end = interval.get("stop")
        frames |= set(range(int(interval["start"]), stop + 1 if end is None else int(end)))
    return frozenset(frames)


@dataclass(frozen=True)
class Due:
    """What must be done so that a job is as wanted: ids of ours to delete, shapes to create."""

    old: frozenset[int] = frozenset()
    new: tuple[Shape, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.old or self.new)


def due(scene: Scene, wanted: Wanted, left: Iterable[int]) -> Due:
    """What differs between our shapes and the wanted ones, equal ones counted.

    On frames in ``left`` only what we made twice goes: once is enough of any box, and all of them are ours.
    """
    out = frozenset(left)
    have: dict[int, list[int]] = {}
    for number in sorted(scene.ours):
        have.setdefault(int(scene.ours[number]["frame"]), []).append(number)
    old: set[int] = set()
    new: list[Shape] = []
    for frame in sorted({*have, *wanted}):
        ours = {number: bare(scene.ours[number]) for number in have.get(frame, ())}
        asked = [(bare(shape), shape) for shape in wanted.get(frame, ())]
        if frame in out:
            old |= _surplus(ours, Counter(set(ours.values())))
            continue
        kept = {number: content for number, content in ours.items() if number not in scene.row.deleting}
        old |= _surplus(kept, Counter(content for content, _ in asked)) | (ours.keys() - kept.keys())
        spare = Counter(kept.values())
        for content, shape in asked:
            spare[content] -= 1
            new += [shape] if spare[content] < 0 else []
    return Due(frozenset(old), tuple(new))


def _surplus(ours: Mapping[int, Content], room: Mapping[Content, int]) -> set[int]:
    """Ids beyond the number of equal ones that there is room for; the youngest go."""
    left = Counter(room)
    over = set()
    for number in sorted(ours):
        left[ours[number]] -= 1
        over |= {number} if left[ours[number]] < 0 else set()
    return over


def seen(shape: Shape) -> Content:
    """What a person can change of a shape, as CVAT shows it."""
    made: Content = _tuples(wire.content(shape))
    return made


def bare(shape: Shape) -> Content:
    """The same without attributes: CVAT fills in those that were not sent, but not yet in its answer to the PATCH."""
    return seen({**shape, "attributes": []})


def digest(wanted: Wanted) -> str:
    """Equal for equal wanted shapes."""
    lines = sorted(repr((frame, bare(shape))) for frame, shapes in wanted.items() for shape in shapes)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


def _json(row: Row) -> dict[str, Any]:
    return {
        "version": row.version,
        "goal": row.goal,
        "updated": row.updated.isoformat() if row.updated else None,
        "frames": _by_frame(row.shapes),
        "fresh": _by_frame(row.fresh),
        "deleting": sorted(row.deleting),
        "sent": [{"at": one.at.isoformat(), "shapes": [list(place) for place in one.shapes]} for one in row.sent],
        "closed": sorted(row.closed),
    }


def _by_frame(shapes: Mapping[int, Place]) -> dict[str, list[list[Any]]]:
    made: dict[str, list[list[Any]]] = {}
    for number, (frame, content) in shapes.items():
        made.setdefault(str(frame), []).append([number, content])
    return made


def _row(value: Mapping[str, Any]) -> Row:
    sent = [Sent(_moment(one["at"]), tuple((f, _tuples(c)) for f, c in one["shapes"])) for one in value.get("sent", ())]
    return Row(
        version=value.get("version", ""),
        goal=value.get("goal", ""),
        updated=moment(value.get("updated")),
        shapes=_by_id(value.get("frames", {})),
        fresh=_by_id(value.get("fresh", {})),
        deleting=frozenset(value.get("deleting", ())),
        sent=tuple(sent),
        closed=frozenset(value.get("closed", ())),
    )


def _by_id(frames: Mapping[str, Any]) -> dict[int, Place]:
    return {number: (int(frame), _tuples(content)) for frame, rows in frames.items() for number, content in rows}


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _tuples(value: Any) -> Any:
    """Lists, as JSON gives them back, as tuples."""
    return tuple(_tuples(one) for one in value) if isinstance(value, list | tuple) else value
