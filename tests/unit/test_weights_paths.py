"""Where weights may come from. Nothing here needs torch: no file is opened as a model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import ModelError
from common.yolo import weights


def no_network(name: str, folder: Path) -> str:
    return "no answer within 20 s"


def forbidden(name: str, folder: Path) -> str:
    raise AssertionError("nothing may be downloaded here")


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "models"


def test_official_weights_that_cannot_be_had_become_an_architecture_and_a_sentence(models: Path) -> None:
    found = weights.resolve("yolo11n.pt", models, fetch=no_network)
    assert (found.kind, found.path) == ("architecture", models / "yolo11n.yaml")
    assert "backbone" in found.path.read_text()
    assert found.reason == (
        f"yolo11n.pt is not in {models} and could not be downloaded (no answer within 20 s): starting from "
        "yolo11n.yaml without knowledge: the first queue is a cold start. Put the file there, or set HARDFIRST_MODEL "
        "to its path."
    )


def test_nothing_is_downloaded_when_downloads_are_off(models: Path) -> None:
    found = weights.resolve("yolo11n.pt", models, online=False, fetch=forbidden)
    assert "downloads are off" in found.reason


@pytest.mark.parametrize(("name", "yaml"), [("yolov8s.pt", "yolov8s.yaml"), ("yolo26m.pt", "yolo26m.yaml")])
def test_every_family_falls_back_to_its_own_architecture(models: Path, name: str, yaml: str) -> None:
    assert weights.resolve(name, models, fetch=no_network).path == models / yaml


def test_an_architecture_is_named_by_its_kind_and_not_by_a_hash_of_weights(models: Path) -> None:
    small, large = (weights.resolve(f"yolo11{s}.pt", models, fetch=no_network).sha256 for s in "nl")
    assert len(small) == 64
    assert small != large


@pytest.mark.parametrize("name", ["typo.pt", "yolo11n-seg.pt", "/nowhere/yolo11n.pt", "./yolo11n.pt", "yolo11n"])
def test_a_file_that_was_named_and_does_not_exist_is_an_error_and_not_a_download(models: Path, name: str) -> None:
    with pytest.raises(ModelError, match="no such file") as caught:
        weights.resolve(name, models, fetch=forbidden)
    assert repr(name) in str(caught.value)


def test_a_download_that_leaves_no_model_behind_leaves_no_file_behind(models: Path) -> None:
    weights.resolve("yolo11n.pt", models, fetch=no_network)
    assert [p.name for p in models.iterdir()] == ["yolo11n.yaml"]


def test_a_model_folder_that_cannot_be_written_is_said_and_not_raised(tmp_path: Path, models: Path) -> None:
    models.write_text("a file where the folder should be")
    found = weights.resolve("yolo11n.pt", models, fetch=no_network)
    assert found.kind == "architecture"
    assert "cannot be written" in found.reason


def test_a_label_config_reaches_files_inside_the_model_folder(models: Path) -> None:
    (models / "team").mkdir(parents=True)
    (models / "team/cells.pt").write_bytes(b"x")
    assert weights.inside(models, "team/cells.pt") == models / "team/cells.pt"
    assert weights.inside(models, str(models / "team/cells.pt")) == models / "team/cells.pt"


@pytest.mark.parametrize(
    "path",
    ["", " ", "../secret.pt", "team/../../secret.pt", "/etc/passwd", "link.pt", "folder/secret.pt", "gone.pt",
     "https://example.org/a.pt", "file:///etc/passwd", "a\0.pt", "..\\secret.pt", "notes.txt", "."],
)  # fmt: skip
def test_a_label_config_reaches_nothing_outside_the_model_folder(tmp_path: Path, models: Path, path: str) -> None:
    models.mkdir()
    (tmp_path / "secret.pt").write_bytes(b"x")
    (models / "notes.txt").write_text("x")
    (models / "link.pt").symlink_to(tmp_path / "secret.pt")
    (models / "folder").symlink_to(tmp_path)
    with pytest.raises(ModelError, match="model_path is"):
        weights.inside(models, path)


def test_a_link_inside_the_folder_to_a_file_inside_it_is_fine(models: Path) -> None:
    models.mkdir()
    (models / "v2.pt").write_bytes(b"x")
    (models / "newest.pt").symlink_to("v2.pt")
    assert weights.inside(models, "newest.pt") == models / "v2.pt"


def test_the_same_bytes_have_the_same_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert weights.sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_finding_weights_needs_no_torch(models: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from common.yolo import weights, dataset, trainer, evaluate, "
        "train_child, detector, training; import common.jobs; "
        f"weights.resolve('yolo11n.pt', Path({str(models)!r}), online=False); "
        "sys.exit('torch' in sys.modules or 'ultralytics' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-P", "-c", program], check=False).returncode == 0
