"""The report's answer: what would have been saved, and whether it may be chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from common.experiments.backtest.arms import AA
from common.experiments.backtest.report import gather, summarise
from common.experiments.backtest.verdict import Answer, answer
from tests.unit.backtest_records import full, record


def asked(*records: dict[str, Any], reference: float = 1.0) -> Answer:
    references = [full(seed, quality=reference) for seed in {r["seed"] for r in records}]
    return answer(summarise(gather(records, references)[0]))


def units(n: int, **arms: Sequence[float]) -> list[dict[str, Any]]:
    return [
        record(arm, [q + seed / 1000 for q in qualities] if arm != "uniform" else qualities, seed)
        for seed in range(n)
        for arm, qualities in arms.items()
    ]


def rows(found: Answer) -> list[dict[str, str]]:
    (table,) = found.tables
    return [dict(zip(("arm", "units", "95", "90", "won", "chance"), row, strict=True)) for row in table.rows]


def test_the_answer_names_the_saving_and_that_the_area_is_more_than_chance() -> None:
    found = asked(*units(6, uniform=[0, 0.5, 0.95], hybrid=[0, 0.96, 0.98]))
    assert found.sentences == (
        "hybrid has a larger area than uniform order in 6 of 6 units, more than chance (p 0.031 after Holm's "
        "correction, at most 0.10 is wanted). To 95% it needs 50% fewer labels, saved [+50%, +51%] (units: 6).",
    )
    (hybrid,) = rows(found)
    assert hybrid["95"] == "+50% [+50%, +51%] (6)"
    assert (hybrid["won"], hybrid["chance"]) == ("6 of 6", "yes, p 0.031")


@pytest.mark.parametrize(("arms", "n", "needed"), [(1, 1, 5), (1, 4, 5), (2, 5, 6), (3, 5, 6), (5, 6, 7)])
def test_it_says_how_many_units_can_tell_an_arm_from_chance(arms: int, n: int, needed: int) -> None:
    better = {f"arm{i}": [0, 0.96, 0.98] for i in range(arms)}
    few, enough = (asked(*units(count, uniform=[0, 0.5, 0.95], **better)) for count in (n, needed))
    assert "which may be chance" in few.sentences[0]
    assert f"at least {needed} are needed" in few.sentences[-1]
    assert rows(few)[0]["chance"].startswith("too few units")
    assert ", more than chance" in enough.sentences[0]
    assert len(enough.sentences) == 1


def test_an_arm_of_few_units_is_told_from_one_that_lost_them() -> None:
    records = units(8, uniform=[0, 0.5, 0.95], even=[0, 0.5, 0.95], lucky=[0, 0.96, 0.98])
    records = [r for r in records if r["arm"] != "lucky" or r["seed"] == 0]
    for r in records:
        if r["arm"] == "even":
            r["rounds"][1]["metrics"]["map5095"] += 0.02 if r["seed"] % 3 else -0.02
    found = asked(*records)
    assert [(row["arm"], row["chance"].split(",")[0]) for row in rows(found)] == [
        ("even", "not shown"),
        ("lucky", "too few units"),
    ], "one unit, however well it went, is not the surest"
    assert found.sentences[-1].startswith("1 of 2 arms have too few units")


def test_an_arm_that_is_worse_is_called_that_when_it_is_sure() -> None:
    found = asked(*units(6, uniform=[0, 0.9, 0.95], worse=[0, 0.3, 0.4]))
    assert found.sentences == ("No arm has a larger area than uniform order.",)
    assert rows(found)[0]["chance"] == "worse, p 0.031"
    both = asked(*units(6, uniform=[0, 0.9, 0.95], worse=[0, 0.3, 0.4], better=[0, 0.91, 0.96]))
    assert [row["arm"] for row in rows(both)] == ["better", "worse"]


def test_a_saving_says_of_how_many_units_it_is_and_how_many_are_bounds() -> None:
    found = asked(*units(6, uniform=[0, 0.1, 0.99], hybrid=[0, 0.7, 0.94]))
    assert "% more labels, saved [" in found.sentences[0]
    assert "(units: 6, 6 bounds)" in found.sentences[0]
    assert rows(found)[0]["95"].startswith("-")
    records = units(6, uniform=[0.96, 0.97, 0.98], hybrid=[0.97, 0.98, 0.99])[2:]
    one = asked(*records, *units(1, uniform=[0, 0.5, 0.95], hybrid=[0, 0.96, 0.98]))
    assert rows(one)[0]["95"] == "+50% (1)"
    assert "needs 50% fewer labels (units: 1)" in one.sentences[0]


def test_where_nothing_can_be_saved_the_budgets_are_to_blame() -> None:
    saturated = asked(*units(6, uniform=[0.96, 0.97, 0.98], hybrid=[0.97, 0.98, 0.99]))
    assert "give smaller --budgets" in saturated.sentences[1]
    assert rows(saturated)[0]["95"] == "saturated"
    undecided = asked(*units(6, uniform=[0, 0.1, 0.2], hybrid=[0, 0.2, 0.3]))
    assert "give larger --budgets, or more --updates" in undecided.sentences[1]
    assert rows(undecided)[0]["95"] == "undecided"


def test_a_reference_that_learned_too_little_is_told_about() -> None:
    found = asked(*units(6, uniform=[0, 0.2, 0.4], hybrid=[0, 0.3, 0.5]), reference=0.35)
    assert "In 6 of 6 units the training on every label is no better than that on uniform's last budget" in " ".join(
        found.sentences
    )


def test_no_answer_without_an_arm_that_competes() -> None:
    assert asked(*units(2, uniform=[0, 0.5, 0.95])) == Answer()
    assert asked(record("uniform", [0, 0.5, 0.95]), record(AA, [0, 0.6, 0.95])) == Answer()
