"""What is kept for a moment: how long, for which state, and that of many who ask at once one computes."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from common.web.kept import Kept


def test_a_value_is_made_anew_when_it_is_too_old_or_of_another_state() -> None:
    now, made = [0.0], count(1)
    kept = Kept(2.0, lambda: now[0])
    asked = [(0.0, "a", 1), (1.9, "a", 1), (2.0, "a", 2), (2.1, "b", 3), (2.2, "b", 3), (2.3, "a", 4)]
    for at, state, value in asked:
        now[0] = at
        assert kept.of("name", state, lambda: next(made)) == value
    assert kept.of("other", "a", lambda: next(made)) == 5


def test_of_many_who_ask_at_once_one_computes_and_other_names_do_not_wait() -> None:
    kept, made, goes_on = Kept(60.0), [], threading.Event()

    def slow() -> int:
        made.append(1)
        goes_on.wait(10)
        return 7

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(kept.of, "slow", 0, slow) for _ in range(7)]
        while not made:
            time.sleep(0.01)
        assert kept.of("quick", 0, lambda: 1) == 1
        goes_on.set()
        assert [a.result() for a in asked] == [7] * 7
    assert len(made) == 1


def test_a_failure_is_not_kept() -> None:
    kept = Kept(60.0)
    with pytest.raises(ZeroDivisionError):
        kept.of("name", 0, lambda: 1 // 0)
    assert kept.of("name", 0, lambda: 3) == 3
    assert kept.of("nothing", 0, lambda: None) is None
