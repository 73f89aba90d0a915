"""Learning curves as a picture: one panel per data set, a mean and its interval per arm."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common.experiments.backtest.arms import AA, UNIFORM, is_uniform
from common.experiments.backtest.report import UnitResult
from common.experiments.backtest.statistics import FEWEST, LEVEL, Values, mean_interval
from common.yolo import files

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(units: Sequence[UnitResult], path: Path) -> None:
    """Write a PNG; needs no display.

    Only arms that every unit has, where there are some: the mean of other units is no curve to compare with.
    """
    os.environ.setdefault("MPLCONFIGDIR", str(path.parent / "work" / "matplotlib"))
    from matplotlib.figure import Figure

    names = sorted({unit.key[0] for unit in units})
    figure = Figure(figsize=(6.4 * len(names), 5.2), layout="constrained")
    arms = drawn(units)
    for i, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), i + 1)
        _panel(axes, name, [u for u in units if u.key[0] == name], arms)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), fontsize="small")
    with files.replacing(path, durable=False) as fresh:
        figure.savefig(fresh, dpi=120)


def drawn(units: Sequence[UnitResult]) -> list[str]:
    """Labels of the arms to draw, uniform first; all of them where no competing one is in every unit."""
    arms = list(dict.fromkeys(a for u in units for a in u.rounds if not is_uniform(a)))
    everywhere = [a for a in arms if all(a in u.rounds for u in units)]
    return [UNIFORM, *(everywhere if {*everywhere} - {AA} else arms)]


def _panel(axes: Axes, name: str, units: Sequence[UnitResult], arms: Sequence[str]) -> None:
    import matplotlib

    colours = matplotlib.colormaps["tab10" if len(arms) <= 10 else "tab20"]
    shared = min(len(u.rounds[UNIFORM]) for u in units)
    for i, arm in enumerate(arms):
        mine = [u.curve(arm) for u in units if arm in u.rounds]
        if not mine:
            continue
        style: dict[str, Any] = {"color": "black" if arm == UNIFORM else colours(i % colours.N)}
        rows = np.stack([curve.y[:shared] for curve in mine])
        middle, low, high = np.array([_band(column) for column in rows.T]).T
        x, over = mine[0].x[:shared], 3 if arm == UNIFORM else 2
        axes.plot(x, middle, marker="o", markersize=3, label=arm, zorder=over, **style)
        axes.fill_between(x, low, high, alpha=0.12, linewidth=0, **style)
    reference = float(np.mean([u.full["metrics"]["map5095"] for u in units]))
    axes.axhline(reference, linestyle="--", linewidth=1, color="gray", label="all labels")
    axes.axhline(0.95 * reference, linestyle=":", linewidth=1, color="gray", label="95 % of it")
    axes.set_xscale("log", base=2)
    axes.set_xticks(units[0].curve(UNIFORM).x, [f"{x:.0f}" for x in units[0].curve(UNIFORM).x])
    band = "range" if len(units) < FEWEST else f"{LEVEL:.0%} interval"
    axes.set(
        xlabel="labels",
        ylabel="mAP50-95",
        title=f"{name}: {len(units)} unit{'s' * (len(units) > 1)}, mean and {band}",
    )
    axes.grid(visible=True, alpha=0.25)


def _band(values: Values) -> tuple[float, float, float]:
    """(mean, low, high) of one budget: an interval, or the range where units are too few for one."""
    if len(values) < FEWEST:
        return float(values.mean()), float(values.min()), float(values.max())
    return mean_interval(values, np.random.default_rng(0))
