"""Near-duplicate groups from a descriptor that needs no network: perceptual hash and a 16 x 16 colour thumbnail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.domain import Floats, Ints

_HASH_SIDE = 32
_LOW = 8
_THUMB = 16
_BITS = _LOW * _LOW - 1
_BLOCK = 512
_TILE = 4096
_CLOSEST = 16
_CROWD = 64
PAIRS = 20_000
"""Pairs of images that say what is usual in a pool."""


@dataclass(frozen=True)
class Descriptors:
    """Descriptors of n images.

    Attributes:
        hashes: Shape (n,), uint64: 63 signs of the low frequencies of the grey image, its mean left out (Zauner 2010).
        thumbnails: Shape (n, 768), uint8: 16 x 16 block means, BGR.
    """

    hashes: NDArray[np.uint64]
    thumbnails: NDArray[np.uint8]

    def __post_init__(self) -> None:
        n = len(self.hashes)
        if self.hashes.shape != (n,) or self.thumbnails.shape != (n, 3 * _THUMB * _THUMB):
            raise ValueError(
                f"hashes and thumbnails must have shapes (n,) and (n, {3 * _THUMB * _THUMB}), "
                f"got {self.hashes.shape} and {self.thumbnails.shape}"
            )

    def __len__(self) -> int:
        return len(self.hashes)

    @classmethod
    def join(cls, parts: Sequence[Descriptors]) -> Descriptors:
        """One after the other."""
        none = [np.zeros(0, np.uint64)], [np.zeros((0, 3 * _THUMB * _THUMB), np.uint8)]
        return cls(
            np.concatenate([p.hashes for p in parts] or none[0]),
            np.concatenate([p.thumbnails for p in parts] or none[1]),
        )

    def take(self, rows: NDArray[Any]) -> Descriptors:
        """Descriptors of some images."""
        return Descriptors(self.hashes[rows], self.thumbnails[rows])


def descriptor(image: NDArray[np.uint8]) -> Descriptors:
    """Descriptor of one decoded image, of length 1.

    Args:
        image: Shape (height, width, 3), BGR, or (height, width), grey; at least one pixel.

    Raises:
        ValueError: Not such an array.
    """
    from scipy.fft import dctn  # commands start sooner

    if image.ndim not in (2, 3) or image.dtype != np.uint8 or 0 in image.shape[:2]:
        raise ValueError(f"image must be uint8 of shape (height, width[, 3]), got {image.dtype} {image.shape}")
    colour = np.repeat(image[:, :, None], 3, axis=2) if image.ndim == 2 else image[:, :, :3]
    step = max(1, min(colour.shape[:2]) // 256)
    small = block_means(colour[::step, ::step], _HASH_SIDE)
    grey = small @ np.array([0.114, 0.587, 0.299])
    waves = dctn(grey, norm="ortho")[:_LOW, :_LOW].ravel()[1:]
    bits = waves > np.median(waves)
    value = np.packbits(np.concatenate([[False], bits])).view(">u8")[0]
    thumb = small.reshape(_THUMB, 2, _THUMB, 2, 3).mean(axis=(1, 3))
    return Descriptors(np.array([value], np.uint64), np.clip(np.rint(thumb), 0, 255).astype(np.uint8).reshape(1, -1))


def block_means(image: NDArray[Any], side: int) -> NDArray[np.float64]:
    """Means over a grid of side x side cells, shape (side, side, channels); small images are repeated first."""
    tall, wide = (-(-side // s) if s < side else 1 for s in image.shape[:2])
    big = image.repeat(tall, axis=0).repeat(wide, axis=1) if tall > 1 or wide > 1 else image
    rows = np.arange(side) * big.shape[0] // side
    columns = np.arange(side) * big.shape[1] // side
    sums = np.add.reduceat(np.add.reduceat(big, rows, axis=0, dtype=np.int64), columns, axis=1)
    cells = np.diff(rows, append=big.shape[0])[:, None] * np.diff(columns, append=big.shape[1])[None, :]
    means: NDArray[np.float64] = sums / cells[:, :, None]
    return means


def centre_crop(image: NDArray[np.uint8], share: float = 0.03) -> NDArray[np.uint8]:
    """The image without ``share`` of its length at each edge: one of the copies ``calibrate`` wants."""
    top, left = (round(s * share) for s in image.shape[:2])
    inside: NDArray[np.uint8] = image[top : image.shape[0] - top, left : image.shape[1] - left]
    return inside


def brightened(image: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    """The image times ``factor``, cut at 255: one of the copies ``calibrate`` wants."""
    brighter: NDArray[np.uint8] = np.clip(np.rint(image * factor), 0, 255).astype(np.uint8)
    return brighter


def distances(first: Descriptors, second: Descriptors) -> Floats:
    """Hamming distance of the hashes plus mean absolute difference of the thumbnails at equal brightness, row by row.

    A metric. Shape (k,), from 0; both terms are about 5 for a copy cropped by 3 % at each edge, and 20 and more for
    unrelated images.
    """
    flipped = np.bitwise_xor(first.hashes, second.hashes)
    bits = np.unpackbits(flipped.view(np.uint8).reshape(-1, 8), axis=1).sum(axis=1)
    total: Floats = (bits + np.abs(_evened(first) - _evened(second)).mean(axis=1)).astype(np.float32)
    return total


def calibrate(
    originals: Descriptors, copies: Sequence[Descriptors], pool: Descriptors, rng: np.random.Generator
) -> float:
    """The distance up to which two images are near-duplicates, in this pool.

    The 95th percentile of distances between images and their own copies, capped by the 1st percentile of random pairs,
    or of all pairs where they are not more than ``PAIRS``.

    Args:
        originals: About 64 images of the pool.
        copies: Per kind of copy (JPEG, ``centre_crop``, ``brightened`` ...) the descriptors of the same images.
        pool: All images, for the random pairs; with fewer than two there is no cap.
        rng: Draws the pairs.

    Raises:
        ValueError: Without originals or copies, or when their lengths differ.
    """
    if not copies or len(originals) == 0 or any(len(c) != len(originals) for c in copies):
        raise ValueError(
            f"calibration needs copies of each of at least one image, got {len(originals)} images and "
            f"copies of {[len(c) for c in copies]}"
        )
    own = float(np.percentile(np.concatenate([distances(originals, c) for c in copies]), 95))
    if len(pool) < 2:
        return own
    one, other = _pairs(len(pool), rng)
    return min(own, float(np.percentile(distances(pool.take(one), pool.take(other)), 1)))


def _pairs(n: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Two different images each: all pairs of n, or as many as are enough for a percentile."""
    if n * (n - 1) // 2 <= PAIRS:
        one, other = np.triu_indices(n, 1)
        return one.astype(np.int64), other.astype(np.int64)
    one = rng.integers(n, size=PAIRS)
    return one, (one + rng.integers(1, n, size=PAIRS)) % n


def groups(descriptors: Descriptors, threshold: float, reach: float = 2.0, known: Ints | None = None) -> Ints:
    """Near-duplicate groups: connected images, none farther than ``reach`` thresholds from the group's first member.

    Images are taken in order: each joins the group of the nearest earlier image within the threshold whose first
    member is within reach, else it may start a group. So no chain of small steps joins unlike images, and images that
    arrive later leave the groups of the earlier ones as they are: with ``known`` only they are compared with all, and
    the answer is that for all images anew. Of all earlier images the 16 with the nearest hash are looked at.

    Args:
        descriptors: n images.
        threshold: From ``calibrate``, 0 or more.
        reach: At least 1.
        known: Shape (k,), k <= n: what was answered, with this threshold and reach, for the first k images.

    Returns:
        Shape (n,): index of the group's first member, -1 for an image that is alone.
    """
    n, old = len(descriptors), 0 if known is None else len(known)
    leader = np.arange(n, dtype=np.int64)
    if known is not None:
        leader[:old] = np.where(known >= 0, known, leader[:old])
    signs = _signs(descriptors.hashes)
    begin = old - old % _BLOCK  # blocks where they would be without ``known``: what is looked at must be the same
    active = np.zeros(n, bool)
    met: set[tuple[int, int]] = set()
    _activate(active, met, leader, descriptors.hashes, np.arange(begin))
    for start in range(begin, n if n > old else begin, _BLOCK):
        block = np.arange(start, min(start + _BLOCK, n))
        columns = np.concatenate([np.flatnonzero(active[:start]), block])
        mine, theirs = _near_pairs(descriptors, signs, block[block >= old], columns, threshold)
        _join(descriptors, leader, mine, theirs, reach * threshold)
        _activate(active, met, leader, descriptors.hashes, block)
    size = np.bincount(leader, minlength=n)
    return np.where(size[leader] > 1, leader, -1)


def _activate(
    active: NDArray[np.bool_], met: set[tuple[int, int]], leader: Ints, hashes: NDArray[np.uint64], rows: Ints
) -> None:
    """Mark the first row of each hash in each group: the others have nothing to add."""
    for row, pair in zip(rows.tolist(), zip(leader[rows].tolist(), hashes[rows].tolist(), strict=True), strict=True):
        active[row] = pair not in met
        met.add(pair)


def _near_pairs(
    descriptors: Descriptors, signs: Floats, rows: Ints, columns: Ints, threshold: float
) -> tuple[Ints, Ints]:
    """(row, earlier column) within the threshold, by row, nearest first."""
    room = np.empty((_BLOCK, _TILE), np.float32)
    parts = [columns[i : i + _TILE] for i in range(0, len(columns), _TILE)]
    found = [_hits(signs, rows, part, threshold, room[: len(rows), : len(part)]) for part in parts]
    mine, theirs, apart = (np.concatenate(part) for part in zip(*found, strict=True))
    first = _closest(mine, theirs, apart)
    mine, theirs = mine[first], theirs[first]
    far = distances(descriptors.take(mine), descriptors.take(theirs))
    order = np.lexsort((theirs, far, mine))
    order = order[far[order] <= threshold]
    return mine[order], theirs[order]


def _hits(signs: Floats, rows: Ints, columns: Ints, threshold: float, alike: Floats) -> tuple[Ints, Ints, Floats]:
    """(row, earlier column, Hamming distance) up to the threshold, in a crowd the earliest few; fills ``alike``."""
    np.matmul(signs[rows], signs[columns].T, out=alike)
    if columns[-1] >= rows[0]:
        alike[columns[None, :] >= rows[:, None]] = -np.inf
    hit = alike >= _BITS - 2 * threshold
    crowded = np.count_nonzero(hit, axis=1) > _CROWD  # row by row: who else is asked about must not matter
    if crowded.any():
        hit[crowded] &= np.cumsum(hit[crowded], axis=1, dtype=np.int32) <= _CROWD
    i, j = np.divmod(np.flatnonzero(hit), len(columns))
    mine, theirs, apart = rows[i], columns[j], (_BITS - alike[i, j]) / 2
    keep = _closest(mine, theirs, apart)
    return mine[keep], theirs[keep], apart[keep]


def _closest(mine: Ints, theirs: Ints, apart: Floats) -> Ints:
    """Places of the nearest few of each row, by row, nearest first."""
    order = np.lexsort((theirs, apart, mine))
    starts = np.flatnonzero(np.diff(mine[order], prepend=-1))
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    nearest: Ints = order[rank < _CLOSEST]
    return nearest


def _join(descriptors: Descriptors, leader: Ints, mine: Ints, theirs: Ints, reach: float) -> None:
    """Let each row join the group of its nearest earlier image whose first member is within reach."""
    for row, other in zip(mine.tolist(), theirs.tolist(), strict=True):
        first = int(leader[other])
        if leader[row] != row or first == row:
            continue
        if (
            first == other
            or distances(descriptors.take(np.array([row])), descriptors.take(np.array([first])))[0] <= reach
        ):
            leader[row] = first


def _signs(hashes: NDArray[np.uint64]) -> Floats:
    """Shape (n, 63), +1 and -1 per bit."""
    big = hashes.astype(">u8").view(np.uint8).reshape(-1, 8)
    return np.unpackbits(big, axis=1)[:, 1:].astype(np.float32) * 2 - 1


def _evened(descriptors: Descriptors) -> Floats:
    """Thumbnails at mean brightness 128; very dark ones are not amplified without limit."""
    values = descriptors.thumbnails.astype(np.float32)
    evened: Floats = values * (128 / np.maximum(values.mean(axis=1, keepdims=True), 16))
    return evened
