"""From what people answered to the one label that trains. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from common.domain import Annotation, Label, LabelledBox
from common.geometry import iou

AGREE_IOU = 0.5
"""Two people drew the same box when class and at least this overlap agree (as in PASCAL VOC, IJCV 2010)."""


def training_label(answers: Sequence[Annotation], *, trust_converted: bool = False) -> Label | None:
    """The label of one sample, or None when nobody's answer may train.

    The newest ground truth that a person submitted; else the only answer; else, of several people, the boxes a
    majority drew (of two, the later answer), and the sample is listed for review. Skips never count; annotations made
    in bulk from predictions only with ``trust_converted``. One person who answered twice counts once, with the later.
    """
    usable = [a for a in answers if not a.skipped and (trust_converted or not a.converted)]
    if not usable:
        return None
    truth = [a for a in usable if a.ground_truth]
    if truth:
        best = max(truth, key=lambda a: a.updated)
        return Label(best.sample, best.boxes)
    people = latest_per_person(usable)
    if len(people) == 1:
        return Label(people[0].sample, people[0].boxes)
    if len(people) == 2:
        later = people[-1]
        return Label(
            later.sample, later.boxes, "" if _agree(people[0], later) else "two annotators disagree; the later counts"
        )
    return Label(people[0].sample, _majority(people), f"{len(people)} annotators: boxes that most of them drew")


def latest_per_person(answers: Sequence[Annotation]) -> list[Annotation]:
    """Oldest first; answers of unknown people count each for itself."""
    latest: dict[str, Annotation] = {}
    for a in sorted(answers, key=lambda a: a.updated):
        latest[a.person or f"annotation {a.id}"] = a
    return sorted(latest.values(), key=lambda a: a.updated)


def _xyxy(boxes: Sequence[LabelledBox]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.array([b.xyxy for b in boxes], np.float32).reshape(-1, 4)


def _matches(box: LabelledBox, answer: Annotation) -> list[int]:
    """Boxes of ``answer`` that are the same object as ``box``, best overlap first."""
    if not answer.boxes:
        return []
    overlap = iou(_xyxy([box]), _xyxy(answer.boxes))[0]
    same = [i for i, other in enumerate(answer.boxes) if other.name == box.name and overlap[i] >= AGREE_IOU]
    return sorted(same, key=lambda i: -overlap[i])


def _agree(one: Annotation, two: Annotation) -> bool:
    return len(one.boxes) == len(two.boxes) and all(_matches(b, two) for b in one.boxes)


def _majority(people: Sequence[Annotation]) -> tuple[LabelledBox, ...]:
    """Boxes drawn by more than half of the people, as the latest of them drew it; each drawing is used once."""
    taken: set[tuple[int, int]] = set()
    kept: list[LabelledBox] = []
    for i in reversed(range(len(people))):
        for k, box in enumerate(people[i].boxes):
            if (i, k) in taken:
                continue
            group = {(i, k)}
            for j, other in enumerate(people):
                free = [m for m in _matches(box, other) if (j, m) not in taken] if j != i else []
                group |= {(j, free[0])} if free else set()
            if 2 * len(group) > len(people):
                taken |= group
                kept.append(box)
    return tuple(kept)
