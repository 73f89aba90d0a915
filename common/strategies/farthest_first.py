"""Exact, lazily batched greedy traversal: the next image is the farthest from all chosen, weights included.

Greedy k-center after Sener and Savarese, ICLR 2018, algorithm 1; lazy evaluation after Minoux 1978. Distances to the
chosen set only fall, so a stale product is an upper bound of the true one. Rows live in tiers, each holding the rows
of the tier around it with the greatest bounds. A pick is made in the innermost tier, whose values are exact, as long
as it beats the greatest bound outside; then the tiers around are brought up to date with one matrix product for all
picks since, and only where a row's bound could still matter. Same picks as one-at-a-time greedy. Never an N x N matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.domain import Floats, Ints
from common.strategies.points import FARTHEST, Points

__all__ = ["FARTHEST", "Deficit", "Points", "Traversal", "farthest_first"]

_INNER = 512
_SHRINK = 8


@dataclass(frozen=True)
class Deficit:
    """A factor 1 + max over classes of presence * max(0, target - have) / target; it never rises as picks are made.

    Attributes:
        presence: Shape (n, C), in [0, 1]: how surely row i shows class c.
        amount: Shape (n, C), 0 or more: what picking row i adds to ``have``.
        target: Shape (C,), positive.
    """

    presence: Floats
    amount: Floats
    target: Floats

    def factor(self, presence: Floats, have: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shape (k,), in [1, 2], for rows with this ``presence``."""
        lack = np.clip(self.target - have, 0, None) / self.target
        gain: NDArray[np.float64] = (presence * lack).max(axis=1, initial=0)
        return 1 + gain


@dataclass(frozen=True)
class Traversal:
    """A greedy order.

    Attributes:
        order: Shape (k,), row indices, first pick first, no repeats.
        distance: Shape (k,), distance of each pick to the nearest anchor or earlier pick when it was made, in [0, 2].
        value: Shape (k,), the product that was greatest, 0 or more.
    """

    order: Ints
    distance: Floats
    value: NDArray[np.float64]


@dataclass
class _Tier:
    """Some rows, what is known of them, and the greatest bound among all rows that it leaves out.

    Attributes:
        rows: Shape (k,), ascending.
        points: What holds them.
        inside: Shape (k,), where in ``points``; None = they are all of it.
        near: Shape (k,), squared distances to everything chosen when ``seen`` picks were made; -1 = picked.
        weight: Shape (k,).
        presence: Shape (k, C).
        seen: Shape (k,), picks that ``near`` and ``value`` know.
        bound: (value, -row) of the best row outside.
        value: Shape (k,), products; upper bounds where not all picks were seen.
        now: Picks up to which the greatest of ``value`` are exact.
        pairs: Shape (k, k), squared distances among the rows, where they are few: the innermost tier.
    """

    rows: Ints
    points: Points
    inside: Ints | None
    near: Floats
    weight: NDArray[np.float64]
    presence: Floats | None
    seen: Ints
    value: NDArray[np.float64]
    now: int = 0
    bound: tuple[float, int] = (-np.inf, 0)
    pairs: Floats | None = None

    def __post_init__(self) -> None:
        if len(self.rows) <= 2 * _INNER:
            self.pairs = self.points.pairs()

    def best(self) -> tuple[tuple[float, int], int]:
        """((value, -row), place in this tier) of the greatest value, lowest row on ties."""
        at = int(np.argmax(self.value))
        return (float(self.value[at]), -int(self.rows[at])), at

    @property
    def next_size(self) -> int:
        """Rows of the tier within."""
        middle = len(self.rows) // _SHRINK
        return middle if middle > 4 * _INNER else _INNER


class _Greedy:
    def __init__(self, points: Points, budget: int, power: float, deficit: Deficit | None) -> None:
        self.points, self.power, self.deficit = points, power, deficit
        self.have = np.zeros(0 if deficit is None else len(deficit.target))
        self.picked = np.zeros((budget, points.width), np.float32)
        self.order: list[int] = []
        self.taken = np.zeros(len(points), bool)

    def root(self, rows: Ints, near: Floats, weight: NDArray[np.float64]) -> _Tier:
        """The outermost tier: every candidate, ``near`` exact before the first pick."""
        small = len(rows) <= _INNER * _SHRINK
        whole = len(rows) == len(self.points)
        tier = _Tier(
            rows,
            self.points.part(rows) if small else self.points,
            None if small or whole else rows,
            near,
            weight,
            None if self.deficit is None else self.deficit.presence[rows],
            np.zeros(len(rows), np.int64),
            np.zeros(len(rows)),
        )
        self._rate(tier)
        return tier

    def refresh(self, tier: _Tier) -> None:
        """Make the greatest values of ``tier`` exact: as many as the tier within has rows.

        First those with the greatest bounds; then whatever could be among the greatest after that.
        """
        tier.now = len(self.order)
        if tier.pairs is not None:
            self._rate(tier)
            return
        tier.near[self.taken[tier.rows]] = -1
        tier.value[tier.near < 0] = -np.inf
        wanted = tier.next_size
        self._meet(tier, np.flatnonzero(_greatest(tier.value, min(2 * wanted, len(tier.rows)))))
        edge = np.partition(tier.value[tier.seen == tier.now], -wanted)[-wanted]
        self._meet(tier, np.flatnonzero((tier.value >= edge) & (tier.seen < tier.now)))

    def _meet(self, tier: _Tier, places: Ints) -> None:
        """Let rows of a tier meet the picks they have not seen."""
        seen = tier.seen[places]
        for start in np.unique(seen).tolist():
            some = places[seen == start]
            whole = len(some) == len(tier.rows)
            inside = some if tier.inside is None else tier.inside[some]
            picks = self.picked[start : tier.now]
            tier.near[some] = tier.points.closest(tier.inside if whole else inside, picks, tier.near[some])
        tier.near[self.taken[tier.rows]] = -1
        tier.seen[places] = tier.now
        self._rate(tier, places)

    def _rate(self, tier: _Tier, places: Ints | None = None) -> None:
        some = slice(None) if places is None else places
        near = tier.near[some]
        value = tier.weight[some] * np.maximum(near, 0).astype(np.float64) ** (self.power / 2)
        if self.deficit is not None and tier.presence is not None:
            value *= self.deficit.factor(tier.presence[some], self.have)
        value[near < 0] = -np.inf
        tier.value[some] = value

    def inner(self, tier: _Tier) -> _Tier:
        """The rows of ``tier`` with the greatest values, which are exact; lowest rows on ties."""
        chosen = _greatest(tier.value, tier.next_size)
        rest = np.where(chosen, -np.inf, tier.value)
        out = int(np.argmax(rest))
        at = np.flatnonzero(chosen)
        return _Tier(
            tier.rows[at],
            tier.points.part(at if tier.inside is None else tier.inside[at]),
            None,
            tier.near[at],
            tier.weight[at],
            None if tier.presence is None else tier.presence[at],
            tier.seen[at],
            tier.value[at],
            tier.now,
            max(tier.bound, (float(rest[out]), -int(tier.rows[out]))),
        )

    def pick(self, tier: _Tier, at: int) -> tuple[float, float]:
        row = int(tier.rows[at])
        found = (float(np.sqrt(max(tier.near[at], 0))), float(tier.value[at]))
        self.picked[len(self.order)] = tier.points.take(np.array([at]))[0]
        self.order.append(row)
        self.taken[row] = True
        if self.deficit is not None:
            self.have += self.deficit.amount[row]
        if tier.pairs is not None:
            tier.near = np.minimum(tier.near, tier.pairs[at])
        tier.near[at] = -1
        return found


def _greatest(value: NDArray[np.float64], size: int) -> NDArray[np.bool_]:
    """Mask of the ``size`` greatest values, lowest places on ties."""
    edge = np.partition(value, len(value) - size)[len(value) - size]
    inside: NDArray[np.bool_] = value > edge
    inside[np.flatnonzero(value == edge)[: size - int(inside.sum())]] = True
    return inside


def farthest_first(
    points: Points,
    budget: int,
    *,
    candidates: Ints | None = None,
    anchors: Ints | None = None,
    near: Floats | None = None,
    weight: NDArray[Any] | None = None,
    power: float = 1.0,
    deficit: Deficit | None = None,
) -> Traversal:
    """Order candidates by repeated argmax of weight * distance^power * deficit factor.

    Args:
        points: N rows.
        budget: Picks wanted; more than there are candidates = all of them.
        candidates: Shape (k,), ascending rows that may be picked; None = every row that is no anchor.
        anchors: Shape (a,), rows already chosen or labelled.
        near: Shape (N,), squared distances to anchors of an earlier call; ``anchors`` are then the new ones only.
        weight: Shape (N,), 0 or more, finite: the product of the factors that stay as they are; None = 1.
        power: Exponent of the distance, 0 or more.
        deficit: The factor that falls as picks are made.

    Returns:
        At most ``budget`` picks. Ties go to the lowest row. With neither anchors nor ``near`` the first distance is 2.
    """
    rows = _candidates(points, candidates, anchors)
    budget = min(budget, len(rows))
    first = np.full(len(rows), FARTHEST, np.float32) if near is None else near[rows].astype(np.float32)
    if anchors is not None and len(anchors):
        whole = len(rows) == len(points)
        first = points.closest(None if whole else rows, points.take(anchors), first)
    greedy = _Greedy(points, budget, power, deficit)
    root = greedy.root(rows, first, np.ones(len(rows)) if weight is None else np.asarray(weight, np.float64)[rows])
    found = _traverse(greedy, root, budget)
    return Traversal(np.array(greedy.order, np.int64), found[:, 0].astype(np.float32), found[:, 1])


def _candidates(points: Points, candidates: Ints | None, anchors: Ints | None) -> Ints:
    if candidates is not None:
        return np.asarray(candidates, np.int64)
    free = np.ones(len(points), bool)
    free[[] if anchors is None else anchors] = False
    return np.flatnonzero(free)


def _traverse(greedy: _Greedy, root: _Tier, budget: int) -> NDArray[np.float64]:
    """Pick until ``budget``: innermost tier first, outwards where a bound outside is in the way."""
    found = np.zeros((budget, 2))
    tiers = [root]
    while len(greedy.order) < budget:
        tier = tiers[-1]
        if tier.now < len(greedy.order):
            greedy.refresh(tier)
        best, at = tier.best()
        if len(tiers) > 1 and best < tier.bound:
            tiers.pop()
        elif len(tier.rows) > 2 * _INNER:
            tiers.append(greedy.inner(tier))
        else:
            found[len(greedy.order) - 1] = greedy.pick(tier, at)
    return found
