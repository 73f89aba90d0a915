"""The map's arithmetic: the same arrays give the same finite map, alike images lie together, nothing upsets it."""

from __future__ import annotations

import numpy as np
import pytest

from common.domain import Floats
from common.loop.projection import Plane


def groups(count: int, of: int, seed: int = 0) -> Floats:
    """``count`` kinds of image, ``of`` each, one after the other, in 16 dimensions."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(count, 16))
    return (np.repeat(centres, of, axis=0) + 0.1 * rng.normal(size=(count * of, 16))).astype(np.float32)


def drawn(rows: Floats, seed: int = 0, before: Floats | None = None) -> Plane:
    plane = Plane(rows, seed, before)
    for _ in plane.pieces():
        assert np.isfinite(plane.layout).all()
    return plane


def test_the_same_images_and_seed_give_the_same_map_in_bounds() -> None:
    rows = groups(3, 20)
    one, other = drawn(rows), drawn(rows)
    assert one.layout.tolist() == other.layout.tolist()
    assert one.layout.shape == (60, 2)
    assert np.abs(one.layout).max() == pytest.approx(1)
    assert one.place(rows[:5]).tolist() == other.place(rows[:5]).tolist()


def test_alike_images_lie_together() -> None:
    layout = drawn(groups(4, 25)).layout.reshape(4, 25, 2)
    centres = layout.mean(axis=1)
    within = np.linalg.norm(layout - centres[:, None], axis=2).max()
    between = min(np.linalg.norm(centres[i] - centres[j]) for i in range(4) for j in range(i))
    assert between > 2 * within


def test_others_go_where_their_like_are_and_a_representative_where_it_is() -> None:
    rows = groups(3, 20)
    plane = drawn(rows)
    assert plane.place(rows) == pytest.approx(plane.layout, abs=1e-5)
    late = groups(3, 20) + 0.01
    assert np.linalg.norm(plane.place(late) - plane.layout, axis=1).max() < 0.5


@pytest.mark.parametrize("count", [1, 2, 3, 4, 29, 30])
def test_a_handful_of_images_is_a_map_too(count: int) -> None:
    rows = groups(count, 1)
    plane = drawn(rows)
    assert plane.layout.shape == plane.place(rows).shape == (count, 2)
    assert np.isfinite(plane.place(rows)).all()


@pytest.mark.parametrize("rows", [np.ones((40, 8), np.float32), np.zeros((40, 8), np.float32), np.ones((9, 1), "f4")])
def test_images_that_are_all_the_same_are_one_point(rows: Floats) -> None:
    plane = drawn(rows)
    assert plane.layout.tolist() == [[0, 0]] * len(rows)
    assert plane.place(rows).tolist() == [[0, 0]] * len(rows)


def test_half_of_the_images_the_same_is_no_trouble() -> None:
    rows = groups(2, 30)
    rows[:30] = rows[0]
    assert np.isfinite(drawn(rows).layout).all()


def test_an_embedding_that_is_no_number_has_no_place_and_the_others_keep_theirs() -> None:
    rows = groups(3, 20)
    plane = drawn(rows)
    asked = rows[:4].copy()
    asked[1, 3], asked[2, 0] = np.nan, np.inf
    found = plane.place(asked)
    assert np.isnan(found).all(axis=1).tolist() == [False, True, True, False]
    assert found[3] == pytest.approx(plane.layout[3], abs=1e-5)


def test_a_new_map_keeps_the_orientation_of_the_one_before() -> None:
    rows = groups(5, 20)
    first = drawn(rows)
    turned = first.layout @ np.array([[0, 1], [-1, 0]], np.float32)
    noisy = rows + np.random.default_rng(1).normal(scale=0.02, size=rows.shape).astype(np.float32)
    known = turned.copy()
    known[::7] = np.nan  # some came since
    again = drawn(noisy, before=known)
    assert np.corrcoef(again.layout.ravel(), turned.ravel())[0, 1] > 0.9
