"""The arms of a comparison: ``[label=]NAME[:option=value...]``, read and tried before anything is trained."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from common.domain import Instances, Prediction
from common.errors import HardfirstError, SettingError, UnknownNameError
from common.strategies import REGISTRY, Pool, query
from common.strategies.options import option

UNIFORM = "uniform"
AA = "uniform (A/A)"
"""Uniform once more with another generator: its distance to uniform is noise."""


@dataclass(frozen=True)
class Arm:
    """One way to choose.

    Attributes:
        label: What the report calls it; distinct within a run. Its generator depends on it.
        strategy: A name of ``REGISTRY``.
        options: The strategy's options that were given.
    """

    label: str
    strategy: str
    options: dict[str, Any] = field(default_factory=dict)


def repeat(number: int) -> Arm:
    """The ``number``-th draw of uniform, from 1."""
    return Arm(UNIFORM if number == 1 else f"{UNIFORM} #{number}", UNIFORM)


def is_uniform(label: str) -> bool:
    """Whether an arm is one of the draws that make the baseline."""
    return re.fullmatch(rf"{UNIFORM}( #\d+)?", label) is not None


def parse(text: str, *, aa: bool = False, repeats: int = 1, views: Sequence[str] = ()) -> list[Arm]:
    """The arms of ``--strategies``; uniform first, then its repeats and the A/A arm.

    Args:
        text: ``[label=]NAME[:option=value...]``, separated by commas.
        aa: Add the A/A arm.
        repeats: Independent draws of uniform that are averaged, at least 1.
        views: More looks that the detector will take.

    Raises:
        UnknownNameError: No such strategy, acquisition function or aggregation; the message lists the right ones.
        SettingError: No such option, a value of the wrong type, or two arms with one label.
    """
    if repeats < 1:
        raise SettingError(f"--uniform-repeats is {repeats}: 1 or more draws are allowed")
    given = [_arm(part.strip()) for part in text.split(",") if part.strip()]
    arms = [repeat(i + 1) for i in range(repeats)] + ([Arm(AA, UNIFORM)] if aa else [])
    arms += [arm for arm in given if arm != Arm(UNIFORM, UNIFORM)]
    for i, arm in enumerate(arms):
        if arm.label in [a.label for a in arms[:i]]:
            raise SettingError(f"--strategies has two arms called {arm.label!r}: give one of them a label=NAME")
        try_out(arm, views)
    return arms


def _arm(text: str) -> Arm:
    head, *rest = text.split(":")
    label, _, name = head.rpartition("=")
    if name not in REGISTRY:
        raise UnknownNameError(f"--strategies: no strategy {name!r}; there are {sorted(REGISTRY)}")
    try:
        options = dict(option(name, part) for part in rest)
    except SettingError as error:
        raise SettingError(f"--strategies: {error}") from error
    return Arm(label or text, name, options)


def try_out(arm: Arm, views: Sequence[str] = ()) -> None:
    """Ask the strategy about three made-up images, so that a wrong name stops a run before it starts."""
    rng = np.random.default_rng(0)
    pool = Pool.from_predictions(
        [_made_up(rng, views) for _ in range(3)],
        {0: 0, 1: 1},
        2,
        labelled=np.array([True, False, False]),
        label_counts=np.ones(2, np.int64),
        slice_share=0.0,
    )
    try:
        query(arm.strategy, pool, 2, rng, **arm.options)
    except HardfirstError as error:
        raise type(error)(f"--strategies, arm {arm.label!r}: {error}") from error


def _made_up(rng: np.random.Generator, views: Sequence[str]) -> Prediction:
    """One box of two classes, and what the views would add."""
    scores = np.full((1, 2), 0.3, np.float32)
    flip = "flip" in views
    return Prediction(
        Instances(np.array([[0, 0, 9, 9]], np.float32), scores),
        rng.normal(size=4).astype(np.float32),
        doubt=np.full(2, 0.01, np.float32),
        model_change=np.ones(2, np.float32),
        disagreement=np.zeros(1, np.float32),
        width=9,
        height=9,
        flip_iou=np.ones(1, np.float32) if flip else None,
        flip_scores=scores if flip else None,
        committee=np.stack([scores] * len(views)) if views else None,
    )
