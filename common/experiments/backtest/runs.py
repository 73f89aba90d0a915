"""The outer loop: which units are to be played, children that play them, and what a folder of results may hold."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common.config import load
from common.errors import HardfirstError, SettingError
from common.experiments.backtest.arms import Arm
from common.experiments.backtest.task import (
    CACHE,
    FAILURE,
    FULL,
    LOG,
    SETTINGS,
    UNITS,
    WORK,
    Run,
    Task,
    arm_dict,
    unit_data,
)
from common.experiments.limits import require_device
from common.experiments.output import require_place
from common.yolo import files, offline

_LOOK_S = 1.0
_MAY_DIFFER = ("model", "device")
"""Settings that a later call may give otherwise: the weights are known by their content, a round by its device."""


class BacktestError(HardfirstError):
    """A unit failed; what was done before stays, and running again goes on there."""


def tasks(run: Run) -> list[Task]:
    """One per unit: all data sets with the first seed, then with the second ..."""
    threads = run.threads or max(1, offline.cores() // run.jobs)
    until = time.time() + 60 * run.max_minutes if run.max_minutes else 0.0
    return [
        Task(str(run.out), run.recipe, source, seed, tuple(run.arms), threads, until)
        for seed in range(run.seeds)
        for source in run.sources
    ]


def require_folder(out: Path) -> None:
    """Raise SettingError for an ``--out`` that is no folder, that cannot be written, or that hardfirst keeps.

    A folder of results in HARDFIRST_HOME may be gone on with.
    """
    real = Path(os.path.realpath(out))
    if os.path.lexists(real) and not real.is_dir():
        raise SettingError(f"--out is {out}, which is no folder: name one for the results")
    require_place("--out", out, load(), (), lambda there: (there / SETTINGS).is_file())


def check(run: Run) -> None:
    """Raise SettingError, in one sentence, for anything that would stop the run later; writes ``settings.json``."""
    if run.seeds < 1 or run.jobs < 1 or run.threads < 0:
        raise SettingError(
            f"--seeds is {run.seeds}, --jobs {run.jobs}, --threads {run.threads}: at least 1, 1 and 0 are allowed"
        )
    require_device(run.recipe.device)
    names = [source.name for source in run.sources]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise SettingError(f"two data sets are called {name!r}: name one of them, --data NAME=data.yaml")
    for source in run.sources:
        data = source.load()
        for seed in range(run.seeds) if run.recipe.resplit else [0]:
            unit_data(data, run.recipe, seed)
        run.digests[source.name] = data.digest()
    for task in tasks(run):
        for arm in run.arms:
            _check_arm(task.arm_file(arm), arm)
    _settle(run)


def _settle(run: Run) -> None:
    """Compare with what the folder was made with; what is new is added."""
    path = run.out / SETTINGS
    mine: dict[str, Any] = json.loads(json.dumps(asdict(run.recipe) | {"model": Path(run.recipe.model).name}))
    known = files.read_json(path) or {"recipe": mine, "data": {}}
    for name, value in mine.items():
        was = known["recipe"].get(name, [])  # a setting that is younger than the folder
        if name == "budgets" and value[: len(was)] == was:
            continue  # longer curves: every round that was played is the beginning of one
        if was != value and name not in _MAY_DIFFER:
            option = name.replace("_sha256", "").replace("_", "-")
            raise SettingError(
                f"{run.out} holds results with another --{option} ({was}, now {value}): choose another --out"
            )
    for name, digest in run.digests.items():
        if known["data"].get(name, digest) != digest:
            raise SettingError(f"{run.out} holds results of another data set called {name!r}: choose another --out")
    arms = list(dict.fromkeys([*known.get("arms", []), *(arm.label for arm in run.arms)]))
    recipe = known["recipe"] | {"budgets": mine["budgets"], "device": mine["device"]}
    files.write_json(path, known | {"recipe": recipe, "data": known["data"] | run.digests, "arms": arms})
    files.write_text(run.out / ".gitignore", f"{CACHE}/\n{WORK}/\n")


def _check_arm(path: Path, arm: Arm) -> None:
    known = files.read_json(path)
    if known is not None and {k: known.get(k) for k in arm_dict(arm)} != arm_dict(arm):
        raise SettingError(
            f"{path} holds an arm {arm.label!r} with strategy {known.get('strategy')!r} and options "
            f"{known.get('options')}: give this one another label"
        )


def play(run: Run, tell: Callable[[int, int], None]) -> bool:
    """Play every unit that is not done, ``run.jobs`` at a time; False when the time was over before the end.

    Args:
        run: Checked by ``check``.
        tell: Called about once a second with how many trainings have ended, of how many.

    Raises:
        BacktestError: A unit failed; the others are stopped.
    """
    every = tasks(run)
    done = {task.name: task.done() for task in every}
    total = sum(task.trainings() for task in every)
    waiting = [task for task in every if done[task.name] < task.trainings()]
    running: dict[str, tuple[Task, subprocess.Popen[bytes]]] = {}
    whole = True
    tell(sum(done.values()), total)
    with ExitStack() as stack:
        while waiting or running:
            while waiting and len(running) < run.jobs and not _over(waiting[0]):
                task = waiting.pop(0)
                running[task.name] = (task, stack.enter_context(_child(task)))
            if not running:
                return False
            time.sleep(_LOOK_S)
            for name, (task, child) in list(running.items()):
                code = child.poll()
                done[name] = task.done()
                if code is not None:
                    del running[name]
                    whole &= _ended(task, code)
            tell(sum(done.values()), total)
    return whole


def _over(task: Task) -> bool:
    return bool(task.until) and time.time() > task.until


@contextmanager
def _child(task: Task) -> Iterator[subprocess.Popen[bytes]]:
    """A child that plays a unit; it is killed when the block ends."""
    folder = task.save()
    command = [sys.executable, "-P", "-m", "common.experiments.backtest.child", str(folder)]
    command += ["--parent", str(os.getpid())]
    env = offline.child_env(Path(task.out) / WORK / "home", task.threads)
    with (folder / LOG).open("ab") as log:
        child = subprocess.Popen(command, env=env, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield child
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()


def _ended(task: Task, code: int) -> bool:
    """Whether the unit is whole; raises BacktestError when it failed."""
    if code in (0, 3):
        return code == 0
    said = (files.read_json(task.desk / FAILURE) or {}).get("message") or f"its process ended with code {code}"
    raise BacktestError(f"unit {task.name} failed: {said} (see {task.desk / LOG}); run again to go on")


def results(out: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Everything in a folder of results: (arm records, in the order in which arms were asked for; references)."""
    order = {label: i for i, label in enumerate(settings_of(out).get("arms", []))}
    found = [(p, files.read_json(p)) for p in sorted((out / UNITS).glob("*/*.json"))]
    arms = [r for _, r in found if r and "rounds" in r]
    return sorted(arms, key=lambda r: order.get(r["arm"], len(order))), [r for p, r in found if r and p.name == FULL]


def settings_of(out: Path) -> dict[str, Any]:
    """What a folder of results was made with: 'recipe', 'data', 'arms'. Raises SettingError when there is none."""
    known = files.read_json(out / SETTINGS)
    if known is None:
        raise SettingError(f"{out} holds no backtest: run one first")
    return known
