"""The same object in two looks at one image: boxes of one side matched to boxes of the other, one to one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.acquisition.uncertainty import Values
from common.geometry import iou

LEAST = 0.5
"""Two boxes with less overlap are not the same object (Everingham et al., IJCV 2010, section 4.2)."""


def match(
    boxes: NDArray[Any],
    scores: NDArray[Any],
    others: NDArray[Any],
    other_scores: NDArray[Any],
    least: float = LEAST,
) -> tuple[Values, Values]:
    """The other side's box on each box, whatever its class: best overlap first, one to one.

    CALD (Yu et al., WACV 2022, section 3.2) takes the box of greatest overlap for every reference box, however small
    that overlap, and one box may stand for many. Here a box stands for one object and must lie on it: in a crowd a lost
    object would otherwise be found again in its neighbour.

    Args:
        boxes: Shape (n, 4), xyxy.
        scores: Shape (n, C): of two boxes that lie equally well, the one with the nearer scores is taken.
        others: Shape (k, 4).
        other_scores: Shape (k, C).
        least: Least overlap of a match, in (0, 1].

    Returns:
        (overlap, scores there) of shapes (n,) and (n, C); 0 where the other side has no such box. The order of boxes on
        either side does not matter, but for boxes that are equal in all of this: the lowest index then.
    """
    mine, theirs = np.asarray(scores, np.float64), np.asarray(other_scores, np.float64)
    overlap, found = np.zeros(len(mine)), np.zeros(mine.shape)
    if len(mine) == 0 or len(theirs) == 0:
        return overlap, found
    common = iou(boxes, others)
    row, column = np.nonzero(common >= least)
    far = np.abs(mine[row] - theirs[column]).sum(axis=1)
    open_rows, open_columns = [True] * len(mine), [True] * len(theirs)
    order = np.lexsort((far, -common[row, column]))
    for i, j in zip(row[order].tolist(), column[order].tolist(), strict=True):
        if open_rows[i] and open_columns[j]:
            open_rows[i] = open_columns[j] = False
            overlap[i], found[i] = common[i, j], theirs[j]
    return overlap, found
