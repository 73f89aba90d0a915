"""From records of units to figures, sentences and files."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from common.cli import main
from common.experiments.backtest.arms import AA
from common.experiments.backtest.plot import drawn
from common.experiments.backtest.provenance import told
from common.experiments.backtest.report import gather, losses, summarise
from common.experiments.backtest.tables import noise_sentence, sentences, tables
from tests.unit.backtest_records import full, record


def arms(records: Sequence[dict[str, Any]], references: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {a["arm"]: a for a in summarise(gather(records, references)[0])["arms"]}


def test_an_arm_that_is_there_one_round_earlier_saves_half() -> None:
    found = arms([record("uniform", [0, 0.5, 0.95]), record("hybrid", [0, 0.95, 1])], [full()])["hybrid"]
    saved = found["savings"]["labels"]["95%"]
    assert saved["mean"]["mean"] == pytest.approx(0.5)
    assert saved["per_unit"]["cards-0"] == {
        "value": pytest.approx(0.5),
        "bound": "",
        "x": pytest.approx(8),
        "uniform": pytest.approx(16),
    }
    assert found["area_difference"]["labels"]["mean"] == pytest.approx((0.45 / 2 + (0.45 + 0.05) / 2) / 2)


def test_what_it_saves_in_boxes_is_counted_in_boxes() -> None:
    records = [record("uniform", [0, 0.5, 0.95]), record("hybrid", [0, 0.5, 0.95], boxes=4)]
    found = arms(records, [full()])["hybrid"]["savings"]
    assert found["labels"]["95%"]["mean"]["mean"] == pytest.approx(0)
    assert found["boxes"]["95%"]["mean"]["mean"] == pytest.approx(-1)
    assert found["hours"]["95%"]["mean"]["mean"] == pytest.approx(1 - (5 + 28) / (5 + 14))


def test_a_saturated_unit_is_named_and_left_out_of_savings_only() -> None:
    records = [record("uniform", [0.92, 0.94, 0.99]), record("hybrid", [0.92, 0.97, 0.99])]
    records += [record("uniform", [0, 0.5, 0.95], 1), record("hybrid", [0, 0.95, 1], 1)]
    units, missing = gather(records, [full(0), full(1)])
    summary = summarise(units)
    hybrid = summary["arms"][1]
    assert (hybrid["units"], hybrid["savings"]["labels"]["90%"]["units"]) == (2, 1)
    assert hybrid["savings"]["labels"]["90%"]["saturated"] == ["cards-0"]
    assert hybrid["savings"]["labels"]["95%"]["units"] == 2
    assert "Saturated at 90% (uniform is there with the first budget, left out): cards-0." in sentences(
        summary, missing
    )


def test_a_unit_that_never_gets_there_stays_as_a_bound() -> None:
    records = [record("uniform", [0, 0.5, 0.95]), record("slow", [0, 0.1, 0.2]), record("quick", [0, 0.95, 1])]
    records += [record("uniform", [0, 0.1, 0.2], 1), record("slow", [0, 0.1, 0.2], 1), record("quick", [0, 0.95, 1], 1)]
    found = arms(records, [full(0), full(1)])
    slow, quick = (found[name]["savings"]["labels"]["95%"] for name in ("slow", "quick"))
    assert slow["censored"] == {"arm": 1, "uniform": 0}
    assert quick["censored"] == {"arm": 0, "uniform": 1}
    assert quick["mean"]["mean"] == pytest.approx(0.5)
    text = "\n".join(table.markdown() for table in tables(summarise(gather(records, [full(0), full(1)])[0])))
    assert "(>= 1)" in text
    assert "(<= 1)" in text


def test_a_unit_in_which_neither_gets_there_is_undecided_and_left_out() -> None:
    records = [record("uniform", [0, 0.5, 0.95]), record("hybrid", [0, 0.95, 1])]
    records += [record("uniform", [0, 0.1, 0.2], 1), record("hybrid", [0, 0.1, 0.3], 1)]
    summary = summarise(gather(records, [full(0), full(1)])[0])
    saved = summary["arms"][1]["savings"]["labels"]["95%"]
    assert (saved["units"], saved["undecided"], saved["saturated"]) == (1, ["cards-1"], [])
    assert saved["per_unit"]["cards-1"] is None
    for figure in (saved["mean"]["mean"], saved["median"], saved["pooled"]["mean"]):
        assert figure == pytest.approx(0.5), "not .25"
    assert summary["arms"][1]["data"]["cards"]["labels_saved"]["95%"] == pytest.approx(0.5)
    table = next(t for t in tables(summary) if "95%" in t.title)
    assert table.title.endswith("neither: undecided, left out)")
    assert dict(zip(table.heads, table.rows[0], strict=True))["undecided"] == "1"


def test_a_table_in_which_nothing_is_decided_has_no_figures() -> None:
    records = [record("uniform", [0, 0.1, 0.2]), record("hybrid", [0, 0.1, 0.3])]
    summary = summarise(gather(records, [full()])[0])
    assert next(t for t in tables(summary) if "95%" in t.title).rows[0] == ("hybrid", "0", "1", *["-"] * 5)


def test_rounds_of_several_devices_are_told_about() -> None:
    records = [record("uniform", [0, 0.5, 0.95]), record("hybrid", [0, 0.95, 1])]
    assert told(records, [full()]) == []
    for r, device in zip(records, ("cpu", "cuda:0"), strict=True):
        r["rounds"] = [one | {"device": device} for one in r["rounds"]]
    assert told(records[:1], [full()]) == []
    assert told(records, [full()]) == [
        "Trained on several devices, whose arithmetic differs in the last digits: 3 rounds on cpu, 3 rounds on cuda:0."
    ]


def test_rounds_of_several_versions_are_told_about() -> None:
    records = [record("uniform", [0, 0.5, 0.95]), record("hybrid", [0, 0.95, 1])]
    old, new = ({"torch": number, "python": "3.11.7"} for number in ("2.14.0", "2.15.0"))
    records[0]["versions"] = old
    assert told(records, [full()]) == []
    records[1]["versions"] = new
    records[1]["rounds"][0]["versions"] = old
    reference = full() | {"versions": new}
    assert told(records, [reference]) == [
        "Played with several versions, which may train otherwise: torch 2.14.0 (4 rounds), 2.15.0 (3 rounds)."
    ]


def test_a_first_training_that_came_out_otherwise_is_told_about() -> None:
    records = [record("uniform", [0.3, 0.5, 0.95]), record("hybrid", [0.3, 0.95, 1])]
    records += [record("uniform", [0.2, 0.5, 0.95], 1), record("hybrid", [0.2, 0.95, 1], 1)]
    assert told(records, [full(0), full(1)]) == []
    records += [record("additive", [0.25, 0.5, 0.95], 1), record(AA, [0.21, 0.5, 0.95], 1)]
    (said,) = told(records, [full(0), full(1)])
    assert "cards-1 (2 arms, up to 0.0500)." in said
    assert "cards-0" not in said
    for r in records[-2:]:
        r["rounds"][0]["picked"] = ["another image"]
    assert told(records, [full(0), full(1)]) == [], "another training, then"


def test_no_arm_is_behind_before_it_has_chosen_anything() -> None:
    """The first training of a unit done once more, on another machine."""
    records = [record("uniform", [0.3, 0.4, 0.5]), record("hybrid", [0.2, 0.4, 0.5])]
    assert arms(records, [full()])["hybrid"]["area_difference"]["labels"]["mean"] == 0
    records[1]["rounds"][0]["picked"] = ["another image"]
    assert arms(records, [full()])["hybrid"]["area_difference"]["labels"]["mean"] < 0


def test_an_arm_that_lacks_the_budgets_asked_for_later_goes_and_is_named(tmp_path: Path) -> None:
    """It would be censored at its old end, and look like a saving."""
    records = [record("uniform", [0, 0.5, 0.99]), record("hybrid", [0, 0.51]), record("uniform #2", [0, 0.4])]
    records += [record("uniform", [0, 0.5], 1), record("hybrid", [0, 0.51], 1)]
    for r in records:
        r["complete"] = True
    units, missing = gather(records, [full(0), full(1)])
    assert [list(u.rounds) for u in units] == [["uniform"], ["uniform", "hybrid"]]
    assert missing == [
        "cards-0: hybrid is played to 8 labels, and uniform to 16",
        "cards-0: uniform #2 is played to 8 labels, and uniform to 16",
    ]
    write(tmp_path, records, [full(0), full(1)])
    done = CliRunner().invoke(main, ["backtest", "--report", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "curves.png").exists()


def test_the_baseline_is_the_mean_of_its_draws() -> None:
    records = [record("uniform", [0, 0.2, 0.4]), record("uniform #2", [0, 0.4, 0.8]), record("hybrid", [0, 0.3, 0.6])]
    found = arms(records, [full()])
    assert list(found) == ["uniform", "hybrid"]
    assert found["hybrid"]["area_difference"]["labels"]["mean"] == pytest.approx(0)


def test_noise_is_what_uniform_differs_from_itself_and_is_no_test() -> None:
    records = [record("uniform", [0, 0.2, 0.4], s) for s in (0, 1)]
    records += [record(AA, [0, 0.2, 0.4 + d], s) for s, d in ((0, 0.04), (1, -0.08))]
    summary = summarise(gather(records, [full(0), full(1)])[0])
    assert summary["noise"]["differences"] == pytest.approx([0.01, -0.02])
    assert summary["noise"]["mean_absolute"] == pytest.approx(0.015)
    assert "mean absolute difference of the area 0.0150" in noise_sentence(summary)
    assert "area_p_holm" not in summary["arms"][1]
    assert losses(summary) == []


def test_holm_counts_the_arms_that_compete() -> None:
    records = []
    for seed in range(6):
        records += [record("uniform", [0, 0.2, 0.4], seed), record("a", [0, 0.3, 0.5 + seed / 100], seed)]
        records += [record("b", [0, 0.2 + seed / 100, 0.4], seed), record(AA, [0, 0.2, 0.4], seed)]
    found = arms(records, [full(s) for s in range(6)])
    assert found["a"]["area_p"] == pytest.approx(2 / 64)
    assert found["a"]["area_p_holm"] == pytest.approx(4 / 64)


def test_the_data_sets_where_an_arm_loses_are_named() -> None:
    records = [record("uniform", [0, 0.5, 0.95]), record("hybrid", [0, 0.95, 1])]
    records += [record("uniform", [0, 0.95, 1], data="cells"), record("hybrid", [0, 0.5, 0.95], data="cells")]
    summary = summarise(gather(records, [full(), full(data="cells")])[0])
    said = losses(summary)
    assert said[0] == "hybrid loses to uniform on cells: area -0.2375, 1 of 1 units"
    assert said[-1] == "hybrid loses to uniform on cells: 100% more labels to 95%"
    assert not [line for line in said if "cards" in line]
    assert summary["arms"][1]["data"]["cards"]["wins"] == 1


def test_what_is_not_whole_is_named_and_left_out() -> None:
    records = [record("uniform", [0, 0.5, 0.95]), record("hybrid", [0, 0.95]), record("uniform", [0, 0.5], 1)]
    units, missing = gather(records, [full(0), full(1)])
    assert [u.name for u in units] == ["cards-0"]
    assert missing == [
        "cards-0: hybrid is not played to its end",
        "cards-1: uniform is not played to its end",
    ]
    assert gather([], [full()])[1] == ["cards-0: uniform is not played"]
    assert [a["arm"] for a in summarise(units)["arms"]] == ["uniform"]


def test_the_order_of_records_changes_no_figure() -> None:
    records = [record(arm, [0, q, 0.9], s) for s in range(3) for arm, q in (("uniform", 0.3), ("hybrid", 0.4 + s / 10))]
    one_way = summarise(gather(records, [full(s) for s in range(3)])[0])
    other = summarise(gather(records[::-1], [full(s) for s in (2, 0, 1)])[0])
    assert one_way == other


def write(out: Path, records: Sequence[dict[str, Any]], references: Sequence[dict[str, Any]]) -> None:
    for r in [*records, *references]:
        path = out / "units" / f"{r['data']}-{r['seed']}" / (f"{r['arm']}.json" if "arm" in r else "full.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(r))
    (out / "settings.json").write_text(json.dumps({"arms": ["uniform", "hybrid", "core_set"]}))


def test_report_writes_what_it_prints(tmp_path: Path) -> None:
    records = [
        record(arm, [0, q, 0.95], s)
        for s in (0, 1)
        for arm, q in (("core_set", 0.4), ("hybrid", 0.9), ("uniform", 0.5))
    ]
    write(tmp_path, records, [full(0), full(1)])
    done = CliRunner().invoke(main, ["backtest", "--report", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "Noise: not measured" in done.output
    assert "core_set loses to uniform on cards" in done.output
    report = json.loads((tmp_path / "report.json").read_text())
    assert [a["arm"] for a in report["arms"]] == ["uniform", "hybrid", "core_set"], "as they were asked for"
    told = CliRunner().invoke(main, ["backtest", "--report", "--json", "--out", str(tmp_path)])
    assert json.loads(told.stdout) == {**report, "folder": str(tmp_path)}
    with (tmp_path / "report.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 * 3 + 2
    assert rows[0]["arm"] == "uniform"
    assert set(rows[0]) >= {"data", "seed", "arm", "labels", "boxes", "hours", "map5095", "map50", "worst_quarter"}
    markdown = (tmp_path / "report.md").read_text()
    assert markdown.startswith("### What would have been saved")
    assert markdown.index(report["answer"][0]) < markdown.index("Noise")
    told = " ".join(done.output.split())
    assert told.index(report["answer"][0]) > told.index("core_set loses"), "where a terminal stands still"
    assert markdown.count("\n### ") == 6
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_report_of_nothing_says_so(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["backtest", "--report", "--out", str(tmp_path / "none")])
    assert done.exit_code == 2
    assert "holds no backtest" in done.output
    write(tmp_path, [record("uniform", [0, 0.5])], [full()])
    done = CliRunner().invoke(main, ["backtest", "--report", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "No unit is played to its end yet" in done.output
    assert "What would have been saved" not in done.output
    assert not (tmp_path / "curves.png").exists()


def test_curves_are_of_arms_that_can_be_compared() -> None:
    records = [record(arm, [0, 0.5, 0.95], s) for s in (0, 1) for arm in ("uniform", AA, "hybrid")]
    some = gather([*records, record("core_set", [0, 0.5, 0.95])], [full(0), full(1)])[0]
    assert drawn(some) == ["uniform", AA, "hybrid"]
    begun = gather([r for r in records if r["arm"] != "hybrid" or r["seed"] == 0], [full(0), full(1)])[0]
    assert drawn(begun) == ["uniform", AA, "hybrid"], "none is everywhere"
