"""What an annotator would have found by now."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.domain import LabelledBox
from common.sample.replay import curve, mean, rare_classes, tally, uniform_orders


def _boxes(*names: str) -> list[LabelledBox]:
    return [LabelledBox(name, (0.1, 0.1, 0.2, 0.2)) for name in names]


TRUTH = {
    "a": _boxes("gear", "gear", "crack"),
    "b": _boxes("gear", "bolt", "bolt"),
    "c": _boxes(),
    "d": _boxes("crack", "dent", "bolt"),
}


def test_a_tally_counts_labels_boxes_and_rare_instances() -> None:
    found = tally(["d", "c", "a"], TRUTH, ["crack", "dent"])
    assert (found.labels, found.boxes, found.rare, found.rare_images, found.empty) == (3, 6, 3, 2, 1)
    assert found.by_class == {"crack": 2, "dent": 1, "bolt": 1, "gear": 2}


def test_an_image_that_is_served_twice_counts_once() -> None:
    assert tally(["a", "a", "b"], TRUTH, ["crack"]) == tally(["a", "b"], TRUTH, ["crack"])


def test_only_the_first_images_count() -> None:
    assert [t.rare for t in curve(["b", "a", "d"], TRUTH, ["crack", "dent"], at=[0, 1, 2, 3])] == [0, 0, 1, 3]


def test_an_image_without_truth_is_an_error() -> None:
    with pytest.raises(KeyError, match="nowhere"):
        tally(["nowhere"], TRUTH, ["crack"])


def test_the_two_rarest_classes_come_rarest_first() -> None:
    assert rare_classes(TRUTH) == ("dent", "crack")
    assert rare_classes(TRUTH.values()) == ("dent", "crack")


def test_equally_rare_classes_come_by_name_and_one_common_class_stays() -> None:
    assert rare_classes([_boxes("b", "a", "c")]) == ("a", "b")
    assert rare_classes([_boxes("b", "a")]) == ("a",)
    assert rare_classes([_boxes("a")]) == ("a",)
    assert rare_classes([_boxes()]) == ()


@given(st.permutations(sorted(TRUTH)))
def test_whatever_the_order_all_images_hold_the_same(order: list[str]) -> None:
    assert tally(order, TRUTH, ["crack"]) == tally(sorted(TRUTH), TRUTH, ["crack"])


def test_uniform_orders_are_permutations_that_depend_on_the_seed_only() -> None:
    one, two = uniform_orders("abcdefgh", seeds=[0, 1])
    assert sorted(one) == sorted(two) == list("abcdefgh")
    assert one != two
    assert uniform_orders("hgfedcba", seeds=[0, 1]) == [one, two]


def test_the_mean_of_replays_is_taken_field_by_field() -> None:
    middle = mean([tally(["a"], TRUTH, ["crack"]), tally(["b"], TRUTH, ["crack"]), tally(["d"], TRUTH, ["crack"])])
    assert (middle.labels, middle.boxes) == pytest.approx((1, 3))
    assert (middle.rare, middle.rare_images) == pytest.approx((2 / 3, 2 / 3))
    with pytest.raises(ValueError, match="at least one"):
        mean([])
