"""Labelled images and what a model says of them, as arrays: who overlaps whom, and which boxes belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.domain import Ints, LabelledBox
from common.geometry import paired_iou
from common.review.findings import SAME, Disputed, drawn_by

Values = NDArray[np.float64]

NEAR = 0.2
"""A box that overlaps a drawn one by less has nothing to do with it."""
FAINT = 0.15
"""Under this confidence the model holds that the object is not there."""


@dataclass(frozen=True)
class Looked:
    """One labelled image, and what the model says of it.

    Attributes:
        sample: The platform's id.
        drawn: Its label.
        boxes: Shape (m, 4), xyxy fractions of the image.
        scores: Shape (m, C), in [0, 1], of the project's classes; 0 in a class the model does not know.
    """

    sample: str
    drawn: tuple[LabelledBox, ...]
    boxes: Values
    scores: Values


class Scene:
    """Images as arrays: n drawn boxes, m boxes of the model, p pairs of one of each that overlap by ``NEAR``.

    Attributes:
        image: Shape (n,), of each drawn box; ``place``: where it stands in its label; ``label``: see ``Doubts``.
        seen: Shape (m,), image of each of the model's boxes, with ``boxes`` (m, 4), ``scores`` (m, C), ``confidence``
            and ``best`` class (m,).
        row: Shape (p,), the drawn box of each pair; ``column``: the model's; ``overlap``: of them.
        support: Shape (n,), see ``Doubts``.
        partner: Shape (m,), the drawn box of the same class that each of the model's is matched to, -1 = none;
            ``fit``: their overlap, 0 = none.
    """

    def __init__(self, images: Sequence[Looked], names: Sequence[str], known: NDArray[np.bool_]) -> None:
        self.images, self.names = images, names
        index = {name: i for i, name in enumerate(names) if known[i]}
        counts = [len(i.drawn) for i in images]
        every = [b for i in images for b in i.drawn]
        self.image = np.repeat(np.arange(len(images)), counts)
        self.place = np.arange(len(every)) - np.repeat(np.cumsum(counts) - counts, counts)
        self.label = np.array([index.get(b.name, -1) for b in every], np.int64)
        drawn = np.array([b.xyxy for b in every], np.float64).reshape(-1, 4)
        self._take(images)
        self.row, self.column = _pairs(self.image, self.seen, len(images))
        self.overlap = paired_iou(drawn[self.row], self.boxes[self.column])
        near = self.overlap >= NEAR
        self.row, self.column, self.overlap = self.row[near], self.column[near], self.overlap[near]
        self.support = self._support()
        self.partner, self.fit = self._partners()

    def _take(self, images: Sequence[Looked]) -> None:
        """The model's boxes, without the faint ones."""
        scores = np.concatenate([i.scores for i in images]).astype(np.float64)
        confidence: Values = scores.max(axis=1, initial=0)
        kept = confidence >= FAINT
        self.seen = np.repeat(np.arange(len(images)), [len(i.boxes) for i in images])[kept]
        self.boxes = np.concatenate([i.boxes for i in images]).astype(np.float64)[kept]
        self.scores, self.confidence = scores[kept], confidence[kept]
        self.best = self.scores.argmax(axis=1) if self.scores.shape[1] else np.zeros(len(self.scores), np.int64)

    def _support(self) -> Values:
        out = np.zeros(len(self.label))
        there = (self.overlap >= SAME) & (self.label[self.row] >= 0)
        row = self.row[there]
        np.maximum.at(out, row, self.scores[self.column[there], self.label[row]])
        return np.where(out >= FAINT, out, 0)

    def _partners(self) -> tuple[Ints, Values]:
        """Best overlap first, one to one."""
        partner, fit = np.full(len(self.seen), -1), np.zeros(len(self.seen))
        same = np.flatnonzero(self.label[self.row] == self.best[self.column])
        order = same[np.lexsort((-self.confidence[self.column[same]], -self.overlap[same]))]
        open_ = [True] * len(self.label)
        for pair, i, j in zip(order.tolist(), self.row[order].tolist(), self.column[order].tolist(), strict=True):
            if open_[i] and partner[j] < 0:
                open_[i] = False
                partner[j], fit[j] = i, self.overlap[pair]
        return partner, fit

    def origin(self, row: int) -> str:
        """What the person did to a drawn box."""
        return self._box(row).origin

    def drawn(self, row: int) -> Disputed:
        """A drawn box."""
        return drawn_by(self._box(row), "label")

    def _box(self, row: int) -> LabelledBox:
        return self.images[int(self.image[row])].drawn[int(self.place[row])]

    def said(self, column: int) -> Disputed:
        """A box of the model."""
        x1, y1, x2, y2 = np.round(self.boxes[column], 4).tolist()
        return Disputed(
            self.names[self.best[column]], (x1, y1, x2, y2), "model", round(float(self.confidence[column]), 4)
        )


def _pairs(image: Ints, seen: Ints, n: int) -> tuple[Ints, Ints]:
    """Every (drawn box, box of the model) of the same image; both are in the order of their images."""
    count = np.bincount(seen, minlength=n)
    start = np.cumsum(count) - count
    times = count[image]
    row = np.repeat(np.arange(len(image)), times)
    within = np.arange(len(row)) - np.repeat(np.cumsum(times) - times, times)
    return row, within + start[image][row]
