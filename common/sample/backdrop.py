"""What never moves in a camera's picture: walls, floor, belt, table. Drawn once per camera."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from common.sample.cameras import Camera
from common.sample.sheet import Array, Colour, Point, clouds, darker, shades

WALLS: tuple[Colour, ...] = ((0.55, 0.57, 0.58), (0.46, 0.5, 0.53), (0.6, 0.58, 0.53), (0.38, 0.44, 0.46))
FLOORS: tuple[Colour, ...] = ((0.47, 0.47, 0.46), (0.38, 0.41, 0.42), (0.52, 0.5, 0.46), (0.3, 0.38, 0.36))
BELTS: tuple[Colour, ...] = (
    (0.13, 0.14, 0.14),
    (0.2, 0.22, 0.23),
    (0.1, 0.25, 0.2),
    (0.16, 0.2, 0.3),
    (0.33, 0.33, 0.32),
)
TABLES: tuple[Colour, ...] = ((0.5, 0.53, 0.55), (0.36, 0.4, 0.4), (0.55, 0.45, 0.34), (0.2, 0.33, 0.3))
YELLOW: Colour = (0.83, 0.68, 0.12)


class Scenery:
    """A picture in the making, twice its final size; coordinates are fractions of width and height."""

    def __init__(self, width: int, height: int, rng: np.random.Generator, colour: Colour) -> None:
        self.width, self.height, self.rng = width * 2, height * 2, rng
        self.image = Image.new("RGB", (self.width, self.height), _ink(colour))
        self.pen = ImageDraw.Draw(self.image)

    def point(self, x: float, y: float) -> Point:
        """Pixels of a point in fractions."""
        return x * self.width, y * self.height

    def polygon(self, points: list[Point], colour: Colour) -> None:
        """A filled polygon."""
        self.pen.polygon([self.point(x, y) for x, y in points], fill=_ink(colour))

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """A filled upright rectangle."""
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour)

    def line(self, points: list[Point], colour: Colour, wide: float) -> None:
        """A line, ``wide`` as a fraction of the width."""
        pixels = max(1, round(wide * self.width))
        self.pen.line([self.point(x, y) for x, y in points], fill=_ink(colour), width=pixels, joint="curve")

    def band(self, y: float, high: float, slope: float, colour: Colour) -> None:
        """A stripe across the whole picture, its middle at ``y`` at x = 0.5."""
        top, bottom = y - high / 2, y + high / 2
        rise = slope / 2
        self.polygon([(0, top - rise), (1, top + rise), (1, bottom + rise), (0, bottom - rise)], colour)

    def tube(self, y: float, high: float, slope: float, colour: Colour) -> None:
        """A round bar across the whole picture, lit from above."""
        for part, light in ((1.0, 0.55), (0.8, 0.8), (0.55, 1.1), (0.25, 1.35)):
            self.band(y - high * (1 - part) * 0.25, high * part, slope, darker(colour, light))

    def hazard(self, left: float, top: float, right: float, bottom: float) -> None:
        """Black and yellow stripes in a rectangle."""
        self.box(left, top, right, bottom, YELLOW)
        step = (bottom - top) * self.height / self.width
        for x in np.arange(left, right - step, step * 2).tolist():
            dark = [(x + step, top), (min(x + step * 2, right), top), (x + step, bottom), (x, bottom)]
            self.polygon(dark, (0.09, 0.09, 0.09))

    def finish(self, dirt: float) -> Array:
        """Shape (height, width, 3), in [0, 1], with stains and a fine grain of strength ``dirt``."""
        small = self.image.reduce(2)
        rgb = np.asarray(small, np.float32) / 255
        rows, columns = rgb.shape[:2]
        stains = clouds(self.rng, rows, columns, columns / 6) + 0.7 * clouds(self.rng, rows, columns, columns / 25)
        grain = clouds(self.rng, rows, columns, 2.2)
        return np.clip(rgb * (1 + dirt * stains + dirt * 0.6 * grain)[..., None], 0, 1).astype(np.float32)


def _ink(colour: Colour) -> tuple[int, int, int]:
    red, green, blue = (round(255 * min(max(c, 0.0), 1.0)) for c in colour)
    return red, green, blue


def backdrop(camera: Camera, width: int, height: int) -> Array:
    """What ``camera`` sees when nothing lies around; shape (height, width, 3), in [0, 1]."""
    rng = np.random.default_rng(camera.seed)
    scenery = Scenery(width, height, rng, shades(rng, WALLS))
    {"belt": _belt, "cell": _cell, "dock": _dock, "bench": _bench}[camera.view](scenery, camera)
    return scenery.finish(dirt=float(rng.uniform(0.05, 0.09)))


def _wall(scenery: Scenery, foot: float) -> None:
    """Panels, pipes, a cabinet and a stack light above ``foot``."""
    rng = scenery.rng
    colour = shades(rng, WALLS)
    scenery.box(0, 0, 1, foot, colour)
    for x in np.arange(float(rng.uniform(0, 0.1)), 1, float(rng.uniform(0.12, 0.22))).tolist():
        scenery.line([(x, 0), (x, foot)], darker(colour, 0.8), 0.003)
        scenery.line([(x + 0.004, 0), (x + 0.004, foot)], darker(colour, 1.12), 0.002)
    scenery.box(0, foot - 0.09, 1, foot, darker(colour, 0.72))
    pipe = float(rng.uniform(0.05, foot * 0.35))
    scenery.tube(pipe, 0.03, 0, shades(rng, [(0.5, 0.52, 0.54), (0.7, 0.3, 0.15), (0.2, 0.4, 0.5)]))
    _cabinet(scenery, float(rng.uniform(0.02, 0.75)), foot)
    scenery.box(0, foot - 0.012, 1, foot, darker(colour, 0.4))


def _cabinet(scenery: Scenery, x: float, foot: float) -> None:
    rng = scenery.rng
    grey = shades(rng, [(0.66, 0.67, 0.66), (0.3, 0.36, 0.4)])
    wide, top = float(rng.uniform(0.13, 0.2)), foot - float(rng.uniform(0.22, 0.32))
    scenery.box(x - 0.004, top - 0.006, x + wide + 0.008, foot, darker(grey, 0.45))
    scenery.box(x, top, x + wide, foot - 0.01, grey)
    scenery.line([(x + wide / 2, top), (x + wide / 2, foot - 0.01)], darker(grey, 0.6), 0.003)
    scenery.box(x + 0.02, top + 0.04, x + wide / 2 - 0.015, top + 0.1, (0.08, 0.16, 0.18))
    for i, lamp in enumerate(((0.8, 0.12, 0.1), (0.9, 0.65, 0.1), (0.15, 0.65, 0.25))):
        scenery.box(x + wide - 0.045, top - 0.035 * (3 - i), x + wide - 0.025, top - 0.035 * (2 - i), lamp)


def _floor(scenery: Scenery, top: float) -> None:
    """Concrete with joints that meet at the horizon, and a walkway line."""
    rng = scenery.rng
    colour = shades(rng, FLOORS)
    scenery.box(0, top, 1, 1, colour)
    vanish = float(rng.uniform(0.35, 0.65))
    for x in np.arange(-1.5, 2.6, float(rng.uniform(0.3, 0.45))).tolist():
        scenery.line([(vanish + (x - vanish) * 0.25, top), (x, 1.0)], darker(colour, 0.8), 0.0035)
    for depth in (0.12, 0.36, 0.8):
        y = top + (1 - top) * depth
        scenery.line([(0, y), (1, y)], darker(colour, 0.82), 0.003)
    side = float(rng.choice([-0.35, 1.3]))
    far = vanish + (side - vanish) * 0.25
    scenery.polygon([(far, top), (far + 0.018, top), (side + 0.07, 1), (side, 1)], YELLOW)


def _belt(scenery: Scenery, camera: Camera) -> None:
    y, half, slope = camera.middle, camera.half, camera.slope
    _wall(scenery, y - half * 0.5)
    _floor(scenery, y - half * 0.5)
    rng = scenery.rng
    steel = shades(rng, [(0.5, 0.52, 0.54), (0.22, 0.36, 0.5), (0.72, 0.6, 0.2), (0.35, 0.4, 0.36)])
    for x in (0.12, 0.5, 0.88):
        foot = y + slope * (x - 0.5)
        scenery.box(x - 0.03, foot, x + 0.03, 1, darker(steel, 0.5))
        scenery.box(x - 0.022, foot, x + 0.005, 1, darker(steel, 0.75))
    scenery.band(y + half + 0.06, 0.13, slope, (0.07, 0.07, 0.075))
    colour = shades(rng, BELTS, 0.03)
    scenery.band(y, half * 2, slope, colour)
    for x in np.arange(-0.2, 1.2, 0.017).tolist():
        scenery.line(
            [(x, y - half + slope * (x - 0.5)), (x - 0.03, y + half + slope * (x - 0.53))], darker(colour, 0.9), 0.0022
        )
    for x in (float(rng.uniform(0.05, 0.4)), float(rng.uniform(0.6, 0.95))):
        seam = [(x, y - half + slope * (x - 0.5)), (x - 0.04, y + half + slope * (x - 0.54))]
        scenery.line(seam, darker(colour, 0.55), 0.006)
    scenery.tube(y - half - 0.015, 0.035, slope, steel)
    scenery.band(y + half + 0.045, 0.09, slope, darker(steel, 0.75))
    scenery.tube(y + half + 0.005, 0.03, slope, steel)
    for x in np.arange(0.03, 1, 0.085).tolist():
        middle = y + half + 0.05 + slope * (x - 0.5)
        scenery.box(x, middle - 0.02, x + 0.05, middle + 0.02, darker(steel, 0.45))


def _cell(scenery: Scenery, camera: Camera) -> None:
    edge = camera.middle - 0.02
    _wall(scenery, edge)
    rng = scenery.rng
    mesh = shades(rng, [(0.2, 0.2, 0.2), (0.65, 0.55, 0.15)])
    for x in np.arange(-0.5, 1.1, 0.035).tolist():
        scenery.line([(x, 0.02), (x + 0.45, edge)], darker(mesh, 0.8), 0.0018)
        scenery.line([(x + 0.45, 0.02), (x, edge)], darker(mesh, 0.8), 0.0018)
    for x in (0.03, 0.36, 0.69, 0.98):
        scenery.box(x, 0, x + 0.018, edge, mesh)
    colour = shades(rng, TABLES)
    scenery.polygon([(0.05, edge), (0.95, edge), (1.15, 0.94), (-0.15, 0.94)], colour)
    for depth in np.linspace(0.06, 1, 7).tolist():
        y = edge + (0.94 - edge) * depth**1.4
        scenery.line([(0, y), (1, y)], darker(colour, 0.72), 0.005)
        scenery.line([(0, y + 0.007), (1, y + 0.007)], darker(colour, 1.14), 0.002)
    scenery.polygon([(0.0, 0.94), (1.0, 0.94), (1.0, 1.0), (0.0, 1.0)], darker(colour, 0.5))
    scenery.hazard(0, 0.94, 1, 0.975)


def _dock(scenery: Scenery, camera: Camera) -> None:
    horizon = camera.middle - 0.16
    _wall(scenery, horizon)
    rng = scenery.rng
    for x in (0.06, 0.62):
        shutter = shades(rng, [(0.62, 0.64, 0.66), (0.25, 0.36, 0.45), (0.5, 0.46, 0.4)])
        top = horizon * 0.2
        scenery.box(x - 0.012, top - 0.02, x + 0.312, horizon, darker(shutter, 0.4))
        for y in np.arange(top, horizon, 0.022).tolist():
            scenery.box(x, y, x + 0.3, min(y + 0.019, horizon), darker(shutter, float(rng.uniform(0.92, 1.05))))
        scenery.hazard(x - 0.03, horizon - 0.11, x - 0.012, horizon)
    rack = shades(rng, [(0.75, 0.38, 0.12), (0.2, 0.3, 0.5)])
    for x in (0.41, 0.57):
        scenery.box(x, 0.05, x + 0.014, horizon + 0.03, rack)
    for y in (0.12, 0.22):
        scenery.box(0.41, y, 0.584, y + 0.016, darker(rack, 0.85))
    _floor(scenery, horizon)


def _bench(scenery: Scenery, camera: Camera) -> None:
    rng = scenery.rng
    colour = shades(rng, TABLES)
    scenery.box(0, 0, 1, 1, colour)
    if rng.random() < 0.5:
        for x in np.arange(0.03, 1, 0.055).tolist():
            for y in np.arange(0.04, 1, 0.0733).tolist():
                scenery.box(x, y, x + 0.009, y + 0.012, darker(colour, 0.55))
    else:
        for y in np.arange(0.0, 1, 0.125).tolist():
            scenery.line([(0, y), (1, y + camera.slope / 3)], darker(colour, 0.68), 0.004)
    left, right = float(rng.uniform(0.03, 0.08)), float(rng.uniform(0.92, 0.97))
    mat = shades(rng, BELTS + TABLES)
    scenery.box(left, 0.07, right, 0.95, darker(mat, 0.5))
    scenery.box(left + 0.005, 0.065, right - 0.004, 0.94, mat)
    for x in np.arange(left + 0.05, right - 0.02, 0.07).tolist():
        scenery.line([(x, 0.07), (x, 0.94)], darker(mat, 1.18), 0.0018)
    for y in np.arange(0.13, 0.92, 0.0933).tolist():
        scenery.line([(left + 0.01, y), (right - 0.01, y)], darker(mat, 1.18), 0.0018)
    scenery.hazard(0, 0, 1, 0.035)
    scenery.image = scenery.image.filter(ImageFilter.GaussianBlur(0.8))
    scenery.pen = ImageDraw.Draw(scenery.image)
