"""What a detector said of images, as the arrays of a pool: the project's classes only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from common.acquisition.detections import Detections, check
from common.domain import SCORE_FLOOR, Floats, Prediction
from common.strategies.evidence import evidence


def sound(p: Prediction) -> bool:
    """Whether everything but the embedding is a number."""
    arrays = (p.instances.scores, p.instances.boxes, p.disagreement, p.doubt, p.model_change)
    looks = (p.flip_iou, p.flip_scores, p.committee)
    return all(bool(np.isfinite(a).all()) for a in (*arrays, *looks) if a is not None)


def embeddings_of(predictions: Sequence[Prediction | None]) -> Floats:
    """Shape (n, D), NaN where there is no prediction; D = 0 without any."""
    width = next((len(p.embedding) for p in predictions if p is not None), 0)
    out = np.full((len(predictions), width), np.nan, np.float32)
    for i, p in enumerate(predictions):
        if p is not None:
            check(f"embedding of prediction {i}", p.embedding, (width,))
            out[i] = p.embedding
    return out


def detections_of(
    predictions: Sequence[Prediction | None], columns: Mapping[int, int | Sequence[int]], classes: int
) -> Detections:
    """Instances that score from the floor up in some class of the project; the best of the others adds to doubt.

    Doubt and gradient length are those of the model classes that the project maps. ``disagreement`` is that of a box's
    best model class, mapped or not: predictions carry it of no other.
    """
    n = len(predictions)
    ours = sorted({column for several in columns.values() for column in _several(several)})
    counts = np.zeros(n, np.int64)
    doubt, change = np.zeros((n, 1 + len(ours)), np.float32), np.zeros((n, len(ours)), np.float32)
    boxes, scores, spread = [np.zeros((0, 4))], [np.zeros((0, classes))], [np.zeros(0)]
    kept: list[tuple[Prediction, NDArray[np.bool_]]] = []
    for i, p in enumerate(predictions):
        if p is None:
            continue
        mapped = _mapped(p.instances.scores, columns, classes)
        best = mapped.max(axis=1, initial=0)
        keep = best >= SCORE_FLOOR
        counts[i] = keep.sum()
        doubt[i, 0], doubt[i, 1:], change[i] = best[~keep].max(initial=0), p.doubt[ours], p.model_change[ours]
        boxes.append(p.instances.boxes[keep])
        scores.append(mapped[keep])
        spread.append(p.disagreement[keep])
        kept.append((p, keep))
    return Detections(
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        np.concatenate(boxes).astype(np.float32),
        np.concatenate(scores).astype(np.float32),
        doubt.max(axis=1),
        _length(change),
        np.concatenate(spread).astype(np.float32),
        *evidence(kept, lambda found: _mapped(found, columns, classes), classes),
    )


def _length(rows: Floats) -> Floats:
    """Of each row, in float64, where the square of a float32 number has room; at most the greatest float32."""
    most = float(np.finfo(np.float32).max)
    length: Floats = np.minimum(np.linalg.norm(rows.astype(np.float64), axis=1), most).astype(np.float32)
    return length


def _mapped(scores: Floats, columns: Mapping[int, int | Sequence[int]], classes: int) -> Floats:
    out = np.zeros((len(scores), classes), np.float32)
    for project, model in columns.items():
        out[:, project] = scores[:, _several(model)].max(axis=1, initial=0)
    return np.clip(out, 0, 1)


def _several(columns: int | Sequence[int]) -> list[int]:
    return [columns] if isinstance(columns, int) else list(columns)
