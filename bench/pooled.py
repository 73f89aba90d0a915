"""All replays of docs/label-efficiency in one table: `python -m bench.pooled` prints it and writes it beside them.

Once as the single reports count, against the one draw of uniform order; once against the mean of both draws that every
unit has (uniform and its A/A repeat), which halves the chance in the baseline and leaves nothing to measure noise with;
once only the units in which every arm was played, so that arms can be compared with each other; once only the arms that
every unit has, the family that the comparison began with; and once for each source of photographs, because its pools
share them and its validation set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bench.efficiency import DOCS, EXPERIMENTS
from common.experiments.backtest import runs
from common.experiments.backtest.arms import AA, UNIFORM
from common.experiments.backtest.report import TARGETS, UnitResult, gather, summarise
from common.experiments.backtest.tables import Table, interval
from common.yolo import files

OUT = DOCS / "pooled.md"
SECOND = f"{UNIFORM} #2"
"""How the report names a second draw of the baseline."""


def text() -> str:
    """The tables as Markdown."""
    records, references = [], []
    for name in EXPERIMENTS:
        more, full = runs.results(DOCS / name)
        records += more
        references += full
    both = [record | {"arm": SECOND} if record["arm"] == AA else record for record in records]
    units = gather(records, references)[0]
    arms = {label for unit in units for label in unit.rounds}
    tables = [
        _table("Against one draw of uniform order", units),
        _table("Against the mean of two draws of uniform order", gather(both, references)[0]),
        _table("Only where every arm was played, against one draw", [u for u in units if arms == set(u.rounds)]),
        _table("Only the arms that every unit has, against one draw", _common(units)),
        *_by_source(units),
    ]
    return "\n\n".join(table.markdown() for table in tables) + "\n"


def _common(units: Sequence[UnitResult]) -> list[UnitResult]:
    """Units with the arms that every unit has, and no other."""
    common = set.intersection(*(set(unit.rounds) for unit in units))
    return [replace(u, rounds={arm: r for arm, r in u.rounds.items() if arm in common}) for u in units]


def _table(title: str, units: Sequence[UnitResult]) -> Table:
    summary = summarise(units)
    level = f"{summary['level']:.0%}"
    saved = (f"labels saved to {t:.0%}, pooled [{level}]" for t in TARGETS)
    heads = ("arm", "units", "area", f"minus uniform [{level}]", "p", "p (Holm)", "won / lost", *saved)
    return Table(f"{title}, {len(units)} units", heads, [_row(arm) for arm in summary["arms"]])


def _by_source(units: Sequence[UnitResult]) -> list[Table]:
    """What the intervals of units leave out: would other photographs say the same?

    A pool is named after its source, and then after what was done to it.
    """
    by_source: dict[str, list[UnitResult]] = {}
    for unit in _common(units):
        by_source.setdefault(unit.key[0].partition("-")[0], []).append(unit)
    return [_table(f"Only photographs of {name}, against one draw", mine) for name, mine in by_source.items()]


def _row(arm: dict[str, Any]) -> tuple[str, ...]:
    start = (arm["arm"], str(arm["units"]), f"{arm['map5095_area']['mean']:.4f}")
    if arm["arm"] == UNIFORM:
        return (*start, "", "", "", "", *("" for _ in TARGETS))
    adjusted = f"{arm['area_p_holm']:.4f}" if "area_p_holm" in arm else ""
    difference, score = interval(arm["area_difference"]["labels"], "+.4f"), f"{arm['won']} / {arm['lost']}"
    middle = (difference, f"{arm['area_p']:.4f}", adjusted, score)
    return (*start, *middle, *(_saved(arm["savings"]["labels"][f"{t:.0%}"]) for t in TARGETS))


def _saved(saving: dict[str, Any]) -> str:
    """The pooled figure, of how many units, how many of them are bounds, and the mean of the units."""
    bounds = sum(saving["censored"].values())
    told = f"{saving['units']} units" + (f", {bounds} bounds" if bounds else "")
    return f"{interval(saving['pooled'], '+.0%')} ({told}; mean {interval(saving['mean'], '+.0%')})"


if __name__ == "__main__":
    made = text()
    files.write_text(OUT, made)
    print(made)
