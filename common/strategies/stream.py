"""One image at a time: queue it or keep it aside, by a running quantile that honours a budget rate.

The threshold rises when an image is queued and sinks when one is not, so that the share of queued images tends to the
rate whatever the utilities do: the online quantile of Gibbs and Candes, NeurIPS 2021. After k images the share
differs from the rate by at most (1 + 2 * step) / (step * k).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.domain import Ints
from common.strategies.image_value import Aggregated, plain_utility
from common.strategies.pool import Draft, Mask, Pool, Values
from common.strategies.ranges import is_number


@dataclass(frozen=True)
class Threshold:
    """Where the running quantile stands; plain numbers, to be kept between images.

    Attributes:
        level: An image is queued when its utility is at least this.
        rate: Wanted share of queued images, in (0, 1).
        step: How fast the level moves, positive.
        seen: Images decided.
        queued: Those that were queued.
    """

    level: float
    rate: float = 0.1
    step: float = 0.05
    seen: int = 0
    queued: int = 0

    def __post_init__(self) -> None:
        if not is_number(self.rate) or not 0 < self.rate < 1:
            raise ValueError(f"rate is {self.rate!r}: a number above 0 and below 1 is allowed")
        if not is_number(self.step) or self.step <= 0:
            raise ValueError(f"step is {self.step!r}: a finite number above 0 is allowed")
        if not is_number(self.level):
            raise ValueError(f"level is {self.level!r}: a finite number is allowed")


def start(known: Iterable[float] = (), rate: float = 0.1, step: float = 0.05) -> Threshold:
    """A threshold at the (1 - rate) quantile of utilities known already; at .5 without any."""
    values = np.array(list(known), np.float64)
    return Threshold(float(np.quantile(values, 1 - rate)) if len(values) else 0.5, rate, step)


def decide(threshold: Threshold, utility: float) -> tuple[bool, Threshold]:
    """(whether to queue this image, the threshold for the next one).

    Raises:
        ValueError: When the utility is not in [0, 1].
    """
    if not 0 <= utility <= 1:
        raise ValueError(f"utility must be in [0, 1], got {utility}")
    queue = utility >= threshold.level
    level = threshold.level + threshold.step * ((1.0 if queue else 0.0) - threshold.rate)
    return queue, Threshold(level, threshold.rate, threshold.step, threshold.seen + 1, threshold.queued + queue)


@dataclass(frozen=True)
class Options(Aggregated):
    """Rate and utility.

    Attributes:
        rate: Wanted share of queued images, in (0, 1).
        step: How fast the level moves, positive.
        level: Where the threshold stands at the first image, None = at .5.
    """

    rate: float = 0.1
    step: float = 0.05
    level: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        Threshold(0.0 if self.level is None else self.level, self.rate, self.step)


def select(pool: Pool, budget: int, rng: np.random.Generator, options: Options) -> Draft:
    """Candidates in the order they came: those the threshold let through first, then those it kept aside."""
    del budget, rng
    utility = plain_utility(pool, options)
    rows = pool.candidates
    state = Threshold(0.5 if options.level is None else options.level, options.rate, options.step)
    passed = np.zeros(len(pool), bool)
    for row in rows.tolist():
        passed[row], state = decide(state, float(utility[row]))
    order = np.concatenate([rows[passed[rows]], rows[~passed[rows]]])
    return Draft(order, utility, lambda asked: _parts(pool, asked, utility, passed))


def _parts(pool: Pool, rows: Ints, utility: Values, passed: Mask) -> list[dict[str, Any]]:
    out = []
    for row in rows.tolist():
        word = "above" if passed[row] else "below"
        reason = f"utility {utility[row]:.2f}, {word} the running quantile on arrival"
        if pool.in_slice[row]:
            reason = "random slice, drawn by chance to measure against"
        if not pool.readable[row]:
            reason = "the image cannot be read"
        value = round(float(utility[row]), 4)
        out.append(
            {"utility": value, "queued": bool(passed[row]), "random_slice": bool(pool.in_slice[row]), "reason": reason}
        )
    return out
