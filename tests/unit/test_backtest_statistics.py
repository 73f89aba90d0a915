"""Curves, areas, savings and tests against what can be worked out by hand, and properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.experiments.backtest.statistics import (
    Curve,
    Reach,
    Saving,
    area,
    area_difference,
    holm,
    mean_interval,
    pooled_saving,
    reach,
    saving,
    sign_flip,
    undecided,
)

QUALITY = st.floats(0, 1, allow_subnormal=False)
RNG = np.random.default_rng


@st.composite
def curves(draw: st.DrawFn, points: int | None = None) -> Curve:
    n = points or draw(st.integers(1, 6))
    steps = draw(st.lists(st.floats(0.5, 40), min_size=n, max_size=n))
    return Curve.of(np.cumsum(steps).tolist(), draw(st.lists(QUALITY, min_size=n, max_size=n)))


def test_the_area_is_a_mean_over_doublings() -> None:
    curve = Curve.of([4, 8, 32], [0.0, 0.4, 0.4])
    assert area(curve, 4, 8) == pytest.approx(0.2)
    assert area(curve, 4, 32) == pytest.approx((0.2 + 0.4 + 0.4) / 3)
    assert area(curve, 8, 8) == pytest.approx(0.4)
    assert area(curve, 32, 128) == pytest.approx(0.4)


@given(curve=curves(), lift=st.floats(-0.5, 0.5))
def test_the_area_lies_between_worst_and_best_and_moves_with_the_curve(curve: Curve, lift: float) -> None:
    found = area(curve, curve.x[0], curve.x[-1])
    assert curve.y.min() - 1e-9 <= found <= curve.y.max() + 1e-9
    assert area(Curve(curve.x, curve.y + lift), curve.x[0], curve.x[-1]) == pytest.approx(found + lift, abs=1e-9)


@given(curve=curves(), factor=st.floats(0.1, 100))
def test_the_unit_of_what_is_paid_does_not_matter(curve: Curve, factor: float) -> None:
    scaled = Curve(curve.x * factor, curve.y)
    assert area(scaled, scaled.x[0], scaled.x[-1]) == pytest.approx(area(curve, curve.x[0], curve.x[-1]), abs=1e-6)


@given(one=curves(4), other=curves(4))
def test_a_difference_turned_round_is_its_negative(one: Curve, other: Curve) -> None:
    assert area_difference(one, other) == pytest.approx(-area_difference(other, one), abs=1e-12)
    assert area_difference(one, one) == 0


def test_a_target_is_reached_between_two_points_in_doublings() -> None:
    curve = Curve.of([4, 16, 64], [0.2, 0.6, 0.5])
    assert reach(curve, 0.4) == Reach(pytest.approx(8), "inside")
    assert reach(curve, 0.6) == Reach(pytest.approx(16), "inside")
    assert reach(curve, 0.2) == Reach(4, "first")
    assert reach(curve, 0.61) == Reach(64, "censored")


@given(curve=curves(), target=QUALITY, lower=QUALITY)
def test_a_lower_target_is_reached_no_later(curve: Curve, target: float, lower: float) -> None:
    high, low = reach(curve, max(target, lower)), reach(curve, min(target, lower))
    assert low.x <= high.x * (1 + 1e-9)
    assert curve.x[0] * (1 - 1e-9) <= high.x <= curve.x[-1] * (1 + 1e-9)
    assert (high.kind == "censored") == bool((curve.y < max(target, lower)).all())


def test_half_the_labels_are_half_saved() -> None:
    assert saving(Reach(8, "inside"), Reach(16, "inside")) == Saving(0.5, "")
    assert saving(Reach(24, "inside"), Reach(16, "inside")) == Saving(-0.5, "")


def test_a_saturated_unit_says_nothing_about_savings() -> None:
    assert saving(Reach(4, "first"), Reach(4, "first")) is None
    assert saving(Reach(64, "censored"), Reach(4, "first")) is None


def test_what_never_gets_there_is_a_bound() -> None:
    late = Reach(64, "censored")
    assert saving(late, Reach(32, "inside")) == Saving(-1.0, "<=")
    assert saving(Reach(16, "inside"), late) == Saving(0.75, ">=")
    assert saving(Reach(70, "censored"), late) is None
    assert undecided(Reach(70, "censored"), late)
    assert not undecided(late, Reach(4, "first"))
    assert not undecided(Reach(16, "inside"), late)


def test_a_curve_that_ends_before_the_other_gets_there_is_no_saving() -> None:
    """Rounds of one number of labels have different numbers of boxes."""
    assert saving(Reach(50, "censored"), Reach(80, "inside")) is None, "not 3/8 saved"
    assert saving(Reach(80, "inside"), Reach(50, "censored")) is None
    assert undecided(Reach(50, "censored"), Reach(80, "inside"))


@given(values=st.lists(st.floats(-5, 5), min_size=4, max_size=12), seed=st.integers(0, 9))
def test_an_interval_stays_among_the_values_and_is_drawn_again_the_same(values: list[float], seed: int) -> None:
    mean, low, high = mean_interval(values, RNG(seed))
    assert mean == pytest.approx(np.mean(values), abs=1e-9)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    assert mean_interval(values, RNG(seed)) == (mean, low, high)


def test_the_bootstrap_of_many_units_agrees_with_the_normal_interval() -> None:
    values = RNG(1).normal(2.0, 3.0, 400)
    _, low, high = mean_interval(values, RNG(2))
    half = 1.645 * values.std() / np.sqrt(400)
    assert (low, high) == (pytest.approx(values.mean() - half, abs=0.03), pytest.approx(values.mean() + half, abs=0.03))


def test_few_units_have_few_intervals() -> None:
    assert np.isnan(mean_interval([], RNG(0))).all()
    for values in ([0.3], [0.3, 0.3], [0.2, 0.3, 0.4]):
        mean, low, high = mean_interval(values, RNG(0))
        assert mean == pytest.approx(0.3)
        assert np.isnan([low, high]).all()


@pytest.mark.parametrize("units", [4, 6, 12])
def test_an_interval_of_few_units_holds_the_truth_nearly_as_often_as_it_says(units: int) -> None:
    """Plain percentiles: 75, 80 and 84 of 100."""
    drawn = RNG(3).standard_normal((300, units))
    found = [mean_interval(values, RNG(i)) for i, values in enumerate(drawn)]
    assert 0.82 < np.mean([low <= 0 <= high for _, low, high in found]) < 0.96


def test_pooled_savings_weigh_units_by_what_they_cost() -> None:
    spent = np.array([[8.0, 16.0], [60.0, 64.0]])
    assert mean_interval(spent, RNG(0), pooled_saving)[0] == pytest.approx(1 - 68 / 80)
    estimate, low, high = mean_interval(np.repeat(spent, 2, axis=0), RNG(0), pooled_saving)
    assert estimate == pytest.approx(1 - 68 / 80)
    assert low == pytest.approx(1 - 60 / 64)
    assert high == pytest.approx(0.5)


def test_six_units_that_agree_are_significant_and_two_are_not() -> None:
    assert sign_flip([0.1, 0.2, 0.3, 0.1, 0.2, 0.1], RNG(0)) == pytest.approx(2 / 64)
    assert sign_flip([0.1, 0.2], RNG(0)) == pytest.approx(0.5)
    assert sign_flip([0.4], RNG(0)) == 1.0
    assert sign_flip([0.0, 0.0, 0.0], RNG(0)) == 1.0


@given(values=st.lists(st.floats(-1, 1), min_size=2, max_size=8))
def test_the_sign_flip_test_does_not_care_who_is_called_first(values: list[float]) -> None:
    p = sign_flip(values, RNG(0))
    assert 0 < p <= 1
    assert sign_flip([-v for v in values], RNG(0)) == pytest.approx(p)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@given(p=st.lists(st.floats(0, 1), max_size=8))
def test_holm_is_between_the_p_and_bonferroni_and_keeps_the_order(p: list[float]) -> None:
    found = holm(p)
    assert all(a <= b <= min(1.0, len(p) * a) + 1e-12 for a, b in zip(p, found, strict=True))
    assert all(found[i] <= found[j] for i in range(len(p)) for j in range(len(p)) if p[i] < p[j])


@pytest.mark.parametrize(
    ("x", "y"), [([], []), ([1.0, 2.0], [0.1]), ([2.0, 1.0], [0.1, 0.2]), ([0.0, 1.0], [0.1, 0.2]), ([1.0], [np.nan])]
)
def test_what_is_no_curve_is_refused(x: list[float], y: list[float]) -> None:
    with pytest.raises(ValueError, match="x "):
        Curve.of(x, y)


def test_a_mean_of_curves_is_taken_budget_by_budget() -> None:
    found = Curve.mean([Curve.of([4, 8], [0.2, 0.4]), Curve.of([4, 10], [0.4, 0.8])])
    assert found.x.tolist() == [4, 9]
    assert found.y.tolist() == pytest.approx([0.3, 0.6])
