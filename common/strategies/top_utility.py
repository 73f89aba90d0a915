"""Pure uncertainty sampling: the greatest utility first (Lewis and Gale, SIGIR 1994)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.strategies.image_value import plain_utility
from common.strategies.plain import Screening, sorted_draft
from common.strategies.pool import Draft, Pool


@dataclass(frozen=True)
class Options(Screening):
    """Names of the registries of ``common.acquisition``."""

    acquisition: str = "entropy"
    aggregation: str = "max"


def select(pool: Pool, budget: int, rng: np.random.Generator, options: Options) -> Draft:
    """Candidates by falling utility; the utility falls along the order where nothing is deferred."""
    del budget
    utility = plain_utility(pool, options.acquisition, options.aggregation)
    return sorted_draft(pool, utility, utility, options, rng, f"{options.acquisition}")
