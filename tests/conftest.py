"""Fixtures every suite shares."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest_plugins = ("live",)

# Threads that spin while they wait make k-means over 90 rows ten times slower where other processes want the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

ROOT = Path(__file__).resolve().parents[1]


def _absent(reason: str) -> None:
    """A missing real part skips on a laptop and fails in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def _logging_stays_as_it_was() -> Iterator[None]:
    """A command sets up logging for its process; here many commands share one."""
    loggers = [logging.getLogger(), *map(logging.getLogger, ("httpx", "httpcore", "alembic"))]
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recorded exchanges, real data sets and weights, which the repository does not hold."""
    folder = Path(os.environ.get("HARDFIRST_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        _absent(f"recorded exchanges, data sets and weights are not at {folder} (HARDFIRST_SHARED says where)")
    return folder
