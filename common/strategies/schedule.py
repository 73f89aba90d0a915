"""Where the random slice stands in a queue: a share of the places, in hash order, for ever."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from common.domain import Ints

_FINEST = 10**9
"""Shares are whole fractions up to this denominator: 1/3 in float64 is a third again."""


def places(start: int, count: int, share: float) -> slice:
    """Which members of the slice queue are served in the places ``start`` to ``start + count``."""
    rate = _rate(share)
    return slice(int(start * rate), int((start + count) * rate))


def merge(main: Ints, visitors: Ints, share: float) -> Ints:
    """Main order with visitors in between, each in its order; whoever is left over follows.

    Of the first m places floor(m * share) are for visitors: number j, counted from 1, stands in place ceil(j / share),
    counted from 1, or before that where the main order has ended. With a share of .1 that is every tenth place.

    Args:
        main: Shape (k,), the strategy's order.
        visitors: Shape (s,), the slice queue.
        share: Of places for visitors, in [0, 1); 0 = none are served.

    Returns:
        Shape (k + s,), or ``main`` with a share of 0.
    """
    rate = _rate(share)
    if rate == 0 or len(visitors) == 0:
        return main
    number = np.arange(1, len(visitors) + 1)
    turns = np.minimum(-(-number * rate.denominator // rate.numerator), len(main) + number) - 1
    return np.insert(main, turns - np.arange(len(visitors)), visitors)


def _rate(share: float) -> Fraction:
    return Fraction(max(0.0, share)).limit_denominator(_FINEST)
