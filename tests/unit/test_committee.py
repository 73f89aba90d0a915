"""Disagreement of members about the same objects."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from common.acquisition import committee

members = arrays(np.float64, array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=4), elements=st.floats(0, 1))


@given(members)
def test_disagreement_is_in_0_to_1_and_does_not_depend_on_the_order_of_members(p):
    for function in (committee.vote_entropy, committee.consensus):
        value = function(p)
        assert value.shape == (p.shape[1],)
        assert ((value >= 0) & (value <= 1)).all()
        np.testing.assert_allclose(function(p[::-1]), value, atol=1e-9)


@given(members)
def test_members_that_say_the_same_cast_the_same_vote(p):
    assert committee.vote_entropy(np.repeat(p[:1], 3, axis=0)).max() == 0


def test_two_members_that_disagree_are_as_far_apart_as_two_can_be():
    assert committee.vote_entropy(np.array([[[0.9, 0.1]], [[0.1, 0.9]]]))[0] == pytest.approx(1)


def test_a_member_that_sees_nothing_votes_for_nothing():
    assert committee.vote_entropy(np.array([[[0.9]], [[0.0]]]))[0] == pytest.approx(1)
    assert committee.consensus(np.array([[[1.0]], [[0.0]]]))[0] == pytest.approx(1)


def test_four_votes_over_three_answers_are_spread_as_evenly_as_they_go():
    votes = np.array([[[0.9, 0.0]], [[0.9, 0.0]], [[0.0, 0.9]], [[0.0, 0.0]]])
    assert committee.vote_entropy(votes)[0] == pytest.approx(1)


def test_an_object_that_stays_put_under_a_flip_is_consistent_and_a_lost_one_is_not():
    p = np.array([[0.9, 0.1], [1.0, 0.0]])
    value = committee.consistency(np.array([1.0, 0.0]), p, np.array([[0.9, 0.1], [0.0, 0.0]]))
    np.testing.assert_allclose(value, [0, 1])


@given(members, st.floats(0, 1))
def test_consistency_is_in_0_to_1_and_symmetric_in_the_scores(p, overlap):
    a, b = p[0], p[-1]
    iou = np.full(len(a), overlap)
    value = committee.consistency(iou, a, b)
    assert ((value >= 0) & (value <= 1)).all()
    np.testing.assert_allclose(value, committee.consistency(iou, b, a))


def test_head_variance_is_1_where_half_the_heads_say_yes():
    np.testing.assert_array_equal(committee.head_variance(np.array([0, 0.125, 0.25, 9])), [0, 0.5, 1, 1])
