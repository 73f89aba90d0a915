"""What a round's training costs, in CPU time, against ultralytics' own with the same arguments."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.table import Table

from bench import inputs
from bench.report import Goal, Report, tell
from common.domain import Label
from common.errors import TrainingError
from common.ports import TrainingSample, TrainingSpec
from common.sample.oracle import FolderOracle
from common.yolo import files, offline, trainer
from common.yolo.dataset import write_dataset

IMAGES, MEASURED_ON, SIZE, BATCH = 64, 24, 160, 8
UPDATES, QUICK_UPDATES = 60, 8
REPEATS, QUICK_REPEATS = 3, 1
LIMIT = 1.08
OURS, THEIRS = "hardfirst: training and measuring", "ultralytics: YOLO(...).train(...)"
_PLAIN = "import json, sys; from ultralytics import YOLO; given = json.load(open(sys.argv[1])); "
_PLAIN += "YOLO(given.pop('model')).train(**given)"


def run(*, quick: bool) -> Report:
    """A child process for each training, in turn; quick: eight updates, once."""
    report = Report("training", quick)
    folder = inputs.data_set("bccd")
    classes = inputs.class_names(folder)
    samples = _samples(folder, classes)
    spent: dict[str, list[float]] = {OURS: [], THEIRS: []}
    with tempfile.TemporaryDirectory(prefix="hardfirst-bench-") as temporary, report.measured():
        home = Path(temporary)
        offline.prepare(home)
        threads = min(8, max(1, (os.cpu_count() or 1) - 1))  # what ultralytics takes by itself
        updates = QUICK_UPDATES if quick else UPDATES
        spec = TrainingSpec(home, inputs.weights(), classes, SIZE, updates, 0, BATCH, "cpu", 0, threads, 0)
        ways: dict[str, Callable[[TrainingSpec, Path], float]] = {OURS: _ours, THEIRS: _theirs}
        for repeat in range(QUICK_REPEATS if quick else REPEATS):
            for name, way in reversed(ways.items()) if repeat % 2 else ways.items():
                its = replace(spec, folder=home / f"{way.__name__}-{repeat}")
                write_dataset(its.folder, samples[:IMAGES], samples[IMAGES:], classes)
                spent[name].append(way(its, home))
                tell(f"{name}: {spent[name][-1]:.1f} s of CPU time")
    ratio = statistics.median(a / b for a, b in zip(spent[OURS], spent[THEIRS], strict=True))
    report.numbers = {"cpu_s": spent, "ratio": round(ratio, 3)}
    report.goals = [Goal("a round's training and measuring / ultralytics' own", ratio, LIMIT, "x")]
    report.show(_table(spent))
    return report


def _samples(folder: Path, classes: Sequence[str]) -> list[TrainingSample]:
    """The first photographs of a data set with their labels."""
    oracle = FolderOracle(folder / "labels", classes)
    images = sorted((folder / "images").glob("*.jpg"))[: IMAGES + MEASURED_ON]
    return [TrainingSample(i.stem, i, Label(i.stem, tuple(oracle.answer(i.stem)))) for i in images]


def _ours(spec: TrainingSpec, home: Path) -> float:
    """The training child as the service starts it."""
    trainer.begin(spec)
    seconds = _cpu(trainer.command(spec.folder, os.getpid()), spec, home)
    result = files.read_json(spec.folder / trainer.RESULT) or {}
    if result.get("state") != "done" or "map50" not in result["metrics"]:
        raise TrainingError(f"the training in {spec.folder} did not end well: {result.get('message')}")
    return seconds


def _theirs(spec: TrainingSpec, home: Path) -> float:
    """Plain ultralytics, with its validation after the last epoch and of the best weights."""
    given = trainer.recipe(spec, IMAGES) | {
        "model": str(spec.base),
        "data": str(spec.folder / "data.yaml"),
        "device": spec.device,
        "project": str(spec.folder),
        "name": "run",
    }
    files.write_json(spec.folder / "given.json", given)
    seconds = _cpu([sys.executable, "-P", "-c", _PLAIN, str(spec.folder / "given.json")], spec, home)
    if not (spec.folder / "run/weights/last.pt").is_file():
        raise TrainingError(f"the plain training left nothing: see {spec.folder / trainer.LOG}")
    return seconds


def _cpu(command: list[str], spec: TrainingSpec, home: Path) -> float:
    """CPU seconds of a command and all it started, its own start included."""
    with (spec.folder / trainer.LOG).open("wb") as out:
        env = offline.child_env(home, spec.threads)
        child = subprocess.Popen(command, cwd=spec.folder, env=env, stdout=out, stderr=out)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise TrainingError((spec.folder / trainer.LOG).read_text()[-2000:])
    return used.ru_utime + used.ru_stime


def _table(spent: dict[str, list[float]]) -> Table:
    table = Table(
        "way", "CPU seconds", "each", title=f"{IMAGES} photographs at {SIZE}, measured on {MEASURED_ON} others"
    )
    for name, values in spent.items():
        table.add_row(name, f"{statistics.median(values):.1f}", ", ".join(f"{v:.1f}" for v in values))
    return table
