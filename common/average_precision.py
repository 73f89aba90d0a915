"""Average precision from matched detections, and whether a difference between two models is more than luck.

Images, not boxes, are drawn anew: the boxes of one photograph succeed and fail together (Efron and Tibshirani, 1993,
chapter 8). Both models meet the same draws: their difference is paired.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import trapezoid

Values = NDArray[np.float64]
RECALLS = np.linspace(0, 1, 101)
"""Recall levels of the interpolated precision (COCO)."""
REPEATS = 1000
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
    """

    image: NDArray[np.int64]
    label: NDArray[np.int64]
    confidence: Values
    correct: NDArray[np.bool_]
    truths: NDArray[np.int64]

    def __post_init__(self) -> None:
        m, (n, classes) = len(self.image), self.truths.shape
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
    times = np.ones((1, n), np.int64) if draws is None else draws
    out = np.full((len(times), classes, found.correct.shape[1]), np.nan)
    order = np.argsort(-found.confidence, kind="stable")
    for c in found.classes:
        rows = order[found.label[order] == c]
        wanted = times @ found.truths[:, c]
        for r in np.flatnonzero(wanted):
            out[r, c] = _one(found.correct[rows], times[r, found.image[rows]], int(wanted[r]))
    return out


def _one(correct: NDArray[np.bool_], times: NDArray[np.int64], wanted: int) -> Values:
    """AP at each threshold of boxes in falling confidence, each there so many times."""
    correct, times = correct[times > 0], times[times > 0]
    out = np.zeros(correct.shape[1])
    if not len(times):
        return out
    right = np.cumsum(correct * times[:, None], axis=0)
    precision = right / np.cumsum(times)[:, None]
    recall = right / wanted
    for t in range(correct.shape[1]):
        at = np.concatenate([[0.0], recall[:, t], [recall[-1, t], 1.0]])
        best = np.maximum.accumulate(np.concatenate([[1.0], precision[:, t], [0.0, 0.0]])[::-1])[::-1]
        out[t] = trapezoid(np.interp(RECALLS, at, best), RECALLS)
    return out


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
