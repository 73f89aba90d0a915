"""The report's tables, once, for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from common.experiments.backtest.arms import AA, UNIFORM
from common.experiments.backtest.report import AXES, TARGETS, losses


@dataclass(frozen=True)
class Table:
    """A title, column heads, rows of text."""

    title: str
    heads: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def markdown(self) -> str:
        """As GitHub reads it."""
        lines = [f"### {self.title}", "", _line(self.heads), _line(["---"] * len(self.heads))]
        return "\n".join([*lines, *(_line(row) for row in self.rows)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def noise_sentence(summary: dict[str, Any]) -> str:
    """What the A/A arm says."""
    noise = summary["noise"]
    if not noise["units"]:
        return "Noise: not measured (--aa adds uniform once more)."
    spread = "" if noise["spread"] is None else f", standard deviation {noise['spread']:.4f}"
    return (
        f"Noise: uniform against uniform over {noise['units']} units: mean absolute difference of the area "
        f"{noise['mean_absolute']:.4f}{spread}, greatest {max(map(abs, noise['differences'])):.4f}: all of it chance, "
        "so a single unit proves nothing."
    )


def tables(summary: dict[str, Any]) -> list[Table]:
    """Areas, savings on the three axes, data sets, units."""
    level = f"{summary['level']:.0%}"
    return [
        _areas(summary, level),
        _axes(summary, level),
        *(_savings(summary, level, target) for target in (f"{t:.0%}" for t in TARGETS)),
        _data(summary),
        _units(summary),
    ]


def interval(value: dict[str, float | None], kind: str) -> str:
    """An estimate and its bounds, '-' where there is none; ``kind`` as ``format`` takes it."""
    if value["mean"] is None:
        return "-"
    text = format(value["mean"], kind)
    return text if value["low"] is None else f"{text} [{format(value['low'], kind)}, {format(value['high'], kind)}]"


def _areas(summary: dict[str, Any], level: str) -> Table:
    heads = (
        "arm",
        "units",
        "area",
        f"minus uniform [{level}]",
        "p",
        "p (Holm)",
        "wins / losses",
        "worst quarter of classes",
        f"minus uniform [{level}]",
    )
    rows: list[tuple[str, ...]] = []
    for arm in summary["arms"]:
        start = (arm["arm"], str(arm["units"]), format(arm["map5095_area"]["mean"], ".4f"))
        worst = format(arm["worst_quarter_area"]["mean"], ".4f")
        if arm["arm"] == UNIFORM:
            rows.append((*start, "", "", "", "", worst, ""))
            continue
        adjusted = format(arm["area_p_holm"], ".3f") if "area_p_holm" in arm else ""
        score = f"{arm['won']} / {arm['lost']}"
        middle = (interval(arm["area_difference"]["labels"], "+.4f"), format(arm["area_p"], ".3f"), adjusted, score)
        rows.append((*start, *middle, worst, interval(arm["worst_quarter_area_difference"], "+.4f")))
    return Table("Normalised area under mAP50-95 against log2 labels", heads, rows)


def _axes(summary: dict[str, Any], level: str) -> Table:
    heads = ("arm", *(f"against {axis} [{level}]" for axis in AXES), *(f"{axis} at the end" for axis in AXES))
    rows: list[tuple[str, ...]] = []
    for arm in summary["arms"]:
        spent = [format(arm["axes"][axis], ".2f" if axis == "hours" else ".1f") for axis in AXES]
        found = [interval(arm["area_difference"][a], "+.4f") if "area_difference" in arm else "" for a in AXES]
        rows.append((arm["arm"], *found, *spent))
    return Table(
        "Area minus uniform by what is paid: labels, boxes, simulated hours (5 s an image, 7 s a box)", heads, rows
    )


def _savings(summary: dict[str, Any], level: str, target: str) -> Table:
    saved = (f"{axis} saved [{level}]" for axis in AXES)
    heads = ("arm", "units", "undecided", *saved, "labels, pooled", "labels, median")
    rows: list[tuple[str, ...]] = []
    for arm in summary["arms"]:
        if "savings" not in arm:
            continue
        labels = arm["savings"]["labels"][target]
        median = "-" if labels["median"] is None else format(labels["median"], "+.0%")
        cells = [_bounded(arm["savings"][axis][target]) for axis in AXES]
        counts = (str(labels["units"]), str(len(labels["undecided"])))
        rows.append((arm["arm"], *counts, *cells, interval(labels["pooled"], "+.0%"), median))
    return Table(
        f"Savings against uniform to reach {target} of full-data mAP50-95, unsaturated units "
        "(arm never there: <=; uniform never: >=; neither: undecided, left out)",
        heads,
        rows,
    )


def _bounded(saved: dict[str, Any]) -> str:
    """The mean with its interval, and of how many units it is only a bound."""
    counts = {"<=": saved["censored"]["arm"], ">=": saved["censored"]["uniform"]}
    marks = ", ".join(f"{sign} {n}" for sign, n in counts.items() if n)
    return interval(saved["mean"], "+.0%") + (f" ({marks})" if marks else "")


def _data(summary: dict[str, Any]) -> Table:
    names = sorted({unit["data"] for unit in summary["units"]})
    rows: list[tuple[str, ...]] = []
    for arm in summary["arms"]:
        if "data" not in arm:
            continue
        cells = []
        for name in names:
            d = arm["data"].get(name)
            cells.append("-" if d is None else f"{d['difference']:+.4f} ({d['wins']} won, {d['losses']} lost)")
        rows.append((arm["arm"], *cells))
    return Table("Area minus uniform, per data set", ("arm", *names), rows)


def _units(summary: dict[str, Any]) -> Table:
    heads = ("unit", "full: labels", "full: mAP50-95", *(f"uniform to {t:.0%}" for t in TARGETS))
    rows: list[tuple[str, ...]] = []
    for unit in summary["units"]:
        cells = [_reached(unit["targets"][f"{t:.0%}"]["uniform"]["labels"]) for t in TARGETS]
        rows.append((unit["unit"], str(unit["full"]["labels"]), format(unit["full"]["map5095"], ".4f"), *cells))
    return Table("Units, and the labels uniform needs", heads, rows)


def _reached(found: dict[str, Any]) -> str:
    if found["kind"] == "first":
        return f"saturated at {found['x']:.0f}"
    return f"> {found['x']:.0f}" if found["kind"] == "censored" else f"{found['x']:.1f}"


def sentences(summary: dict[str, Any], missing: Sequence[str]) -> list[str]:
    """Saturated units, losses and what is not whole, in words."""
    said = []
    for target in (f"{t:.0%}" for t in TARGETS):
        names = [u["unit"] for u in summary["units"] if u["targets"][target]["saturated"]]
        if names:
            said.append(
                f"Saturated at {target} (uniform is there with the first budget, left out): {', '.join(names)}."
            )
    lost = losses(summary)
    if not lost and any(arm["arm"] not in (UNIFORM, AA) for arm in summary["arms"]):
        lost = ["No arm loses to uniform on a data set, on average"]
    said += [f"{line}." for line in lost]
    return said + [f"Not in the report: {line}." for line in missing]
