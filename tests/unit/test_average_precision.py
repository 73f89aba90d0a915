"""Average precision from matches, and differences between models with their luck."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.average_precision import Matches, average_precision, compare, drawn, interval, mean_ap


def made(seed: int, *, images: int = 12, classes: int = 3, boxes: int = 60, right: float = 0.5) -> Matches:
    """Random matches with at most as many right boxes of a class in an image as there are labelled ones."""
    rng = np.random.default_rng(seed)
    truths = np.random.default_rng(0).poisson(1.5, (images, classes))
    image, label = rng.integers(0, images, boxes), rng.integers(0, classes, boxes)
    correct, left = np.zeros((boxes, 10), bool), truths.copy()
    for k in range(boxes):
        if left[image[k], label[k]] and rng.random() < right:
            left[image[k], label[k]] -= 1
            correct[k, : rng.integers(1, 11)] = True
    return Matches(image, label, rng.random(boxes), correct, truths)


def part(m: Matches, rows: np.ndarray) -> Matches:  # type: ignore[type-arg]
    return Matches(m.image[rows], m.label[rows], m.confidence[rows], m.correct[rows], m.truths)


def test_every_box_found_and_nothing_else_is_the_most_that_interpolation_gives() -> None:
    truths = np.array([[1, 0], [0, 2]])
    perfect = Matches(
        np.array([0, 1, 1]), np.array([0, 1, 1]), np.array([0.9, 0.8, 0.7]), np.ones((3, 10), bool), truths
    )
    assert average_precision(perfect)[0] == pytest.approx(np.full((2, 10), 0.995))  # the last recall level is half lost
    assert mean_ap(perfect) == pytest.approx(0.995)


def test_a_class_that_is_not_found_counts_and_one_that_is_not_labelled_does_not() -> None:
    truths = np.array([[1, 1, 0]])
    half = Matches(np.array([0, 0]), np.array([0, 2]), np.array([0.9, 0.8]), np.ones((2, 10), bool), truths)
    assert mean_ap(half) == pytest.approx(0.995 / 2)
    assert np.isnan(average_precision(half)[0, 2]).all()


@given(st.integers(0, 10_000))
def test_an_image_drawn_twice_counts_as_two_images(seed: int) -> None:
    m = made(seed)
    n = len(m.truths)
    draw = drawn(n, np.random.default_rng(seed), 1)
    again = [np.flatnonzero(m.image == i) for i in range(n) for _ in range(draw[0, i])]
    rows = np.concatenate(again)
    copies = np.repeat(np.arange(draw.sum()), [len(a) for a in again])
    twice = Matches(copies, m.label[rows], m.confidence[rows], m.correct[rows], np.repeat(m.truths, draw[0], axis=0))
    assert mean_ap(m, draw) == pytest.approx(mean_ap(twice), abs=0.02, nan_ok=True)  # ties fall otherwise


@given(st.integers(0, 10_000))
def test_values_lie_in_range_and_the_order_of_boxes_does_not_matter(seed: int) -> None:
    m = made(seed)
    values = average_precision(m)
    assert np.nanmin(values) >= 0
    assert np.nanmax(values) <= 1
    mixed = part(m, np.random.default_rng(seed).permutation(len(m.image)))
    assert np.array_equal(average_precision(mixed), values, equal_nan=True)


def test_a_model_does_not_differ_from_itself() -> None:
    same = compare(made(1), made(1), np.random.default_rng(0), 100)
    assert (same.mean, same.low, same.high) == (0, 0, 0)
    assert not same.per_class.any()


def test_a_clearly_better_model_is_better_in_every_bound() -> None:
    found = compare(made(1, right=0.1), made(2, right=0.95), np.random.default_rng(0), 200)
    assert 0 < found.low < found.mean < found.high
    assert found.images == 12
    assert found.boxes.tolist() == made(1).truths.sum(axis=0).tolist()


def test_a_model_without_a_box_is_worth_nothing() -> None:
    none = part(made(1), np.zeros(0, np.int64))
    assert mean_ap(none) == 0
    assert compare(made(1), none, np.random.default_rng(0), 50).high <= 0


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Models of equal skill: the interval of their difference should hold 0 in about 90 of 100 worlds."""
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(60):
        one, other = made(int(rng.integers(1e6)), images=30), made(int(rng.integers(1e6)), images=30)
        found = compare(one, other, rng, 60)
        held += found.low <= 0 <= found.high
    assert held >= 45


def test_other_labels_or_none_are_refused() -> None:
    m, empty = made(1), made(1)
    other = Matches(m.image, m.label, m.confidence, m.correct, m.truths + 1)
    with pytest.raises(ValueError, match="the same images and labels"):
        compare(m, other, np.random.default_rng(0))
    nothing = Matches(empty.image, empty.label, empty.confidence, empty.correct, empty.truths * 0)
    with pytest.raises(ValueError, match="no labelled box"):
        compare(nothing, nothing, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"image must lie in 0\.\.11"):
        Matches(m.image + 12, m.label, m.confidence, m.correct, m.truths)


def test_an_interval_of_nothing_is_nothing() -> None:
    assert interval(np.array([np.nan])) == (0.0, 0.0)
