"""Where the random slice stands in a queue: one place in ten, in hash order, for ever."""

from __future__ import annotations

import numpy as np

from common.domain import Ints


def places(start: int, count: int, share: float) -> slice:
    """Which members of the slice queue are served in the places ``start`` to ``start + count``."""
    if share <= 0:
        return slice(0, 0)
    every = period(share)
    return slice(start // every, (start + count) // every)


def period(share: float) -> int:
    """One place in so many serves the random slice."""
    return max(1, round(1 / share))


def merge(main: Ints, visitors: Ints, share: float) -> Ints:
    """Main order with the next visitor in every tenth place; whoever is left over follows.

    Args:
        main: Shape (k,), the strategy's order.
        visitors: Shape (s,), the slice queue.
        share: Of places for visitors, in [0, 1); 0 = none are served.

    Returns:
        Shape (k + s,), or ``main`` with a share of 0.
    """
    if share <= 0 or len(visitors) == 0:
        return main
    every = period(share)
    out = np.full(len(main) + len(visitors), -1, np.int64)
    turns = np.arange(every - 1, len(out), every)[: len(visitors)]
    out[turns] = visitors[: len(turns)]
    rest = np.concatenate([main, visitors[len(turns) :]])
    out[out < 0] = rest
    return out
