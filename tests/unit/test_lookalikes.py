"""Near-duplicate groups of a pool that grows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.loop import lookalikes
from common.loop.lookalikes import Lookalikes, near_duplicates
from common.loop.thumbnails import describe, encode
from common.strategies.duplicates import Descriptors, groups
from tests.fakes import picture

Bodies = list[bytes | None]


def body(value: int) -> bytes:
    return encode(Descriptors(np.array([value], np.uint64), np.full((1, 768), 90, np.uint8)))


def nowhere(_: int) -> Path | None:
    raise AssertionError("nothing is to be calibrated anew")


def rows(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.fixture
def near(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The threshold is 2; how many images each calibration was made with."""
    calls: list[int] = []
    monkeypatch.setattr(lookalikes, "calibrated", lambda some, *_: calls.append(len(some)) or 2.0)
    return calls


values = st.lists(st.none() | st.integers(0, 2**6 - 1), max_size=25)


@settings(deadline=None, max_examples=100)
@given(values, values)
def test_newcomers_find_the_groups_that_all_images_anew_would_find(
    old: list[int | None], new: list[int | None]
) -> None:
    bodies: Bodies = [None if v is None else body(v) for v in [*old, *new]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lookalikes, "calibrated", lambda *_: 2.0)
        kept = Lookalikes()
        before = kept.whole(bodies[: len(old)], nowhere)
        after = kept.grown(bodies, nowhere, rows(*range(len(old), len(bodies))))
        np.testing.assert_array_equal(after, near_duplicates(bodies, nowhere))
        grouped = before >= 0
        np.testing.assert_array_equal(after[: len(old)][grouped], before[grouped])
        np.testing.assert_array_equal(kept.grown(bodies, nowhere, rows()), after)
        np.testing.assert_array_equal(Lookalikes().grown(bodies, nowhere, rows(*range(len(old), len(bodies)))), after)


def test_the_threshold_is_calibrated_once_and_anew_with_the_next_order(near: list[int]) -> None:
    kept = Lookalikes()
    kept.whole([body(0), body(1)], nowhere)
    for count in (3, 4):
        kept.grown([body(v) for v in range(count)], nowhere, rows(count - 1))
    assert near == [2]
    kept.whole([body(v) for v in range(4)], nowhere)
    assert near == [2, 4]


def test_a_new_process_calibrates_on_the_older_images_alone(near: list[int]) -> None:
    bodies = [body(v) for v in (0, 0b1111_0000, 0b1, 0b1111_0001)]
    assert Lookalikes().grown(bodies, nowhere, rows(2, 3)).tolist() == [0, 1, 0, 1]
    assert near == [2]


def test_one_image_says_nothing_about_nearness_so_that_newcomers_help_to_calibrate(near: list[int]) -> None:
    kept = Lookalikes()
    assert kept.whole([body(0)], nowhere).tolist() == [-1]
    assert kept.grown([body(0), body(1)], nowhere, rows(1)).tolist() == [0, 0]
    assert near == [2]


def test_without_any_file_there_is_no_threshold_and_no_group() -> None:
    kept = Lookalikes()
    bodies = [body(0), body(0)]
    assert kept.whole(bodies, lambda _: None).tolist() == [-1, -1]
    assert kept.grown([*bodies, body(0)], lambda _: None, rows(2)).tolist() == [-1, -1, -1]


def test_groups_outlive_members_that_go_and_are_named_after_who_is_there(near: list[int]) -> None:
    chain = [(1 << 2 * k) - 1 for k in range(4)]  # each 2 from the one before
    kept = Lookalikes()
    assert kept.whole([body(v) for v in chain[:3]], nowhere).tolist() == [0, 0, 0]
    assert kept.grown([body(v) for v in chain[1:3]], nowhere, rows()).tolist() == [0, 0]
    assert kept.grown([body(chain[2])], nowhere, rows()).tolist() == [-1]
    back = [body(chain[2]), body(chain[3]), body(chain[0])]
    assert kept.grown(back, nowhere, rows(1, 2)).tolist() == [0, 0, 0]


def test_older_images_may_stand_anywhere(near: list[int]) -> None:
    kept = Lookalikes()
    kept.whole([body(0b1111_0000), body(0)], nowhere)
    bodies: Bodies = [body(0b1), None, body(0), body(0b1111_0000), body(0b1111 << 12)]
    assert kept.grown(bodies, nowhere, rows(0, 4)).tolist() == [2, -1, 2, -1, -1]


def test_real_pictures_keep_their_groups_when_more_come(tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.png" for i in range(12)]
    for i, file in enumerate(files):
        picture(file, i % 10)
    bodies: Bodies = [describe(f) for f in files]
    kept = Lookalikes()
    before = kept.whole(bodies[:11], files.__getitem__)
    assert before[10] == before[0] == 0
    assert kept.threshold is not None
    after = kept.grown(bodies, nowhere, rows(11))
    assert after[11] == after[1] == 1
    assert after[:11].tolist() == [1 if i == 1 else g for i, g in enumerate(before.tolist())]
    d = Descriptors.join([lookalikes.decode([b]) for b in bodies if b is not None])
    np.testing.assert_array_equal(after, groups(d, kept.threshold))
