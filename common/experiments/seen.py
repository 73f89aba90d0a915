"""Images that were decided before, and which of them a newcomer looks like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from common.loop.lookalikes import CALIBRATED_ON, Lookalikes, calibrated
from common.loop.thumbnails import decode


class Seen:
    """Near-duplicate groups of all images so far; newcomers join them, one after the other.

    How near is near is measured on copies of some images, again each time that twice as many are known, until these
    are ``CALIBRATED_ON``; then it stays.

    Args:
        names: Content hashes of the images decided so far, in the order they were decided.
        paths: Where each was; only for those that are still there it can be measured how near their copies are.
        bodies: Their descriptors, None where one is not known any more.
        threshold: The last distance that was measured, and how many images were known then; None = none was.
        remember: Called with each new distance and number of images.
    """

    def __init__(
        self,
        names: Sequence[str],
        paths: Sequence[Path],
        bodies: Sequence[bytes | None],
        threshold: tuple[float, int] | None = None,
        remember: Callable[[float, int], None] = lambda _distance, _images: None,
    ) -> None:
        self._names, self._paths, self._bodies = list(names), list(paths), list(bodies)
        self._remember = remember
        self._take(*threshold or (None, 0))

    def _take(self, distance: float | None, images: int) -> None:
        self._measured_on = images
        self._alike = Lookalikes()
        self._alike.threshold = distance

    def meet(self, names: Sequence[str], paths: Sequence[Path], bodies: Sequence[bytes | None]) -> list[str]:
        """The hash of the first image that each newcomer is a near-duplicate of, '' = it is like none before it."""
        new = np.arange(len(self._names), len(self._names) + len(names), dtype=np.int64)
        self._names += names
        self._paths += paths
        self._bodies += bodies
        self._measure()
        if self._alike.threshold is None:
            return [""] * len(names)
        group = self._alike.grown(self._bodies, lambda i: self._paths[i], new)
        return [self._names[group[i]] if 0 <= group[i] < i else "" for i in new.tolist()]

    def _measure(self) -> None:
        there = [i for i, body in enumerate(self._bodies) if body is not None]
        enough = self._measured_on >= CALIBRATED_ON or len(there) < 2 * self._measured_on
        if len(there) < 2 or (self._measured_on and enough):
            return
        files = [i for i in there if self._paths[i].is_file()]
        bodies = decode([body for body in self._bodies if body is not None])
        distance = calibrated(files, lambda i: self._paths[i], bodies)
        if distance is not None:
            self._take(distance, len(there))
            self._remember(distance, len(there))
