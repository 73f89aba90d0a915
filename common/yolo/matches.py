"""Matches of one image's boxes with its labels, and their files in a round's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.average_precision import Matches
from common.yolo import files


def match(iou: NDArray[Any], thresholds: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Labelled boxes to the boxes of one image in falling confidence: each takes the best that is still free.

    Done anew for every threshold, as ultralytics' validator does (``BaseValidator.match_predictions``).

    Args:
        iou: Shape (labelled boxes, boxes), in [0, 1]; 0 where the classes differ.
        thresholds: Shape (T,), rising, above 0.

    Returns:
        ``correct`` of shape (boxes, T) and ``overlap`` of shape (boxes,); see ``Matches``.
    """
    labelled, boxes = iou.shape
    every = np.arange(len(thresholds))
    correct, overlap = np.zeros((boxes, len(thresholds)), bool), np.zeros(boxes)
    free = np.ones((labelled, len(thresholds)), bool)
    for box in np.flatnonzero((iou >= thresholds[0]).any(axis=0)):
        offered = np.where(free, iou[:, box, None], 0)
        best = offered.argmax(axis=0)
        correct[box] = offered[best, every] >= thresholds
        free[best, every] &= ~correct[box]
        overlap[box] = offered[best[0], 0] * correct[box, 0]
    return correct, overlap


def path(folder: Path, sha256: str) -> Path:
    """Where the matches of weights lie."""
    return folder / f"matches-{sha256}.npz"


def save(folder: Path, sha256: str, found: Matches) -> None:
    """Write the matches of weights, atomically."""
    given = {name: value for name, value in vars(found).items() if value is not None}
    with files.replacing(path(folder, sha256)) as fresh:
        np.savez_compressed(fresh, **given)


def load(folder: Path) -> dict[str, Matches]:
    """sha256 of weights -> their matches, of all that lie in a folder."""
    answer = {}
    for file in sorted(folder.glob("matches-*.npz")):
        with np.load(file, allow_pickle=False) as stored:
            answer[file.stem.removeprefix("matches-")] = Matches(**stored)
    return answer


def forget(folder: Path) -> None:
    """Delete the matches in a folder: they belong to another validation set."""
    for file in folder.glob("matches-*.npz"):
        file.unlink()
