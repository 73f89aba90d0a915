"""Real photographs, their labels and weights, found beside the repository or where HARDFIRST_SHARED says."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from common.errors import SettingError

ROOT = Path(__file__).resolve().parents[1]


def shared() -> Path:
    """The folder of data sets and weights, which the repository does not hold."""
    folder = Path(os.environ.get("HARDFIRST_SHARED", ROOT.parent / "shared")).resolve()
    if not folder.is_dir():
        raise SettingError(f"data sets and weights are not at {folder}: set HARDFIRST_SHARED to their folder")
    return folder


def weights() -> Path:
    """YOLO11n."""
    return shared() / "weights" / "yolo11n-rebuilt.pt"


def data_set(name: str) -> Path:
    """A data set's folder: images/, labels/, data.yaml."""
    return shared() / "data" / name


def class_names(folder: Path) -> tuple[str, ...]:
    """Of a data set, in the order of its indices."""
    return tuple(yaml.safe_load((folder / "data.yaml").read_text())["names"].values())
