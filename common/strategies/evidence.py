"""What second looks say of a pool's instances, over the project's classes, or None where it cannot be compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from common.domain import Floats, Prediction

Kept = tuple[Prediction, NDArray[np.bool_]]
"""A prediction, and which of its boxes are instances of the pool."""


def evidence(
    kept: Sequence[Kept], mapped: Callable[[Floats], Floats], classes: int
) -> tuple[Floats | None, Floats | None, Floats | None]:
    """The fields ``flip_iou``, ``flip_scores`` and ``committee`` of ``Detections``.

    Each is there only when every image with an instance has it, committees of one size: utilities of images that were
    looked at differently cannot be compared. Without any instance all are there, and empty. The model itself is the
    first member of its committee: one more view already has somebody to disagree with.

    Args:
        kept: The predictions of the pool, in its order.
        mapped: Scores (k, model's classes) -> (k, C).
        classes: C.
    """
    some = [(p, keep) for p, keep in kept if keep.any()]
    flips = [flip for p, keep in some if (flip := _flip(p, keep, mapped)) is not None]
    committees = [_committee(p, keep, mapped, classes) for p, keep in some if p.committee is not None]
    overlap = there = together = None
    if len(flips) == len(some):
        overlap = np.concatenate([np.zeros(0, np.float32), *(f[0] for f in flips)]).astype(np.float32)
        there = np.concatenate([np.zeros((0, classes), np.float32), *(f[1] for f in flips)]).astype(np.float32)
    if len(committees) == len(some) and len({len(c) for c in committees}) <= 1:
        members = len(committees[0]) if committees else 1
        together = np.concatenate([np.zeros((members, 0, classes), np.float32), *committees], axis=1)
    return overlap, there, together


def _flip(p: Prediction, keep: NDArray[np.bool_], mapped: Callable[[Floats], Floats]) -> tuple[Floats, Floats] | None:
    if p.flip_iou is None or p.flip_scores is None:
        return None
    return p.flip_iou[keep], mapped(p.flip_scores[keep])


def _committee(p: Prediction, keep: NDArray[np.bool_], mapped: Callable[[Floats], Floats], classes: int) -> Floats:
    """Shape (1 + M, k, C): the model itself, then the others."""
    members = [p.instances.scores, *(p.committee if p.committee is not None else ())]
    return np.stack([mapped(scores[keep]) for scores in members]).reshape(len(members), -1, classes)
