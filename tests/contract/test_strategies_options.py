"""The options of query strategies: names, ranges, and what those of an aggregation change."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import fields

import numpy as np
import pytest

from common.acquisition import AGGREGATIONS, aggregation_options
from common.acquisition.detections import Detections
from common.errors import SettingError, UnknownNameError
from common.strategies import REGISTRY
from tests.contract.strategy_pools import ALL, ask, make_pool


def crowds(n: int) -> Detections:
    """Four overlapping boxes of one class and two of another per image, of any confidence."""
    rng = np.random.default_rng(7)
    boxes = np.tile([[0, 0, 9, 9], [1, 0, 10, 9], [4, 0, 13, 9], [6, 0, 15, 9], [40, 0, 49, 9], [43, 0, 52, 9]], (n, 1))
    scores = np.zeros((6 * n, 3), np.float32)
    scores[np.arange(6 * n), np.tile([0, 0, 0, 0, 1, 1], n)] = rng.uniform(0.1, 0.9, 6 * n)
    return Detections(
        np.arange(n + 1) * 6, boxes.astype(np.float32), scores, np.zeros(n, np.float32), np.zeros(n, np.float32)
    )


CROWDED = make_pool(12, labelled=np.zeros(12, bool), slice_hash=None, detections=crowds(12))


@ALL
def test_an_option_that_does_not_exist_lists_those_that_do(name):
    with pytest.raises(SettingError, match=f"strategy '{name}' has no option 'colour'; there are"):
        ask(name, make_pool(), colour=1)


def test_a_wrong_name_lists_the_right_ones():
    with pytest.raises(UnknownNameError, match=r"no strategy 'hybird'; there are \['additive', 'core_set', 'hybrid'"):
        ask("hybird", make_pool())


def test_a_negative_budget_and_a_value_that_is_not_allowed_are_refused():
    with pytest.raises(SettingError, match="budget is -1"):
        ask("uniform", make_pool(), -1)
    with pytest.raises(SettingError, match="regime is 'warm'"):
        ask("hybrid", make_pool(), regime="warm")
    with pytest.raises(UnknownNameError, match="no acquisition 'entrpy'"):
        ask("top_utility", make_pool(), acquisition="entrpy")


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
        "outlier_share": [-0.1, 1.0, np.nan, "3 %", True],
        "min_new_labels": [0, 2.5, np.nan, "4"],
        "spread": [0, 2.5, np.nan, "4"],
        "cold_spread": [-2, 2.5, np.nan, "4"],
    },
    "additive": {"alpha": [-1.0, np.nan, np.inf, "1"], "beta": [-1.0, np.nan], "clusters": [0, 2.5]},
    "core_set": {"greedy_limit": [-1, 0.5]},
    "typicality": {
        "min_new_labels": [0],
        "most_clusters": [0],
        "neighbours": [0, 1.5],
        "references": [1],
        "small": [-1],
    },
    "stream": {
        "rate": [0.0, 1.0, np.nan, "0.1"],
        "step": [0.0, np.inf, np.nan, "0.1"],
        "level": [np.inf, np.nan, "0.5", ""],
    },
}
AGGREGATED = ["additive", "stream", "top_utility"]
for one in AGGREGATED:
    WRONG[one] = WRONG.get(one, {}) | {"n_lowest": [0, 1.5], "m": [0, -3], "overlap": [-0.1, 1.5, np.nan]}


@pytest.mark.parametrize(
    ("name", "option", "value"), [(n, o, v) for n, options in WRONG.items() for o, vs in options.items() for v in vs]
)
def test_an_option_out_of_its_range_is_one_sentence_with_its_name_and_value(name, option, value):
    with pytest.raises(SettingError, match=rf"^strategy '{name}': .*\b{option}\b") as caught:
        ask(name, make_pool(), **{option: value})
    assert str(value) in str(caught.value)
    assert "\n" not in str(caught.value)
    others = {f.name for f in fields(REGISTRY[name].options)} - {option}
    assert not others & set(re.findall(r"\w+", str(caught.value)))
    if isinstance(value, float) and np.isinf(value):
        assert "finite" in str(caught.value) or " to " in str(caught.value)


SWITCHES = [(n, f.name) for n, s in sorted(REGISTRY.items()) for f in fields(s.options) if f.type == "bool"]


@pytest.mark.parametrize(("name", "option"), SWITCHES)
@pytest.mark.parametrize("value", ["no", 0, None])
def test_a_switch_that_is_neither_true_nor_false_is_refused(name, option, value):
    with pytest.raises(SettingError, match=rf"^strategy '{name}': {option} is {value!r}: True or False is allowed$"):
        ask(name, make_pool(), **{option: value})
    assert Counter(n for n, _ in SWITCHES) == {"hybrid": 10, "uniform": 2, "top_utility": 2, "additive": 2}


@pytest.mark.parametrize(("weight", "total"), [(0.0, "0.0"), (1.7e308, "inf")])
def test_weights_whose_sum_divides_nothing_are_refused(weight, total):
    with pytest.raises(SettingError, match=rf"alpha \+ beta is {total}: a finite number above 0 is allowed"):
        ask("additive", make_pool(), alpha=weight, beta=weight)


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
    plain, other = (ask(name, CROWDED, aggregation=aggregation, **o) for o in ({}, {option: value}))
    assert sorted(plain.order) == sorted(other.order)
    assert dict(zip(plain.order, plain.utility, strict=True)) != dict(zip(other.order, other.utility, strict=True))
    ignored = [ask(name, CROWDED, aggregation="max", **o).utility.tolist() for o in ({}, {option: value})]
    assert ignored[0] == ignored[1]


@pytest.mark.parametrize("name", AGGREGATED)
def test_without_being_set_the_numbers_are_those_of_the_aggregation(name):
    known = {k: v for a in AGGREGATIONS for k, v in aggregation_options(a).items()}
    assert {k: getattr(REGISTRY[name].options(), k) for k in known} == known
