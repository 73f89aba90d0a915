"""A whole backtest with real trainings: killed in the middle, gone on with, and equal to one that was left alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from common.yolo import files

pytestmark = pytest.mark.integration
PATIENCE_S = 240


@pytest.fixture
def cards(shared: Path, tmp_path: Path) -> Path:
    """Fourteen cards to learn from, six to measure on."""
    source, home = shared / "data/cards", tmp_path / "cards"
    for kind in ("images", "labels"):
        (home / kind).mkdir(parents=True)
    for split, n in (("train", 14), ("val", 6)):
        names = [Path(line).name for line in (source / f"{split}.txt").read_text().splitlines()][:n]
        for name in names:
            shutil.copy(source / "images" / name, home / "images")
            shutil.copy((source / "labels" / name).with_suffix(".txt"), home / "labels")
        (home / f"{split}.txt").write_text("".join(f"./images/{name}\n" for name in names))
    shutil.copy(source / "data.yaml", home)
    return home / "data.yaml"


def command(shared: Path, cards: Path, out: Path, *more: str) -> list[str]:
    model = shared / "weights/yolo11n-rebuilt.pt"
    words = [sys.executable, "-m", "common.cli", "backtest", "--data", cards, "--model", model, "--out", out]
    words += ["--strategies", "hybrid", "--budgets", "4,8", "--seeds", "1", "--imgsz", "64", "--updates", "3"]
    return [*map(str, words), "--batch", "4", "--device", "cpu", "--threads", "1", *more]


def results(out: Path) -> dict[str, Any]:
    """What a unit found, without times."""
    found = {}
    for name in ("full", "uniform", "hybrid"):
        record = json.loads((out / "units/cards-0" / f"{name}.json").read_text())
        rounds = record.get("rounds") or [record["round"]]
        found[name] = [(r["picked"], r["boxes"], r["metrics"], r["updates"]) for r in rounds]
    return found


def until(wanted: Any) -> None:
    end = time.monotonic() + PATIENCE_S
    while not wanted():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_backtest_that_was_killed_goes_on_and_finds_the_same(shared: Path, cards: Path, tmp_path: Path) -> None:
    out, first = tmp_path / "killed", tmp_path / "killed/units/cards-0/uniform.json"
    parent = subprocess.Popen(command(shared, cards, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: len((files.read_json(first) or {}).get("rounds", [])) == 1)
    children = psutil.Process(parent.pid).children(recursive=True)
    parent.kill()
    parent.wait()
    until(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children))
    assert len(children) == 1
    before = json.loads(first.read_text())
    assert not before["complete"]

    done = subprocess.run(command(shared, cards, out), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "4 of 4 trainings" in done.stderr
    assert "Savings against uniform" in done.stdout
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert not (out / "work/cards-0/training").exists()
    assert {p.suffix for p in (out / "units").rglob("*.*")} == {".json"}
    assert str(tmp_path) not in "".join(p.read_text() for p in out.rglob("units/*/*.json"))

    calm = subprocess.run(command(shared, cards, tmp_path / "calm"), capture_output=True, text=True, check=False)
    assert calm.returncode == 0, calm.stderr
    assert results(out) == results(tmp_path / "calm")
    assert [r["labels"] for r in json.loads(first.read_text())["rounds"]] == [4, 8]
    assert json.loads(first.read_text())["versions"]["torch"]


def test_a_device_that_is_not_there_leaves_nothing_behind_and_the_corrected_command_runs(
    shared: Path, cards: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = command(shared, cards, out, "--device", "99")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, out.exists()) == (2, False)
    assert "--device is '99', but this machine has auto, cpu" in done.stderr
    words = command(shared, cards, out, "--max-minutes", "0.0001")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "settings.json").read_text())["recipe"]["device"] == "cpu"


def test_broken_weights_are_one_sentence(shared: Path, cards: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pt"
    broken.write_bytes((shared / "weights/yolo11n-rebuilt.pt").read_bytes()[:9999])
    words = command(shared, cards, tmp_path / "out", "--model", str(broken))
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "400"})
    assert done.returncode == 1
    assert f"unit cards-0 failed: {broken} is cut short, damaged or of another kind" in done.stderr
    assert "Traceback" not in done.stderr
