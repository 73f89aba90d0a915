"""What stands or hangs in front of the parts. Carries no label, hides what is behind it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from common.sample.plan import Thing
from common.sample.sheet import Colour, Point, Sheet, Sprite, rectangle, shades, stroke

_STEEL: tuple[Colour, ...] = ((0.4, 0.42, 0.44), (0.25, 0.33, 0.42), (0.55, 0.5, 0.42))


def _pillar(sheet: Sheet, thing: Thing, high: float) -> None:
    half, colour = thing.size / 2, shades(sheet.rng, _STEEL)
    x = thing.x - 0.5
    sheet.paint(sheet.shape(rectangle(x - half, -high, x + half, high)), colour, bevel=0.6, radius=half * 0.45)
    band = thing.y * high - high / 2
    sheet.paint(
        sheet.shape(rectangle(x - half, band - 0.08, x + half, band + 0.08)),
        (0.85, 0.68, 0.1),
        bevel=0.4,
        radius=half * 0.4,
    )
    for step in np.arange(-0.08, 0.07, 0.05).tolist():
        top = band + step
        stripe = [(x - half, top + 0.02), (x + half, top), (x + half, top + 0.022), (x - half, top + 0.042)]
        sheet.paint(sheet.shape(stripe), (0.08, 0.08, 0.08), bevel=0.3, radius=half * 0.4)


def _cable(sheet: Sheet, thing: Thing, high: float) -> None:
    colour = shades(sheet.rng, [(0.06, 0.06, 0.07), (0.75, 0.4, 0.08), (0.1, 0.2, 0.4)], 0.02)
    ends = thing.x - 0.5 + sheet.rng.normal(0, 0.25, 2)
    along = np.linspace(0, 1, 30)
    xs = ends[0] + (ends[1] - ends[0]) * along + 0.05 * np.sin(along * 5 + thing.angle * 9)
    if thing.angle > 0:
        sag = high * (2 * thing.y - 1.6)
        ys = sag + 0.22 * (1 - (2 * along - 1) ** 2)
        xs = -0.55 + 1.1 * along
    else:
        ys = -high * 0.55 + 1.1 * high * along
    line: list[Point] = list(zip(xs.tolist(), ys.tolist(), strict=True))
    sheet.paint(sheet.shape(stroke(line, thing.size, thing.size)), colour, bevel=0.6, radius=thing.size * 0.35)


def _rail(sheet: Sheet, thing: Thing, high: float) -> None:
    y, half = (thing.y - 0.5) * high, thing.size / 2
    yellow: Colour = (0.85, 0.68, 0.12)
    for x in (-0.34 + thing.angle * 0.3, 0.22 + thing.angle * 0.3):
        sheet.paint(sheet.shape(rectangle(x - half, y, x + half, high)), yellow, bevel=0.6, radius=half * 0.5)
    sheet.paint(sheet.shape(rectangle(-0.6, y - half, 0.6, y + half)), yellow, bevel=0.6, radius=half * 0.5)


_COVERS: dict[str, Callable[[Sheet, Thing, float], None]] = {"pillar": _pillar, "cable": _cable, "rail": _rail}


def draw_cover(thing: Thing, width: int, height: int) -> Sprite:
    """A cover on a sheet as large as the whole picture."""
    sheet = Sheet(width, height, width, np.random.default_rng([thing.seed, 2]))
    _COVERS[thing.kind](sheet, thing, height / width)
    return sheet.finish()
