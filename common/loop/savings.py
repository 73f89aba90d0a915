"""What the order saved: the two control trainings, read off the project's own learning curve."""

from __future__ import annotations

from typing import Any

from common.kpi import saved
from common.learning_curve import ROUNDS, Curve, Measured, fit, rising
from common.loop.control_plan import load_plan
from common.loop.tools import Tools
from common.store.measurements import MeasurementRow
from common.store.projects import ProjectRow

CONTROL, CHOSEN = "control", "chosen"
"""Kinds of measurement, and sides of a control: trained on the random slice, trained on what the order chose."""
FLAT = "not enough data: the learning curve is flat, labels can not be read off it"
BEYOND = "not enough data: no number of chosen labels reaches the control on the curve"


def labels_saved(tools: Tools, row: ProjectRow) -> dict[str, Any] | str:
    """The share of labels that the order saved against drawing by chance, of the newest control.

    Returns:
        One sentence while there is no control. Else 'share' (1 - n_eq / n, below 1, negative where the order cost
        labels), 'low' and 'high' (from the 90 % interval of the difference; the curve is taken as it is), each None
        where the curve cannot say; 'labels' n; 'round' whose validation set measured both; 'gained', 'gained_low' and
        'gained_high' (mAP50-95, chosen minus control); 'note', '' or why there is no share.
    """
    found = {m.round: m for m in tools.store.measurements.all(row.key, CHOSEN)}
    if not found:
        return waiting(tools, row)
    return read_off(found[max(found)], curve_of(tools, row))


def waiting(tools: Tools, row: ProjectRow) -> str:
    """Why nothing can be said without a control training."""
    if not tools.settings_of(row).control:
        return "not enough data: the setting control is off, so no control training was made"
    plan = load_plan(tools, row)
    return plan.reason if plan else "not enough data: no round has finished since the setting control was switched on"


def curve_of(tools: Tools, row: ProjectRow) -> Curve | None:
    """mAP50-95 against labels of every checkpoint on the newest validation set; None with too few of them."""
    measured = [m for m in tools.store.measurements.all(row.key) if m.metrics and m.trained and m.labels]
    newest = max((m.round for m in measured), default=0)
    points = rising([Measured(m.labels, m.metrics["map5095"]) for m in measured if m.round == newest])
    return fit(points) if len(points) >= ROUNDS else None


def read_off(chosen: MeasurementRow, curve: Curve | None) -> dict[str, Any]:
    """See ``labels_saved``; the formula is in ``kpi.saved``."""
    gained = {name: chosen.metrics[name] for name in ("gained", "gained_low", "gained_high")}
    shares = [None if curve is None else saved(curve, chosen.labels, gained[name]) for name in gained]
    return {
        **dict(zip(("share", "low", "high"), shares, strict=True)),
        "labels": chosen.labels,
        "round": chosen.round,
        **gained,
        "note": "" if shares[0] is not None else _why(curve),
    }


def _why(curve: Curve | None) -> str:
    if curve is None:
        return f"not enough data: the learning curve needs {ROUNDS} rounds"
    return FLAT if curve.b <= 0 else BEYOND


def sentence(found: dict[str, Any]) -> str:
    """For the journal."""
    told = "mAP50-95 {gained:+.3f} (90 % interval {gained_low:+.3f} to {gained_high:+.3f})".format(**found)
    head = f"with {found['labels']} labels each, what the order chose against what chance chose: {told}"
    return f"{head}; {found['note']}" if found["note"] else f"{head}; labels saved: {found['share']:.0%}"
