"""Boxes over a thumbnail, as SVG draws them: in the pixels of the image, sized for a card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from common.domain import ShownBox
from common.web.pages.words import short

COLOURS = 10
"""Classes after that begin again with the first colour."""
NAMED = 6
"""Boxes that carry their name; more names would hide the image."""
CARD = (300, 225)
"""Pixels of a picture on a card, width and height, where a name is readable."""
LETTERS = 12
WIDE = 0.7
"""A letter is so wide against its height, about."""


@dataclass(frozen=True)
class Drawn:
    """One rectangle: place and size in image pixels, colour number, what to say."""

    x: float
    y: float
    width: float
    height: float
    colour: int
    text: str
    dashed: bool = False


@dataclass(frozen=True)
class Name:
    """What is written beside a box: ``x`` and ``y`` are the left end of its base line."""

    x: float
    y: float
    colour: int
    text: str


@dataclass(frozen=True)
class Overlay:
    """All boxes of one image.

    Attributes:
        width: Pixels of the image, at least 1.
        height: Pixels of the image, at least 1.
        letters: Font size in image pixels.
        boxes: The largest first, so that small ones stay on top.
        names: Of some boxes, no name over another; the rest say theirs under the mouse.
    """

    width: int
    height: int
    letters: float
    boxes: tuple[Drawn, ...]
    names: tuple[Name, ...]


def colour(name: str, classes: Sequence[str]) -> int:
    """The same for a class on every page."""
    return classes.index(name) % COLOURS if name in classes else COLOURS - 1


def overlay(width: int, height: int, drawn: Sequence[Drawn], card: tuple[int, int] = CARD) -> Overlay:
    """Ready to draw on a picture of the size of ``card``."""
    wide, high = max(width, 1), max(height, 1)
    letters = max(wide / card[0], high / card[1]) * LETTERS
    boxes = tuple(sorted(drawn, key=lambda b: -b.width * b.height))
    return Overlay(wide, high, round(letters, 2), boxes, tuple(_names(drawn, wide, letters)))


def _names(drawn: Sequence[Drawn], width: int, letters: float) -> Iterator[Name]:
    """One box of each colour first, then from the last on; a name stays inside the picture, above its box if it can."""
    firsts = {b.colour: n for n, b in reversed(list(enumerate(drawn)))}
    order = [*firsts.values(), *(n for n in reversed(range(len(drawn))) if n not in firsts.values())]
    taken: list[tuple[float, float, float]] = []
    for b in (drawn[n] for n in order):
        long = len(b.text) * letters * WIDE
        x, y = max(0.0, min(b.x, width - long)), max(b.y - 0.3 * letters, letters)
        if any(abs(y - other) < 1.2 * letters and x < end and start < x + long for start, end, other in taken):
            continue
        taken.append((x, x + long, y))
        yield Name(round(x, 1), round(y, 1), b.colour, b.text)
        if len(taken) == NAMED:
            return


def predicted(boxes: Sequence[ShownBox], classes: Sequence[str]) -> list[Drawn]:
    """What a model says, surest first: named are the surest of each class, then what it doubts, which people seek."""
    return [rectangle(b.xyxy, colour(b.name, classes), f"{b.name} {short(b.score)}") for b in boxes]


def rectangle(xyxy: Sequence[float], number: int, text: str, *, dashed: bool = False) -> Drawn:
    """A box given by its corners in pixels."""
    x1, y1, x2, y2 = (round(float(v), 1) for v in xyxy)
    return Drawn(x1, y1, round(max(x2 - x1, 0), 1), round(max(y2 - y1, 0), 1), number, text, dashed)


def told(boxes: Sequence[ShownBox]) -> str:
    """'3 predicted boxes: 2 cat, 1 dog', for those who do not see them."""
    counts = Counter(b.name for b in boxes)
    if not counts:
        return "no predicted box"
    listed = ", ".join(f"{n} {name}" for name, n in counts.most_common())
    return f"{len(boxes)} predicted box{'es' if len(boxes) > 1 else ''}: {listed}"
