"""The factor for classes that lack labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.acquisition.detections import Detections
from common.strategies import Pool, hybrid, query
from common.strategies.deficit import Deficit

SURE = np.ones((1, 1), np.float32)


@pytest.mark.parametrize(("have", "factor"), [(0, 2.0), (250, 1.75), (999, 1.001), (1000, 1.0), (1500, 1.0)])
def test_the_factor_is_the_share_of_its_boxes_that_a_class_lacks(have: float, factor: float) -> None:
    deficit = Deficit(SURE, SURE, 1000.0, np.array([float(have)]))
    assert deficit.factor(SURE, deficit.have)[0] == pytest.approx(factor)


@given(
    st.floats(1, 1e6),
    st.lists(st.floats(0, 2e6), min_size=1, max_size=4),
    st.lists(st.floats(0, 1e5), min_size=1, max_size=9),
)
def test_it_lies_between_1_and_2_and_never_rises_as_picks_are_made(
    target: float, have: list[float], picks: list[float]
) -> None:
    shown = np.ones((1, len(have)), np.float32)
    deficit = Deficit(shown, shown, target, np.array(have))
    now, before = deficit.have.copy(), 2.0
    for amount in [0.0, *picks]:
        now += amount
        factor = float(deficit.factor(shown, now)[0])
        assert 1 <= factor <= before
        before = factor


def _places(counts: list[int], **options: bool) -> dict[int, float]:
    """Row -> its place: 30 images of class 0 and one, row 30, of the last class, all equally useful and far apart."""
    scores = np.zeros((31, len(counts)), np.float32)
    scores[:30, 0] = scores[30, -1] = 0.5
    box = np.tile(np.array([0, 0, 9, 9], np.float32), (31, 1))
    none = np.zeros(31, np.float32)
    pool = replace(
        Pool.from_embeddings(np.eye(31, dtype=np.float32), labelled=np.array([], np.int64)),
        detections=Detections(np.arange(32), box, scores, none, none),
        label_counts=np.array(counts),
        knows=True,
    )
    wanted = {"regime": "mid", "guard": False, "limit_candidates": False, "typicality": False, "class_weights": False}
    order = query("hybrid", pool, 31, np.random.default_rng(0), **(wanted | options)).order
    return {int(row): place for place, row in enumerate(order)}


def test_an_image_of_a_class_without_boxes_comes_first_and_one_whose_class_lacks_nothing_does_not() -> None:
    assert _places([1000, 1000, 1000])[30] == 30
    assert _places([1000, 1000, 0])[30] == 0
    assert _places([1000, 1000, 0], deficit=False)[30] == 30


def test_the_targets_of_a_block_are_the_median_class_at_its_start() -> None:
    given_out: list[Deficit | None] = []
    with pytest.MonkeyPatch.context() as patch:
        original = hybrid.farthest_first

        def watched(*args, **kwargs):
            given_out.append(kwargs["deficit"])
            return original(*args, **kwargs)

        patch.setattr(hybrid, "farthest_first", watched)
        _places([1000, 1000, 999])
    first = given_out[0]
    assert first is not None
    assert (first.target, first.have.tolist()) == (1000.0, [999.0])
    assert first.factor(SURE, first.have)[0] == pytest.approx(1.001)
