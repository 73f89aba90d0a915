"""What an image is worth when it arrives alone: the same as among all the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.acquisition import image_utility
from common.domain import Instances, Prediction
from common.experiments.judge import Judge
from common.experiments.ranking import Classes, project_classes
from common.ports import Model
from common.strategies.pool import Pool

CLASSES: Classes = project_classes(Model(Path("m.pt"), "0" * 64, ("kitty", "dog")))


def said(length: float, doubt: float = 0.01, *, boxes: int = 1) -> Prediction:
    """An image of two classes; all its gradient length and doubt are the first one's."""
    return Prediction(
        Instances(np.tile(np.array([[0, 0, 9, 9]], np.float32), (boxes, 1)), np.full((boxes, 2), 0.3, np.float32)),
        np.ones(3, np.float32),
        doubt=np.array([doubt, 0], np.float32),
        model_change=np.array([length, 0], np.float32),
        disagreement=np.zeros(boxes, np.float32),
        width=9,
        height=9,
    )


images = st.builds(said, st.floats(0, 1e6, width=32), st.floats(0, 0.046875, width=32), boxes=st.integers(0, 2))


@given(st.lists(images, min_size=1, max_size=12))
def test_gradient_lengths_of_images_met_one_by_one_make_the_scale_of_all_together(pool: list[Prediction]) -> None:
    judge = Judge(CLASSES, "model_change")
    alone = np.array([judge.values([one])[0][0] for one in pool])
    together = Pool.from_predictions(pool, CLASSES.columns, 2)
    wanted = image_utility(together.detections, "model_change")
    np.testing.assert_allclose(judge.comparable(alone), wanted, rtol=1e-6, atol=1e-9)


def test_an_image_alone_says_how_long_its_gradient_is_and_not_one_half() -> None:
    judge = Judge(CLASSES, "model_change")
    assert [value for value, _ in judge.values([said(2.0), said(8.0)])] == [2.0, 8.0]


def test_other_values_need_no_common_scale() -> None:
    judge = Judge(CLASSES, "entropy")
    values = np.array([judge.values([one])[0][0] for one in (said(1), said(1, 0.04, boxes=0))])
    assert (values >= 0).all()
    assert judge.comparable(values) is values


def test_the_words_name_what_the_boxes_waver_between() -> None:
    assert "between kitty and dog" in Judge(CLASSES).values([said(1.0)])[0][1]


@pytest.mark.parametrize("acquisition", ["entropy", "model_change"])
def test_no_image_is_no_value(acquisition: str) -> None:
    assert Judge(CLASSES, acquisition).values([]) == []
