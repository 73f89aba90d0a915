"""Points that stay between queries, with what they remember, as long as the features stay the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.strategies.distances import TILE
from common.strategies.points import Points


class Keeper:
    """Makes points, and hands the same ones out again while the features stay the same: ``Pool.points``.

    With them comes what they remember (``Points.covered``): of labels that arrived since the last query only the new
    ones are met. Whoever queries one project again and again with one checkpoint keeps one of these per project, in
    memory; lost, everything is computed anew. A new checkpoint has new features, and so starts over by itself.

    Args:
        make: What holds the features, ``Points`` or the like.
    """

    def __init__(self, make: Callable[[NDArray[Any]], Points] = Points) -> None:
        self.make = make
        self.kept: Points | None = None

    def __call__(self, features: NDArray[Any]) -> Points:
        """The points of these features."""
        if self.kept is None or not _same(self.kept.features, features):
            self.kept = self.make(features)
        return self.kept


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Equal bit for bit, so that NaN equals NaN."""
    if one is other:
        return True
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    step = max(1, TILE // max(1, one.shape[1]))
    tiles = (slice(i, i + step) for i in range(0, len(one), step))
    return all(np.array_equal(_bits(one[t]), _bits(other[t])) for t in tiles)


def _bits(block: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(block).view(np.uint8)
