"""The inbox over the stand-in CVAT: who has which jobs, and that what people do wins."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from common.errors import PlatformUnreachableError
from common.store import open_store
from tests.contract.cvat_pool import Pool, pool


def test_everybody_gets_the_best_jobs_in_turn(tmp_path: Path) -> None:
    with pool(tmp_path) as it:
        it.publish([6, 1, 10, 8, 3, 4])  # jobs 3, 0, 5, 4, 1, 2
        it.tend()
        assert (it.inbox("ann"), it.inbox("bob")) == ([3, 5], [0, 4])
