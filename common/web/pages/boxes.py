"""Boxes over a thumbnail, as SVG draws them: in the pixels of the image, sized for a card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from common.domain import ShownBox

COLOURS = 10
"""Classes after that begin again with the first colour."""
NAMED = 6
"""Boxes that carry their name; in a crowd the names would hide the image."""
CARD = (300, 225)
"""Pixels of a picture on a card, width and height, where a name is readable."""
LETTERS = 12


@dataclass(frozen=True)
class Drawn:
    """One rectangle: place and size in image pixels, colour number, what to say; ``named`` = it is written out."""

    x: float
    y: float
    width: float
    height: float
    colour: int
    text: str
    named: bool
    dashed: bool = False


@dataclass(frozen=True)
class Overlay:
    """All boxes of one image.

    Attributes:
        width: Pixels of the image, at least 1.
        height: Pixels of the image, at least 1.
        letters: Font size in image pixels.
        boxes: The largest first, so that small ones stay on top.
    """

    width: int
    height: int
    letters: float
    boxes: tuple[Drawn, ...]


def colour(name: str, classes: Sequence[str]) -> int:
    """The same for a class on every page."""
    return classes.index(name) % COLOURS if name in classes else COLOURS - 1


def overlay(width: int, height: int, drawn: Iterable[Drawn]) -> Overlay:
    """Ready to draw."""
    wide, high = max(width, 1), max(height, 1)
    letters = max(wide / CARD[0], high / CARD[1]) * LETTERS
    return Overlay(wide, high, round(letters, 2), tuple(sorted(drawn, key=lambda b: -b.width * b.height)))


def predicted(boxes: Sequence[ShownBox], classes: Sequence[str]) -> list[Drawn]:
    """What a model says, surest first; the names of the first ones are written out."""
    return [
        rectangle(b.xyxy, colour(b.name, classes), f"{b.name} {b.score:.2f}", named=n < NAMED)
        for n, b in enumerate(boxes)
    ]


def rectangle(xyxy: Sequence[float], number: int, text: str, *, named: bool = True, dashed: bool = False) -> Drawn:
    """A box given by its corners in pixels."""
    x1, y1, x2, y2 = (round(float(v), 1) for v in xyxy)
    return Drawn(x1, y1, round(max(x2 - x1, 0), 1), round(max(y2 - y1, 0), 1), number, text, named, dashed)


def told(boxes: Sequence[ShownBox]) -> str:
    """'3 predicted boxes: 2 cat, 1 dog', for those who do not see them."""
    counts = Counter(b.name for b in boxes)
    if not counts:
        return "no predicted box"
    listed = ", ".join(f"{n} {name}" for name, n in counts.most_common())
    return f"{len(boxes)} predicted box{'es' if len(boxes) > 1 else ''}: {listed}"
