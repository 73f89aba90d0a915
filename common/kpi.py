"""Figures about time and labels: how long an image waits, what an answer takes, what the order saved. Pure.

Times are seconds. What a figure means, and when it is not told, is in docs/savings.md.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.learning_curve import Curve

Values = NDArray[np.float64]

ENOUGH = 20
"""A typical time is told from so many answers on."""
LEVEL = 0.90
"""Of the intervals."""
FENCE = 3.0
"""An answer further than this many quartile distances above the upper quartile is a break (Tukey 1977, "far out")."""
WEEK_S = 7 * 86400.0
RECENT_WEEKS = 4
"""Rounds per week are counted over so many weeks."""
KINDS = {"prediction": "accepted", "prediction-changed": "edited", "manual": "drawn"}
"""Origin of a box in a person's answer -> what the person did."""


@dataclass(frozen=True)
class Typical:
    """The median of n values, with its interval; all in the unit of the values."""

    n: int
    median: float
    low: float
    high: float


def waits(first: Values, listed: Values, activated: Values) -> Values:
    """Seconds from when an image's place became active to its first label: the newest order before the label counts.

    Args:
        first: Shape (n,), when each image got its first label.
        listed: Shape (n,), when each image was first seen on the platform: one that came later waits from then.
        activated: Shape (P,), when each order became active, ascending.

    Returns:
        Shape (m,), m <= n, not negative: images labelled before the first order, or before they were listed, waited
        for nothing and are left out.
    """
    newest = np.searchsorted(activated, first, side="right") - 1
    served = newest >= 0
    found = first[served] - np.maximum(activated[newest[served]], listed[served])
    return np.asarray(found[found >= 0], np.float64)


def break_limit(seconds: Values) -> float:
    """Answers that took longer than this hold a break: the outer fence on logarithms, times being skewed.

    Args:
        seconds: Shape (n,), positive. Fewer than ``ENOUGH``, or mostly equal ones, have no such limit: infinity.
    """
    if len(seconds) < ENOUGH:
        return math.inf
    low, high = np.quantile(np.log(seconds), [0.25, 0.75])
    return float(np.exp(high + FENCE * (high - low))) if high > low else math.inf


def typical(values: Values) -> Typical | None:
    """The median with its distribution-free interval from ranks (Conover 1999, 3.2); None below ``ENOUGH`` values."""
    from scipy.stats import binom  # a third of what starting a command would cost

    n = len(values)
    if n < ENOUGH:
        return None
    ranked = np.sort(values)
    below = int(binom.ppf((1 - LEVEL) / 2, n, 0.5))
    return Typical(n, float(np.median(ranked)), float(ranked[max(0, below - 1)]), float(ranked[min(n - 1, n - below)]))


def difference(one: Typical, other: Typical) -> tuple[float, float, float]:
    """(one - other, its low, its high), from the two intervals (Zou and Donner, Statistics in Medicine 2008)."""
    mean = one.median - other.median
    low = mean - math.hypot(one.median - one.low, other.high - other.median)
    return mean, low, mean + math.hypot(one.high - one.median, other.median - other.low)


def tally(boxes: Iterable[tuple[str, str]]) -> dict[str, Counter[str]]:
    """Class -> how many boxes were accepted, edited, drawn.

    Args:
        boxes: (class, origin) of each, origins as in ``LabelledBox``.
    """
    found: dict[str, Counter[str]] = {}
    for name, origin in boxes:
        found.setdefault(name, Counter())[KINDS[origin]] += 1
    return found


def shares(counts: Mapping[str, int]) -> dict[str, float]:
    """Each count as a share of all, in [0, 1]; empty of nothing."""
    total = sum(counts.values())
    return {k: v / total for k, v in counts.items()} if total else {}


def per_week(ends: Sequence[float], since: float, now: float) -> float:
    """Rounds that ended in the last ``RECENT_WEEKS`` weeks, per week.

    Args:
        ends: When rounds ended.
        since: When the first one started; a project younger than that many weeks is counted over its age, at least one
            week.
        now: The present.
    """
    weeks = min(float(RECENT_WEEKS), max(1.0, (now - since) / WEEK_S))
    return sum(now - end <= weeks * WEEK_S for end in ends) / weeks


def saved(curve: Curve, labels: int, gained: float) -> float | None:
    """Share of labels that the order saved against drawing by chance: 1 - n_eq / n.

    n_eq is where the curve, moved up or down to pass through the chosen training's value at n, has the control's value:
    m(n_eq) = m(n) - gained, so n_eq = n (1 + gained n^c / b)^(-1 / c). ``a`` falls out.

    Args:
        curve: Of the project: a - b n^-c.
        labels: n, both trainings had so many.
        gained: Quality of the chosen training minus the control's.

    Returns:
        Below 1; negative where the order cost labels. None where the curve cannot say: it is flat, or no number of
        chosen labels would reach the control.
    """
    reach = 1 + gained * labels**curve.c / curve.b if curve.b > 0 else 0.0
    return 1 - reach ** (-1 / curve.c) if reach > 0 else None
