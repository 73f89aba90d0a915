"""The lazily batched greedy order against the plain one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.strategies import farthest_first as ff
from common.strategies.farthest_first import Deficit, Points, farthest_first
from common.strategies.points import Keeper, Memory, greatest


def _unit(x: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.divide(x, length, out=np.zeros_like(x), where=length > 0)


def _plain(x, budget, anchors=(), weight=None, power=1.0, deficit=None):
    """One at a time, nothing lazy: the picks and the value each had."""
    x = _unit(np.asarray(x, np.float64))
    weight = np.ones(len(x)) if weight is None else weight
    near, free = np.full(len(x), 4.0), np.ones(len(x), bool)
    free[list(anchors)] = False
    for a in anchors:
        near = np.minimum(near, ((x - x[a]) ** 2).sum(axis=1))
    have, order, values = None if deficit is None else np.zeros(len(deficit.target)), [], []
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
        near = np.minimum(near, ((x - x[i]) ** 2).sum(axis=1))
        have = None if deficit is None else have + deficit.amount[i]
    return np.array(order, np.int64), values


def _deficit(rng, n):
    presence = (rng.random((n, 3)) * (rng.random((n, 3)) < 0.2)).astype(np.float32)
    return Deficit(presence, presence * 2, np.array([5, 20, 50], np.float32))


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
@given(seed=st.integers(0, 10**6), balanced=st.booleans(), clusters=st.sampled_from([0, 3]))
def test_several_tiers_pick_what_plain_greedy_picks(seed, balanced, clusters):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ff, "_INNER", 4)
        patch.setattr(ff, "_SHRINK", 3)
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((150, 5)).astype(np.float32)
        if clusters:
            x = x * 0.2 + rng.standard_normal((clusters, 5))[rng.integers(clusters, size=150)].astype(np.float32)
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


@pytest.mark.parametrize("odd", [0.0, np.nan, np.inf, 1e30])
def test_rows_without_a_direction_count_as_one_place_1_away_from_all_others(odd):
    x = np.array([[1, 0], [odd, odd], [0.99, 0.1], [odd, odd]], np.float32)
    got = farthest_first(Points(x), 3, anchors=np.array([0]))
    assert got.order.tolist() == [1, 2, 3]
    np.testing.assert_allclose(got.distance, [1, 0.1, 0], atol=1e-2)


def test_an_anchor_without_a_direction_brings_nothing_nearer():
    x = np.array([[1, 0], [np.nan, 0], [0, 1], [-1, 0]], np.float32)
    got = farthest_first(Points(x), 2, anchors=np.array([0, 1]))
    assert got.order.tolist() == [3, 2]
    np.testing.assert_allclose(got.distance, [2, np.sqrt(2)], atol=1e-6)


def test_new_labels_update_distances_without_starting_over():
    x = np.random.default_rng(4).standard_normal((500, 8)).astype(np.float32)
    points = Points(x)
    early = points.closest(None, points.take(np.array([1, 2])), np.full(500, ff.FARTHEST, np.float32))
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
            points.covered(anchors, rows)[rows], Points(x).covered(anchors, rows)[rows], rtol=0, atol=1e-6
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
    assert points.covered(np.array([0]), rows).tolist() == [0, 2, 2, 2]
    assert points.covered(np.array([1]), rows, other).tolist() == [2, 0, 2, 2]
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
