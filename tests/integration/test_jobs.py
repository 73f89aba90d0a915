"""Children of this machine: started once, told apart, stopped in time. Most children here are small scripts."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from common import jobs
from common.errors import TrainingError
from common.jobs import LocalRunner
from common.ports import TrainingProgress, TrainingSpec
from common.yolo import files, trainer

pytestmark = pytest.mark.integration
SLEEP = "import time; time.sleep(60)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open('deaf', 'w').close(); time.sleep(60)"
)


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[LocalRunner]:
    here = LocalRunner(tmp_path / "home")
    yield here
    here.close()


@pytest.fixture
def spec(tmp_path: Path) -> TrainingSpec:
    return TrainingSpec(
        tmp_path / "round", tmp_path / "base.pt", ("cat",), 64, 4, 0, 4, "cpu", seed=1, threads=1, token=5
    )


def child_is(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(trainer, "command", lambda *_: [sys.executable, "-c", program])


def ended(runner: LocalRunner, folder: Path) -> TrainingProgress:
    end = time.monotonic() + 30
    while (now := runner.poll(folder)).state == "running":
        assert time.monotonic() < end, now
        time.sleep(0.02)
    return now


def test_a_folder_that_nobody_trains_in_is_lost(runner: LocalRunner, tmp_path: Path) -> None:
    assert runner.poll(tmp_path / "nowhere").state == "lost"
    runner.cancel(tmp_path / "nowhere")


def test_starting_twice_runs_one_child(
    runner: LocalRunner, spec: TrainingSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    child_is(monkeypatch, SLEEP)
    runner.start(spec)
    first = runner._children[spec.folder].pid
    runner.start(spec)
    assert runner._children[spec.folder].pid == first
    assert runner.poll(spec.folder) == TrainingProgress("running", message="getting ready", token=5)


def test_a_running_child_answers_under_the_newest_token(
    runner: LocalRunner, spec: TrainingSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    child_is(monkeypatch, SLEEP)
    runner.start(spec)
    first = runner._children[spec.folder].pid
    runner.start(replace(spec, token=6))
    assert (runner.poll(spec.folder).token, runner._children[spec.folder].pid) == (6, first)
    runner.start(replace(spec, token=7, imgsz=96))
    assert runner._children[spec.folder].pid != first


def test_progress_is_what_the_child_wrote_last(
    runner: LocalRunner, spec: TrainingSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    child_is(monkeypatch, SLEEP)
    runner.start(spec)
    numbers = {"box_loss": 1.5, "eta_s": 12.0}
    files.write_json(spec.folder / "progress.json", {"epoch": 2, "epochs": 9, "metrics": numbers})
    assert runner.poll(spec.folder) == TrainingProgress(
        "running", 2, 9, message="epoch 2 of 9, about 12 s left", token=5, metrics=numbers
    )


def test_what_the_child_does_after_its_last_epoch_is_said_too(
    runner: LocalRunner, spec: TrainingSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    child_is(monkeypatch, SLEEP)
    runner.start(spec)
    files.write_json(spec.folder / "progress.json", {"epoch": 8, "epochs": 9, "metrics": {"eta_s": 0.0}})
    trainer.tell_measuring(spec, images=8)
    now = runner.poll(spec.folder)
    assert (now.state, now.epoch, now.epochs, now.message) == ("running", 9, 9, "measuring")


def test_a_cancelled_child_is_gone_at_once(
    runner: LocalRunner, spec: TrainingSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    child_is(monkeypatch, SLEEP)
    runner.start(spec)
    start = time.monotonic()
    runner.cancel(spec.folder)
    assert time.monotonic() - start < 3
    assert runner.poll(spec.folder).state == "lost"
    assert "SIGTERM" in runner.poll(spec.folder).message


def test_a_child_that_does_not_listen_is_killed(
    runner: LocalRunner, spec: TrainingSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_GRACE_S", 0.3)
    child_is(monkeypatch, STUBBORN)
    runner.start(spec)
    while not (spec.folder / "deaf").exists():
        time.sleep(0.02)
    runner.cancel(spec.folder)
    assert "SIGKILL" in runner.poll(spec.folder).message


def test_closing_stops_every_child(runner: LocalRunner, spec: TrainingSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    child_is(monkeypatch, SLEEP)
    folders = [spec.folder / name for name in "ab"]
    for folder in folders:
        runner.start(replace(spec, folder=folder))
    runner.close()
    assert [runner.poll(folder).state for folder in folders] == ["lost", "lost"]


def test_a_child_lives_on_when_the_thread_that_asked_for_it_ends(
    runner: LocalRunner, spec: TrainingSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import threading

    child_is(
        monkeypatch,
        f"from common.yolo.train_child import die_with; die_with({os.getpid()}); open('on', 'w').close(); {SLEEP}",
    )
    thread = threading.Thread(target=runner.start, args=(spec,))
    thread.start()
    thread.join()
    while not (spec.folder / "on").exists():
        assert runner.poll(spec.folder).state == "running", (spec.folder / "train.log").read_text()
        time.sleep(0.02)
    time.sleep(0.3)
    assert runner.poll(spec.folder).state == "running"


def test_a_child_whose_parent_is_already_gone_ends_at_once(
    runner: LocalRunner, spec: TrainingSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    child_is(monkeypatch, f"from common.yolo.train_child import die_with; die_with(1); {SLEEP}")
    runner.start(spec)
    assert ended(runner, spec.folder).message.startswith("the training process is gone (it ended with status 1)")


def test_another_base_forgets_what_the_old_one_left(
    runner: LocalRunner, spec: TrainingSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    child_is(monkeypatch, "")
    runner.start(spec)
    ended(runner, spec.folder)
    safe = spec.folder / "safe.pt"
    safe.write_bytes(b"epoch 3")
    runner.start(replace(spec, token=6, threads=2))
    ended(runner, spec.folder)
    assert safe.exists()
    runner.start(replace(spec, base=spec.folder / "other.pt"))
    assert not safe.exists()


def test_the_spec_survives_the_trip_through_its_file(spec: TrainingSpec) -> None:
    trainer.dump_spec(spec)
    assert trainer.load_spec(spec.folder) == spec
    more = replace(spec, measure=(spec.folder / "a.pt", spec.folder / "b.pt"))
    trainer.dump_spec(more)
    assert trainer.load_spec(spec.folder) == more
    with pytest.raises(TrainingError, match=r"absolute paths, got c\.pt"):
        trainer.dump_spec(replace(spec, measure=(Path("c.pt"),)))
    (spec.folder / "spec.json").write_text('{"imgsz": 64}')
    with pytest.raises(TrainingError, match="missing or incomplete"):
        trainer.load_spec(spec.folder)


def test_other_weights_to_measure_are_no_other_training(spec: TrainingSpec) -> None:
    trainer.begin(spec)
    matches = spec.folder / f"matches-{'ab' * 32}.npz"
    matches.write_bytes(b"")
    final = spec.folder / "final.pt"
    final.write_bytes(b"")
    more = replace(spec, measure=(spec.base,), token=6)
    assert trainer.is_same(more)
    trainer.finish(trainer.load_spec(spec.folder), {}, "", 1.0)
    assert not trainer.begin(replace(spec, token=6))
    assert trainer.begin(more)
    assert not trainer.has_ended(spec.folder)
    assert final.exists()
    assert matches.exists()
    trainer.finish(more, {}, "", 1.0)
    assert not trainer.begin(more)
    assert not trainer.begin(spec)  # what was measured beyond what is asked for does no harm
    assert trainer.begin(replace(spec, seed=2))
    assert not final.exists()
    assert not matches.exists()


@pytest.mark.parametrize(("images", "epochs"), [(4, 240), (8, 240), (9, 120), (80, 24), (1000, 2), (100_000, 1)])
def test_passes_follow_from_the_updates_and_the_size_of_the_set(spec: TrainingSpec, images: int, epochs: int) -> None:
    many = replace(spec, updates=240, batch=8)
    assert trainer.epochs(many, images) == epochs
    assert trainer.recipe(many, images)["epochs"] == epochs
    assert trainer.epochs(replace(many, epochs=7), images) == 7


def test_one_batch_is_one_update(spec: TrainingSpec) -> None:
    recipe = trainer.recipe(spec, 100)
    assert recipe["nbs"] == recipe["batch"] == spec.batch
    assert recipe["optimizer"] == "AdamW"


def test_a_base_that_carries_code_fails_in_one_sentence(runner: LocalRunner, spec: TrainingSpec) -> None:
    spec.base.write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    files.write_json(spec.folder / "manifest.json", {"classes": ["cat"], "entries": [], "reports": [], "foreign": {}})
    runner.start(spec)
    failed = ended(runner, spec.folder)
    assert (failed.state, failed.token) == ("failed", 5)
    assert failed.message.startswith(str(spec.base))
    assert "only detection checkpoints" in failed.message
    assert not (spec.folder / "ran").exists()


def test_a_folder_without_a_training_set_fails_in_one_sentence(runner: LocalRunner, spec: TrainingSpec) -> None:
    runner.start(spec)
    assert "holds no training set" in ended(runner, spec.folder).message
