"""Fixtures of commands that run in this process: nothing set in the environment, and HOME in a folder of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from common.store import Store

OURS = ("HARDFIRST_", "CVAT_", "LABEL_STUDIO_", "BASIC_AUTH_")


@pytest.fixture
def clean_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """HARDFIRST_HOME, the only thing that is set; nobody has made it yet. The test's folder is the current one."""
    for name in [n for n in os.environ if n.startswith(OURS)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARDFIRST_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def home_store(clean_home: Path) -> Iterator[Store]:
    """The store that commands open, empty."""
    # Here and not above: every suite loads this file.
    from common.config import Settings
    from common.store import open_store

    clean_home.mkdir()
    made = open_store(Settings(_env_file=None, home=clean_home).database, clean_home)
    yield made
    made.close()
