"""Where a model contradicts labels, and when it is sure enough to be heard.

The model's own confidence at the boxes people drew says, class by class, how sure it must be: the idea of confident
learning (Northcutt et al., JAIR 2021, section 3.1). That takes their mean m, boxes it does not find included; here it
is the quantile 1 - m of those it finds: a model that finds nearly all of a class is heard even where it is less sure
than usual, one that misses many only where it is surer. The kinds are ObjectLab's overlooked, swapped and badly located
(Tkachenko et al., DataPerf at ICML 2023), and untouched: what a former model drew and the present one denies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from common.domain import Ints
from common.geometry import iou
from common.review.findings import KINDS, SAME, Finding, mark, one, short, where
from common.review.scene import Looked, Scene, Values

APART = 0.3
"""Nobody drew an object that overlaps every drawn box by less."""
UPON = 0.6
"""The same object under another name overlaps by this much."""
DOUBTED = 0.2
"""Under this confidence in the drawn class at its place the model may contradict it."""
SURE, MORE = 0.8, 10
"""Each class is judged as if ``MORE`` further boxes of it were found with confidence ``SURE``: few boxes say little."""
LEAST = 0.5
"""No class is judged by a lower confidence."""
KNOWN = 0.7
"""A class whose drawn boxes the model supports by so much, on average, is one that it can deny."""


@dataclass(frozen=True)
class Suspect:
    """What becomes a finding when the model is sure enough.

    Attributes:
        finding: The weight of an untouched box is yet to be multiplied by the usual support of its class.
        drawn: Place of the disputed box in its label, -1 = it is about none.
        label: Class that the model asserts; of an untouched box, denies.
        confidence: Of the model in it.
    """

    finding: Finding
    drawn: int
    label: int
    confidence: float


@dataclass(frozen=True)
class Doubts:
    """What was seen in some labelled images.

    Attributes:
        label: Shape (n,), class of each drawn box; -1 = none that the model knows.
        support: Shape (n,), the model's greatest confidence in that class at that place, 0 = under ``FAINT``.
        suspects: Of these images.
    """

    label: Ints
    support: Values
    suspects: list[Suspect]


def doubts(images: Sequence[Looked], names: Sequence[str], known: NDArray[np.bool_]) -> Doubts:
    """Look at some images, all at once; a few hundred at a time keep the memory small.

    Args:
        images: Labelled, and seen by the model.
        names: Classes of the project.
        known: Shape (C,), those the model knows.
    """
    scene = Scene(images, names, known)
    suspects = [*_swapped(scene), *_badly_located(scene), *_missed(scene), *_untouched(scene)]
    return Doubts(scene.label, scene.support, suspects)


def findings(seen: Sequence[Doubts], classes: int) -> list[Finding]:
    """What the model is sure enough to say, heaviest first; of one drawn box the first of ``KINDS``."""
    label = np.concatenate([np.zeros(0, np.int64), *(d.label for d in seen)])
    support = np.concatenate([np.zeros(0), *(d.support for d in seen)])
    usual, sure = usual_support(label, support, classes), sureness(label, support, classes)
    found: dict[tuple[str, int, str], Finding] = {}
    for s in sorted((s for d in seen for s in d.suspects), key=lambda s: KINDS.index(s.finding.kind)):
        weight = _weight(s, float(sure[s.label]), float(usual[s.label]))
        if weight:
            key = (s.finding.sample, s.drawn, s.finding.mark if s.drawn < 0 else "")
            found.setdefault(key, replace(s.finding, weight=round(weight, 4)))
    return sorted(found.values(), key=lambda f: (-f.weight, f.sample, f.mark))


def _weight(s: Suspect, sure: float, usual: float) -> float:
    """Of a suspect, 0 = the model is not sure enough of this class.

    Who gave a box a name chose it, and a model may confuse look-alikes for good: only from ``SURE`` on it may say that
    the name is another. It denies a box only of a class that it knows well.
    """
    if s.finding.kind == "untouched":
        return s.finding.weight * usual if usual >= KNOWN else 0.0
    needed = max(sure, SURE) if s.finding.kind == "swapped" else sure
    return s.finding.weight if s.confidence >= needed else 0.0


def sureness(label: Ints, support: Values, classes: int) -> Values:
    """From which confidence on the model may contradict people, shape (C,), in [``LEAST``, 1]; ``SURE`` at first.

    Args:
        label: Shape (n,), see ``Doubts``.
        support: Shape (n,).
        classes: C.
    """
    out = np.full(classes, SURE)
    for c, usual in enumerate(usual_support(label, support, classes).tolist()):
        values = np.concatenate([support[(label == c) & (support > 0)], np.full(MORE, SURE)])
        out[c] = max(LEAST, float(np.quantile(values, 1 - usual)))
    return out


def usual_support(label: Ints, support: Values, classes: int) -> Values:
    """Mean confidence at the drawn boxes of each class, those it does not find included: shape (C,), 0 without any."""
    known = label >= 0
    total = np.bincount(label[known], support[known], minlength=classes)
    mean: Values = total / np.maximum(1, np.bincount(label[known], minlength=classes))
    return mean


def _swapped(scene: Scene) -> Iterator[Suspect]:
    """The model has another class right there, and next to nothing for the drawn one."""
    free = (scene.partner < 0) | (scene.fit < SAME)
    fits = (scene.overlap >= UPON) & free[scene.column] & (scene.label[scene.row] >= 0)
    fits &= (scene.best[scene.column] != scene.label[scene.row]) & (scene.support[scene.row] < DOUBTED)
    pairs = np.flatnonzero(fits)
    pairs = pairs[np.argsort(-scene.confidence[scene.column[pairs]], kind="stable")]
    _, first = np.unique(scene.row[pairs], return_index=True)
    for row, column in zip(scene.row[pairs[first]].tolist(), scene.column[pairs[first]].tolist(), strict=True):
        drawn, said = scene.drawn(row), scene.said(column)
        own, sure = float(scene.support[row]), float(scene.confidence[column])
        text = f"{one(drawn.name)} {where(drawn.xyxy)} that the model takes for {one(said.name)}"
        scores = f"({said.name} {short(sure)}, {drawn.name} {short(own) if own else 'none'})"
        yield _suspect(scene, "swapped", sure * (1 - own), f"{text} {scores}", row, column)


def _badly_located(scene: Scene) -> Iterator[Suspect]:
    """The model's box of this class is beside the drawn one, and none is on it."""
    beside = (scene.partner >= 0) & (scene.fit < SAME)
    for column in np.flatnonzero(beside & (scene.support[scene.partner] < DOUBTED)).tolist():
        row, fit, sure = int(scene.partner[column]), float(scene.fit[column]), float(scene.confidence[column])
        drawn = scene.drawn(row)
        text = f"{one(drawn.name)} {where(drawn.xyxy)} that the model sees beside the drawn box"
        scores = f"(overlap {short(fit)}, model: {short(sure)})"
        yield _suspect(scene, "location", sure * (1 - fit), f"{text} {scores}", row, column)


def _missed(scene: Scene) -> Iterator[Suspect]:
    """The model has a box where nobody drew any; of several on one object the surest."""
    most = np.zeros(len(scene.seen))
    np.maximum.at(most, scene.column, scene.overlap)
    alone = np.flatnonzero((most < APART) & (scene.partner < 0) & (scene.confidence >= LEAST))
    kept: dict[int, list[int]] = {}
    for column in alone[np.argsort(-scene.confidence[alone], kind="stable")].tolist():
        same = kept.setdefault(int(scene.seen[column]), [])
        if same and iou(scene.boxes[[column]], scene.boxes[same]).max() >= SAME:
            continue
        same.append(column)
        said, sure = scene.said(column), float(scene.confidence[column])
        text = f"{one(said.name)} {where(said.xyxy)} that nobody drew (model: {short(sure)})"
        yield _suspect(scene, "missed", sure, text, -1, column)


def _untouched(scene: Scene) -> Iterator[Suspect]:
    """A former model drew it, nobody touched it, and the present model has nothing there."""
    for row in np.flatnonzero((scene.support == 0) & (scene.label >= 0)).tolist():
        if scene.origin(row) == "prediction":
            drawn = scene.drawn(row)
            text = f"{one(drawn.name)} {where(drawn.xyxy)} that a former model drew and nobody touched"
            yield _suspect(scene, "untouched", 1.0, f"{text}; the present model does not see it", row, -1)


def _suspect(scene: Scene, kind: str, weight: float, text: str, row: int, column: int) -> Suspect:
    """``row`` or ``column`` may be -1."""
    boxes = tuple([scene.drawn(row)] * (row >= 0) + [scene.said(column)] * (column >= 0))
    more = [boxes[1].name] if kind == "swapped" else []
    sample = scene.images[scene.image[row] if row >= 0 else scene.seen[column]].sample
    finding = Finding(sample, kind, round(weight, 4), text, boxes, mark(kind, boxes[:1], *more))
    place = int(scene.place[row]) if row >= 0 else -1
    if column < 0:
        return Suspect(finding, place, int(scene.label[row]), 0.0)
    return Suspect(finding, place, int(scene.best[column]), float(scene.confidence[column]))
