"""The model folder as processes share it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from common.config import Settings
from common.errors import ModelError
from common.yolo.models import YoloModels

pytestmark = pytest.mark.integration

ASK = """
import sys
from pathlib import Path
from common.config import Settings
from common.yolo.models import YoloModels
model = YoloModels(Settings(_env_file=None, home=Path(sys.argv[1]), model=sys.argv[2])).base("")
print(len(model.names), "torch" in sys.modules)
"""


def ask(home: Path, model: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(home), str(model)], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_weights_another_process_has_checked_are_known_without_loading_torch(shared: Path, tmp_path: Path) -> None:
    weights = tmp_path / "mine.pt"
    shutil.copy(shared / "weights/yolo11n-rebuilt.pt", weights)
    assert ask(tmp_path / "home", weights) == "80 True"
    assert ask(tmp_path / "home", weights) == "80 False"


def test_weights_that_changed_are_checked_again(shared: Path, tmp_path: Path) -> None:
    weights = tmp_path / "mine.pt"
    shutil.copy(shared / "weights/yolo11n-rebuilt.pt", weights)
    settings = Settings(_env_file=None, home=tmp_path / "home", model=str(weights))
    assert len(YoloModels(settings).base("").names) == 80
    weights.write_bytes(b"not weights")
    with pytest.raises(ModelError):
        YoloModels(settings).base("")


def test_the_same_name_in_another_folder_is_another_file(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(_env_file=None, home=tmp_path / "home", model="mine.pt")
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        shutil.copy(shared / "weights/yolo11n-rebuilt.pt", folder / "mine.pt")
        monkeypatch.chdir(folder)
        assert YoloModels(settings).base("").path == folder / "mine.pt"


def test_a_committee_by_names_answers_with_its_evidence_and_stays_resident(shared: Path, tmp_path: Path) -> None:
    weights, (photo, *_) = shared / "weights/yolo11n-rebuilt.pt", sorted((shared / "data/bccd/images").iterdir())
    models = YoloModels(Settings(_env_file=None, home=tmp_path / "home", model=str(weights), imgsz=64, device="cpu"))
    base = models.base("")
    plain = models.detector(base, imgsz=160)
    (alone,) = plain.predict([photo])
    committee = models.detector(base, ("flip", "heads"), [base], 160)
    (seen,) = committee.predict([photo])
    assert models.detector(base, ("flip", "heads"), [base], 160) is committee
    assert models.detector(base, ("flip", "heads"), [base]) is not committee
    assert not isinstance(alone, str)
    assert not isinstance(seen, str)
    assert alone.committee is None
    assert seen.committee is not None
    assert seen.flip_iou is not None
    assert len(alone.instances) > 0
    assert np.array_equal(seen.instances.boxes, alone.instances.boxes)
    assert np.array_equal(seen.committee[-1], seen.instances.scores)  # the same weights, looking once more
    assert np.array_equal(seen.committee[0], seen.flip_scores)
    assert seen.flip_iou.max() > 0.5
