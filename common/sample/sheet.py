"""A transparent sheet on which one part is drawn larger than life. Only Pillow and numpy, no files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[float, float, float]
Point = tuple[float, float]
Array = NDArray[np.float32]

OVERSIZE = 2
"""Sheet pixels per final pixel: edges are drawn hard and averaged down."""

LIGHT_FROM = (-0.55, -0.83)
"""Unit vector towards the lamps, in image directions: shadows fall down and to the right."""


@dataclass
class Sprite:
    """One finished part at its final size.

    Attributes:
        rgb: Shape (h, w, 3), in [0, 1].
        alpha: Shape (h, w), in [0, 1]; 1 where the part covers everything behind it.
        flaws: (class name, boolean mask of shape (h, w)) for every defect drawn on the part.
    """

    rgb: Array
    alpha: Array
    flaws: list[tuple[str, NDArray[np.bool_]]] = field(default_factory=list)


def clouds(rng: np.random.Generator, height: int, width: int, cell: float) -> Array:
    """Smooth noise of shape (height, width), about in [-1, 1], with blots of ``cell`` pixels."""
    rows, columns = max(2, math.ceil(height / cell) + 1), max(2, math.ceil(width / cell) + 1)
    coarse = Image.fromarray(rng.uniform(-1, 1, (rows, columns)).astype(np.float32))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)


def relief(mask: Image.Image, radius: float) -> Array:
    """Brightness of bevelled edges of ``mask``, about in [-1, 1]: lit towards ``LIGHT_FROM``, dark away from it."""
    soft = np.asarray(mask.filter(ImageFilter.GaussianBlur(radius)), np.float32) / 255
    down, right = np.gradient(soft)
    slope = -(right * LIGHT_FROM[0] + down * LIGHT_FROM[1]) * -2.5 * max(radius, 1)
    edges: Array = np.clip(slope, -1, 1).astype(np.float32)
    return edges


class Sheet:
    """``width`` x ``height`` final pixels; every shape is given in fractions of ``unit`` around the middle.

    Args:
        width: Final pixels.
        height: Final pixels.
        unit: Final pixels that one unit of the coordinates stands for.
        rng: Source of every texture on this sheet.
    """

    def __init__(self, width: float, height: float, unit: float, rng: np.random.Generator) -> None:
        self.columns = max(4, math.ceil(width)) * OVERSIZE
        self.rows = max(4, math.ceil(height)) * OVERSIZE
        self.unit = unit * OVERSIZE
        self.rng = rng
        self.turn, self.squash = 0.0, 1.0
        self.rgb: Array = np.zeros((self.rows, self.columns, 3), np.float32)
        self.alpha: Array = np.zeros((self.rows, self.columns), np.float32)
        self.flaws: list[tuple[str, NDArray[np.bool_]]] = []

    def place(self, point: Point) -> Point:
        """Sheet pixels of a point in units, turned and then squashed vertically as the sheet is set."""
        x, y = point
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        across, along = x * cos - y * sin, (x * sin + y * cos) * self.squash
        return self.columns / 2 + across * self.unit, self.rows / 2 + along * self.unit

    def blank(self) -> Image.Image:
        """An empty mask of the sheet's size."""
        return Image.new("L", (self.columns, self.rows))

    def shape(
        self, *outlines: Sequence[Point], holes: Sequence[Sequence[Point]] = (), drop: float = 0.0
    ) -> Image.Image:
        """A mask of the polygons ``outlines`` less ``holes``, moved down by ``drop`` units."""
        mask = self.blank()
        pen = ImageDraw.Draw(mask)
        for outline, ink in [(o, 255) for o in outlines] + [(h, 0) for h in holes]:
            pen.polygon([(x, y + drop * self.unit) for x, y in map(self.place, outline)], fill=ink)
        return mask

    def paint(
        self,
        mask: Image.Image,
        colour: Colour,
        *,
        bevel: float = 0.0,
        radius: float = 0.02,
        grain: float = 0.05,
        opacity: float = 1.0,
    ) -> None:
        """Lay a coat of ``colour`` over ``mask``.

        Args:
            mask: Where, of the sheet's size.
            colour: In [0, 1].
            bevel: How strongly edges catch the light, 0 to 1.
            radius: How round the edges are, in units.
            grain: How uneven the coat is, 0 to 1.
            opacity: 1 hides what was there.
        """
        box = mask.getbbox()
        if box is None:
            return
        part = mask.crop(box)
        area = (slice(box[1], box[3]), slice(box[0], box[2]))
        cover = np.asarray(part, np.float32) / 255 * opacity
        coat = self._coat(part, colour, bevel, radius, grain)
        coat -= self.rgb[area]
        coat *= cover[..., None]
        self.rgb[area] += coat
        self.alpha[area] = np.maximum(self.alpha[area], cover)

    def _coat(self, part: Image.Image, colour: Colour, bevel: float, radius: float, grain: float) -> Array:
        """What the paint looks like everywhere under ``part``, shape (h, w, 3), in [0, 1]."""
        columns, rows = part.size
        coat: Array = np.empty((rows, columns, 3), np.float32)
        coat[:] = colour
        if grain:
            uneven = clouds(self.rng, rows, columns, 9) + 0.6 * clouds(self.rng, rows, columns, 60)
            coat *= (1 + grain * uneven)[..., None]
        if bevel:
            edge = Image.new("L", (columns + 8, rows + 8))
            edge.paste(part, (4, 4))
            coat += bevel * relief(edge, radius * self.unit)[4:-4, 4:-4, None]
        return np.clip(coat, 0, 1, out=coat)

    def finish(self) -> Sprite:
        """The sheet averaged down to final pixels."""
        alpha = _averaged(self.alpha)
        weighted = _averaged(self.rgb * self.alpha[..., None])
        flaws = [(name, _averaged(mask.astype(np.float32)) >= 0.5) for name, mask in self.flaws]
        return Sprite(weighted / np.maximum(alpha, 1e-6)[..., None], alpha, flaws)


def _averaged(sheet: Array) -> Array:
    """``sheet`` with every block of OVERSIZE x OVERSIZE pixels as one: strided sums, several times faster than mean."""
    total: Array = np.zeros((len(sheet) // OVERSIZE, sheet.shape[1] // OVERSIZE, *sheet.shape[2:]), np.float32)
    for row in range(OVERSIZE):
        for column in range(OVERSIZE):
            total += sheet[row::OVERSIZE, column::OVERSIZE]
    total /= OVERSIZE**2
    return total


def circle(x: float, y: float, radius: float, sides: int = 40, phase: float = 0.0) -> list[Point]:
    """A regular polygon around (x, y), in units."""
    angles = phase + np.arange(sides) * (2 * math.pi / sides)
    return [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles.tolist()]


def rectangle(left: float, top: float, right: float, bottom: float) -> list[Point]:
    """The four corners of an upright rectangle, in units."""
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def stroke(points: Sequence[Point], start: float, end: float) -> list[Point]:
    """The outline of a line through ``points`` that is ``start`` wide at first and ``end`` wide at last, in units."""
    path = np.asarray(points, np.float64)
    along = np.gradient(path, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], 1) / np.maximum(np.linalg.norm(along, axis=1), 1e-9)[:, None]
    half = np.linspace(start, end, len(path))[:, None] / 2
    outline = np.concatenate([path + normal * half, (path - normal * half)[::-1]])
    return [(float(x), float(y)) for x, y in outline]


def shades(rng: np.random.Generator, choices: Sequence[Colour], spread: float = 0.06) -> Colour:
    """One of ``choices``, made a little lighter, darker or tinted."""
    red, green, blue = choices[int(rng.integers(len(choices)))]
    light = float(rng.normal(0, spread))
    tint = rng.normal(0, spread / 3, 3).tolist()
    mixed = np.clip([red + light + tint[0], green + light + tint[1], blue + light + tint[2]], 0.02, 0.98).tolist()
    return mixed[0], mixed[1], mixed[2]


def darker(colour: Colour, factor: float) -> Colour:
    """``colour`` times ``factor``, kept in [0, 1]."""
    red, green, blue = (min(1.0, c * factor) for c in colour)
    return red, green, blue
