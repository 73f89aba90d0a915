"""Pure uncertainty sampling: the greatest utility first (Lewis and Gale, SIGIR 1994)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.strategies.image_value import Aggregated, plain_utility
from common.strategies.plain import Screening, sorted_draft
from common.strategies.pool import Draft, Pool


@dataclass(frozen=True)
class Options(Screening, Aggregated):
    """No number of its own."""


def select(pool: Pool, budget: int, rng: np.random.Generator, options: Options) -> Draft:
    """Candidates by falling utility; the utility falls along the order where nothing is deferred.

    Utilities from elsewhere are compared as they are: scaled to [0, 1], two of them may be equal.
    """
    del budget
    utility = plain_utility(pool, options)
    score = utility if pool.utility is None else pool.utility
    return sorted_draft(pool, score, utility, options, rng, f"{options.acquisition}")
