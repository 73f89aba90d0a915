"""Bookkeeping for the comparison of two orders: what would an annotator have found by now. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from common.domain import LabelledBox

Truth = Mapping[str, Sequence[LabelledBox]]
"""Image name -> everything that is in the image."""


@dataclass(frozen=True)
class Tally:
    """What the first images of an order hold.

    Attributes:
        labels: Images answered, true negatives included.
        boxes: Boxes drawn in them.
        rare: Boxes of the rare classes among them.
        rare_images: Images with at least one of these.
        empty: Images without any box.
        by_class: Class name -> boxes, classes that were met only.
    """

    labels: int
    boxes: int
    rare: int
    rare_images: int
    empty: int
    by_class: Mapping[str, int]


@dataclass(frozen=True)
class MeanTally:
    """The mean of several replays of the same length; the fields of ``Tally``, as fractions."""

    labels: float
    boxes: float
    rare: float
    rare_images: float


def rare_classes(labels: Truth | Iterable[Sequence[LabelledBox]], count: int = 2) -> tuple[str, ...]:
    """The ``count`` classes with the fewest boxes, the rarest first; equals in the order of their names.

    A class that no image shows cannot be found and is not counted. With ``count`` classes or fewer: the rarest
    ones that leave at least one common class.

    Args:
        labels: The boxes of every image, or a mapping to them.
        count: How many, 1 or more.
    """
    everything = labels.values() if isinstance(labels, Mapping) else labels
    seen = Counter(box.name for boxes in everything for box in boxes)
    ranked = sorted(seen, key=lambda name: (seen[name], name))
    return tuple(ranked[: min(count, max(1, len(ranked) - 1))])


def tally(order: Sequence[str], truth: Truth, rare: Sequence[str], upto: int | None = None) -> Tally:
    """Count what the first ``upto`` images of ``order`` hold.

    Args:
        order: Image names as they were served; one that comes twice counts once, at its first place.
        truth: What is in each of them.
        rare: Names of the rare classes.
        upto: Images to count after repetitions went, None = all.

    Raises:
        KeyError: ``truth`` does not know an image of the order.
    """
    served = list(dict.fromkeys(order))[:upto]
    boxes = [[box.name for box in truth[name]] for name in served]
    by_class = Counter(name for names in boxes for name in names)
    wanted = set(rare)
    return Tally(
        labels=len(served),
        boxes=sum(by_class.values()),
        rare=sum(by_class[name] for name in wanted),
        rare_images=sum(not wanted.isdisjoint(names) for names in boxes),
        empty=sum(not names for names in boxes),
        by_class=dict(by_class),
    )


def curve(order: Sequence[str], truth: Truth, rare: Sequence[str], at: Sequence[int]) -> list[Tally]:
    """One ``tally`` for each number of labels in ``at``."""
    return [tally(order, truth, rare, upto) for upto in at]


def uniform_orders(names: Iterable[str], seeds: Sequence[int]) -> list[list[str]]:
    """One uniformly random order of ``names`` per seed, whatever order they come in."""
    fixed = sorted(set(names))
    return [[fixed[i] for i in np.random.default_rng(seed).permutation(len(fixed)).tolist()] for seed in seeds]


def mean(tallies: Sequence[Tally]) -> MeanTally:
    """The mean of one or more tallies."""
    if not tallies:
        raise ValueError("the mean of no replay is not defined; give at least one")
    share = 1 / len(tallies)
    return MeanTally(
        labels=share * sum(t.labels for t in tallies),
        boxes=share * sum(t.boxes for t in tallies),
        rare=share * sum(t.rare for t in tallies),
        rare_images=share * sum(t.rare_images for t in tallies),
    )
