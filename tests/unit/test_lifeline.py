"""A child whose work nobody wants any more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from common.ports import TrainingSpec
from common.yolo import train_child, trainer

CHILD = """
import sys, time
from pathlib import Path
from common.lifeline import die_without
die_without(Path(sys.argv[1]))
print("alive", flush=True)
time.sleep(60)
"""


def test_a_process_ends_when_its_file_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    path.write_text("{}")
    with subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "alive\n"
        path.unlink()
        assert child.wait(30) == 1


def test_a_training_watches_its_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer.dump_spec(TrainingSpec(tmp_path, tmp_path / "base.pt", ("cat",), 64, 1, 0, 1, "cpu", 0, 1, 1))
    watched: list[Path] = []
    monkeypatch.setattr(train_child, "die_without", watched.append)

    def stop(_home: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train_child.offline, "prepare", stop)
    with pytest.raises(KeyboardInterrupt):
        train_child._work(tmp_path, 0.0)
    assert watched == [tmp_path / "spec.json"]
