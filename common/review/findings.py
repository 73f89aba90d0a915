"""What a finding is: the boxes in dispute, the sentence for people, and the mark by which it is known again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from common.domain import LabelledBox
from common.geometry import iou

XYXY = tuple[float, float, float, float]

KINDS = ("swapped", "location", "missed", "untouched", "disagreement")
"""What can be wrong with a label; of one drawn box the model says only the first of them."""
SAME = 0.5
"""From this overlap on two boxes are at the same place (Everingham et al., IJCV 2010, section 4.2)."""
_DIGITS = 4


@dataclass(frozen=True)
class Disputed:
    """One box a finding is about.

    Attributes:
        name: Class of the project.
        xyxy: Fractions of the image.
        by: 'label', 'model', or the person who drew it.
        score: In [0, 1], of the model; None = a person drew it.
    """

    name: str
    xyxy: XYXY
    by: str
    score: float | None = None


@dataclass(frozen=True)
class Finding:
    """One reason to look at a label again.

    Attributes:
        sample: The platform's id.
        kind: Out of ``KINDS``.
        weight: In [0, 1], 1 = look at it first.
        reason: One sentence.
        boxes: What it is about.
        mark: Of the very thing disputed: the same finding after another round has the same one.
    """

    sample: str
    kind: str
    weight: float
    reason: str
    boxes: tuple[Disputed, ...]
    mark: str


def drawn_by(box: LabelledBox, by: str) -> Disputed:
    """A box that a person drew."""
    x1, y1, x2, y2 = (round(v, _DIGITS) for v in box.xyxy)
    return Disputed(box.name, (x1, y1, x2, y2), by)


def mark(kind: str, boxes: Iterable[Disputed], *more: str) -> str:
    """Of class and place of some boxes, in whatever order, and of ``more``."""
    things = sorted([b.name, *b.xyxy] for b in boxes)
    return hashlib.blake2b(json.dumps([kind, things, more]).encode(), digest_size=16).hexdigest()


def recognised(found: Sequence[Finding], known: Iterable[tuple[str, str, Disputed]]) -> list[Finding]:
    """The findings, with the marks they had before: what nobody drew has no place but the model's, which moves.

    Args:
        found: Of this round.
        known: (sample, mark, the model's box) of missed boxes found earlier.
    """
    open_: dict[tuple[str, str], list[tuple[str, XYXY]]] = {}
    for sample, before, box in known:
        open_.setdefault((sample, box.name), []).append((before, box.xyxy))
    return [_recognised(f, open_.get((f.sample, f.boxes[0].name), [])) if f.kind == "missed" else f for f in found]


def _recognised(finding: Finding, before: list[tuple[str, XYXY]]) -> Finding:
    if not before:
        return finding
    overlap = iou(np.array([finding.boxes[0].xyxy]), np.array([xyxy for _, xyxy in before]))[0]
    best = int(overlap.argmax())
    return replace(finding, mark=before.pop(best)[0]) if overlap[best] >= SAME else finding


def one(name: str) -> str:
    """'a hard_hat', 'an axe', and what can only be spelled as it is spoken: 'an RBC', 'a WBC'."""
    spelled = name.isupper() and not set(name) & set("AEIOUY")
    vowels = "FHLMNRSX" if spelled else "AEIOUaeiou"
    return f"{'an' if name[:1] in tuple(vowels) else 'a'} {name}"


def where(xyxy: XYXY) -> str:
    """'at the upper left', 'in the middle': the ninth of the image that holds the centre of a box."""
    across = ("left", "", "right")[min(2, int(1.5 * (xyxy[0] + xyxy[2])))]
    down = ("upper", "", "lower")[min(2, int(1.5 * (xyxy[1] + xyxy[3])))]
    if not across and not down:
        return "in the middle"
    return f"at the {down} {across or 'edge'}".replace("  ", " ")


def short(value: float) -> str:
    """.31 for 0.31."""
    return f"{value:.2f}".removeprefix("0")
