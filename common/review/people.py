"""Where two people who looked at the same image do not agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from common.consensus import AGREE_IOU, latest_per_person
from common.domain import Annotation, LabelledBox
from common.geometry import iou
from common.review.findings import SAME, Disputed, Finding, drawn_by, mark, one, short, where

LOOSE = 0.3
"""Two boxes of one class that overlap by this much and have no better partner are one object, drawn differently."""
ALIKE = 0.6
"""From this overlap on two outlines are the same."""
OTHER_CLASS, ONLY_ONE = 1.0, 0.8
"""Weights: one of two is wrong for certain; a box that one left out may be a matter of taste."""


def disagreements(
    answers: Sequence[Annotation], names: Sequence[str], *, trust_converted: bool = False
) -> list[Finding]:
    """Of one image: everybody's last answer against the last of all, each place once.

    Nothing where somebody has decided (ground truth) or only one person answered. Skips, annotations made in bulk from
    predictions (but with ``trust_converted``) and boxes of classes not in ``names`` do not count.
    """
    usable = [a for a in answers if not a.skipped and (trust_converted or not a.converted)]
    if any(a.ground_truth for a in usable):
        return []
    people = latest_per_person(usable)
    found: list[Finding] = []
    for other in people[:-1]:
        found += [f for f in _between(other, people[-1], set(names)) if not any(_same_place(f, g) for g in found)]
    return found


def _same_place(first: Finding, second: Finding) -> bool:
    return bool(iou(np.array([first.boxes[0].xyxy]), np.array([second.boxes[0].xyxy]))[0, 0] >= SAME)


def _between(first: Annotation, second: Annotation, names: set[str]) -> Iterator[Finding]:
    mine, theirs = ([b for b in a.boxes if b.name in names] for a in (first, second))
    pairs = matched(mine, theirs)
    people = _person(first), _person(second)
    for i, j, overlap in pairs:
        boxes = (drawn_by(mine[i], people[0]), drawn_by(theirs[j], people[1]))
        if mine[i].name != theirs[j].name:
            text = f"{people[0]} drew {one(mine[i].name)} {where(mine[i].xyxy)}, {people[1]} {one(theirs[j].name)}"
            yield _finding(first.sample, OTHER_CLASS, text, boxes)
        elif overlap < ALIKE:
            text = f"{people[0]} and {people[1]} drew {one(mine[i].name)} {where(mine[i].xyxy)} differently"
            yield _finding(first.sample, round(1 - overlap, 4), f"{text} (overlap {short(overlap)})", boxes)
    for boxes_of, taken, (drew, did_not) in (
        (mine, {i for i, _, _ in pairs}, people),
        (theirs, {j for _, j, _ in pairs}, people[::-1]),
    ):
        for box in (b for i, b in enumerate(boxes_of) if i not in taken):
            text = f"{drew} drew {one(box.name)} {where(box.xyxy)}, {did_not} did not"
            yield _finding(first.sample, ONLY_ONE, text, (drawn_by(box, drew),))


def matched(mine: Sequence[LabelledBox], theirs: Sequence[LabelledBox]) -> list[tuple[int, int, float]]:
    """(row, column, overlap) of boxes that are one object, one to one: of the same class first, then the best overlap.

    Boxes of two classes are one object from ``AGREE_IOU`` on. Of one class, looser ones are, too: else one object
    drawn in two ways would be two that one person left out.
    """
    from scipy.optimize import linear_sum_assignment  # commands start sooner

    if not mine or not theirs:
        return []
    overlap = iou(np.array([b.xyxy for b in mine]), np.array([b.xyxy for b in theirs]))
    same = np.array([[a.name == b.name for b in theirs] for a in mine])
    possible = overlap >= np.where(same, LOOSE, AGREE_IOU)
    rows, columns = linear_sum_assignment(np.where(possible, overlap + same, 0), maximize=True)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return [(i, j, float(overlap[i, j])) for i, j in pairs if possible[i, j]]


def _person(a: Annotation) -> str:
    return f"annotator {a.person}" if a.person else f"the author of annotation {a.id}"


def _finding(sample: str, weight: float, text: str, boxes: tuple[Disputed, ...]) -> Finding:
    return Finding(sample, "disagreement", weight, text, boxes, mark("disagreement", boxes))
