"""Exact, lazily batched greedy traversal: the next image is the farthest from all chosen, weights included.

Greedy k-center after Sener and Savarese, ICLR 2018, algorithm 1; lazy evaluation after Minoux 1978. Distances to the
chosen set only fall, so a stale product is an upper bound of the true one. Rows live in tiers, each holding the rows
of the tier around it with the greatest bounds. A pick is made in the innermost tier, whose values are exact, as long
as it beats the greatest bound outside; then the tiers around are brought up to date with one matrix product for all
picks since. Same picks as one-at-a-time greedy. Never an N x N matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.domain import Floats, Ints

FARTHEST = 4.0
"""Squared distance of two opposite directions: what every row has while nothing is chosen."""

_INNER = 512
_SHRINK = 8
_TILE = 1 << 21
_CHUNK = 512


class Points:
    """Directions of feature rows, read in tiles; the array itself is neither copied nor changed.

    Args:
        features: Shape (n, D), float32 or float16, memory-mapped or not, of any length. A row that is not finite or has
            no length in float32 has no direction: it is 1 away from every direction and 0 from other such rows,
            and chosen itself it brings no direction nearer.

    Attributes:
        usable: Shape (n,), whether the row has a direction.
    """

    def __init__(self, features: NDArray[Any]) -> None:
        if features.ndim != 2:
            raise ValueError(f"features must have shape (n, D), got {features.shape}")
        self.features = features
        self.scale: Floats = np.zeros(len(features), np.float32)
        with np.errstate(all="ignore"):
            for part, block in self._tiles(None):
                length = np.sqrt(np.einsum("ij,ij->i", block, block))
                good = np.isfinite(length) & (length > 1e-18)
                self.scale[part] = np.where(good, 1 / np.where(good, length, 1), 0)
        self.usable: NDArray[np.bool_] = self.scale > 0

    def __len__(self) -> int:
        return len(self.features)

    def take(self, rows: Ints) -> Floats:
        """Unit rows, zero where there is no direction: shape (k, D), float32, a copy."""
        block = np.asarray(self.features[rows], dtype=np.float32)
        scale = self.scale[rows]
        with np.errstate(invalid="ignore"):
            unit = block * scale[:, None]
        unit[scale == 0] = 0
        return unit

    def closest(self, rows: Ints | None, picks: Floats, near: Floats) -> Floats:
        """Squared distance of each row to the nearest of ``picks`` or ``near``, whichever is less.

        Args:
            rows: Shape (k,), None = all.
            picks: Shape (p, D), unit or zero rows, from ``take``.
            near: Shape (k,), squared distances known so far.
        """
        out: Floats = near.copy()
        for chunk in range(0, len(picks), _CHUNK):
            some = picks[chunk : chunk + _CHUNK]
            for part, block in self._tiles(rows):
                at = part if rows is None else rows[part]
                out[part] = np.minimum(out[part], _squared(block, self.scale[at], some))
        return out

    def nearest(self, rows: Ints, anchors: Ints) -> tuple[Floats, Ints]:
        """Distance of each row to its nearest anchor, in [0, 2], and which that is (the first one on ties).

        Args:
            rows: Shape (k,).
            anchors: Shape (a,), at least one.
        """
        similar, which = np.full(len(rows), -np.inf, np.float32), np.zeros(len(rows), np.int64)
        for chunk in range(0, len(anchors), _CHUNK):
            some = anchors[chunk : chunk + _CHUNK]
            theirs = self.take(some).T
            for part, _ in self._tiles(rows):
                alike = self.take(rows[part]) @ theirs
                at = alike.argmax(axis=1)
                best = np.take_along_axis(alike, at[:, None], axis=1)[:, 0]
                better = best > similar[part]
                similar[part] = np.where(better, best, similar[part])
                which[part] = np.where(better, some[at], which[part])
        return np.sqrt(np.clip(2 - 2 * similar, 0, FARTHEST)), which

    def _tiles(self, rows: Ints | None) -> Iterator[tuple[slice, Floats]]:
        count = len(self.features) if rows is None else len(rows)
        step = max(64, _TILE // max(1, self.features.shape[1]))
        for start in range(0, count, step):
            part = slice(start, min(start + step, count))
            yield part, np.asarray(self.features[part if rows is None else rows[part]], dtype=np.float32)


def _squared(block: Floats, scale: Floats, picks: Floats) -> Floats:
    """Squared distance of ``scale * block`` to the nearest of ``picks``; shape (k,)."""
    length = np.einsum("ij,ij->i", picks, picks)
    with np.errstate(invalid="ignore", over="ignore"):
        closest = (block @ picks[length > 0.5].T).max(axis=1, initial=-np.inf) * scale
    has = scale > 0
    out: Floats = np.full(len(block), FARTHEST, np.float32)
    if (length > 0.5).any():
        out = np.where(has, 2 - 2 * closest, 1).astype(np.float32)
    if (length <= 0.5).any():
        out[~has] = 0
    return np.clip(out, 0, FARTHEST).astype(np.float32)


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
    """Some rows, what is known of them, and the greatest bound among all rows that it leaves out."""

    rows: Ints
    near: Floats
    weight: NDArray[np.float64]
    presence: Floats | None
    dense: Floats | None
    seen: int
    bound: tuple[float, int] = (-np.inf, 0)
    value: NDArray[np.float64] | None = None

    def best(self) -> tuple[tuple[float, int], int]:
        """((value, -row), place in this tier) of the greatest value, lowest row on ties."""
        assert self.value is not None  # noqa: S101
        at = int(np.argmax(self.value))
        return (float(self.value[at]), -int(self.rows[at])), at


class _Greedy:
    def __init__(self, points: Points, budget: int, power: float, deficit: Deficit | None) -> None:
        self.points, self.power, self.deficit = points, power, deficit
        self.have = np.zeros(0 if deficit is None else len(deficit.target))
        self.picked = np.zeros((budget, points.features.shape[1]), np.float32)
        self.order: list[int] = []
        self.taken = np.zeros(len(points), bool)

    def refresh(self, tier: _Tier) -> None:
        """Make every value of ``tier`` exact."""
        fresh = self.picked[tier.seen : len(self.order)]
        if len(fresh) and tier.dense is None:
            whole = len(tier.rows) == len(self.points)
            tier.near = self.points.closest(None if whole else tier.rows, fresh, tier.near)
        elif len(fresh) and tier.dense is not None:
            scale = self.points.scale[tier.rows]
            tier.near = np.minimum(tier.near, _squared(tier.dense, (scale > 0).astype(np.float32), fresh))
        tier.near[self.taken[tier.rows]] = -1
        tier.seen = len(self.order)
        self.rate(tier)

    def rate(self, tier: _Tier) -> None:
        value = tier.weight * np.maximum(tier.near, 0).astype(np.float64) ** (self.power / 2)
        if self.deficit is not None and tier.presence is not None:
            value *= self.deficit.factor(tier.presence, self.have)
        value[tier.near < 0] = -np.inf
        tier.value = value

    def inner(self, tier: _Tier, size: int) -> _Tier:
        """The ``size`` rows of an exact ``tier`` with the greatest values, lowest rows on ties."""
        assert tier.value is not None  # noqa: S101
        inside = _greatest(tier.value, size)
        rest = np.where(inside, -np.inf, tier.value)
        out = int(np.argmax(rest))
        at = np.flatnonzero(inside)
        rows = tier.rows[at]
        return _Tier(
            rows,
            tier.near[at],
            tier.weight[at],
            None if tier.presence is None else tier.presence[at],
            self.points.take(rows) if tier.dense is None else tier.dense[at],
            tier.seen,
            max(tier.bound, (float(rest[out]), -int(tier.rows[out]))),
            tier.value[at],
        )

    def pick(self, tier: _Tier, at: int) -> tuple[float, float]:
        row = int(tier.rows[at])
        assert tier.value is not None  # noqa: S101
        found = (float(np.sqrt(max(tier.near[at], 0))), float(tier.value[at]))
        self.picked[len(self.order)] = self.points.take(np.array([row]))[0] if tier.dense is None else tier.dense[at]
        self.order.append(row)
        self.taken[row] = True
        if self.deficit is not None:
            self.have += self.deficit.amount[row]
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
    root = _Tier(
        rows,
        first,
        np.ones(len(rows)) if weight is None else np.asarray(weight, np.float64)[rows],
        None if deficit is None else deficit.presence[rows],
        points.take(rows) if len(rows) <= _INNER * _SHRINK else None,
        0,
    )
    greedy = _Greedy(points, budget, power, deficit)
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
        if tier.seen < len(greedy.order) or tier.value is None:
            greedy.refresh(tier)
        best, at = tier.best()
        if len(tiers) > 1 and best < tier.bound:
            tiers.pop()
        elif len(tier.rows) > 2 * _INNER:
            middle = len(tier.rows) // _SHRINK
            tiers.append(greedy.inner(tier, middle if middle > 4 * _INNER else _INNER))
        else:
            found[len(greedy.order) - 1] = greedy.pick(tier, at)
    return found
