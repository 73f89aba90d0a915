"""From instances to images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.acquisition.aggregate import AGGREGATIONS, doubt_entropy, entropy_nms, top_m
from common.acquisition.detections import Detections
from common.acquisition.uncertainty import entropy
from common.geometry import iou


def _detections(images: list[list[tuple[float, ...]]], doubt: float = 0.03) -> Detections:
    """Images as lists of (x, score of class 0, score of class 1); boxes are 10 x 10 at (x, 0)."""
    rows = [box for image in images for box in image]
    x = np.array([r[0] for r in rows], np.float32).reshape(-1)
    boxes = np.stack([x, 0 * x, x + 10, 0 * x + 10], axis=1).reshape(-1, 4)
    offsets = np.cumsum([0, *map(len, images)]).astype(np.int64)
    n = len(images)
    return Detections(
        offsets,
        boxes,
        np.array([r[1:] for r in rows], np.float32).reshape(-1, 2),
        np.full(n, doubt, np.float32),
        np.zeros(n, np.float32),
    )


def _value(name: str, detections: Detections, **options) -> np.ndarray:
    return AGGREGATIONS[name](entropy(detections.scores), detections, doubt_entropy(detections), **options)


image = st.lists(st.tuples(st.sampled_from([0.0, 3.0, 4.0, 20.0, 40.0]), *[st.floats(0, 1, width=32)] * 2), max_size=6)


@pytest.mark.parametrize("name", sorted(AGGREGATIONS))
@given(images=st.lists(image, max_size=4), seed=st.integers(0, 99))
def test_the_order_of_boxes_does_not_matter(name, images, seed):
    rng = np.random.default_rng(seed)
    shuffled = [[boxes[i] for i in rng.permutation(len(boxes))] for boxes in images]
    value = _value(name, _detections(images))
    assert value.shape == (len(images),)
    assert np.isfinite(value).all()
    assert (value >= 0).all()
    np.testing.assert_array_equal(_value(name, _detections(shuffled)), value)


@pytest.mark.parametrize("name", sorted(AGGREGATIONS))
def test_an_image_without_boxes_carries_its_doubt_and_is_neither_0_nor_1(name):
    value = _value(name, _detections([[], [(0, 0.9, 0)], []], doubt=0.05))
    np.testing.assert_allclose(value[[0, 2]], 0.2864, atol=1e-4)


def test_worked_values_of_every_aggregation():
    d = _detections([[(0, 0.5, 0), (50, 0.9, 0), (90, 0.25, 0)]])
    h = {p: float(entropy(np.array([[p]]))[0]) for p in (0.5, 0.9, 0.25)}
    assert _value("min_confidence", d)[0] == pytest.approx(0.75)
    assert _value("mean_of_n_lowest", d, n_lowest=2)[0] == pytest.approx((h[0.5] + h[0.25]) / 2)
    assert _value("max", d)[0] == pytest.approx(1)
    assert _value("sum", d)[0] == pytest.approx(sum(h.values()), abs=1e-6)
    assert _value("top_m", d, m=2)[0] == pytest.approx(h[0.5] + h[0.25])


def test_a_crowd_of_one_object_counts_once_but_two_classes_count_twice():
    crowd = _detections([[(0, 0.5, 0)] * 30, [(0, 0.5, 0), (0, 0, 0.5)]])
    np.testing.assert_allclose(_value("top_m", crowd), [1, 2])


def test_only_the_best_ten_of_a_real_crowd_count():
    crowd = _detections([[(20.0 * k, 0.5, 0) for k in range(25)]])
    assert _value("top_m", crowd)[0] == pytest.approx(10)


@given(images=st.lists(image, min_size=1, max_size=3), m=st.integers(1, 6))
def test_entropy_nms_equals_the_plain_loop(images, m):
    d = _detections(images)
    utility, wanted = entropy(d.scores), 0.0
    for start, stop in zip(d.offsets[:-1], d.offsets[1:], strict=True):
        kept: list[int] = []
        for k in sorted(range(start, stop), key=lambda k: (-utility[k], d.label[k], *d.boxes[k])):
            rivals = [j for j in kept if d.label[j] == d.label[k] and iou(d.boxes[[j]], d.boxes[[k]])[0, 0] > 0.5]
            kept += [] if rivals or len(kept) == m else [k]
        wanted += sum(utility[k] for k in kept)
    assert top_m(utility, d, np.zeros(len(d)), m).sum() == pytest.approx(wanted)


def test_what_entropy_nms_keeps_is_sorted_and_inside():
    d = _detections([[(0, 0.5, 0), (1, 0.4, 0)], [], [(0, 0, 0.9)]])
    np.testing.assert_array_equal(entropy_nms(entropy(d.scores), d), [0, 2])
