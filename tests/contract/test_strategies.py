"""The contract of every query strategy."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.strategies import REGISTRY, Pool, Strategy, hybrid
from common.strategies.image_value import min_max
from common.strategies.pool import Draft
from tests.contract.strategy_pools import ALL, POOLS, ask, make_pool
from tests.ragged import pools, shuffled

EACH = pytest.mark.parametrize("kind", POOLS)


@ALL
@EACH
def test_the_whole_queue_holds_every_unlabelled_sample_once_unreadable_ones_last(name, kind):
    pool = POOLS[kind]
    order = ask(name, pool).order
    assert order.dtype == np.int64
    assert sorted(order) == np.flatnonzero(~pool.labelled).tolist()
    unreadable = ~pool.readable[order]
    assert (np.diff(unreadable.astype(int)) >= 0).all()


@ALL
@EACH
def test_utilities_are_finite_and_in_range_and_parts_are_json_with_a_reason(name, kind):
    answer = ask(name, POOLS[kind])
    assert answer.utility.shape == answer.order.shape
    assert ((answer.utility >= 0) & (answer.utility <= 1)).all()
    assert len(answer.parts) == len(answer.order)
    assert all(part["reason"] for part in answer.parts)
    json.dumps(answer.parts, allow_nan=False)


@ALL
@EACH
@pytest.mark.parametrize("budget", [0, 1, 7, 33])
def test_every_prefix_is_the_answer_to_the_smaller_budget(name, kind, budget):
    small, whole = ask(name, POOLS[kind], budget), ask(name, POOLS[kind])
    np.testing.assert_array_equal(small.order, whole.order[:budget])
    np.testing.assert_array_equal(small.utility, whole.utility[:budget])


@ALL
@settings(max_examples=30, deadline=None)
@given(pool=pools(), seed=st.integers(0, 9), part=st.floats(0, 1.2))
def test_every_promise_holds_for_any_pool_and_the_order_of_boxes_does_not_show(name, pool, seed, part):
    """Ragged detections with and without evidence, equal images, unknown embeddings, one class or none."""
    whole = ask(name, pool, seed=seed)
    assert sorted(whole.order) == np.flatnonzero(~pool.labelled).tolist()
    assert ((whole.utility >= 0) & (whole.utility <= 1)).all()
    budget = int(part * len(pool))
    other = replace(pool, detections=shuffled(pool.detections, seed))
    for answer, k in ((ask(name, pool, budget, seed), budget), (ask(name, other, seed=seed), len(pool))):
        np.testing.assert_array_equal(answer.order, whole.order[:k])
        np.testing.assert_array_equal(answer.utility, whole.utility[:k])
        assert answer.parts == whole.parts[:k]


@ALL
def test_the_same_seed_gives_the_same_order(name):
    np.testing.assert_array_equal(ask(name, make_pool()).order, ask(name, make_pool()).order)


@ALL
def test_a_budget_larger_than_the_pool_is_everything(name):
    np.testing.assert_array_equal(ask(name, make_pool(), 10_000).order, ask(name, make_pool()).order)


@ALL
def test_one_place_in_ten_serves_the_next_member_of_the_random_slice(name):
    pool = make_pool(300)
    order = ask(name, pool).order
    turns = order[9:100:10][: len(pool.slice_queue)]
    np.testing.assert_array_equal(turns, pool.slice_queue[: len(turns)])
    others = np.delete(order[:100], np.s_[9:100:10])
    if len(pool.slice_queue) >= 10:
        assert not pool.in_slice[others].any()


@ALL
def test_the_random_slice_does_not_depend_on_what_the_model_says(name):
    pool = make_pool(200)
    other = replace(make_pool(200, seed=9), labelled=pool.labelled, readable=pool.readable, slice_hash=pool.slice_hash)
    one, two = ask(name, pool).order, ask(name, other).order
    np.testing.assert_array_equal(one[pool.in_slice[one]], two[pool.in_slice[two]])


@pytest.mark.parametrize(
    ("order", "utility", "wrong"),
    [
        ([1, 1], 0.5, "twice"),
        ([99], 0.5, "outside"),
        ([0], 0.5, "labelled"),
        ([1], 0.5, "1 samples where 2 were wanted"),
        ([1, 2], np.nan, "finite"),
        ([1, 2], 1.5, r"outside \[0, 1\]"),
    ],
)
def test_a_strategy_that_breaks_its_contract_is_stopped(monkeypatch, order, utility, wrong):
    pool = Pool.from_embeddings(np.eye(3, dtype=np.float32), labelled=np.array([0]))
    draft = Draft(np.array(order), np.full(3, utility))
    monkeypatch.setitem(REGISTRY, "broken", Strategy(lambda *_: draft, hybrid.Options))
    with pytest.raises(ValueError, match=wrong):
        ask("broken", pool)


ANY = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([-1.7e308, -5e-324, 0.0, 5e-324, 1.7e308])


@ALL
@settings(max_examples=40, deadline=None)
@given(utility=st.lists(ANY, min_size=1, max_size=12), kappa=st.sampled_from([0.0, 0.5, 1.0]))
def test_any_finite_utilities_give_an_order_without_a_warning(name, utility, kappa):
    x = np.random.default_rng(0).standard_normal((len(utility), 4)).astype(np.float32)
    pool = Pool.from_embeddings(x, utility=np.array(utility))
    answer = ask(name, pool, **({"kappa": kappa} if name == "hybrid" else {}))
    assert sorted(answer.order) == list(range(len(utility)))
    assert ((answer.utility >= 0) & (answer.utility <= 1)).all()
    if name == "top_utility":
        assert answer.order.tolist() == np.argsort(-np.array(utility), kind="stable").tolist()
        assert (np.diff(answer.utility) <= 0).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(ANY, min_size=1, max_size=12))
def test_scaling_keeps_the_order_of_any_finite_values_between_0_and_1(values):
    x = np.array(values)
    scaled = min_max(x)
    assert ((scaled >= 0) & (scaled <= 1)).all()
    assert (np.diff(scaled[np.argsort(x, kind="stable")]) >= 0).all()
    if x.min() < x.max():
        assert (scaled[x.argmin()], scaled[x.argmax()]) == (0, 1)
