"""Boxes and rotated rectangles: pure numpy, xyxy absolute pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def xyxy(boxes: Array) -> NDArray[np.float64]:
    """Boxes as a float64 array of shape (n, 4); an empty list is (0, 4).

    Raises:
        ValueError: When the last axis is not 4 long.
    """
    array = np.asarray(boxes, dtype=np.float64)
    if array.size == 0:
        return array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"boxes must have shape (n, 4), got {array.shape}")
    return array


def area(boxes: Array) -> NDArray[np.float64]:
    """Shape (n,), square pixels; 0 for a box whose corners are in the wrong order."""
    b = xyxy(boxes)
    return np.clip(b[:, 2] - b[:, 0], 0, None) * np.clip(b[:, 3] - b[:, 1], 0, None)


def iou(first: Array, second: Array) -> NDArray[np.float64]:
    """Intersection over union of every box of ``first`` with every box of ``second``.

    Returns:
        Shape (n, m), in [0, 1]; 0 where both boxes are without area.
    """
    a, b = xyxy(first), xyxy(second)
    corner = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    shared = np.clip(corner, 0, None).prod(axis=2)
    return _ratio(shared, area(a)[:, None] + area(b)[None, :] - shared)


def paired_iou(first: Array, second: Array) -> NDArray[np.float64]:
    """Intersection over union row by row: shape (n,), in [0, 1].

    Raises:
        ValueError: When there are not as many boxes on both sides.
    """
    a, b = xyxy(first), xyxy(second)
    if len(a) != len(b):
        raise ValueError(f"paired boxes must be equally many, got {len(a)} and {len(b)}")
    shared = np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, None).prod(axis=1)
    return _ratio(shared, area(a) + area(b) - shared)


def _ratio(shared: NDArray[np.float64], union: NDArray[np.float64]) -> NDArray[np.float64]:
    safe = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return np.clip(safe, 0, 1)


def clip(boxes: Array, width: float, height: float) -> NDArray[np.float64]:
    """The part of each box inside an image of ``width`` x ``height`` pixels, shape (n, 4).

    A box wholly outside becomes one without area on the nearest edge.
    """
    return np.clip(xyxy(boxes), 0, np.array([width, height, width, height], dtype=np.float64))


def to_fractions(boxes: Array, width: float, height: float) -> NDArray[np.float64]:
    """Pixels to fractions of the image, shape (n, 4).

    Raises:
        ValueError: When a side of the image is not positive.
    """
    return xyxy(boxes) / _sides(width, height)


def from_fractions(boxes: Array, width: float, height: float) -> NDArray[np.float64]:
    """Fractions of the image to pixels, shape (n, 4).

    Raises:
        ValueError: When a side of the image is not positive.
    """
    return xyxy(boxes) * _sides(width, height)


def _sides(width: float, height: float) -> NDArray[np.float64]:
    if not (width > 0 and height > 0):
        raise ValueError(f"width and height must be positive, got {width} x {height}")
    return np.array([width, height, width, height], dtype=np.float64)


def from_centre(boxes: Array) -> NDArray[np.float64]:
    """(centre x, centre y, width, height) to xyxy, shape (n, 4)."""
    b = xyxy(boxes)
    return np.hstack([b[:, :2] - b[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2])


def to_centre(boxes: Array) -> NDArray[np.float64]:
    """Xyxy to (centre x, centre y, width, height), shape (n, 4)."""
    b = xyxy(boxes)
    return np.hstack([(b[:, :2] + b[:, 2:]) / 2, b[:, 2:] - b[:, :2]])


def flip(boxes: Array, width: float) -> NDArray[np.float64]:
    """Boxes in an image mirrored left to right; its own inverse. Shape (n, 4)."""
    b = xyxy(boxes)
    return np.column_stack([width - b[:, 2], b[:, 1], width - b[:, 0], b[:, 3]])


def rotated_corners(x: float, y: float, width: float, height: float, degrees: float) -> NDArray[np.float64]:
    """Corners of a rectangle turned clockwise about its top left corner (x, y), y pointing down.

    Returns:
        Shape (4, 2): top left, top right, bottom right, bottom left of the unturned rectangle.
    """
    angle = np.deg2rad(degrees)
    along = np.array([np.cos(angle), np.sin(angle)])
    down = np.array([-np.sin(angle), np.cos(angle)])
    origin = np.array([x, y], dtype=np.float64)
    return np.stack([origin, origin + width * along, origin + width * along + height * down, origin + height * down])


def enclosing_box(points: Array) -> NDArray[np.float64]:
    """The smallest upright box around points of shape (n, 2); shape (4,).

    Raises:
        ValueError: Without points, or when they are not pairs.
    """
    p = np.asarray(points, dtype=np.float64)
    if p.ndim != 2 or p.shape[1] != 2 or len(p) == 0:
        raise ValueError(f"points must have shape (n, 2) with n at least 1, got {p.shape}")
    return np.concatenate([p.min(axis=0), p.max(axis=0)])
