"""Uniform at random: the baseline everything has to beat (Munjal et al., CVPR 2022: it is hard to beat)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.strategies.plain import Screening, sorted_draft
from common.strategies.pool import Draft, Pool


@dataclass(frozen=True)
class Options(Screening):
    """No number of its own."""


def select(pool: Pool, budget: int, rng: np.random.Generator, options: Options) -> Draft:
    """A random permutation of the candidates, drawn whole whatever the budget. Utility: the drawn number."""
    del budget
    drawn = rng.random(len(pool))
    return sorted_draft(pool, drawn, drawn, options, rng, "drawn by chance,")
