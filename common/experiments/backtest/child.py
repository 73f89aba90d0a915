"""The child that plays one unit: ``python -m common.experiments.backtest.child FOLDER``. Torch is loaded once.

May be killed at any moment: every round is in its arm's file before the next one begins.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import logging
import os
import platform
import shutil
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from common import logs
from common.domain import Ints
from common.errors import HardfirstError, MediaError
from common.experiments.backtest.arms import Arm
from common.experiments.backtest.data import DataSet
from common.experiments.backtest.replay import Learned, Learner, Unit, full, rounds, worst_quarter
from common.experiments.backtest.task import CACHE, FAILURE, FULL, WORK, Task, arm_dict, read_rounds, unit_data
from common.experiments.backtest.trainings import Trainings
from common.lifeline import die_with
from common.ports import TrainingSample
from common.yolo import files

log = logging.getLogger(__name__)
_LAST = "training"
"""Folder of the training that runs."""


class YoloLearner:
    """Implements ``Learner`` with ultralytics, one training at a time."""

    def __init__(self, task: Task, data: DataSet) -> None:
        from common.yolo import offline
        from common.yolo.practice import Practice

        r = task.recipe
        offline.prepare(Path(task.out) / WORK / "home")
        self._task, self._data = task, data
        self._practice = Practice(
            Path(r.model),
            data.classes,
            data.val,
            task.desk / _LAST,
            r.imgsz,
            r.batch,
            r.freeze,
            r.device,
            task.threads,
            r.views,
        )
        self._practice.prepare()

    def learn(self, rows: Ints, updates: int, *, predict: bool) -> Learned:
        """See ``Learner``."""
        samples = [self._data.train[row] for row in rows]
        checkpoint, steps = self._practice.train(samples, updates, self._task.seed)
        metrics = self._practice.measure(checkpoint)
        seen = self._practice.score(checkpoint, [s.image for s in self._data.train]) if predict else []
        self._practice.forget()
        metrics["worst_quarter"] = worst_quarter([v for k, v in metrics.items() if k.startswith("ap5095/")])
        seconds = {name: round(value, 3) for name, value in self._practice.seconds.items()}
        log.info("%d images, %d steps: mAP50-95 %.4f, %s", len(rows), steps, metrics["map5095"], seconds)
        return Learned(metrics, seen, steps, seconds)


def play(task: Task, unit: Unit, learner: Learner, facts: dict[str, Any]) -> bool:
    """Every arm of a unit, the reference first; False when the time was over before the end."""

    def late() -> bool:
        return bool(task.until) and time.time() > task.until

    header = {"data": unit.data, "seed": unit.seed, "pool": len(unit.ids), **facts}
    if not (task.folder / FULL).is_file():
        files.write_json(task.folder / FULL, header | {"round": full(unit, learner) | _where(header)})
    for arm in task.arms:
        if late():
            return False
        if not _play_arm(task, unit, arm, learner, header, late):
            return False
    return True


def _play_arm(task: Task, unit: Unit, arm: Arm, learner: Learner, header: dict[str, Any], late: Any) -> bool:
    path = task.arm_file(arm)
    done = read_rounds(path)
    for played in rounds(unit, arm, learner, done):
        done.append(played | _where(header))
        complete = len(done) == len(unit.budgets)
        files.write_json(path, header | arm_dict(arm) | {"complete": complete, "rounds": done})
        log.info("%s: %d labels, mAP50-95 %.4f", arm.label, played["labels"], played["metrics"]["map5095"])
        if late() and not complete:
            return False
    return True


def _where(header: dict[str, Any]) -> dict[str, Any]:
    """The facts that a round keeps, because they may differ from the next one's."""
    return {name: header[name] for name in ("device", "versions") if name in header}


def _described(sample: TrainingSample) -> bytes | None:
    """Descriptor of an image, None when it cannot be read."""
    from common.loop.thumbnails import describe

    try:
        return describe(sample.image)
    except (MediaError, OSError):
        return None


def make_unit(task: Task, data: DataSet) -> Unit:
    """The unit of a task; near-duplicate groups come from the product's own descriptor."""
    from common.loop.lookalikes import near_duplicates

    r = task.recipe
    group = near_duplicates(list(map(_described, data.train)), lambda i: data.train[i].image)
    log.info("%s: %d images, %d of them in near-duplicate groups", task.name, len(group), int((group >= 0).sum()))
    return Unit(
        data.name,
        task.seed,
        tuple(s.id for s in data.train),
        data.classes,
        data.class_counts(),
        np.asarray(group, np.int64),
        r.budgets,
        r.updates,
        r.full_updates,
    )


def facts(task: Task) -> dict[str, Any]:
    """What else decides the figures, for the record."""
    from common.ports import TrainingSpec
    from common.yolo import offline, trainer

    r = task.recipe
    spec = TrainingSpec(Path(), Path(r.model), (), r.imgsz, r.updates, 0, r.batch, r.device, task.seed, 0, 0)
    versions = {name: importlib.metadata.version(name) for name in ("hardfirst", "numpy", "torch", "ultralytics")}
    settings = asdict(r) | {"model": Path(r.model).name}
    return {
        "settings": settings,
        "recipe_at_first_budget": trainer.recipe(spec, r.budgets[0]) | {"freeze": r.freeze},
        "versions": versions | {"python": platform.python_version()},
        "threads": task.threads,
        "device": str(offline.device(r.device)),
    }


def main(argv: list[str] | None = None) -> int:
    """Play what ``FOLDER/task.json`` says; 0 when all of it is done, 3 when the time was over, 1 with failure.json."""
    parser = argparse.ArgumentParser(description="Play the unit in FOLDER.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parent", type=int, default=0, help="die when this process dies")
    given = parser.parse_args(argv)
    if given.parent:
        die_with(given.parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; our parent ends us
    os.nice(5)
    with logs.inherited("backtest", owns=bool(given.parent)):
        return _unit(given.folder)


def _unit(folder: Path) -> int:
    task = Task.read(folder)
    (folder / FAILURE).unlink(missing_ok=True)
    try:
        data = unit_data(task.source.load(), task.recipe, task.seed)
        learner = Trainings(YoloLearner(task, data), Path(task.out) / CACHE / task.name)
        whole = play(task, make_unit(task, data), learner, facts(task))
    except Exception as error:
        log.exception("the unit failed")
        said = str(error) if isinstance(error, HardfirstError) else f"{type(error).__name__}: {error}"
        files.write_json(folder / FAILURE, {"message": said})
        return 1
    shutil.rmtree(task.desk / _LAST, ignore_errors=True)
    return 0 if whole else 3


if __name__ == "__main__":
    sys.exit(main())
