"""Labels that the serving model makes itself, for training only: never shown, never measured on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.acquisition.pseudo import NOTHING, Boxes, choose
from common.domain import Instances, Label, LabelledBox, Prediction
from common.errors import ModelError
from common.loop.ordering import duplicate_groups, slice_hash
from common.loop.tools import Tools
from common.ports import Model, TrainingSample, chunks
from common.store.projects import ProjectRow
from common.store.samples import SampleRow
from common.strategies import Pool

MARK = "pseudo:"
"""Begins the id of every such training sample: ``manifest.json`` shows whose label it is."""
READ = 5_000
"""Predictions read at once: their embeddings would fill the memory."""


def pseudo_samples(
    tools: Tools, row: ProjectRow, labels: Mapping[str, Label], val: Collection[str]
) -> list[TrainingSample]:
    """Images that train as the serving model sees them; at most half as many as ``labels``.

    Args:
        tools: Of the loop.
        row: The project.
        labels: Sample id -> label, of everything that people labelled.
        val: Sample ids of the validation set.

    Returns:
        Ids are ``MARK`` and the sample's. Empty while no trained and measured model serves.
    """
    if row.checkpoint is None:
        return []
    model, _ = tools.serving(row)
    measured = tools.store.measurements.newest(row.key, model.sha256)
    if measured is None or not set(model.names) <= set(row.spec.names):
        return []
    samples = tools.store.samples.all(row.key)
    allowed = _allowed(tools, row, samples, {*labels, *val})
    rows = np.flatnonzero(allowed).tolist()
    boxes, said = _boxes(tools, row, model, [samples[i] for i in rows])
    chosen = choose(boxes, np.ones(len(rows), bool), measured.metrics["map50"], len(labels) // 2)
    kept = (_sample(tools, samples[rows[i]], said[i], model.names) for i in chosen.tolist())
    return [s for s in kept if s is not None]


def same_again(tools: Tools, row: ProjectRow, split: Mapping[str, Any]) -> list[TrainingSample] | None:
    """What a round was given by ``pseudo_samples``, from what its model said then; a resumed training goes on with it.

    Args:
        tools: Of the loop.
        row: The project.
        split: Of the round: 'guessed', sample ids, and 'guesser', the checkpoint.

    Returns:
        None when nothing was chosen yet, or not all of it is kept.
    """
    if "guesser" not in split:
        return None
    if not split["guessed"]:
        return []
    try:
        model, _ = tools.model_of(row, split["guesser"])
    except ModelError:
        return None
    rows = tools.store.samples.some(row.key, split["guessed"])
    samples = [rows[s] for s in split["guessed"] if s in rows]
    _, said = _boxes(tools, row, model, samples)
    kept = [_sample(tools, s, said[i], model.names) for i, s in enumerate(samples) if i in said]
    found = [s for s in kept if s is not None]
    return found if len(found) == len(split["guessed"]) else None


def _allowed(tools: Tools, row: ProjectRow, samples: Sequence[SampleRow], known: Collection[str]) -> NDArray[np.bool_]:
    """Shape (n,): nobody's answer, readable, not of the random slice, like no image of ``known``."""
    taken = np.array([bool(s.answers or s.skips) or s.external in known for s in samples], bool)
    chance = np.array([slice_hash(row.key, s.external) < Pool.slice_share for s in samples], bool)
    readable = np.array([bool(s.sha256) and not s.problem for s in samples], bool)
    group = duplicate_groups(tools, row, list(samples), np.zeros(0, np.int64))
    alike = np.isin(group, group[(taken | chance) & (group >= 0)])
    allowed: NDArray[np.bool_] = readable & ~taken & ~chance & ~alike
    return allowed


def _boxes(
    tools: Tools, row: ProjectRow, model: Model, samples: Sequence[SampleRow]
) -> tuple[Boxes, dict[int, Prediction]]:
    """What the model said of each image, and the predictions that have a box that counts."""
    imgsz = tools.settings_of(row).imgsz
    said: dict[int, Prediction] = {}
    images: list[int] = []
    found: list[Instances] = []
    for part in chunks(list(enumerate(samples)), READ):
        by_hash = tools.store.predictions.boxes(model.sha256, imgsz, [s.sha256 or "" for _, s in part])
        for i, s in part:
            p = by_hash.get(s.sha256 or "")
            if p is not None and (p.instances.confidence >= NOTHING).any():
                said[i] = p
                images += [i] * len(p.instances)
                found.append(p.instances)
    label = np.array([c for p in found for c in p.scores.argmax(axis=1).tolist()], np.int64)
    confidence = np.array([c for p in found for c in p.confidence.tolist()], np.float64)
    return Boxes(np.array(images, np.int64), label, confidence, len(samples), len(model.names)), said


def _sample(tools: Tools, s: SampleRow, said: Prediction, names: tuple[str, ...]) -> TrainingSample | None:
    """One image with the boxes that count; None when its file or a box is of no use."""
    path = tools.media.path(s.sha256 or "")
    size = np.array([said.width, said.height] * 2, np.float64)
    kept = said.instances.confidence >= NOTHING
    corners = np.clip(said.instances.boxes[kept] / size, 0, 1)
    label = said.instances.scores[kept].argmax(axis=1)
    if path is None or not (corners[:, :2] < corners[:, 2:]).all():
        return None
    boxes = tuple(
        LabelledBox(names[c], (x1, y1, x2, y2), "prediction")
        for c, (x1, y1, x2, y2) in zip(label.tolist(), corners.tolist(), strict=True)
    )
    return TrainingSample(f"{MARK}{s.external}", path, Label(f"{MARK}{s.external}", boxes))
