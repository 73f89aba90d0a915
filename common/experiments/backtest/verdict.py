"""What would have been saved: the report's answer, one table and what to make of it, apart from all details."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from common.experiments.backtest.arms import AA, UNIFORM
from common.experiments.backtest.report import TARGETS
from common.experiments.backtest.tables import Table, interval


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

    Savings are those of labels, pooled over units. An arm is better by more than chance where its p after Holm's
    correction is at most one less the level of the intervals.
    """
    arms = [arm for arm in summary["arms"] if arm["arm"] not in (UNIFORM, AA)]
    if not arms:
        return Answer()
    ranked = sorted(arms, key=lambda arm: (_lead(arm) <= 0, arm["area_p_holm"], -_lead(arm)))
    targets = [f"{t:.0%}" for t in reversed(TARGETS)]
    level = summary["level"]
    saved = (f"labels saved to {target} [{level:.0%}]" for target in targets)
    table = Table(
        "What would have been saved, to reach a share of the mAP50-95 that every label gives",
        ("arm", "units", *saved, "larger area", "more than chance"),
        [_row(arm, targets, level) for arm in ranked],
    )
    return Answer((table,), (_first(ranked[0], targets[0], level), *_no_savings(arms), *_too_few(arms, level)))


def _lead(arm: dict[str, Any]) -> float:
    return float(arm["area_difference"]["labels"]["mean"])


def _wins(arm: dict[str, Any]) -> str:
    return f"{sum(data['wins'] for data in arm['data'].values())} of {arm['units']}"


def _sure(arm: dict[str, Any], level: float) -> bool:
    return bool(_lead(arm) > 0 and arm["area_p_holm"] <= 1 - level)


def _row(arm: dict[str, Any], targets: Sequence[str], level: float) -> tuple[str, ...]:
    cells = [_saved(arm["savings"]["labels"][target]) for target in targets]
    p = f"p {arm['area_p_holm']:.3f}"
    return (arm["arm"], str(arm["units"]), *cells, _wins(arm), f"{'yes' if _sure(arm, level) else 'not shown'}, {p}")


def _saved(found: dict[str, Any]) -> str:
    if found["pooled"]["mean"] is None:
        return "undecided" if found["undecided"] else "saturated"
    bounds = sum(found["censored"].values())
    return interval(found["pooled"], "+.0%") + (f" ({bounds} of {found['units']} are bounds)" if bounds else "")


def _first(arm: dict[str, Any], target: str, level: float) -> str:
    """The arm that is the surest."""
    if _lead(arm) <= 0:
        return "No arm is better than uniform order by its area."
    pooled = arm["savings"]["labels"][target]["pooled"]["mean"]
    saving = ""
    if pooled is not None:
        saving = f" and needs {abs(pooled):.0%} {'fewer' if pooled >= 0 else 'more'} labels than that to {target}"
    chance = "this is more than chance" if _sure(arm, level) else "this may be chance"
    return f"{arm['arm']} has a larger area than uniform order in {_wins(arm)} units{saving}; {chance}."


def _no_savings(arms: Sequence[dict[str, Any]]) -> list[str]:
    """What to change where no arm's savings can be told for any target."""
    found = [arm["savings"]["labels"][f"{t:.0%}"] for arm in arms for t in TARGETS]
    if any(one["pooled"]["mean"] is not None for one in found):
        return []
    if any(one["undecided"] for one in found):
        return ["No savings can be told where no curve gets there: give larger --budgets, or more --updates."]
    return ["No savings can be told where uniform order is there with the first budget: give smaller --budgets."]


def _too_few(arms: Sequence[dict[str, Any]], level: float) -> list[str]:
    """With n units the smallest p of a sign-flip test is 2 / 2^n, times the arms."""
    needed = math.ceil(1 + math.log2(len(arms) / (1 - level)))
    most = max(arm["units"] for arm in arms)
    if most >= needed:
        return []
    units, several = ("unit" if most == 1 else "units"), ("arm" if len(arms) == 1 else "arms")
    return [
        f"{most} {units} cannot tell {len(arms)} {several} from chance, whatever comes out; {needed} can: raise "
        "--seeds, or give more data sets."
    ]
