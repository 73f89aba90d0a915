"""What the next queue task holds: which frames, in which order, in which jobs, under which names. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from cvat_adapter.nouns import Job, place_of, sample_id

FRAMES_PER_JOB = 10
"""A few minutes of work: what a person holds of an old order is soon done, and an assignment is worth its request."""
FRAMES_PER_TASK = 100
"""Ten jobs: uploaded in seconds, and little is lost when the next order comes before they are done."""
MOST_FRAMES = 1000
"""Of one task, however many annotators there are: its images pass through our disk."""
MAKING, OPEN, CLOSED = "making", "open", "closed"
"""States of a queue task: no jobs yet; its jobs are handed out; nothing of it is handed out any more."""
PREFIX = "hardfirst queue: "
DONE = " (done)"
_MOST_OF_TITLE = 150  # names of CVAT end at 256 characters
_MOST_OF_STEM = 60
_FILE = re.compile(r"(\d+)-(\d+)-")
_ORDER = re.compile(r".*@\d+\.(\d+)-\w+")


@dataclass(frozen=True)
class Plan:
    """A queue task that is being made; kept on the disk, so that a crash costs nothing.

    Attributes:
        version: The order it serves.
        name: Of the task.
        samples: Source samples, best first.
        left: Samples that stay out of it -> why.
        before: Ids of the tasks of this name that were there before ours, None = ours is not asked for yet.
    """

    version: str
    name: str
    samples: tuple[str, ...]
    left: dict[str, str] = field(default_factory=dict)
    before: tuple[int, ...] | None = None

    @property
    def kept(self) -> list[str]:
        """The samples that go in, best first."""
        return [s for s in self.samples if s not in self.left]

    def as_json(self) -> dict[str, Any]:
        """As a memory keeps it."""
        return asdict(self)

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Plan:
        """Back from ``as_json``."""
        before = row["before"]
        known = None if before is None else tuple(before)
        return cls(row["version"], row["name"], tuple(row["samples"]), dict(row["left"]), known)


def task_name(title: str, version: str, part: int) -> str:
    """Name of a queue task: 'hardfirst queue: Birds, order 3', from the second one on 'order 3, part 2'."""
    known = _ORDER.fullmatch(version)
    order = known[1] if known else version
    return f"{PREFIX}{title[:_MOST_OF_TITLE]}, order {order}" + (f", part {part}" if part > 1 else "")


def file_name(sample: str, name: str, suffix: str) -> str:
    """Name of a frame in a queue task: plain, unique, and ``sample_of`` reads it back.

    Args:
        sample: 'TASK:FRAME' of the source.
        name: Of the source frame, perhaps with folders; letters that need encoding become '_'.
        suffix: By what the bytes are: '.jpg'. CVAT goes by it.
    """
    task, frame = place_of(sample)
    base = re.split(r"[\\/]", name)[-1]
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", base.rpartition(".")[0] or base)[:_MOST_OF_STEM]
    return f"{task}-{frame:06d}-{stem}{suffix}"


def sample_of(name: str) -> str | None:
    """The source sample of a frame of a queue task, None where the name is not one of ours."""
    known = _FILE.match(name)
    return sample_id(int(known[1]), int(known[2])) if known else None


def task_size(annotators: int, wip: int) -> int:
    """Frames of the next queue task: enough for everybody's open jobs twice, so that nobody waits for the next one."""
    return min(MOST_FRAMES, max(FRAMES_PER_TASK, 2 * annotators * wip * FRAMES_PER_JOB))


def blocks(names: Sequence[str], size: int = FRAMES_PER_JOB) -> list[list[str]]:
    """Consecutive jobs of at most ``size`` frames."""
    return [list(names[i : i + size]) for i in range(0, len(names), size)]


def in_order(jobs: Iterable[Job]) -> list[Job]:
    """Jobs of queue tasks, best frames first: the older task, then the first frames."""
    return sorted(jobs, key=lambda j: (j.task, j.start, j.id))


def samples_of(jobs: Iterable[Job], mapped: Mapping[str, str]) -> list[str]:
    """Source samples of queue jobs, job by job."""
    places = (sample_id(j.task, n) for j in jobs for n in j.frames)
    return [mapped[place] for place in places if place in mapped]


def spoken_for(
    jobs: Iterable[Job], states: Mapping[int, str], mapped: Mapping[str, str], taken: Collection[int] = ()
) -> set[str]:
    """Source samples that no new queue task may hold.

    They are in an open queue task, or in a job (of any queue task, or of the source) that somebody has, had or gets.

    Args:
        jobs: Of the source and of the queue tasks.
        states: Queue task -> its state.
        mapped: 'TASK:FRAME' of a queue task -> source sample.
        taken: Jobs that are promised to somebody.
    """
    found: set[str] = set()
    for job in jobs:
        free = job.writable and job.id not in taken
        if job.task in states:
            if states[job.task] != CLOSED or not free:
                found.update(samples_of([job], mapped))
        elif not free:
            found.update(sample_id(job.task, n) for n in job.frames)
    return found


def next_samples(places: Mapping[str, Mapping[str, Any]], out: Collection[str], count: int) -> list[str]:
    """The ``count`` best samples that are not ``out``; low ``order`` first."""
    left = (s for s in places if s not in out)
    return sorted(left, key=lambda s: (places[s]["order"], s))[:count]
