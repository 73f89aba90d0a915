"""Squared distances between unit rows: products in float32, what they are good for, and what is remembered of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.domain import Floats, Ints

FARTHEST = 4.0
"""Squared distance of two opposite directions: what every row has while nothing is chosen."""

CLOSE = 1.0
"""Squared distances below this are taken from differences: 2 - 2 cos in float32 would put distances off by 1e-6."""

NOISE = 2e-6
"""More than a float32 cosine is ever off by: picks this much less alike than the best may be the nearest."""

ROUGH = 1e-6
"""More than a distance by ``Points.closest`` is ever off by."""

SAME = 1e-12
"""Squared distances below this are ties: 0."""

TILE = 1 << 19
"""Numbers of a tile that stays in the cache."""

_GROUP = 16
_ORDINARY = (1e-100, 1e100)


class Nearest(NamedTuple):
    """What lies nearest to each of n rows.

    Attributes:
        squared: Shape (n,), float32, squared distance to it, in [0, ``FARTHEST``].
        row: Shape (n,), which row that is, -1 = none, or nobody knows.
    """

    squared: Floats
    row: Ints

    @classmethod
    def nothing(cls, n: int) -> Nearest:
        """While nothing is chosen."""
        return cls(np.full(n, FARTHEST, np.float32), np.full(n, -1, np.int64))

    def take(self, rows: Ints) -> Nearest:
        """Of these rows: a copy."""
        return Nearest(self.squared[rows], self.row[rows])

    def lower(self, rows: Ints, squared: Floats, place: Ints, others: Ints) -> Ints:
        """Put down what ``Points.closest`` found for ``rows`` among ``others``; returns where it found a nearer one."""
        self.squared[rows] = squared
        found: Ints = rows[place >= 0]
        self.row[found] = others[place[place >= 0]]
        return found


class Memory:
    """Distances to anchors that were computed before.

    Attributes:
        anchors: Shape (a,), in the order in which they came.
        near: The nearest anchor that each of n rows has met.
        met: Shape (n,), how many anchors each row has met.
        computed: Distances the last question cost.
    """

    def __init__(self, n: int) -> None:
        self.computed = 0
        self._clear(n)

    def _clear(self, n: int) -> None:
        self.anchors: Ints = np.zeros(0, np.int64)
        self.near = Nearest.nothing(n)
        self.met: Ints = np.zeros(n, np.int64)

    def take_in(self, anchors: Ints) -> None:
        """Add those that are new; start over when one of the old ones is missing."""
        if np.array_equal(anchors, self.anchors):
            return
        new = np.setdiff1d(anchors, self.anchors)
        if len(self.anchors) + len(new) > len(anchors):
            self._clear(len(self.met))
            new = np.asarray(anchors, np.int64)
        self.anchors = np.concatenate([self.anchors, new])


def unit_rows(rows: NDArray[Any]) -> NDArray[np.float64]:
    """Directions in float64: shape (k, D), a copy; zero where a row is zero or not finite.

    Rows whose squares float64 cannot hold are divided by their greatest number first: every other row has a direction.
    """
    x = np.array(rows, np.float64)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        length = np.sqrt(np.einsum("ij,ij->i", x, x))
        odd = np.flatnonzero(~((length > _ORDINARY[0]) & (length < _ORDINARY[1])))
    if len(odd):
        peak = np.abs(x[odd]).max(axis=1, initial=0)
        none = ~(np.isfinite(peak) & (peak > 0))
        peak[none] = 1
        x[odd] = np.where(none[:, None], 0, x[odd]) / peak[:, None]
        length[odd] = np.where(none, 1, np.linalg.norm(x[odd], axis=1))
    x /= length[:, None]
    return x


def meet(block: Floats, scale: Floats, picks: Floats, near: Floats, room: Floats) -> Ints:
    """Lower ``near``, shape (k,), to the squared distance of ``scale * block`` to the nearest of ``picks``.

    Returns:
        Shape (k,): which pick that is, -1 where none is nearer than before.
    """
    alike = room[: len(block) * len(picks)].reshape(len(block), len(picks))
    with np.errstate(invalid="ignore", over="ignore"):
        np.matmul(block, picks.T, out=alike)
        place: Ints = alike.argmax(axis=1)
        best = alike[np.arange(len(alike)), place] * scale
        apart = np.clip(2 - 2 * best, 0, FARTHEST)
    apart[scale == 0] = 1
    close = np.flatnonzero((apart < CLOSE) & (apart < near + 2 * NOISE) & (near > 0))
    if len(close):
        likely = alike[close] >= ((best[close] - NOISE) / scale[close])[:, None]
        apart[close], place[close] = _differences(block[close] * scale[close, None], picks, likely)
    place[apart >= near] = -1
    np.minimum(near, apart, out=near)
    return place


def _differences(mine: Floats, picks: Floats, likely: NDArray[np.bool_]) -> tuple[Floats, Ints]:
    """(squared distance of each row to the nearest of its likely picks, from differences; which that is)."""
    row, pick = np.nonzero(likely)
    exact = np.empty(len(row), np.float32)
    step = max(64, TILE // max(1, mine.shape[1]))
    for start in range(0, len(row), step):
        gap = mine[row[start : start + step]] - picks[pick[start : start + step]]
        exact[start : start + step] = np.einsum("ij,ij->i", gap, gap)
    exact[exact < SAME] = 0
    if len(row) == len(mine):
        return exact, pick
    by_distance = np.lexsort((exact, row))
    nearest = by_distance[np.searchsorted(row, np.arange(len(mine)))]
    return exact[nearest], pick[nearest]


def greatest(values: Floats, count: int) -> Floats:
    """The ``count`` greatest of each row, in any order: shape (k, count).

    They lie in the ``count`` groups of columns with the greatest maxima, so that few numbers are sorted.
    """
    k, r = values.shape
    groups = r // _GROUP
    if groups < 2 * count:
        return np.partition(values, r - count, axis=1)[:, r - count :]
    body = values[:, : groups * _GROUP].reshape(k, _GROUP, groups)
    top = np.argpartition(body.max(axis=1), groups - count, axis=1)[:, groups - count :]
    inside = np.take_along_axis(body, top[:, None, :], axis=2).reshape(k, -1)
    some = np.concatenate([inside, values[:, groups * _GROUP :]], axis=1)
    return np.partition(some, some.shape[1] - count, axis=1)[:, some.shape[1] - count :]
