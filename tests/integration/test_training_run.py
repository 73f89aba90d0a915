"""A training in several processes, as ultralytics starts one per GPU: here on the CPU, two of them.

Real are ultralytics' generated file, torch's launcher, and what our class does in each process. Two things are not: a
CPU has no device numbers, so the two processes train without averaging their gradients, and they talk by gloo.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from common.errors import SettingError
from common.ports import TrainingSpec
from common.yolo import files, offline, trainer, training
from common.yolo.dataset import write_dataset
from tests.cells import CELLS, cells

Starter = Callable[[TrainingSpec], subprocess.Popen[str]]
pytestmark = pytest.mark.integration
JOINED = """
import os
if "RANK" in os.environ:
    import torch.distributed
    torch.distributed.init_process_group("gloo")
"""
PROGRAM = """
import sys
from pathlib import Path
from common.yolo import offline, trainer, training
offline.load()
from common.yolo import run
built = run.TrainingRun.__init__
def spread(self, cfg=run.DEFAULT_CFG, overrides=None, _callbacks=None):
    built(self, cfg, overrides, _callbacks)
    self.ddp, self.world_size = True, 2
run.TrainingRun.__init__ = spread
try:
    print("lost:", training.train(trainer.load_spec(Path(sys.argv[1]))))
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def spec(shared: Path, tmp_path: Path) -> TrainingSpec:
    samples = cells(shared, 12)
    write_dataset(tmp_path / "round", samples[:8], samples[8:], CELLS)
    base = shared / "weights/yolo11n-rebuilt.pt"
    return TrainingSpec(tmp_path / "round", base, CELLS, 64, 4, 2, 4, "cpu", seed=1, threads=1, token=5)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    """Starts the process that starts the others."""
    (tmp_path / "sitecustomize.py").write_text(JOINED)
    env = offline.child_env(tmp_path / "home", 1) | {"PYTHONPATH": str(tmp_path)}
    offline.prepare(tmp_path / "home")
    children = []

    def begin(spec: TrainingSpec) -> subprocess.Popen[str]:
        trainer.begin(spec)
        command = [sys.executable, "-c", PROGRAM, str(spec.folder)]
        out, err = subprocess.PIPE, (spec.folder / trainer.LOG).open("w")
        with err:
            child = subprocess.Popen(command, env=env, stdout=out, stderr=err, text=True, start_new_session=True)
        children.append(child)
        return child

    yield begin
    for child in children:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()


def test_each_process_builds_the_run_from_its_arguments_and_the_first_one_keeps(
    spec: TrainingSpec, start: Starter, tmp_path: Path
) -> None:
    out, _ = start(spec).communicate(timeout=240)
    assert out == "lost: \n", out + (spec.folder / trainer.LOG).read_text()[-3000:]
    told = files.read_json(spec.folder / trainer.PROGRESS) or {}
    assert (told["epoch"], told["epochs"], told["images"]) == (2, 2, 8)
    assert told["metrics"]["batches"] == 2  # four of the eight photographs in each process: one step per epoch
    assert {"box_loss", "eta_s"} <= set(told["metrics"])
    assert (spec.folder / trainer.SAFE).is_file()
    assert training.resumable(spec.folder / trainer.SAFE)
    assert (spec.folder / trainer.FINAL).is_file()
    assert not list((tmp_path / "home").rglob("DDP/*"))


def test_all_of_them_end_with_the_process_that_started_them(spec: TrainingSpec, start: Starter) -> None:
    first = start(replace(spec, epochs=500))
    end = time.monotonic() + 240
    while not (spec.folder / trainer.PROGRESS).exists():
        assert time.monotonic() < end
        assert first.poll() is None
        time.sleep(0.1)
    below = psutil.Process(first.pid).children(recursive=True)
    assert len(below) >= 3  # the launcher and one process for each device
    first.kill()
    _, alive = psutil.wait_procs(below, timeout=20)
    for process in alive:
        process.kill()
    assert alive == []


def test_why_one_of_them_stopped_is_said(spec: TrainingSpec, start: Starter) -> None:
    for image in (spec.folder / "images/train").iterdir():
        image.unlink()
        image.write_bytes(b"\xff\xd8\xff\xe0 and no more")
    out, _ = start(spec).communicate(timeout=240)
    assert out.startswith("TrainingError one of the processes on the GPUs cpu stopped: ")
    assert "No valid images found" in out


def test_several_devices_must_be_gpus_that_are_there(tmp_path: Path) -> None:
    offline.prepare(tmp_path)
    assert training.devices("cpu") == "cpu"
    with pytest.raises(SettingError, match=r"HARDFIRST_DEVICE is '90,91', but this machine has auto, cpu"):
        training.devices("90,91")
    with pytest.raises(SettingError, match=r"HARDFIRST_DEVICE is 'cpu,cpu': only GPUs can train together"):
        training.devices("cpu,cpu")
