"""Trainings as they really run: in a child process, killed at the worst moment, without a network."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from common.jobs import LocalRunner
from common.ports import TrainingProgress, TrainingSample, TrainingSpec
from common.yolo import evaluate, files, offline, trainer
from common.yolo.dataset import write_dataset
from common.yolo.models import YoloTrainer
from tests.cells import CELLS, cells

pytestmark = pytest.mark.integration
PATIENCE_S = 120


@pytest.fixture
def samples(shared: Path) -> list[TrainingSample]:
    return cells(shared, 12)


@pytest.fixture
def spec(shared: Path, samples: list[TrainingSample], tmp_path: Path) -> TrainingSpec:
    """Eight training images, four to measure on, two passes."""
    write_dataset(tmp_path / "round", samples[:8], samples[8:], CELLS)
    base = shared / "weights/yolo11n-rebuilt.pt"
    return TrainingSpec(tmp_path / "round", base, CELLS, 64, 4, 0, 4, "cpu", seed=1, threads=1, token=5)


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[LocalRunner]:
    here = LocalRunner(tmp_path / "home")
    yield here
    here.close()


def until(runner: LocalRunner, folder: Path, wanted: Callable[[TrainingProgress], bool]) -> TrainingProgress:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        now = runner.poll(folder)
        if wanted(now):
            return now
        if now.state == "failed":
            pytest.fail(f"{now.message}\n{(folder / trainer.LOG).read_text()}")
        time.sleep(0.05)
    pytest.fail(f"still {runner.poll(folder)}\n{(folder / trainer.LOG).read_text()}")


def done(progress: TrainingProgress) -> bool:
    return progress.state == "done"


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for yet counts as ended."""
    try:
        return (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]).split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_training_leaves_checked_weights_that_know_the_projects_classes(
    spec: TrainingSpec, runner: LocalRunner, tmp_path: Path, shared: Path
) -> None:
    offline.prepare(tmp_path / "home")
    from common.yolo import weights

    runner.start(spec)
    end = until(runner, spec.folder, done)
    assert (end.epoch, end.epochs, end.token) == (2, 2, 5)
    assert end.checkpoint == spec.folder / "final.pt"
    assert weights.class_names(end.checkpoint) == CELLS
    assert {"map50", "map5095"} <= set(end.metrics)
    result = files.read_json(spec.folder / "result.json") or {}
    assert result["sha256"] == weights.sha256(end.checkpoint)
    assert end.checkpoint.stat().st_size < 8e6

    runner.start(replace(spec, token=6))
    again = runner.poll(spec.folder)
    assert (again.state, again.token, again.checkpoint) == ("done", 6, end.checkpoint)

    data, home = spec.folder / "data.yaml", tmp_path / "home"
    measured = evaluate.evaluate_in_child(end.checkpoint, data, imgsz=64, home=home, device="cpu", threads=1)
    assert measured == pytest.approx(end.metrics, abs=1e-6)
    assert set(measured) == {"map50", "map5095", *(f"{kind}/{name}" for kind in ("ap50", "ap5095") for name in CELLS)}


def test_a_done_training_is_measured_again_only_where_new_weights_are_asked_for(
    spec: TrainingSpec, samples: list[TrainingSample], runner: LocalRunner, tmp_path: Path
) -> None:
    port, broken = YoloTrainer(runner), tmp_path / "broken.pt"
    broken.write_bytes(b"no weights")
    once = replace(spec, epochs=1, folder=tmp_path / "asked")
    assert port.start(once, samples[:8], samples[8:]) == []
    new = files.sha256(until(runner, once.folder, done).checkpoint or Path())
    assert set(port.matches(once.folder)) == {new}
    born = (once.folder / "final.pt").stat().st_mtime_ns

    more = replace(once, measure=(spec.base, broken), token=6)
    port.start(more, samples[:8], samples[8:])
    assert port.poll(once.folder).state == "running"
    end = until(runner, once.folder, done)
    assert (end.token, (once.folder / "final.pt").stat().st_mtime_ns) == (6, born)
    assert f"{broken} was not measured" in end.message
    found = port.matches(once.folder)
    assert set(found) == {new, files.sha256(spec.base)}
    assert all(f.truths.shape == (4, 3) for f in found.values())
    assert {"map50", "ap5095/RBC"} <= set(end.metrics)

    port.start(more, samples[:8], samples[8:])
    assert port.poll(once.folder).state == "done"
    (once.folder / "result.json").unlink()
    trainer.begin(replace(more, classes=("RBC",)))
    assert port.matches(once.folder) == {}


def test_losses_and_the_time_left_are_live_and_a_training_stops_within_seconds(
    spec: TrainingSpec, runner: LocalRunner
) -> None:
    long = replace(spec, epochs=60)
    runner.start(long)
    first = until(runner, spec.folder, lambda p: "eta_s" in p.metrics)
    later = until(runner, spec.folder, lambda p: p.epoch >= first.epoch + 2)
    for now in (first, later):
        assert now.epochs == 60
        assert {"box_loss", "cls_loss", "dfl_loss"} <= set(now.metrics)
        assert all(0 <= value < 1e4 for value in now.metrics.values())
        assert now.metrics["batches"] == 120
        assert f"epoch {now.epoch} of 60, about {now.metrics['eta_s']:.0f} s left" == now.message
    assert first.metrics["batch"] < later.metrics["batch"] <= 120
    assert later.metrics["cls_loss"] != first.metrics["cls_loss"]
    start = time.monotonic()
    runner.cancel(spec.folder)
    assert time.monotonic() - start < 5
    assert runner.poll(spec.folder).state == "lost"
    assert not list(spec.folder.glob("matches-*"))


def test_killed_in_the_middle_it_goes_on_from_its_safe_checkpoint(spec: TrainingSpec, runner: LocalRunner) -> None:
    longer = replace(spec, epochs=8)
    runner.start(longer)
    until(runner, spec.folder, lambda p: p.epoch >= 1 and (spec.folder / "safe.pt").exists())
    os.kill(runner._children[spec.folder].pid, signal.SIGKILL)
    lost = until(runner, spec.folder, lambda p: p.state == "lost")
    assert "SIGKILL" in lost.message

    runner.start(longer)
    first = until(runner, spec.folder, lambda p: p.epochs > 0)
    assert first.epoch >= 1
    assert until(runner, spec.folder, done).epoch == 8


def test_a_half_written_safe_checkpoint_means_starting_over_and_not_failing(
    spec: TrainingSpec, samples: list[TrainingSample], runner: LocalRunner
) -> None:
    once = replace(spec, epochs=1)
    write_dataset(spec.folder, samples, [], CELLS)
    trainer.begin(once)
    (spec.folder / "safe.pt").write_bytes(b"PK\x03\x04 half a file")
    runner.start(once)
    end = until(runner, spec.folder, done)
    assert (end.epoch, end.metrics) == (1, {})
    assert not (spec.folder / "safe.pt").exists()
    assert "starts over" in (spec.folder / trainer.LOG).read_text()


def test_a_child_dies_with_the_process_that_started_it(spec: TrainingSpec, tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from common.jobs import LocalRunner; "
        "from common.yolo import trainer; "
        "spec = trainer.load_spec(Path(sys.argv[1])); runner = LocalRunner(Path(sys.argv[2])); runner.start(spec); "
        "print(runner._children[spec.folder].pid, flush=True); time.sleep(600)"
    )
    trainer.dump_spec(replace(spec, epochs=500))
    command = [sys.executable, "-P", "-c", program, str(spec.folder), str(tmp_path / "home")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert not gone(child)
        parent.kill()
    end = time.monotonic() + 5
    while not gone(child) and time.monotonic() < end:
        time.sleep(0.05)
    assert gone(child)


def test_training_and_predicting_never_touch_the_network(spec: TrainingSpec, tmp_path: Path, shared: Path) -> None:
    guard = """
import socket, sys
from pathlib import Path
calls = []
def refuse(*args, **kwargs):
    calls.append(repr(args[-2:]))
    raise OSError("no network here")
for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "create_connection"):
    setattr(socket, name, refuse)
real = socket.socket
class Guarded(real):
    def connect(self, address):
        return real.connect(self, address) if self.family == socket.AF_UNIX else refuse(address)
    connect_ex = connect
    def sendto(self, *args):
        return refuse(*args)
socket.socket = Guarded
folder, image = Path(sys.argv[1]), Path(sys.argv[2])
from common.yolo import train_child
status = train_child.main([str(folder)])
from common.yolo.detector import YoloDetector
answer = YoloDetector(folder / "final.pt", 64, "cpu").predict([image])
print("status", status, "calls", calls, type(answer[0]).__name__)
"""
    trainer.begin(replace(spec, epochs=1, classes=("RBC", "Blutplättchen", "WBC")))
    env = offline.child_env(tmp_path / "fresh-home", 1)
    image = str(next((shared / "data/bccd/images").glob("*.jpg")))
    command = [sys.executable, "-P", "-c", guard, str(spec.folder), image]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert "status 0 calls [] Prediction" in ran.stdout, ran.stdout + ran.stderr
