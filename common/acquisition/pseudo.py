"""Pseudo-labels: images about which a model is so sure that they may train as it sees them.

The counterpart of a query: Wang et al. 2017 (CEAL) let the surest samples train with the model's own answer and raise
the bar as the model improves; Zou et al., ECCV 2018 (class-balanced self-training) give every class its own bar, so
that easy classes do not crowd out the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.acquisition.uncertainty import Values
from common.domain import Ints

NOTHING = 0.10
"""A box under this confidence is clearly none; from here to its class's bar it is undecided."""
SHARE = 0.50
"""Of each class's boxes, the surest so many would train while the model knows nothing (CBST's portion p)."""
BAR = (0.60, 0.90)
"""No bar is lower than this, at a quality of 0 and of 1."""


@dataclass(frozen=True)
class Boxes:
    """All boxes of n images from confidence .05 up.

    Attributes:
        image: Shape (m,), in [0, images).
        label: Shape (m,), in [0, classes): the best class of each.
        confidence: Shape (m,), in [0, 1]: of that class.
        images: n.
        classes: C.
    """

    image: Ints
    label: Ints
    confidence: Values
    images: int
    classes: int

    def __post_init__(self) -> None:
        m = len(self.image)
        if self.label.shape != (m,) or self.confidence.shape != (m,):
            raise ValueError(
                f"label and confidence must have shape {(m,)}, got {self.label.shape}, {self.confidence.shape}"
            )
        for name, values, end in (("image", self.image, self.images), ("label", self.label, self.classes)):
            if m and not (values.min() >= 0 and values.max() < end):
                raise ValueError(f"{name} must lie in 0..{end - 1}, got {values.min()} to {values.max()}")


def bars(boxes: Boxes, map50: float) -> Values:
    """Confidence from which a box of each class is sure: t_c = max(.6 + .3 q, quantile_c(1 - .5 (1 - q))).

    The quantile is over the class's own boxes that are not clearly nothing; q is the model's mAP50. Every class gives
    the same share of its boxes, fewer the better the model is, and never one that is doubtful in itself.

    Args:
        boxes: Of every image that may be chosen.
        map50: Of the model on the validation set, in [0, 1].

    Returns:
        Shape (C,), in [.6, 1]; infinity for a class without a box.
    """
    if not 0 <= map50 <= 1:
        raise ValueError(f"map50 must be in [0, 1], got {map50}")
    least = BAR[0] + (BAR[1] - BAR[0]) * map50
    out = np.full(boxes.classes, np.inf)
    there = boxes.confidence >= NOTHING
    for c in np.unique(boxes.label[there]):
        own = boxes.confidence[there & (boxes.label == c)]
        out[c] = max(least, float(np.quantile(own, 1 - SHARE * (1 - map50))))
    return out


def choose(boxes: Boxes, allowed: NDArray[Any], map50: float, most: int) -> Ints:
    """Images all of whose boxes are decided, at least one of them sure; balanced over classes.

    An image counts for the rarest class in it. Every class may give as many images, its surest first.

    Args:
        boxes: What the serving model says.
        allowed: Shape (n,), bool: unlabelled, readable, neither of the validation set nor of the random slice, no
            near-duplicate of a labelled image.
        map50: Of the model, in [0, 1].
        most: At most so many images.

    Returns:
        Indices, every class in turn; with a higher ``map50`` fewer or as many.
    """
    may = np.asarray(allowed, bool)
    if may.shape != (boxes.images,):
        raise ValueError(f"allowed must have shape {(boxes.images,)}, got {may.shape}")
    counted = may[boxes.image] & (boxes.confidence >= NOTHING)
    own = Boxes(boxes.image[counted], boxes.label[counted], boxes.confidence[counted], boxes.images, boxes.classes)
    if not len(own.image) or most <= 0:
        return np.zeros(0, np.int64)
    sure = own.confidence >= bars(own, map50)[own.label]
    decided = np.ones(boxes.images, bool)
    decided[own.image[~sure]] = False
    decided &= np.bincount(own.image, minlength=boxes.images) > 0
    lowest = np.full(boxes.images, np.inf)
    np.minimum.at(lowest, own.image, own.confidence)
    of = _rarest(own)
    part = max(1, most // len(np.unique(of[of < boxes.classes])))
    return _in_turn(np.flatnonzero(decided), of, lowest, part)[:most]


def _rarest(boxes: Boxes) -> Ints:
    """Shape (n,): the class of each image that has the fewest boxes in all; C where it has no box."""
    count = np.bincount(boxes.label, minlength=boxes.classes)
    rank = np.empty(boxes.classes, np.int64)
    order = np.argsort(count, kind="stable")
    rank[order] = np.arange(boxes.classes)
    best = np.full(boxes.images, boxes.classes, np.int64)
    np.minimum.at(best, boxes.image, rank[boxes.label])
    return np.append(order, boxes.classes)[best].astype(np.int64)


def _in_turn(rows: Ints, of: Ints, sureness: Values, part: int) -> Ints:
    """The surest of each class, then the second of each, and so on, at most ``part`` of a class."""
    ranked = rows[np.lexsort((rows, -sureness[rows]))]
    turns = [(place, c, i) for c in np.unique(of[rows]) for place, i in enumerate(ranked[of[ranked] == c][:part])]
    return np.array([i for _, _, i in sorted(turns)], np.int64)
