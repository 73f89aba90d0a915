"""What is in every picture of the sample, decided before anything is drawn. Pure: a seed in, a plan out."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from common.errors import SettingError
from common.sample.cameras import Camera, Zone, cameras

CLASSES = ("gear", "bolt", "bracket", "crate", "pallet", "robot_gripper", "crack", "dent")
"""In the order of the label config; the last two are the rare defects."""

RARE = ("crack", "dent")
CARRIERS = {"crack": ("gear", "bracket"), "dent": ("crate",)}
"""Rare defect -> the kinds of part that can have it."""

LIGHTS = {"day": 0.55, "dim": 0.1, "lamps": 0.08, "night": 0.09, "infrared": 0.06, "glare": 0.12}
"""Light -> its share of ordinary sequences."""

UNUSUAL = {"day": 0.16, "dim": 0.16, "lamps": 0.14, "night": 0.2, "infrared": 0.14, "glare": 0.2}
"""Light -> its share of pictures with a rare defect."""

COVERS = ("pillar", "cable", "rail")
"""What can stand or hang in front of the parts."""


@dataclass(frozen=True)
class Thing:
    """One part or cover in one picture.

    Attributes:
        kind: A class that is no defect, 'robot_arm', or one of ``COVERS``.
        x: Middle, fraction of the width.
        y: Middle, fraction of the height.
        size: Longest side, fraction of the width.
        angle: Radians, clockwise.
        seed: Of its colours and textures; the same thing keeps its seed from frame to frame.
        moves: It rides on a conveyor.
        flaws: Rare defects on it.
    """

    kind: str
    x: float
    y: float
    size: float
    angle: float
    seed: int
    moves: bool = False
    flaws: tuple[str, ...] = ()


@dataclass(frozen=True)
class Frame:
    """One picture.

    Attributes:
        name: File name without its ending.
        camera: Which camera took it.
        sequence: Which recording it belongs to: one camera, one light, one stretch of time.
        run: The run of near-duplicates it belongs to, '' for none.
        things: In the order they are painted, the farthest first.
        light: A key of ``LIGHTS``.
        blur: How far the belt moves during the exposure, fraction of the width.
        seed: Of noise, clock and compression: differs in every frame.
        light_seed: Of where lamps and reflections are: the same along a sequence.
        clock: Seconds since midnight.
    """

    name: str
    camera: Camera
    sequence: str
    run: str
    things: tuple[Thing, ...]
    light: str
    blur: float
    seed: int
    light_seed: int
    clock: int

    def planned(self, name: str) -> int:
        """How many instances of the class ``name`` are in the scene, whether visible or not."""
        if name in RARE:
            return sum(t.flaws.count(name) for t in self.things)
        return sum(t.kind == name for t in self.things)


@dataclass(frozen=True)
class Plan:
    """Every picture of one sample: the pool, in the order of time, and the held-out pictures."""

    pool: tuple[Frame, ...]
    held_out: tuple[Frame, ...]


def plan(*, count: int, held_out: int, seed: int) -> Plan:
    """Decide what every picture shows.

    About half of the pool is in runs of 5 to 15 near-duplicates, about 5 % shows no part at all, about 5.5 % shows
    rare defects, mostly in unusual light. Held-out pictures are single frames of their own, and each rare class is
    in at least 14 % of them.

    Args:
        count: Pictures in the pool, 12 or more.
        held_out: Held-out pictures, 4 or more.
        seed: 0 or more; another seed builds another factory.

    Raises:
        SettingError: a number is out of range.
    """
    for name, value, least in (("count", count, 12), ("held_out", held_out, 4), ("seed", seed, 0)):
        if value < least:
            raise SettingError(f"{name} of the sample is {value}; it must be {least} or more")
    rng = np.random.default_rng([seed, 11])
    director = _Director(rng, cameras(seed))
    pool = [frame for sequence in _pool_order(director, count) for frame in sequence]
    apart = _held_out(director, held_out)
    return Plan(
        tuple(replace(f, name=f"floor-{i:04d}") for i, f in enumerate(pool, 1)),
        tuple(replace(f, name=f"held-out-{i:03d}") for i, f in enumerate(apart, 1)),
    )


def _pool_order(director: _Director, count: int) -> list[list[Frame]]:
    """Sequences of the pool in a mixed order; together ``count`` frames."""
    rng = director.rng
    sequences: list[list[Frame]] = []
    left = max(5, round(count * 0.5))
    empty_runs = max(1, count // 150) if count >= 60 else 0
    while left >= 5:
        length = min(int(rng.integers(5, 16)), left)
        length = left if 0 < left - length < 5 and left <= 15 else length
        sequences.append(director.run(min(length, 7) if empty_runs else length, empty=empty_runs > 0))
        left -= len(sequences[-1])
        empty_runs = max(0, empty_runs - 1)
    singles = count - sum(map(len, sequences))
    rare = max(2, round(count * 0.055))
    wanted = max(1, round(count * 0.05)) - sum(len(s) for s in sequences if not s[0].things)
    empty = min(max(wanted, 0), singles - rare)
    sequences += [[director.rare(RARE[i % 2], both=i % 3 == 2)] for i in range(rare)]
    sequences += [[director.single(empty=True)] for _ in range(empty)]
    sequences += director.stretches(singles - rare - empty)
    return [sequences[i] for i in rng.permutation(len(sequences)).tolist()]


def _held_out(director: _Director, count: int) -> list[Frame]:
    each = max(1, math.ceil(count * 0.14))
    frames = [director.rare(name, both=i % 3 == 2) for name in RARE for i in range(each)]
    frames += [director.single(empty=True) for _ in range(round(count * 0.05))]
    frames += [director.single() for _ in range(count - len(frames))]
    return [frames[i] for i in director.rng.permutation(len(frames)).tolist()][:count]


class _Director:
    """Stages sequences: picks a camera and a light, lays parts out, lets time pass."""

    def __init__(self, rng: np.random.Generator, floor: tuple[Camera, ...]) -> None:
        self.rng = rng
        self.floor = floor
        self.recordings = 0
        self.runs = 0

    def run(self, length: int, *, empty: bool) -> list[Frame]:
        """A run of near-duplicates: nothing moves but the belt, and that hardly."""
        self.runs += 1
        first = replace(self.single(empty=empty), run=f"run-{self.runs:03d}", blur=0.0)
        creep = float(self.rng.uniform(0, 0.0025))
        return [
            replace(
                first,
                things=tuple(_shifted(t, creep * step, first.camera.slope) for t in first.things),
                seed=self._seed(),
                clock=first.clock + step,
            )
            for step in range(length)
        ]

    def stretches(self, count: int) -> list[list[Frame]]:
        """Recordings of one to three different moments under one camera and one light, ``count`` frames together."""
        found: list[list[Frame]] = []
        while count > 0:
            length = min(int(self.rng.choice([1, 1, 2, 3])), count)
            first = self.single()
            later = [
                replace(first, things=self._scene(first.camera, ()), seed=self._seed(), clock=first.clock + 40 * i)
                for i in range(1, length)
            ]
            found.append([first, *later])
            count -= length
        return found

    def rare(self, name: str, *, both: bool) -> Frame:
        """One picture with the rare defect ``name``, and with the other one too when ``both``."""
        flaws = (name, *(r for r in RARE if both and r != name))
        views = ("belt", "cell", "bench") if "crack" in flaws else ("belt", "dock", "cell")
        choices = [c for c in self.floor if c.view in views]
        camera = choices[int(self.rng.integers(len(choices)))]
        return self._frame(camera, UNUSUAL, self._scene(camera, flaws))

    def single(self, *, empty: bool = False) -> Frame:
        """One picture without rare defects; with nothing to label when ``empty``."""
        camera = self.floor[int(self.rng.integers(len(self.floor)))]
        return self._frame(camera, LIGHTS, () if empty else self._scene(camera, ()))

    def _frame(self, camera: Camera, lights: dict[str, float], things: tuple[Thing, ...]) -> Frame:
        self.recordings += 1
        light = str(self.rng.choice(list(lights), p=list(lights.values())))
        hour = self.rng.integers(19, 29) % 24 if light in ("night", "infrared") else self.rng.integers(6, 19)
        blurred = self.rng.random() < 0.3
        return Frame(
            name="",
            camera=camera,
            sequence=f"cam{camera.number:02d}-{self.recordings:03d}",
            run="",
            things=things,
            light=light,
            blur=float(self.rng.uniform(0.008, 0.024)) if blurred else 0.0,
            seed=self._seed(),
            light_seed=self._seed(),
            clock=int(hour) * 3600 + int(self.rng.integers(3600)),
        )

    def _seed(self) -> int:
        return int(self.rng.integers(2**31))

    def _scene(self, camera: Camera, flaws: tuple[str, ...]) -> tuple[Thing, ...]:
        """Parts, the farthest first, then the robot, flawed parts and covers."""
        laid: list[Thing] = []
        for name in flaws:
            for _ in range(int(self.rng.choice([1, 2, 2, 3]))):
                laid.append(self._flawed(camera, name, laid))
        marked = sorted(laid, key=lambda t: t.y)
        many = int(self.rng.integers(1, 4)) if flaws else int(self.rng.integers(2, 7))
        for _ in range(many):
            zone = camera.zones[0] if self.rng.random() < 0.75 else camera.zones[-1]
            laid.append(self._lay(zone, laid, zone.kinds))
        plain = sorted((t for t in laid if not t.flaws), key=lambda t: t.y)
        loads = [self._load(t) for t in plain if t.kind == "pallet" and self.rng.random() < 0.6]
        robot = self._robot(camera) if self.rng.random() < _ROBOT_SHARE[camera.view] else ()
        return (*plain, *loads, *robot, *marked, *self._covers(thin=bool(flaws)))

    def _lay(self, zone: Zone, laid: list[Thing], kinds: dict[str, tuple[float, float, float]]) -> Thing:
        """One more part in ``zone``; clear of the others where there is room, and in a pile now and then."""
        weights = np.asarray([w for w, _, _ in kinds.values()])
        kind = str(self.rng.choice(list(kinds), p=weights / weights.sum()))
        _, small, large = kinds[kind]
        piled = self.rng.random() < 0.12
        thing = self._try(zone, kind, small, large)
        for _ in range(25):
            if piled or all(_apart(thing, other) for other in laid):
                break
            thing = self._try(zone, kind, small, large)
        return thing

    def _try(self, zone: Zone, kind: str, small: float, large: float) -> Thing:
        x, depth = float(self.rng.uniform(zone.left, zone.right)), float(self.rng.uniform(0, 1))
        flat = kind in ("gear", "bolt", "bracket")
        return Thing(
            kind=kind,
            x=x,
            y=zone.top + depth * (zone.bottom - zone.top) + zone.slope * (x - 0.5),
            size=float(self.rng.uniform(small, large)) * (1 + zone.near * (depth - 0.5)),
            angle=float(self.rng.uniform(0, 2 * math.pi) if flat else self.rng.normal(0, 0.04)),
            seed=self._seed(),
            moves=zone.moves,
        )

    def _flawed(self, camera: Camera, flaw: str, laid: list[Thing]) -> Thing:
        """A part with the defect ``flaw``: large, away from the border, now and then with two of them."""
        zone = next(z for z in camera.zones if any(k in z.kinds for k in CARRIERS[flaw]))
        kinds = {k: (w, max(small, 0.2), max(large, 0.27)) for k, (w, small, large) in zone.kinds.items()}
        inner = replace(zone, left=0.17, right=0.83, bottom=min(zone.bottom, 0.85))
        thing = self._lay(inner, laid, {k: v for k, v in kinds.items() if k in CARRIERS[flaw]})
        return replace(thing, flaws=(flaw,) * (2 if self.rng.random() < 0.3 else 1))

    def _load(self, under: Thing) -> Thing:
        """A crate on a pallet."""
        size = under.size * float(self.rng.uniform(0.5, 0.75))
        x = under.x + under.size * float(self.rng.uniform(-0.1, 0.1))
        # The crate's foot is .4 of its size under its middle; fractions of the height are 4/3 of those of the width.
        y = under.y - (size * 0.4 - under.size * 0.02) * 4 / 3
        return Thing("crate", x, y, size, under.angle, self._seed())

    def _robot(self, camera: Camera) -> tuple[Thing, ...]:
        """An arm from above and the gripper at its end."""
        size, lean = float(self.rng.uniform(0.17, 0.27)), float(self.rng.normal(0, 0.16))
        x, y = float(self.rng.uniform(0.2, 0.8)), camera.middle - float(self.rng.uniform(0.02, 0.2))
        long, seed = size * 2.6, self._seed()
        reach = long * 0.46 + size * 0.4
        arm_x, arm_y = x + reach * math.sin(lean), y - reach * math.cos(lean) * 4 / 3
        arm = Thing("robot_arm", arm_x, arm_y, long, lean, seed)
        return arm, Thing("robot_gripper", x, y, size, lean, seed)

    def _covers(self, *, thin: bool) -> tuple[Thing, ...]:
        """What hides parts; ``thin`` leaves out everything wider than a cable."""
        found = []
        for kind, share in zip(COVERS, (0.0, 0.15, 0.0) if thin else (0.14, 0.16, 0.07), strict=True):
            if self.rng.random() < share:
                x, y = float(self.rng.uniform(0.1, 0.9)), float(self.rng.uniform(0.6, 0.9))
                size = float(self.rng.uniform(0.06, 0.13)) * (0.16 if kind == "cable" else 0.5 if kind == "rail" else 1)
                found.append(Thing(kind, x, y, size, float(self.rng.normal(0, 0.25)), self._seed()))
        return tuple(found)


_ROBOT_SHARE = {"belt": 0.22, "cell": 0.75, "dock": 0.0, "bench": 0.2}


def _apart(one: Thing, other: Thing) -> bool:
    """Do their middles keep about half of both sizes between them?"""
    return math.hypot(one.x - other.x, (one.y - other.y) * 0.75) > 0.45 * (one.size + other.size)


def _shifted(thing: Thing, by: float, slope: float) -> Thing:
    return replace(thing, x=thing.x + by, y=thing.y + slope * by) if thing.moves else thing
