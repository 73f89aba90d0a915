"""Average precision from matched detections, and whether a difference between two models is more than luck.

Images, not boxes, are drawn anew: the boxes of one photograph succeed and fail together (Efron and Tibshirani, 1993,
chapter 8). Both models meet the same draws: their difference is paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
RECALLS = np.linspace(0, 1, 101)
"""Recall levels of the interpolated precision (COCO)."""
REPEATS = 1000
CHUNK = 1 << 17
"""Numbers in one table of right boxes by draws, 1 MB; several are held at once."""
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
    every = np.ones((1, len(found.truths)), np.int64) if draws is None else draws
    out = np.full((len(every), found.truths.shape[1], found.correct.shape[1]), np.nan)
    hits = {int(c): _hits(found, c) for c in found.classes}
    step = max(1, CHUNK // max([1, *(len(hit.image) for hit in hits.values())]))
    for first in range(0, len(every), step):
        times = np.ascontiguousarray(every[first : first + step].T, np.float64)
        wanted = found.truths.T @ times
        for c, hit in hits.items():
            values = _each_threshold(hit, times, np.maximum(wanted[c], 1))
            out[first : first + step, c] = np.where(wanted[c, :, None] > 0, values, np.nan)
    return out


@dataclass(frozen=True)
class _Hits:
    """The k boxes of a class that are right at some threshold, in falling confidence.

    Attributes:
        image: Shape (k,).
        gaps: Sparse, shape (k, n): the class's boxes in each image from below the hit above down to this one.
        runs: For each threshold, the first and the last hit of each run: right boxes without a wrong one in between.
    """

    image: NDArray[np.int64]
    gaps: Any
    runs: list[tuple[NDArray[np.int64], NDArray[np.int64]]]


def _hits(found: Matches, c: int) -> _Hits:
    from scipy.sparse import csr_array  # 0.1 s, which commands that measure nothing need not wait

    boxes = np.flatnonzero(found.label == c)
    boxes = boxes[np.argsort(-found.confidence[boxes], kind="stable")]
    correct, image = found.correct[boxes], found.image[boxes]
    hit = np.flatnonzero(correct.any(axis=1))
    ends = np.concatenate([[0], hit + 1])
    gaps = csr_array((np.ones(ends[-1]), image[: ends[-1]], ends), shape=(len(hit), len(found.truths)))
    return _Hits(image[hit], gaps, [_runs(hit, np.flatnonzero(right)) for right in correct[hit].T])


def _runs(place: NDArray[np.int64], right: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last of each run of the hits ``right``; ``place`` is that of each hit among all boxes of the class."""
    apart = np.diff(place[right]) > 1
    edge = np.ones(min(1, len(right)), bool)
    return right[np.concatenate([edge, apart])], right[np.concatenate([apart, edge])]


def _each_threshold(hits: _Hits, times: Values, wanted: Values) -> Values:
    """AP of a class in D draws at each threshold: shape (D, T).

    Args:
        hits: Of the class.
        times: Shape (n, D): how often each draw has each image.
        wanted: Shape (D,), at least 1: labelled boxes.
    """
    boxes = np.cumsum(hits.gaps @ times, axis=0)
    before = boxes - times[hits.image]
    return np.stack([_area(before[first], boxes[last], wanted) for first, last in hits.runs], axis=1)


def _area(before: Values, boxes: Values, wanted: Values) -> Values:
    """Area under the interpolated precision, by trapezoids between ``RECALLS``: shape (D,).

    Recall rises in runs of right boxes only, and precision with it: from the recall before a run up to that with it the
    interpolation is the best precision from its end on, and 0 after the last. A run that a draw lacks covers no level.

    Args:
        before: Shape (k, D): boxes of each draw above each run, in falling confidence.
        boxes: Shape (k, D): the same with the run.
        wanted: Shape (D,), at least 1: labelled boxes.
    """
    right = np.zeros((len(boxes) + 1, len(wanted)))
    np.cumsum(boxes - before, axis=0, out=right[1:])
    best = np.maximum.accumulate((right[1:] / np.maximum(boxes, 1))[::-1], axis=0)[::-1]
    level = np.ceil(100 * right / wanted)  # of RECALLS, the first that is reached
    covered = np.diff(np.maximum(level - 0.5, 0), axis=0)  # the first level counts half
    return cast(Values, np.einsum("kd,kd->d", covered, best) / 100)


def mean_ap(found: Matches, draws: NDArray[np.int64] | None = None) -> Values:
    """Mean over thresholds and the classes that a draw has: shape (R,), in [0, 1]; NaN for a draw without a box."""
    return over_classes(average_precision(found, draws).mean(axis=2))


def over_classes(each: Values) -> Values:
    """Mean over the classes that are there: shape (R,) of (R, C); NaN where none is."""
    there = ~np.isnan(each)
    total = np.where(there, each, 0.0).sum(axis=1)
    return np.where(there.any(axis=1), total / np.maximum(1, there.sum(axis=1)), np.nan)


def figures(found: Matches, classes: Sequence[str]) -> dict[str, float]:
    """What a validation set says about a model, in numbers of [0, 1].

    Args:
        found: The model's matches; T is at least 1, the first threshold is IoU .5.
        classes: C names.

    Returns:
        ``map50`` and ``map5095``, means over the classes that are labelled in the set (0 where none is), and
        ``ap50/<class>`` and ``ap5095/<class>`` of each of those; a class that is never found has 0.
    """
    each = average_precision(found)[0]
    answer = {}
    for name, values in (("50", each[:, 0]), ("5095", each.mean(axis=1))):
        answer[f"map{name}"] = float(np.nan_to_num(over_classes(values[None])[0]))
        answer |= {f"ap{name}/{classes[c]}": float(values[c]) for c in found.classes}
    return answer


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
    before, after = (average_precision(m).mean(axis=2) for m in (champion, challenger))
    mean = float(over_classes(after)[0] - over_classes(before)[0])
    per_class = np.nan_to_num(after[0] - before[0])
    return Difference(mean, low, high, per_class, champion.truths.sum(axis=0), len(champion.truths))
