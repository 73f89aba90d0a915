"""One place of a version as a row of the memory, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.domain import QueueItem, ShownBox

PLACE = "place:"
"""Kinds of rows begin with it, the version follows; the key is the sample."""


def row_of(item: QueueItem) -> dict[str, Any]:
    """The row of one place."""
    boxes = [[b.name, *(round(v, 2) for v in b.xyxy), round(b.score, 4)] for b in item.boxes]
    return {"order": item.order, "boxes": boxes, "w": item.width, "h": item.height}


def item_of(sample: str, row: Mapping[str, Any]) -> QueueItem:
    """Back from ``row_of``."""
    boxes = tuple(ShownBox(name, (x1, y1, x2, y2), score) for name, x1, y1, x2, y2, score in row["boxes"])
    return QueueItem(sample, row["order"], boxes, row["w"], row["h"])
