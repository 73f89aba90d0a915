"""Average precision from matched detections, and whether a difference between two models is more than luck.

Images, not boxes, are drawn anew: the boxes of one photograph succeed and fail together (Efron and Tibshirani, 1993,
chapter 8). Both models meet the same draws: their difference is paired.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
RECALLS = np.linspace(0, 1, 101)
"""Recall levels of the interpolated precision (COCO)."""
REPEATS = 1000
CHUNK = 1 << 17
"""Numbers in a table of right boxes and draws; a dozen such tables are held at once."""
LEVEL = 0.90


@dataclass(frozen=True)
class Matches:
    """What one model's boxes came to on a validation set of n images and C classes, for T IoU thresholds.

    Attributes:
        image: Shape (m,), in [0, n).
        label: Shape (m,), in [0, C).
        confidence: Shape (m,).
        correct: Shape (m, T), bool: the box has a labelled box of its own that it overlaps by the threshold.
        truths: Shape (n, C), labelled boxes.
        overlap: Shape (m,), in [0, 1]: IoU with the labelled box of the same class that it was matched to at the lowest
            threshold, 0 where there is none; None where nobody asked.
    """

    image: NDArray[np.int64]
    label: NDArray[np.int64]
    confidence: Values
    correct: NDArray[np.bool_]
    truths: NDArray[np.int64]
    overlap: Values | None = None

    def __post_init__(self) -> None:
        m, (n, classes) = len(self.image), self.truths.shape
        if self.overlap is not None and self.overlap.shape != (m,):
            raise ValueError(f"overlap must have shape {(m,)}, got {self.overlap.shape}")
        for name, wanted in (("label", (m,)), ("confidence", (m,)), ("correct", (m, self.correct.shape[1]))):
            if getattr(self, name).shape != wanted:
                raise ValueError(f"{name} must have shape {wanted}, got {getattr(self, name).shape}")
        for name, end in (("image", n), ("label", classes)):
            values = getattr(self, name)
            if m and not (values.min() >= 0 and values.max() < end):
                raise ValueError(f"{name} must lie in 0..{end - 1}, got {values.min()} to {values.max()}")
        if not np.isfinite(self.confidence).all():
            raise ValueError("confidence must be finite")

    @property
    def classes(self) -> NDArray[np.int64]:
        """Those that are labelled somewhere."""
        return np.flatnonzero(self.truths.sum(axis=0))


@dataclass(frozen=True)
class Difference:
    """Challenger minus champion.

    Attributes:
        mean: Of mAP50-95 on the set as it is.
        low: Lower bound of the two-sided ``LEVEL`` interval over drawn sets.
        high: Upper bound.
        per_class: Shape (C,), AP50-95 on the set as it is, 0 where a class is not labelled.
        boxes: Shape (C,), labelled boxes of each class.
        images: Images measured on.
    """

    mean: float
    low: float
    high: float
    per_class: Values
    boxes: NDArray[np.int64]
    images: int


def average_precision(found: Matches, draws: NDArray[np.int64] | None = None) -> Values:
    """AP of each class at each threshold, with the interpolation of ultralytics' validator.

    Args:
        found: The model's matches.
        draws: Shape (R, n): how often each draw has each image; None = one draw, every image once.

    Returns:
        Shape (R, C, T), in [0, 1]; NaN where a draw has no labelled box of a class.
    """
    n, classes = found.truths.shape
    every = np.ones((1, n), np.int64) if draws is None else draws
    out = np.full((len(every), classes, found.correct.shape[1]), np.nan)
    hits = {int(c): _hits(found, c) for c in found.classes}
    step = max(1, CHUNK // max([n // 8, *(len(h.image) for h in hits.values())]))
    for first in range(0, len(every), step):
        times = np.ascontiguousarray(every[first : first + step].T, np.float64)
        wanted = found.truths.T @ times
        for c, hit in hits.items():
            there = wanted[c, :, None] > 0
            out[first : first + step, c] = np.where(there, _each_threshold(hit, times, np.maximum(wanted[c], 1)), np.nan)
    return out


@dataclass(frozen=True)
class _Hits:
    """The k boxes of a class that are right at some threshold, in falling confidence.

    Attributes:
        image: Shape (k,).
        correct: Shape (k, T).
        runs: Shape (k, n), sparse: boxes of each image after the previous hit, down to this one.
    """

    image: NDArray[np.int64]
    correct: NDArray[np.bool_]
    runs: Any


def _hits(found: Matches, c: int) -> _Hits:
    from scipy.sparse import csr_array  # as much as the rest of starting a command costs

    rows = np.flatnonzero(found.label == c)
    rows = rows[np.argsort(-found.confidence[rows], kind="stable")]
    at = np.flatnonzero(found.correct[rows].any(axis=1))
    ends = np.concatenate([[0], at + 1])
    each = (np.ones(ends[-1]), found.image[rows[: ends[-1]]], ends)
    hit = rows[at]
    return _Hits(found.image[hit], found.correct[hit], csr_array(each, shape=(len(at), len(found.truths))))


def _each_threshold(hits: _Hits, times: Values, wanted: Values) -> Values:
    """AP of D draws at each threshold: shape (D, T).

    Args:
        hits: Of one class.
        times: Shape (n, D): how often each draw has each image.
        wanted: Shape (D,), above 0: labelled boxes of the class.
    """
    boxes, own = np.cumsum(hits.runs @ times, axis=0), times[hits.image]
    areas = [_area(own[right], boxes[right], wanted) for right in hits.correct.T]
    return np.stack(areas, axis=1)


def _area(own: Values, boxes: Values, wanted: Values) -> Values:
    """Area under the interpolated precision at ``RECALLS``, by trapezoids: shape (D,).

    Between two right boxes precision is a straight line from the best after the last box before the second to the best
    from the second on, so the recall levels between them are summed at once. A draw without the second box has none.

    Args:
        own: Shape (k, D): how often each draw has each right box, in falling confidence.
        boxes: Shape (k, D): boxes of each draw down to that one, with it.
        wanted: Shape (D,), above 0.
    """
    right = np.zeros((len(own) + 1, len(wanted)))
    np.cumsum(own, axis=0, out=right[1:])
    end = np.maximum.accumulate((right[1:] / np.maximum(boxes, 1))[::-1], axis=0)[::-1]
    level = np.ceil(100 * right / wanted)  # RECALLS[level] is the first that is not below
    used = (level[1:] > level[:-1]).any(axis=1)
    level = np.concatenate([level[:1], level[1:][used]])
    weight = np.diff(np.maximum(level - 0.5, 0), axis=0)  # the first level counts half
    moment = np.diff(level * (level - 1), axis=0)
    own, boxes, end, right = own[used], boxes[used], end[used], right[:-1][used]
    before = boxes - own
    start = np.maximum((right + (before == 0)) / np.maximum(before, 1), end)
    slope = (end - start) / np.maximum(own, 1)
    flat = np.einsum("kd,kd->d", weight, start - slope * right)
    return (flat + np.einsum("kd,kd->d", slope, moment) * wanted / 200) / 100


def mean_ap(found: Matches, draws: NDArray[np.int64] | None = None) -> Values:
    """Mean over thresholds and the classes that a draw has: shape (R,), in [0, 1]; NaN for a draw without a box."""
    each = average_precision(found, draws).mean(axis=2)
    there = ~np.isnan(each)
    total = np.where(there, each, 0.0).sum(axis=1)
    return np.where(there.any(axis=1), total / np.maximum(1, there.sum(axis=1)), np.nan)


def drawn(images: int, rng: np.random.Generator, repeats: int = REPEATS) -> NDArray[np.int64]:
    """Sets of as many images drawn with replacement: shape (repeats, images)."""
    return rng.multinomial(images, np.full(images, 1 / images), size=repeats).astype(np.int64)


def interval(values: Values) -> tuple[float, float]:
    """The middle ``LEVEL`` of finite values; (0, 0) of none."""
    known = values[np.isfinite(values)]
    if not len(known):
        return 0.0, 0.0
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return low, high


def compare(champion: Matches, challenger: Matches, rng: np.random.Generator, repeats: int = REPEATS) -> Difference:
    """Paired bootstrap of mAP50-95 over images.

    Args:
        champion: Measured on the validation set.
        challenger: Measured on the same images and labels, in the same order.
        rng: Draws the sets.
        repeats: How many.

    Raises:
        ValueError: Not the same labels, or no labelled box at all.
    """
    if not np.array_equal(champion.truths, challenger.truths):
        raise ValueError("both models must be measured on the same images and labels")
    if not len(champion.classes):
        raise ValueError("the validation set has no labelled box")
    draws = drawn(len(champion.truths), rng, repeats)
    low, high = interval(mean_ap(challenger, draws) - mean_ap(champion, draws))
    before, after = (np.nan_to_num(average_precision(m)[0].mean(axis=1)) for m in (champion, challenger))
    mean = float(mean_ap(challenger)[0] - mean_ap(champion)[0])
    return Difference(mean, low, high, after - before, champion.truths.sum(axis=0), len(champion.truths))
