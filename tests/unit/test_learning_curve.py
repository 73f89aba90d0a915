"""The learning curve: what it fits, what it predicts, when it says stop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.learning_curve import FIXED, Curve, Measured, advise, fit, gains, rising

RECORDED = [(500, 0.41), (700, 0.59), (900, 0.69), (1100, 0.75), (1300, 0.79), (1500, 0.81), (1700, 0.815)]


def told(values: list[tuple[int, float]]) -> list[str]:
    points = [Measured(*pair) for pair in values]
    return [advise(points[: k + 1], 200).action for k in range(len(points))]


def test_the_recorded_curve_goes_on_to_1500_labels_and_stops_at_1700() -> None:
    assert told(RECORDED) == ["wait", "wait", "continue", "continue", "continue", "continue", "stop"]


def test_noise_changes_the_advice_in_fewer_than_one_copy_of_ten() -> None:
    rng = np.random.default_rng(0)
    wanted = told(RECORDED)
    same = sum(told([(n, v + rng.normal(0, 0.003)) for n, v in RECORDED]) == wanted for _ in range(1000))
    assert same >= 950


@given(
    a=st.floats(0.3, 0.95),
    b=st.floats(0.1, 5),
    c=st.floats(0.2, 1.5),
    first=st.integers(5, 500),
    rounds=st.integers(5, 12),
)
def test_a_power_law_is_found_again(a: float, b: float, c: float, first: int, rounds: int) -> None:
    true = Curve(a, b, c)
    labels = [first * (k + 1) for k in range(rounds)]
    curve = fit([Measured(n, true.at(n)) for n in labels])
    ahead = labels[-1] + first
    assert curve.at(ahead) == pytest.approx(true.at(ahead), abs=2e-3 * b)


@given(st.lists(st.tuples(st.integers(1, 10_000), st.floats(0, 1)), min_size=3, max_size=12, unique_by=lambda p: p[0]))
def test_more_labels_are_never_expected_to_cost_quality(pairs: list[tuple[int, float]]) -> None:
    advice = advise([Measured(*pair) for pair in pairs], 50)
    assert advice.predicted is not None
    assert np.isfinite(advice.predicted)
    assert advice.predicted >= -1e-12


def test_below_five_rounds_the_exponent_is_fixed() -> None:
    assert fit([Measured(n, v) for n, v in RECORDED[:4]]).c == FIXED
    assert fit([Measured(n, v) for n, v in RECORDED[:5]]).c != FIXED


def test_rounds_on_the_same_labels_count_once_the_last_one() -> None:
    points = [Measured(20, 0.3), Measured(10, 0.2), Measured(20, 0.4)]
    assert rising(points) == [Measured(10, 0.2), Measured(20, 0.4)]
    assert gains(rising(points)) == [pytest.approx(2.0)]
    assert advise(points, 10).action == "wait"


def test_a_curve_of_one_number_of_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two different numbers of labels"):
        fit([Measured(10, 0.2), Measured(10, 0.3)])


def test_one_bad_round_is_not_the_end() -> None:
    assert told([(100, 0.2), (200, 0.4), (300, 0.4), (400, 0.5)])[-2:] == ["continue", "continue"]


def test_the_reason_names_gains_limit_and_what_is_expected() -> None:
    advice = advise([Measured(*pair) for pair in RECORDED], 200, limit=0.02)
    assert advice.action == "stop"
    assert "+0.0100 and +0.0025 per 100 labels, less than 0.02" in advice.reason
    assert "the next 200 labels are expected to bring +0.0" in advice.reason
