"""k-means with many clusters."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.strategies import clusters
from common.strategies.clusters import k_means


def spots(each: int, count: int, width: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """(rows around so many places, the place of each)."""
    rng = np.random.default_rng(0)
    place = np.arange(each * count) % count
    rows = rng.standard_normal((count, width))[place] * 9 + rng.standard_normal((len(place), width)) * 0.01
    return rows.astype(np.float32), place


def ask(rows: np.ndarray, count: int, seed: int = 3) -> np.ndarray:
    return k_means(rows, count, np.random.default_rng(seed))


def spread(rows: np.ndarray, label: np.ndarray) -> float:
    """Sum of squared distances to the mean of the own cluster."""
    return sum(float(((rows[label == c] - rows[label == c].mean(axis=0)) ** 2).sum()) for c in np.unique(label))


def test_places_far_apart_are_the_clusters():
    rows, place = spots(20, 12)
    label = ask(rows, 12)
    assert len(set(zip(label.tolist(), place.tolist(), strict=True))) == 12


@pytest.mark.parametrize("width", [2, 32])
def test_the_clusters_are_as_tight_as_those_of_scikit_learn(width):
    rows = np.random.default_rng(1).standard_normal((2000, width)).astype(np.float32)
    cluster = pytest.importorskip("sklearn.cluster")
    theirs = cluster.KMeans(60, n_init=1, random_state=0).fit_predict(rows)
    assert spread(rows, ask(rows, 60)) < 1.05 * spread(rows, theirs)


def test_more_rows_than_centres_are_found_on_go_to_the_nearest_centre(monkeypatch: pytest.MonkeyPatch):
    rows, place = spots(100, 5)
    monkeypatch.setattr(clusters, "FIT_ROWS", 60)
    monkeypatch.setattr(clusters, "FIT_EACH", 10)
    label = ask(rows, 5)
    assert label.shape == (500,)
    assert len(set(zip(label.tolist(), place.tolist(), strict=True))) == 5


@settings(deadline=None, max_examples=60)
@given(values=st.lists(st.integers(0, 5), min_size=1, max_size=40), count=st.integers(1, 50), seed=st.integers(0, 9))
def test_any_rows_get_a_cluster_equal_rows_the_same_and_the_same_seed_gives_the_same(values, count, seed):
    rows = np.array(values, np.float32)[:, None] * np.array([[1, 2, 0]], np.float32)
    label = ask(rows, count, seed)
    assert ((label >= 0) & (label < count)).all()
    np.testing.assert_array_equal(label, ask(rows, count, seed))
    pairs = set(zip(values, label.tolist(), strict=True))
    assert len(pairs) == len(set(values))
    assert len(set(label.tolist())) == min(count, len(set(values)))


def test_a_cluster_that_lost_its_rows_moves_to_where_rows_are_far_from_their_centre():
    rows = np.array([[0], [0.1], [9], [9.1]], np.float32)
    centre = np.array([[0], [50]], np.float32)
    label, _ = clusters._lloyd(rows, centre)
    assert label[0] == label[1] != label[2] == label[3]
