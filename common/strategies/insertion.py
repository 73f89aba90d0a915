"""Where an image that arrives later stands in a queue that people are labelling already.

Orders are not sorted by utility, so the rule is the image's own rank: the new one stands behind as many open places as
there are open images of a higher utility, the strategy's own. Three kinds are not ranked: members of the random slice
stand among the slice in hash order, near-duplicates of images that are there (and outliers, where the strategy holds
them back) stand behind everything readable, unreadable images behind everything.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from common.domain import Ints
from common.strategies.pool import Mask, Pool, Values

FEW = 50
SHARE = 0.10
MIN_GAP = 1e-12
"""Between two places; platforms keep them as double precision, which has room for more."""
_ROOM = 1024
"""Images that come one after the other to the same spot take about this share of what room is left there."""

UTILITY, SLICE, PASSED, BEHIND, UNREADABLE = "utility", "slice", "queued", "behind", "unreadable"
"""How an image got its place; in one gap they stand in this order."""
_KINDS = (UTILITY, SLICE, PASSED, BEHIND, UNREADABLE)


def few(new: int, places: int) -> bool:
    """Whether so many new images are inserted: at most 50, or 10 % of the open places. More are worth a new order."""
    return new <= max(FEW, int(SHARE * places))


@dataclass(frozen=True)
class Queue:
    """A queue as it stands, in queue order, answered places included.

    Attributes:
        place: Shape (q,), strictly rising, in [0, 1].
        row: Shape (q,), the place's sample in the pool, -1 = answered or gone.
        ranked: Shape (q,), True = arrived later and stands here by its usefulness.
        passed: Shape (q,), what the running quantile said of it: 1 = let through, 0 = kept aside, -1 = not asked.
    """

    place: Values
    row: Ints
    ranked: Mask
    passed: Ints

    def __post_init__(self) -> None:
        q = len(self.place)
        for name in ("row", "ranked", "passed"):
            if getattr(self, name).shape != (q,):
                raise ValueError(f"{name} must have shape ({q},), got {getattr(self, name).shape}")
        if q and not ((np.diff(self.place) > 0).all() and self.place[0] >= 0 and self.place[-1] <= 1):
            raise ValueError("place must rise strictly inside [0, 1]")

    def __len__(self) -> int:
        return len(self.place)


@dataclass(frozen=True)
class Seat:
    """One new image: its row in the pool, the index of the place it stands right before, and how it got there."""

    row: int
    gap: int
    how: str


@dataclass(frozen=True)
class _Lines:
    """Indices of the open places by what stands there, in queue order, and of the first place behind the readable."""

    pool: Pool
    queue: Queue
    main: Ints = field(init=False)
    slice_: Ints = field(init=False)
    tail: int = field(init=False)

    def __post_init__(self) -> None:
        at = np.flatnonzero(self.queue.row >= 0)
        rows = self.queue.row[at]
        readable, drawn = self.pool.readable[rows], self.pool.in_slice[rows]
        known = at[readable]
        behind = np.concatenate([at[~readable], [len(self.queue)]])
        object.__setattr__(self, "main", at[readable & ~drawn])
        object.__setattr__(self, "slice_", at[readable & drawn])
        object.__setattr__(self, "tail", int(known[-1]) + 1 if len(known) else int(behind[0]))

    def before(self, line: Ints, counts: Ints) -> list[int]:
        """Gap behind so many members of a line; behind all of them = behind everything readable."""
        return [int(line[c]) if c < len(line) else self.tail for c in counts.tolist()]


def seats(
    pool: Pool, queue: Queue, new: Ints, utility: Values, *, behind: Mask | None = None, passed: Mask | None = None
) -> list[Seat]:
    """Where each new image stands, in queue order.

    Args:
        pool: Every sample of the project, the new ones included.
        queue: The queue as it stands.
        new: Shape (k,), open rows of the pool that have no place, in order of arrival.
        utility: Shape (n,), higher = more useful; of equally useful images the earlier row comes first.
        behind: Shape (k,), new images that stand behind everything readable, such as ``look_alikes``.
        passed: Shape (n,), whether a running quantile let a row through: those follow the ones it let through before,
            the others stand behind everything readable, all in order of arrival. None = by usefulness.

    Returns:
        One seat per new row; those of one gap in the order in which they stand.
    """
    lines = _Lines(pool, queue)
    readable = pool.readable[new]
    drawn = readable & pool.in_slice[new]
    let = free(pool, new, behind)
    let = let if passed is None else let & passed[new]
    found = [Seat(row, len(queue), UNREADABLE) for row in new[~readable].tolist()]
    found += [Seat(row, lines.tail, BEHIND) for row in new[readable & ~drawn & ~let].tolist()]
    found += _by_hash(lines, new[drawn])
    if passed is None:
        found += _by_use(lines, new[let], ranks(utility))
    else:
        found += [Seat(row, _after_passed(lines), PASSED) for row in new[let].tolist()]
    return sorted(found, key=lambda s: (s.gap, _KINDS.index(s.how)))


def free(pool: Pool, new: Ints, behind: Mask | None) -> Mask:
    """New rows that usefulness or a running quantile decides about, shape (k,); see ``seats``."""
    rest = pool.readable[new] & ~pool.in_slice[new]
    return rest if behind is None else rest & ~behind


def ranks(utility: Values) -> Ints:
    """Shape (n,): 0 = the most useful row; the earlier one on ties."""
    out = np.empty(len(utility), np.int64)
    out[np.argsort(-utility, kind="stable")] = np.arange(len(utility))
    return out


def look_alikes(group: Ints, new: Ints, useful: Ints) -> Mask:
    """New images whose near-duplicate is labelled or queued already, and all but the most useful of a new group.

    Args:
        group: Shape (n,), near-duplicate group, -1 = none.
        new: Shape (k,), distinct rows.
        useful: Shape (n,), 0 = the most useful.
    """
    older = np.ones(len(group), bool)
    older[new] = False
    known = np.unique(group[older & (group >= 0)])
    mine = group[new]
    by_use = np.lexsort((useful[new], mine))
    first = np.zeros(len(new), bool)
    first[by_use] = np.diff(mine[by_use], prepend=-2) != 0
    return (mine >= 0) & (~first | np.isin(mine, known))


def behind_better(queued: Ints, ranked: Mask, new: Ints) -> Ints:
    """How many queued images each new one stands behind.

    As many as are more useful; but behind every more useful image that was ranked in before, and before every less
    useful one: since then images have left the queue, and not in order of usefulness.

    Args:
        queued: Shape (m,), in queue order: rank of each by usefulness, 0 = the most useful; distinct.
        ranked: Shape (m,), True = got its place by this rule.
        new: Shape (k,), ranks, rising, none of them in ``queued``.

    Returns:
        Shape (k,), in [0, m], not falling.
    """
    count = np.searchsorted(np.sort(queued), new)
    at = np.flatnonzero(ranked)
    at = at[np.argsort(queued[at], kind="stable")]
    split = np.searchsorted(queued[at], new)
    last_better = np.concatenate([[0], np.maximum.accumulate(at + 1)])[split]
    first_worse = np.concatenate([np.minimum.accumulate(at[::-1])[::-1], [len(queued)]])[split]
    stands: Ints = np.minimum(np.maximum(count, last_better), first_worse)
    return stands


def between(place: Values, seated: list[Seat]) -> Values | None:
    """Places for seats, strictly rising, inside (0, 1) and between their neighbours.

    Seats of one gap share it evenly. Where images gather in order of arrival (the ends of the queue, and of the images
    a running quantile let through) they stand close behind the one before, so that the room lasts for thousands.

    Args:
        place: Shape (q,), the queue's places, strictly rising.
        seated: From ``seats``, gaps not falling.

    Returns:
        Shape (k,); None when two places would be less than ``MIN_GAP`` apart: it is time for a new order.
    """
    edges = np.concatenate([[0.0], place, [1.0]])
    gap = np.array([s.gap for s in seated], np.int64)
    close = np.isin(gap, [s.gap for s in seated if s.how in (PASSED, BEHIND, UNREADABLE)])
    _, first, count = np.unique(gap, return_index=True, return_counts=True)
    number = np.arange(len(gap)) - np.repeat(first, count) + 1
    low, high = edges[gap], edges[gap + 1]
    found: Values = low + (high - low) * number / (np.where(close, _ROOM, 1) + np.repeat(count, count))
    before = np.where(number == 1, low, np.concatenate([[0.0], found[:-1]]))
    tight = (found - before < MIN_GAP) | (high - found < MIN_GAP)
    return None if tight.any() else found


def _by_use(lines: _Lines, rows: Ints, useful: Ints) -> list[Seat]:
    rows = rows[np.argsort(useful[rows], kind="stable")]
    queued = useful[lines.queue.row[lines.main]]
    gaps = lines.before(lines.main, behind_better(queued, lines.queue.ranked[lines.main], useful[rows]))
    return [Seat(row, gap, UTILITY) for row, gap in zip(rows.tolist(), gaps, strict=True)]


def _by_hash(lines: _Lines, rows: Ints) -> list[Seat]:
    """Right before the first member of the slice with a greater hash."""
    hashes = lines.pool.slice_hash
    if hashes is None or len(rows) == 0:
        return []
    rows = rows[np.argsort(hashes[rows], kind="stable")]
    queued = np.maximum.accumulate(hashes[lines.queue.row[lines.slice_]])
    gaps = lines.before(lines.slice_, np.searchsorted(queued, hashes[rows], side="right"))
    return [Seat(row, gap, SLICE) for row, gap in zip(rows.tolist(), gaps, strict=True)]


def _after_passed(lines: _Lines) -> int:
    """Behind the last image that was let through, else before the first that was kept aside, else behind all."""
    said = lines.queue.passed[lines.main]
    if (said == 1).any():
        return int(lines.main[np.flatnonzero(said == 1)[-1]]) + 1
    return int(lines.main[np.flatnonzero(said == 0)[0]]) if (said == 0).any() else lines.tail
