"""The order of jobs, from the places of their frames. Pure: no requests, no clock."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest

from cvat_adapter.nouns import Job, place_of, sample_id

TOP = 3
"""So many frames count for 'top3'."""


def _mean_of_best(values: Sequence[float]) -> float:
    best = nlargest(TOP, values)
    return sum(best) / len(best)


AGGREGATES: dict[str, Callable[[Sequence[float]], float]] = {"max": max, "top3": _mean_of_best}
"""Name -> values of a job's frames (at least one) to the value of the job."""


@dataclass(frozen=True)
class Offer:
    """One job that can be worked on.

    Attributes:
        job: As CVAT listed it.
        value: In [0, 1], 1 = first.
        sample: Its best frame; its first where none has a place.
        reason: In words for people.
    """

    job: Job
    value: float
    sample: str
    reason: str


def aggregate(values: Iterable[float], how: str = "max") -> float:
    """The value of a job, in [0, 1].

    Args:
        values: Of its frames that have a place, each 1 - order; 0 comes out where there is none.
        how: Out of ``AGGREGATES``.
    """
    given = list(values)
    return AGGREGATES[how](given) if given else 0.0


def rank(
    jobs: Iterable[Job], places: Mapping[str, float], *, without: Collection[str] = (), how: str = "max"
) -> list[Offer]:
    """The jobs, best first; those of which no frame has a place come last, by id.

    Args:
        jobs: In any order.
        places: Sample id -> order in [0, 1], low = first, of every sample of the version.
        without: Samples that no longer count: answered elsewhere or deleted.
        how: Out of ``AGGREGATES``.
    """
    ranks = {sample: number for number, sample in enumerate(sorted(places, key=lambda s: (places[s], s)), start=1)}
    left_out = without if isinstance(without, set | frozenset) else frozenset(without)
    placed: list[Offer] = []
    others: list[Offer] = []
    for job in sorted(jobs, key=lambda j: j.id):
        frames = [s for s in samples_of(job) if s in ranks and s not in left_out]
        if frames:
            placed.append(_offer(job, frames, places, ranks, how))
        else:
            others.append(Offer(job, 0.0, sample_id(job.task, job.start), "no frame has a place"))
    return sorted(placed, key=lambda o: -o.value) + others


def samples_of(job: Job) -> list[str]:
    """The sample ids of its frames, in their order."""
    return [sample_id(job.task, n) for n in job.frames]


def _offer(job: Job, frames: Sequence[str], places: Mapping[str, float], ranks: Mapping[str, int], how: str) -> Offer:
    best = min(frames, key=ranks.__getitem__)
    value = aggregate((1 - places[s] for s in frames), how)
    reason = f"best frame {place_of(best)[1]} has rank {ranks[best]:,} of {len(ranks):,}"
    if len(frames) > 1:
        reason += f"; {len(frames)} frames have a place"
    return Offer(job, value, best, reason)
