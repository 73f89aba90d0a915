"""Fixtures every suite shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest_plugins = ("live",)

ROOT = Path(__file__).resolve().parents[1]


def _absent(reason: str) -> None:
    """A missing real part skips on a laptop and fails in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recorded exchanges, real data sets and weights, which the repository does not hold."""
    folder = Path(os.environ.get("HARDFIRST_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        _absent(f"recorded exchanges, data sets and weights are not at {folder} (HARDFIRST_SHARED says where)")
    return folder
