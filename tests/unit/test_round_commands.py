"""The commands of rounds: tables for people, JSON for scripts, one sentence and an exit code where it cannot be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common import compose, round_commands
from common.loop import asking
from common.loop.way_back import ask_way_back
from common.store.measurements import MeasurementRow
from tests.fakes import World, settle
from tests.unit.cli_runs import run, sentence
from tests.unit.test_loop import KEY
from tests.unit.way_back_world import FIRST, a_round, make, row_of, start_round

METRICS = {"map50": 0.5, "map50_low": 0.4, "map50_high": 0.6, "map5095": 0.3, "map5095_low": 0.2, "map5095_high": 0.4}


@pytest.fixture
def world(clean_home: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A project whose first queue is active; commands meet its models, its media and a store of their own."""
    made = make(clean_home.parent)
    monkeypatch.setattr(compose, "tools", lambda _settings, store: replace(made.tools, store=store, labels={}))
    settle(made)
    return made


def measured(world: World, number: int, labels: int, map50: float) -> None:
    """What a round's weights came to on 40 images of round ``number``, the newest."""
    classes = {"ap50/cat": map50, "ap5095/cat": map50 / 2, "quality/cat": map50}
    metrics = {**METRICS, "map50": map50, **classes}
    newest = world.tools.store.rounds.newest(KEY)
    assert newest is not None
    row = MeasurementRow(KEY, newest.number, "checkpoint", number, f"{number}" * 64, labels, 40, 8, metrics, 1.0)
    world.tools.store.measurements.add([row])


# --- rounds, curve, status -------------------------------------------------------------------------------


def test_rounds_are_a_table_and_the_same_as_json(world: World) -> None:
    assert run("rounds", "--project", KEY).stdout.startswith("no round yet; `hardfirst status --project fake:1`")
    a_round(world)
    measured(world, 1, 3, 0.5)
    found = json.loads(run("rounds", "--project", KEY, "--json").stdout)
    assert found == json.loads(json.dumps(asking.ANSWERS["rounds"](world.tools, row_of(world))))
    (entry,) = found["rounds"]
    lines = run("rounds", "--project", KEY).stdout.splitlines()
    heads = ("round", "state", "verdict", "labels", "validation images", "mAP50", "mAP50-95", "seconds", "reason")
    assert lines[0].split() == " ".join(heads).split()
    (line,) = (text for text in lines[1:] if text.split() and text.split()[0] == "1")
    assert line.split()[:4] == ["1", "done", entry["verdict"], "3"]
    assert ".500" in line
    assert f"serves; {entry['reason']}" in line


def test_the_curve_shows_points_with_intervals_classes_and_advice(world: World) -> None:
    said = run("curve", "--project", KEY).stdout.splitlines()
    assert said[-1] == "advice: wait: no round has been measured yet"
    a_round(world)
    a_round(world)
    measured(world, 1, 3, 0.5)
    measured(world, 2, 6, 0.6)
    text = run("curve", "--project", KEY).stdout
    assert "measured on 40 images of round 2" in text
    assert "0.400 to 0.600" in text
    assert "+3.3333" in text
    assert "AP50 of class" in text
    assert "8 of the 40 images are not of the random slice" in text
    assert text.splitlines()[-1].startswith("advice: wait: 2 of 3 rounds")
    found = json.loads(run("curve", "--project", KEY, "--json").stdout)
    assert [p["labels"] for p in found["points"]] == [3, 6]
    assert found["project"] == KEY


def test_status_tells_the_last_verdict_and_the_advice_in_a_line_each(world: World) -> None:
    before = run("status").stdout
    assert "  verdict" not in before
    assert "  advice" not in before
    a_round(world)
    measured(world, 1, 3, 0.5)
    lines = [line.split(maxsplit=1) for line in run("status").stdout.splitlines()]
    said = {words[0]: words[1] for words in lines if len(words) == 2 and words[0] in ("verdict", "advice")}
    assert said["verdict"].startswith("round 1 promoted")
    assert said["advice"].startswith("wait: ")
    (row,) = json.loads(run("status", "--json").stdout)
    assert (row["verdict"], row["advice"]) == (said["verdict"], said["advice"])


def test_status_says_what_is_about_to_serve(world: World) -> None:
    a_round(world)
    ask_way_back(world.tools, row_of(world))
    assert f"about to serve: {FIRST}" in run("status").stdout


# --- train, cancel, rollback, promote --------------------------------------------------------------------


@pytest.mark.parametrize("now", [[], ["--now"]])
def test_training_is_asked_for_with_now_and_without(world: World, now: list[str]) -> None:
    assert run("train", "--project", KEY, *now).stdout.startswith("asked; `hardfirst status")
    assert row_of(world).training_asked is not None


def test_a_running_round_is_cancelled(world: World) -> None:
    assert sentence("cancel", "--project", KEY, code=1).startswith("no round of fake:1 is running")
    start_round(world)
    assert run("cancel", "--project", KEY).stdout == "round 1 is cancelled; the model that served serves on\n"
    assert [r.state for r in world.tools.store.rounds.all(KEY)] == ["cancelled"]


def test_a_rollback_is_a_wish_that_the_worker_fulfils(world: World) -> None:
    assert sentence("rollback", "--project", KEY, code=1).startswith("fake:1 has nothing to go back to")
    second = a_round(world)
    assert run("rollback", "--project", KEY).stdout.startswith(f"asked: from {second} to {FIRST}; `hardfirst status")
    assert (row_of(world).way_back["to"], world.platform.active) == (FIRST, second)
    settle(world)
    assert world.platform.active == FIRST
    found = json.loads(run("rollback", "--project", KEY, "--to", second, "--json").stdout)
    assert found == {"project": KEY, "from": FIRST, "to": second}
    assert sentence("rollback", "--project", KEY, "--to", "x", code=2).startswith("no queue 'x'; there are [")


def test_a_round_is_promoted_by_its_number(world: World) -> None:
    a_round(world)
    assert sentence("promote", "--project", KEY, "--round", "1", code=1) == "the model of round 1 serves already"
    assert sentence("promote", "--project", KEY, "--round", "9", code=2) == "no round 9; there are [1]"
    run("rollback", "--project", KEY)
    settle(world)
    assert run("promote", "--project", KEY, "--round", "1").stdout.startswith("asked: the model of round 1 is to serve")
    settle(world)
    assert world.tools.serving(row_of(world))[1] == 1


@pytest.mark.parametrize("command", ["rounds", "curve", "train", "cancel", "rollback", "review", "kpi"])
@pytest.mark.usefixtures("world")
def test_a_project_that_nobody_knows_is_code_two(command: str) -> None:
    assert sentence(command, "--project", "fake:9", code=2) == "no project 'fake:9'; there are ['fake:1']"


# --- review, kpi -----------------------------------------------------------------------------------------


FINDING: dict[str, Any] = {
    **{"id": 7, "sample": "103", "kind": "missed", "reason": "a cat at the left", "weight": 0.8, "boxes": []},
    **{"round": 1, "state": "open", "at": 1.0, "link": "http://platform/tasks/103"},
}


def test_the_review_list_is_a_table_and_findings_are_dismissed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("review", "--project", KEY).stdout == "nothing to look at\n"
    assert json.loads(run("review", "--project", KEY, "--json").stdout) == {"project": KEY, "review": []}
    assert sentence("review", "--project", KEY, "--dismiss", "7", code=2)
    dismissed: list[int] = []
    monkeypatch.setattr(asking, "review_rows", lambda _tools, _row, state: [FINDING] if state == "open" else [])
    monkeypatch.setattr(asking, "dismiss", lambda _tools, _row, finding: dismissed.append(finding))
    text = run("review", "--project", KEY).stdout
    assert "missed" in text
    assert "a cat at the left" in text
    assert "http://platform/tasks/103" in text
    assert run("review", "--project", KEY, "--dismiss", "7").stdout == "dismissed 7\n"
    assert dismissed == [7]
    assert run("review", "--project", KEY, "--state", "gone").stdout == "nothing to look at\n"


def test_figures_of_the_project_are_lines_for_people_and_json_for_scripts(world: World) -> None:
    found = json.loads(run("kpi", "--project", KEY, "--json").stdout)
    lines = run("kpi", "--project", KEY).stdout.splitlines()
    assert lines[0] == f"project: {KEY}"
    for name in found:
        assert any(line.startswith(name.replace("_", " ")) for line in lines), name


def test_figures_within_figures_stand_on_one_line() -> None:
    told = round_commands._lines({"with_boxes": {"images": 3, "median_s": 4.25}, "difference": "not enough data"})
    assert told == ["with boxes: images: 3, median: 4.25 s", "difference: not enough data"]
