"""From a planned frame to a picture and the exact boxes of what can be seen in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from common.domain import LabelledBox
from common.sample.backdrop import backdrop
from common.sample.cameras import Camera
from common.sample.covers import draw_cover
from common.sample.lens import blinded, expose
from common.sample.parts import draw_part
from common.sample.plan import CLASSES, COVERS, Frame, Thing
from common.sample.sheet import Array, Sprite

SEEN_FROM = 0.25
"""A part is labelled when at least this fraction of it can be seen."""

LEAST_SIDE = 0.016
"""A box is labelled when its shorter side is at least this fraction of the picture's width."""


@dataclass
class _Trace:
    """What one labelled thing left in the ownership map: how much of it there would be, and where to look."""

    name: str
    whole: int
    area: tuple[slice, slice]
    flaw: bool


class Stage:
    """One picture while parts are laid on it, and who owns each of its pixels."""

    def __init__(self, frame: Frame, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.rgb = _backdrop(frame.camera, width, height).copy()
        self.owner: NDArray[np.int16] = np.zeros((height, width), np.int16)
        self.flaw: NDArray[np.int16] = np.zeros((height, width), np.int16)
        self.traces: list[_Trace] = []
        for thing in frame.things:
            self._lay(thing, frame)
        blind = blinded(self.rgb.shape, frame)
        self.owner[blind] = self.flaw[blind] = 0

    def _lay(self, thing: Thing, frame: Frame) -> None:
        if thing.kind in COVERS:
            sprite, left, top = _cover(thing, self.width, self.height), 0, 0
        else:
            sprite = _part(thing.kind, thing.size * self.width, thing.angle, thing.seed, thing.flaws)
            if thing.moves and frame.blur:
                sprite = smeared(sprite, round(frame.blur * self.width))
            left = round(thing.x * self.width - sprite.alpha.shape[1] / 2)
            top = round(thing.y * self.height - sprite.alpha.shape[0] / 2)
            self._shadow(sprite.alpha, left, top, 0.35 if thing.kind.startswith("robot") else 0.16, thing)
        self._paste(sprite, left, top, thing.kind)

    def _overlap(self, shape: tuple[int, ...], left: int, top: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """The part of the picture under a sprite, and the part of the sprite on the picture."""
        x1, y1 = max(left, 0), max(top, 0)
        x2, y2 = max(min(left + shape[1], self.width), x1), max(min(top + shape[0], self.height), y1)
        return (slice(y1, y2), slice(x1, x2)), (slice(y1 - top, y2 - top), slice(x1 - left, x2 - left))

    def _shadow(self, alpha: Array, left: int, top: int, height: float, thing: Thing) -> None:
        """Darken the floor beside a part; ``height`` is how far above it the part is, in sizes."""
        reach = max(2.0, thing.size * self.width * height * 0.35)
        pad = round(reach * 2)
        solid = np.pad((alpha * 255).astype(np.uint8), pad)
        soft = np.asarray(Image.fromarray(solid).filter(ImageFilter.GaussianBlur(reach * 0.55)), np.float32) / 255
        spot, part = self._overlap(soft.shape, left - pad + round(reach * 0.6), top - pad + round(reach * 0.9))
        self.rgb[spot] *= (1 - 0.6 * soft[part])[..., None]

    def _paste(self, sprite: Sprite, left: int, top: int, kind: str) -> None:
        spot, part = self._overlap(sprite.alpha.shape, left, top)
        alpha = sprite.alpha[part]
        self.rgb[spot] += (sprite.rgb[part] - self.rgb[spot]) * alpha[..., None]
        solid = alpha > 0.5
        self.flaw[spot][solid] = 0
        self.owner[spot][solid] = 0
        if kind in CLASSES:
            self.traces.append(_Trace(kind, int((sprite.alpha > 0.5).sum()), spot, flaw=False))
            self.owner[spot][solid] = len(self.traces)
        for name, mask in sprite.flaws:
            self.traces.append(_Trace(name, int(mask.sum()), spot, flaw=True))
            self.flaw[spot][mask[part] & solid] = len(self.traces)

    def boxes(self) -> list[LabelledBox]:
        """The extent of the visible pixels of everything that can be seen well enough to label."""
        found = []
        for number, trace in enumerate(self.traces, 1):
            rows, columns = np.nonzero((self.flaw if trace.flaw else self.owner)[trace.area] == number)
            if len(rows) < SEEN_FROM * trace.whole or not len(rows):
                continue
            y, x = trace.area[0].start, trace.area[1].start
            x1, y1, x2, y2 = x + columns.min(), y + rows.min(), x + columns.max() + 1, y + rows.max() + 1
            if min(x2 - x1, y2 - y1) >= LEAST_SIDE * self.width:
                fractions = (x1 / self.width, y1 / self.height, x2 / self.width, y2 / self.height)
                found.append(LabelledBox(trace.name, tuple(map(float, fractions))))  # type: ignore[arg-type]
        return found


def smeared(sprite: Sprite, pixels: int) -> Sprite:
    """``sprite`` as it looks when it moves sideways by ``pixels`` during the exposure."""
    if pixels < 2:
        return sprite
    pad = ((0, 0), (pixels // 2, pixels - pixels // 2))
    alpha = np.pad(sprite.alpha, pad)
    light = np.pad(sprite.rgb * sprite.alpha[..., None], (*pad, (0, 0)))
    steps = range(-(pixels // 2), pixels - pixels // 2)
    mean_alpha, mean_light = np.zeros_like(alpha), np.zeros_like(light)
    for step in steps:
        mean_alpha += np.roll(alpha, step, axis=1) / pixels
        mean_light += np.roll(light, step, axis=1) / pixels
    flaws = [(name, np.pad(mask, pad)) for name, mask in sprite.flaws]
    return Sprite(mean_light / np.maximum(mean_alpha, 1e-6)[..., None], mean_alpha, flaws)


def render(frame: Frame, size: tuple[int, int]) -> tuple[NDArray[np.uint8], list[LabelledBox]]:
    """Draw one frame.

    Args:
        frame: What is in it.
        size: Width and height in pixels.

    Returns:
        The picture, shape (height, width, 3), and the boxes of every labelled thing: the visible extent, after
        everything in front of it was painted and what glare burns out was taken away.
    """
    stage = Stage(frame, *size)
    return expose(stage.rgb, frame), stage.boxes()


# The frames of a run show the same parts, and a camera's frames the same walls: drawn once, read-only.
@lru_cache(maxsize=16)
def _backdrop(camera: Camera, width: int, height: int) -> Array:
    return backdrop(camera, width, height)


@lru_cache(maxsize=32)
def _part(kind: str, size: float, angle: float, seed: int, flaws: tuple[str, ...]) -> Sprite:
    return draw_part(kind, size, angle, seed, flaws)


@lru_cache(maxsize=4)
def _cover(thing: Thing, width: int, height: int) -> Sprite:
    return draw_cover(thing, width, height)
