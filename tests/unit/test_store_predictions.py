"""Predictions in the store: they come back as they were, also those that an older version packed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.domain import Instances, Prediction
from common.store import Store
from common.store.predictions import pack, unpack
from tests.unit.store_project import store_fixture  # noqa: F401 - a fixture


@settings(max_examples=25, deadline=None)
@given(boxes=st.integers(0, 5), classes=st.integers(1, 4), seed=st.integers(0, 100))
def test_a_prediction_comes_back_as_it_was(boxes: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 500, (boxes, 4)).astype(np.float32)
    scores = rng.uniform(0, 1, (boxes, classes)).astype(np.float32)
    spread = rng.uniform(0, 1, boxes).astype(np.float32)
    embedding = rng.normal(size=7).astype(np.float32)
    doubt, change = rng.uniform(0, 0.05, classes).astype(np.float32), rng.uniform(0, 9, classes).astype(np.float32)
    made = Prediction(Instances(corners, scores), embedding, doubt, change, spread, 640, 480)
    back = unpack(pack(made))
    assert np.array_equal(back.instances.boxes, corners)
    assert np.allclose(back.instances.scores, scores, atol=1e-3)
    assert np.allclose(back.embedding, embedding, rtol=1e-3)
    assert np.allclose(back.doubt, doubt, rtol=1e-3)
    assert equal(back.model_change, change)
    assert (back.width, back.height) == (640, 480)


def bare(boxes: int = 3, classes: int = 2) -> Prediction:
    scores = np.linspace(0.25, 0.75, boxes * classes, dtype=np.float32).reshape(boxes, classes)
    corners = np.arange(4 * boxes, dtype=np.float32).reshape(boxes, 4)
    each, spread = np.zeros(classes, np.float32), np.zeros(boxes, np.float32)
    return Prediction(Instances(corners, scores), np.ones(5, np.float32), each, each, spread, 4, 3)


@settings(max_examples=40, deadline=None)
@given(
    boxes=st.integers(0, 4),
    classes=st.integers(1, 3),
    members=st.integers(-1, 3),
    flip=st.booleans(),
    geometry=st.sampled_from(["", "rotated", "polygons", "keypoints"]),
    seed=st.integers(0, 100),
)
def test_second_looks_and_geometry_come_back_as_they_were(
    boxes: int, classes: int, members: int, flip: bool, geometry: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)

    def numbers(*shape: int) -> np.ndarray:
        return rng.uniform(0, 1, shape).astype(np.float16).astype(np.float32)

    shapes = {
        "": {},
        "rotated": {"rotated": numbers(boxes, 5)},
        "polygons": {"polygons": tuple(numbers(int(rng.integers(0, 6)), 2) for _ in range(boxes))},
        "keypoints": {"keypoints": numbers(boxes, 4, 3)},
    }
    plain = bare(boxes, classes)
    made = replace(
        plain,
        instances=replace(plain.instances, **shapes[geometry]),
        flip_iou=numbers(boxes) if flip else None,
        flip_scores=numbers(boxes, classes) if flip else None,
        committee=numbers(members, boxes, classes) if members >= 0 else None,
    )
    back = unpack(pack(made))
    for name in ("flip_iou", "flip_scores", "committee"):
        assert equal(getattr(back, name), getattr(made, name))
    for name in ("boxes", "rotated", "keypoints"):
        assert equal(getattr(back.instances, name), getattr(made.instances, name))
    assert (back.instances.polygons is None) == (made.instances.polygons is None)
    pairs = zip(back.instances.polygons or (), made.instances.polygons or (), strict=True)
    assert all(equal(a, b) for a, b in pairs)


def equal(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    return one is other if one is None or other is None else np.array_equal(one, other)


def test_a_prediction_without_second_looks_takes_no_room_for_them() -> None:
    n, classes, depth = 3, 2, 5
    assert len(pack(bare(n, classes))) == 6 * 8 + n * 4 * 4 + n * classes * 2 + n * 4 + depth * 2 + classes * 6


@pytest.mark.parametrize("doubt", [0.0, 0.05, np.nan])
def test_a_prediction_from_before_doubt_and_gradient_were_per_class_is_read_with_both_shared_out(doubt: float) -> None:
    seen = replace(bare(), flip_iou=np.ones(3, np.float32), flip_scores=np.ones((3, 2), np.float32))
    now = pack(seen)
    start = len(pack(bare())) - 2 * 6
    head = np.array([doubt, 1.5, 4, 3, 3, 2, 5], "<f8").tobytes()
    old = unpack(head + now[6 * 8 : start] + now[start + 2 * 6 :])
    np.testing.assert_array_equal(old.doubt, np.full(2, doubt, np.float32))
    assert np.linalg.norm(old.model_change) == pytest.approx(1.5)
    assert (old.width, old.height) == (4, 3)
    for name in ("embedding", "disagreement", "flip_iou", "flip_scores"):
        assert equal(getattr(old, name), getattr(seen, name))
    assert equal(old.instances.boxes, seen.instances.boxes)


def test_predictions_with_other_looks_stand_beside_each_other(store: Store) -> None:
    looked = replace(bare(), flip_iou=np.ones(3, np.float32), flip_scores=np.ones((3, 2), np.float32))
    store.predictions.put("a" * 64, 320, [("i" * 64, bare())])
    store.predictions.put("a" * 64, 320, [("i" * 64, looked)], "flip")
    assert store.predictions.get("a" * 64, 320, ["i" * 64])["i" * 64].flip_iou is None
    assert store.predictions.get("a" * 64, 320, ["i" * 64], "flip")["i" * 64].flip_iou is not None
    assert store.predictions.have("a" * 64, 320, "half") == set()
    assert store.predictions.forget(["b" * 64]) == 0
    assert store.predictions.forget(["a" * 64]) == 2
    assert store.predictions.have("a" * 64, 320, "flip") == set()


def test_boxes_are_found_whatever_was_asked_besides_and_of_the_wanted_size_where_there_are_some(store: Store) -> None:
    small, large = bare(1), bare(2)
    store.predictions.put("a" * 64, 320, [("i" * 64, small), ("j" * 64, small)], "flip")
    store.predictions.put("a" * 64, 640, [("i" * 64, large)])
    found = store.predictions.boxes("a" * 64, 640, ["i" * 64, "j" * 64, "k" * 64])
    assert {image: len(p.instances) for image, p in found.items()} == {"i" * 64: 2, "j" * 64: 1}
    store.predictions.forget()
