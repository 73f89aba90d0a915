"""Light, lens and sensor: what happens between a scene and the picture of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from common.sample.plan import Frame
from common.sample.sheet import Array, clouds

Pixels = NDArray[np.uint8]


def expose(scene: Array, frame: Frame) -> Pixels:
    """The picture a camera takes of ``scene``; shape (h, w, 3), uint8.

    Lamps and reflections are the same along a sequence; flicker and noise are new in every frame.

    Args:
        scene: Shape (h, w, 3), in [0, 1], evenly lit.
        frame: Whose light, seeds and clock count.
    """
    place, shot = np.random.default_rng([frame.light_seed, 3]), np.random.default_rng([frame.seed, 4])
    seen = _LIGHT[frame.light](scene, place)
    tint = np.asarray(1 + place.normal(0, 0.03, 3), np.float32) * float(1 + shot.normal(0, 0.008))
    seen = seen * (_vignette(scene.shape, float(place.uniform(0.12, 0.3))) * tint)
    if frame.light == "glare":
        seen += _bloom(scene.shape, frame)[..., None] * _tint(1.0, 0.97, 0.88)
    seen += _noise(scene.shape, shot, grey=frame.light == "infrared") * (
        _NOISE[frame.light] * float(place.uniform(0.7, 1.3))
    )
    picture = (np.clip(seen, 0, 1) * 255 + 0.5).astype(np.uint8)
    return _clock(picture, frame) if frame.camera.clock else picture


def blinded(shape: tuple[int, ...], frame: Frame) -> NDArray[np.bool_]:
    """Where the picture of ``frame`` is nothing but white, shape (h, w)."""
    return _bloom(shape, frame) > 0.95 if frame.light == "glare" else np.zeros(shape[:2], np.bool_)


def _noise(shape: tuple[int, ...], rng: np.random.Generator, *, grey: bool) -> Array:
    """Sensor noise of variance about 1: fine in brightness, in 2 x 2 blots in colour."""
    fine: Array = rng.standard_normal(shape[:2], dtype=np.float32)[..., None]
    if grey:
        return fine
    coarse = rng.standard_normal(((shape[0] + 1) // 2, (shape[1] + 1) // 2, 3), dtype=np.float32)
    coloured: Array = 0.75 * fine + 0.6 * coarse.repeat(2, axis=0).repeat(2, axis=1)[: shape[0], : shape[1]]
    return coloured


_NOISE = {"day": 0.012, "dim": 0.03, "lamps": 0.022, "night": 0.038, "infrared": 0.034, "glare": 0.014}


def _tint(red: float, green: float, blue: float) -> Array:
    return np.array([red, green, blue], np.float32)


def _grid(shape: tuple[int, ...]) -> tuple[Array, Array]:
    """The x and y of every pixel as fractions, shapes (1, w) and (h, 1)."""
    return (
        np.linspace(0, 1, shape[1], dtype=np.float32)[None, :],
        np.linspace(0, 1, shape[0], dtype=np.float32)[:, None],
    )


def _vignette(shape: tuple[int, ...], strength: float) -> Array:
    x, y = _grid(shape)
    fall: Array = 1 - 2 * strength * (np.square(x - 0.5) + np.square(y - 0.5))
    return fall[..., None]


def _spot(shape: tuple[int, ...], x: float, y: float, wide: float, high: float) -> Array:
    """A soft round light of height 1, shape (h, w)."""
    across, down = _grid(shape)
    spot: Array = np.exp(-(((across - x) / wide) ** 2)) * np.exp(-(((down - y) / high) ** 2))
    return spot


def _slant(shape: tuple[int, ...], rng: np.random.Generator, strength: float) -> Array:
    """Light that falls off from one side to the other, shape (h, w, 1), about 1."""
    x, y = _grid(shape)
    a, b = rng.uniform(-strength, strength, 2).tolist()
    slant: Array = 1 + a * (x - 0.5) + b * (y - 0.5)
    return slant[..., None]


def _day(scene: Array, rng: np.random.Generator) -> Array:
    lit = scene * _slant(scene.shape, rng, 0.5) * float(rng.uniform(0.88, 1.15))
    if rng.random() < 0.4:
        shadow = clouds(rng, scene.shape[0], scene.shape[1], scene.shape[1] / 3)
        lit = lit * (1 - 0.18 * np.clip(shadow * 2, 0, 1))[..., None]
    return lit


def _dim(scene: Array, rng: np.random.Generator) -> Array:
    return scene * _slant(scene.shape, rng, 0.7) * float(rng.uniform(0.42, 0.58)) * _tint(0.95, 1.0, 1.08)


def _lamps(scene: Array, rng: np.random.Generator) -> Array:
    """Orange lamps: a pool of light or two in a brown dusk."""
    pools = np.full(scene.shape[:2], 0.28, np.float32)
    for _ in range(2):
        x, y = rng.uniform(0.2, 0.8, 2).tolist()
        pools = pools + 0.75 * _spot(scene.shape, x, y, 0.33, 0.42)
    return scene * pools[..., None] * _tint(1.25, 0.88, 0.5)


def _night(scene: Array, rng: np.random.Generator) -> Array:
    """Blue dark with one lamp."""
    x, y = rng.uniform(0.25, 0.75, 2).tolist()
    light = float(rng.uniform(0.2, 0.28)) + float(rng.uniform(0.45, 0.8)) * _spot(scene.shape, x, y, 0.3, 0.4)
    return scene * light[..., None] * _tint(0.78, 0.92, 1.2)


def _infrared(scene: Array, rng: np.random.Generator) -> Array:
    """The camera's own infrared lamp: grey, bright in the middle."""
    grey = scene @ _tint(0.45, 0.4, 0.15)
    x, y = rng.uniform(0.42, 0.58, 2).tolist()
    light = 0.35 + 0.85 * _spot(scene.shape, x, y, 0.42, 0.5)
    return np.repeat((grey * light)[..., None], 3, axis=2)


def _glare(scene: Array, rng: np.random.Generator) -> Array:
    """Contrast washed out by light that shines into the lens; where it blinds: ``_bloom``."""
    return scene * _slant(scene.shape, rng, 0.4) * 0.92 + 0.07


def _bloom(shape: tuple[int, ...], frame: Frame) -> Array:
    """Sun or lamps that shine into the lens, shape (h, w): white spots with a halo and a streak."""
    rng = np.random.default_rng([frame.light_seed, 5])
    across, down = _grid(shape)
    light = np.zeros(shape[:2], np.float32)
    for _ in range(int(rng.integers(1, 3))):
        x, y = rng.uniform(0.1, 0.9, 2).tolist()
        wide, tilt = float(rng.uniform(0.06, 0.12)), float(rng.uniform(-0.7, 0.7))
        light += 1.1 * _spot(shape, x, y, wide, wide * 1.33) + 0.4 * _spot(shape, x, y, wide * 2.6, wide * 3.4)
        distance = (down - y) - tilt * (across - x)
        light += 0.4 * np.exp(-((distance / 0.035) ** 2)) * np.exp(-(((across - x) / 0.45) ** 2))
    return light


_LIGHT = {"day": _day, "dim": _dim, "lamps": _lamps, "night": _night, "infrared": _infrared, "glare": _glare}


def _clock(picture: Pixels, frame: Frame) -> Pixels:
    """The camera's name and the time in the upper left corner, as cameras write them."""
    hours, seconds = divmod(frame.clock % 86400, 3600)
    text = f"CAM {frame.camera.number:02d}  {hours:02d}:{seconds // 60:02d}:{seconds % 60:02d}"
    image = Image.fromarray(picture)
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=max(9, picture.shape[1] // 40))
    for offset, ink in ((9, (0, 0, 0)), (8, (235, 235, 235))):
        pen.text((offset, offset - 2), text, fill=ink, font=font)
    return np.asarray(image)
