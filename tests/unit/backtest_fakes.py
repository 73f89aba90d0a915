"""A pool of points and a learner that is a plain function of what it was shown: replays in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.domain import Instances, Ints, Prediction
from common.experiments.backtest.arms import Arm
from common.experiments.backtest.replay import Learned, Unit
from common.experiments.backtest.task import Recipe, Source, Task

BUDGETS = (3, 6, 12)
UNIFORM, HYBRID = Arm("uniform", "uniform"), Arm("hybrid", "hybrid")
PLAIN = Arm("top_utility", "top_utility")
TWIN = Arm("twin", "top_utility", {"deduplicate": True})
"""Chooses as PLAIN does where there are no near-duplicates."""


def make_unit(seed: int = 0, n: int = 30, budgets: tuple[int, ...] = BUDGETS) -> Unit:
    """Images of two classes, 1 to 3 boxes each."""
    counts = np.random.default_rng(7).integers(0, 3, (n, 2)) + np.array([1, 0])
    ids = tuple(f"image{i:02}.jpg" for i in range(n))
    return Unit("dots", seed, ids, ("a", "b"), counts, np.full(n, -1), budgets, 10, 10)


def make_task(folder: Path, arms: tuple[Arm, ...], seed: int = 0, until: float = 0.0) -> Task:
    recipe = Recipe(BUDGETS, "/m.pt", "sha", 64, 10, 10)
    return Task(str(folder), recipe, Source("dots", "/dots/data.yaml"), seed, arms, until=until)


@dataclass
class FakeLearner:
    """Better the more it saw; ``fails_at`` counts its calls from 1 and kills one."""

    unit: Unit
    fails_at: int = 0
    seen: list[tuple[int, ...]] = field(default_factory=list)

    def learn(self, rows: Ints, updates: int, *, predict: bool) -> Learned:
        self.seen.append(tuple(rows.tolist()))
        if len(self.seen) == self.fails_at:
            raise KeyboardInterrupt
        quality = 1 - 1 / (1 + len(rows)) + sum(rows.tolist()) / 1e4
        metrics = {"map5095": quality / 2, "map50": quality, "worst_quarter": quality / 3}
        rng = np.random.default_rng(rows.tolist())
        return Learned(metrics, [dot(rng) for _ in self.unit.ids] if predict else [], updates)


def dot(rng: np.random.Generator, boxes: int = 2, *, flip: bool = False, members: int = 0) -> Prediction:
    """What a model might say about one image."""
    scores = rng.random((boxes, 2)).astype(np.float32)
    return Prediction(
        Instances(rng.random((boxes, 4)).astype(np.float32), scores),
        rng.normal(size=4).astype(np.float32),
        doubt=rng.random(2).astype(np.float32) / 20,
        model_change=rng.random(2).astype(np.float32),
        disagreement=rng.random(boxes).astype(np.float32),
        width=40,
        height=30,
        flip_iou=rng.random(boxes).astype(np.float32) if flip else None,
        flip_scores=scores / 2 if flip else None,
        committee=np.stack([scores / (2 + m) for m in range(members)]) if members else None,
    )
