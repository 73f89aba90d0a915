"""One unit replayed: rounds of train, measure, score, choose. Knows no torch and no command line.

Paired by design: the initial set, its training, the training seed and the groups are the unit's, not the arm's.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from common.domain import Ints, Prediction
from common.errors import SettingError
from common.experiments.backtest.arms import Arm
from common.strategies import REGISTRY, Pool, query

IMAGE_S = 5.0
BOX_S = 7.0
"""Simulated time of an annotator: so long per image, so long more per box."""


@dataclass(frozen=True)
class Learned:
    """What one training came to.

    Attributes:
        metrics: On the validation split: ``map5095``, ``map50``, ``worst_quarter``, ``ap5095/<class>`` ...; in [0, 1].
        predictions: One per pool image, None = unreadable; empty when they were not asked for.
        updates: Optimizer steps made.
        seconds: Name of the step -> wall time.
    """

    metrics: dict[str, float]
    predictions: Sequence[Prediction | None] = ()
    updates: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


class Learner(Protocol):
    """Trains from the unit's checkpoint."""

    def learn(self, rows: Ints, updates: int, *, predict: bool) -> Learned:
        """Train on these pool rows with the unit's seed, measure the last weights, and with ``predict`` score the pool.

        The same rows, in ascending order, give the same answer, whatever was asked before.
        """


@dataclass(frozen=True)
class Unit:
    """A data set, an initial set and a seed: what every arm shares.

    Attributes:
        data: Name of the data set.
        seed: Of the initial set, of every training and of every choice; repeated uniform arms draw by their label.
        ids: n sample ids, the pool.
        classes: C names.
        counts: Shape (n, C), boxes per class of each image.
        group: Shape (n,), near-duplicate group, -1 = none.
        budgets: Rising numbers of labels; the first is the initial set.
        updates: Of every training.
        full_updates: Of the training on the whole pool.
    """

    data: str
    seed: int
    ids: tuple[str, ...]
    classes: tuple[str, ...]
    counts: Ints
    group: Ints
    budgets: tuple[int, ...]
    updates: int
    full_updates: int

    def __post_init__(self) -> None:
        n = len(self.ids)
        if self.counts.shape != (n, len(self.classes)) or self.group.shape != (n,):
            raise ValueError(f"counts and group must cover {n} images, got {self.counts.shape} and {self.group.shape}")
        check_budgets(self.budgets, n, self.data)

    @property
    def name(self) -> str:
        """Names its folder."""
        return f"{self.data}-{self.seed}"

    def initial(self) -> Ints:
        """The first labelled rows, drawn uniformly by the unit's seed."""
        rng = np.random.default_rng(stable_seed(self.data, self.seed, "initial set"))
        return rng.choice(len(self.ids), self.budgets[0], replace=False).astype(np.int64)


def check_budgets(budgets: Sequence[int], pool: int, data: str) -> None:
    """Raise SettingError unless budgets rise from at least 1 and fit into the pool."""
    if not budgets or budgets[0] < 1 or any(a >= b for a, b in pairwise(budgets)):
        raise SettingError(f"--budgets is {','.join(map(str, budgets))!r}: rising numbers of labels from 1 are wanted")
    if budgets[-1] > pool:
        raise SettingError(f"--budgets ends with {budgets[-1]}, but the training split of {data} has {pool} images")


def stable_seed(*parts: str | int) -> int:
    """The same 64 bits for the same words, on every machine."""
    text = json.dumps(parts, ensure_ascii=False).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8, person=b"hf-replay").digest(), "big")


def choose(unit: Unit, arm: Arm, labelled: Ints, predictions: Sequence[Prediction | None], number: int) -> Ints:
    """The rows the arm buys in round ``number``, best first; budget ``number`` minus what is labelled."""
    batch = unit.budgets[number] - len(labelled)
    options = dict(arm.options)
    if "min_new_labels" in {f.name for f in fields(REGISTRY[arm.strategy].options)}:
        options.setdefault("min_new_labels", batch)
    pool = Pool.from_predictions(
        predictions,
        {i: i for i in range(len(unit.classes))},
        len(unit.classes),
        labelled=labelled,
        label_counts=unit.counts[labelled].sum(axis=0),
        group=unit.group,
        class_names=unit.classes,
        slice_share=0.0,
        image_seconds=IMAGE_S,
        box_seconds=BOX_S,
    )
    draw = arm.label if arm.strategy == "uniform" else ""  # the others differ by what they do, not by luck
    rng = np.random.default_rng(stable_seed(unit.data, unit.seed, draw, number))
    return query(arm.strategy, pool, batch, rng, **options).order


def rounds(unit: Unit, arm: Arm, learner: Learner, done: Sequence[dict[str, Any]] = ()) -> Iterator[dict[str, Any]]:
    """Every round that is not in ``done``, as it ends: JSON-able, see ``_round``."""
    place = {sample: row for row, sample in enumerate(unit.ids)}
    picks = [np.array([place[sample] for sample in past["picked"]], np.int64) for past in done]
    last = len(unit.budgets) - 1
    for number in range(len(done), len(unit.budgets)):
        started = time.perf_counter()
        fresh = unit.initial()
        if number:
            before = np.concatenate(picks)
            seen = learner.learn(np.sort(before), unit.updates, predict=True).predictions
            fresh = choose(unit, arm, before, seen, number)
        picks.append(fresh)
        chosen_s = time.perf_counter() - started
        labelled = np.concatenate(picks)
        learned = learner.learn(np.sort(labelled), unit.updates, predict=number < last)
        yield _round(unit, fresh, labelled, learned) | {"choosing_s": round(chosen_s, 3)}


def full(unit: Unit, learner: Learner) -> dict[str, Any]:
    """The reference: everything labelled."""
    rows = np.arange(len(unit.ids))
    return _round(unit, rows[:0], rows, learner.learn(rows, unit.full_updates, predict=False))


def _round(unit: Unit, fresh: Ints, labelled: Ints, learned: Learned) -> dict[str, Any]:
    boxes = int(unit.counts[labelled].sum())
    return {
        "labels": len(labelled),
        "boxes": boxes,
        "hours": (IMAGE_S * len(labelled) + BOX_S * boxes) / 3600,
        "picked": [unit.ids[row] for row in fresh],
        "class_boxes": unit.counts[labelled].sum(axis=0).tolist(),
        "metrics": learned.metrics,
        "updates": learned.updates,
        "seconds": learned.seconds,
    }


def worst_quarter(per_class: Sequence[float]) -> float:
    """Mean AP of the worst quarter of classes, at least one; 0 without a class."""
    if not per_class:
        return 0.0
    return float(np.mean(sorted(per_class)[: -(-len(per_class) // 4)]))
