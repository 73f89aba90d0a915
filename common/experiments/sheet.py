"""The contact sheet: the first images of an order in one picture, with their boxes and why. Only Pillow and numpy."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps, PngImagePlugin

from common.domain import Floats
from common.experiments.files import plain

FIRST = 24
"""Images on a sheet at most."""
ACROSS = 6
"""Images beside each other."""

UNSURE = (0.19, 0.81)
"""Confidences at which the binary entropy is .7 bits: what the reasons call uncertain lies between."""

MARK = "contact sheet of hardfirst"
"""Stands in the first bytes of the file, as a text of PNG or a comment of JPEG."""
_HEAD_BYTES = 512

_WIDE, _HIGH, _TEXT = 310, 232, 126
_GAP, _HEAD, _PAD = 18, 84, 10
_LINES = 3
_TAGS = 14

_PAPER, _CARD, _EDGE, _EMPTY = "#f4f5f7", "#ffffff", "#d9dde3", "#e9ecf0"
_INK, _SOFT, _SURE, _DOUBT = "#1c2430", "#667085", "#1a7f4b", "#e8590c"
_MARKS = {"near-duplicate": "#8a5a00", "outlier": "#8b2fa8", "random slice": "#1f5fbf"}


@dataclass(frozen=True)
class Card:
    """One image of the sheet.

    Attributes:
        path: The image; one that cannot be opened leaves its place grey.
        rank: Place in the queue, from 1.
        utility: In [0, 1].
        reason: In words; cut where it is too long.
        size: Width and height of the upright image in pixels; (0, 0) = unknown, no boxes.
        boxes: Shape (n, 4), xyxy pixels.
        scores: Shape (n,), confidence, in [0, 1].
        names: n class names.
        marks: Of 'near-duplicate', 'outlier', 'random slice'.
    """

    path: Path
    rank: int
    utility: float
    reason: str
    size: tuple[int, int] = (0, 0)
    boxes: Floats = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    scores: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    names: Sequence[str] = ()
    marks: Sequence[str] = ()

    def __post_init__(self) -> None:
        n = len(self.boxes)
        if self.boxes.shape != (n, 4) or self.scores.shape != (n,) or len(self.names) != n:
            raise ValueError(
                f"boxes, scores and names must be (n, 4), (n,) and n, got {self.boxes.shape}, {self.scores.shape} "
                f"and {len(self.names)}"
            )


def draw_sheet(cards: Sequence[Card], title: str, told: str = "") -> Image.Image:
    """A light page with up to ``FIRST`` cards, ``ACROSS`` in a row.

    Args:
        cards: In the order of the queue; those after ``FIRST`` are left out.
        title: The heading.
        told: A line under it: which model, which strategy.
    """
    shown = cards[:FIRST]
    across = max(1, min(ACROSS, len(shown)))
    down = max(1, -(-len(shown) // across))
    wide, high = across * (_WIDE + _GAP) + _GAP, _HEAD + down * (_HIGH + _TEXT + _GAP)
    sheet = Image.new("RGB", (max(wide, 3 * _WIDE), high), _PAPER)
    pen = ImageDraw.Draw(sheet)
    _heading(pen, sheet.width, title, told)
    for i, card in enumerate(shown):
        corner = (_GAP + i % across * (_WIDE + _GAP), _HEAD + i // across * (_HIGH + _TEXT + _GAP))
        _draw_card(sheet, pen, card, corner)
    return sheet


def save_sheet(sheet: Image.Image, path: Path) -> None:
    """Write a sheet, marked as one. Raises OSError, or ValueError for a suffix that Pillow does not know."""
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", MARK)
    sheet.save(path, quality=90, comment=MARK, pnginfo=text)


def is_sheet(path: Path) -> bool:
    """Whether a file is a sheet that ``save_sheet`` wrote, wherever it is and whatever it is called."""
    try:
        with path.open("rb") as file:
            return MARK.encode() in file.read(_HEAD_BYTES)
    except OSError:
        return False


def _heading(pen: Any, width: int, title: str, told: str) -> None:
    pen.text((_GAP, 16), _fitted(pen, title, _font(24, bold=True), width - 2 * _GAP), _INK, _font(24, bold=True))
    legend = [(_DOUBT, f"unsure: confidence {_short(UNSURE[0])} to {_short(UNSURE[1])}"), (_SURE, "sure")]
    x = float(_GAP)
    for colour, words in legend:
        pen.rectangle((x, 54, x + 14, 66), outline=colour, width=3)
        pen.text((x + 22, 51), words, _SOFT, _font(14))
        x += 22 + pen.textlength(words, _font(14)) + 22
    pen.text((x, 51), _fitted(pen, told, _font(14), width - x - _GAP), _SOFT, _font(14))


def _draw_card(sheet: Image.Image, pen: Any, card: Card, corner: tuple[int, int]) -> None:
    x, y = corner
    pen.rounded_rectangle((x, y, x + _WIDE - 1, y + _HIGH + _TEXT - 1), 8, _CARD, _EDGE)
    sheet.paste(_picture(card), (x + 1, y + 1), _rounded_top())
    _facts(pen, card, (x + _PAD, y + _HIGH + 9), x + _WIDE - _PAD)
    _words(pen, card, (x + _PAD, y + _HIGH + 39), _WIDE - 2 * _PAD)


def _facts(pen: Any, card: Card, corner: tuple[int, int], right: float) -> None:
    """Rank, utility and marks beside each other."""
    x, y = corner
    at = x + _chip(pen, (x, y), f"{card.rank}", _INK, 14) + 8
    pen.text((at, y + 11), "utility", _SOFT, _font(13), anchor="lm")
    at += pen.textlength("utility ", _font(13))
    pen.text((at, y + 11), _short(card.utility), _INK, _font(13, bold=True), anchor="lm")
    for mark in card.marks:
        if right - pen.textlength(mark, _font(12, bold=True)) - 16 > at + 36:
            right -= _chip(pen, (right, y), mark, _MARKS.get(mark, _INK), 12, from_right=True) + 4


def _words(pen: Any, card: Card, corner: tuple[int, int], width: float) -> None:
    x, y = corner
    for i, line in enumerate(_wrapped(pen, card.reason, _font(14), width, _LINES)):
        pen.text((x, y + 19 * i), line, _INK, _font(14))
    name = plain(Path(card.path.name))
    pen.text((x, y + 19 * _LINES + 5), _fitted(pen, name, _font(12), width), _SOFT, _font(12))


def _picture(card: Card) -> Image.Image:
    """The thumbnail with its boxes, in the middle of its place."""
    place = Image.new("RGB", (_WIDE - 2, _HIGH), _EMPTY)
    thumbnail = _thumbnail(card)
    if thumbnail is None:
        pen = ImageDraw.Draw(place)
        pen.text((place.width / 2, place.height / 2), "cannot be shown", _SOFT, _font(15), anchor="mm")
        return place
    _draw_boxes(thumbnail, card)
    place.paste(thumbnail, ((place.width - thumbnail.width) // 2, (place.height - thumbnail.height) // 2))
    return place


def _thumbnail(card: Card) -> Image.Image | None:
    """Upright as the model saw it, fitted into its place; None when it cannot be opened."""
    try:
        with Image.open(card.path) as opened:
            opened.draft("RGB", (2 * _WIDE, 2 * _HIGH))
            opened.load()
            upright = ImageOps.exif_transpose(opened)
            lying = card.size[0] > card.size[1]
            # The model's decoder ignores the orientation in some formats: its boxes then belong to the stored image.
            image = upright if card.size == (0, 0) or (upright.width > upright.height) == lying else opened.copy()
        if image.mode.startswith("I;16"):
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        image = image.convert("RGB")
    except Exception:  # noqa: BLE001 - hostile files make Pillow's parsers raise nearly anything
        return None
    scale = min((_WIDE - 2) / image.width, _HIGH / image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)


def _draw_boxes(image: Image.Image, card: Card) -> None:
    """Sure boxes first, unsure ones over them, names where there is room."""
    if 0 in card.size:
        return
    pen = ImageDraw.Draw(image)
    scale = np.array([image.width / card.size[0], image.height / card.size[1]] * 2)
    drawn = [i for i in np.argsort(-card.scores, kind="stable").tolist() if card.scores[i] >= UNSURE[0]]
    boxes = {i: _inside((card.boxes[i] * scale).tolist(), image.size) for i in drawn}
    for i in drawn:
        sure = float(card.scores[i]) > UNSURE[1]
        pen.rectangle(boxes[i], outline=_SURE if sure else _DOUBT, width=2 if sure else 3)
    taken: list[tuple[float, ...]] = []
    unsure_first = sorted(drawn, key=lambda i: abs(float(card.scores[i]) - 0.5))
    for i in unsure_first[:_TAGS]:
        colour = _SURE if float(card.scores[i]) > UNSURE[1] else _DOUBT
        _tag(pen, image.size, boxes[i], f"{card.names[i]} {_short(float(card.scores[i]))}", colour, taken)


def _inside(box: list[float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = box
    left, top = min(max(x1, 0), size[0] - 2), min(max(y1, 0), size[1] - 2)
    return left, top, min(max(x2, left + 1), size[0] - 1), min(max(y2, top + 1), size[1] - 1)


def _tag(
    pen: Any, size: tuple[int, int], box: tuple[float, ...], text: str, colour: str, taken: list[tuple[float, ...]]
) -> None:
    """A class name at the upper or lower edge of its box, where it covers no other name; else none."""
    font = _font(11)
    wide, high = pen.textlength(text, font) + 6, 14
    x = min(max(box[0], 0), size[0] - wide)
    for y in (box[1] - high, box[3] + 1, box[1] + 1):
        here = (x, y, x + wide, y + high)
        if x < 0 or y < 0 or here[3] > size[1] or any(_overlap(here, other) for other in taken):
            continue
        taken.append(here)
        pen.rectangle(here, fill=colour)
        pen.text((x + 3, y + high / 2), text, "#ffffff", font, anchor="lm")
        return


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _chip(
    pen: Any, corner: tuple[float, float], text: str, colour: str, size: int, *, from_right: bool = False
) -> float:
    """White words on a coloured pill; returns its width."""
    font = _font(size, bold=True)
    wide, high = pen.textlength(text, font) + 16, 22
    x = corner[0] - wide if from_right else corner[0]
    pen.rounded_rectangle((x, corner[1], x + wide, corner[1] + high), high / 2, colour)
    pen.text((x + wide / 2, corner[1] + high / 2), text, "#ffffff", font, anchor="mm")
    return float(wide)


def _wrapped(pen: Any, text: str, font: Any, width: float, lines: int) -> list[str]:
    """At most ``lines`` lines; the last one ends in '...' where words are left over."""
    out: list[str] = []
    words = text.split()
    while words and len(out) < lines:
        count = 1
        while count < len(words) and pen.textlength(" ".join(words[: count + 1]), font) <= width:
            count += 1
        if len(out) == lines - 1:
            count = len(words)
        out.append(_fitted(pen, " ".join(words[:count]), font, width, at_end=True))
        words = words[count:]
    return out


def _fitted(pen: Any, text: str, font: Any, width: float, *, at_end: bool = False) -> str:
    """The text, with '...' in its middle or at its end where it is too wide."""
    if pen.textlength(text, font) <= width:
        return text
    for kept in range(len(text) - 1, 1, -1):
        head = kept if at_end else kept // 2
        short = f"{text[:head].rstrip()}...{text[len(text) - (kept - head) :]}"
        if pen.textlength(short, font) <= width:
            return short
    return "..."


def _short(value: float) -> str:
    """.31 for 0.31."""
    return f"{value:.2f}".removeprefix("0")


@lru_cache(maxsize=1)
def _rounded_top() -> Image.Image:
    """Where a thumbnail covers its card: all but the two upper corners."""
    mask = Image.new("L", (_WIDE - 2, _HIGH))
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, _WIDE - 3, _HIGH + 8), 7, 255)
    return mask


@lru_cache(maxsize=16)
def _font(size: int, *, bold: bool = False) -> Any:
    """DejaVu, which comes with matplotlib and knows more alphabets; Pillow's own where that is missing."""
    spec = importlib.util.find_spec("matplotlib")
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    for root in (spec.submodule_search_locations or ()) if spec else ():
        file = Path(root) / "mpl-data" / "fonts" / "ttf" / name
        if file.is_file():
            return ImageFont.truetype(file, size)
    return ImageFont.load_default(size)
