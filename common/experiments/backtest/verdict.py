"""What would have been saved: the report's answer, one table and what to make of it, apart from all details."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from common.experiments.backtest.arms import AA, UNIFORM
from common.experiments.backtest.report import TARGETS
from common.experiments.backtest.tables import Table, interval

ASKED = [f"{t:.0%}" for t in reversed(TARGETS)]


@dataclass(frozen=True)
class Answer:
    """What a person reads first; empty where no arm competes with uniform.

    Attributes:
        tables: At most one.
        sentences: What to make of it.
    """

    tables: tuple[Table, ...] = ()
    sentences: tuple[str, ...] = ()


def answer(summary: dict[str, Any]) -> Answer:
    """A row per arm that competes with uniform, the surest first, and sentences.

    Savings are those of labels, pooled over units. The test is that of the area; an arm differs by more than chance
    where its p after Holm's correction is at most one less the level of the intervals.
    """
    arms = [arm for arm in summary["arms"] if arm["arm"] not in (UNIFORM, AA)]
    if not arms:
        return Answer()
    limit = 1 - summary["level"]
    ranked = sorted(arms, key=lambda arm: (_lead(arm) <= 0, arm["area_p"], -_lead(arm)))
    table = Table(
        "What would have been saved, to reach a share of the mAP50-95 that every label gives",
        (
            "arm",
            "units",
            *(f"labels saved to {target} [{summary['level']:.0%}] (units)" for target in ASKED),
            "larger area",
            "more than chance",
        ),
        [_row(arm, len(arms), limit) for arm in ranked],
    )
    said = (_first(ranked[0], limit), *_no_savings(arms), *_poor_reference(summary), *_too_few(arms, limit))
    return Answer((table,), said)


def _lead(arm: dict[str, Any]) -> float:
    return float(arm["area_difference"]["labels"]["mean"])


def _needed(arms: int, limit: float) -> int:
    """The fewest units: with n, a two-sided sign-flip test has no p below 2 / 2^n, and Holm's correction times arms."""
    return math.ceil(1 + math.log2(arms / limit))


def _row(arm: dict[str, Any], arms: int, limit: float) -> tuple[str, ...]:
    cells = [_saved(arm["savings"]["labels"][target]) for target in ASKED]
    return (arm["arm"], str(arm["units"]), *cells, f"{arm['won']} of {arm['units']}", _chance(arm, arms, limit))


def _chance(arm: dict[str, Any], arms: int, limit: float) -> str:
    p = f"p {arm['area_p_holm']:.3f}"
    if arm["area_p_holm"] <= limit:
        return f"yes, {p}" if _lead(arm) > 0 else f"worse, {p}"
    return "too few units" if arm["units"] < _needed(arms, limit) else f"not shown, {p}"


def _saved(found: dict[str, Any]) -> str:
    if found["pooled"]["mean"] is None:
        return "undecided" if found["undecided"] else "saturated"
    return f"{interval(found['pooled'], '+.0%')} ({_rests_on(found)})"


def _rests_on(found: dict[str, Any]) -> str:
    """Of how many units a saving is, and for how many of them only a bound is known."""
    bounds = sum(found["censored"].values())
    return str(found["units"]) + (f", {bounds} bound{'s' * (bounds != 1)}" if bounds else "")


def _first(arm: dict[str, Any], limit: float) -> str:
    """The arm that is the surest."""
    if _lead(arm) <= 0:
        return "No arm has a larger area than uniform order."
    sure = "more than chance" if arm["area_p_holm"] <= limit else "which may be chance"
    told = f"p {arm['area_p_holm']:.3f} after Holm's correction, at most {limit:.2f} is wanted"
    found = arm["savings"]["labels"][ASKED[0]]
    pooled = found["pooled"]["mean"]
    saving = ""
    if pooled is not None:
        word = "fewer" if pooled >= 0 else "more"
        bounds = interval(found["pooled"], "+.0%").partition(" ")[2]
        least = f", saved {bounds}" if bounds else ""
        saving = f" To {ASKED[0]} it needs {abs(pooled):.0%} {word} labels{least} (units: {_rests_on(found)})."
    won = f"{arm['won']} of {arm['units']} units"
    return f"{arm['arm']} has a larger area than uniform order in {won}, {sure} ({told}).{saving}"


def _no_savings(arms: Sequence[dict[str, Any]]) -> list[str]:
    """What to change where no arm's savings can be told for any target."""
    found = [arm["savings"]["labels"][target] for arm in arms for target in ASKED]
    if any(one["pooled"]["mean"] is not None for one in found):
        return []
    if any(one["undecided"] for one in found):
        return ["No savings can be told where no curve gets there: give larger --budgets, or more --updates."]
    return ["No savings can be told where uniform order is there with the first budget: give smaller --budgets."]


def _poor_reference(summary: dict[str, Any]) -> list[str]:
    """A training on everything that is no better than one on a part of it makes a low target."""
    units = summary["units"]
    poor = [unit["unit"] for unit in units if unit["uniform_last"] >= unit["full"]["map5095"]]
    if not poor:
        return []
    return [
        f"In {len(poor)} of {len(units)} units the training on every label is no better than that on uniform's last "
        f"budget, so that the target is low: {', '.join(poor)}. Chance does that, and too few --full-updates."
    ]


def _too_few(arms: Sequence[dict[str, Any]], limit: float) -> list[str]:
    needed = _needed(len(arms), limit)
    short = sum(arm["units"] < needed for arm in arms)
    if not short:
        return []
    of = f"{short} of {len(arms)} arms have" if len(arms) > 1 else f"{arms[0]['arm']} has"
    return [
        f"{of} too few units to be told from chance, whatever comes out: at least {needed} are needed, and then only "
        "if all are won. Raise --seeds, which tell about this data, or give more data sets, which tell about others."
    ]
