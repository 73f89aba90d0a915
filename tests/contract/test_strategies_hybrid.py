"""What hybrid promises beyond the contract."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.acquisition import ACQUISITIONS
from common.acquisition.detections import Detections
from common.strategies import Pool, hybrid
from tests.contract.strategy_pools import POOLS, ask, make_pool
from tests.ragged import pools, shuffled


@pytest.mark.parametrize("acquisition", sorted(ACQUISITIONS))
@settings(max_examples=15, deadline=None)
@given(pool=pools(evidence=True), seed=st.integers(0, 9), kappa=st.sampled_from([0.0, 1.0]))
def test_hybrid_takes_every_acquisition_function_and_the_order_of_boxes_does_not_show(acquisition, pool, seed, kappa):
    options = {"acquisition": acquisition, "kappa": kappa, "min_new_labels": 3}
    whole = ask("hybrid", pool, **options)
    other = ask("hybrid", replace(pool, detections=shuffled(pool.detections, seed)), **options)
    assert sorted(whole.order) == np.flatnonzero(~pool.labelled).tolist()
    np.testing.assert_array_equal(other.order, whole.order)
    np.testing.assert_array_equal(other.utility, whole.utility)


def test_hybrid_tells_utilities_apart_that_a_scale_would_make_equal():
    pool = Pool.from_embeddings(np.eye(3, dtype=np.float32), utility=np.array([1.0, 2.0, -1.7e308]))
    order = ask("hybrid", pool, regime="mid", diversity=False, guard=False, limit_candidates=False, typicality=False)
    assert order.order.tolist() == [1, 0, 2]


def _plain_pool(utility: np.ndarray, x: np.ndarray, **changes) -> Pool:
    return replace(Pool.from_embeddings(x.astype(np.float32), utility=utility), **changes)


def test_hybrid_does_not_fill_a_batch_with_look_alikes():
    rng = np.random.default_rng(0)
    scene = np.repeat(np.arange(40), 10)
    x = rng.standard_normal((40, 16))[scene] + rng.standard_normal((400, 16)) * 0.02
    utility = np.repeat(rng.random(40), 10) + rng.random(400) * 0.001
    pool = _plain_pool(utility, x)
    best = ask("top_utility", pool, 20).order
    chosen = ask("hybrid", pool, 20, regime="mid", spread=20).order
    assert len(set(scene[best])) == 2
    assert len(set(scene[chosen])) >= 15


def test_hybrid_while_cold_with_nothing_labelled_starts_with_the_most_typical_image():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((60, 8))
    draft = hybrid.select(_plain_pool(None, x), 60, rng, hybrid.Options())
    assert draft.order[0] == np.argmax(draft.utility)


@pytest.mark.parametrize("regime", ["cold", "low", "mid"])
def test_hybrid_with_nothing_labelled_starts_with_the_most_typical_candidate_in_every_regime(regime):
    pool = make_pool(300, labelled=np.zeros(300, bool), label_counts=np.zeros(3, np.int64))
    answer = ask("hybrid", pool, regime=regime, limit_candidates=False, guard=False, deduplicate=False)
    typical = {int(r): p["T"] for r, p in zip(answer.order, answer.parts, strict=True) if not p["random_slice"]}
    readable = {row: t for row, t in typical.items() if pool.readable[row]}
    assert readable[int(answer.order[0])] == max(readable.values())
    off = ask("hybrid", pool, regime="mid", limit_candidates=False, guard=False, deduplicate=False, typicality=False)
    assert off.order[0] != answer.order[0]


def test_the_reason_names_the_commonest_doubt_the_first_class_on_ties():
    scores = np.array([[0.5, 0.45, 0], [0.5, 0, 0], [0.5, 0, 0], [0, 0.5, 0.4], [0.5, 0.01, 0.3]], np.float32)
    boxes = np.array([[i * 50, 0, i * 50 + 9, 9] for i in range(5)], np.float32)
    detections = Detections(np.array([0, 3, 5]), boxes, scores, np.zeros(2, np.float32), np.zeros(2, np.float32))
    pool = replace(
        Pool.from_embeddings(np.eye(2, dtype=np.float32)),
        detections=detections,
        label_counts=np.array([90, 90, 90]),
        class_names=("cat", "dog", "eel"),
        knows=True,
    )
    answer = ask("hybrid", pool, typicality=False)
    said = dict(zip(answer.order.tolist(), [p["reason"] for p in answer.parts], strict=True))
    assert said[0].startswith("two boxes perhaps cat")
    assert said[1].startswith("one box between cat and eel")


def test_hybrid_holds_junk_back_but_for_the_places_reserved_for_it():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((300, 8)) * 0.3 + 5 * rng.standard_normal(8)
    x[:5] = rng.standard_normal((5, 8)) * 40
    utility = np.where(np.arange(300) < 5, 1.0, 0.5)
    pool = _plain_pool(utility, x)
    with_guard = ask("hybrid", pool, 100, regime="mid").order
    without = ask("hybrid", pool, 100, guard=False, regime="mid").order
    assert (with_guard < 5).sum() == 3
    assert (without < 5).sum() == 5
    assert ask("hybrid", pool, 100, outlier_share=0.0).order.min() >= 5


def test_hybrid_turns_to_the_class_with_few_labels_and_away_once_it_has_enough():
    n = 60
    scores = np.full((n, 2), 0.0, np.float32)
    scores[:, 0] = 0.5
    scores[:20] = [0.0, 0.5]
    detections = Detections(
        np.arange(n + 1),
        np.tile(np.array([0, 0, 9, 9], np.float32), (n, 1)),
        scores,
        np.zeros(n, np.float32),
        np.zeros(n, np.float32),
    )
    x = np.random.default_rng(3).standard_normal((n, 8)).astype(np.float32)
    pool = replace(Pool.from_embeddings(x), detections=detections, label_counts=np.array([70, 58]), knows=True)
    fair = ask("hybrid", pool, 20, regime="mid", limit_candidates=False, guard=False)
    plain = ask("hybrid", pool, 20, regime="mid", limit_candidates=False, guard=False, deficit=False)
    assert (fair.order < 20).sum() > (plain.order < 20).sum()
    assert (fair.order < 20).sum() < 20
    rare = [p for p, row in zip(fair.parts, fair.order, strict=True) if row < 20]
    assert all(p["rare_class"] is None for p in rare)


def test_hybrid_counts_hours_where_it_is_told_to():
    pool = POOLS["many labels"]
    images = ask("hybrid", pool, 20)
    hours = ask("hybrid", pool, 20, kappa=1.0)
    boxes = pool.detections.counts
    assert boxes[hours.order].sum() < boxes[images.order].sum()


SWITCHES = ["deduplicate", "flip", "class_weights", "doubt", "guard", "limit_candidates", "uncertainty", "typicality"]


@pytest.mark.parametrize("switch", [*SWITCHES, "diversity", "deficit"])
def test_every_step_of_hybrid_has_a_switch_that_changes_the_order(switch):
    rng = np.random.default_rng(4)
    pool = make_pool(300, label_counts=np.array([900, 60, 3]), quality=np.array([0.9, 0.5, 0.1]))
    flipped = replace(pool.detections, flip_iou=rng.random(len(pool.detections.scores)).astype(np.float32))
    pool = replace(
        pool, detections=flipped, embeddings=pool.embeddings * rng.exponential(2, (300, 1)).astype(np.float32)
    )
    regime = "low" if switch == "typicality" else "mid"
    on = ask("hybrid", pool, regime=regime, spread=1)
    off = ask("hybrid", pool, regime=regime, spread=1, **{switch: False})
    if switch == "guard" and not any(p["outlier"] for p in on.parts):
        pytest.fail("the pool of this test has no outlier to hold back")
    assert on.order.tolist() != off.order.tolist()
    assert sorted(on.order) == sorted(off.order)


def test_hybrid_says_why():
    x = np.array([[1, 0], [0, 1], [0.1, 1], [-1, 0]], np.float32)
    scores = np.array([[0.5, 0.45], [0.5, 0.4], [0.05, 0.02]], np.float32)
    boxes = np.array([[0, 0, 9, 9], [50, 50, 90, 90], [0, 0, 9, 9]], np.float32)
    detections = Detections(
        np.array([0, 0, 2, 2, 3]), boxes, scores, np.array([0, 0, 0.03, 0], np.float32), np.zeros(4, np.float32)
    )
    pool = replace(
        Pool.from_embeddings(x, labelled=np.array([0])),
        detections=detections,
        label_counts=np.array([900, 60]),
        class_names=("hard_hat", "person"),
        group=np.array([-1, 4, 4, -1]),
        knows=True,
    )
    answer = ask("hybrid", pool)
    part = answer.parts[answer.order.tolist().index(1)]
    assert part["reason"].startswith("two boxes between hard_hat and person")
    assert part["reason"].endswith("duplicate group of 2")
    assert "may show person, which has few labels" in part["reason"]
    assert part["nearest_labelled"] == 0
    assert part["uncertain_boxes"] == 2
    assert answer.parts[-1]["deferred"]


def test_near_duplicates_of_what_the_random_slice_serves_say_that_one_comes_first():
    n = 40
    slice_hash, group = np.full(n, 0.9), np.full(n, -1)
    slice_hash[5], group[[5, 20, 21]] = 0.01, 3
    everything = {"labelled": np.zeros(n, bool), "readable": np.ones(n, bool)}
    answer = ask("hybrid", make_pool(n, slice_hash=slice_hash, group=group, **everything), guard=False)
    said = dict(zip(answer.order.tolist(), answer.parts, strict=True))
    assert set(answer.order[-2:]) == {20, 21}
    assert [row for row, part in said.items() if part["deferred"]] == answer.order[-2:].tolist()
    assert all(said[row]["reason"].startswith("a near-duplicate of it comes first") for row in (20, 21))
    assert answer.order.tolist().index(5) == 9


def test_labels_that_arrive_change_the_regime():
    options = hybrid.Options()
    assert hybrid.regime(POOLS["cold"], options) == "cold"
    assert hybrid.regime(make_pool(label_counts=np.array([9, 9, 900])), options) == "low"
    assert hybrid.regime(make_pool(label_counts=np.array([9, 90, 900])), options) == "mid"
