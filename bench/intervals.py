"""How often the interval of a backtest holds the truth: `python -m bench.intervals`; docs/label-efficiency.md.

Drawn: normal values around 0, so many at a time. Plain percentiles of the bootstrap are what most reports print.
"""

from __future__ import annotations

import numpy as np

from bench.report import console
from common.experiments.backtest.statistics import FEWEST, LEVEL, Values, mean_interval

UNITS = (3, 4, 6, 8, 12, 15)
DRAWN = 2000
RESAMPLES = 2000


def plain(values: Values, rng: np.random.Generator) -> tuple[float, float]:
    """The interval between two percentiles of resampled means."""
    means = values[rng.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.percentile(means, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)


def main() -> None:
    """Print shares of intervals that hold 0."""
    for n in UNITS:
        rng = np.random.default_rng(n)
        drawn = rng.standard_normal((DRAWN, n))
        usual = np.mean([low <= 0 <= high for low, high in (plain(values, rng) for values in drawn)])
        ours = "none given"
        if n >= FEWEST:
            found = [mean_interval(values, rng)[1:] for values in drawn]
            ours = f"{np.mean([low <= 0 <= high for low, high in found]):.0%}"
        console.print(
            f"{n} units, {LEVEL:.0%} asked: plain percentiles {usual:.0%}, a backtest's {ours}", highlight=False
        )


if __name__ == "__main__":
    main()
