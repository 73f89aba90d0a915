"""The order of jobs, from the places of their frames."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvat_adapter.nouns import Job, sample_id
from cvat_adapter.ranking import AGGREGATES, aggregate, rank, samples_of

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def job(number: int, start: int, stop: int, task: int = 1) -> Job:
    return Job(number, task, start, stop, "new", "annotation", None, NOON)


def orders(*values: float, task: int = 1) -> dict[str, float]:
    """Places of frames 0, 1, 2 ..., in this order."""
    return {sample_id(task, frame): value for frame, value in enumerate(values)}


def ids(found: list) -> list[int]:
    return [offer.job.id for offer in found]


def test_a_job_is_worth_its_best_frame() -> None:
    found = rank([job(1, 0, 1), job(2, 2, 3)], orders(0.3, 0.9, 0.1, 0.8))
    assert [(o.job.id, round(o.value, 6), o.sample) for o in found] == [(2, 0.9, "1:2"), (1, 0.7, "1:0")]


def test_the_mean_of_the_best_three_leaves_the_fourth_out() -> None:
    found = rank([job(1, 0, 3), job(2, 4, 6)], orders(0, 0.5, 0.6, 1, 0.3, 0.3, 0.3), how="top3")
    assert [(o.job.id, round(o.value, 4)) for o in found] == [(2, 0.7), (1, 0.6333)]


def test_the_mean_of_the_best_three_of_two_is_their_mean() -> None:
    assert aggregate([0.2, 0.4], "top3") == pytest.approx(0.3)


def test_the_reason_says_where_the_best_frame_stands() -> None:
    [found] = rank([job(7, 1, 2)], orders(0.0, 0.7, 0.2, 0.9))
    assert found.reason == "best frame 2 has rank 2 of 4; 2 frames have a place"
    [alone] = rank([job(7, 1, 1)], orders(0.0, 0.7))
    assert alone.reason == "best frame 1 has rank 2 of 2"


def test_jobs_without_a_place_come_last_by_id() -> None:
    found = rank([job(9, 8, 9), job(3, 6, 7), job(5, 0, 0)], orders(1.0))
    assert ids(found) == [5, 3, 9]
    assert found[0].value == found[1].value == 0
    assert found[1].sample == "1:6"
    assert found[1].reason == "no frame has a place"


def test_equal_jobs_come_by_id() -> None:
    assert ids(rank([job(4, 1, 1), job(2, 0, 0)], orders(0.5, 0.5))) == [2, 4]


def test_answered_frames_do_not_count() -> None:
    found = rank([job(1, 0, 1), job(2, 2, 2)], orders(0.0, 0.8, 0.4), without=["1:0"])
    assert [(o.job.id, o.sample) for o in found] == [(2, "1:2"), (1, "1:1")]
    assert found[0].reason == "best frame 2 has rank 2 of 3"


def test_frames_of_another_task_are_other_frames() -> None:
    assert ids(rank([job(1, 0, 0), job(2, 0, 0, task=2)], orders(0.1, task=2))) == [2, 1]


places = st.dictionaries(
    st.tuples(st.integers(1, 3), st.integers(0, 30)).map(lambda p: sample_id(*p)), st.floats(0, 1), max_size=60
)
pool = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 30), st.integers(0, 5)), max_size=20).map(
    lambda rows: [job(n, start, start + length, task) for n, (task, start, length) in enumerate(rows, start=1)]
)


@given(pool, places, st.sampled_from(sorted(AGGREGATES)), st.randoms())
def test_the_order_is_total_and_does_not_depend_on_how_the_jobs_came(jobs, places, how, random) -> None:
    found = rank(jobs, places, how=how)
    shuffled = list(jobs)
    random.shuffle(shuffled)
    assert ids(rank(shuffled, places, how=how)) == ids(found)
    assert sorted(ids(found)) == sorted(j.id for j in jobs)
    keys = [(not any(s in places for s in samples_of(o.job)), -o.value, o.job.id) for o in found]
    assert keys == sorted(keys)
    assert all(0 <= o.value <= 1 for o in found)


@given(pool, places)
def test_the_first_job_holds_the_best_frame_that_any_job_has(jobs, places) -> None:
    held = [s for j in jobs for s in samples_of(j) if s in places]
    if held:
        assert rank(jobs, places)[0].value == 1 - min(places[s] for s in held)


@given(pool, places, st.sampled_from(sorted(AGGREGATES)))
def test_leaving_samples_out_is_the_same_as_their_having_no_place(jobs, places, how) -> None:
    out = set(sorted(places)[::2])
    left = {s: order for s, order in places.items() if s not in out}
    assert ids(rank(jobs, places, without=out, how=how)) == ids(rank(jobs, left, how=how))


@given(st.lists(st.floats(0, 1), min_size=1))
def test_the_mean_of_the_best_three_lies_between_the_mean_and_the_best(values) -> None:
    three, best, mean = aggregate(values, "top3"), aggregate(values), sum(values) / len(values)
    assert mean - 1e-9 <= three <= best + 1e-9
