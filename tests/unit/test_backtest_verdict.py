"""The report's answer: what would have been saved, and whether it may be chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from common.experiments.backtest.arms import AA
from common.experiments.backtest.report import gather, summarise
from common.experiments.backtest.verdict import Answer, answer
from tests.unit.backtest_records import full, record


def asked(*records: dict[str, Any]) -> Answer:
    return answer(summarise(gather(records, [full(s) for s in {r["seed"] for r in records}])[0]))


def units(n: int, **arms: Sequence[float]) -> list[dict[str, Any]]:
    return [
        record(arm, [q + seed / 1000 for q in qualities] if arm != "uniform" else qualities, seed)
        for seed in range(n)
        for arm, qualities in arms.items()
    ]


def rows(found: Answer) -> list[dict[str, str]]:
    (table,) = found.tables
    return [dict(zip(table.heads, row, strict=True)) for row in table.rows]


def test_the_answer_names_the_saving_and_that_it_is_more_than_chance() -> None:
    found = asked(*units(6, uniform=[0, 0.5, 0.95], hybrid=[0, 0.96, 0.98]))
    assert found.sentences == (
        "hybrid has a larger area than uniform order in 6 of 6 units and needs 50% fewer labels than that to 95%; "
        "this is more than chance.",
    )
    (hybrid,) = rows(found)
    assert hybrid["labels saved to 95% [90%]"].startswith("+50% [+50%, ")
    assert (hybrid["larger area"], hybrid["more than chance"]) == ("6 of 6", "yes, p 0.031")


@pytest.mark.parametrize(("arms", "n", "needed"), [(1, 1, 5), (1, 4, 5), (2, 5, 6), (3, 5, 6), (5, 6, 7)])
def test_it_says_how_many_units_can_tell_an_arm_from_chance(arms: int, n: int, needed: int) -> None:
    better = {f"arm{i}": [0, 0.96, 0.98] for i in range(arms)}
    few, enough = (asked(*units(count, uniform=[0, 0.5, 0.95], **better)) for count in (n, needed))
    assert "this may be chance" in few.sentences[0]
    assert few.sentences[-1].endswith(f"{needed} can: raise --seeds, or give more data sets.")
    assert "this is more than chance" in enough.sentences[0]
    assert len(enough.sentences) == 1


def test_an_arm_that_is_worse_is_never_called_better_however_sure_that_is() -> None:
    found = asked(*units(6, uniform=[0, 0.9, 0.95], worse=[0, 0.3, 0.4]))
    assert found.sentences == ("No arm is better than uniform order by its area.",)
    (worse,) = rows(found)
    assert worse["more than chance"] == "not shown, p 0.031"
    both = asked(*units(6, uniform=[0, 0.9, 0.95], worse=[0, 0.3, 0.4], better=[0, 0.91, 0.96]))
    assert [row["arm"] for row in rows(both)] == ["better", "worse"]


def test_a_lead_that_costs_labels_is_told_as_more_labels() -> None:
    found = asked(*units(6, uniform=[0, 0.1, 0.99], hybrid=[0, 0.7, 0.94]))
    assert "% more labels than that to 95%; this is more than chance" in found.sentences[0]
    assert rows(found)[0]["labels saved to 95% [90%]"].startswith("-")


def test_where_nothing_can_be_saved_the_budgets_are_to_blame() -> None:
    saturated = asked(*units(6, uniform=[0.96, 0.97, 0.98], hybrid=[0.97, 0.98, 0.99]))
    assert "give smaller --budgets" in saturated.sentences[1]
    assert rows(saturated)[0]["labels saved to 95% [90%]"] == "saturated"
    undecided = asked(*units(6, uniform=[0, 0.1, 0.2], hybrid=[0, 0.2, 0.3]))
    assert "give larger --budgets, or more --updates" in undecided.sentences[1]
    assert rows(undecided)[0]["labels saved to 95% [90%]"] == "undecided"


def test_no_answer_without_an_arm_that_competes() -> None:
    assert asked(*units(2, uniform=[0, 0.5, 0.95])) == Answer()
    assert asked(record("uniform", [0, 0.5, 0.95]), record(AA, [0, 0.6, 0.95])) == Answer()
