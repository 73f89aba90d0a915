"""Greedy k-center from the labelled set (Sener and Savarese, ICLR 2018, algorithm 1): farthest first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from common.domain import Ints
from common.strategies.distances import Nearest
from common.strategies.farthest_first import farthest_first
from common.strategies.plain import by_score
from common.strategies.points import Points
from common.strategies.pool import Draft, Pool, Values
from common.strategies.ranges import require_whole


@dataclass(frozen=True)
class Options:
    """How far the greedy order goes.

    Attributes:
        greedy_limit: Places ordered greedily, 0 = as many as the budget asks for; the rest follows by falling distance
            to all of them.
    """

    greedy_limit: int = 10_000

    def __post_init__(self) -> None:
        require_whole(0, greedy_limit=self.greedy_limit)


def select(pool: Pool, budget: int, rng: np.random.Generator, options: Options) -> Draft:
    """Farthest first over L2-normed embeddings, nothing else done to them; lowest row on ties.

    Without a labelled sample the first pick is the generator's. Rows that are not finite or have no length count as one
    place, 1 away from all others, and bring no other image nearer. Utility: half the distance at the pick, in [0, 1].
    Distances to labelled samples are those the points remember; only labels that are new to them are met.
    """
    points, rows = pool.points(pool.embeddings), pool.candidates
    start = _start(pool, rows, rng)
    count = max(0, min(budget, options.greedy_limit or budget, len(rows)) - len(start))
    open_rows = rows[~np.isin(rows, start)]
    near = points.covered(pool.labelled_rows, open_rows)
    found = farthest_first(points, count, candidates=open_rows, anchors=start, near=near)
    utility = np.zeros(len(pool))
    utility[start] = 1.0
    utility[found.order] = found.distance / 2
    order = np.concatenate([start, found.order])
    if budget > len(order) and len(order) < len(rows):
        order = np.concatenate([order, _rest(points, rows, order, near, utility)])
    return Draft(order, np.clip(utility, 0, 1), lambda asked: _parts(pool, asked, utility, start))


def _start(pool: Pool, rows: Ints, rng: np.random.Generator) -> Ints:
    """Picks made by chance: one where nothing is labelled."""
    if pool.labelled.any() or len(rows) == 0:
        return np.zeros(0, np.int64)
    first: Ints = rows[rng.integers(len(rows), size=1)]
    return first


def _rest(points: Points, rows: Ints, order: Ints, known: Nearest, utility: Values) -> Ints:
    """Candidates beyond the greedy part, by falling distance to everything before; notes their utility."""
    left = rows[~np.isin(rows, order)]
    near = known.take(left)
    near.lower(np.arange(len(left)), *points.closest(left, points.take(order), near.squared), order)
    score = np.zeros(len(utility))
    score[left] = points.exact(left, near)
    utility[left] = np.sqrt(score[left]) / 2
    return by_score(left, score)


def _parts(pool: Pool, rows: Ints, utility: Values, start: Ints) -> list[dict[str, Any]]:
    out = []
    for row in rows.tolist():
        distance = round(2 * float(utility[row]), 4)
        reason = f"{distance:.2f} away from the nearest labelled or earlier image"
        if row in start:
            reason = "nothing is labelled: the first pick, drawn by the seed"
        if pool.in_slice[row]:
            reason = "random slice, drawn by chance to measure against"
        if not pool.readable[row]:
            reason = "the image cannot be read"
        out.append({"distance": distance, "random_slice": bool(pool.in_slice[row]), "reason": reason})
    return out
