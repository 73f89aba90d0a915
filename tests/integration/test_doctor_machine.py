"""What the doctor's child says of this machine's torch and of weights, real ones and planted ones."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from common.yolo import look as looking
from common.yolo.look import look

pytestmark = pytest.mark.integration


class _Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("run",)


@pytest.fixture(scope="module")
def weights(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    good = shared / "weights" / "yolo11n-rebuilt.pt"
    short, code = folder / "short.pt", folder / "code.pt"
    short.write_bytes(good.read_bytes()[:5000])
    code.write_bytes(pickle.dumps(_Code()))
    return {"good": good, "short": short, "code": code, "gone": folder / "gone.pt"}


def test_torch_works_here_and_each_file_is_told_apart(weights: dict[str, Path]) -> None:
    found = look("cpu", list(weights.values()), 120)
    assert (found.device, found.error, bool(found.torch)) == ("cpu", "", True)
    said = {name: found.weights[str(path)] for name, path in weights.items()}
    assert isinstance(said["good"], tuple)
    assert "person" in said["good"]
    for name in ("short", "code", "gone"):
        assert isinstance(said[name], str)
        assert str(weights[name]) in said[name]


def test_a_device_that_is_not_there_is_said_with_those_that_are() -> None:
    found = look("97", [], 120)
    assert found.device == ""
    assert found.error.startswith("HARDFIRST_DEVICE is '97', but this machine has auto, cpu")


def test_a_child_that_hangs_is_ended_and_one_that_crashes_is_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    monkeypatch.setattr(looking.sys, "executable", str(python))
    for script, said in (("exec sleep 20", "within 0.3 s"), ("echo 'ImportError: libcudart' >&2; exit 1", "libcudart")):
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
        found = look("cpu", [], 0.3 if "sleep" in script else 20)
        assert said in found.error
        assert found.torch
