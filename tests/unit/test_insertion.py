from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.strategies.insertion import Queue, Seat, between, few, look_alikes, ranks, seats
from common.strategies.pool import Pool, Values


def make_pool(utility: list[float], **changes: object) -> Pool:
    """A pool of these utilities, nothing labelled, no slice, no near-duplicates."""
    return replace(Pool.from_embeddings(np.ones((len(utility), 2)), utility=np.array(utility)), **changes)


def useful(pool: Pool) -> Values:
    assert pool.utility is not None
    return pool.utility


def make_queue(
    rows: list[int], place: list[float] | None = None, ranked: list[int] = (), passed: list[int] = ()
) -> Queue:  # type: ignore[assignment]
    q = len(rows)
    places = [(i + 1) / (q + 1) for i in range(q)] if place is None else place
    said = np.array(passed or [-1] * q, np.int64)
    return Queue(np.array(places), np.array(rows, np.int64), np.isin(rows, ranked), said)


def stands(queue: Queue, seated: list[Seat]) -> list[int]:
    """Rows of the queue with the new ones in their places, best first."""
    places = between(queue.place, seated)
    assert places is not None
    everything = [
        *zip(queue.place, queue.row.tolist(), strict=True),
        *zip(places, [s.row for s in seated], strict=True),
    ]
    return [row for _, row in sorted(everything)]


def ask(pool: Pool, queue: Queue, new: list[int]) -> list[int]:
    """With near-duplicates behind."""
    rows = np.array(new, np.int64)
    alike = look_alikes(pool.group, rows, ranks(useful(pool)))
    return stands(queue, seats(pool, queue, rows, useful(pool), behind=alike))


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_a_more_useful_image_never_lies_behind_a_less_useful_one_that_was_inserted(data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 12))
    total = count + 12
    utility = [float(v) for v in data.draw(st.permutations(range(total)))]
    row, place, ranked = list(range(count)), [(i + 1) / (count + 1) for i in range(count)], set[int]()
    arrived = count
    while arrived < total:
        size = data.draw(st.integers(1, 4))
        new = list(range(arrived, min(arrived + size, total)))
        arrived += size
        for left in data.draw(st.lists(st.integers(0, max(0, len(row) - 1)), max_size=4)):
            if row:  # annotators label whatever stands first, and others open a task by hand
                row[left] = -1
        labelled = np.array([i < new[0] and i not in row for i in range(total)])
        pool = make_pool(utility, labelled=labelled, readable=np.arange(total) <= new[-1])
        queue = make_queue(row, place, list(ranked))
        seated = seats(pool, queue, np.array(new), useful(pool))
        found = between(queue.place, seated)
        assert found is not None
        merged = sorted([*zip(place, row, strict=True), *zip(found.tolist(), [s.row for s in seated], strict=True)])
        place, row = [p for p, _ in merged], [r for _, r in merged]
        ranked |= set(new)
        falling = [utility[r] for r in row if r in ranked]
        assert falling == sorted(falling, reverse=True)


@given(st.permutations(range(15)), st.integers(1, 14))
def test_as_many_open_places_lie_before_it_as_there_are_more_useful_open_images(order: list[int], new: int) -> None:
    utility = [float(v) for v in order]
    queued = [i for i in range(15) if i != new]
    seated = ask(make_pool(utility), make_queue(queued), [new])
    assert seated.index(new) == sum(u > utility[new] for u in utility)


def test_answered_places_do_not_count() -> None:
    pool = make_pool([0.1, 0.9, 0.5, 0.7], labelled=np.array([False, True, False, False]))
    assert ask(pool, make_queue([-1, 2, 0]), [3]) == [-1, 3, 2, 0]


def test_of_equally_useful_images_the_newer_stands_behind() -> None:
    assert ask(make_pool([0.5, 0.5, 0.5]), make_queue([0, 1]), [2]) == [0, 1, 2]


def test_a_near_duplicate_of_a_queued_or_labelled_image_stands_behind_everything_readable() -> None:
    group = np.array([0, -1, 0, 3, 3, -1])
    labelled = np.array([False, False, False, True, False, False])
    readable = np.array([True, True, True, True, True, False])
    pool = make_pool([0.1, 0.2, 0.9, 0.3, 0.8, 0], group=group, labelled=labelled, readable=readable)
    queue = make_queue([1, 0, 5])
    assert ask(pool, queue, [2, 4]) == [1, 0, 2, 4, 5]
    assert stands(queue, seats(pool, queue, np.array([2, 4]), useful(pool))) == [2, 4, 1, 0, 5]


def test_of_new_near_duplicates_the_most_useful_races_and_the_others_wait() -> None:
    pool = make_pool([0.5, 0.7, 0.9, 0.8], group=np.array([-1, 1, 1, 1]))
    assert ask(pool, make_queue([0]), [1, 2, 3]) == [2, 0, 1, 3]
    assert look_alikes(pool.group, np.array([1, 2, 3]), ranks(useful(pool))).tolist() == [True, False, True]


def test_an_unreadable_image_stands_at_the_very_end() -> None:
    readable = np.array([True, False, False, True])
    pool = make_pool([0.1, 0, 0, 0.05], readable=readable)
    assert ask(pool, make_queue([0, 1]), [2, 3]) == [0, 3, 1, 2]


@given(st.lists(st.floats(0, 1), min_size=6, max_size=6))
def test_a_member_of_the_random_slice_stands_by_its_hash_whatever_its_utility(utility: list[float]) -> None:
    hashes = np.array([0.02, 0.5, 0.08, 0.6, 0.05, 0.09])
    pool = make_pool(utility, slice_hash=hashes)
    seated = ask(pool, make_queue([1, 0, 3, 2]), [4, 5])
    assert seated == [1, 0, 3, 4, 2, 5]


def test_what_the_running_quantile_lets_through_follows_the_others_and_the_rest_is_kept_behind() -> None:
    pool = make_pool([0.9, 0.1, 0.8, 0.2, 0.7, 0.99])
    passed = np.array([False, False, True, False, True, False])
    queue = make_queue([0, 1], passed=[1, 0])
    seated = seats(pool, queue, np.array([2, 3, 4, 5]), useful(pool), passed=passed)
    assert stands(queue, seated) == [0, 2, 4, 1, 3, 5]


def test_without_an_image_that_was_let_through_the_first_goes_before_those_kept_aside() -> None:
    pool = make_pool([0.1, 0.2, 0.9])
    queue = make_queue([0, 1], passed=[0, 0])
    seated = seats(pool, queue, np.array([2]), useful(pool), passed=np.array([False, False, True]))
    assert stands(queue, seated) == [2, 0, 1]


def test_an_empty_queue_takes_images_in() -> None:
    assert ask(make_pool([0.1, 0.9]), make_queue([]), [0, 1]) == [1, 0]
    labelled = make_pool([0.5, 0.1, 0.9], labelled=np.array([True, False, False]))
    assert ask(labelled, make_queue([-1]), [1, 2]) == [-1, 2, 1]


@given(
    st.lists(st.floats(0.001, 0.999), unique=True, max_size=20).map(sorted),
    st.lists(st.tuples(st.integers(0, 20), st.sampled_from(["utility", "slice", "behind", "queued"])), min_size=1),
)
def test_places_rise_strictly_inside_0_and_1_or_there_are_none(
    place: list[float], wanted: list[tuple[int, str]]
) -> None:
    seated = [Seat(i, min(gap, len(place)), how) for i, (gap, how) in enumerate(sorted(wanted))]
    found = between(np.array(place), seated)
    edges = np.array([0.0, *place, 1.0])
    if found is None:
        assert np.diff(edges).min() < 1e-7
        return
    assert (np.diff(np.sort(np.concatenate([edges, found]))) > 0).all()
    assert (np.diff(found) > 0).all()
    gaps = np.searchsorted(place, found)
    assert gaps.tolist() == [s.gap for s in seated]


def fill(place: Values, how: str, gap: int, most: int) -> int:
    """How many images fit in, one after the other, each behind the one before where they gather, else in front."""
    for done in range(most):
        at = gap + done if how == "behind" else gap
        found = between(place, [Seat(0, at, how)])
        if found is None:
            return done
        place = np.insert(place, at, found)
        assert (np.diff(place) > 0).all()
    return most


def test_when_places_get_too_close_a_new_order_is_asked_for() -> None:
    place = np.arange(1, 10_001) / 10_001
    assert 20 < fill(place, "utility", 5000, 100) < 40


def test_images_that_gather_at_the_end_find_room_by_the_thousand() -> None:
    place = np.arange(1, 10_001) / 10_001
    assert fill(place, "behind", 10_000, 3000) == 3000


@pytest.mark.parametrize(
    ("new", "places", "inserted"), [(50, 0, True), (51, 0, False), (100, 1000, True), (101, 1000, False)]
)
def test_few_is_at_most_50_or_a_tenth_of_the_open_places(new: int, places: int, inserted: bool) -> None:
    assert few(new, places) is inserted


def test_a_queue_that_is_out_of_order_is_refused() -> None:
    with pytest.raises(ValueError, match="place must rise strictly"):
        make_queue([0, 1], [0.5, 0.5])
    with pytest.raises(ValueError, match=r"passed must have shape \(1,\), got \(2,\)"):
        make_queue([0], passed=[1, 0])
