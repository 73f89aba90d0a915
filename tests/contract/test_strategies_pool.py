"""The pool that strategies are asked about, made of embeddings or of predictions."""

from __future__ import annotations

import numpy as np
import pytest

from common.acquisition import image_utility
from common.domain import Instances, Prediction
from common.strategies import Pool
from tests.contract.strategy_pools import ask, make_pool


def test_a_pool_that_does_not_fit_together_is_refused_at_birth():
    with pytest.raises(ValueError, match=r"labelled must have shape \(90,\), got \(3,\)"):
        make_pool(labelled=np.zeros(3, bool))
    with pytest.raises(ValueError, match="class_names must be 3 names, got 1"):
        make_pool(class_names=("a",))
    with pytest.raises(ValueError, match=r"labelled indices must be in 0..2"):
        Pool.from_embeddings(np.eye(3), labelled=np.array([5]))
    with pytest.raises(ValueError, match="labelled names row 0 2 times: each row once, or a mask of type bool"):
        Pool.from_embeddings(np.eye(3), labelled=np.array([0, 0, 1]))
    with pytest.raises(ValueError, match="labelled indices must be whole numbers, got float64"):
        Pool.from_embeddings(np.eye(3), labelled=np.array([0.5]))
    assert Pool.from_embeddings(np.eye(3), labelled=[]).labelled.tolist() == [False] * 3


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
    assert ask("hybrid", pool).order.tolist() == [0, 1]


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
