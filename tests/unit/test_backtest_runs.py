"""What the command refuses before it trains, and what a folder of results may hold."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from backtest_fakes import make_task
from click.testing import CliRunner, Result
from rich.console import Console

from common import terminal
from common.cli import main
from common.experiments.backtest import runs
from common.experiments.backtest.arms import parse
from common.experiments.backtest.runs import BacktestError
from common.experiments.backtest.task import Recipe, Run, Source


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Twelve images to learn from, two to measure on; weights nobody looks into."""
    for kind in ("images", "labels"):
        (tmp_path / "dots" / kind).mkdir(parents=True)
    for i in range(14):
        (tmp_path / "dots" / "images" / f"{i}.jpg").write_bytes(b"\xff\xd8\xff" + bytes([i]))
        (tmp_path / "dots" / "labels" / f"{i}.txt").write_text("0 .5 .5 .2 .2\n")
    for split, rows in (("train", range(12)), ("val", range(12, 14))):
        (tmp_path / "dots" / f"{split}.txt").write_text("".join(f"./images/{i}.jpg\n" for i in rows))
    (tmp_path / "dots" / "data.yaml").write_text("train: train.txt\nval: val.txt\nnames: [dot]\n")
    (tmp_path / "w.pt").write_bytes(b"weights")
    return tmp_path


def ask(world: Path, *more: str) -> Result:
    given = ["--data", str(world / "dots/data.yaml"), "--model", str(world / "w.pt"), "--out", str(world / "out")]
    return CliRunner().invoke(main, ["backtest", *given, "--budgets", "2,4,8", *more])


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """Runs that would have been played."""
    asked: list[Run] = []
    monkeypatch.setattr(runs, "play", lambda run, _tell: bool(asked.append(run)) or True)
    return asked


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        (["--budgets", "4,2"], "--budgets is '4,2': rising numbers"),
        (["--budgets", "4,many"], "--budgets is '4,many': whole numbers"),
        (["--budgets", "4,13"], "--budgets ends with 13, but the training split of dots has 12 images"),
        (["--model", "/nowhere.pt"], "--model is '/nowhere.pt', which is no file"),
        (["--strategies", "hibrid"], "no strategy 'hibrid'; there are"),
        (["--max-minutes", "-1"], "--max-minutes is -1: a number of 0 or more is allowed"),
        (["--max-minutes", "nan"], "--max-minutes is nan: a number of 0 or more"),
        (["--max-minutes", "inf"], "--max-minutes is inf: a number of 0 or more"),
        (["--imgsz", "100"], "--imgsz is 100: a multiple of 32"),
        (["--updates", "0"], "--updates is 0: 1 or more"),
        (["--full-updates", "-3"], "--full-updates is -3"),
        (["--batch", "0"], "--batch is 0"),
        (["--freeze", "-1"], "--freeze is -1: 0 or more"),
        (["--seeds", "0"], "--seeds is 0, --jobs 1, --threads 0: at least 1, 1 and 0 are allowed"),
        (["--views", "upside"], "no view 'upside'; there are ['flip', 'half', 'heads']"),
        (["--groups", "x=/g.csv", "--data", "x=/d.yaml", "--groups", "y=/g.csv"], "--groups names 'y'"),
        (["--groups", "/none.csv"], "--groups /none.csv cannot be read"),
        (["--data", "/nowhere/data.yaml"], "--data /nowhere/data.yaml cannot be read"),
    ],
)
def test_a_wrong_setting_is_one_sentence_before_anything_is_trained(
    world: Path, played: list[Run], more: list[str], wanted: str
) -> None:
    done = ask(world, *more)
    assert done.exit_code == 2
    assert wanted in done.output.replace("\n", " ")
    assert not played
    assert not (world / "out").exists()


def test_two_data_sets_of_one_name_are_refused_and_may_be_named(world: Path, played: list[Run]) -> None:
    again = str(world / "dots/data.yaml")
    assert "two data sets are called 'dots'" in ask(world, "--data", again).output
    ask(world, "--data", f"more={again}", "--seeds", "2")
    names = [task.name for task in runs.tasks(played[0])]
    assert names == ["dots-0", "more-0", "dots-1", "more-1"]


def test_a_set_without_a_box_to_measure_is_refused(world: Path, played: list[Run]) -> None:
    for i in (12, 13):
        (world / "dots/labels" / f"{i}.txt").write_text("")
    assert "no image of the validation split has a box" in ask(world).output


def test_the_same_settings_go_on_and_others_are_refused(world: Path, played: list[Run]) -> None:
    assert ask(world).exit_code == 0
    assert ask(world).exit_code == 0
    assert ask(world, "--seeds", "5", "--strategies", "core_set", "--jobs", "2", "--aa").exit_code == 0
    assert len(played) == 3
    kept = json.loads((world / "out/settings.json").read_text())
    assert kept["arms"] == ["uniform", "additive", "screened", "hybrid", "uniform (A/A)", "core_set"]
    done = ask(world, "--updates", "9")
    assert done.exit_code == 2
    assert "holds results with another --updates (240, now 9): choose another --out" in done.output.replace("\n", " ")
    (world / "w.pt").write_bytes(b"others")
    assert "another --model" in ask(world).output


def test_a_run_may_go_on_on_another_device(world: Path, played: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "require_device", lambda _name: None)
    for device in ("cpu", "1"):
        assert ask(world, "--device", device).exit_code == 0
        assert json.loads((world / "out/settings.json").read_text())["recipe"]["device"] == device
    assert [run.recipe.device for run in played] == ["cpu", "1"]


def test_greater_budgets_may_be_added_and_the_first_ones_stay(world: Path, played: list[Run]) -> None:
    ask(world)
    assert ask(world, "--budgets", "2,4,8,12").exit_code == 0
    assert json.loads((world / "out/settings.json").read_text())["recipe"]["budgets"] == [2, 4, 8, 12]
    for other in ("2,4,8", "2,6,8,12", "4,8,12"):
        assert "holds results with another --budgets" in ask(world, "--budgets", other).output.replace("\n", " ")


def test_other_images_under_the_same_name_are_refused(world: Path, played: list[Run]) -> None:
    ask(world)
    (world / "dots/labels/3.txt").write_text("0 .5 .5 .3 .3\n")
    assert "results of another data set called 'dots'" in ask(world).output.replace("\n", " ")


def test_a_label_means_one_arm_for_ever(world: Path, played: list[Run]) -> None:
    ask(world, "--strategies", "x=core_set")
    task = runs.tasks(played[0])[0]
    task.folder.mkdir(parents=True)
    task.arm_file(task.arms[1]).write_text(json.dumps({"arm": "x", "strategy": "core_set", "options": {}}))
    assert ask(world, "--strategies", "x=core_set").exit_code == 0
    assert "holds an arm 'x' with strategy 'core_set'" in ask(world, "--strategies", "x=hybrid").output


def test_cores_are_shared_between_jobs(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.yolo.offline.cores", lambda: 8)
    recipe, source = Recipe((2, 4), "/w.pt", "sha", 64, 1, 1), Source("dots", str(world / "dots/data.yaml"))
    run = Run(world / "out", recipe, [source], parse("hybrid"), 1, jobs=3)
    assert [t.threads for t in runs.tasks(run)] == [2]
    assert [t.threads for t in runs.tasks(Run(world, recipe, [source], [], 1, threads=5))] == [5]


def test_a_unit_that_fails_says_why_and_where(tmp_path: Path) -> None:
    task = make_task(tmp_path, ())
    task.save()
    (task.desk / "failure.json").write_text('{"message": "the disk is full"}')
    with pytest.raises(BacktestError, match=r"unit dots-0 failed: the disk is full \(see .*log.txt\)"):
        runs._ended(task, 1)
    (task.desk / "failure.json").unlink()
    with pytest.raises(BacktestError, match="ended with code -9"):
        runs._ended(task, -9)
    assert (runs._ended(task, 0), runs._ended(task, 3)) == (True, False)


def test_without_a_terminal_a_line_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    out: Any = io.StringIO()
    tell = terminal.lines("trainings", Console(file=out, width=100), at_once=True)
    for second, done in ((0, 5), (30, 6), (120, 7), (130, 8), (600, 15)):
        now[0] = float(second)
        tell(done, 15)
    assert out.getvalue().splitlines() == [
        "5 of 15 trainings",
        "7 of 15 trainings, about 8 min left",
        "15 of 15 trainings, about 0 min left",
    ]


def test_results_go_only_into_a_folder_of_their_own(
    world: Path, played: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = world / "home"
    (home / "rounds").mkdir(parents=True)
    monkeypatch.setenv("HARDFIRST_HOME", str(home))
    (world / "link").symlink_to(home / "rounds")
    os.mkfifo(world / "pipe")
    for out, said in (
        ("pipe", "which is no folder: name one for the results"),
        ("w.pt", "which is no folder"),
        ("dots/data.yaml", "which is no folder"),
        ("w.pt/out", "cannot be written (Not a directory)"),
        ("home", "which hardfirst keeps in"),
        ("link", "which hardfirst keeps in"),
    ):
        for more in ([], ["--report"]):
            done = ask(world, "--out", str(world / out), *more)
            assert done.exit_code == 2, done.output
            assert said in done.output.replace("\n", " ")
    assert played == []
    assert list((home / "rounds").iterdir()) == []


def test_results_in_the_folder_of_hardfirst_may_be_gone_on_with(
    world: Path, played: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARDFIRST_HOME", str(world / "home"))
    for _ in range(2):
        assert ask(world, "--out", str(world / "home" / "runs")).exit_code == 0
    assert len(played) == 2
