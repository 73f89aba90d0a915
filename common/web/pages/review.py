"""Findings of the review list with their boxes as a picture shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.store.projects import ProjectRow
from common.store.samples import SampleRow
from common.web.backend import Backend
from common.web.pages import boxes as drawing
from common.web.pages.cards import no_picture
from common.web.pages.words import short

SIZE = (255, 191)
"""Pixels of a picture in the list, width and height."""
KINDS = {
    "missed": "a box may be missing",
    "swapped": "the class may be another",
    "location": "the box may lie wrong",
    "disagreement": "people disagree",
    "untouched": "accepted without a look?",
}


@dataclass(frozen=True)
class Shown:
    """One finding; ``weight`` in percent, 100 = look at it first."""

    id: int
    sample: str
    kind: str
    reason: str
    weight: int
    round: int
    link: str
    version: str
    why_no_picture: str
    alt: str
    overlay: drawing.Overlay


def findings(backend: Backend, row: ProjectRow, listed: Sequence[Mapping[str, Any]]) -> list[Shown]:
    """As ``reviewing.review_rows`` lists them."""
    samples = backend.store.samples.some(row.key, [f["sample"] for f in listed])
    return [_shown(f, samples.get(f["sample"]), row.spec.names) for f in listed]


def _shown(f: Mapping[str, Any], sample: SampleRow | None, classes: Sequence[str]) -> Shown:
    width, height = (max(sample.width, 1), max(sample.height, 1)) if sample else (4, 3)
    return Shown(
        id=f["id"],
        sample=f["sample"],
        kind=KINDS.get(f["kind"], f["kind"]),
        reason=f["reason"],
        weight=round(100 * f["weight"]),
        round=f["round"],
        link=f["link"] if f["link"].startswith(("http://", "https://")) else "",
        version=(sample.sha256 or "")[:12] if sample else "",
        why_no_picture=no_picture(sample.sha256, sample.problem) if sample else "This image is gone.",
        alt=f"Image {f['sample']}: {f['reason']}",
        overlay=drawing.overlay(width, height, [_drawn(b, width, height, classes) for b in f["boxes"]], SIZE),
    )


def _drawn(box: Mapping[str, Any], width: int, height: int, classes: Sequence[str]) -> drawing.Drawn:
    """A label solid, what the model or another person says dashed."""
    x1, y1, x2, y2 = box["xyxy"]
    score = "" if box.get("score") is None else f" {short(box['score'])}"
    corners = (x1 * width, y1 * height, x2 * width, y2 * height)
    text, number = f"{box['by']}: {box['name']}{score}", drawing.colour(box["name"], classes)
    return drawing.rectangle(corners, number, text, dashed=box["by"] != "label")
