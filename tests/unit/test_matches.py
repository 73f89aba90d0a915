"""Boxes matched to labels, and their files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.average_precision import Matches
from common.yolo import matches

LEVELS = np.linspace(0.5, 0.95, 10)


def found(confidence: list[float], label: list[int], right: list[bool], truths: list[list[int]]) -> Matches:
    correct = np.repeat(np.array(right, bool)[:, None], 10, axis=1)
    image = np.zeros(len(label), np.int64)
    return Matches(
        image, np.array(label, np.int64), np.array(confidence), correct, np.array(truths), correct[:, 0] * 1.0
    )


def test_a_labelled_box_belongs_to_the_surest_box_that_lies_on_it() -> None:
    correct, overlap = matches.match(np.array([[0.6, 0.9]]), LEVELS)
    assert correct[:, 0].tolist() == [True, False]
    assert overlap.tolist() == [0.6, 0.0]
    assert correct[1].tolist() == [False] * 3 + [True] * 6 + [False]  # where the surer one does not reach


def test_a_box_takes_the_labelled_box_it_lies_on_best_of_those_that_are_free() -> None:
    correct, overlap = matches.match(np.array([[0.7, 0.8], [0.9, 0.95]]), LEVELS)
    assert overlap.tolist() == [0.9, 0.8]
    assert correct[:, 0].all()


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)])
def test_without_labels_or_boxes_nothing_is_right(shape: tuple[int, int]) -> None:
    correct, overlap = matches.match(np.zeros(shape), LEVELS)
    assert correct.shape == (shape[1], 10)
    assert not correct.any()
    assert overlap.tolist() == [0.0] * shape[1]


def test_matches_come_back_as_they_were_stored_each_under_its_weights(tmp_path: Path) -> None:
    one, bare = found([0.9], [1], [True], [[0, 1]]), found([], [], [], [[0, 1]])
    matches.save(tmp_path, "ab" * 32, one)
    matches.save(tmp_path, "cd" * 32, Matches(bare.image, bare.label, bare.confidence, bare.correct, bare.truths))
    back = matches.load(tmp_path)
    assert set(back) == {"ab" * 32, "cd" * 32}
    for name, value in vars(one).items():
        assert np.array_equal(getattr(back["ab" * 32], name), value)
    assert back["cd" * 32].overlap is None
    assert back["cd" * 32].correct.dtype == bool
    matches.forget(tmp_path)
    assert matches.load(tmp_path) == {}
    assert list(tmp_path.iterdir()) == []
