"""Average precision from matches, and differences between models with their luck."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.integrate import trapezoid

from common import average_precision as module
from common.average_precision import (
    RECALLS,
    Matches,
    Values,
    average_precision,
    compare,
    drawn,
    figures,
    interval,
    mean_ap,
)


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


def plainly(found: Matches, draws: NDArray[np.int64]) -> Values:
    """``average_precision`` draw by draw, class by class and threshold by threshold."""
    out = np.full((len(draws), found.truths.shape[1], found.correct.shape[1]), np.nan)
    order = np.argsort(-found.confidence, kind="stable")
    for c in found.classes:
        rows = order[found.label[order] == c]
        wanted = draws @ found.truths[:, c]
        for r in np.flatnonzero(wanted):
            out[r, c] = one(found.correct[rows], draws[r, found.image[rows]], int(wanted[r]))
    return out


def one(correct: NDArray[np.bool_], times: NDArray[np.int64], wanted: int) -> Values:
    """AP at each threshold of boxes in falling confidence, each there so many times."""
    correct, times = correct[times > 0], times[times > 0]
    out = np.zeros(correct.shape[1])
    if not len(times):
        return out
    right = np.cumsum(correct * times[:, None], axis=0)
    precision = right / np.cumsum(times)[:, None]
    recall = right / wanted
    for t in range(correct.shape[1]):
        at = np.concatenate([[0.0], recall[:, t], [recall[-1, t], 1.0]])
        best = np.maximum.accumulate(np.concatenate([[1.0], precision[:, t], [0.0, 0.0]])[::-1])[::-1]
        out[t] = trapezoid(np.interp(RECALLS, at, best), RECALLS)
    return out


@st.composite
def cases(draw: st.DrawFn) -> tuple[Matches, NDArray[np.int64]]:
    """Ties, classes that no image or no draw has, classes without boxes, thresholds nothing passes, empty draws."""
    n, classes, levels = (draw(st.integers(1, end)) for end in (6, 4, 3))
    boxes, sure, most = draw(st.integers(0, 60)), draw(st.integers(1, 50)), draw(st.sampled_from([1, 3, 40]))
    rng = np.random.default_rng(draw(st.integers(0, 1_000_000)))
    truths = rng.integers(0, most, (n, classes), endpoint=True) * (rng.random((n, classes)) < rng.random())
    image, label = rng.integers(0, n, boxes), rng.integers(0, rng.integers(1, classes, endpoint=True), boxes)
    correct = rng.random((boxes, levels)) < rng.random(levels)
    for k in range(boxes):
        earlier = (image[:k] == image[k]) & (label[:k] == label[k])
        correct[k] &= correct[:k][earlier].sum(axis=0) < truths[image[k], label[k]]
    draws = rng.poisson(draw(st.sampled_from([0.3, 1, 5])), (draw(st.integers(0, 9)), n))
    return Matches(image, label, rng.integers(0, sure, boxes) / sure, correct, truths), draws


@settings(max_examples=300)
@given(cases(), st.sampled_from([1, 40, module.CHUNK]))
def test_all_draws_at_once_give_what_one_after_the_other_gives(
    case: tuple[Matches, NDArray[np.int64]], chunk: int
) -> None:
    found, draws = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK", chunk)
        values = average_precision(found, draws)
    wanted = plainly(found, draws)
    assert values.shape == wanted.shape
    np.testing.assert_allclose(values, wanted, rtol=0, atol=1e-12)
    np.testing.assert_allclose(average_precision(found), plainly(found, np.ones((1, len(found.truths)), np.int64)))


@pytest.mark.parametrize("wanted", [100, 300, 7, 1])
def test_a_recall_that_is_a_level_is_told_from_one_beside_it(wanted: int) -> None:
    """Precision jumps at a right box: the level must fall on the same side as with ``np.interp``."""
    image, label = np.zeros(2 * wanted, np.int64), np.zeros(2 * wanted, np.int64)
    correct = (np.arange(2 * wanted) % 2 == 1)[:, None]
    found = Matches(image, label, -np.arange(2.0 * wanted), correct, np.array([[wanted]]))
    draws = np.array([[1], [3], [7]])
    np.testing.assert_allclose(average_precision(found, draws), plainly(found, draws), rtol=0, atol=1e-12)


def test_a_thousand_draws_of_eighty_classes_take_a_moment() -> None:
    """0.1 s on one core; draw by draw 10 s."""
    found = made(1, images=100, classes=80, boxes=3000)
    draws = drawn(100, np.random.default_rng(0), 1000)
    mean_ap(found)
    started = time.process_time()
    mean_ap(found, draws)
    assert time.process_time() - started < 1


def test_memory_does_not_grow_with_boxes_times_draws() -> None:
    """One table of all right boxes by all draws would be 24 MB."""
    image = np.random.default_rng(0).permutation(np.repeat(np.arange(300), 20))
    every_other = (np.arange(6000) % 2 == 0)[:, None]
    found = Matches(image, np.zeros(6000, np.int64), -np.arange(6000.0), every_other, np.full((300, 1), 20))
    draws = drawn(300, np.random.default_rng(0), 1000)
    mean_ap(found)
    tracemalloc.start()
    try:
        mean_ap(found, draws)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 20e6


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


def test_figures_name_the_labelled_classes_and_only_those() -> None:
    some = Matches(
        np.array([0, 0]), np.array([0, 2]), np.array([0.9, 0.8]), np.ones((2, 10), bool), np.array([[1, 2, 0]])
    )
    assert figures(some, ["cat", "dog", "cow"]) == pytest.approx(
        {"map50": 0.4975, "map5095": 0.4975, "ap50/cat": 0.995, "ap5095/cat": 0.995, "ap50/dog": 0, "ap5095/dog": 0}
    )


def test_a_set_without_one_labelled_box_is_worth_zero() -> None:
    m = made(1)
    nothing = Matches(m.image, m.label, m.confidence, np.zeros_like(m.correct), m.truths * 0)
    assert figures(nothing, ["cat", "dog", "cow"]) == {"map50": 0, "map5095": 0}
