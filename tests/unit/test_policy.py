from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.average_precision import Matches
from common.policy import (
    CLASS_BOXES,
    MAX_ATTEMPTS,
    GateRules,
    Standing,
    Verdict,
    after_loss,
    gate,
    needed,
    should_train,
)

READY = Standing(labels=120, trained=100, changed=20, idle_s=61, block_used=False, asked=False, rounds=1)


def trains(s: Standing) -> bool:
    return should_train(s, min_new=20, pause_s=60).train


def test_enough_labels_and_a_pause_start_a_round() -> None:
    assert trains(READY)


def test_one_label_too_few_waits() -> None:
    decision = should_train(replace(READY, changed=19), min_new=20, pause_s=60)
    assert not decision.train
    assert decision.reason == "19 of 20 new labels"


def test_a_large_set_waits_for_a_tenth_of_itself() -> None:
    assert not trains(replace(READY, trained=500, changed=49))
    assert trains(replace(READY, trained=500, changed=50))


def test_annotators_at_work_are_not_interrupted() -> None:
    assert not trains(replace(READY, idle_s=59))


def test_a_used_up_block_does_not_wait_for_a_pause() -> None:
    assert trains(replace(READY, idle_s=1, block_used=True))


def test_a_person_who_asks_is_heard_at_once_but_not_without_a_label() -> None:
    asked = replace(READY, asked=True, changed=0, idle_s=0)
    assert trains(asked)
    assert not trains(replace(asked, labels=0))


def test_labels_that_were_there_before_connecting_start_round_one() -> None:
    assert trains(replace(READY, rounds=0, trained=0, changed=120, idle_s=None))


def test_a_lost_training_is_resumed_a_bounded_number_of_times() -> None:
    assert [after_loss(n) for n in (1, MAX_ATTEMPTS - 1, MAX_ATTEMPTS)] == [True, True, False]


@given(st.integers(1, 100), st.integers(0, 10**6))
def test_a_block_is_a_tenth_of_the_labels_rounded_up_or_the_setting(min_new: int, labels: int) -> None:
    assert needed(min_new, labels) == max(min_new, (labels + 9) // 10)


RULES = GateRules(images=30, margin=0.02, class_drop=0.05)
NAMES = ("cat", "dog")


def finds(*shares: float, images: int = 48, boxes: int = 1) -> Matches:
    """So many boxes of each class in every image, this share of each class is found, always the same ones."""
    rows = [
        (i, c)
        for i in range(images)
        for c, share in enumerate(shares)
        for k in range(boxes)
        if (i * boxes + k) * 7 % 100 < 100 * share
    ]
    image, label = np.array(rows, np.int64).reshape(-1, 2).T
    found = np.ones((len(rows), 10), bool)
    return Matches(image, label, np.full(len(rows), 0.9), found, np.full((images, len(shares)), boxes, np.int64))


def judged(
    challenger: Matches | None,
    champion: Matches | None,
    rules: GateRules = RULES,
    *,
    first: bool = False,
    wanted: int = 0,
) -> Verdict:
    return gate(challenger, champion, NAMES, rules, np.random.default_rng([0, 1]), first=first, wanted=wanted)


def test_a_better_model_is_promoted_with_its_figures() -> None:
    verdict = judged(finds(0.9, 0.9), finds(0.5, 0.5))
    assert verdict.kind == "promoted"
    assert verdict.reason.startswith("promoted: mAP50-95 .")
    assert " on 48 images: +." in verdict.reason
    assert verdict.serves


def test_a_much_worse_model_is_kept_back_with_its_figures() -> None:
    verdict = judged(finds(0.3, 0.3), finds(0.9, 0.9))
    assert verdict.kind == "kept"
    assert not verdict.serves
    numbers = verdict.numbers
    assert numbers["mean"] == pytest.approx(numbers["map5095"] - numbers["champion"], abs=2e-4)
    assert numbers["low"] < numbers["mean"] < numbers["high"] < 0
    told = f"kept: mAP50-95 {numbers['map5095']:.3f} against the champion's {numbers['champion']:.3f} on 48 images"
    assert verdict.reason.startswith(told.replace(" 0.", " ."))
    assert verdict.reason.endswith("; it is worse on average")


def test_a_model_as_good_as_the_champion_is_promoted() -> None:
    assert judged(finds(0.7, 0.7), finds(0.7, 0.7)).kind == "promoted"


def test_a_model_that_may_be_much_worse_is_kept_back_though_its_mean_is_not() -> None:
    """Each finds what the other misses: no difference on average, a large one with bad luck."""
    odd, even = finds(1.0, 1.0), finds(1.0, 1.0)
    half = [part(m, m.image % 2 == side) for side, m in enumerate((odd, even))]
    verdict = judged(half[0], half[1])
    assert verdict.numbers["mean"] == 0
    assert verdict.kind == "kept"
    assert verdict.reason.endswith("; it may be worse by more than .020")
    assert judged(half[0], half[1], replace(RULES, margin=0.9)).kind == "promoted"


def part(m: Matches, rows: np.ndarray) -> Matches:  # type: ignore[type-arg]
    return Matches(m.image[rows], m.label[rows], m.confidence[rows], m.correct[rows], m.truths)


def test_a_class_that_falls_keeps_a_model_back_only_with_enough_boxes() -> None:
    champion, challenger = finds(0.4, 0.9), finds(1.0, 0.7)
    verdict = judged(challenger, champion)
    assert verdict.numbers["mean"] > 0
    assert verdict.kind == "kept"
    assert "; class dog fell by ." in verdict.reason
    assert verdict.reason.endswith(" on 48 boxes")
    assert judged(challenger, champion, replace(RULES, class_drop=0.5)).kind == "promoted"
    rare = np.zeros((48, 2), np.int64)
    rare[:, 0], rare[: CLASS_BOXES - 1, 1] = 1, 1
    few = [
        replace(part(m, (m.label == 0) | (m.image < CLASS_BOXES - 1)), truths=rare)
        for m in (finds(0.5, 0.9), finds(1.0, 0.5))
    ]
    verdict = judged(few[1], few[0])
    assert list(verdict.numbers["classes"]) == ["cat"]
    assert verdict.kind == "promoted"


def test_under_so_many_images_a_model_is_promoted_provisionally_whatever_was_measured() -> None:
    verdict = judged(finds(0.1, 0.1, images=29), finds(0.9, 0.9, images=29))
    assert verdict.kind == "provisional"
    assert verdict.serves
    assert verdict.reason == "promoted provisionally, not enough data: 29 validation images, 30 are needed"
    assert verdict.numbers["mean"] < 0, "the figures are told all the same"
    assert judged(finds(0.1, 0.1, images=30), finds(0.9, 0.9, images=30)).kind == "kept"


def test_new_weights_that_could_not_be_measured_are_said_and_not_taken_for_a_lack_of_images() -> None:
    verdict = judged(None, finds(0.9, 0.9), wanted=48)
    assert (verdict.kind, verdict.numbers) == ("provisional", {"images": 0})
    assert verdict.reason == ("promoted provisionally: the new model could not be measured on its 48 validation images")


def test_without_images_or_boxes_there_is_nothing_to_compare() -> None:
    nothing = judged(None, None)
    assert (nothing.kind, nothing.numbers) == ("provisional", {"images": 0})
    assert nothing.reason == "promoted provisionally, not enough data: no validation image"
    empty = finds(0.0, 0.0, boxes=0)
    assert (
        judged(empty, empty).reason
        == "promoted provisionally, not enough data: no labelled box in 48 validation images"
    )


def test_the_first_model_that_knows_the_labels_has_nobody_to_beat() -> None:
    assert judged(finds(0.2, 0.2), None, first=True).kind == "promoted"
    assert judged(finds(0.2, 0.2, images=12), None, first=True).kind == "provisional"
    unknown = judged(finds(0.2, 0.2), None)
    assert (unknown.kind, unknown.reason) == (
        "provisional",
        "promoted provisionally: the champion could not be measured",
    )


def test_the_same_seed_gives_the_same_verdict() -> None:
    assert judged(finds(0.6, 0.5), finds(0.5, 0.6)) == judged(finds(0.6, 0.5), finds(0.5, 0.6))
