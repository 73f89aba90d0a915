"""The rare defects, drawn on a part that is already on its sheet."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from common.sample.sheet import LIGHT_FROM, Point, Sheet, stroke


def crack(sheet: Sheet) -> None:
    """A jagged, branching fracture that runs in from the edge of a part."""
    rng = sheet.rng
    start, heading = _edge(sheet)
    length = sheet.unit * float(rng.uniform(0.38, 0.55))
    wide = max(2.6 * sheet.unit / 100, 4.0)
    main = _jagged(rng, start, heading, length)
    lines = [stroke(main, wide * 1.7, wide * 0.7)]
    for side in (-1, 1):
        fork = int(rng.integers(len(main) // 4, len(main) * 3 // 4))
        branch = _jagged(rng, main[fork], heading + side * float(rng.uniform(0.5, 0.95)), length * 0.42)
        lines.append(stroke(branch, wide, wide * 0.5))
    mask = sheet.blank()
    pen = ImageDraw.Draw(mask)
    for line in lines:
        pen.polygon(line, fill=255)
    mask = _only_on_part(sheet, mask)
    wider = mask.filter(ImageFilter.MaxFilter(5))
    sheet.paint(_only_on_part(sheet, wider), (0.86, 0.84, 0.8), bevel=0.5, radius=0.01, opacity=0.45)
    sheet.paint(mask, (0.02, 0.018, 0.018), grain=0)
    _remember(sheet, "crack", _only_on_part(sheet, wider))


def _edge(sheet: Sheet) -> tuple[Point, float]:
    """A spot on the outline of the part, in sheet pixels, and the direction from there to its middle."""
    ys, xs = np.nonzero(sheet.alpha > 0.9)
    solid = np.zeros((sheet.rows, sheet.columns), bool)
    solid[ys, xs] = True
    taken = np.zeros_like(solid)
    for _, old in sheet.flaws:
        taken |= old
    middle = (float(xs.mean()), float(ys.mean()))
    best: tuple[float, Point, float] = (-math.inf, middle, 0.0)
    for angle in sheet.rng.uniform(0, 2 * math.pi, 12).tolist():
        rays = np.arange(0, sheet.columns, 1.0)
        x = np.clip(middle[0] + rays * math.cos(angle), 0, sheet.columns - 1).astype(int)
        y = np.clip(middle[1] + rays * math.sin(angle), 0, sheet.rows - 1).astype(int)
        on = np.nonzero(solid[y, x])[0]
        if not len(on):
            continue
        # Metal under the ray, less what an earlier defect of this part already covers.
        worth = float(solid[y, x].sum() - 3 * taken[y, x].sum())
        if worth > best[0]:
            best = (worth, (float(x[on[-1]]), float(y[on[-1]])), angle + math.pi)
    return best[1], best[2]


def _jagged(rng: np.random.Generator, start: Point, heading: float, length: float) -> list[Point]:
    steps = 11
    turns = heading + rng.normal(0, 0.5, steps)
    hops = np.stack([np.cos(turns), np.sin(turns)], 1) * (length / steps)
    path = np.concatenate([[start], np.asarray(start) + np.cumsum(hops, axis=0)])
    return [(float(x), float(y)) for x, y in path]


def dent(sheet: Sheet) -> None:
    """A crumpled hollow in the front of a crate: dark below the light, bright on the far lip, paint scraped off."""
    rng = sheet.rng
    side = float(rng.choice([-1.0, 1.0]))
    if any(name == "dent" for name, _ in sheet.flaws):
        side = -math.copysign(1.0, _last_centre(sheet))
    x, y = sheet.place((side * float(rng.uniform(0.16, 0.26)), float(rng.uniform(0.06, 0.2))))
    wide, high = sheet.unit * float(rng.uniform(0.15, 0.2)), sheet.unit * float(rng.uniform(0.12, 0.17))
    rows, columns = np.mgrid[0 : sheet.rows, 0 : sheet.columns].astype(np.float32)
    u, v = (columns - x) / wide, (rows - y) / high
    angle = np.arctan2(v, u)
    crumple = sum(float(rng.uniform(0.05, 0.1)) * np.sin(k * angle + rng.uniform(0, 6.3)) for k in (3, 5, 7))
    reach = np.hypot(u, v) * (1 + crumple)
    inside = (reach < 1) & (sheet.alpha > 0.5)
    slope = -(u * LIGHT_FROM[0] + v * LIGHT_FROM[1]) * 1.3
    folds = 0.3 * np.sin(6 * angle + 5 * reach)
    shade = np.clip(slope + folds * reach, -1, 1) * np.clip(3.5 * (1 - reach), 0, 1)
    shade = np.where(inside, shade, 0)[..., None]
    hollow = np.where(inside, np.clip(1.15 - reach, 0, 0.55), 0)[..., None]
    lit = np.where(shade > 0, shade * 0.75, shade * 0.85)
    sheet.rgb = np.clip(sheet.rgb * (1 - hollow) + lit * (0.35 + sheet.rgb * 0.5), 0.01, 1).astype(np.float32)
    _scrape(sheet, (x, y), wide, high)
    _remember(sheet, "dent", Image.fromarray((inside * 255).astype(np.uint8)))


def _scrape(sheet: Sheet, centre: Point, wide: float, high: float) -> None:
    """Bare bright metal or wood where the paint came off."""
    mask = sheet.blank()
    pen = ImageDraw.Draw(mask)
    for _ in range(int(sheet.rng.integers(3, 6))):
        x = centre[0] + wide * float(sheet.rng.uniform(-0.55, 0.35))
        y = centre[1] + high * float(sheet.rng.uniform(-0.55, 0.55))
        run = wide * float(sheet.rng.uniform(0.25, 0.6))
        line = stroke([(x, y), (x + run * 0.5, y + run * 0.2), (x + run, y + run * 0.12)], 3, 1.2)
        pen.polygon(line, fill=255)
    sheet.paint(_only_on_part(sheet, mask), (0.84, 0.82, 0.78), opacity=0.85)


def _last_centre(sheet: Sheet) -> float:
    """Where across the part the newest defect lies: negative = left of the middle."""
    _, columns = np.nonzero(sheet.flaws[-1][1])
    return float(columns.mean()) - sheet.columns / 2


def _only_on_part(sheet: Sheet, mask: Image.Image) -> Image.Image:
    kept: NDArray[np.uint8] = np.where(sheet.alpha > 0.5, np.asarray(mask), 0).astype(np.uint8)
    return Image.fromarray(kept)


def _remember(sheet: Sheet, name: str, mask: Image.Image) -> None:
    sheet.flaws.append((name, np.asarray(mask) > 127))


FLAWS: dict[str, Callable[[Sheet], None]] = {"crack": crack, "dent": dent}
