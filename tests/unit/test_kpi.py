"""Figures about time and labels, as formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.kpi import (
    ENOUGH,
    WEEK_S,
    Typical,
    break_limit,
    difference,
    per_week,
    saved,
    shares,
    tally,
    typical,
    waits,
)
from common.learning_curve import Curve


def test_an_image_waits_from_the_newest_order_before_its_label() -> None:
    first, listed = np.array([110.0, 260.0, 90.0]), np.zeros(3)
    assert waits(first, listed, np.array([100.0, 200.0, 300.0])).tolist() == [10.0, 60.0]


def test_an_image_that_came_after_the_order_waits_from_then_and_one_that_came_labelled_not_at_all() -> None:
    assert waits(np.array([150.0, 150.0]), np.array([140.0, 151.0]), np.array([100.0])).tolist() == [10.0]


def test_without_an_order_nothing_waited() -> None:
    assert waits(np.array([5.0]), np.array([1.0]), np.zeros(0)).size == 0


@given(st.lists(st.floats(1, 1e6), max_size=20), st.lists(st.floats(1, 1e6), max_size=5))
def test_no_wait_is_negative(first: list[float], activated: list[float]) -> None:
    found = waits(np.array(first), np.ones(len(first)), np.sort(np.array(activated)))
    assert (found >= 0).all()
    assert len(found) <= len(first)


def test_a_lunch_is_a_break_and_a_hard_image_is_not() -> None:
    seconds = np.concatenate([np.random.default_rng(0).lognormal(3, 0.5, 200), [90.0, 3600.0]])
    assert 90 < break_limit(seconds) < 3600


def test_there_is_no_limit_with_few_answers_or_equal_ones() -> None:
    assert break_limit(np.array([1.0, 9999.0])) == math.inf
    assert break_limit(np.full(100, 12.0)) == math.inf


def test_a_typical_time_needs_twenty_answers() -> None:
    assert typical(np.ones(ENOUGH - 1)) is None
    assert typical(np.arange(ENOUGH, dtype=float)) == Typical(20, 9.5, 5.0, 14.0)


def test_the_interval_of_the_median_holds_it_nine_times_in_ten() -> None:
    rng = np.random.default_rng(1)
    held = [(t := typical(rng.lognormal(3, 1, 25))) and t.low <= math.exp(3) <= t.high for _ in range(2000)]
    assert 0.89 < np.mean(held) < 0.97


def test_a_difference_lies_in_its_interval_and_turns_with_its_sides() -> None:
    one, other = Typical(30, 10, 8, 13), Typical(40, 20, 16, 23)
    mean, low, high = difference(one, other)
    assert (mean, low, high) == (-10, -10 - math.hypot(2, 3), -10 + math.hypot(3, 4))
    assert difference(other, one) == (10, -high, -low)


def test_boxes_are_counted_by_class_and_by_what_a_person_did() -> None:
    found = tally([("cat", "prediction"), ("cat", "manual"), ("cat", "manual"), ("dog", "prediction-changed")])
    assert {k: dict(v) for k, v in found.items()} == {"cat": {"accepted": 1, "drawn": 2}, "dog": {"edited": 1}}
    assert shares({"a": 1, "b": 3}) == {"a": 0.25, "b": 0.75}
    assert shares({"a": 0}) == {}


def test_rounds_per_week_are_those_of_the_last_four() -> None:
    now = 100 * WEEK_S
    old = [now - 50 * WEEK_S]
    assert per_week([*old, now - 2 * WEEK_S, now - WEEK_S], old[0], now) == 0.5
    assert per_week([now - 3600], now - 7200, now) == 1
    assert per_week([now - 1.5 * WEEK_S, now], now - 2 * WEEK_S, now) == 1


@given(st.floats(0.1, 2), st.floats(0.01, 2), st.integers(10, 5000), st.floats(-0.3, 0.3), st.floats(-1, 1))
def test_the_curve_has_the_controls_value_where_the_savings_say(
    c: float, b: float, labels: int, gained: float, a: float
) -> None:
    share = saved(Curve(a, b, c), labels, gained)
    if share is None:
        assert gained <= -b * labels**-c * (1 - 1e-9)
        return
    assert share < 1
    assert (share > 0) == (gained * labels**c / b > 1e-15) or abs(share) < 1e-9
    needed = labels * (1 - share)
    if 1e-3 < needed < 1e12:
        curve = Curve(a, b, c)
        assert curve.at(labels) - curve.at(needed) == pytest.approx(gained, abs=1e-6 * max(1, b * needed**-c))


def test_savings_by_hand() -> None:
    # m(n) = 1 - n^-.5: at 100 labels .9, at 25 labels .8
    assert saved(Curve(1, 1, 0.5), 100, 0.1) == pytest.approx(0.75)
    assert saved(Curve(1, 1, 0.5), 100, 0) == 0
    assert saved(Curve(1, 1, 0.5), 25, -0.1) == pytest.approx(-3)
    assert saved(Curve(1, 1, 0.5), 100, -0.1) is None
    assert saved(Curve(0.5, 0, 0.5), 100, 0.1) is None
