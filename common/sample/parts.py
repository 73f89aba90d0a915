"""What lies, stands and hangs on the factory floor: one function per kind draws one part on a sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from common.sample.flaws import FLAWS
from common.sample.sheet import (
    Colour,
    Point,
    Sheet,
    Sprite,
    circle,
    darker,
    rectangle,
    shades,
    stroke,
)

STEELS: tuple[Colour, ...] = ((0.62, 0.64, 0.67), (0.45, 0.47, 0.5), (0.74, 0.75, 0.76), (0.33, 0.34, 0.36))
BRASSES: tuple[Colour, ...] = ((0.72, 0.58, 0.28), (0.58, 0.4, 0.26))
PAINTS: tuple[Colour, ...] = (
    (0.85, 0.45, 0.1),
    (0.16, 0.32, 0.58),
    (0.75, 0.16, 0.13),
    (0.2, 0.45, 0.27),
    (0.88, 0.7, 0.15),
    (0.5, 0.52, 0.55),
)
WOODS: tuple[Colour, ...] = ((0.68, 0.5, 0.31), (0.58, 0.42, 0.26), (0.76, 0.6, 0.4))
PLASTICS: tuple[Colour, ...] = (
    (0.12, 0.3, 0.6),
    (0.2, 0.45, 0.25),
    (0.7, 0.17, 0.13),
    (0.42, 0.44, 0.47),
    (0.82, 0.66, 0.2),
)
HOUSINGS: tuple[Colour, ...] = ((0.9, 0.46, 0.1), (0.92, 0.77, 0.15), (0.86, 0.87, 0.88), (0.25, 0.4, 0.62))


def gear(sheet: Sheet) -> None:
    """A spur gear seen from above, with bore, hub and sometimes lightening holes."""
    rng = sheet.rng
    teeth, root = int(rng.integers(9, 19)), float(rng.uniform(0.37, 0.41))
    sheet.squash *= float(rng.uniform(0.8, 1))
    angles = (np.repeat(np.arange(teeth), 4) + np.tile([0.08, 0.28, 0.58, 0.78], teeth)) * (2 * math.pi / teeth)
    radii = np.tile([root, 0.48, 0.48, root], teeth)
    rim: list[Point] = [
        (r * math.cos(a), r * math.sin(a)) for r, a in zip(radii.tolist(), angles.tolist(), strict=True)
    ]
    bore, hub = float(rng.uniform(0.07, 0.12)), float(rng.uniform(0.16, 0.21))
    holes = [circle(0, 0, bore)]
    spokes = int(rng.choice([0, 4, 5, 6]))
    reach = (hub + root) / 2
    holes += [
        circle(reach * math.cos(a), reach * math.sin(a), (root - hub) * 0.32)
        for a in (np.arange(spokes) * 2 * math.pi / max(spokes, 1)).tolist()
    ]
    colour = shades(rng, STEELS + BRASSES)
    thick = float(rng.uniform(0.03, 0.07))
    for drop in np.linspace(thick, 0.008, 3).tolist():
        sheet.paint(sheet.shape(rim, holes=holes, drop=drop), darker(colour, 0.45), grain=0)
    sheet.paint(sheet.shape(rim, holes=holes), colour, bevel=0.5, radius=0.015, grain=0.09)
    inner = circle(0, 0, root - 0.05)
    sheet.paint(sheet.shape(inner, holes=holes), darker(colour, 0.86), bevel=-0.3, radius=0.012, grain=0.09)
    sheet.paint(sheet.shape(circle(0, 0, hub), holes=holes[:1]), darker(colour, 1.08), bevel=0.6, radius=0.015)


def bolt(sheet: Sheet) -> None:
    """A hexagon bolt: lying on its side, or now and then standing on its head."""
    rng = sheet.rng
    colour = shades(rng, STEELS + BRASSES[:1])
    if rng.random() < 0.2:
        _bolt_from_above(sheet, colour)
        return
    head, shank = float(rng.uniform(0.15, 0.19)), float(rng.uniform(0.075, 0.1))
    neck = float(rng.uniform(-0.27, -0.2))
    sheet.paint(sheet.shape(rectangle(neck, -shank, 0.47, shank)), darker(colour, 0.9), bevel=0.7, radius=0.05)
    begin = float(rng.uniform(neck + 0.05, 0.15))
    threads = [
        stroke([(x - 0.012, -shank), (x + 0.012, shank)], 0.017, 0.017) for x in np.arange(begin, 0.45, 0.04).tolist()
    ]
    sheet.paint(sheet.shape(*threads), darker(colour, 0.38), grain=0, opacity=0.75)
    block = [(neck, -head), (-0.44, -head), (-0.49, -head * 0.6), (-0.49, head * 0.6), (-0.44, head), (neck, head)]
    sheet.paint(sheet.shape(block), colour, bevel=0.8, radius=0.03, grain=0.06)
    facet = rectangle(-0.47, -head * 0.48, neck - 0.01, head * 0.48)
    sheet.paint(sheet.shape(facet), darker(colour, 1.2), bevel=0.4, radius=0.01)
    sheet.paint(sheet.shape(rectangle(neck - 0.035, -head * 1.12, neck, head * 1.12)), darker(colour, 0.8), bevel=0.5)


def _bolt_from_above(sheet: Sheet, colour: Colour) -> None:
    for drop in (0.12, 0.09, 0.06, 0.03):
        sheet.paint(sheet.shape(circle(0, 0, 0.27, 6), drop=drop), darker(colour, 0.5), grain=0)
    sheet.paint(sheet.shape(circle(0, 0, 0.27, 6)), colour, bevel=0.7, radius=0.03)
    sheet.paint(sheet.shape(circle(0, 0, 0.2)), darker(colour, 1.15), bevel=0.4, radius=0.03, grain=0.08)


def bracket(sheet: Sheet) -> None:
    """A sheet-metal bracket with drilled holes: L, U or T."""
    rng = sheet.rng
    wide = float(rng.uniform(0.2, 0.26))
    outline, holes = _bracket_outline(int(rng.integers(3)), wide, float(rng.uniform(0.055, 0.08)))
    colour = shades(rng, PAINTS + STEELS[:2])
    for drop in np.linspace(float(rng.uniform(0.035, 0.07)), 0.008, 3).tolist():
        sheet.paint(sheet.shape(outline, holes=holes, drop=drop), darker(colour, 0.5), grain=0)
    sheet.paint(sheet.shape(outline, holes=holes), colour, bevel=0.5, radius=0.015, grain=0.08)
    rings = [circle(_mean(h)[0], _mean(h)[1], 0.105) for h in holes]
    sheet.paint(sheet.shape(*rings, holes=holes), darker(colour, 1.2), bevel=0.4, radius=0.01, opacity=0.8)


def _mean(points: list[Point]) -> Point:
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)


def _bracket_outline(style: int, wide: float, drill: float) -> tuple[list[Point], list[list[Point]]]:
    """Outline and drilled holes of an L (0), a U (1) or a T (2), in units."""
    e, mid = 0.47, wide / 2
    if style == 0:
        outline = [(-e, -e), (-e + wide, -e), (-e + wide, e - wide - 0.08), (-e + wide + 0.08, e - wide), (e, e - wide)]
        outline += [(e, e), (-e, e)]
        spots = [(-e + mid, -e + mid), (-e + mid, 0.0), (e - mid, e - mid), (0.05, e - mid)]
    elif style == 1:
        outline = [(-e, -0.3), (-e + wide, -0.3), (-e + wide, 0.32 - wide), (e - wide, 0.32 - wide), (e - wide, -0.3)]
        outline += [(e, -0.3), (e, 0.32), (-e, 0.32)]
        spots = [(-e + mid, -0.3 + mid), (e - mid, -0.3 + mid), (0.0, 0.32 - mid)]
    else:
        outline = [(-e, -0.36), (e, -0.36), (e, -0.36 + wide), (mid, -0.36 + wide), (mid, 0.44), (-mid, 0.44)]
        outline += [(-mid, -0.36 + wide), (-e, -0.36 + wide)]
        spots = [(-e + mid, -0.36 + mid), (e - mid, -0.36 + mid), (0.0, 0.44 - mid)]
    return outline, [circle(x, y, drill) for x, y in spots]


def crate(sheet: Sheet) -> None:
    """An open box seen a little from above: planks, or moulded plastic with ribs."""
    rng = sheet.rng
    wooden = bool(rng.random() < 0.35)
    colour = shades(rng, WOODS if wooden else PLASTICS)
    inset = float(rng.uniform(0.03, 0.09))
    top, lip, foot = -0.4, -0.14, 0.4
    rim: list[Point] = [(-0.48, lip), (-0.48 + inset, top), (0.48 - inset, top), (0.48, lip)]
    sheet.paint(sheet.shape(rim), darker(colour, 1.12), bevel=0.3, radius=0.012)
    well: list[Point] = [
        (-0.42, lip - 0.03),
        (-0.41 + inset, top + 0.04),
        (0.41 - inset, top + 0.04),
        (0.42, lip - 0.03),
    ]
    sheet.paint(sheet.shape(well), darker(colour, 0.3), bevel=-0.3, radius=0.04, grain=0.3)
    front = rectangle(-0.48, lip, 0.48, foot)
    sheet.paint(sheet.shape(front), darker(colour, 0.82), bevel=0.35, radius=0.02, grain=0.08)
    (_planks if wooden else _ribs)(sheet, colour, lip, foot)
    if rng.random() < 0.5:
        x = float(rng.uniform(-0.35, 0.15))
        sheet.paint(sheet.shape(rectangle(x, lip + 0.18, x + 0.2, lip + 0.32)), (0.9, 0.9, 0.86), grain=0.04)
        bars = [rectangle(x + d, lip + 0.2, x + d + 0.012, lip + 0.27) for d in (0.02, 0.05, 0.065, 0.1, 0.13, 0.16)]
        sheet.paint(sheet.shape(*bars), (0.1, 0.1, 0.1), grain=0)


def _planks(sheet: Sheet, colour: Colour, lip: float, foot: float) -> None:
    count = int(sheet.rng.integers(3, 5))
    edges = np.linspace(lip, foot, count + 1).tolist()
    for upper, lower in pairwise(edges):
        tone = darker(colour, float(sheet.rng.uniform(0.8, 1.05)))
        plank = rectangle(-0.48, upper + 0.006, 0.48, lower - 0.006)
        sheet.paint(sheet.shape(plank), tone, bevel=0.3, radius=0.008, grain=0.14)
    posts = [rectangle(-0.48, lip, -0.38, foot), rectangle(0.38, lip, 0.48, foot)]
    sheet.paint(sheet.shape(*posts), darker(colour, 0.92), bevel=0.4, radius=0.01, grain=0.14)


def _ribs(sheet: Sheet, colour: Colour, lip: float, foot: float) -> None:
    count = int(sheet.rng.integers(4, 8))
    ribs = [rectangle(x - 0.015, lip + 0.1, x + 0.015, foot - 0.03) for x in np.linspace(-0.44, 0.44, count).tolist()]
    sheet.paint(sheet.shape(*ribs), darker(colour, 0.95), bevel=0.5, radius=0.012)
    bands = [rectangle(-0.48, lip, 0.48, lip + 0.07), rectangle(-0.48, foot - 0.05, 0.48, foot)]
    sheet.paint(sheet.shape(*bands), colour, bevel=0.5, radius=0.012)
    sheet.paint(sheet.shape(rectangle(-0.12, lip + 0.1, 0.12, lip + 0.16)), darker(colour, 0.25), grain=0.1)


def pallet(sheet: Sheet) -> None:
    """A flat pallet seen a little from above: boards on top, blocks in front."""
    rng = sheet.rng
    colour = shades(rng, WOODS if rng.random() < 0.75 else PLASTICS[:1])
    inset = float(rng.uniform(0.05, 0.12))
    back, front, foot = -0.19, 0.05, 0.2
    blocks = [rectangle(x - 0.07, front, x + 0.07, foot - 0.03) for x in (-0.41, 0.0, 0.41)]
    sheet.paint(sheet.shape(rectangle(-0.47, front, 0.47, foot - 0.02)), (0.06, 0.055, 0.05), grain=0.2)
    sheet.paint(sheet.shape(*blocks), darker(colour, 0.7), bevel=0.3, radius=0.012, grain=0.12)
    boards = int(rng.integers(5, 8))
    deck: list[Point] = [(-0.48, front), (-0.48 + inset, back), (0.48 - inset, back), (0.48, front)]
    sheet.paint(sheet.shape(deck), darker(colour, 0.3), grain=0.1)
    for upper, lower in zip(range(boards), range(1, boards + 1), strict=True):
        rows = [back + (front - back) * (step / boards) ** 1.15 for step in (upper + 0.08, lower - 0.08)]
        sides = [0.48 - inset * (front - y) / (front - back) for y in rows]
        board = [(-sides[0], rows[0]), (sides[0], rows[0]), (sides[1], rows[1]), (-sides[1], rows[1])]
        tone = darker(colour, float(rng.uniform(0.88, 1.12)))
        sheet.paint(sheet.shape(board), tone, bevel=0.2, radius=0.006, grain=0.12)
    edges = [rectangle(-0.48, front, 0.48, front + 0.045), rectangle(-0.48, foot - 0.04, 0.48, foot)]
    sheet.paint(sheet.shape(*edges), darker(colour, 0.85), bevel=0.4, radius=0.01, grain=0.12)


def robot_gripper(sheet: Sheet) -> None:
    """A parallel gripper that points down: wrist, palm and two jaws."""
    rng = sheet.rng
    body, metal = shades(rng, HOUSINGS), shades(rng, STEELS)
    gap, jaw = float(rng.uniform(0.08, 0.24)), float(rng.uniform(0.09, 0.12))
    reach = float(rng.uniform(0.38, 0.47))
    for side in (-1, 1):
        finger = [(side * gap, 0.02), (side * (gap + jaw), 0.02), (side * (gap + jaw), 0.2)]
        finger += [(side * (gap + jaw * 0.6), reach), (side * gap, reach)]
        sheet.paint(sheet.shape(finger), metal, bevel=0.6, radius=0.02, grain=0.06)
        pad = rectangle(side * gap - 0.012, reach - 0.18, side * gap + 0.012, reach - 0.02)
        sheet.paint(sheet.shape(pad), (0.06, 0.06, 0.07), grain=0.1)
    slide = rectangle(-0.38, -0.06, 0.38, 0.07)
    sheet.paint(sheet.shape(slide), darker(metal, 0.6), bevel=0.6, radius=0.015)
    palm = [(-0.24, -0.3), (0.24, -0.3), (0.33, -0.2), (0.33, -0.03), (-0.33, -0.03), (-0.33, -0.2)]
    sheet.paint(sheet.shape(palm), body, bevel=0.6, radius=0.03)
    sheet.paint(sheet.shape(rectangle(-0.16, -0.46, 0.16, -0.29)), darker(metal, 0.8), bevel=0.6, radius=0.03)
    sheet.paint(sheet.shape(rectangle(-0.2, -0.33, 0.2, -0.28)), (0.1, 0.1, 0.11), bevel=0.4)
    screws = [circle(x, -0.16, 0.025, 16) for x in (-0.22, 0.22)]
    sheet.paint(sheet.shape(*screws), darker(metal, 0.5), bevel=0.3, radius=0.01)


def robot_arm(sheet: Sheet) -> None:
    """The arm above a gripper: a straight link and a joint. Carries no label."""
    rng = sheet.rng
    body = shades(rng, HOUSINGS)
    link: list[Point] = [(-0.07, -0.5), (0.07, -0.5), (0.045, 0.46), (-0.045, 0.46)]
    sheet.paint(sheet.shape(link), body, bevel=0.6, radius=0.035)
    joint = float(rng.uniform(-0.1, 0.1))
    sheet.paint(sheet.shape(circle(0, joint, 0.095)), darker(body, 0.9), bevel=0.6, radius=0.02)
    sheet.paint(sheet.shape(circle(0, joint, 0.055)), (0.18, 0.18, 0.2), bevel=0.5, radius=0.015)
    hose = [(0.06 + 0.035 * math.sin(y * 9), y) for y in np.linspace(-0.5, 0.45, 24).tolist()]
    sheet.paint(sheet.shape(stroke(hose, 0.022, 0.022)), (0.07, 0.07, 0.08), bevel=0.4, radius=0.01)


PARTS: dict[str, Callable[[Sheet], None]] = {
    "gear": gear,
    "bolt": bolt,
    "bracket": bracket,
    "crate": crate,
    "pallet": pallet,
    "robot_gripper": robot_gripper,
    "robot_arm": robot_arm,
}

FLAT = frozenset({"gear", "bolt", "bracket"})
"""Kinds that lie any way round; the others stand upright and only lean."""


def new_sheet(kind: str, size: float, angle: float, rng: np.random.Generator) -> Sheet:
    """A sheet that holds a part of ``kind`` with a longest side of ``size`` pixels, turned by ``angle`` radians."""
    tall = {"pallet": 0.5, "crate": 0.95}.get(kind, 1.1)
    lean = abs(math.sin(angle))
    wide, high = (1.42, 1.42) if kind in FLAT else (1.1 + 0.5 * lean, tall + 0.8 * lean)
    sheet = Sheet(size * wide, size * high, size, rng)
    sheet.turn = angle
    return sheet


def draw_part(kind: str, size: float, angle: float, seed: int, flaws: Sequence[str] = ()) -> Sprite:
    """One part, the same for the same arguments.

    Args:
        kind: A key of ``PARTS``.
        size: Longest side in final pixels.
        angle: Radians, clockwise.
        seed: Of colours, proportions and textures.
        flaws: Keys of ``FLAWS``, one per defect to draw on the part.
    """
    sheet = new_sheet(kind, size, angle, np.random.default_rng([seed, 1]))
    PARTS[kind](sheet)
    for flaw in flaws:
        FLAWS[flaw](sheet)
    return sheet.finish()
