"""Exact, lazily batched greedy traversal: the next image is the farthest from all chosen, weights included.

Greedy k-center after Sener and Savarese, ICLR 2018, algorithm 1; lazy evaluation after Minoux 1978. Distances to the
chosen set only fall, so a stale product is an upper bound of the true one. Rows live in tiers, each holding the rows
of the tier around it with the greatest bounds. A pick is made in the innermost tier, whose values are exact, as long
as it beats the greatest bound outside; then the tiers around are brought up to date with one matrix product for all
picks since, and only where a row's bound could still matter. Same picks as one-at-a-time greedy, but for ties within
1e-6; what is a tie in float32 goes to the lowest row. Never an N x N matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.domain import Floats, Ints
from common.strategies.deficit import Deficit
from common.strategies.distances import FARTHEST, Nearest
from common.strategies.points import Points
from common.strategies.tiers import Greedy, Tier

__all__ = ["FARTHEST", "Deficit", "Points", "Traversal", "farthest_first"]


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


def farthest_first(
    points: Points,
    budget: int,
    *,
    candidates: Ints | None = None,
    anchors: Ints | None = None,
    near: Nearest | None = None,
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
        near: The nearest anchor of each of N rows, of an earlier call; ``anchors`` are then the new ones only.
        weight: Shape (N,), 0 or more, finite: the product of the factors that stay as they are; None = 1.
        power: Exponent of the distance, 0 or more.
        deficit: The factor that falls as picks are made.

    Returns:
        At most ``budget`` picks; of equal values, distances rounded to float32, the lowest row comes first. With
        neither anchors nor ``near`` the first distance is 2.
    """
    rows = _candidates(points, candidates, anchors)
    budget = min(budget, len(rows))
    first = Nearest.nothing(len(rows)) if near is None else near.take(rows)
    if anchors is not None and len(anchors):
        whole = len(rows) == len(points)
        closest = points.closest(None if whole else rows, points.take(anchors), first.squared)
        first.lower(np.arange(len(rows)), *closest, np.asarray(anchors, np.int64))
    greedy = Greedy(points, budget, power, deficit)
    root = greedy.root(rows, first, np.ones(len(rows)) if weight is None else np.asarray(weight, np.float64)[rows])
    found = _traverse(greedy, root, budget)
    return Traversal(greedy.order, found[:, 0].astype(np.float32), found[:, 1])


def _candidates(points: Points, candidates: Ints | None, anchors: Ints | None) -> Ints:
    if candidates is not None:
        return np.asarray(candidates, np.int64)
    free = np.ones(len(points), bool)
    free[[] if anchors is None else anchors] = False
    return np.flatnonzero(free)


def _traverse(greedy: Greedy, root: Tier, budget: int) -> NDArray[np.float64]:
    """Pick until ``budget``: innermost tier first, outwards where a bound outside is in the way."""
    found = np.zeros((budget, 2))
    tiers = [root]
    while greedy.count < budget:
        tier = tiers[-1]
        if tier.now < greedy.count:
            greedy.refresh(tier)
        best, at = tier.best()
        if len(tiers) > 1 and best < tier.bound:
            tiers.pop()
        elif not tier.innermost:
            tiers.append(greedy.inner(tier))
        else:
            found[greedy.count - 1] = greedy.pick(tier, at)
    return found
