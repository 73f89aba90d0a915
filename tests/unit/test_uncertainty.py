"""Instance uncertainty, class weights, gradient length: the formulas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from common.acquisition import ACQUISITIONS, PER_IMAGE, difficulty, image_utility, instance_utility, model_change
from common.acquisition import uncertainty as u
from common.acquisition.detections import Detections
from common.errors import SettingError, UnknownNameError

FUNCTIONS = [u.least_confidence, u.margin, u.entropy, u.categorical_entropy]
scores = arrays(
    np.float32, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=5), elements=st.floats(0, 1, width=32)
)


@pytest.mark.parametrize("function", FUNCTIONS)
@given(p=scores)
def test_utilities_are_in_0_to_1_and_do_not_depend_on_the_order_of_classes_or_boxes(function, p):
    value = function(p)
    assert value.shape == (len(p),)
    assert ((value >= 0) & (value <= 1)).all()
    np.testing.assert_allclose(function(p[:, ::-1]), value, atol=1e-9)
    np.testing.assert_array_equal(function(p[::-1]), value[::-1])


@pytest.mark.parametrize(
    ("function", "row", "wanted"),
    [
        (u.least_confidence, [0.9, 0.2], 0.1),
        (u.margin, [0.9, 0.2], 0.3),
        (u.margin, [0.5], 1.0),
        (u.margin, [0.9], 0.2),
        (u.entropy, [0.5, 0.01], 1.0),
        (u.entropy, [1.0, 0.0], 0.0),
        (u.entropy, [0.25], 0.8112781),
        (u.categorical_entropy, [0.3, 0.3, 0.3], 1.0),
        (u.categorical_entropy, [0.9, 0.0], 0.0),
        (u.categorical_entropy, [0.7], 0.0),
        (u.categorical_entropy, [0.0, 0.0], 0.0),
    ],
)
def test_worked_values(function, row, wanted):
    assert function(np.array([row]))[0] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_boxes_and_no_classes_are_fine(function):
    assert function(np.zeros((0, 3))).shape == (0,)
    assert np.isfinite(function(np.zeros((2, 0)))).all()


@pytest.mark.parametrize("wrong", [[[np.nan]], [[1.5]], [[-0.1]], [0.5]])
def test_scores_that_are_no_probabilities_are_refused(wrong):
    with pytest.raises(ValueError, match="scores must"):
        u.entropy(np.array(wrong))


def test_class_weights_are_1_until_there_is_a_validation_set():
    np.testing.assert_array_equal(difficulty.class_weights(np.array([1, 100]), None), [1, 1])


def test_a_class_never_found_weighs_three_times_one_always_found():
    counts = np.array([10, 10])
    never, always = difficulty.class_weights(counts, np.array([0.0, 1.0]))
    assert never / always == pytest.approx(3)


def test_rarity_is_clipped_at_a_half_and_three():
    weights = difficulty.class_weights(np.array([0, 100, 10_000]), np.ones(3))
    np.testing.assert_allclose(weights, [3, np.sqrt(100 / 101), 0.5])


@given(st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 1)), min_size=1, max_size=6))
def test_class_weights_stay_in_their_range(classes):
    counts, quality = np.array([c for c, _ in classes]), np.array([q for _, q in classes])
    weights = difficulty.class_weights(counts, quality)
    assert ((weights >= 0.5) & (weights <= 9)).all()


def test_class_quality_is_shrunk_towards_the_mean_by_class_count():
    confidence, overlap = np.array([1.0] * 100 + [0.0]), np.array([1.0] * 100 + [0.0])
    quality = difficulty.class_quality(confidence, overlap, np.array([0] * 100 + [1]), 3)
    assert quality[0] > 0.99
    assert quality[1] == pytest.approx(10 * (100 / 101) / 11)
    assert quality[2] == pytest.approx(100 / 101)


def test_gradient_length_of_one_box_is_its_residual_times_its_feature_length():
    length = model_change.gradient_length(np.array([[0.7, 0.4]]), np.array([[3.0, 4.0]]))
    assert length == pytest.approx(np.hypot(0.3, 0.4) * 5)


def test_a_box_the_model_does_not_believe_in_is_labelled_as_nothing():
    """The most likely labelling, as the detector measures it: 1 where p >= .5, else 0."""
    length = model_change.gradient_length(np.array([[0.2, 0.1]]), np.array([[3.0, 4.0]]))
    assert length == pytest.approx(np.hypot(0.2, 0.1) * 5)


def test_a_certain_model_would_not_change():
    assert model_change.gradient_length(np.array([[1.0, 0.0]]), np.ones((1, 8))) == 0
    assert model_change.gradient_length(np.zeros((0, 2)), np.zeros((0, 8))) == 0


def test_gradient_length_equals_the_gradient_by_finite_differences():
    rng = np.random.default_rng(0)
    weight, x, t = rng.normal(size=(2, 3)), rng.normal(size=(4, 3)), np.eye(2)[[0, 1, 1, 0]]

    def loss(w):
        p = 1 / (1 + np.exp(-x @ w.T))
        return -(t * np.log(p) + (1 - t) * np.log(1 - p)).sum()

    steps = np.eye(6).reshape(6, 2, 3) * 1e-5
    numeric = [(loss(weight + s) - loss(weight - s)) / 2e-5 for s in steps]
    p = 1 / (1 + np.exp(-x @ weight.T))
    assert model_change.gradient_length(p, x, t) == pytest.approx(np.linalg.norm(numeric), rel=1e-6)


def _one_box() -> Detections:
    return Detections(
        np.array([0, 1]),
        np.array([[0, 0, 9, 9]], np.float32),
        np.array([[0.5, 0.1]], np.float32),
        np.zeros(1, np.float32),
        np.array([2.0], np.float32),
    )


@pytest.mark.parametrize("name", sorted(ACQUISITIONS))
def test_every_acquisition_function_answers_by_name_or_says_what_it_lacks(name):
    lacking = {"vote_entropy", "consensus", "head_variance", "consistency"}
    if name in lacking:
        with pytest.raises(SettingError, match=f"acquisition '{name}' needs"):
            image_utility(_one_box(), name)
    else:
        assert 0 <= image_utility(_one_box(), name)[0] <= 1


def test_a_wrong_name_lists_the_right_ones():
    with pytest.raises(UnknownNameError, match=r"no acquisition 'entrpy'; there are \['categorical_entropy'"):
        image_utility(_one_box(), "entrpy")
    with pytest.raises(UnknownNameError, match=r"no aggregation 'mean'; there are \['max'"):
        image_utility(_one_box(), "entropy", "mean")
    for name in PER_IMAGE:
        with pytest.raises(UnknownNameError, match="speaks of whole images"):
            instance_utility(name, _one_box())


@pytest.mark.parametrize(
    ("field", "value"), [("boxes", np.zeros((2, 4))), ("offsets", np.array([0, 2])), ("committee", np.zeros((2, 1, 3)))]
)
def test_detections_that_do_not_fit_together_are_refused_at_birth(field, value):
    good = _one_box()
    parts = {n: getattr(good, n) for n in ("offsets", "boxes", "scores", "doubt", "model_change")}
    with pytest.raises(ValueError, match=field):
        Detections(**{**parts, field: value})
