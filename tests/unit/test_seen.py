"""Which of the images that came before a newcomer looks like, and how near is near."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from common.experiments import seen
from common.experiments.seen import Seen
from common.loop.lookalikes import CALIBRATED_ON
from common.loop.thumbnails import encode
from common.strategies.duplicates import Descriptors


def body(value: int) -> bytes:
    return encode(Descriptors(np.array([value], np.uint64), np.full((1, 768), 90, np.uint8)))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The distance is 2; how many files each measurement was made with."""
    calls: list[int] = []
    monkeypatch.setattr(seen, "calibrated", lambda files, *_: calls.append(len(files)) or 2.0)
    return calls


def meet(known: Seen, folder: Path, *values: int | None) -> list[str]:
    names = [f"image {v}" for v in values]
    for name in names:
        (folder / name).touch()
    return known.meet(names, [folder / n for n in names], [None if v is None else body(v) for v in values])


def fresh(told: list[tuple[float, int]] | None = None) -> Seen:
    return Seen([], [], [], remember=lambda far, n: None if told is None else told.append((far, n)))


def test_a_newcomer_is_a_near_duplicate_of_the_first_of_its_group(tmp_path: Path, measured: list[int]) -> None:
    known = fresh()
    assert meet(known, tmp_path, 0b1111_0000) == [""], "one image is like no other"
    assert meet(known, tmp_path, 0b1111_0001, 0b1111_0001_0000_0000, None) == ["image 240", "", ""]
    assert meet(known, tmp_path, 0b1111_0011) == ["image 240"]


def test_of_two_that_arrive_together_the_first_one_is_new(tmp_path: Path, measured: list[int]) -> None:
    assert meet(fresh(), tmp_path, 0, 1, 0b1111_0000_1111) == ["", "image 0", ""]


def test_it_is_measured_again_when_twice_as_many_are_known_until_there_are_enough(
    tmp_path: Path, measured: list[int]
) -> None:
    told: list[tuple[float, int]] = []
    known = fresh(told)
    for i in range(1, 3 * CALIBRATED_ON):
        meet(known, tmp_path, i << 8)
    assert measured == [2, 4, 8, 16, 32, 64]
    assert told == [(2.0, n) for n in measured]


def test_what_was_measured_holds_after_a_restart_whatever_became_of_the_files(
    tmp_path: Path, measured: list[int]
) -> None:
    names = [str(i) for i in range(CALIBRATED_ON)]
    bodies: Sequence[bytes | None] = [body((1 << i) - 1) for i in range(CALIBRATED_ON)]
    again = Seen(names, [tmp_path / "gone"] * len(names), bodies, (0.0, CALIBRATED_ON))
    assert meet(again, tmp_path, 1, 5) == ["1", ""]
    assert measured == []


def test_only_files_that_are_still_there_are_measured(tmp_path: Path, measured: list[int]) -> None:
    known = Seen(["a", "b"], [tmp_path / "gone"] * 2, [body(0), None])
    meet(known, tmp_path, 1 << 9, 1 << 20)
    assert measured == [2]
