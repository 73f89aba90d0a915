"""Second looks in a pool: over the project's classes, and only where every image was looked at alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from common.acquisition import image_utility
from common.domain import Instances, Prediction
from common.strategies import Pool

NONE = np.zeros((0, 4), np.float32)


def said(scores: list[list[float]], *, committee: int = 0, flip: bool = False) -> Prediction:
    p = np.array(scores, np.float32).reshape(-1, 3)
    n = len(p)
    boxes = np.array([[10 * i, 0, 10 * i + 5, 5] for i in range(n)], np.float32).reshape(n, 4)
    each = np.zeros(p.shape[1], np.float32)
    made = Prediction(Instances(boxes, p), np.ones(2, np.float32), each, each, np.zeros(n, np.float32), 100, 100)
    if flip:
        made = replace(made, flip_iou=np.linspace(0.5, 1, n).astype(np.float32), flip_scores=p / 2)
    return replace(made, committee=np.stack([p / (i + 2) for i in range(committee)])) if committee else made


def pool(*predictions: Prediction | None) -> Pool:
    """Class 0 of the project is column 2 of the model, class 1 is columns 0 and 1."""
    return Pool.from_predictions(predictions, {0: 2, 1: [0, 1]}, 2)


def test_flip_and_committee_speak_of_the_projects_classes_and_of_the_kept_boxes_only() -> None:
    found = pool(said([[0.8, 0.4, 0.2], [0.01, 0.02, 0.03]], committee=2, flip=True), None).detections
    np.testing.assert_allclose(found.scores, [[0.2, 0.8]])
    assert found.flip_iou is not None
    assert found.flip_scores is not None
    assert found.committee is not None
    np.testing.assert_allclose(found.flip_iou, [0.5])
    np.testing.assert_allclose(found.flip_scores, [[0.1, 0.4]])
    np.testing.assert_allclose(found.committee[:, 0], np.outer([1, 1 / 2, 1 / 3], [0.2, 0.8]), rtol=1e-6)


@pytest.mark.parametrize(
    ("other", "flip", "committee"),
    [
        (said([[0.5, 0, 0]], committee=1, flip=True), True, True),
        (said([[0.5, 0, 0]], committee=1), False, True),
        (said([[0.5, 0, 0]], committee=2, flip=True), True, False),
        (said([[0.5, 0, 0]]), False, False),
        (said([]), True, True),
        (said([[0.01, 0, 0]]), True, True),
        (None, True, True),
    ],
    ids=["the same", "no flip", "a larger committee", "one pass", "no box", "no kept box", "unreadable"],
)
def test_evidence_counts_only_where_every_image_with_an_instance_has_it(
    other: Prediction | None, flip: bool, committee: bool
) -> None:
    found = pool(said([[0.5, 0, 0]], committee=1, flip=True), other).detections
    assert (found.flip_iou is not None) == (found.flip_scores is not None) == flip
    assert (found.committee is not None) == committee


@pytest.mark.parametrize("acquisition", ["consistency", "vote_entropy", "consensus"])
def test_a_pool_without_any_instance_lacks_nothing(acquisition: str) -> None:
    found = pool(said([]), said([])).detections
    np.testing.assert_array_equal(image_utility(found, acquisition), [0, 0])


def test_the_model_and_one_view_can_disagree() -> None:
    split = replace(said([[0.9, 0, 0]]), committee=np.zeros((1, 1, 3), np.float32))
    agreed = replace(said([[0.9, 0, 0]]), committee=said([[0.9, 0, 0]]).instances.scores[None])
    np.testing.assert_allclose(image_utility(pool(split, agreed).detections, "vote_entropy", "max"), [1, 0])


def test_a_look_that_is_not_a_number_makes_the_image_unreadable() -> None:
    broken = replace(said([[0.9, 0, 0]], flip=True), flip_iou=np.array([np.nan], np.float32))
    assert pool(broken).readable.tolist() == [False]
