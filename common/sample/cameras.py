"""The cameras of the factory: what each one looks at, and where parts can lie in its picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

VIEWS = ("belt", "cell", "dock", "bench")
CAMERAS = 12


@dataclass(frozen=True)
class Zone:
    """A patch of the picture where parts lie. Lengths are fractions of the picture's width or height.

    Attributes:
        left: Least x.
        right: Greatest x.
        top: Least y at x = 0.5.
        bottom: Greatest y at x = 0.5.
        slope: Rise of y over the whole width.
        near: How much larger parts look at the bottom than at the top.
        moves: True on a conveyor.
        kinds: Kind of part -> (how often, smallest, largest size as a fraction of the width).
    """

    left: float
    right: float
    top: float
    bottom: float
    slope: float
    near: float
    moves: bool
    kinds: dict[str, tuple[float, float, float]]


@dataclass(frozen=True)
class Camera:
    """One fixed camera.

    Attributes:
        number: From 1; people call it by that.
        view: One of ``VIEWS``.
        seed: Of everything that never moves in its picture.
        middle: Where the belt or the table's edge is, fraction of the height.
        half: Half the width of the belt, fraction of the height.
        slope: Rise of the belt over the whole width, fraction of the height.
        clock: True when it writes its name and the time into the picture.
    """

    number: int
    view: str
    seed: int
    middle: float
    half: float
    slope: float
    clock: bool

    @property
    def zones(self) -> tuple[Zone, ...]:
        """Where parts lie, the farthest first."""
        return ZONES[self.view](self)


def cameras(seed: int) -> tuple[Camera, ...]:
    """Every camera of the factory that ``seed`` builds."""
    rng = np.random.default_rng([seed, 77])
    return tuple(
        Camera(
            number=number + 1,
            view=VIEWS[number % len(VIEWS)],
            seed=int(rng.integers(2**31)),
            middle=float(rng.uniform(0.5, 0.58)),
            half=float(rng.uniform(0.17, 0.23)),
            slope=float(rng.uniform(-0.16, 0.16)),
            clock=bool(rng.random() < 0.6),
        )
        for number in range(CAMERAS)
    )


def _belt(camera: Camera) -> tuple[Zone, ...]:
    small = {
        "gear": (3.0, 0.12, 0.22),
        "bolt": (3.0, 0.09, 0.16),
        "bracket": (1.5, 0.13, 0.22),
        "crate": (1.6, 0.16, 0.24),
    }
    large = {"crate": (2.0, 0.2, 0.3), "pallet": (1.2, 0.32, 0.44)}
    y, half = camera.middle, camera.half
    belt = Zone(0.06, 0.94, y - half * 0.7, y + half * 0.6, camera.slope, 0.2, True, small)
    floor = Zone(0.1, 0.9, 0.9, 0.98, 0.0, 0.1, False, large)
    return belt, floor


def _cell(camera: Camera) -> tuple[Zone, ...]:
    small = {
        "gear": (2.0, 0.13, 0.22),
        "bolt": (3.0, 0.1, 0.16),
        "bracket": (2.0, 0.14, 0.24),
        "crate": (1.5, 0.17, 0.25),
    }
    return (Zone(0.1, 0.9, camera.middle + 0.08, 0.9, 0.0, 0.35, False, small),)


def _dock(camera: Camera) -> tuple[Zone, ...]:
    large = {"crate": (2.5, 0.17, 0.26), "pallet": (2.6, 0.26, 0.4), "gear": (0.5, 0.12, 0.17)}
    return (Zone(0.08, 0.92, camera.middle, 0.9, 0.0, 0.6, False, large),)


def _bench(camera: Camera) -> tuple[Zone, ...]:
    small = {"gear": (2.5, 0.16, 0.3), "bolt": (3.0, 0.11, 0.2), "bracket": (2.2, 0.18, 0.3), "crate": (0.7, 0.22, 0.3)}
    return (Zone(0.12, 0.88, 0.16, 0.84, camera.slope / 2, 0.1, False, small),)


ZONES = {"belt": _belt, "cell": _cell, "dock": _dock, "bench": _bench}
