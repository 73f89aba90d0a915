"""Near-duplicate groups of image files, by a threshold that is calibrated on copies of some of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from common.domain import Ints
from common.errors import MediaError
from common.loop.thumbnails import decode
from common.media.pixels import pixels, recompressed
from common.strategies.duplicates import Descriptors, brightened, calibrate, centre_crop, descriptor, groups

FindFile = Callable[[int], Path | None]

CALIBRATED_ON = 64
"""Images whose copies say how far apart near-duplicates of this pool are."""


def near_duplicates(bodies: Sequence[bytes | None], path: FindFile) -> Ints:
    """``Lookalikes.whole`` for whoever asks once."""
    return Lookalikes().whole(bodies, path)


class Lookalikes:
    """Near-duplicate groups of one pool, remembered while it grows: only newcomers are compared with all.

    Whoever asks about a project again and again keeps one of these, in memory; lost, everything is grouped anew.
    Images are known by their descriptors, so that others may come and go, in any order.

    Attributes:
        threshold: Up to this distance images of this pool are near-duplicates; None = nothing is remembered.
    """

    def __init__(self) -> None:
        self.threshold: float | None = None
        self._group: dict[bytes, bytes] = {}

    def whole(self, bodies: Sequence[bytes | None], path: FindFile) -> Ints:
        """Calibrate and group anew, and remember that.

        Args:
            bodies: Descriptors from ``thumbnails.describe``, None where an image is not known: it has no group.
            path: Index of an image -> its file, None when it is not on the disk; asked for at most ``CALIBRATED_ON``.

        Returns:
            Shape (n,): near-duplicate group of each image, as the index of its first member; -1 = none.
        """
        self.threshold, self._group = None, {}
        rows = [i for i, body in enumerate(bodies) if body is not None]
        if len(rows) > 1:
            self.threshold = calibrated(rows, path, decode([body for body in bodies if body is not None]))
        return self._grouped(bodies)

    def grown(self, bodies: Sequence[bytes | None], path: FindFile, new: Ints) -> Ints:
        """As ``whole``, but with the threshold and the groups that are there already; newcomers join or start some.

        With nothing remembered, the older images are grouped first, by a threshold calibrated on them alone: newcomers
        then find what they would have found in the process that grouped those.

        Args:
            bodies: As in ``whole``, the newcomers included; the first member of a group is the first that came.
            path: As in ``whole``; asked for nothing while something is remembered.
            new: Indices of the newcomers; of use only with nothing remembered.
        """
        if self.threshold is None:
            late = set(new.tolist())
            self.whole([None if i in late else body for i, body in enumerate(bodies)], path)
        return self.whole(bodies, path) if self.threshold is None else self._grouped(bodies)

    def _grouped(self, bodies: Sequence[bytes | None]) -> Ints:
        """Groups by the threshold there is: images met before as they were, then the others one after the other."""
        found = np.full(len(bodies), -1, np.int64)
        if self.threshold is None:
            return found
        names = {i: _name(body) for i, body in enumerate(bodies) if body is not None}
        rows = sorted(names, key=lambda i: names[i] not in self._group)
        place: dict[bytes, int] = {}
        known = [place.setdefault(self._group[names[i]], j) for j, i in enumerate(rows) if names[i] in self._group]
        local = groups(
            decode([body for i in rows if (body := bodies[i]) is not None]), self.threshold, known=_ints(known)
        )
        for i, first in zip(rows, local.tolist(), strict=True):
            leader = names[rows[first]] if first >= 0 else names[i]
            self._group.setdefault(names[i], self._group.get(leader, leader))
        found[rows] = np.where(local >= 0, _ints(rows)[local], -1)
        return found


def _name(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=16).digest()


def _ints(values: Sequence[int]) -> Ints:
    return np.array(values, np.int64)


def calibrated(rows: Sequence[int], path: FindFile, described: Descriptors) -> float | None:
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
