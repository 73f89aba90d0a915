"""Trainings of one unit by what they were trained on: arms that chose the same images share one.

The weights do not stay: what a later round needs of them, the predictions for the pool, is kept instead.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from common.domain import Instances, Ints, Prediction, over_all_classes
from common.experiments.backtest.replay import Learned, Learner
from common.yolo import files

_PER_IMAGE = ("embedding", "doubt", "model_change")
"""Fields of a prediction with as many numbers for every image."""
_PER_BOX = ("disagreement", "flip_iou", "flip_scores")
"""Fields of a prediction with one row per box."""


@dataclass
class Trainings:
    """A learner that remembers, on the disk.

    Attributes:
        learner: Asked when nobody has asked before.
        folder: Of this unit alone.
    """

    learner: Learner
    folder: Path

    def learn(self, rows: Ints, updates: int, *, predict: bool) -> Learned:
        """See ``Learner``. What is on the disk and what was just made are the same, bit for bit."""
        key = hashlib.sha256(json.dumps([rows.tolist(), updates]).encode()).hexdigest()[:20]
        known = files.read_json(self.folder / f"{key}.json")
        if known is None or (predict and not self._arrays(key).is_file()):
            made = self.learner.learn(rows, updates, predict=predict)
            if predict:
                with files.replacing(self._arrays(key), durable=False) as fresh:
                    fresh.write_bytes(pack(made.predictions))
            known = {"metrics": made.metrics, "updates": made.updates, "seconds": made.seconds}
            files.write_json(self.folder / f"{key}.json", known, durable=False)
        seen = unpack(self._arrays(key).read_bytes()) if predict else []
        return Learned(known["metrics"], seen, known["updates"], known["seconds"])

    def _arrays(self, key: str) -> Path:
        return self.folder / f"{key}.npz"


def pack(predictions: Sequence[Prediction | None]) -> bytes:
    """Predictions as one npz, nothing lost; all of one model, so that all have the same optional fields."""
    there = [p for p in predictions if p is not None]
    arrays: dict[str, Any] = {"readable": np.array([p is not None for p in predictions], bool)}
    arrays["counts"] = np.array([len(p.instances) for p in there], np.int64)
    if there:
        arrays["sizes"] = np.array([(p.width, p.height) for p in there], np.int64)
        for name in _PER_IMAGE:
            arrays[name] = np.stack([getattr(p, name) for p in there])
        arrays["boxes"] = np.concatenate([p.instances.boxes for p in there])
        arrays["scores"] = np.concatenate([p.instances.scores for p in there])
        for name in _PER_BOX:
            if getattr(there[0], name) is not None:
                arrays[name] = np.concatenate([getattr(p, name) for p in there])
        if there[0].committee is not None:
            arrays["committee"] = np.concatenate([p.committee for p in there if p.committee is not None], axis=1)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def unpack(body: bytes) -> list[Prediction | None]:
    """The inverse of ``pack``; geometries other than boxes are not kept.

    Files from before doubt and gradient length were per class have both in ``heads``, over all classes.
    """
    with np.load(io.BytesIO(body), allow_pickle=False) as data:
        arrays = _per_class(dict(data))
    ends = np.concatenate([[0], np.cumsum(arrays["counts"])])
    optional = [f.name for f in fields(Prediction) if f.name in arrays and f.name in _PER_BOX]

    def one(i: int) -> Prediction:
        part = slice(ends[i], ends[i + 1])
        rest = {name: arrays[name][part] for name in optional}
        if "committee" in arrays:
            rest["committee"] = arrays["committee"][:, part]
        width, height = arrays["sizes"][i].tolist()
        instances = Instances(arrays["boxes"][part], arrays["scores"][part])
        return Prediction(
            instances,
            width=width,
            height=height,
            **{name: arrays[name][i] for name in _PER_IMAGE},
            **rest,
        )

    found = iter(range(len(arrays["counts"])))
    return [one(next(found)) if readable else None for readable in arrays["readable"].tolist()]


def _per_class(arrays: dict[str, Any]) -> dict[str, Any]:
    if "heads" not in arrays:
        return arrays
    heads, classes = arrays["heads"], arrays["scores"].shape[1]
    doubt, change = zip(*(over_all_classes(d, c, classes) for d, c in heads[:, :2].tolist()), strict=True)
    sizes = heads[:, 2:].astype(np.int64)
    return arrays | {"sizes": sizes, "doubt": np.stack(doubt), "model_change": np.stack(change)}
