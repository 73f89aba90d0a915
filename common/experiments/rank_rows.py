"""What `hardfirst rank` writes: the columns of its CSV, and the cards of its contact sheet."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.experiments.ranking import Ranking
from common.experiments.sheet import FIRST, Card, is_sheet
from common.yolo.files import replacing

COLUMNS = {
    "rank": "Place in the queue, from 1: label this one first",
    "path": "The image, as the folder or the list spells it",
    "utility": "How informative the strategy holds the image, in [0, 1]; it need not fall along the order",
    "reason": "Why this image, in words",
    "boxes": "Boxes the model draws, from confidence .05 up",
    "uncertain_boxes": "Of these, the ones the model is unsure of (hybrid)",
    "uncertainty": "Share of the images that are less informative to the model, in [0, 1] (hybrid)",
    "typicality": "Share of the images that are less typical, in [0, 1] (hybrid)",
    "distance": "To the nearest labelled or earlier image when this one was picked, in [0, 2] (hybrid, core_set)",
    "rare_class": "A class with few labels that the image may show (hybrid)",
    "nearest_labelled": "The labelled image that is most alike",
    "nearest_labelled_distance": "To that one, in [0, 2]",
    "duplicate_group": "Number of the group of near-duplicates, counted along the queue; empty without one",
    "duplicate_of": "The labelled or better placed image of that group",
    "outlier": "yes = unlike all other images, held back (hybrid, and every strategy with `guard=true`)",
    "random_slice": "yes = drawn by chance to measure against (with `--random-slice`)",
    "problem": "Why the image could not be read; such images come last",
}
"""Column of the CSV -> what it says. Columns are never renamed, moved or dropped, new ones come at the end."""

_HEAD = ",".join(list(COLUMNS)[:8])
"""How every order begins, also one of an older version."""


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Rows under ``COLUMNS``, atomically; a cell without a value is empty. Raises OSError."""
    with replacing(path) as fresh, fresh.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.DictWriter(file, list(COLUMNS), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def is_ours(path: Path) -> bool:
    """Whether a file is an order or a contact sheet, which another run may write over."""
    try:
        with path.open("rb") as file:
            head = file.read(len(_HEAD)).decode("utf-8", "replace")
    except OSError:
        return False
    return head == _HEAD or is_sheet(path)


def cells_of(made: Ranking) -> list[dict[str, Any]]:
    """Cells of the CSV by column, in the order of the queue."""
    numbers, originals = _duplicates(made)
    rows = []
    for place, row in enumerate(made.chosen.order.tolist()):
        part, near = made.chosen.parts[place], made.nearest[place]
        cells = {
            "rank": place + 1,
            "path": str(made.paths[row]),
            "utility": round(float(made.chosen.utility[place]), 6),
            "reason": str(part["reason"]),
            "boxes": int(made.pool.detections.counts[row]) if made.pool.readable[row] else None,
            "uncertain_boxes": part.get("uncertain_boxes"),
            "uncertainty": part.get("A"),
            "typicality": part.get("T"),
            "distance": part.get("distance"),
            "rare_class": part.get("rare_class"),
            "nearest_labelled": str(made.paths[near[0]]) if near else None,
            "nearest_labelled_distance": round(near[1], 4) if near else None,
            "duplicate_group": numbers.get(int(made.pool.group[row])),
            "duplicate_of": originals.get(row),
            "outlier": "yes" if part.get("outlier") else None,
            "random_slice": "yes" if part.get("random_slice") else None,
            "problem": made.problems[row] or None,
        }
        rows.append(cells)
    return rows


def _duplicates(made: Ranking) -> tuple[dict[int, int], dict[int, str]]:
    """({group -> its number along the queue}, {row -> path of the member that stands for its group})."""
    group, first = made.pool.group, dict[int, int]()
    for row in [*made.pool.labelled_rows.tolist(), *made.chosen.order.tolist()]:
        if group[row] >= 0:
            first.setdefault(int(group[row]), row)
    queued = [int(group[row]) for row in made.chosen.order.tolist() if group[row] >= 0]
    numbers = {g: number for number, g in enumerate(dict.fromkeys(queued), 1)}
    rows = [row for row in made.chosen.order.tolist() if group[row] >= 0]
    return numbers, {row: str(made.paths[first[int(group[row])]]) for row in rows if first[int(group[row])] != row}


def cards_of(rows: Sequence[dict[str, Any]], made: Ranking) -> list[Card]:
    """What the sheet shows of the first rows."""
    cards = []
    d = made.pool.detections
    for cells, row in zip(rows[:FIRST], made.chosen.order.tolist(), strict=False):
        some = slice(int(d.offsets[row]), int(d.offsets[row + 1]))
        label = d.scores[some].argmax(axis=1) if d.scores.shape[1] else np.zeros(0, np.int64)
        said = made.predictions[row]
        cards.append(
            Card(
                path=made.paths[row],
                rank=cells["rank"],
                utility=cells["utility"],
                reason=cells["problem"] or cells["reason"],
                size=(said.width, said.height) if said else (0, 0),
                boxes=d.boxes[some],
                scores=d.confidence[some],
                names=[made.pool.class_name(int(c)) for c in label],
                marks=_marks(cells),
            )
        )
    return cards


def _marks(cells: dict[str, Any]) -> list[str]:
    names = {"duplicate_of": "near-duplicate", "outlier": "outlier", "random_slice": "random slice"}
    return [word for column, word in names.items() if cells[column]]
