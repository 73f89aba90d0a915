"""Fixtures every suite shares."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

pytest_plugins = ("live", "clean_home")

# Threads that spin while they wait make k-means over 90 rows ten times slower where other processes want the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(autouse=True)
def _logging_stays_as_it_was() -> Iterator[None]:
    """A command sets up logging for its process; here many commands share one."""
    loggers = [logging.getLogger(), *map(logging.getLogger, ("httpx", "httpcore", "alembic"))]
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers
