"""The learning curve: quality against labels, what the next labels would bring, and when to stop.

m(n) = a - b n^-c, the power law of learning curves (Cortes et al., NIPS 1993; Hestness et al., 2017). With few rounds
the exponent cannot be told from noise and is fixed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

FIXED = 0.5
"""Exponent below ``FREE_FROM`` rounds."""
FREE_FROM = 5
EXPONENTS = (0.05, 2.0)
"""Range of a fitted exponent."""
ROUNDS = 3
"""Advice needs so many rounds."""
UNDER = 2
"""So many successive rounds under the limit say stop: one may be bad luck."""
GAIN = 0.015
"""Default limit: mAP50 per 100 labels."""


@dataclass(frozen=True)
class Measured:
    """One round on the curve.

    Attributes:
        labels: It was trained on so many labelled samples, at least 1.
        value: Its quality, in [0, 1].
    """

    labels: int
    value: float


@dataclass(frozen=True)
class Curve:
    """m(n) = a - b n^-c; b and c are not negative, so that m never falls."""

    a: float
    b: float
    c: float

    def at(self, labels: float) -> float:
        """Expected quality with so many labels; may leave [0, 1] far from what was measured."""
        return self.a - self.b * math.pow(labels, -self.c)


@dataclass(frozen=True)
class Advice:
    """Whether further labels are worth their price.

    Attributes:
        action: 'continue', 'stop', or 'wait' while there are too few rounds.
        reason: In one sentence.
        gain: Quality gained by the last labels, per 100 of them; None before the second round.
        predicted: Quality that the next ``labels`` labels would bring; None before the third round.
        labels: How many that is.
    """

    action: str
    reason: str
    gain: float | None = None
    predicted: float | None = None
    labels: int = 0


def fit(points: Sequence[Measured]) -> Curve:
    """Least squares: a and b in closed form, c by a bounded search from ``FREE_FROM`` rounds on.

    Args:
        points: At least two, of different numbers of labels.

    Raises:
        ValueError: Fewer.
    """
    from scipy.optimize import minimize_scalar  # commands start sooner

    labels = np.array([p.labels for p in points], np.float64)
    values = np.array([p.value for p in points], np.float64)
    if len(set(labels.tolist())) < 2:
        raise ValueError("a curve needs rounds with at least two different numbers of labels")
    if len(points) < FREE_FROM:
        return _line(labels, values, FIXED)[0]
    found = minimize_scalar(lambda c: _line(labels, values, c)[1], bounds=EXPONENTS, method="bounded")
    return _line(labels, values, float(found.x))[0]


def _line(labels: Values, values: Values, c: float) -> tuple[Curve, float]:
    """(the best curve with this exponent, its sum of squared errors)."""
    x = labels**-c
    spread = x - x.mean()
    b = max(0.0, -float(spread @ (values - values.mean())) / float(spread @ spread))
    a = float(values.mean() + b * x.mean())
    return Curve(a, b, c), float(np.square(values - (a - b * x)).sum())


def gains(points: Sequence[Measured]) -> list[float]:
    """Quality gained per 100 labels between each round and the one before; one entry fewer than points."""
    pairs = pairwise(points)
    return [100 * (after.value - before.value) / (after.labels - before.labels) for before, after in pairs]


def rising(points: Sequence[Measured]) -> list[Measured]:
    """Ordered by labels; of rounds with as many labels the last one given counts."""
    newest = {p.labels: p for p in points}
    return [newest[labels] for labels in sorted(newest)]


def advise(points: Sequence[Measured], next_labels: int, limit: float = GAIN) -> Advice:
    """Stop after ``UNDER`` successive rounds that gained less than ``limit`` per 100 labels.

    Args:
        points: The rounds so far in the order they were made, all measured on the same images.
        next_labels: The next round would have so many labels more, at least 1.
        limit: Quality per 100 labels.
    """
    rounds = rising(points)
    each = gains(rounds)
    last = each[-1] if each else None
    if len(rounds) < ROUNDS:
        return Advice("wait", f"{len(rounds)} of {ROUNDS} rounds that advice needs", last, None, next_labels)
    curve, have = fit(rounds), rounds[-1].labels
    predicted = curve.at(have + next_labels) - curve.at(have)
    recent = each[-UNDER:]
    told = " and ".join(f"{gain:+.4f}" for gain in recent)
    expected = f"the next {next_labels} labels are expected to bring {predicted:+.4f}"
    if all(gain < limit for gain in recent):
        reason = f"the last {UNDER} rounds gained {told} per 100 labels, less than {limit:g}; {expected}"
        return Advice("stop", reason, last, predicted, next_labels)
    reason = f"the last rounds gained {told} per 100 labels, the limit is {limit:g}; {expected}"
    return Advice("continue", reason, last, predicted, next_labels)
