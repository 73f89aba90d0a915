"""What a model says about many images, in ragged arrays: the input of every acquisition function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.domain import Floats, Ints


@dataclass(frozen=True)
class Detections:
    """Instances of n images, one after the other, and what is known of each image.

    Shapes: n images, m instances, C classes of the project (a column that no model class is mapped to holds 0), M
    members of a committee.

    What is measured must be a number: NaN, infinity, or a probability outside [0, 1] is refused at birth.

    Attributes:
        offsets: Shape (n + 1,), rising from 0 to m: instances of image i are ``offsets[i]:offsets[i + 1]``.
        boxes: Shape (m, 4), xyxy pixels, finite; a box may be without area.
        scores: Shape (m, C), in [0, 1], one sigmoid per class.
        doubt: Shape (n,), in [0, 1]: best score below the floor that overlaps no kept box.
        model_change: Shape (n,), 0 or more: gradient length on the last class layer.
        disagreement: Shape (m,), variance of the class score over dropout heads, 0 or more; None = not measured.
        flip_iou: Shape (m,), in [0, 1]: overlap with the same object in a mirrored view, 0 when lost; None = no
            such view.
        flip_scores: Shape (m, C): scores of that object there, 0 when lost; None = no such view.
        committee: Shape (M, m, C): scores of the matched box of each member, the model itself first, 0 where it found
            none; None = no committee.
        mapped: Shape (C,): True where a model class is mapped to the project's class; the other columns hold 0 and
            acquisition functions leave them out. None = all are mapped.
    """

    offsets: Ints
    boxes: Floats
    scores: Floats
    doubt: Floats
    model_change: Floats
    disagreement: Floats | None = None
    flip_iou: Floats | None = None
    flip_scores: Floats | None = None
    committee: Floats | None = None
    mapped: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        m, n = len(self.scores), len(self.doubt)
        wanted: dict[str, tuple[int | None, ...]] = {
            "offsets": (n + 1,),
            "boxes": (m, 4),
            "scores": (m, None),
            "model_change": (n,),
            "disagreement": (m,),
            "flip_iou": (m,),
            "flip_scores": (m, self.scores.shape[-1]),
            "committee": (None, m, self.scores.shape[-1]),
            "mapped": (self.scores.shape[-1],),
        }
        for name, shape in wanted.items():
            check(name, getattr(self, name), shape)
        if self.offsets[0] != 0 or self.offsets[-1] != m or (np.diff(self.offsets) < 0).any():
            raise ValueError(f"offsets must rise from 0 to {m}, got {self.offsets[0]} to {self.offsets[-1]}")
        for name in ("scores", "doubt", "flip_iou", "flip_scores", "committee"):
            _check_range(name, getattr(self, name), 1)
        for name in ("model_change", "disagreement"):
            _check_range(name, getattr(self, name), float(np.finfo(np.float32).max))
        if not np.isfinite(self.boxes).all():
            raise ValueError("boxes must be finite")

    @classmethod
    def nothing(cls, n: int, classes: int = 0) -> Detections:
        """Images that nobody looked at."""
        none = np.zeros(n, np.float32)
        boxes, scores = np.zeros((0, 4), np.float32), np.zeros((0, classes), np.float32)
        return cls(np.zeros(n + 1, np.int64), boxes, scores, none, none)

    def __len__(self) -> int:
        return len(self.doubt)

    @property
    def counts(self) -> Ints:
        """Shape (n,): instances per image."""
        return np.diff(self.offsets).astype(np.int64)

    @property
    def image(self) -> Ints:
        """Shape (m,): the image of each instance."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.counts)

    @property
    def confidence(self) -> Floats:
        """Shape (m,): best class score of each instance, 0 without classes."""
        best: Floats = self.scores.max(axis=1, initial=0)
        return best

    @property
    def label(self) -> Ints:
        """Shape (m,): the class of that score, a mapped one; the lowest on ties, 0 without classes."""
        columns = np.arange(self.scores.shape[1]) if self.mapped is None else np.flatnonzero(self.mapped)
        if len(columns) == 0:
            return np.zeros(len(self.scores), np.int64)
        best: Ints = columns[self.of_mapped(self.scores).argmax(axis=1)].astype(np.int64)
        return best

    def of_mapped(self, scores: NDArray[Any]) -> NDArray[Any]:
        """The mapped classes out of an array whose last axis is the C classes."""
        return scores if self.mapped is None else scores[..., self.mapped]

    def total(self, values: NDArray[Any], rows: Ints | None = None) -> NDArray[np.float64]:
        """Sum over each image, greatest value first, so that the order of its boxes does not show: shape (n,).

        Args:
            values: Shape (m,).
            rows: The instances that count, None = all.
        """
        each, image = np.asarray(values, np.float64), self.image
        if rows is not None:
            each, image = each[rows], image[rows]
        order = np.lexsort((-each, image))
        return np.bincount(image[order], each[order], minlength=len(self)).astype(np.float64)

    def greatest(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Greatest value per instance in each image, 0 for an image without: shape (n,) or (n, C)."""
        out = np.zeros((len(self), *values.shape[1:]))
        full = self.counts > 0
        if full.any():
            out[full] = np.maximum.reduceat(values, self.offsets[:-1][full], axis=0)
        return out


def _check_range(name: str, array: NDArray[Any] | None, most: float) -> None:
    """Raise ValueError unless ``array`` is None or lies in [0, most]; NaN does not."""
    if array is None or array.size == 0:
        return
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= most):
        raise ValueError(f"{name} must be in [0, {most:g}], got {low:g} to {high:g}")


def check(name: str, array: NDArray[Any] | None, wanted: tuple[int | None, ...]) -> None:
    """Raise ValueError unless ``array`` is None or has the wanted shape; None in ``wanted`` = any length."""
    if array is None:
        return
    same = array.ndim == len(wanted) and all(w in (None, g) for w, g in zip(wanted, array.shape, strict=True))
    if not same:
        raise ValueError(f"{name} must have shape {wanted}, got {array.shape}")
