"""The contract of every query strategy, and what hybrid promises beyond it."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.acquisition import ACQUISITIONS, AGGREGATIONS, aggregation_options, image_utility
from common.acquisition.detections import Detections
from common.domain import Instances, Prediction
from common.errors import SettingError, UnknownNameError
from common.strategies import REGISTRY, Pool, Strategy, hybrid, query, stream
from common.strategies.image_value import min_max
from common.strategies.keeper import Keeper
from common.strategies.pool import Draft, quantiles
from common.strategies.schedule import merge
from common.strategies.screening import duplicates, outliers
from tests.ragged import pools, shuffled

ALL = pytest.mark.parametrize("name", sorted(REGISTRY))


def _pool(n: int = 90, classes: int = 3, seed: int = 0, **changes) -> Pool:
    """Random images: some labelled, unreadable, in groups, in the random slice, without boxes."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 5, n)
    m = int(counts.sum())
    corner, size = rng.random((m, 2)) * 300, rng.random((m, 2)) * 60 + 5
    detections = Detections(
        np.concatenate([[0], np.cumsum(counts)]),
        np.hstack([corner, corner + size]).astype(np.float32),
        rng.random((m, classes)).astype(np.float32),
        (rng.random(n) * 0.05).astype(np.float32),
        rng.random(n).astype(np.float32),
    )
    pool = Pool(
        rng.standard_normal((n, 6)).astype(np.float32),
        detections,
        rng.random(n) < 0.2,
        rng.integers(0, 200, classes),
        np.where(rng.random(n) < 0.3, rng.integers(0, 12, n), -1),
        rng.random(n) > 0.05,
        tuple("abcdefgh"[:classes]),
        slice_hash=rng.random(n),
    )
    return replace(pool, **changes)


def _crowds(n: int) -> Detections:
    """Four overlapping boxes of one class and two of another per image, of any confidence."""
    rng = np.random.default_rng(7)
    boxes = np.tile([[0, 0, 9, 9], [1, 0, 10, 9], [4, 0, 13, 9], [6, 0, 15, 9], [40, 0, 49, 9], [43, 0, 52, 9]], (n, 1))
    scores = np.zeros((6 * n, 3), np.float32)
    scores[np.arange(6 * n), np.tile([0, 0, 0, 0, 1, 1], n)] = rng.uniform(0.1, 0.9, 6 * n)
    return Detections(
        np.arange(n + 1) * 6, boxes.astype(np.float32), scores, np.zeros(n, np.float32), np.zeros(n, np.float32)
    )


def _ask(name: str, pool: Pool, budget: int | None = None, seed: int = 5, **options):
    return query(name, pool, len(pool) if budget is None else budget, np.random.default_rng(seed), **options)


def _cold(pool: Pool) -> Pool:
    return replace(pool, knows=False, detections=Detections.nothing(len(pool), pool.detections.scores.shape[1]))


NAN = np.full((90, 6), np.nan, np.float32)
HALF = np.where(np.arange(90)[:, None] % 2 == 0, NAN, _pool().embeddings)
POOLS = {
    "usual": _pool(),
    "cold": _cold(_pool()),
    "nothing labelled": _pool(labelled=np.zeros(90, bool), label_counts=np.zeros(3, np.int64)),
    "cold, nothing labelled": _cold(_pool(labelled=np.zeros(90, bool), label_counts=np.zeros(3, np.int64))),
    "many labels": _pool(label_counts=np.array([900, 60, 3]), quality=np.array([0.9, 0.5, 0.1])),
    "one class": _pool(classes=1),
    "no class": _pool(classes=0),
    "one image": _pool(1, labelled=np.zeros(1, bool), readable=np.ones(1, bool)),
    "empty": _pool(0),
    "all labelled": _pool(labelled=np.ones(90, bool)),
    "nothing readable": _pool(readable=np.zeros(90, bool)),
    "only the random slice": _pool(slice_hash=np.zeros(90)),
    "no random slice": _pool(slice_hash=None),
    "no embedding at all": _pool(embeddings=NAN),
    "embeddings of length 0": _pool(embeddings=np.zeros((90, 0), np.float32)),
    "zero embeddings": _pool(embeddings=np.zeros((90, 6), np.float32)),
    "half the embeddings unknown": _pool(embeddings=HALF),
    "huge embeddings": _pool(embeddings=np.full((90, 6), 3e38, np.float32)),
    "float16": _pool(embeddings=_pool().embeddings.astype(np.float16)),
    "all alike": _pool(embeddings=np.ones((90, 6), np.float32), group=np.zeros(90, np.int64)),
    "own utilities": _pool(utility=np.random.default_rng(1).normal(size=90)),
    "utilities from end to end of float64": _pool(utility=np.random.default_rng(1).choice([-1.7e308, 0, 1.7e308], 90)),
    "tiny embeddings": _pool(embeddings=_pool().embeddings * np.float32(1e-38)),
    "embeddings of every length": _pool(
        embeddings=_pool().embeddings * 10.0 ** np.random.default_rng(2).integers(-300, 300, (90, 1))
    ),
}
CROWDED = _pool(12, labelled=np.zeros(12, bool), slice_hash=None, detections=_crowds(12))
EACH = pytest.mark.parametrize("kind", POOLS)


@ALL
@EACH
def test_the_whole_queue_holds_every_unlabelled_sample_once_unreadable_ones_last(name, kind):
    pool = POOLS[kind]
    order = _ask(name, pool).order
    assert order.dtype == np.int64
    assert sorted(order) == np.flatnonzero(~pool.labelled).tolist()
    unreadable = ~pool.readable[order]
    assert (np.diff(unreadable.astype(int)) >= 0).all()


@ALL
@EACH
def test_utilities_are_finite_and_in_range_and_parts_are_json_with_a_reason(name, kind):
    answer = _ask(name, POOLS[kind])
    assert answer.utility.shape == answer.order.shape
    assert ((answer.utility >= 0) & (answer.utility <= 1)).all()
    assert len(answer.parts) == len(answer.order)
    assert all(part["reason"] for part in answer.parts)
    json.dumps(answer.parts, allow_nan=False)


@ALL
@EACH
@pytest.mark.parametrize("budget", [0, 1, 7, 33])
def test_every_prefix_is_the_answer_to_the_smaller_budget(name, kind, budget):
    small, whole = _ask(name, POOLS[kind], budget), _ask(name, POOLS[kind])
    np.testing.assert_array_equal(small.order, whole.order[:budget])
    np.testing.assert_array_equal(small.utility, whole.utility[:budget])


@ALL
@settings(max_examples=30, deadline=None)
@given(pool=pools(), seed=st.integers(0, 9), part=st.floats(0, 1.2))
def test_every_promise_holds_for_any_pool_and_the_order_of_boxes_does_not_show(name, pool, seed, part):
    """Ragged detections with and without evidence, equal images, unknown embeddings, one class or none."""
    whole = _ask(name, pool, seed=seed)
    assert sorted(whole.order) == np.flatnonzero(~pool.labelled).tolist()
    assert ((whole.utility >= 0) & (whole.utility <= 1)).all()
    budget = int(part * len(pool))
    other = replace(pool, detections=shuffled(pool.detections, seed))
    for answer, k in ((_ask(name, pool, budget, seed), budget), (_ask(name, other, seed=seed), len(pool))):
        np.testing.assert_array_equal(answer.order, whole.order[:k])
        np.testing.assert_array_equal(answer.utility, whole.utility[:k])
        assert answer.parts == whole.parts[:k]


@pytest.mark.parametrize("acquisition", sorted(ACQUISITIONS))
@settings(max_examples=15, deadline=None)
@given(pool=pools(evidence=True), seed=st.integers(0, 9), kappa=st.sampled_from([0.0, 1.0]))
def test_hybrid_takes_every_acquisition_function_and_the_order_of_boxes_does_not_show(acquisition, pool, seed, kappa):
    options = {"acquisition": acquisition, "kappa": kappa, "min_new_labels": 3}
    whole = _ask("hybrid", pool, **options)
    other = _ask("hybrid", replace(pool, detections=shuffled(pool.detections, seed)), **options)
    assert sorted(whole.order) == np.flatnonzero(~pool.labelled).tolist()
    np.testing.assert_array_equal(other.order, whole.order)
    np.testing.assert_array_equal(other.utility, whole.utility)


@ALL
def test_the_same_seed_gives_the_same_order(name):
    np.testing.assert_array_equal(_ask(name, _pool()).order, _ask(name, _pool()).order)


@ALL
def test_a_budget_larger_than_the_pool_is_everything(name):
    np.testing.assert_array_equal(_ask(name, _pool(), 10_000).order, _ask(name, _pool()).order)


@ALL
def test_one_place_in_ten_serves_the_next_member_of_the_random_slice(name):
    pool = _pool(300)
    order = _ask(name, pool).order
    turns = order[9:100:10][: len(pool.slice_queue)]
    np.testing.assert_array_equal(turns, pool.slice_queue[: len(turns)])
    others = np.delete(order[:100], np.s_[9:100:10])
    if len(pool.slice_queue) >= 10:
        assert not pool.in_slice[others].any()


@ALL
def test_the_random_slice_does_not_depend_on_what_the_model_says(name):
    pool = _pool(200)
    other = replace(_pool(200, seed=9), labelled=pool.labelled, readable=pool.readable, slice_hash=pool.slice_hash)
    one, two = _ask(name, pool).order, _ask(name, other).order
    np.testing.assert_array_equal(one[pool.in_slice[one]], two[pool.in_slice[two]])


@ALL
def test_an_option_that_does_not_exist_lists_those_that_do(name):
    with pytest.raises(SettingError, match=f"strategy '{name}' has no option 'colour'; there are"):
        _ask(name, _pool(), colour=1)


def test_a_wrong_name_lists_the_right_ones():
    with pytest.raises(UnknownNameError, match=r"no strategy 'hybird'; there are \['additive', 'core_set', 'hybrid'"):
        _ask("hybird", _pool())


def test_a_negative_budget_and_a_value_that_is_not_allowed_are_refused():
    with pytest.raises(SettingError, match="budget is -1"):
        _ask("uniform", _pool(), -1)
    with pytest.raises(SettingError, match="regime is 'warm'"):
        _ask("hybrid", _pool(), regime="warm")
    with pytest.raises(UnknownNameError, match="no acquisition 'entrpy'"):
        _ask("top_utility", _pool(), acquisition="entrpy")


WRONG = {
    "hybrid": {
        "top": [0, -1, 2.5, True, "many"],
        "nms": [-0.1, 1.1, np.nan, "half"],
        "kappa": [-0.5, 1.5, np.inf, np.nan],
        "empty_factor": [-1.0, np.inf, np.nan],
        "references": [1, -5, 10.5],
        "greedy_limit": [-1, 0.5],
        "explain": [-1],
        "low_until": [-1, np.nan],
        "outlier_share": [-0.1, 1.0, np.nan],
        "min_new_labels": [0],
        "spread": [0],
        "cold_spread": [-2],
    },
    "additive": {"alpha": [-1.0, np.nan, np.inf], "beta": [-1.0, np.nan], "clusters": [0, 2.5]},
    "core_set": {"greedy_limit": [-1, 0.5]},
    "typicality": {
        "min_new_labels": [0],
        "most_clusters": [0],
        "neighbours": [0, 1.5],
        "references": [1],
        "small": [-1],
    },
    "stream": {"rate": [0.0, 1.0, np.nan], "step": [0.0, np.inf, np.nan], "level": [np.inf, np.nan]},
}
AGGREGATED = ["additive", "stream", "top_utility"]
for one in AGGREGATED:
    WRONG[one] = WRONG.get(one, {}) | {"n_lowest": [0, 1.5], "m": [0, -3], "overlap": [-0.1, 1.5, np.nan]}


@pytest.mark.parametrize(
    ("name", "option", "value"), [(n, o, v) for n, options in WRONG.items() for o, vs in options.items() for v in vs]
)
def test_an_option_out_of_its_range_is_one_sentence_with_its_name_and_value(name, option, value):
    with pytest.raises(SettingError, match=rf"^strategy '{name}': .*\b{option}\b") as caught:
        _ask(name, _pool(), **{option: value})
    assert str(value) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_number_among_the_options_has_a_range():
    numbers = {
        n: {f.name for f in fields(s.options) if str(f.type).split()[0] in ("int", "float")}
        for n, s in REGISTRY.items()
    }
    assert {n: set(options) for n, options in WRONG.items()} == {n: names for n, names in numbers.items() if names}


@pytest.mark.parametrize("name", AGGREGATED)
@pytest.mark.parametrize(
    ("aggregation", "option", "value"),
    [("mean_of_n_lowest", "n_lowest", 1), ("top_m", "m", 1), ("top_m", "overlap", 0.0)],
)
def test_the_numbers_of_an_aggregation_can_be_set_and_change_the_utility(name, aggregation, option, value):
    plain, other = (_ask(name, CROWDED, aggregation=aggregation, **o) for o in ({}, {option: value}))
    assert sorted(plain.order) == sorted(other.order)
    assert dict(zip(plain.order, plain.utility, strict=True)) != dict(zip(other.order, other.utility, strict=True))
    ignored = [_ask(name, CROWDED, aggregation="max", **o).utility.tolist() for o in ({}, {option: value})]
    assert ignored[0] == ignored[1]


@pytest.mark.parametrize("name", AGGREGATED)
def test_without_being_set_the_numbers_are_those_of_the_aggregation(name):
    known = {k: v for a in AGGREGATIONS for k, v in aggregation_options(a).items()}
    assert {k: getattr(REGISTRY[name].options(), k) for k in known} == known


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
        _ask("broken", pool)


def test_a_pool_that_does_not_fit_together_is_refused_at_birth():
    with pytest.raises(ValueError, match=r"labelled must have shape \(90,\), got \(3,\)"):
        _pool(labelled=np.zeros(3, bool))
    with pytest.raises(ValueError, match="class_names must be 3 names, got 1"):
        _pool(class_names=("a",))
    with pytest.raises(ValueError, match=r"labelled indices must be in 0..2"):
        Pool.from_embeddings(np.eye(3), labelled=np.array([5]))


def test_a_pool_from_predictions_holds_the_project_classes_only():
    said = Prediction(
        Instances(
            np.array([[0, 0, 9, 9], [5, 5, 9, 9]], np.float32),
            np.array([[0.9, 0.2, 0.1], [0.01, 0.02, 0.9]], np.float32),
        ),
        np.ones(4, np.float32),
        np.array([0.01, 0.005, 0.04], np.float32),
        np.array([3, 4, 99], np.float32),
        np.array([0.1, 0.2], np.float32),
        10,
        10,
    )
    pool = Pool.from_predictions([said, None], {0: [0, 1], 1: 1}, 3, labelled=np.array([], np.int64))
    np.testing.assert_allclose(pool.detections.scores, [[0.9, 0.2, 0]])
    np.testing.assert_allclose(pool.detections.disagreement, [0.1])
    np.testing.assert_allclose(pool.detections.doubt, [0.02, 0])
    np.testing.assert_allclose(pool.detections.model_change, [5, 0])
    assert pool.readable.tolist() == [True, False]
    assert _ask("hybrid", pool).order.tolist() == [0, 1]


def test_a_model_of_eighty_classes_is_doubtful_about_those_of_the_project_only():
    rng = np.random.default_rng(0)
    doubt, change = (rng.uniform(0, top, (20, 80)).astype(np.float32) for top in (0.05, 9))
    nothing = Instances(np.zeros((0, 4), np.float32), np.zeros((0, 80), np.float32))
    one, none = np.ones(1, np.float32), np.zeros(0, np.float32)
    said = [Prediction(nothing, one, d, c, none, 10, 10) for d, c in zip(doubt, change, strict=True)]
    car = Pool.from_predictions(said, {0: 2}, 1).detections
    np.testing.assert_array_equal(car.doubt, doubt[:, 2])
    np.testing.assert_allclose(car.model_change, change[:, 2])
    every = Pool.from_predictions(said, {0: list(range(79)), 1: [3, 79]}, 2).detections
    np.testing.assert_array_equal(every.doubt, doubt.max(1))
    np.testing.assert_allclose(every.model_change, np.linalg.norm(change, axis=1), rtol=1e-5)
    assert not Pool.from_predictions(said, {}, 1).detections.doubt.any()


def test_a_class_without_a_model_class_takes_no_part_and_a_prediction_that_is_no_number_counts_as_none():
    box, one = np.array([[0, 0, 9, 9]], np.float32), np.ones(1, np.float32)
    said = [
        Prediction(Instances(box, np.array([[score]], np.float32)), one, one * 0, one * change, one / 10, 10, 10)
        for score, change in [(0.9, 1.0), (0.9, np.inf), (np.nan, 1.0)]
    ]
    pool = Pool.from_predictions(said, {1: 0}, 2)
    assert pool.readable.tolist() == [True, False, False]
    assert pool.detections.mapped.tolist() == [False, True]
    assert image_utility(pool.detections, "margin", "max")[0] == pytest.approx(0.2)  # of one class: 1 - |2p - 1|
    assert Pool.from_predictions(said, {0: 0}, 1).detections.mapped is None


def test_top_utility_sorts_by_utility():
    utility = np.array([0.1, 0.9, 0.5, 0.9])
    pool = Pool.from_embeddings(np.eye(4, dtype=np.float32), utility=utility)
    assert _ask("top_utility", pool).order.tolist() == [1, 3, 2, 0]


ANY = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([-1.7e308, -5e-324, 0.0, 5e-324, 1.7e308])


@ALL
@settings(max_examples=40, deadline=None)
@given(utility=st.lists(ANY, min_size=1, max_size=12), kappa=st.sampled_from([0.0, 0.5, 1.0]))
def test_any_finite_utilities_give_an_order_without_a_warning(name, utility, kappa):
    x = np.random.default_rng(0).standard_normal((len(utility), 4)).astype(np.float32)
    pool = Pool.from_embeddings(x, utility=np.array(utility))
    answer = _ask(name, pool, **({"kappa": kappa} if name == "hybrid" else {}))
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


def test_hybrid_tells_utilities_apart_that_a_scale_would_make_equal():
    pool = Pool.from_embeddings(np.eye(3, dtype=np.float32), utility=np.array([1.0, 2.0, -1.7e308]))
    order = _ask("hybrid", pool, regime="mid", diversity=False, guard=False, limit_candidates=False, typicality=False)
    assert order.order.tolist() == [1, 0, 2]


def test_core_set_starts_far_from_the_labelled_set_and_where_nothing_is_labelled_by_chance():
    x = np.array([[1, 0], [0.9, 0.1], [0, 1], [-1, 0]], np.float32)
    pool = Pool.from_embeddings(x, labelled=np.array([0]))
    assert _ask("core_set", pool).order.tolist() == [3, 2, 1]
    starts = {int(_ask("core_set", Pool.from_embeddings(x), seed=s).order[0]) for s in range(20)}
    assert len(starts) > 1


def test_core_set_with_a_greedy_limit_of_0_is_greedy_as_far_as_the_budget_goes():
    pool = Pool.from_embeddings(np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32))
    whole = _ask("core_set", pool, greedy_limit=0).order
    np.testing.assert_array_equal(whole, _ask("core_set", pool, greedy_limit=60).order)
    np.testing.assert_array_equal(_ask("core_set", pool, 25, greedy_limit=0).order, whole[:25])
    with pytest.raises(SettingError, match="greedy_limit is -1"):
        _ask("core_set", pool, greedy_limit=-1)


@pytest.mark.parametrize("name", ["core_set", "hybrid"])
def test_labels_that_arrive_between_queries_give_the_order_of_a_fresh_start(name):
    kept, fresh = _pool(200, points=Keeper()), _pool(200)
    for _ in range(4):
        order = _ask(name, fresh).order
        np.testing.assert_array_equal(_ask(name, kept).order, order)
        labelled = fresh.labelled.copy()
        labelled[order[:15]] = True
        kept, fresh = replace(kept, labelled=labelled), replace(fresh, labelled=labelled)
    assert set(kept.points.kept.memory.anchors) <= set(np.flatnonzero(labelled))
    assert len(kept.points.kept.memory.anchors) > 40


def test_core_set_beyond_its_greedy_limit_goes_on_by_distance():
    x = np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32)
    greedy = _ask("core_set", Pool.from_embeddings(x)).order
    cut = _ask("core_set", Pool.from_embeddings(x), greedy_limit=10).order
    np.testing.assert_array_equal(cut[:10], greedy[:10])
    assert sorted(cut) == list(range(60))


def test_typicality_takes_one_image_of_each_cluster_before_a_second_of_any():
    centres = np.eye(4, dtype=np.float32)[np.arange(200) % 4] * 9
    x = centres + np.random.default_rng(0).standard_normal((200, 4)).astype(np.float32) * 0.01
    pool = Pool.from_embeddings(x)
    order = _ask("typicality", pool, min_new_labels=4).order
    assert sorted(order[:4] % 4) == [0, 1, 2, 3]
    labelled = Pool.from_embeddings(x, labelled=np.arange(0, 40, 4))
    assert 0 not in _ask("typicality", labelled, 3, min_new_labels=1, most_clusters=4).order % 4


def test_typicality_with_more_clusters_than_a_person_could_count_still_visits_each_before_any_twice():
    rng = np.random.default_rng(0)
    spot = np.arange(1200) % 120
    x = rng.standard_normal((120, 16))[spot] * 5 + rng.standard_normal((1200, 16)) * 0.01
    order = _ask("typicality", Pool.from_embeddings(x.astype(np.float32)), min_new_labels=120).order
    assert len(set(spot[order[:120]])) > 110


@pytest.mark.parametrize("name", ["uniform", "top_utility", "additive"])
def test_plain_strategies_say_which_images_their_guard_holds_back(name):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((60, 8)) * 0.3 + 5 * rng.standard_normal(8)
    x[7] = rng.standard_normal(8) * 40
    pool = Pool.from_embeddings(x.astype(np.float32), utility=np.arange(60.0))
    answer = _ask(name, pool, guard=True)
    flags = [part["outlier"] for part in answer.parts]
    assert flags == sorted(flags)
    assert 7 in answer.order[flags]
    assert 0 < sum(flags) < 10
    assert "outlier" not in _ask(name, pool).parts[0]


def test_near_duplicates_wait_for_the_end_and_all_do_where_one_is_labelled():
    group = np.array([7, 7, -1, 8, 8])
    value = np.array([0.1, 0.9, 0.5, 0.9, 0.9])
    labelled = np.array([False, False, False, False, True])
    late = duplicates(group, np.arange(4), labelled, value)
    assert late.tolist() == [True, False, False, True]


def test_the_outlier_guard_needs_a_spread_and_holds_back_what_has_no_direction():
    likeness = np.array([0.8, 0.81, 0.79, 0.8, 0.82, 0.1])
    assert outliers(likeness, np.ones(6, bool)).tolist() == [False] * 5 + [True]
    assert not outliers(np.ones(6), np.ones(6, bool)).any()
    assert outliers(np.ones(3), np.array([True, True, False])).tolist() == [False, False, True]
    assert not outliers(np.zeros(3), np.zeros(3, bool)).any()


def test_equal_values_share_their_rank_quantile():
    np.testing.assert_allclose(quantiles(np.array([3, 1, 3, 2])), [0.75, 0.125, 0.75, 0.375])


def test_the_merge_serves_visitors_in_their_places_and_the_rest_at_the_end():
    main, visitors = np.arange(8), np.array([100, 101, 102])
    assert merge(main, visitors, 0.25).tolist() == [0, 1, 2, 100, 3, 4, 5, 101, 6, 7, 102]
    assert merge(main, visitors, 0).tolist() == main.tolist()


# What hybrid promises beyond the contract.


def _plain_pool(utility: np.ndarray, x: np.ndarray, **changes) -> Pool:
    return replace(Pool.from_embeddings(x.astype(np.float32), utility=utility), **changes)


def test_hybrid_does_not_fill_a_batch_with_look_alikes():
    rng = np.random.default_rng(0)
    scene = np.repeat(np.arange(40), 10)
    x = rng.standard_normal((40, 16))[scene] + rng.standard_normal((400, 16)) * 0.02
    utility = np.repeat(rng.random(40), 10) + rng.random(400) * 0.001
    pool = _plain_pool(utility, x)
    best = _ask("top_utility", pool, 20).order
    chosen = _ask("hybrid", pool, 20, regime="mid", spread=20).order
    assert len(set(scene[best])) == 2
    assert len(set(scene[chosen])) >= 15


def test_hybrid_while_cold_with_nothing_labelled_starts_with_the_most_typical_image():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((60, 8))
    draft = hybrid.select(_plain_pool(None, x), 60, rng, hybrid.Options())
    assert draft.order[0] == np.argmax(draft.utility)


@pytest.mark.parametrize("regime", ["cold", "low", "mid"])
def test_hybrid_with_nothing_labelled_starts_with_the_most_typical_candidate_in_every_regime(regime):
    pool = _pool(300, labelled=np.zeros(300, bool), label_counts=np.zeros(3, np.int64))
    answer = _ask("hybrid", pool, regime=regime, limit_candidates=False, guard=False, deduplicate=False)
    typical = {int(r): p["T"] for r, p in zip(answer.order, answer.parts, strict=True) if not p["random_slice"]}
    readable = {row: t for row, t in typical.items() if pool.readable[row]}
    assert readable[int(answer.order[0])] == max(readable.values())
    off = _ask("hybrid", pool, regime="mid", limit_candidates=False, guard=False, deduplicate=False, typicality=False)
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
    answer = _ask("hybrid", pool, typicality=False)
    said = dict(zip(answer.order.tolist(), [p["reason"] for p in answer.parts], strict=True))
    assert said[0].startswith("two boxes perhaps cat")
    assert said[1].startswith("one box between cat and eel")


def test_hybrid_holds_junk_back_but_for_the_places_reserved_for_it():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((300, 8)) * 0.3 + 5 * rng.standard_normal(8)
    x[:5] = rng.standard_normal((5, 8)) * 40
    utility = np.where(np.arange(300) < 5, 1.0, 0.5)
    pool = _plain_pool(utility, x)
    with_guard = _ask("hybrid", pool, 100, regime="mid").order
    without = _ask("hybrid", pool, 100, guard=False, regime="mid").order
    assert (with_guard < 5).sum() == 3
    assert (without < 5).sum() == 5
    assert _ask("hybrid", pool, 100, outlier_share=0.0).order.min() >= 5


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
    fair = _ask("hybrid", pool, 20, regime="mid", limit_candidates=False, guard=False)
    plain = _ask("hybrid", pool, 20, regime="mid", limit_candidates=False, guard=False, deficit=False)
    assert (fair.order < 20).sum() > (plain.order < 20).sum()
    assert (fair.order < 20).sum() < 20
    rare = [p for p, row in zip(fair.parts, fair.order, strict=True) if row < 20]
    assert all(p["rare_class"] is None for p in rare)


def test_hybrid_counts_hours_where_it_is_told_to():
    pool = POOLS["many labels"]
    images = _ask("hybrid", pool, 20)
    hours = _ask("hybrid", pool, 20, kappa=1.0)
    boxes = pool.detections.counts
    assert boxes[hours.order].sum() < boxes[images.order].sum()


SWITCHES = ["deduplicate", "flip", "class_weights", "doubt", "guard", "limit_candidates", "uncertainty", "typicality"]


@pytest.mark.parametrize("switch", [*SWITCHES, "diversity", "deficit"])
def test_every_step_of_hybrid_has_a_switch_that_changes_the_order(switch):
    rng = np.random.default_rng(4)
    pool = _pool(300, label_counts=np.array([900, 60, 3]), quality=np.array([0.9, 0.5, 0.1]))
    flipped = replace(pool.detections, flip_iou=rng.random(len(pool.detections.scores)).astype(np.float32))
    pool = replace(
        pool, detections=flipped, embeddings=pool.embeddings * rng.exponential(2, (300, 1)).astype(np.float32)
    )
    regime = "low" if switch == "typicality" else "mid"
    on = _ask("hybrid", pool, regime=regime, spread=1)
    off = _ask("hybrid", pool, regime=regime, spread=1, **{switch: False})
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
    answer = _ask("hybrid", pool)
    part = answer.parts[answer.order.tolist().index(1)]
    assert part["reason"].startswith("two boxes between hard_hat and person")
    assert part["reason"].endswith("duplicate group of 2")
    assert "may show person, which has few labels" in part["reason"]
    assert part["nearest_labelled"] == 0
    assert part["uncertain_boxes"] == 2
    assert answer.parts[-1]["deferred"]


def test_labels_that_arrive_change_the_regime():
    options = hybrid.Options()
    assert hybrid.regime(POOLS["cold"], options) == "cold"
    assert hybrid.regime(_pool(label_counts=np.array([9, 9, 900])), options) == "low"
    assert hybrid.regime(_pool(label_counts=np.array([9, 90, 900])), options) == "mid"


# The stream.


@pytest.mark.parametrize("rate", [0.05, 0.3])
@pytest.mark.parametrize("drift", [0.0, 0.6])
def test_the_stream_honours_its_rate_even_when_utilities_drift(rate, drift):
    rng = np.random.default_rng(0)
    state = stream.start([0.1, 0.2, 0.3], rate)
    for k in range(4000):
        _, state = stream.decide(state, float(np.clip(rng.random() * 0.4 + drift * k / 4000, 0, 1)))
    assert state.seen == 4000
    assert abs(state.queued / state.seen - rate) <= (1 + 2 * state.step) / (state.step * state.seen)


def test_the_stream_honours_its_rate_when_all_images_are_equally_informative():
    state = stream.start(rate=0.1)
    for _ in range(1000):
        _, state = stream.decide(state, 0.5)
    assert state.queued == pytest.approx(100, abs=22)


def test_the_stream_refuses_what_is_no_utility():
    with pytest.raises(ValueError, match=r"utility must be in \[0, 1\], got nan"):
        stream.decide(stream.start(), float("nan"))
