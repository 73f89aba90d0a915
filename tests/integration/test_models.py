"""The model folder as processes share it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

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
