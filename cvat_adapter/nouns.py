"""The nouns of CVAT, frozen: tasks, jobs, shapes, as far as hardfirst looks at them. Frames are task-absolute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from common.errors import PlatformError

NEW, IN_PROGRESS, COMPLETED, REJECTED = "new", "in progress", "completed", "rejected"
"""States of a job."""
STAGES = ("annotation", "validation", "acceptance")
"""Stages of a job, first to last."""
IMAGES = "imageset"
"""Kind of chunks that are archives of images."""
AUTO, SEMI_AUTO = "auto", "semi-auto"
"""Sources of a shape: nobody touched it; a person changed one of 'auto'. Everything else is a person's own."""


def done(state: Any, stage: Any, wanted: str) -> bool:
    """Whether a job counts as labelled from the stage ``wanted`` on: completed there, or past it.

    CVAT makes a job new again as somebody moves it on to the next stage, which says that the one before is over. It is
    not while the job is rejected, at whatever stage; and whoever moves it back to an earlier stage reopens that one.
    """
    reached = STAGES.index(stage) if stage in STAGES else -1
    return bool(state != REJECTED) and reached >= STAGES.index(wanted) + bool(state != COMPLETED)


def sample_id(task: int, frame: int) -> str:
    """The platform sample id of one frame: 'TASK:FRAME'."""
    return f"{task}:{frame}"


def place_of(sample: str) -> tuple[int, int]:
    """(task, frame) of a sample id."""
    task, _, frame = sample.partition(":")
    return int(task), int(frame)


@dataclass(frozen=True)
class Task:
    """One task of the project.

    Attributes:
        id: CVAT's.
        name: For people.
        project: CVAT's id of its project.
        size: Frames; 0 while it has no data.
        overlap: Frames that neighbouring jobs share.
        chunk_size: Frames of one chunk, 0 while it has no data.
        original_chunks: 'imageset' where chunks of quality "original" are archives of images, else 'video'.
        updated: When anything of it changed last.
        compressed_chunks: The same of quality "compressed".
    """

    id: int
    name: str
    project: int
    size: int
    overlap: int
    chunk_size: int
    original_chunks: str
    updated: datetime
    compressed_chunks: str = IMAGES


@dataclass(frozen=True)
class Frame:
    """One frame of a task; width and height in pixels."""

    number: int
    name: str
    width: int
    height: int
    deleted: bool = False


@dataclass(frozen=True)
class Job:
    """One annotation job.

    Attributes:
        id: CVAT's.
        task: Id of its task.
        start: First frame.
        stop: Last frame, included.
        state: ``NEW``, ``IN_PROGRESS``, ``COMPLETED`` or ``REJECTED``.
        stage: One of ``STAGES``.
        assignee: Id of the user it is assigned to, None = nobody.
        updated: When the job or an annotation in it changed last.
        assigned: When the assignee changed last, None = never.
        assignee_name: User name, '' = nobody.
        replicas: Copies of it for a consensus: people answer in those, and CVAT merges them into it.
    """

    id: int
    task: int
    start: int
    stop: int
    state: str
    stage: str
    assignee: int | None
    updated: datetime
    assigned: datetime | None = None
    assignee_name: str = ""
    replicas: int = 0

    @property
    def frames(self) -> range:
        """Its frames."""
        return range(self.start, self.stop + 1)

    @property
    def writable(self) -> bool:
        """Whether we may write shapes and hand it out: nobody can have it open with unsaved edits.

        Not past the first stage: CVAT makes a job new again as it goes on to the next one, where it holds answers. Not
        where it has replicas.
        """
        return self.state == NEW and self.assignee is None and self.stage == STAGES[0] and not self.replicas

    def done(self, stage: str) -> bool:
        """Whether it counts as labelled from ``stage`` on."""
        return done(self.state, self.stage, stage)


@dataclass(frozen=True)
class Labels:
    """The labels of the project that boxes can have, by name; ``others`` are the names of those that hold none."""

    ids: dict[str, int]
    others: tuple[str, ...] = ()

    @property
    def names(self) -> dict[int, str]:
        """Label id -> name."""
        return {i: n for n, i in self.ids.items()}


@contextmanager
def understood(what: str) -> Iterator[None]:
    """Inside, JSON of CVAT is taken apart. Raises PlatformError where it is not as we know it."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise PlatformError(
            f"CVAT gives {what} in a form that hardfirst does not know ({type(error).__name__}: {error}): it must be "
            "CVAT 2.65 or later; look for a newer hardfirst"
        ) from error


def job_of(raw: Mapping[str, Any]) -> Job:
    """A job as CVAT gives it. Raises PlatformError."""
    with understood("a job"):
        who = raw.get("assignee") or {}
        return Job(
            id=int(raw["id"]),
            task=int(raw["task_id"]),
            start=int(raw["start_frame"]),
            stop=int(raw["stop_frame"]),
            state=str(raw["state"]),
            stage=str(raw["stage"]),
            assignee=who.get("id"),
            updated=_updated(raw),
            assigned=moment(raw.get("assignee_updated_date")),
            assignee_name=str(who.get("username") or ""),
            replicas=int(raw.get("replicas_count") or raw.get("consensus_replicas") or 0),
        )


def task_of(raw: Mapping[str, Any]) -> Task:
    """A task as CVAT gives it; one of point clouds or sound has no frames for us. Raises PlatformError."""
    with understood("a task"):
        chunks = str(raw.get("data_original_chunk_type") or "")
        flat = raw.get("dimension") in (None, "", "2d") and not chunks.startswith("audio")
        return Task(
            id=int(raw["id"]),
            name=str(raw["name"]),
            project=int(raw.get("project_id") or 0),
            size=int(raw.get("size") or 0) if flat else 0,
            overlap=int(raw.get("overlap") or 0),
            chunk_size=int(raw.get("data_chunk_size") or 0),
            original_chunks=chunks,
            updated=_updated(raw),
            compressed_chunks=str(raw.get("data_compressed_chunk_type") or IMAGES),
        )


def _updated(raw: Mapping[str, Any]) -> datetime:
    return moment(raw.get("updated_date")) or datetime.fromtimestamp(0, UTC)


def moment(text: Any) -> datetime | None:
    """CVAT's time; None where it gives none."""
    return datetime.fromisoformat(str(text).replace("Z", "+00:00")) if text else None
