"""What must not take part in a race: near-duplicates of what is there, and images unlike all others.

Also the features every strategy shares: standardised directions, and typicality.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.domain import Floats, Ints
from common.strategies.distances import unit_rows
from common.strategies.points import Points
from common.strategies.pool import Mask, Pool, Values

_TILE = 1 << 18
_HUGE = 1e15
"""Rows with numbers so many times greater than usual would decide the mean and the deviation alone."""
_PLAIN = 40
"""Features up to 2 to this power, or its inverse, are counted in 1."""


def directions(embeddings: NDArray[Any], use: Mask, make: Callable[[NDArray[Any]], Points] = Points) -> Points:
    """Embeddings z-scored over the pool and L2-normed: shape (n, D), float32.

    Every row that is finite and not the mean itself has a direction, whatever numbers it holds: they are counted in the
    greatest number of the median row. Rows with numbers above 1e15 of those take no part in the mean and the deviation.

    Args:
        embeddings: Shape (n, D), raw.
        use: Shape (n,), rows the mean and the deviation are taken over; the others have no direction,
            nor has a row that is not finite. A column that hardly varies is left out.
        make: What holds the result.
    """
    out = np.zeros(embeddings.shape, np.float32)
    peak = _peaks(embeddings)
    good = use & np.isfinite(peak)
    exponent = _exponent(peak[good & (peak > 0)])
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        huge = good & (np.ldexp(peak, -exponent) > _HUGE)
    good &= ~huge
    mean, spread = _moments(embeddings, good, exponent)
    varies = spread > 1e-6 * max(1e-12, float(np.abs(mean).max(initial=0)), float(spread.max(initial=0)))
    scale = np.divide(1, spread, out=np.zeros_like(spread), where=varies).astype(np.float32)
    for part, block in _blocks(embeddings, exponent):
        block[~good[part]] = mean.astype(np.float32)
        block -= mean.astype(np.float32)
        block *= scale
        length = np.sqrt(np.einsum("ij,ij->i", block, block))[:, None]
        np.divide(block, length, out=out[part], where=length > 1e-6)
    rows = np.flatnonzero(huge)
    out[rows] = unit_rows(unit_rows(embeddings[rows]) * scale)  # what the mean adds is too little to be seen
    return make(out)


def _peaks(embeddings: NDArray[Any]) -> Values:
    """Greatest absolute value of each row: shape (n,), float64, NaN or infinite where a row is not finite."""
    out = np.zeros(len(embeddings))
    step = max(16, _TILE // max(1, embeddings.shape[1]))
    with np.errstate(invalid="ignore"):
        for start in range(0, len(embeddings), step):
            out[start : start + step] = np.abs(embeddings[start : start + step]).max(axis=1, initial=0)
    return out


def _exponent(peaks: Values) -> int:
    """Of the power of two that features are counted in: the median row's; 0 where float32 needs no help."""
    if len(peaks) == 0:
        return 0
    middle = (len(peaks) - 1) // 2
    exponent = int(np.frexp(np.partition(peaks, middle)[middle])[1])
    return exponent if abs(exponent) > _PLAIN else 0


def _moments(embeddings: NDArray[Any], good: Mask, exponent: int) -> tuple[Values, Values]:
    """(mean, standard deviation) of good rows, by one pass for the mean and one for the deviation."""
    total = np.zeros(embeddings.shape[1])
    for part, block in _blocks(embeddings, exponent):
        total += _kept(block, good[part]).sum(axis=0, dtype=np.float64)
    count = max(1, int(good.sum()))
    mean = total / count
    square = np.zeros_like(mean)
    for part, block in _blocks(embeddings, exponent):
        gap = _kept(block, good[part]) - mean.astype(np.float32)
        square += np.einsum("ij,ij->j", gap, gap)
    return mean, np.sqrt(square / count)


def _kept(block: Floats, good: Mask) -> Floats:
    return block if good.all() else block[good]


def _blocks(embeddings: NDArray[Any], exponent: int) -> Iterator[tuple[slice, Floats]]:
    """Rows over 2 to the ``exponent`` in tiles that stay in the cache, as float32 of their own."""
    step = max(16, _TILE // max(1, embeddings.shape[1]))
    for start in range(0, len(embeddings), step):
        part = slice(start, start + step)
        with np.errstate(all="ignore"):
            block = np.ldexp(embeddings[part].astype(np.float64), -exponent) if exponent else embeddings[part]
            block = np.array(block, np.float32)
        yield part, block


def typicality(points: Points, rows: Ints, references: Ints, neighbours: int = 20) -> Floats:
    """Mean cosine similarity to the nearest ``neighbours`` references, itself left out.

    After Hacohen et al., ICML 2022 (TypiClust, section 3), with cosine similarity for inverse distance.

    Args:
        points: N rows.
        rows: Shape (k,), the rows asked about.
        references: Shape (r,), the rows compared with.
        neighbours: At most as many as there are references are used.

    Returns:
        Shape (k,), in [-1, 1], higher = more typical; 0 with nothing to compare with.
    """
    if len(references) < 2 or len(rows) == 0:
        return np.zeros(len(rows), np.float32)
    found: Floats = np.clip(points.likeness(rows, references, min(neighbours, len(references) - 1)), -1, 1)
    return found


def sample(rows: Ints, most: int, rng: np.random.Generator) -> Ints:
    """At most ``most`` of ``rows``, random, ascending."""
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


def outliers(likeness: NDArray[Any], usable: Mask) -> Mask:
    """Rows below median - 3 * 1.4826 * MAD of typicality, and rows without a direction where others have one.

    Args:
        likeness: Shape (k,), from ``typicality``.
        usable: Shape (k,), whether the row has a direction.

    Returns:
        Shape (k,). Nothing when no row has a direction; nothing but such rows when the MAD is 0.
    """
    if not usable.any():
        return np.zeros(len(usable), bool)
    values = np.asarray(likeness, np.float64)
    middle = np.median(values[usable])
    mad = np.median(np.abs(values[usable] - middle))
    low = values < middle - 3 * 1.4826 * mad if mad > 1e-9 else np.zeros(len(values), bool)
    return low | ~usable


def duplicates(group: Ints, candidates: Ints, labelled: Mask, value: Values) -> Mask:
    """Candidates that wait for the end: every member of a group but the best, and all where one member is labelled.

    Args:
        group: Shape (n,), -1 = none.
        candidates: Shape (k,), ascending.
        labelled: Shape (n,).
        value: Shape (n,), the better member is the one with the greater value, then the lower index.

    Returns:
        Shape (k,), True = deferred.
    """
    mine = group[candidates]
    order = np.lexsort((candidates, -value[candidates], mine))
    first = np.zeros(len(candidates), bool)
    first[order] = np.diff(mine[order], prepend=-2) != 0
    known = np.unique(group[labelled & (group >= 0)])
    return (mine >= 0) & (~first | np.isin(mine, known))


@dataclass(frozen=True)
class Screened:
    """Candidates, and those among them that must wait.

    Attributes:
        points: Directions of all pool rows.
        free: Shape (k,), ascending: candidates that race.
        deferred: Near-duplicates.
        outliers: Images unlike all others.
        likeness: Shape (n,), typicality of unlabelled readable images, 0 elsewhere.
    """

    points: Points
    free: Ints
    deferred: Ints
    outliers: Ints
    likeness: Floats


def screen(
    pool: Pool,
    value: Values,
    rng: np.random.Generator,
    *,
    deduplicate: bool,
    guard: bool,
    references: int = 10_000,
    neighbours: int = 20,
) -> Screened:
    """Steps 1 and 5 of hybrid, which every other strategy may borrow.

    Args:
        pool: The pool.
        value: Shape (n,), chooses the one candidate per near-duplicate group.
        rng: Draws the reference rows.
        deduplicate: Step 1: one candidate per near-duplicate group.
        guard: Step 5: hold outliers back.
        references: Most reference rows.
        neighbours: Of each candidate among them.
    """
    points = directions(pool.embeddings, pool.readable, pool.points)
    rows = pool.candidates
    late = duplicates(pool.group, rows, pool.labelled, value) if deduplicate else np.zeros(len(rows), bool)
    repeats = np.zeros(len(pool), bool)
    repeats[rows[late]] = True
    compared = np.flatnonzero(pool.readable & points.usable & ~repeats)
    likeness = np.zeros(len(pool), np.float32)
    asked = np.flatnonzero(pool.readable & ~pool.labelled)
    likeness[asked] = typicality(points, asked, sample(compared, references, rng), neighbours)
    odd = np.zeros(len(rows), bool)
    if guard:
        odd[~late] = outliers(likeness[rows[~late]], points.usable[rows[~late]])
    return Screened(points, rows[~late & ~odd], rows[late], rows[odd & ~late], likeness)
