"""The learning curve as a drawing: an SVG for those without JavaScript, and the points for those who have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 760, 320
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 16, 44


@dataclass(frozen=True)
class Point:
    """Where a checkpoint stands; ``high`` and ``low`` are the ends of its interval, y in pixels from the top."""

    x: float
    y: float
    low: float
    high: float
    serves: bool
    kept: bool
    text: str


@dataclass(frozen=True)
class Tick:
    """A line of the grid."""

    at: float
    text: str


@dataclass(frozen=True)
class Plot:
    """See ``plot``."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    points: tuple[Point, ...]
    line: str
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]


def plot(points: Sequence[Mapping[str, Any]]) -> Plot | None:
    """mAP50 over labels of the points measured on the same images; None where there is none."""
    shown = [p for p in points if p["current"]]
    if not shown:
        return None
    most = max(1, *(p["labels"] for p in shown))
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x(labels: float) -> float:
        return round(LEFT + (right - LEFT) * labels / float(most), 1)

    def y(value: float) -> float:
        return round(bottom - (bottom - TOP) * value, 1)

    placed = tuple(
        Point(
            x(p["labels"]),
            y(p["map50"]),
            y(p["map50_low"]),
            y(p["map50_high"]),
            p["serves"],
            p["verdict"] == "kept",
            f"{'Round ' + str(p['trained']) if p['trained'] else 'First weights'}, {p['labels']} labels: "
            f"mAP50 {p['map50']:.3f}, 90 % interval {p['map50_low']:.3f} to {p['map50_high']:.3f}",
        )
        for p in shown
    )
    line = " ".join(f"{p.x},{p.y}" for p in placed)
    across = tuple(Tick(x(most * k / 4), f"{most * k / 4:,.0f}") for k in range(5))
    up = tuple(Tick(y(k / 5), f"{k / 5:.1f}") for k in range(6))
    return Plot(WIDTH, HEIGHT, LEFT, right, TOP, bottom, placed, line, across, up)


def drawn(points: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> list[dict[str, Any]]:
    """What the script draws of the points measured on the same images, JSON-able.

    Returns:
        By labels: 'name', 'labels', 'kind' ('serves', 'kept' or 'trained'), 'verdict', 'map50' and 'map5095' as
        [value, low, high], the ends of the 90 % interval over images, and 'classes': AP50 of each, None where it was
        not measured.
    """
    return [
        {
            "name": f"Round {p['trained']}" if p["trained"] else "First weights",
            "labels": p["labels"],
            "kind": "serves" if p["serves"] else "kept" if p["verdict"] == "kept" else "trained",
            "verdict": p["verdict"],
            **{name: [p[name], p[f"{name}_low"], p[f"{name}_high"]] for name in ("map50", "map5095")},
            "classes": [p["classes"].get(name, {}).get("ap50") for name in classes],
        }
        for p in points
        if p["current"]
    ]
