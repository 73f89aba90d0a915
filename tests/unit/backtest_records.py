"""Records of units as a replay leaves them, made up: an arm's qualities round by round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

LABELS = (4, 8, 16)


def one(labels: int, quality: float, boxes: int | None = None) -> dict[str, Any]:
    boxes = 2 * labels if boxes is None else boxes
    metrics = {"map5095": quality, "map50": quality, "worst_quarter": quality / 2}
    return {
        "labels": labels,
        "boxes": boxes,
        "hours": (5 * labels + 7 * boxes) / 3600,
        "picked": [],
        "metrics": metrics,
        "updates": 10,
    }


def record(
    arm: str, qualities: Sequence[float], seed: int = 0, data: str = "cards", boxes: int | None = None
) -> dict[str, Any]:
    rounds = [one(n, q, boxes and boxes * n) for n, q in zip(LABELS, qualities, strict=False)]
    return {"data": data, "seed": seed, "arm": arm, "complete": len(rounds) == len(LABELS), "rounds": rounds}


def full(seed: int = 0, data: str = "cards", quality: float = 1.0) -> dict[str, Any]:
    return {"data": data, "seed": seed, "round": one(100, quality)}
