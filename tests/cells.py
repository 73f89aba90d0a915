"""Photographs of blood cells with their labels, for tests that really train."""

from __future__ import annotations

from pathlib import Path

from common.domain import Label, LabelledBox
from common.ports import TrainingSample

CELLS = ("RBC", "WBC", "Platelets")


def cell(shared: Path, image: Path) -> TrainingSample:
    """One image of the blood-cell set with its labels."""
    boxes = []
    for row in (shared / "data/bccd/labels" / f"{image.stem}.txt").read_text().splitlines():
        x, y, w, h = map(float, row.split()[1:])
        x1, y1, x2, y2 = (min(1.0, max(0.0, v)) for v in (x - w / 2, y - h / 2, x + w / 2, y + h / 2))
        boxes.append(LabelledBox(CELLS[int(row.split()[0])], (x1, y1, x2, y2)))
    return TrainingSample(image.stem, image, Label(image.stem, tuple(boxes)))


def cells(shared: Path, count: int) -> list[TrainingSample]:
    """The first ones of the set, by name."""
    return [cell(shared, image) for image in sorted((shared / "data/bccd/images").glob("*.jpg"))[:count]]
