"""What all experiments allow: one rule and one sentence each, whichever command it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from common.cli import main
from common.errors import SettingError
from common.experiments.limits import device, require_budget, require_device
from common.yolo import offline
from tests.fakes import picture


@pytest.fixture
def only_a_cpu(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names that a machine without a GPU was asked about; torch is not imported."""
    asked: list[str] = []

    def found(name: str, named: str = "HARDFIRST_DEVICE") -> str:
        asked.append(name)
        if name != "auto":
            raise SettingError(f"{named} is {name!r}, but this machine has auto, cpu")
        return "cpu"

    monkeypatch.setattr(offline, "torch_device", found)
    return asked


@pytest.fixture
def commands(clean_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Every experiment's words, all of them right; results go into the folder out."""
    monkeypatch.setenv("HARDFIRST_HOME", str(tmp_path / "out" / "home"))
    (tmp_path / "photos").mkdir()
    picture(tmp_path / "photos" / "1.png", 1)
    np.save("x.npy", np.ones((3, 2), np.float32))
    Path("w.pt").write_bytes(b"weights")
    for split in ("train", "val"):
        Path(f"{split}.txt").write_text(f"./photos/{split}.png\n")
        picture(tmp_path / "photos" / f"{split}.png", 2)
        Path("photos", f"{split}.txt").write_text("0 .5 .5 .2 .2\n")
    Path("data.yaml").write_text("train: train.txt\nval: val.txt\nnames: [dot]\n")
    return {
        "rank": ["photos", "--model", "w.pt", "--out", "out/order.csv"],
        "watch": ["photos", "--model", "w.pt", "--once", "--out", "out/queue.csv"],
        "select": ["--embeddings", "x.npy", "--budget", "1", "--strategy", "core_set", "--out", "order.npy"],
        "backtest": ["--data", "data.yaml", "--model", "w.pt", "--budgets", "1", "--seeds", "1", "--out", "out/run"],
    }


@pytest.mark.parametrize("command", ["rank", "watch", "select", "backtest"])
def test_a_device_that_is_not_there_is_one_sentence_before_anything_is_written(
    command: str, commands: dict[str, list[str]], only_a_cpu: list[str]
) -> None:
    done = CliRunner().invoke(main, [command, *commands[command], "--device", "7"])
    assert done.exit_code == 2
    assert done.output == "Error: --device is '7', but this machine has auto, cpu\n"
    assert only_a_cpu == ["7"]
    assert not Path("out").exists()
    assert not Path("order.npy").exists()


def test_the_variable_is_named_where_it_was_what_the_person_set(
    commands: dict[str, list[str]], only_a_cpu: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARDFIRST_DEVICE", "7")
    assert "HARDFIRST_DEVICE is '7'" in CliRunner().invoke(main, ["rank", *commands["rank"]]).output


def test_the_processor_is_everywhere_and_asks_nobody(only_a_cpu: list[str]) -> None:
    require_device("auto")
    require_device(" CPU ")
    assert device("cpu") == "cpu"
    assert only_a_cpu == []
    assert device("auto") == "cpu"


@pytest.mark.parametrize("budget", [0, -3])
def test_a_budget_of_nothing_is_refused(budget: int) -> None:
    with pytest.raises(SettingError, match=f"--budget is {budget}: 1 or more is allowed"):
        require_budget(budget)
    require_budget(1)
