"""What holds for every acquisition function and every aggregation, whatever a model says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.acquisition import (
    ACQUISITIONS,
    AGGREGATIONS,
    PER_IMAGE,
    aggregation_options,
    image_utility,
    instance_utility,
)
from common.acquisition.aggregate import SUMS, doubt_entropy
from common.acquisition.detections import Detections
from common.acquisition.difficulty import class_quality, class_weights
from common.errors import SettingError
from tests.ragged import EVIDENCE, detections, shuffled

NEEDS_NO_EVIDENCE = {"least_confidence", "margin", "entropy", "categorical_entropy", "model_change"}
AT_MOST_1 = set(AGGREGATIONS) - SUMS
PAIRS = [(f, a) for f in sorted(ACQUISITIONS) for a in sorted(AGGREGATIONS)]
PER_INSTANCE = sorted(set(ACQUISITIONS) - PER_IMAGE)
FEW = settings(max_examples=50, deadline=None)


def _answers(d: Detections, functions=frozenset(ACQUISITIONS)) -> dict[tuple[str, str], np.ndarray]:
    return {(f, a): image_utility(d, f, a) for f, a in PAIRS if f in functions}


@settings(max_examples=80, deadline=None)
@given(detections(evidence=True), st.integers(0, 99))
def test_every_utility_is_finite_in_range_and_blind_to_the_order_of_boxes_bit_for_bit(d, seed):
    other = _answers(shuffled(d, seed))
    for (function, aggregation), value in _answers(d).items():
        assert value.shape == (len(d),)
        assert value.dtype == np.float64
        assert np.isfinite(value).all()
        assert (value >= 0).all()
        if aggregation in AT_MOST_1 or function in PER_IMAGE:
            assert (value <= 1).all()
        np.testing.assert_array_equal(other[function, aggregation], value, err_msg=f"{function} {aggregation}")


@settings(max_examples=40, deadline=None)
@given(detections(evidence=False), st.integers(0, 99))
def test_what_needs_no_evidence_answers_the_same_without_it_and_the_others_say_what_they_lack(d, seed):
    some = _answers(d, NEEDS_NO_EVIDENCE)
    other = _answers(shuffled(d, seed), NEEDS_NO_EVIDENCE)
    for pair, value in some.items():
        assert np.isfinite(value).all()
        np.testing.assert_array_equal(other[pair], value)
    for function in set(ACQUISITIONS) - NEEDS_NO_EVIDENCE:
        if len(d.scores):
            with pytest.raises(SettingError, match=f"acquisition '{function}' needs"):
                image_utility(d, function)
        else:
            np.testing.assert_array_equal(image_utility(d, function), doubt_entropy(d))


@FEW
@given(detections(evidence=True))
def test_an_instance_utility_is_in_0_to_1_and_does_not_hang_on_the_other_instances(d):
    for function in PER_INSTANCE:
        value = instance_utility(function, d)
        assert value.shape == (len(d.scores),)
        assert ((value >= 0) & (value <= 1)).all()
        if len(d.scores):
            assert instance_utility(function, _first(d))[0] == pytest.approx(value[0], abs=1e-12)


def _first(d: Detections) -> Detections:
    """The first instance alone."""
    alone = {n: getattr(d, n)[:1] for n in ("boxes", "scores", "disagreement", "flip_iou", "flip_scores")}
    none = np.zeros(1, np.float32)
    return replace(d, offsets=np.array([0, 1]), doubt=none, model_change=none, committee=d.committee[:, :1], **alone)


@FEW
@given(detections(evidence=True))
def test_a_class_that_no_model_class_is_mapped_to_changes_nothing(d):
    """Its column holds 0 everywhere; without being told, margin and categorical_entropy would take it for a class."""
    wider = {n: _with_zeros(getattr(d, n)) for n in ("scores", "flip_scores", "committee")}
    there = replace(d, **wider, mapped=np.arange(d.scores.shape[1] + 1) > 0)
    alone = _answers(d)
    for pair, value in _answers(there).items():
        np.testing.assert_array_equal(value, alone[pair], err_msg=str(pair))


def _with_zeros(scores):
    """One more class, in front, which no model class knows."""
    return np.concatenate([np.zeros((*scores.shape[:-1], 1), np.float32), scores], axis=-1)


@FEW
@given(detections(evidence=True))
def test_an_image_without_a_box_carries_the_doubt_of_its_best_score_below_the_floor(d):
    empty = d.counts == 0
    for value in _answers(d).values():
        np.testing.assert_array_equal(value[empty], doubt_entropy(d)[empty])


@FEW
@given(detections(evidence=True))
def test_the_aggregations_keep_their_order(d):
    """Greatest <= top-m <= sum, mean of the lowest <= greatest; a sum over one box is that box."""
    value = {a: image_utility(d, "entropy", a) for a in AGGREGATIONS}
    boxes = d.counts > 0
    assert (value["max"] <= value["top_m"] + 1e-12).all()
    assert (value["top_m"] <= value["sum"] + 1e-9).all()
    assert (value["mean_of_n_lowest"] <= value["max"] + 1e-12).all()
    np.testing.assert_allclose(value["min_confidence"][boxes], 1 - _weakest(d)[boxes], atol=1e-7)
    single = d.counts == 1
    for a in ("max", "sum", "top_m", "mean_of_n_lowest"):
        np.testing.assert_allclose(value[a][single], value["max"][single])


def _weakest(d: Detections) -> np.ndarray:
    return np.array(
        [d.confidence[a:b].min(initial=1) for a, b in zip(d.offsets[:-1], d.offsets[1:], strict=True)], np.float64
    )


def test_the_one_class_formula_of_margin_holds_in_a_project_where_only_one_class_is_mapped():
    d = Detections(
        np.array([0, 1]),
        np.array([[0, 0, 9, 9]], np.float32),
        np.array([[0.1, 0]], np.float32),
        np.zeros(1, np.float32),
        np.zeros(1, np.float32),
        mapped=np.array([True, False]),
    )
    assert image_utility(d, "margin", "max")[0] == pytest.approx(0.2)
    assert image_utility(d, "categorical_entropy", "max")[0] == 0


@pytest.mark.parametrize("function", sorted(ACQUISITIONS))
@pytest.mark.parametrize("n", [0, 1, 3])
def test_no_image_and_images_that_nobody_looked_at_have_an_answer(function, n):
    for aggregation in AGGREGATIONS:
        np.testing.assert_array_equal(image_utility(Detections.nothing(n, 2), function, aggregation), np.zeros(n))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -0.1])
@pytest.mark.parametrize("name", ["scores", "doubt", "model_change", "boxes", *EVIDENCE])
def test_what_is_no_number_or_out_of_range_is_refused_at_birth(name, wrong):
    m, one = 2, np.full((2, 2), 0.5, np.float32)
    good = Detections(
        np.array([0, 2]), np.zeros((m, 4), np.float32), one, one[0, :1], one[0, :1], one[0], one[0], one, one[None]
    )
    bad = getattr(good, name).copy()
    bad[..., -1] = wrong
    if name == "boxes" and wrong == -0.1:
        replace(good, boxes=bad)  # partly outside the image: allowed
        return
    with pytest.raises(ValueError, match=f"{name} must be"):
        replace(good, **{name: bad})


@pytest.mark.parametrize(
    ("aggregation", "options", "sentence"),
    [
        ("mean_of_n_lowest", {"n_lowest": 0}, "n_lowest is 0: 1 or more is allowed"),
        ("top_m", {"m": 0}, "m is 0: 1 or more is allowed"),
        ("top_m", {"overlap": 1.5}, "overlap is 1.5: 0 to 1 is allowed"),
        ("top_m", {"n": 3}, r"aggregation 'top_m' has no option 'n'; there are \['m', 'overlap'\]"),
        ("max", {"m": 3}, r"aggregation 'max' has no option 'm'; there are \[\]"),
    ],
)
def test_an_option_that_is_not_there_or_not_allowed_is_one_sentence(aggregation, options, sentence):
    with pytest.raises(SettingError, match=sentence):
        image_utility(Detections.nothing(1), "entropy", aggregation, **options)


def test_every_option_of_an_aggregation_is_known_by_name():
    found = {a: aggregation_options(a) for a in AGGREGATIONS}
    assert found == {
        "min_confidence": {},
        "mean_of_n_lowest": {"n_lowest": 3},
        "max": {},
        "sum": {},
        "top_m": {"m": 10, "overlap": 0.5},
    }


# Class difficulty and rarity.

classes = st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 1, allow_subnormal=False)), min_size=1, max_size=6)


@FEW
@given(classes)
def test_a_weight_is_the_formula_in_its_range_and_falls_with_quality_and_with_labels(rows):
    n, q = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    weights = class_weights(n, q)
    wanted = [
        (1 + 2 * np.log(1 + 27 * (1 - b)) / np.log(28)) * min(3, max(0.5, np.sqrt(np.median(n) / (a + 1))))
        for a, b in rows
    ]
    np.testing.assert_allclose(weights, wanted)
    assert ((weights >= 0.5) & (weights <= 9)).all()
    for i in range(len(rows)):
        for j in range(len(rows)):
            if n[i] <= n[j] and q[i] <= q[j]:
                assert weights[i] >= weights[j] - 1e-12
    np.testing.assert_array_equal(class_weights(n, None), np.ones(len(n)))


@pytest.mark.parametrize(
    ("quality", "sentence"),
    [
        ([0.5, 1.5, np.nan], r"quality must lie in \[0, 1\], got \[1.5, nan\]"),
        ([0.5, -0.1, 1.0], r"quality must lie in \[0, 1\], got \[-0.1\]"),
        ([0.5, 0.5], r"quality must have shape \(3,\), got \(2,\)"),
    ],
)
def test_a_quality_that_is_none_is_refused_with_its_value(quality, sentence):
    with pytest.raises(ValueError, match=sentence):
        class_weights(np.array([5, 50, 500]), np.array(quality))


boxes = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.integers(0, 3)), min_size=1, max_size=20)


@FEW
@given(boxes, st.integers(0, 9))
def test_class_quality_lies_between_the_class_and_the_overall_mean_whatever_the_order_of_boxes(rows, seed):
    p, o, c = (np.array(x) for x in zip(*rows, strict=True))
    quality = class_quality(p, o, c, 4)
    each = p**0.6 * o**0.4
    for k in range(4):
        own = each[c == k].mean() if (c == k).any() else each.mean()
        assert min(own, each.mean()) - 1e-9 <= quality[k] <= max(own, each.mean()) + 1e-9
    order = np.random.default_rng(seed).permutation(len(p))
    np.testing.assert_allclose(class_quality(p[order], o[order], c[order], 4), quality, atol=1e-12)


@pytest.mark.parametrize(
    ("p", "o", "c", "sentence"),
    [
        ([0.5], [0.5, 0.5], [0], "equally long"),
        ([1.5], [0.5], [0], r"in \[0, 1\]"),
        ([np.nan], [0.5], [0], r"in \[0, 1\]"),
        ([0.5], [0.5], [4], r"label in 0\.\.1"),
        ([0.5], [0.5], [-1], r"label in 0\.\.1"),
    ],
)
def test_boxes_that_cannot_be_judged_are_refused(p, o, c, sentence):
    with pytest.raises(ValueError, match=sentence):
        class_quality(np.array(p), np.array(o), np.array(c), 2)
