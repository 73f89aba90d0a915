"""Near-duplicates: descriptor, threshold, groups."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from common.strategies import duplicates
from common.strategies.duplicates import (
    Descriptors,
    block_means,
    brightened,
    calibrate,
    centre_crop,
    descriptor,
    distances,
    groups,
)


def _scene(seed: int, size: int = 96) -> np.ndarray:
    """Smooth colour blobs, different for every seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3)).astype(np.float64)
    at = np.linspace(0, 5, size)
    low, part = np.minimum(at.astype(int), 4), (at % 1)[:, None, None]
    part[-1] = 1
    rows = coarse[low] * (1 - part) + coarse[low + 1] * part
    across = part.transpose(1, 0, 2)
    return np.rint(rows[:, low] * (1 - across) + rows[:, low + 1] * across).astype(np.uint8)


def _describe(images: list[np.ndarray]) -> Descriptors:
    return Descriptors.join([descriptor(i) for i in images])


def _hashes(values: list[int]) -> Descriptors:
    return Descriptors(np.array(values, np.uint64), np.full((len(values), 768), 90, np.uint8))


def test_an_image_is_0_from_itself_and_far_from_another():
    d = _describe([_scene(1), _scene(1), _scene(2)])
    assert distances(d.take(np.array([0])), d.take(np.array([1])))[0] == 0
    assert distances(d.take(np.array([0])), d.take(np.array([2])))[0] > 25


@pytest.mark.parametrize("copy", [centre_crop, lambda i: brightened(i, 0.8), lambda i: i[::2, ::2]])
def test_a_cropped_a_dimmed_and_a_smaller_copy_stay_near(copy):
    images = [_scene(s, 192) for s in range(8)]
    assert distances(_describe(images), _describe([copy(i) for i in images])).max() < 20


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 200, 3), (31, 33, 3), (40, 40), (700, 900, 3)])
def test_every_size_of_image_has_a_descriptor(shape):
    d = descriptor(np.full(shape, 77, np.uint8))
    assert len(d) == 1
    assert (d.thumbnails == 77).all()


def test_block_means_are_means_of_blocks():
    image = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
    np.testing.assert_array_equal(block_means(image, 2)[:, :, 0], [[2.5, 4.5], [10.5, 12.5]])


@pytest.mark.parametrize(
    "wrong", [np.zeros((0, 5, 3), np.uint8), np.zeros((5, 5, 3), np.float32), np.zeros(5, np.uint8)]
)
def test_what_is_no_image_is_refused(wrong):
    with pytest.raises(ValueError, match="image must be uint8 of shape"):
        descriptor(wrong)


@given(st.lists(st.integers(0, 2**63 - 1), min_size=3, max_size=3))
def test_the_distance_is_a_metric(values):
    a, b, c = (_hashes([v]) for v in values)
    ab, bc, ac = distances(a, b)[0], distances(b, c)[0], distances(a, c)[0]
    assert ab == distances(b, a)[0]
    assert ac <= ab + bc + 1e-4


def test_the_threshold_is_the_95th_percentile_of_copies_capped_by_random_pairs():
    rng = np.random.default_rng(0)
    originals, copies = _hashes([0] * 20), _hashes([0] * 18 + [0b1111] * 2)
    far = _hashes([int(v) for v in rng.integers(0, 2**63, 50)])
    assert calibrate(originals, [copies], far, rng) == pytest.approx(4)
    assert calibrate(originals, [copies], _hashes([1, 2, 4]), rng) == pytest.approx(2)
    assert calibrate(originals, [copies], _hashes([1]), rng) == pytest.approx(4)


def test_calibration_says_what_it_lacks():
    with pytest.raises(ValueError, match="needs copies"):
        calibrate(_hashes([1]), [], _hashes([1]), np.random.default_rng(0))


def test_copies_form_a_group_named_after_its_first_member_and_others_are_alone():
    d = _describe([_scene(1), _scene(2), brightened(_scene(1), 1.1), _scene(3), _scene(1)])
    assert groups(d, 8).tolist() == [0, -1, 0, -1, 0]


def test_a_chain_of_small_steps_does_not_join_its_two_ends():
    chain = _hashes([(1 << 2 * k) - 1 for k in range(12)])
    found = groups(chain, 2)
    assert found[0] == found[1] == found[2] == 0
    assert found[11] != 0


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 2**9 - 1), max_size=40), st.integers(0, 4), st.integers(0, 40))
def test_groups_are_tight_connected_and_stay_when_more_images_come(values, threshold, first):
    d = _hashes(values)
    found = groups(d, threshold)
    for group in set(found.tolist()) - {-1}:
        members = np.flatnonzero(found == group)
        assert members[0] == group
        assert len(members) > 1
        for place, member in enumerate(members[1:], 1):
            before = d.take(members[:place])
            same = d.take(np.full(place, member))
            assert distances(same, before).min() <= threshold
            assert distances(same, before)[0] <= 2 * threshold
    some = groups(d.take(np.arange(min(first, len(d)))), threshold)
    kept = found[: len(some)]
    assert (some[some >= 0] == kept[some >= 0]).all()


def test_a_still_camera_gives_one_group_without_a_quadratic_list_of_pairs():
    noisy = [7 ^ (1 << int(k)) for k in np.random.default_rng(0).integers(0, 63, 3000)]
    assert set(groups(_hashes(noisy), 6).tolist()) == {0}


@settings(deadline=None, max_examples=150)
@given(st.lists(st.integers(0, 2**7 - 1), max_size=40), st.integers(0, 4), st.lists(st.integers(0, 40), max_size=3))
@example([14, 1, 1, 0, 0, 2], 2, [3])
def test_newcomers_alone_give_what_grouping_all_anew_gives(values, threshold, stops):
    """In few and small crowds, and in blocks that begin before the newcomers do."""
    d = _hashes(values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_BLOCK", 8)
        patch.setattr(duplicates, "_CLOSEST", 2)
        patch.setattr(duplicates, "_CROWD", 3)
        known = None
        for stop in sorted(min(s, len(d)) for s in [*stops, len(d)]):
            known = groups(d.take(np.arange(stop)), threshold, known=known)
        np.testing.assert_array_equal(known, groups(d, threshold))


def test_only_newcomers_are_compared(monkeypatch):
    d = _hashes([int(v) for v in np.random.default_rng(0).integers(0, 2**63, 1300)])
    known = groups(d.take(np.arange(1290)), 5)
    compared = []
    plain = duplicates._hits
    monkeypatch.setattr(
        duplicates,
        "_hits",
        lambda s, rows, columns, *rest: compared.append((len(rows), len(columns))) or plain(s, rows, columns, *rest),
    )
    np.testing.assert_array_equal(groups(d, 5, known=known), groups(d, 5))
    newcomers, pool = compared[0]
    assert (newcomers, pool) == (10, 1300)
    assert sum(r * c for r, c in compared[1:]) > 50 * newcomers * pool


def test_nothing_to_group():
    assert groups(_hashes([]), 5).tolist() == []
    assert groups(_hashes([3]), 5).tolist() == [-1]


FLOORS = {"plates": (0.85, 0.75), "bccd": (0.99, 0.99), "cards": (0.5, 0.99)}
"""Set -> least precision and recall of pairs against the published list."""


@pytest.mark.parametrize("name", sorted(FLOORS))
def test_near_duplicates_of_real_images_are_found(shared: Path, name: str, record_property):
    cv2 = pytest.importorskip("cv2")
    lines = (shared / "data" / name / "near_duplicates.txt").read_text().splitlines()
    listed = {frozenset(line.split()[2:4]) for line in lines if line and not line.startswith("#")}
    files = sorted((shared / "data" / name / "images").glob("*.jpg"))
    images = [cv2.imread(str(f)) for f in files]
    all_of_them = _describe(images)
    rng = np.random.default_rng(0)
    some = np.sort(rng.choice(len(images), 64, replace=False))

    def jpeg(image):
        return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_COLOR)

    kinds = [jpeg, centre_crop, lambda i: brightened(i, 1.15), lambda i: brightened(i, 0.85)]
    copies = [_describe([kind(images[i]) for i in some]) for kind in kinds]
    threshold = calibrate(all_of_them.take(some), copies, all_of_them, rng)
    found = set()
    for i in range(len(files) - 1):  # all pairs at once would fill a gigabyte
        later = np.arange(i + 1, len(files))
        near = distances(all_of_them.take(np.full(len(later), i)), all_of_them.take(later)) <= threshold
        found |= {frozenset((files[i].stem, files[j].stem)) for j in later[near]}
    precision, recall = len(found & listed) / len(found), len(found & listed) / len(listed)
    record_property("precision", precision)
    record_property("recall", recall)
    assert precision >= FLOORS[name][0]
    assert recall >= FLOORS[name][1]


def test_a_small_pool_is_calibrated_on_all_its_pairs_whatever_is_drawn():
    pool = _describe([_scene(seed) for seed in range(12)])
    unlike = [pool.take(np.arange(12)[::-1])]
    found = {calibrate(pool, unlike, pool, np.random.default_rng(seed)) for seed in range(3)}
    one, other = np.triu_indices(12, 1)
    assert found == {float(np.percentile(distances(pool.take(one), pool.take(other)), 1))}
