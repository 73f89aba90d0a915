"""Directions of feature rows, read in tiles: how far, how alike, what is covered. Never an N x N matrix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.domain import Floats, Ints
from common.strategies.distances import FARTHEST, SAME, TILE, Memory, Nearest, greatest, meet, unit_rows

_CHUNK = 512
_PAIRS = 1 << 15
"""Numbers in float64 that stay in the cache several times."""
_PLAIN = (1e-15, 1e15)
"""Rows of another length are kept as unit rows: float32 products would not hold them."""


class Points:
    """Directions of feature rows; the array itself is neither copied nor changed.

    Args:
        features: Shape (n, D), float16, float32 or float64, memory-mapped or not, of any length. A row that is zero
            or not finite has no direction: it is 1 away from every direction and 0 from other such rows, and chosen
            itself it brings no direction nearer.
        scale: Shape (n,), what each row is multiplied with, 0 = no direction; None = one over its length.

    Attributes:
        usable: Shape (n,), whether the row has a direction.
        memory: Distances to labelled rows, see ``covered``.
    """

    def __init__(self, features: NDArray[Any], scale: Floats | None = None) -> None:
        if features.ndim != 2:
            raise ValueError(f"features must have shape (n, D), got {features.shape}")
        self.features = np.asarray(features)
        self._odd: Ints = np.full(len(features), -1, np.int64)
        self._units: Floats = np.zeros((0, self.width), np.float32)
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
            unit: Floats = np.array(self.features[rows], dtype=np.float32)
            self._put_units(unit, self._odd[rows])
            unit *= scale[:, None]
        unit[scale == 0] = 0
        return unit

    def part(self, rows: Ints) -> Points:
        """These rows alone, as unit rows in memory."""
        return Points(self.take(rows), self.usable[rows].astype(np.float32))

    def closest(self, rows: Ints | None, picks: Floats, near: Floats) -> tuple[Floats, Ints]:
        """Squared distance of each row to the nearest of ``picks`` or ``near``, whichever is less; and to which pick.

        Args:
            rows: Shape (k,), None = all.
            picks: Shape (p, D), unit or zero rows, from ``take``.
            near: Shape (k,), squared distances known so far.

        Returns:
            Shape (k,), distances off by less than ``ROUGH``; shape (k,), place in ``picks``, -1 = none is nearer.
        """
        out: Floats = near.copy()
        found = np.full(len(near), -1, np.int64)
        there = np.flatnonzero(np.einsum("ij,ij->i", picks, picks) > 0.5)
        known = picks if len(there) == len(picks) else picks[there]
        alike = np.empty(min(_CHUNK, len(known)) * self._step, np.float32)
        for part, block in self._tiles(rows):
            scale = self.scale[part if rows is None else rows[part]]
            for chunk in range(0, len(known), _CHUNK):
                place = meet(block, scale, known[chunk : chunk + _CHUNK], out[part], alike)
                found[part] = np.where(place < 0, found[part], there[place + chunk])
            if len(known) < len(picks):
                out[part][scale == 0] = 0
        return out, found

    def exact(self, rows: Ints, near: Nearest) -> Floats:
        """Squared distance of each row to the row that lies nearest, anew in float64: shape (k,), rounded to float32.

        Distances that are equal come out equal, whatever ``closest`` made of them. What lies nearest to nobody knows
        which row stays as it is.

        Args:
            rows: Shape (k,).
            near: Of these rows.
        """
        out: Floats = near.squared.copy()
        known = np.flatnonzero((near.row >= 0) & self.usable[rows])
        step = max(16, _PAIRS // max(1, self.width))
        for start in range(0, len(known), step):
            some = known[start : start + step]
            gap = unit_rows(self.features[rows[some]]) - unit_rows(self.features[near.row[some]])
            out[some] = np.einsum("ij,ij->i", gap, gap)
        out[out < SAME] = 0
        return out

    def pairs(self, rows: Ints) -> Floats:
        """Squared distances among a few hundred rows, as exact as by ``exact``: shape (k, k).

        In each line what picking that row makes of the others: one without a direction is 1 away from every direction,
        but brings none nearer.
        """
        unit, none = unit_rows(self.features[rows]), ~self.usable[rows]
        alike = unit @ unit.T
        own = np.diagonal(alike)
        apart: Floats = np.clip(own[:, None] + own[None, :] - 2 * alike, 0, FARTHEST).astype(np.float32)
        apart[apart < SAME] = 0
        apart[none] = FARTHEST
        apart[:, none] = 1
        apart[np.ix_(none, none)] = 0
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
        step = max(16, 16 * TILE // len(references))
        room = np.empty(step * len(references), np.float32)
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            alike = room[: len(some) * len(references)].reshape(len(some), -1)
            np.matmul(self.take(some), theirs.T, out=alike)
            own = np.flatnonzero(place[some] >= 0)
            alike[own, place[some][own]] = -np.inf
            out[start : start + step] = greatest(alike, count).mean(axis=1)
        return out

    def covered(self, anchors: Ints, rows: Ints, memory: Memory | None = None) -> Nearest:
        """The nearest of ``anchors`` to each of the n rows: true in ``rows``, an upper bound elsewhere.

        What was computed is remembered as long as these points live: asked again with more anchors (labels that
        arrived since), rows meet the new ones only. Asked without one of them (a label was withdrawn), all is
        computed anew. The answer is the memory itself: read it, do not write to it.

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
                others = late[start : start + 4 * _CHUNK]
                closest = self.closest(_all_or(some, len(self)), self.take(others), known.near.squared[some])
                known.near.lower(some, *closest, others)
        known.met[rows] = len(known.anchors)
        return known.near

    def _scales(self) -> Floats:
        """One over each row's length; rows that are too long or short for float32 are kept as unit rows instead."""
        scale = np.zeros(len(self.features), np.float32)
        rows, units = [self._odd[:0]], [self._units]
        for part, block in self._tiles(None):
            with np.errstate(all="ignore"):
                length = np.sqrt(np.einsum("ij,ij->i", block, block))
            plain = (length > _PLAIN[0]) & (length < _PLAIN[1])
            scale[part] = np.where(plain, 1 / np.where(plain, length, 1), 0)
            odd = part.start + np.flatnonzero(~plain)
            unit = unit_rows(self.features[odd])
            there = unit.any(axis=1)
            rows.append(odd[there])
            units.append(unit[there].astype(np.float32))
        found = np.concatenate(rows)
        scale[found], self._odd[found], self._units = 1, np.arange(len(found)), np.concatenate(units)
        return scale

    def _put_units(self, block: NDArray[Any], odd: Ints) -> None:
        """Write the unit rows that are kept into a block; ``odd``: which one each of its rows has, -1 = none."""
        if len(self._units) == 0:
            return
        at = np.flatnonzero(odd >= 0)
        block[at] = self._units[odd[at]]

    @property
    def _step(self) -> int:
        return max(64, TILE // max(1, self.width))

    def _tiles(self, rows: Ints | None) -> Iterator[tuple[slice, Floats]]:
        """(which of ``rows``, their features as float32, to be used before the next one)."""
        count = len(self.features) if rows is None else len(rows)
        room = None if self.features.dtype == np.float32 else np.empty((self._step, self.width), np.float32)
        for start in range(0, count, self._step):
            part = slice(start, min(start + self._step, count))
            block = self.features[part if rows is None else rows[part]]
            if room is not None:
                with np.errstate(over="ignore", invalid="ignore", under="ignore"):
                    np.copyto(room[: len(block)], block, casting="unsafe")
                block = room[: len(block)]
            if len(self._units):
                block = block if room is not None or rows is not None else np.array(block)
                self._put_units(block, self._odd[part if rows is None else rows[part]])
            yield part, block


def _all_or(rows: Ints, n: int) -> Ints | None:
    """None for all rows in their order: they need not be gathered."""
    return None if len(rows) == n and bool((rows == np.arange(n)).all()) else rows
