"""What top_utility, core_set and typicality promise beyond the contract, and the parts that strategies share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from common.errors import SettingError
from common.strategies import Pool
from common.strategies.keeper import Keeper
from common.strategies.pool import quantiles
from common.strategies.schedule import merge
from common.strategies.screening import duplicates, outliers
from tests.contract.strategy_pools import ask, make_pool


def test_top_utility_sorts_by_utility():
    utility = np.array([0.1, 0.9, 0.5, 0.9])
    pool = Pool.from_embeddings(np.eye(4, dtype=np.float32), utility=utility)
    assert ask("top_utility", pool).order.tolist() == [1, 3, 2, 0]


def test_core_set_starts_far_from_the_labelled_set_and_where_nothing_is_labelled_by_chance():
    x = np.array([[1, 0], [0.9, 0.1], [0, 1], [-1, 0]], np.float32)
    pool = Pool.from_embeddings(x, labelled=np.array([0]))
    assert ask("core_set", pool).order.tolist() == [3, 2, 1]
    starts = {int(ask("core_set", Pool.from_embeddings(x), seed=s).order[0]) for s in range(20)}
    assert len(starts) > 1


def test_core_set_says_that_chance_drew_the_first_pick_where_nothing_is_labelled():
    x = np.array([[1, 0], [0.9, 0.1], [0, 1], [-1, 0]], np.float32)
    reasons = [part["reason"] for part in ask("core_set", Pool.from_embeddings(x)).parts]
    assert reasons[0] == "nothing is labelled: the first pick, drawn by the seed"
    known = [part["reason"] for part in ask("core_set", Pool.from_embeddings(x, labelled=np.array([0]))).parts]
    assert all(reason.endswith("away from the nearest labelled or earlier image") for reason in reasons[1:] + known)


def test_core_set_with_a_greedy_limit_of_0_is_greedy_as_far_as_the_budget_goes():
    pool = Pool.from_embeddings(np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32))
    whole = ask("core_set", pool, greedy_limit=0).order
    np.testing.assert_array_equal(whole, ask("core_set", pool, greedy_limit=60).order)
    np.testing.assert_array_equal(ask("core_set", pool, 25, greedy_limit=0).order, whole[:25])
    with pytest.raises(SettingError, match="greedy_limit is -1"):
        ask("core_set", pool, greedy_limit=-1)


@pytest.mark.parametrize("name", ["core_set", "hybrid"])
def test_labels_that_arrive_between_queries_give_the_order_of_a_fresh_start(name):
    kept, fresh = make_pool(200, points=Keeper()), make_pool(200)
    for _ in range(4):
        order = ask(name, fresh).order
        np.testing.assert_array_equal(ask(name, kept).order, order)
        labelled = fresh.labelled.copy()
        labelled[order[:15]] = True
        kept, fresh = replace(kept, labelled=labelled), replace(fresh, labelled=labelled)
    assert set(kept.points.kept.memory.anchors) <= set(np.flatnonzero(labelled))
    assert len(kept.points.kept.memory.anchors) > 40


def test_core_set_beyond_its_greedy_limit_goes_on_by_distance():
    x = np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32)
    greedy = ask("core_set", Pool.from_embeddings(x)).order
    cut = ask("core_set", Pool.from_embeddings(x), greedy_limit=10).order
    np.testing.assert_array_equal(cut[:10], greedy[:10])
    assert sorted(cut) == list(range(60))


def test_typicality_takes_one_image_of_each_cluster_before_a_second_of_any():
    centres = np.eye(4, dtype=np.float32)[np.arange(200) % 4] * 9
    x = centres + np.random.default_rng(0).standard_normal((200, 4)).astype(np.float32) * 0.01
    pool = Pool.from_embeddings(x)
    order = ask("typicality", pool, min_new_labels=4).order
    assert sorted(order[:4] % 4) == [0, 1, 2, 3]
    labelled = Pool.from_embeddings(x, labelled=np.arange(0, 40, 4))
    assert 0 not in ask("typicality", labelled, 3, min_new_labels=1, most_clusters=4).order % 4


def test_typicality_with_more_clusters_than_a_person_could_count_still_visits_each_before_any_twice():
    rng = np.random.default_rng(0)
    spot = np.arange(1200) % 120
    x = rng.standard_normal((120, 16))[spot] * 5 + rng.standard_normal((1200, 16)) * 0.01
    order = ask("typicality", Pool.from_embeddings(x.astype(np.float32)), min_new_labels=120).order
    assert len(set(spot[order[:120]])) > 110


@pytest.mark.parametrize("name", ["uniform", "top_utility", "additive"])
def test_plain_strategies_say_which_images_their_guard_holds_back(name):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((60, 8)) * 0.3 + 5 * rng.standard_normal(8)
    x[7] = rng.standard_normal(8) * 40
    pool = Pool.from_embeddings(x.astype(np.float32), utility=np.arange(60.0))
    answer = ask(name, pool, guard=True)
    flags = [part["outlier"] for part in answer.parts]
    assert flags == sorted(flags)
    assert 7 in answer.order[flags]
    assert 0 < sum(flags) < 10
    assert "outlier" not in ask(name, pool).parts[0]


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
