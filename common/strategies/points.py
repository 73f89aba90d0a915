"""Directions of feature rows, read in tiles: how far, how alike, what is covered. Never an N x N matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.domain import Floats, Ints

FARTHEST = 4.0
"""Squared distance of two opposite directions: what every row has while nothing is chosen."""

CLOSE = 1.0
"""Squared distances below this are taken from differences: 2 - 2 cos in float32 would put distances off by 1e-6."""

NOISE = 2e-6
"""More than a float32 cosine is ever off by: picks this much less alike than the best may be the nearest."""

SAME = 1e-12
"""Squared distances below this are ties: 0."""

_TILE = 1 << 19
_CHUNK = 512
_GROUP = 16


class Memory:
    """Distances to anchors that were computed before.

    Attributes:
        anchors: Shape (a,), in the order in which they came.
        near: Shape (n,), squared distance of each row to the nearest anchor it has met.
        met: Shape (n,), how many anchors each row has met.
        computed: Distances the last question cost.
    """

    def __init__(self, n: int) -> None:
        self.computed = 0
        self._clear(n)

    def _clear(self, n: int) -> None:
        self.anchors: Ints = np.zeros(0, np.int64)
        self.near: Floats = np.full(n, FARTHEST, np.float32)
        self.met: Ints = np.zeros(n, np.int64)

    def take_in(self, anchors: Ints) -> None:
        """Add those that are new; start over when one of the old ones is missing."""
        if np.array_equal(anchors, self.anchors):
            return
        new = np.setdiff1d(anchors, self.anchors)
        if len(self.anchors) + len(new) > len(anchors):
            self._clear(len(self.near))
            new = np.asarray(anchors, np.int64)
        self.anchors = np.concatenate([self.anchors, new])


class Points:
    """Directions of feature rows; the array itself is neither copied nor changed.

    Args:
        features: Shape (n, D), float16, float32 or float64, memory-mapped or not, of any length. A row that is not
            finite or has no length in float32 has no direction: it is 1 away from every direction and 0 from other
            such rows, and chosen itself it brings no direction nearer.
        scale: Shape (n,), what each row is multiplied with, 0 = no direction; None = one over its length.

    Attributes:
        usable: Shape (n,), whether the row has a direction.
        memory: Distances to labelled rows, see ``covered``.
    """

    def __init__(self, features: NDArray[Any], scale: Floats | None = None) -> None:
        if features.ndim != 2:
            raise ValueError(f"features must have shape (n, D), got {features.shape}")
        self.features = np.asarray(features)
        self.scale: Floats = self._scales() if scale is None else scale
        self.usable: NDArray[np.bool_] = self.scale > 0
        self.memory = Memory(len(features))

    def __len__(self) -> int:
        return len(self.features)

    @property
    def width(self) -> int:
        """D."""
        return int(self.features.shape[1])

    def take(self, rows: Ints) -> Floats:
        """Unit rows, zero where there is no direction: shape (k, D), float32, a copy."""
        scale = self.scale[rows]
        with np.errstate(invalid="ignore", over="ignore"):
            unit: Floats = np.asarray(self.features[rows], dtype=np.float32) * scale[:, None]
        unit[scale == 0] = 0
        return unit

    def part(self, rows: Ints) -> Points:
        """These rows alone, as unit rows in memory."""
        return Points(self.take(rows), self.usable[rows].astype(np.float32))

    def closest(self, rows: Ints | None, picks: Floats, near: Floats) -> Floats:
        """Squared distance of each row to the nearest of ``picks`` or ``near``, whichever is less.

        Args:
            rows: Shape (k,), None = all.
            picks: Shape (p, D), unit or zero rows, from ``take``.
            near: Shape (k,), squared distances known so far.
        """
        out: Floats = near.copy()
        there = np.einsum("ij,ij->i", picks, picks) > 0.5
        known = picks if there.all() else picks[there]
        alike = np.empty(min(_CHUNK, len(known)) * self._step, np.float32)
        for part, block in self._tiles(rows):
            scale = self.scale[part if rows is None else rows[part]]
            for chunk in range(0, len(known), _CHUNK):
                _meet(block, scale, known[chunk : chunk + _CHUNK], out[part], alike)
            if len(known) < len(picks):
                out[part][scale == 0] = 0
        return out

    def pairs(self) -> Floats:
        """Squared distances among all rows, for a few hundred of them: shape (n, n)."""
        unit = self.take(np.arange(len(self))).astype(np.float64)
        alike = unit @ unit.T
        own = np.diagonal(alike)
        apart: Floats = np.clip(own[:, None] + own[None, :] - 2 * alike, 0, FARTHEST).astype(np.float32)
        apart[apart < SAME] = 0
        apart[~self.usable] = apart[:, ~self.usable] = 1
        apart[np.ix_(~self.usable, ~self.usable)] = 0
        return apart

    def nearest(self, rows: Ints, anchors: Ints) -> tuple[Floats, Ints]:
        """Distance of each row to its nearest anchor, in [0, 2], and which that is (the first one on ties).

        Args:
            rows: Shape (k,), with a direction.
            anchors: Shape (a,), at least one, with a direction.
        """
        similar, which = np.full(len(rows), -np.inf, np.float32), np.zeros(len(rows), np.int64)
        apart = np.zeros(len(rows), np.float32)
        for start in range(0, len(anchors), _CHUNK):
            some = anchors[start : start + _CHUNK]
            theirs = self.take(some)
            for first in range(0, len(rows), self._step):
                part = slice(first, first + self._step)
                mine = self.take(rows[part])
                alike = mine @ theirs.T
                at = alike.argmax(axis=1)
                best = np.take_along_axis(alike, at[:, None], axis=1)[:, 0]
                better = best > similar[part]
                similar[part] = np.where(better, best, similar[part])
                which[part] = np.where(better, some[at], which[part])
                apart[part] = np.where(better, np.linalg.norm(mine - theirs[at], axis=1), apart[part])
        return apart, which

    def likeness(self, rows: Ints, references: Ints, count: int) -> Floats:
        """Mean cosine similarity of each row to the ``count`` references most like it, itself left out.

        Args:
            rows: Shape (k,).
            references: Shape (r,), distinct, more than ``count``.
            count: At least 1.
        """
        out = np.zeros(len(rows), np.float32)
        theirs = self.take(references)
        place = np.full(len(self), -1, np.int64)
        place[references] = np.arange(len(references))
        step = max(16, 16 * _TILE // len(references))
        room = np.empty(step * len(references), np.float32)
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            alike = room[: len(some) * len(references)].reshape(len(some), -1)
            np.matmul(self.take(some), theirs.T, out=alike)
            own = np.flatnonzero(place[some] >= 0)
            alike[own, place[some][own]] = -np.inf
            out[start : start + step] = greatest(alike, count).mean(axis=1)
        return out

    def covered(self, anchors: Ints, rows: Ints, memory: Memory | None = None) -> Floats:
        """Squared distance to the nearest of ``anchors``: shape (n,), exact in ``rows``, an upper bound elsewhere.

        What was computed is remembered as long as these points live: asked again with more anchors (labels that
        arrived since), rows meet the new ones only. Asked without one of them (a label was withdrawn), all is
        computed anew. The array is the memory itself: read it, do not write to it.

        Args:
            anchors: Shape (a,), distinct.
            rows: Shape (k,), distinct.
            memory: What to remember in; None = the memory of these points, which is for labelled rows.
        """
        known = self.memory if memory is None else memory
        known.take_in(anchors)
        known.computed = 0
        for met in np.unique(known.met[rows]).tolist():
            some = rows[known.met[rows] == met]
            late = known.anchors[met:]
            known.computed += len(some) * len(late)
            for start in range(0, len(late), 4 * _CHUNK):
                picks = self.take(late[start : start + 4 * _CHUNK])
                known.near[some] = self.closest(_all_or(some, len(self)), picks, known.near[some])
        known.met[rows] = len(known.anchors)
        return known.near

    def _scales(self) -> Floats:
        scale = np.zeros(len(self.features), np.float32)
        with np.errstate(all="ignore"):
            for part, block in self._tiles(None):
                length = np.sqrt(np.einsum("ij,ij->i", block, block))
                good = np.isfinite(length) & (length > 1e-18)
                scale[part] = np.where(good, 1 / np.where(good, length, 1), 0)
        return scale

    @property
    def _step(self) -> int:
        return max(64, _TILE // max(1, self.width))

    def _tiles(self, rows: Ints | None) -> Iterator[tuple[slice, Floats]]:
        """(which of ``rows``, their features as float32, to be used before the next one)."""
        count = len(self.features) if rows is None else len(rows)
        room = None if self.features.dtype == np.float32 else np.empty((self._step, self.width), np.float32)
        for start in range(0, count, self._step):
            part = slice(start, min(start + self._step, count))
            block = self.features[part if rows is None else rows[part]]
            if room is not None:
                with np.errstate(over="ignore", invalid="ignore"):
                    np.copyto(room[: len(block)], block, casting="unsafe")
                block = room[: len(block)]
            yield part, block


class Keeper:
    """Makes points, and hands the same ones out again while the features stay the same: ``Pool.points``.

    With them comes what they remember (``Points.covered``): of labels that arrived since the last query only the new
    ones are met. Whoever queries one project again and again with one checkpoint keeps one of these per project, in
    memory; lost, everything is computed anew. A new checkpoint has new features, and so starts over by itself.

    Args:
        make: What holds the features, ``Points`` or the like.
    """

    def __init__(self, make: Callable[[NDArray[Any]], Points] = Points) -> None:
        self.make = make
        self.kept: Points | None = None

    def __call__(self, features: NDArray[Any]) -> Points:
        """The points of these features."""
        if self.kept is None or not _same(self.kept.features, features):
            self.kept = self.make(features)
        return self.kept


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


def _meet(block: Floats, scale: Floats, picks: Floats, near: Floats, room: Floats) -> None:
    """Lower ``near``, shape (k,), to the squared distance of ``scale * block`` to the nearest of ``picks``."""
    alike = room[: len(block) * len(picks)].reshape(len(block), len(picks))
    with np.errstate(invalid="ignore", over="ignore"):
        np.matmul(block, picks.T, out=alike)
        best = alike.max(axis=1) * scale
        apart = np.clip(2 - 2 * best, 0, FARTHEST)
    apart[scale == 0] = 1
    close = np.flatnonzero((apart < CLOSE) & (apart < near + 2 * NOISE) & (near > 0))
    if len(close):
        likely = alike[close] >= ((best[close] - NOISE) / scale[close])[:, None]
        apart[close] = _differences(block[close] * scale[close, None], picks, likely)
    np.minimum(near, apart, out=near)


def _differences(mine: Floats, picks: Floats, likely: NDArray[np.bool_]) -> Floats:
    """Squared distance of each row to the nearest of its likely picks, from differences: shape (k,)."""
    row, pick = np.nonzero(likely)
    exact = np.empty(len(row), np.float32)
    step = max(64, _TILE // max(1, mine.shape[1]))
    for start in range(0, len(row), step):
        gap = mine[row[start : start + step]] - picks[pick[start : start + step]]
        exact[start : start + step] = np.einsum("ij,ij->i", gap, gap)
    exact[exact < SAME] = 0
    nearest: Floats = np.minimum.reduceat(exact, np.searchsorted(row, np.arange(len(mine))))
    return nearest


def _all_or(rows: Ints, n: int) -> Ints | None:
    """None for all rows in their order: they need not be gathered."""
    return None if len(rows) == n and bool((rows == np.arange(n)).all()) else rows


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Equal bit for bit, so that NaN equals NaN."""
    if one is other:
        return True
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    step = max(1, _TILE // max(1, one.shape[1]))
    tiles = (slice(i, i + step) for i in range(0, len(one), step))
    return all(np.array_equal(_bits(one[t]), _bits(other[t])) for t in tiles)


def _bits(block: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(block).view(np.uint8)
