from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from common.policy import MAX_ATTEMPTS, Standing, after_loss, needed, should_train

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
def test_the_block_never_shrinks_below_the_setting_nor_below_a_tenth(min_new: int, labels: int) -> None:
    assert needed(min_new, labels) >= min_new
    assert needed(min_new, labels) >= labels // 10
