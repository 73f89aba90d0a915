"""k-means with hundreds of clusters: seeds far apart, then Lloyd's steps on some rows, then all rows to their centre.

Lloyd, IEEE Transactions on Information Theory 1982; seeds by squared distance after Arthur and Vassilvitskii, SODA 2007
(k-means++), drawn many at a time after Bahmani et al., VLDB 2012 (k-means||). Matrix products alone, so that the same
seed gives the same clusters however many threads there are to add things up.
"""

from __future__ import annotations

import numpy as np

from common.domain import Floats, Ints

FIT_ROWS = 20_000
"""Centres are found on so many random rows, or on ``FIT_EACH`` per cluster where that is more."""
FIT_EACH = 40
STEPS = 20
"""Lloyd's steps at most."""

_DRAWS = 20
_TILE = 1 << 20
_SAME = 1e-6


def k_means(features: Floats, count: int, rng: np.random.Generator) -> Ints:
    """The cluster of each row.

    Args:
        features: Shape (n, D), float32, finite, at least one row.
        count: Clusters wanted, at least 1; there are fewer where there are fewer distinct rows.
        rng: Draws the rows that centres are found on, and the seeds.

    Returns:
        Shape (n,), in [0, count).
    """
    most = max(FIT_ROWS, FIT_EACH * count)
    whole = len(features) <= most
    some = features if whole else features[np.sort(rng.choice(len(features), most, replace=False))]
    label, centre = _lloyd(some, _seeds(some, count, rng))
    return label if whole else _nearest(features, centre)[0]


def _seeds(rows: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Shape (k, D), k <= count: rows drawn in proportion to their squared distance to those drawn before."""
    drawn = rng.integers(len(rows), size=1)
    parts = [rows[drawn]]
    apart = _nearest(rows, parts[0])[1]
    left = count - 1
    while left and (apart > 0).any():
        size = min(left, max(1, count // _DRAWS), int(np.count_nonzero(apart)))
        share = apart.astype(np.float64)
        drawn = rng.choice(len(rows), size, replace=False, p=share / share.sum())
        parts.append(rows[drawn])
        apart = np.minimum(apart, _nearest(rows, parts[-1])[1])
        left -= size
    return np.concatenate(parts)


def _lloyd(rows: Floats, centre: Floats) -> tuple[Ints, Floats]:
    """(cluster of each row, centres) after ``STEPS`` steps, or as soon as no row changes its cluster."""
    label, apart = _nearest(rows, centre)
    for _ in range(STEPS):
        centre = _means(rows, label, apart, centre)
        before = label
        label, apart = _nearest(rows, centre)
        if (label == before).all():
            break
    return label, centre


def _means(rows: Floats, label: Ints, apart: Floats, centre: Floats) -> Floats:
    """Mean of each cluster; one without rows moves to a row that is far from its own centre."""
    from scipy.sparse import csr_array  # as much as the rest of starting a command costs

    size = np.bincount(label, minlength=len(centre))
    member = csr_array((np.ones(len(rows), np.float32), label, np.arange(len(rows) + 1)), (len(rows), len(centre)))
    out: Floats = (member.T @ rows) / np.maximum(size, 1).astype(np.float32)[:, None]
    empty = np.flatnonzero(size == 0)
    if len(empty):
        out[empty] = rows[np.argsort(-apart, kind="stable")[: len(empty)]]
    return out


def _nearest(rows: Floats, centre: Floats) -> tuple[Ints, Floats]:
    """(nearest centre of each row, the first one on ties; squared distance to it, 0 where float32 sees none)."""
    label, apart = np.empty(len(rows), np.int64), np.empty(len(rows), np.float32)
    half = np.einsum("ij,ij->i", centre, centre) / 2
    step = max(64, _TILE // len(centre))
    room = np.empty((min(step, len(rows)), len(centre)), np.float32)
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        alike = room[: len(block)]
        np.matmul(block, centre.T, out=alike)
        alike -= half
        at = alike.argmax(axis=1)
        length = np.einsum("ij,ij->i", block, block)
        gap = length - 2 * alike[np.arange(len(at)), at]
        label[start : start + step] = at
        apart[start : start + step] = np.where(gap > _SAME * np.maximum(length, 1), gap, 0)
    return label, apart
