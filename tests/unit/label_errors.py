"""Labels with known mistakes, and a detector that saw them: what it says is drawn by chance, like YOLO11n's was found.

Measured of YOLO11n after five epochs on 440 synthetic floor images, 5 % of whose labels were wrong: 4 % of the right
boxes under .15, quartiles of the others' confidence .89 to .96, of objects lost in the label .85 to .94 (the network
follows its labels a little), 8 % of the swapped boxes keep more than a trace of the drawn class, .08 false boxes per
image from .1 on, none from .4 on; on images it was not trained on .86 from .1 on, .03 from .5 on, .003 from .8 on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from common.domain import LabelledBox
from common.geometry import iou
from common.review import Finding, Looked

NAMES = ("bolt", "crate", "dent", "gear")
FOUND_AS = {"missed": "drop", "swapped": "swap", "location": "shift", "untouched": "leave"}
"""Kind of finding -> the mistake it is for."""
XYXY = tuple[float, float, float, float]


@dataclass(frozen=True)
class Skill:
    """How good a detector is.

    Attributes:
        finds: Share of objects it sees at all.
        sure: Mean confidence of each class, of those it sees; C numbers.
        steady: Larger = confidences nearer to their mean.
        false: False boxes per image, from .1 on; few are confident.
        confuses: Share of objects it takes for another class, less sure than it would have been.
        follows: An object missing in the label loses up to this share of its confidence.
    """

    finds: float = 0.95
    sure: tuple[float, ...] = (0.93, 0.9, 0.85, 0.88)
    steady: float = 6.0
    false: float = 0.9
    confuses: float = 0.01
    follows: float = 0.1


WEAK = Skill(finds=0.85, sure=(0.7, 0.6, 0.7, 0.65), steady=4.0, false=2.0, confuses=0.1)


@dataclass
class Case:
    """One image: its label as somebody left it, what is wrong with it, and what the detector says."""

    looked: Looked
    wrong: list[tuple[str, XYXY]] = field(default_factory=list)
    """(mistake, the place: of the true object where it was dropped, else of the drawn box)."""


def cases(rng: np.random.Generator, images: int, skill: Skill, share: float = 0.05, boxes: int = 5) -> list[Case]:
    """Images with about so many boxes each; this share of the boxes is dropped, swapped or shifted, evenly.

    A third of the right boxes came from a former model, untouched; so did a wrong one for every third mistake.
    """
    return [_case(rng, f"{i}", int(rng.poisson(boxes)), skill, share) for i in range(images)]


def _case(rng: np.random.Generator, sample: str, count: int, skill: Skill, share: float) -> Case:
    drawn: list[LabelledBox] = []
    wrong: list[tuple[str, XYXY]] = []
    said: list[tuple[XYXY, np.ndarray]] = []
    for place in _places(rng, count):
        name = int(rng.choice(len(NAMES), p=(0.4, 0.3, 0.2, 0.1)))
        luck = rng.random() / share if share else 1.0
        mistake = ("drop", "swap", "shift")[int(3 * luck)] if luck < 1 else ""
        seen = _seen(rng, place, name, skill, lost=mistake == "drop")
        said += seen
        box = _drawn(rng, place, name, mistake, by_model=bool(seen) and rng.random() < 1 / 3)
        drawn += [box] if box else []
        wrong += [(mistake, box.xyxy if box else place)] if mistake else []
    for place in _places(rng, rng.poisson(share * count / 3)):
        drawn.append(LabelledBox(str(rng.choice(NAMES)), place, "prediction"))
        wrong.append(("leave", place))
    said += [(place, _scores(rng, int(rng.integers(len(NAMES))), 0.1 + 0.9 * rng.beta(0.5, 3.2)))
             for place in _places(rng, rng.poisson(skill.false))]  # fmt: skip
    boxes = np.array([b for b, _ in said]).reshape(-1, 4)
    scores = np.array([s for _, s in said]).reshape(-1, len(NAMES))
    return Case(Looked(sample, tuple(drawn), boxes, scores), wrong)


def _places(rng: np.random.Generator, count: int) -> list[XYXY]:
    x, y = rng.uniform(0, 0.8, (2, count))
    w, h = rng.uniform(0.06, 0.2, (2, count))
    return [tuple(map(float, p)) for p in zip(x, y, x + w, y + h, strict=True)]


def _drawn(rng: np.random.Generator, place: XYXY, name: int, mistake: str, *, by_model: bool) -> LabelledBox | None:
    """What somebody drew for an object."""
    if mistake == "drop":
        return None
    if mistake == "swap":
        return LabelledBox(NAMES[(name + int(rng.integers(1, len(NAMES)))) % len(NAMES)], place)
    if mistake == "shift":
        width, height = place[2] - place[0], place[3] - place[1]
        angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.4, 0.6)
        x = np.clip(place[0] + far * width * np.cos(angle), 0, 1 - width)
        y = np.clip(place[1] + far * height * np.sin(angle), 0, 1 - height)
        return LabelledBox(NAMES[name], (float(x), float(y), float(x + width), float(y + height)))
    return LabelledBox(NAMES[name], place, "prediction" if by_model else "manual")


def _seen(
    rng: np.random.Generator, place: XYXY, name: int, skill: Skill, *, lost: bool
) -> list[tuple[XYXY, np.ndarray]]:
    """What the detector says of an object: a box, now and then a second and fainter one, or nothing."""
    if rng.random() > skill.finds:
        return []
    mean = skill.sure[name]
    confidence = rng.beta(mean * skill.steady, (1 - mean) * skill.steady)
    confidence *= 1 - lost * skill.follows * rng.random()
    shown = name
    if rng.random() < skill.confuses:
        shown, confidence = (name + 1) % len(NAMES), confidence * rng.uniform(0.3, 1)
    found = [(_moved(rng, place, 0.04), _scores(rng, shown, confidence))]
    if rng.random() < 0.1:
        found.append((_moved(rng, place, 0.15), _scores(rng, shown, 0.5 * confidence)))
    return found


def _moved(rng: np.random.Generator, place: XYXY, far: float) -> XYXY:
    size = np.array([place[2] - place[0], place[3] - place[1]] * 2)
    x1, y1, x2, y2 = np.clip(np.array(place) + rng.normal(0, far, 4) * size, 0, 1).tolist()
    return x1, y1, max(x2, x1 + 0.01), max(y2, y1 + 0.01)


def _scores(rng: np.random.Generator, name: int, confidence: float) -> np.ndarray:
    scores = np.asarray(rng.beta(1, 40, len(NAMES)) * confidence)
    scores[name] = confidence
    return scores


@dataclass(frozen=True)
class Quality:
    """Of one kind of finding: how many there are, how many of them are right, how many mistakes there were."""

    found: int
    right: int
    mistakes: int

    @property
    def precision(self) -> float:
        return self.right / max(1, self.found)

    @property
    def recall(self) -> float:
        return self.right / max(1, self.mistakes)


def quality(made: Sequence[Case], found: Sequence[Finding]) -> dict[str, Quality]:
    """Of each kind; a finding is right when it names its own mistake, at its place."""
    by_sample = {c.looked.sample: c.wrong for c in made}
    total, right = Counter(f.kind for f in found), Counter[str]()
    for f in found:
        places = [place for mistake, place in by_sample[f.sample] if mistake == FOUND_AS.get(f.kind)]
        right[f.kind] += bool(places and iou(np.array([f.boxes[0].xyxy]), np.array(places)).max() >= 0.5)
    mistakes = Counter(mistake for c in made for mistake, _ in c.wrong)
    return {kind: Quality(total[kind], right[kind], mistakes[was]) for kind, was in FOUND_AS.items()}
