"""What a validation set says in numbers: average precision with its luck, and how well each class is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from common import average_precision as ap
from common.acquisition.difficulty import class_quality
from common.acquisition.uncertainty import Values
from common.average_precision import Matches
from common.loop.tools import Tools
from common.ports import Model
from common.store.projects import ProjectRow

REPEATS = 200
"""Draws behind the interval of one model; the gate makes more."""


def figures(found: Matches, classes: Sequence[str], seed: Sequence[int]) -> dict[str, float]:
    """``MeasurementRow.metrics`` of one model.

    Args:
        found: What its boxes came to; T is at least 1, the first threshold is IoU .5.
        classes: C names.
        seed: Of the drawn sets; every model of a round gets the same ones.
    """
    if not len(found.classes):
        return {}
    numbers = ap.figures(found, classes)
    sets = ap.average_precision(found, ap.drawn(len(found.truths), np.random.default_rng(list(seed)), REPEATS))
    for name, each in (("map50", sets[:, :, 0]), ("map5095", sets.mean(axis=2))):
        numbers[f"{name}_low"], numbers[f"{name}_high"] = ap.interval(ap.over_classes(each))
    quality = quality_of(found)
    if quality is not None:
        numbers |= {f"quality/{name}": float(q) for name, q in zip(classes, quality, strict=True)}
    return {name: round(value, 6) for name, value in numbers.items()}


def quality_of(found: Matches) -> Values | None:
    """Shape (C,): see ``difficulty.class_quality``; None where no overlap was kept or no box is labelled."""
    truths = found.truths.sum(axis=0)
    if found.overlap is None or not truths.any():
        return None
    hit = found.correct[:, 0] & (found.overlap > 0)
    missed = truths - np.bincount(found.label[hit], minlength=len(truths))
    label = np.concatenate([found.label[hit], np.repeat(np.arange(len(truths)), missed)])
    nothing = np.zeros(int(missed.sum()))
    confidence = np.clip(np.concatenate([found.confidence[hit], nothing]), 0, 1)
    overlap = np.clip(np.concatenate([found.overlap[hit], nothing]), 0, 1)
    return class_quality(confidence, overlap, label, len(truths))


def known_quality(tools: Tools, row: ProjectRow, model: Model) -> Values | None:
    """Shape (C,), by the project's classes: how well a model knows each by its newest measurement.

    None while there is none. A class that was not measured has the mean of the others, as ``class_quality`` gives it.
    """
    measured = tools.store.measurements.newest(row.key, model.sha256)
    metrics = measured.metrics if measured else {}
    found = [metrics.get(f"quality/{name}") for name in row.spec.names]
    known = [value for value in found if value is not None]
    if not known:
        return None
    return np.array([np.mean(known) if value is None else value for value in found], np.float64)
