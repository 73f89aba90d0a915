"""The pool a strategy chooses from, and what it answers: frozen arrays, checked at birth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.acquisition.detections import Detections, check
from common.domain import Ints, Prediction
from common.strategies.points import Points
from common.strategies.predictions import detections_of, embeddings_of, sound

Mask = NDArray[np.bool_]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Pool:
    """Every sample of a project as arrays, labelled ones included; strategies return unlabelled ones only.

    Attributes:
        embeddings: Shape (n, D), float32 or float16, raw, memory-mapped or not. A row that is not finite is unknown.
        detections: What the model says about the n images, over the project's C classes.
        labelled: Shape (n,), True where a label exists.
        label_counts: Shape (C,), labelled boxes per class.
        class_names: C names, for the reasons; () = numbers are shown.
        quality: Shape (C,), in [0, 1], from ``difficulty.class_quality``; None = no validation set yet.
        group: Shape (n,), near-duplicate group, -1 = none.
        slice_hash: Shape (n,), in [0, 1), a keyed hash of the sample that never changes; None = no random slice.
        slice_share: Samples whose hash is below this belong to the random slice, in [0, 1).
        readable: Shape (n,), False = the image cannot be decoded or was not scored.
        knows: Whether the model knows the project's labels; False = cold.
        utility: Shape (n,), finite: utilities from elsewhere, used instead of ``detections``; None = there are none.
        image_seconds: Measured time an annotator spends on an image without boxes.
        box_seconds: Measured time for one box more.
        points: What holds directions and remembers distances to labels: in memory, on a device, kept between queries
            (``points.Keeper``).
    """

    embeddings: NDArray[Any]
    detections: Detections
    labelled: Mask
    label_counts: Ints
    group: Ints
    readable: Mask
    class_names: tuple[str, ...] = ()
    quality: Values | None = None
    slice_hash: Values | None = None
    slice_share: float = 0.1
    knows: bool = True
    utility: Values | None = None
    image_seconds: float = 5.0
    box_seconds: float = 7.0
    points: Callable[[NDArray[Any]], Points] = Points

    def __post_init__(self) -> None:
        n, classes = len(self.embeddings), self.detections.scores.shape[1]
        if len(self.detections) != n:
            raise ValueError(f"detections must cover {n} images, got {len(self.detections)}")
        check("embeddings", self.embeddings, (n, None))
        for name in ("labelled", "group", "readable", "slice_hash", "utility"):
            check(name, getattr(self, name), (n,))
        for name in ("label_counts", "quality"):
            check(name, getattr(self, name), (classes,))
        if self.class_names and len(self.class_names) != classes:
            raise ValueError(f"class_names must be {classes} names, got {len(self.class_names)}")
        if not 0 <= self.slice_share < 1:
            raise ValueError(f"slice_share must be in [0, 1), got {self.slice_share}")
        if not (self.image_seconds > 0 and self.box_seconds >= 0):
            raise ValueError(f"times must be positive, got {self.image_seconds} s and {self.box_seconds} s")
        if self.utility is not None and not np.isfinite(self.utility).all():
            raise ValueError("utility must be finite")

    def __len__(self) -> int:
        return len(self.embeddings)

    @cached_property
    def in_slice(self) -> Mask:
        """Shape (n,): members of the random slice, labelled or not."""
        return np.zeros(len(self), bool) if self.slice_hash is None else self.slice_hash < self.slice_share

    @cached_property
    def candidates(self) -> Ints:
        """Ascending indices a strategy may pick: unlabelled, readable, not of the random slice."""
        return np.flatnonzero(~self.labelled & self.readable & ~self.in_slice)

    @cached_property
    def slice_queue(self) -> Ints:
        """Unlabelled readable members of the random slice, in hash order."""
        rows = np.flatnonzero(~self.labelled & self.readable & self.in_slice)
        return rows if self.slice_hash is None else rows[np.argsort(self.slice_hash[rows], kind="stable")]

    @cached_property
    def unreadable(self) -> Ints:
        """Ascending indices of unlabelled images that cannot be read: the very end of every order."""
        return np.flatnonzero(~self.labelled & ~self.readable)

    @property
    def labelled_rows(self) -> Ints:
        """Ascending indices of labelled samples."""
        return np.flatnonzero(self.labelled)

    def class_name(self, index: int) -> str:
        """The class as people call it."""
        return self.class_names[index] if self.class_names else f"class {index}"

    @classmethod
    def from_embeddings(
        cls,
        embeddings: NDArray[Any],
        *,
        labelled: NDArray[Any] | None = None,
        utility: NDArray[Any] | None = None,
    ) -> Pool:
        """Your own features and, optionally, utilities; no model, no classes, no random slice.

        Args:
            embeddings: Shape (n, D).
            labelled: Mask of shape (n,), or indices.
            utility: Shape (n,), higher = more informative. None = cold.
        """
        n = len(embeddings)
        values = None if utility is None else np.asarray(utility, np.float64)
        return cls(
            embeddings,
            Detections.nothing(n),
            mask(labelled, n),
            np.zeros(0, np.int64),
            np.full(n, -1, np.int64),
            np.ones(n, bool),
            knows=values is not None,
            utility=values,
        )

    @classmethod
    def from_predictions(
        cls,
        predictions: Sequence[Prediction | None],
        class_columns: Mapping[int, int | Sequence[int]],
        classes: int,
        *,
        labelled: NDArray[Any] | None = None,
        label_counts: NDArray[Any] | None = None,
        group: NDArray[Any] | None = None,
        **rest: Any,
    ) -> Pool:
        """A pool from what a detector says; None = the image could not be read.

        A prediction with a score, a box or a signal that is not a number counts as None.

        Args:
            predictions: One entry per sample.
            class_columns: Project class -> column of the model's scores, or several columns (the best counts).
                A project class that is missing has no model class and always scores 0.
            classes: C, classes of the project.
            labelled: Mask of shape (n,), or indices; None = nothing is labelled.
            label_counts: Shape (C,); None = zeros.
            group: Shape (n,); None = no near-duplicates.
            **rest: Further fields of ``Pool``.
        """
        n = len(predictions)
        predictions = [p if p is not None and sound(p) else None for p in predictions]
        there = np.isin(np.arange(classes), [c for c, columns in class_columns.items() if np.size(columns)])
        return cls(
            embeddings_of(predictions),
            replace(detections_of(predictions, class_columns, classes), mapped=None if there.all() else there),
            mask(labelled, n),
            np.zeros(classes, np.int64) if label_counts is None else np.asarray(label_counts, np.int64),
            np.full(n, -1, np.int64) if group is None else np.asarray(group, np.int64),
            np.array([p is not None for p in predictions], bool),
            **rest,
        )


@dataclass(frozen=True)
class Selection:
    """An ordered answer to a query.

    Attributes:
        order: Shape (k,), indices into the pool, label first = first; no repeats, never a labelled sample.
        utility: Shape (k,), in [0, 1], higher = more informative by the strategy's own measure. Falls along the
            order only where the strategy sorts by it (top_utility, additive); 0 for unreadable images.
        parts: Per place, what speaks for the image as JSON-able numbers, and 'reason', a sentence without a full stop.
    """

    order: Ints
    utility: Values
    parts: list[dict[str, Any]]


def _no_parts(rows: Ints) -> list[dict[str, Any]]:
    return [{"reason": ""} for _ in rows]


@dataclass(frozen=True)
class Draft:
    """What one strategy hands to ``query``, which adds the random slice and the unreadable images.

    Attributes:
        order: Pool indices out of ``Pool.candidates``, best first. It may be shorter than all candidates
            only when the budget is met.
        utility: Shape (n,), in [0, 1], of every sample of the pool.
        parts: Pool indices to parts, as in ``Selection``.
    """

    order: Ints
    utility: Values
    parts: Callable[[Ints], list[dict[str, Any]]] = field(default=_no_parts)


def mask(labelled: NDArray[Any] | Sequence[int] | None, n: int) -> Mask:
    """A mask of shape (n,) from a mask, from indices or from nothing.

    Raises:
        ValueError: When an index is out of range, no whole number or there twice (as in a mask of 0 and 1), or the mask
            has another length.
    """
    given = np.zeros(0, np.int64) if labelled is None else np.asarray(labelled)
    if given.dtype == bool:
        check("labelled", given, (n,))
        return given.astype(bool)
    if given.size and given.dtype.kind not in "iu":
        raise ValueError(f"labelled indices must be whole numbers, got {given.dtype}")
    rows = given.astype(np.int64)
    if rows.size and not (rows.min() >= 0 and rows.max() < n):
        raise ValueError(f"labelled indices must be in 0..{n - 1}, got {rows.min()} to {rows.max()}")
    found, count = np.unique(rows, return_counts=True)
    if (count > 1).any():
        row, times = found[count.argmax()], count.max()
        raise ValueError(f"labelled names row {row} {times} times: each row once, or a mask of type bool, is allowed")
    out = np.zeros(n, bool)
    out[found] = True
    return out


def quantiles(values: NDArray[Any]) -> Values:
    """Rank quantile (rank - .5) / n of each value, in (0, 1); equal values share the mean of their ranks."""
    x = np.asarray(values, np.float64)
    _, inverse, count = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    rank = (last - (count - 1) / 2)[inverse.reshape(-1)]
    return (rank - 0.5) / max(1, len(x))
