"""From the utilities of instances to the utility of an image.

Every function takes (utility of shape (m,), detections, empty of shape (n,)) and returns shape (n,), higher = more
informative, bit for bit the same whatever the order of the boxes. An image without a box is neither 0 nor 1: it gets
its ``empty`` value, ``doubt_entropy`` by default, which is how unsure the best score below the threshold is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.acquisition.detections import Detections
from common.acquisition.uncertainty import Values, binary_entropy
from common.domain import Ints
from common.errors import SettingError
from common.geometry import paired_iou


def doubt_entropy(detections: Detections) -> Values:
    """Shape (n,), in bits: binary entropy of the best score below the floor; .29 at .05, 0 at 0."""
    return binary_entropy(detections.doubt)


def min_confidence(utility: NDArray[Any], detections: Detections, empty: NDArray[Any]) -> Values:
    """1 - confidence of the weakest detection, whatever the utilities. In [0, 1]."""
    del utility
    return _or_empty(detections.greatest(1 - detections.confidence.astype(np.float64)), detections, empty)


def mean_of_n_lowest(utility: NDArray[Any], detections: Detections, empty: NDArray[Any], n_lowest: int = 3) -> Values:
    """Mean utility of the ``n_lowest`` detections with the lowest confidence (greater utility first on ties).

    Of fewer detections all count. Raises SettingError when ``n_lowest`` is below 1.
    """
    _check_count("n_lowest", n_lowest)
    order = np.lexsort((-np.asarray(utility, np.float64), detections.confidence, detections.image))
    part = order[_place(detections) < n_lowest]
    count = np.clip(detections.counts, 1, n_lowest)
    return _or_empty(detections.total(utility, part) / count, detections, empty)


def greatest(utility: NDArray[Any], detections: Detections, empty: NDArray[Any]) -> Values:
    """The greatest utility of the image."""
    return _or_empty(detections.greatest(np.asarray(utility, np.float64)), detections, empty)


def total(utility: NDArray[Any], detections: Detections, empty: NDArray[Any]) -> Values:
    """Sum of all utilities: crowds win by headcount."""
    return _or_empty(detections.total(utility), detections, empty)


def top_m(
    utility: NDArray[Any], detections: Detections, empty: NDArray[Any], m: int = 10, overlap: float = 0.5
) -> Values:
    """Sum of the ``m`` greatest utilities after entropy-NMS: what overlaps in one class counts once."""
    kept = entropy_nms(utility, detections, m, overlap)
    return _or_empty(detections.total(utility, kept), detections, empty)


AGGREGATIONS: dict[str, Callable[..., Values]] = {
    "min_confidence": min_confidence,
    "mean_of_n_lowest": mean_of_n_lowest,
    "max": greatest,
    "sum": total,
    "top_m": top_m,
}
"""Name -> function."""

SUMS = frozenset({"sum", "top_m"})
"""Aggregations that may exceed 1."""


def entropy_nms(utility: NDArray[Any], detections: Detections, m: int = 10, overlap: float = 0.5) -> Ints:
    """The ``m`` most informative instances of each image, none overlapping a better one of its class.

    Entropy-based non-maximum suppression of Wu et al., CVPR 2022, section 3.2, with box overlap for feature similarity.

    Args:
        utility: Shape (m,).
        detections: The instances.
        m: Most instances kept per image, at least 1.
        overlap: Two boxes of one class with more IoU than this are one, in [0, 1]; at 1 every box counts, as does
            every box without area, which overlaps nothing.

    Returns:
        Indices of the kept instances, image by image. Equal utilities: smaller box coordinates first, so that
        the outcome does not hang on the order of the boxes.

    Raises:
        SettingError: When ``m`` is below 1 or ``overlap`` outside [0, 1].
    """
    _check_count("m", m)
    if not 0 <= overlap <= 1:
        raise SettingError(f"overlap is {overlap}: 0 to 1 is allowed")
    image, label = detections.image, detections.label
    keys = (*detections.boxes.T[::-1], label, -np.asarray(utility, np.float64), image)
    alive = np.lexsort(keys).astype(np.int64)
    kept: list[Ints] = []
    for _ in range(m):
        if len(alive) == 0:
            break
        first = np.flatnonzero(np.diff(image[alive], prepend=-1))
        kept.append(alive[first])
        rival = np.repeat(alive[first], np.diff(first, append=len(alive)))
        same = label[alive] == label[rival]
        near = paired_iou(detections.boxes[alive], detections.boxes[rival]) > overlap
        out = same & near
        out[first] = True
        alive = alive[~out]
    chosen = np.concatenate(kept) if kept else np.zeros(0, np.int64)
    return np.sort(chosen)


def _place(detections: Detections) -> Ints:
    """Shape (m,): 0, 1, 2 ... within each image."""
    return np.arange(len(detections.scores), dtype=np.int64) - np.repeat(detections.offsets[:-1], detections.counts)


def _check_count(name: str, value: int) -> None:
    if value < 1:
        raise SettingError(f"{name} is {value}: 1 or more is allowed")


def _or_empty(values: Values, detections: Detections, empty: NDArray[Any]) -> Values:
    return np.where(detections.counts > 0, values, np.asarray(empty, np.float64))
