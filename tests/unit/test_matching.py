"""The same object in two looks: matched one to one, whatever the order of the boxes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from common.acquisition.matching import match


@st.composite
def looks(draw):
    """(boxes, scores) of up to six objects, crowded enough to overlap."""
    count, seed = draw(st.integers(0, 6)), draw(st.integers(0, 10_000))
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 20, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 30, (count, 2))], axis=1)
    return boxes, rng.uniform(0, 1, (count, 3))


@given(looks(), st.randoms(use_true_random=False))
def test_a_perfect_copy_in_any_order_overlaps_wholly_and_says_the_same(look, random):
    boxes, scores = look
    shuffled = random.sample(range(len(boxes)), len(boxes))
    overlap, there = match(boxes, scores, boxes[shuffled], scores[shuffled])
    np.testing.assert_array_equal(overlap, np.ones(len(boxes)))
    np.testing.assert_array_equal(there, scores)


@given(looks(), looks(), st.randoms(use_true_random=False))
def test_the_order_of_boxes_does_not_matter_on_either_side(mine, theirs, random):
    overlap, there = match(*mine, *theirs)
    rows = random.sample(range(len(mine[0])), len(mine[0]))
    columns = random.sample(range(len(theirs[0])), len(theirs[0]))
    again = match(mine[0][rows], mine[1][rows], theirs[0][columns], theirs[1][columns])
    np.testing.assert_array_equal(again[0], overlap[rows])
    np.testing.assert_array_equal(again[1], there[rows])


@given(looks(), looks(), st.floats(0.05, 1))
def test_no_box_is_given_away_twice_and_none_below_the_least_overlap(mine, theirs, least):
    overlap, there = match(*mine, *theirs, least)
    found = overlap > 0
    assert (overlap[found] >= least).all()
    assert len(np.unique(there[found], axis=0)) == found.sum()
    assert (there[~found] == 0).all()


@given(looks())
def test_against_an_empty_side_every_object_is_lost(look):
    boxes, scores = look
    nothing = (np.zeros((0, 4)), np.zeros((0, 3)))
    overlap, there = match(boxes, scores, *nothing)
    assert (overlap.shape, there.shape) == ((len(boxes),), (len(boxes), 3))
    assert not overlap.any()
    assert not there.any()
    assert match(*nothing, boxes, scores)[1].shape == (0, 3)


def test_the_best_overlap_wins_and_the_neighbour_is_lost():
    mine = np.array([[0, 0, 10, 10], [1, 0, 11, 10]], float)
    overlap, there = match(mine, np.ones((2, 1)), mine[1:], np.array([[0.8]]))
    np.testing.assert_array_equal(overlap, [0, 1])
    np.testing.assert_array_equal(there, [[0], [0.8]])


def test_of_two_boxes_at_one_place_each_gets_the_one_that_says_the_same():
    place = np.array([[0, 0, 10, 10], [0, 0, 10, 10]], float)
    says = np.array([[0.9, 0.1], [0.2, 0.7]])
    np.testing.assert_array_equal(match(place, says, place, says[::-1])[1], says)
