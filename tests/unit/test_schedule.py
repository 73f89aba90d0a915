"""Where the random slice stands in a queue."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.strategies.schedule import merge, places

SHARES = st.integers(1, 999).map(lambda n: n / 1000) | st.integers(2, 40).map(lambda k: 1 / k)


def _visitors(main: int, visitors: int, share: float) -> list[int]:
    """Places, counted from 0, of visitors."""
    order = merge(np.arange(main), np.arange(visitors) + 10**6, share)
    assert sorted(order) == [*range(main), *(10**6 + np.arange(visitors)).tolist()]
    assert order[order < 10**6].tolist() == list(range(main))
    assert order[order >= 10**6].tolist() == (10**6 + np.arange(visitors)).tolist()
    return np.flatnonzero(order >= 10**6).tolist()


@given(SHARES, st.integers(0, 300))
def test_of_the_first_m_places_the_whole_part_of_m_times_the_share_are_visitors(share: float, m: int) -> None:
    exact = Fraction(str(share)).limit_denominator(1000)
    stands = _visitors(300, 300, share)
    assert sum(place < m for place in stands) == int(m * exact)


@given(st.integers(2, 40), st.integers(0, 120), st.integers(0, 30))
def test_a_share_of_one_in_k_is_every_kth_place(k: int, main: int, visitors: int) -> None:
    turns = list(range(k - 1, main + visitors, k))[:visitors]
    met = [place for number, place in enumerate(turns) if place - number <= main]
    assert _visitors(main, visitors, 1 / k) == [*met, *range(main + len(met), main + visitors)]


@pytest.mark.parametrize(("share", "stands"), [(0.3, [3, 6, 9, 13, 16, 19]), (0.15, [6, 13, 19])])
def test_a_share_between_two_periods_is_kept(share: float, stands: list[int]) -> None:
    assert [place for place in _visitors(40, 20, share) if place < 20] == stands


@given(SHARES, st.lists(st.integers(0, 60), max_size=8))
def test_blocks_serve_the_visitors_that_stand_in_their_places(share: float, sizes: list[int]) -> None:
    stands, start = _visitors(600, 600, share), 0
    for size in sizes:
        served = places(start, size, share)
        assert stands[served] == [place for place in stands if start <= place < start + size]
        start += size


def test_without_a_share_nobody_visits() -> None:
    assert merge(np.arange(3), np.array([7]), 0.0).tolist() == [0, 1, 2]
    assert places(0, 100, 0.0) == slice(0, 0)
