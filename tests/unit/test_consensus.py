from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from common.consensus import training_label
from common.domain import Annotation, LabelledBox

START = datetime(2026, 1, 1, tzinfo=UTC)


def box(x: float = 0.1, name: str = "cat") -> LabelledBox:
    return LabelledBox(name, (x, 0.1, x + 0.3, 0.5))


def answer(minute: int, *boxes: LabelledBox, person: str = "", **values: Any) -> Annotation:
    return Annotation(
        str(minute), "7", START + timedelta(minutes=minute), person or f"p{minute}", boxes=boxes, **values
    )


def test_nobody_answered_so_nothing_trains() -> None:
    assert training_label([]) is None


def test_a_skip_never_trains() -> None:
    assert training_label([answer(1, skipped=True)]) is None


def test_an_empty_answer_is_a_true_negative() -> None:
    label = training_label([answer(1)])
    assert label is not None
    assert label.boxes == ()
    assert label.review == ""


def test_the_newest_ground_truth_wins_over_later_answers() -> None:
    old, new = answer(1, box(0.1), ground_truth=True), answer(2, box(0.2), ground_truth=True)
    label = training_label([new, old, answer(3, box(0.6))])
    assert label is not None
    assert label.boxes == (box(0.2),)


def test_a_converted_prediction_trains_only_where_it_is_trusted() -> None:
    made = answer(1, box(), converted=True, ground_truth=True)
    assert training_label([made]) is None
    trusted = training_label([made], trust_converted=True)
    assert trusted is not None
    assert trusted.boxes == (box(),)


def test_one_person_who_answered_twice_counts_once_with_the_later() -> None:
    label = training_label([answer(1, box(0.1), person="ann"), answer(2, box(0.6), person="ann")])
    assert label is not None
    assert label.boxes == (box(0.6),)
    assert label.review == ""


def test_of_two_who_disagree_the_later_counts_and_the_image_is_for_review() -> None:
    label = training_label([answer(2, box(0.6)), answer(1, box(0.1))])
    assert label is not None
    assert label.boxes == (box(0.6),)
    assert "disagree" in label.review


def test_of_two_who_agree_nothing_is_for_review() -> None:
    label = training_label([answer(1, box(0.10)), answer(2, box(0.11))])
    assert label is not None
    assert label.review == ""


def test_of_three_the_boxes_that_two_drew_stay() -> None:
    label = training_label([answer(1, box(0.1)), answer(2, box(0.12), box(0.6)), answer(3, box(0.11))])
    assert label is not None
    assert label.boxes == (box(0.11),)


def test_a_swapped_class_is_not_the_same_box() -> None:
    three = [answer(1, box(name="cat")), answer(2, box(name="dog")), answer(3, box(name="bird"))]
    label = training_label(three)
    assert label is not None
    assert label.boxes == ()


@given(st.permutations([answer(1, box(0.1)), answer(2, box(0.12)), answer(3, box(0.6)), answer(4, box(0.11))]))
def test_the_order_in_which_answers_are_listed_does_not_matter(answers: list[Annotation]) -> None:
    label = training_label(answers)
    assert label is not None
    assert label.boxes == (box(0.11),)


@given(st.lists(st.floats(0.0, 0.6), min_size=1, max_size=4), st.integers(3, 6))
def test_when_everybody_draws_the_same_all_of_it_stays(places: list[float], people: int) -> None:
    boxes = [box(x) for x in places]
    label = training_label([answer(m, *boxes) for m in range(people)])
    assert label is not None
    assert sorted(b.xyxy for b in label.boxes) == sorted(b.xyxy for b in boxes)
