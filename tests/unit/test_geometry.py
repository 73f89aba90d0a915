"""Boxes: overlap, cutting, turning."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from common import geometry

boxes = arrays(np.float64, (3, 2), elements=st.floats(-500, 500)).flatmap(
    lambda low: arrays(np.float64, (3, 2), elements=st.floats(0, 300)).map(lambda size: np.hstack([low, low + size]))
)


def test_iou_of_two_squares_that_share_a_quarter_of_each():
    assert geometry.iou([[0, 0, 2, 2]], [[1, 1, 3, 3]])[0, 0] == pytest.approx(1 / 7)


def test_iou_of_boxes_that_only_touch_is_0():
    assert geometry.iou([[0, 0, 1, 1]], [[1, 0, 2, 1]])[0, 0] == 0


def test_iou_without_boxes_has_an_empty_side():
    assert geometry.iou([], [[0, 0, 1, 1]]).shape == (0, 1)


def test_boxes_without_area_overlap_nothing_not_even_themselves():
    assert geometry.iou([[1, 1, 1, 1]], [[1, 1, 1, 1]])[0, 0] == 0


@given(boxes, boxes)
def test_iou_is_symmetric_and_in_0_to_1(first, second):
    overlap = geometry.iou(first, second)
    assert ((overlap >= 0) & (overlap <= 1)).all()
    np.testing.assert_allclose(overlap, geometry.iou(second, first).T)
    np.testing.assert_allclose(np.diag(overlap), geometry.paired_iou(first, second))


@given(boxes)
def test_a_flip_is_its_own_inverse(some):
    np.testing.assert_allclose(geometry.flip(geometry.flip(some, 640), 640), some, atol=1e-9)


@given(boxes)
def test_fractions_and_centres_lead_back(some):
    np.testing.assert_allclose(
        geometry.from_fractions(geometry.to_fractions(some, 640, 480), 640, 480), some, atol=1e-9
    )
    np.testing.assert_allclose(geometry.from_centre(geometry.to_centre(some)), some, atol=1e-9)


@given(boxes)
def test_a_clipped_box_lies_in_the_image_and_is_not_larger(some):
    inside = geometry.clip(some, 100, 50)
    assert (inside[:, [0, 2]] <= 100).all()
    assert (inside[:, [1, 3]] <= 50).all()
    assert (inside >= 0).all()
    assert (geometry.area(inside) <= geometry.area(some) + 1e-9).all()


def test_a_rectangle_turned_by_90_degrees_clockwise_about_its_top_left_corner():
    corners = geometry.rotated_corners(10, 10, 4, 2, 90)
    np.testing.assert_allclose(corners, [[10, 10], [10, 14], [8, 14], [8, 10]], atol=1e-9)
    np.testing.assert_allclose(geometry.enclosing_box(corners), [8, 10, 10, 14], atol=1e-9)


def test_a_rectangle_that_is_not_turned_is_its_own_enclosing_box():
    np.testing.assert_allclose(geometry.enclosing_box(geometry.rotated_corners(1, 2, 3, 4, 0)), [1, 2, 4, 6])


@pytest.mark.parametrize("wrong", [np.zeros((2, 3)), np.zeros(8)])
def test_what_is_no_list_of_boxes_is_refused_with_its_shape(wrong):
    with pytest.raises(ValueError, match=r"boxes must have shape \(n, 4\), got"):
        geometry.xyxy(wrong)


def test_an_image_without_width_has_no_fractions():
    with pytest.raises(ValueError, match="must be positive, got 0 x 5"):
        geometry.to_fractions([[0, 0, 1, 1]], 0, 5)
