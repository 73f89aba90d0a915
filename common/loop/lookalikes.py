"""Near-duplicate groups of image files, by a threshold that is calibrated on copies of some of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from common.domain import Ints
from common.errors import MediaError
from common.loop.thumbnails import decode
from common.media.pixels import pixels, recompressed
from common.strategies.duplicates import Descriptors, brightened, calibrate, centre_crop, descriptor, groups

CALIBRATED_ON = 64
"""Images whose copies say how far apart near-duplicates of this pool are."""


def near_duplicates(bodies: Sequence[bytes | None], path: Callable[[int], Path | None]) -> Ints:
    """Shape (n,): near-duplicate group of each image, as the index of its first member; -1 = none.

    Args:
        bodies: Descriptors from ``thumbnails.describe``, None where an image is not known: it has no group.
        path: Index of an image -> its file, None when it is not on the disk; asked for at most ``CALIBRATED_ON``.
    """
    found = np.full(len(bodies), -1, np.int64)
    rows = [i for i, body in enumerate(bodies) if body is not None]
    if len(rows) < 2:
        return found
    described = decode([body for body in bodies if body is not None])
    threshold = calibrated(rows, path, described)
    if threshold is not None:
        local = groups(described, threshold)
        found[rows] = np.where(local >= 0, np.array(rows)[local], -1)
    return found


def calibrated(rows: Sequence[int], path: Callable[[int], Path | None], described: Descriptors) -> float | None:
    """Calibrated on copies of some images of this very pool; None when none of them is on the disk."""
    rng = np.random.default_rng(0)
    originals: list[Descriptors] = []
    copies: list[list[Descriptors]] = []
    for i in sorted(rng.permutation(len(rows))[:CALIBRATED_ON].tolist()):
        file = path(rows[i])
        if file is None:
            continue
        try:
            image = pixels(file)
        except (MediaError, OSError):
            continue
        originals.append(descriptor(image))
        copies.append([descriptor(c) for c in (recompressed(image), centre_crop(image), brightened(image, 1.1))])
    if not originals:
        return None
    kinds = [Descriptors.join(list(kind)) for kind in zip(*copies, strict=True)]
    return calibrate(Descriptors.join(originals), kinds, described, rng)
