"""The lazily batched greedy order against the plain one."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.strategies import tiers
from common.strategies.distances import Memory, Nearest, greatest
from common.strategies.farthest_first import Deficit, Points, farthest_first
from common.strategies.keeper import Keeper


def _unit(x: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.divide(x, length, out=np.zeros_like(x), where=length > 0)


def _brought_nearer(x, near, i):
    """Squared distances once unit row i is chosen: one without a direction is the place of its like, and no other's."""
    if x[i].any():
        return np.minimum(near, ((x - x[i]) ** 2).sum(axis=1))
    return np.where(x.any(axis=1), near, 0)


def _plain(x, budget, anchors=(), weight=None, power=1.0, deficit=None):
    """One at a time, nothing lazy: the picks and the value each had."""
    x = _unit(np.asarray(x, np.float64))
    weight = np.ones(len(x)) if weight is None else weight
    near, free = np.full(len(x), 4.0), np.ones(len(x), bool)
    free[list(anchors)] = False
    for a in anchors:
        near = _brought_nearer(x, near, a)
    have, order, values = None if deficit is None else deficit.have, [], []
    for _ in range(min(budget, free.sum())):
        value = weight * near ** (power / 2)
        if deficit is not None:
            value = value * (
                1 + (deficit.presence * np.clip(deficit.target - have, 0, None) / deficit.target).max(axis=1)
            )
        value[~free] = -1
        i = int(np.argmax(value))
        order.append(i)
        values.append(value)
        free[i] = False
        near = _brought_nearer(x, near, i)
        have = None if deficit is None else have + deficit.amount[i]
    return np.array(order, np.int64), values


def _deficit(rng, n):
    presence = (rng.random((n, 3)) * (rng.random((n, 3)) < 0.2)).astype(np.float32)
    return Deficit(presence, presence * 2, 50.0, np.array([45.0, 30, 0]))


def _same_up_to_ties(found, wanted, values):
    """Equal picks; where they part, the two values are within 1e-6 of each other."""
    apart = np.flatnonzero(found != wanted)
    if len(apart):
        k = apart[0]
        assert values[k][wanted[k]] - values[k][found[k]] <= 1e-6
    return len(apart) == 0


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 60),
    anchors=st.integers(0, 5),
    weighted=st.booleans(),
    balanced=st.booleans(),
    power=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
)
def test_the_picks_are_those_of_plain_greedy(seed, n, anchors, weighted, balanced, power):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 6)).astype(np.float32)
    start = rng.choice(n, min(anchors, n), replace=False)
    weight = rng.random(n) if weighted else None
    deficit = _deficit(rng, n) if balanced else None
    wanted, values = _plain(x, n, start, weight, power, deficit)
    got = farthest_first(Points(x), n, anchors=start, weight=weight, power=power, deficit=deficit)
    assert sorted(got.order) == sorted(wanted)
    _same_up_to_ties(got.order, wanted, values)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    balanced=st.booleans(),
    clusters=st.sampled_from([0, 3]),
    unknown=st.sampled_from([0, 3]),
    inner=st.sampled_from([4, 512]),
)
def test_several_tiers_and_one_pick_what_plain_greedy_picks(seed, balanced, clusters, unknown, inner):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiers, "INNER", inner)
        patch.setattr(tiers, "SHRINK", 3)
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((150, 5)).astype(np.float32)
        if clusters:
            x = x * 0.2 + rng.standard_normal((clusters, 5))[rng.integers(clusters, size=150)].astype(np.float32)
        x[rng.choice(150, unknown, replace=False)] = 0
        weight, deficit = rng.random(150) + 0.1, _deficit(rng, 150) if balanced else None
        wanted, values = _plain(x, 80, [3], weight, 1.0, deficit)
        got = farthest_first(Points(x), 80, anchors=np.array([3]), weight=weight, deficit=deficit)
        _same_up_to_ties(got.order, wanted, values)


@pytest.mark.parametrize("balanced", [False, True])
def test_five_thousand_rows_are_picked_as_plain_greedy_picks_them(balanced):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((5000, 32)).astype(np.float32)
    deficit = _deficit(rng, 5000) if balanced else None
    wanted, values = _plain(x, 300, [7], None, 1.0, deficit)
    got = farthest_first(Points(x), 300, anchors=np.array([7]), deficit=deficit)
    assert _same_up_to_ties(got.order, wanted, values)
    np.testing.assert_allclose(got.value, [v[i] for v, i in zip(values, wanted, strict=True)], atol=1e-5)


def test_picks_among_near_duplicates_are_exact_where_cosines_have_no_digits_left():
    """2 - 2 cos in float32 is off by more than the distances are here; the greatest value is met within 1e-6."""
    rng = np.random.default_rng(6)
    x = rng.standard_normal((30, 64))[rng.integers(30, size=3000)]
    x = (x + 10.0 ** rng.uniform(-5, -2, (3000, 1)) * rng.standard_normal((3000, 64))).astype(np.float32)
    order = farthest_first(Points(x), 600, anchors=np.array([0])).order
    unit = _unit(x.astype(np.float64))
    near, free = ((unit - unit[0]) ** 2).sum(axis=1), np.arange(3000) > 0
    for row in order:
        assert free[row]
        assert np.sqrt(near[row]) >= np.sqrt(near[free].max()) - 1e-6
        near, free[row] = np.minimum(near, ((unit - unit[row]) ** 2).sum(axis=1)), False


@given(seed=st.integers(0, 10**6), rows=st.integers(1, 4), columns=st.integers(20, 2000), ties=st.booleans())
def test_the_greatest_of_each_row_are_found_among_few(seed, rows, columns, ties):
    values = np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)
    values = np.round(values) if ties else values
    np.testing.assert_array_equal(np.sort(greatest(values, 20), axis=1), np.sort(values, axis=1)[:, -20:])


def test_ties_go_to_the_lowest_row_in_every_tier():
    x = np.tile(np.eye(3, dtype=np.float32), (3000, 1))
    assert farthest_first(Points(x), 5).order.tolist() == [0, 1, 2, 3, 4]


CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float64)
SYMMETRIC = {
    "corners of a cube": CORNERS,
    "a cross and its corners": np.concatenate(
        [np.eye(5), -np.eye(5), *[CORNERS @ np.eye(5)[i : i + 3] for i in (0, 2)]]
    ),
    "orders of four numbers": np.array(list(itertools.permutations([1.0, 2, 3, 5]))),
    "a circle": np.array([[np.cos(a), np.sin(a)] for a in np.arange(24) * np.pi / 12]),
    "signs": np.sign(np.random.default_rng(0).standard_normal((120, 12))),
    "copies of few": np.repeat(np.random.default_rng(1).standard_normal((12, 7)), 9, axis=0),
}


def _lowest(x, anchors, weight, deficit=None):
    """Plain greedy, one at a time, in float64: of values within 1e-9 of the greatest, the lowest row."""
    x = _unit(x)
    near, free = ((x[:, None] - x[None, anchors]) ** 2).sum(axis=2).min(axis=1), np.ones(len(x), bool)
    free[anchors] = False
    have, order = None if deficit is None else deficit.have.copy(), []
    while free.any():
        value = weight * np.sqrt(near) * (1 if deficit is None else deficit.factor(deficit.presence, have))
        order.append(int(np.flatnonzero(free & (value >= value[free].max() - 1e-9))[0]))
        free[order[-1]] = False
        near = np.minimum(near, ((x - x[order[-1]]) ** 2).sum(axis=1))
        have = None if deficit is None else have + deficit.amount[order[-1]]
    return order


@pytest.mark.parametrize("inner", [4, 512])
@pytest.mark.parametrize("kind", SYMMETRIC)
@pytest.mark.parametrize("factors", ["distance", "weights", "deficit"])
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6), known=st.booleans(), stretched=st.booleans())
def test_of_exactly_equal_values_the_lowest_row_wins(kind, factors, inner, seed, known, stretched):
    """In float32 products their distances differ by some 1e-7, whichever way they come out."""
    rng = np.random.default_rng(seed)
    x = SYMMETRIC[kind][rng.permutation(len(SYMMETRIC[kind]))]
    x = x * 2.0 ** rng.integers(-9, 9, (len(x), 1)) if stretched else x
    anchors, n = rng.choice(len(x), 2, replace=False), len(x)
    weight = rng.choice([0.25, 1.0], n) if factors == "weights" else np.ones(n)
    shown = rng.choice([0.0, 0.5, 1.0], (n, 2)).astype(np.float32)
    deficit = Deficit(shown, shown, 8.0, np.array([0.0, 6])) if factors == "deficit" else None
    points = Points(x)
    given_near = {"near": points.covered(np.sort(anchors), np.arange(n))} if known else {"anchors": anchors}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiers, "INNER", inner)
        patch.setattr(tiers, "SHRINK", 3)
        rows = np.setdiff1d(np.arange(n), anchors)
        got = farthest_first(points, n, candidates=rows, weight=weight, deficit=deficit, **given_near)
    assert got.order.tolist() == _lowest(x, anchors, weight, deficit)


def test_ten_thousand_equal_values_go_by_row_and_are_measured_once_each(monkeypatch):
    """Signs in 20 dimensions: every distance is one of few."""
    x = np.sign(np.random.default_rng(0).standard_normal((10_000, 20))).astype(np.float32)
    measured, exact = [], Points.exact
    monkeypatch.setattr(Points, "exact", lambda self, rows, near: measured.append(len(rows)) or exact(self, rows, near))
    order = farthest_first(Points(x), 300, anchors=np.array([0])).order
    found = np.full(len(x), -1)
    found[order] = np.arange(300)
    unit, near = _unit(x.astype(np.float64)), np.full(len(x), 4.0)
    for row in [0, *order[:-1].tolist()]:
        near = np.round(np.minimum(near, 2 - 2 * unit @ unit[row]), 9)
        near[row] = -1
        assert np.argmax(near) == order[found[row] + 1]
    assert sum(measured) < 20_000


def test_every_prefix_is_the_answer_to_the_smaller_budget():
    x = np.random.default_rng(0).standard_normal((3000, 8)).astype(np.float32)
    long = farthest_first(Points(x), 200).order
    np.testing.assert_array_equal(farthest_first(Points(x), 77).order, long[:77])


def test_the_length_of_a_row_does_not_matter():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((200, 8)).astype(np.float32)
    stretched = x * 2.0 ** rng.integers(-5, 5, (200, 1)).astype(np.float32)
    np.testing.assert_array_equal(farthest_first(Points(stretched), 50).order, farthest_first(Points(x), 50).order)


def test_a_float16_memory_map_is_read_in_tiles_and_left_alone(tmp_path: Path):
    rng = np.random.default_rng(3)
    stored = rng.standard_normal((6000, 16)).astype(np.float16)
    np.save(tmp_path / "x.npy", stored)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    got = farthest_first(Points(mapped), 60, anchors=np.array([5]))
    np.testing.assert_array_equal(got.order, _plain(stored.astype(np.float32), 60, [5])[0])


@pytest.mark.parametrize("odd", [0.0, np.nan, np.inf])
def test_rows_without_a_direction_count_as_one_place_1_away_from_all_others(odd):
    x = np.array([[1, 0], [odd, odd], [0.99, 0.1], [odd, odd]], np.float32)
    got = farthest_first(Points(x), 3, anchors=np.array([0]))
    assert got.order.tolist() == [1, 2, 3]
    np.testing.assert_allclose(got.distance, [1, 0.1, 0], atol=1e-2)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from([np.float16, np.float32, np.float64]),
    exponents=st.lists(st.integers(-1070, 1020), min_size=12, max_size=12),
)
def test_every_finite_row_but_zero_is_a_direction_whatever_its_length(seed, kind, exponents):
    x = np.random.default_rng(seed).integers(1, 8, (12, 5)).astype(np.float64)
    with np.errstate(over="ignore"):
        stretched = np.ldexp(x, np.array(exponents)[:, None]).astype(kind)
        exact = (stretched.astype(np.float64) == np.ldexp(x, np.array(exponents)[:, None])).all(axis=1)
    points = Points(stretched)
    finite = np.isfinite(stretched).all(axis=1)
    np.testing.assert_array_equal(points.usable, finite & (stretched != 0).any(axis=1))
    kept = np.flatnonzero(exact & finite)
    np.testing.assert_allclose(points.take(kept), _unit(x)[kept], atol=3e-7)
    if len(kept) > 1:
        order = farthest_first(Points(stretched[kept]), 12, anchors=np.array([0])).order
        np.testing.assert_array_equal(order, farthest_first(Points(x[kept]), 12, anchors=np.array([0])).order)


def test_an_anchor_without_a_direction_brings_nothing_nearer():
    x = np.array([[1, 0], [np.nan, 0], [0, 1], [-1, 0]], np.float32)
    got = farthest_first(Points(x), 2, anchors=np.array([0, 1]))
    assert got.order.tolist() == [3, 2]
    np.testing.assert_allclose(got.distance, [2, np.sqrt(2)], atol=1e-6)


@pytest.mark.parametrize("odd", [0.0, np.nan])
def test_a_pick_without_a_direction_brings_nothing_nearer_either(odd):
    x = np.array([[1, 0], [odd, odd], [0, 1], [-1, 0], [odd, odd]], np.float32)
    got = farthest_first(Points(x), 4, anchors=np.array([0]), weight=np.array([1, 9, 1, 1, 1]))
    assert got.order.tolist() == [1, 3, 2, 4]
    np.testing.assert_allclose(got.distance, [1, 2, np.sqrt(2), 0], atol=1e-6)


def test_new_labels_update_distances_without_starting_over():
    x = np.random.default_rng(4).standard_normal((500, 8)).astype(np.float32)
    points = Points(x)
    early, place = Nearest.nothing(500), np.array([1, 2])
    early.lower(np.arange(500), *points.closest(None, points.take(place), early.squared), place)
    rows = np.arange(10, 500)
    late = farthest_first(points, 40, candidates=rows, anchors=np.array([3, 4]), near=early)
    whole = farthest_first(points, 40, candidates=rows, anchors=np.array([1, 2, 3, 4]))
    np.testing.assert_array_equal(late.order, whole.order)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.sets(st.integers(0, 79)), st.sets(st.integers(0, 79), min_size=1)), max_size=5))
def test_remembered_distances_are_those_computed_anew_whatever_was_asked_before(questions):
    x = np.random.default_rng(7).standard_normal((80, 6)).astype(np.float32)
    points, known = Points(x), set()
    for labels, asked in questions:
        known = known ^ labels
        anchors, rows = np.array(sorted(known), np.int64), np.array(sorted(asked))
        np.testing.assert_allclose(
            points.covered(anchors, rows).squared[rows],
            Points(x).covered(anchors, rows).squared[rows],
            rtol=0,
            atol=1e-6,
        )


def test_only_labels_that_arrived_since_are_met():
    points = Points(np.random.default_rng(8).standard_normal((500, 6)).astype(np.float32))
    everything = np.arange(500)
    points.covered(np.arange(0, 100), everything)
    assert points.memory.computed == 500 * 100
    points.covered(np.arange(0, 103), everything)
    assert points.memory.computed == 500 * 3
    points.covered(np.arange(0, 103), everything)
    assert points.memory.computed == 0
    points.covered(np.arange(1, 103), everything)
    assert points.memory.computed == 500 * 102


def test_another_memory_knows_other_anchors():
    points = Points(np.eye(4, dtype=np.float32))
    other, rows = Memory(4), np.arange(4)
    assert points.covered(np.array([0]), rows).squared.tolist() == [0, 2, 2, 2]
    assert points.covered(np.array([1]), rows, other).squared.tolist() == [2, 0, 2, 2]
    assert points.memory.anchors.tolist() == [0]


def test_a_keeper_hands_out_the_same_points_until_a_feature_changes():
    x = np.random.default_rng(9).standard_normal((50, 6)).astype(np.float32)
    x[3] = np.nan
    keeper = Keeper()
    first = keeper(x)
    assert keeper(x.copy()) is first
    assert keeper(x[:49]) is not first
    other = x.copy()
    other[7, 2] += 1
    assert keeper(other) is not first
    assert keeper(x.astype(np.float16)).features.dtype == np.float16


def test_the_nearest_anchor_of_a_row_and_how_far_it_is():
    points = Points(np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32))
    distance, which = points.nearest(np.array([2]), np.array([0, 1]))
    assert which.tolist() == [1]
    assert distance[0] == pytest.approx(np.sqrt(0.4))


def test_nothing_to_pick_from():
    assert len(farthest_first(Points(np.zeros((0, 4), np.float32)), 5).order) == 0
    one = Points(np.ones((1, 4), np.float32))
    assert farthest_first(one, 5).order.tolist() == [0]
    assert len(farthest_first(one, 5, anchors=np.array([0])).order) == 0
    with pytest.raises(ValueError, match="features must have shape"):
        Points(np.zeros(3, np.float32))
