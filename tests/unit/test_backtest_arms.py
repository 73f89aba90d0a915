"""Arms as people write them on the command line."""

from __future__ import annotations

import pytest

from common.errors import SettingError, UnknownNameError
from common.experiments.backtest.arms import AA, Arm, is_uniform, parse


def test_uniform_is_the_first_arm_whether_it_is_named_or_not() -> None:
    assert [a.label for a in parse("hybrid,core_set")] == ["uniform", "hybrid", "core_set"]
    assert [a.label for a in parse("hybrid,uniform")] == ["uniform", "hybrid"]


def test_repeats_of_uniform_and_the_aa_arm_come_before_the_others() -> None:
    labels = [a.label for a in parse("hybrid", aa=True, repeats=3)]
    assert labels == ["uniform", "uniform #2", "uniform #3", AA, "hybrid"]
    assert [is_uniform(label) for label in labels] == [True, True, True, False, False]


def test_options_have_the_types_of_the_strategy() -> None:
    arm = parse("additive:deduplicate=true:clusters=8:alpha=1:aggregation=sum")[1]
    assert arm.options == {"deduplicate": True, "clusters": 8, "alpha": 1.0, "aggregation": "sum"}
    assert [type(v) for v in arm.options.values()] == [bool, int, float, str]
    assert arm.label == "additive:deduplicate=true:clusters=8:alpha=1:aggregation=sum"


def test_an_arm_may_be_called_something_shorter() -> None:
    assert parse("screened=additive:guard=yes")[1] == Arm("screened", "additive", {"guard": True})
    assert parse("late uniform=uniform:deduplicate=true")[1].label == "late uniform"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("hibrid", r"no strategy 'hibrid'; there are \['additive', 'core_set', 'hybrid'"),
        ("x=hibrid", "no strategy 'hibrid'"),
        ("top_utility:acquisition=entropi", "there are .*'entropy'"),
        ("top_utility:aggregation=most", "there are .*'max'"),
    ],
)
def test_a_wrong_name_lists_the_right_ones(text: str, wanted: str) -> None:
    with pytest.raises(UnknownNameError, match=wanted):
        parse(text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("hybrid:speed=1", "'hybrid' has no option 'speed'; there are .*'typicality'"),
        ("hybrid:flip=perhaps", "option flip of strategy 'hybrid' is 'perhaps', but it takes true or false"),
        ("hybrid:top=many", "option top of strategy 'hybrid' is 'many', but it takes a whole number"),
        ("hybrid:nms=", "option nms of strategy 'hybrid' is '', but it takes a number"),
        ("hybrid:regime=hot", "regime is 'hot'"),
        ("additive:alpha=-1", "alpha is -1.0: a finite number, 0 or more, is allowed"),
        ("hybrid,hybrid", "two arms called 'hybrid'"),
        ("uniform=hybrid", "two arms called 'uniform'"),
        ("top_utility:acquisition=consistency", "arm 'top_utility:acquisition=consistency'.*consistency"),
    ],
)
def test_what_an_arm_cannot_be_is_one_sentence_before_anything_is_trained(text: str, wanted: str) -> None:
    with pytest.raises(SettingError, match=wanted):
        parse(text)


def test_no_repeat_is_no_baseline() -> None:
    with pytest.raises(SettingError, match="--uniform-repeats is 0"):
        parse("hybrid", repeats=0)


def test_a_strategy_that_needs_another_view_is_fine_where_there_is_one() -> None:
    arms = parse("top_utility:acquisition=consistency,v=top_utility:acquisition=vote_entropy", views=("flip",))
    assert len(arms) == 3


def test_an_option_that_may_be_left_out_is_a_number_when_it_is_given() -> None:
    assert parse("stream:level=.3")[1].options == {"level": 0.3}
