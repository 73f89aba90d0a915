"""Results of a folder as figures: pure functions over the records that the units left."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from common.experiments.backtest.arms import AA, UNIFORM, is_uniform
from common.experiments.backtest.statistics import (
    LEVEL,
    Curve,
    area,
    area_difference,
    holm,
    mean_interval,
    pooled_saving,
    reach,
    saving,
    sign_flip,
    undecided,
)

AXES = ("labels", "boxes", "hours")
TARGETS = (0.90, 0.95)
METRICS = ("map5095", "map50", "worst_quarter")
Key = tuple[str, int]


@dataclass
class UnitResult:
    """What is known of one unit.

    Attributes:
        key: (data set, seed).
        full: The reference: metrics of the training on everything, and its labels, boxes, hours.
        rounds: Label of a whole arm -> its rounds; repeats of uniform apart.
    """

    key: Key
    full: dict[str, Any]
    rounds: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As its folder."""
        return f"{self.key[0]}-{self.key[1]}"

    def curve(self, label: str, axis: str = "labels", metric: str = "map5095") -> Curve:
        """An arm's learning curve; that of uniform is the mean of its repeats."""
        several = [r for name, r in self.rounds.items() if name == label or (label == UNIFORM and is_uniform(name))]
        return Curve.mean(
            [
                Curve.of(
                    [max(r[axis], 1 if axis == "boxes" else 1e-9) for r in rounds],
                    [r["metrics"][metric] for r in rounds],
                )
                for rounds in several
            ]
        )

    def target(self, share: float) -> float:
        """A share of the full-data mAP50-95."""
        return share * float(self.full["metrics"]["map5095"])


def gather(
    records: Sequence[dict[str, Any]], references: Sequence[dict[str, Any]]
) -> tuple[list[UnitResult], list[str]]:
    """Units that have a reference and at least uniform whole, and one sentence for everything that is not whole.

    All arms of a unit begin with the same training. Where it was done again for a later arm and came out otherwise, by
    another version or on another machine, the figures of uniform stand for it: no arm is ahead or behind before it has
    chosen anything.
    """
    units = {(r["data"], r["seed"]): UnitResult((r["data"], r["seed"]), r["round"]) for r in references}
    missing: list[str] = []
    for record in records:
        unit = units.get((record["data"], record["seed"]))
        if unit is None or not record["complete"]:
            missing.append(f"{record['data']}-{record['seed']}: {record['arm']} is not played to its end")
        else:
            unit.rounds[record["arm"]] = record["rounds"]
    begun = {(r["data"], r["seed"]) for r in records if r["arm"] == UNIFORM}
    missing += [f"{unit.name}: uniform is not played" for unit in units.values() if unit.key not in begun]
    whole = [units[key] for key in sorted(units) if UNIFORM in units[key].rounds]
    missing += [said for unit in whole for said in _like_uniform(unit)]
    return whole, missing


def _like_uniform(unit: UnitResult) -> list[str]:
    """Give arms uniform's first figures and number of rounds; says which arms go, as they have fewer."""
    base = unit.rounds[UNIFORM]
    short = [label for label, rounds in unit.rounds.items() if len(rounds) < len(base)]
    for label, rounds in unit.rounds.items():
        same = rounds[0]["picked"] == base[0]["picked"] and not is_uniform(label)
        first = rounds[0] | {"metrics": base[0]["metrics"]} if same else rounds[0]
        unit.rounds[label] = [first, *rounds[1 : len(base)]]
    ends = {label: unit.rounds.pop(label)[-1]["labels"] for label in short}
    last = base[-1]["labels"]
    return [f"{unit.name}: {label} is played to {end} labels, and uniform to {last}" for label, end in ends.items()]


def summarise(units: Sequence[UnitResult], seed: int = 0) -> dict[str, Any]:
    """Every figure of the report, JSON-able; ``seed`` draws bootstrap samples and sign flips."""
    labels = [arm for arm in dict.fromkeys(a for u in units for a in u.rounds) if not is_uniform(arm)]
    arms = [_arm(units, label, seed) for label in [UNIFORM, *labels]] if units else []
    family = [arm for arm in arms if arm["arm"] not in (UNIFORM, AA)]
    for arm, p in zip(family, holm([arm["area_p"] for arm in family]), strict=True):
        arm["area_p_holm"] = p
    return {
        "level": LEVEL,
        "units": [_unit(unit) for unit in units],
        "noise": _noise(units),
        "arms": arms,
    }


def _unit(unit: UnitResult) -> dict[str, Any]:
    base = {axis: unit.curve(UNIFORM, axis) for axis in AXES}
    targets = {}
    for share in TARGETS:
        found = {axis: reach(base[axis], unit.target(share)) for axis in AXES}
        targets[f"{share:.0%}"] = {
            "map5095": unit.target(share),
            "uniform": {axis: {"x": r.x, "kind": r.kind} for axis, r in found.items()},
            "saturated": found["labels"].kind == "first",
        }
    return {
        "unit": unit.name,
        "data": unit.key[0],
        "seed": unit.key[1],
        "full": {k: unit.full[k] for k in ("labels", "boxes", "hours")} | {m: unit.full["metrics"][m] for m in METRICS},
        "uniform_last": float(unit.curve(UNIFORM).y[-1]),
        "budgets": [r["labels"] for r in unit.rounds[UNIFORM]],
        "targets": targets,
    }


def _with(units: Sequence[UnitResult], label: str) -> list[UnitResult]:
    return [unit for unit in units if label in unit.rounds]


def _differences(units: Sequence[UnitResult], label: str, metric: str = "map5095", axis: str = "labels") -> list[float]:
    pairs = ((u.curve(label, axis, metric), u.curve(UNIFORM, axis, metric)) for u in _with(units, label))
    return [area_difference(arm, base) for arm, base in pairs]


def _noise(units: Sequence[UnitResult]) -> dict[str, Any]:
    """How far uniform is from itself: the A/A arm."""
    found = _differences(units, AA)
    spread = float(np.std(found, ddof=1)) if len(found) > 1 else None
    mean_abs = float(np.mean(np.abs(found))) if found else None
    return {"units": len(found), "differences": found, "spread": spread, "mean_absolute": mean_abs}


def _triple(values: tuple[float, float, float]) -> dict[str, float | None]:
    """JSON has no NaN."""
    return {k: (v if np.isfinite(v) else None) for k, v in zip(("mean", "low", "high"), values, strict=True)}


def _arm(units: Sequence[UnitResult], label: str, seed: int) -> dict[str, Any]:
    mine = _with(units, label)
    rng = np.random.default_rng(seed)
    areas = {m: [_own_area(u, label, m) for u in mine] for m in METRICS}
    out: dict[str, Any] = {"arm": label, "units": len(mine)}
    for metric in METRICS:
        out[f"{metric}_area"] = _triple(mean_interval(areas[metric], rng))
        out[f"{metric}_last"] = _triple(mean_interval([u.curve(label, metric=metric).y[-1] for u in mine], rng))
    out["axes"] = {axis: float(np.mean([u.curve(label, axis).x[-1] for u in mine])) for axis in AXES}
    if label == UNIFORM:
        return out
    paid = {axis: _differences(mine, label, axis=axis) for axis in AXES}
    out["area_difference"] = {axis: _triple(mean_interval(found, rng)) for axis, found in paid.items()}
    for metric in METRICS[1:]:
        out[f"{metric}_area_difference"] = _triple(mean_interval(_differences(mine, label, metric), rng))
    out["area_p"] = sign_flip(paid["labels"], rng)
    out["per_unit"] = {u.name: d for u, d in zip(mine, paid["labels"], strict=True)}
    out["savings"] = {axis: {f"{t:.0%}": _savings(mine, label, axis, t, rng) for t in TARGETS} for axis in AXES}
    out["data"] = _per_data(mine, label)
    out["won"], out["lost"] = (sum(d[key] for d in out["data"].values()) for key in ("wins", "losses"))
    return out


def _own_area(unit: UnitResult, label: str, metric: str) -> float:
    curve = unit.curve(label, metric=metric)
    return area(curve, curve.x[0], curve.x[-1])


def _savings(
    units: Sequence[UnitResult], label: str, axis: str, share: float, rng: np.random.Generator
) -> dict[str, Any]:
    """Savings over the units that tell: mean, its interval, the pooled figure, and what is only a bound."""
    per_unit: dict[str, Any] = {}
    spent: list[tuple[float, float]] = []
    open_units: list[str] = []
    for unit in units:
        target = unit.target(share)
        mine, base = reach(unit.curve(label, axis), target), reach(unit.curve(UNIFORM, axis), target)
        saved = saving(mine, base)
        open_units += [unit.name] * undecided(mine, base)
        per_unit[unit.name] = (
            None if saved is None else {"value": saved.value, "bound": saved.bound, "x": mine.x, "uniform": base.x}
        )
        if saved is not None:
            spent.append(((1 - saved.value) * base.x, base.x))
    values = [s["value"] for s in per_unit.values() if s]
    bounds = [s["bound"] for s in per_unit.values() if s]
    pooled = mean_interval(np.array(spent), rng, pooled_saving) if spent else (np.nan,) * 3
    return {
        "units": len(values),
        "mean": _triple(mean_interval(values, rng)),
        "median": float(np.median(values)) if values else None,
        "pooled": _triple(pooled),
        "censored": {"arm": bounds.count("<="), "uniform": bounds.count(">=")},
        "undecided": open_units,
        "saturated": [name for name, s in per_unit.items() if s is None and name not in open_units],
        "per_unit": per_unit,
    }


def _per_data(units: Sequence[UnitResult], label: str) -> dict[str, Any]:
    """Where the arm wins and loses by area, per data set."""
    grouped: dict[str, list[UnitResult]] = defaultdict(list)
    for unit in units:
        grouped[unit.key[0]].append(unit)
    out = {}
    for data, mine in grouped.items():
        found = _differences(mine, label)
        out[data] = {
            "units": len(mine),
            "difference": float(np.mean(found)),
            "wins": sum(d > 0 for d in found),
            "losses": sum(d < 0 for d in found),
            "labels_saved": _labels_saved(mine, label),
        }
    return out


def _labels_saved(units: Sequence[UnitResult], label: str) -> dict[str, float | None]:
    """Target -> saving in labels, pooled over the units that tell; None when none does."""
    out: dict[str, float | None] = {}
    for share in TARGETS:
        pairs = [(reach(u.curve(label), u.target(share)), reach(u.curve(UNIFORM), u.target(share))) for u in units]
        spent = [((1 - saved.value) * base.x, base.x) for arm, base in pairs if (saved := saving(arm, base))]
        out[f"{share:.0%}"] = float(pooled_saving(np.array([spent]))[0]) if spent else None
    return out


def losses(summary: dict[str, Any]) -> list[str]:
    """One sentence per arm, data set and measure where uniform is better on average."""
    said = []
    for arm in summary["arms"]:
        for data, d in arm["data"].items() if "data" in arm and arm["arm"] != AA else ():
            start = f"{arm['arm']} loses to uniform on {data}"
            if d["difference"] < 0:
                said.append(f"{start}: area {d['difference']:+.4f}, {d['losses']} of {d['units']} units")
            worse = {target: saved for target, saved in d["labels_saved"].items() if saved is not None and saved < 0}
            said += [f"{start}: {-saved:.0%} more labels to {target}" for target, saved in worse.items()]
    return said


def long_rows(records: Sequence[dict[str, Any]], references: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """One row per data set, seed, arm and round; the arm 'full' is the reference."""
    rounds = [(r, r["arm"], one) for r in records for one in r["rounds"]]
    rounds += [(r, "full", r["round"]) for r in references]
    for record, arm, one in rounds:
        row = {"data": record["data"], "seed": record["seed"], "arm": arm}
        row |= {axis: one[axis] for axis in AXES} | {m: one["metrics"][m] for m in METRICS}
        yield row | {"updates": one["updates"]}
