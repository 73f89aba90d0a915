"""A home folder for ultralytics, for every test of a module that imports the fixture."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.yolo import offline


@pytest.fixture(name="home", scope="module", autouse=True)
def home_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared before ultralytics is imported for the first time."""
    folder = tmp_path_factory.mktemp("home")
    offline.prepare(folder)
    offline.load()
    return folder
