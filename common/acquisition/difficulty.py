"""Which classes deserve attention: those the model gets wrong, and those with few labels.

After Yang et al., CVPR 2024 (PPAL, difficulty-calibrated uncertainty), with out-of-sample quality in place of the
training loss.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.acquisition.uncertainty import Values


def class_quality(
    confidence: NDArray[Any], overlap: NDArray[Any], label: NDArray[Any], classes: int, strength: float = 10.0
) -> Values:
    """How well each class is found on the validation set: mean of p^.6 * IoU^.4, shrunk by class count.

    Args:
        confidence: Shape (k,), in [0, 1]: score of the right class at each labelled box; 0 where it was missed.
        overlap: Shape (k,), in [0, 1]: IoU of that box with the label; 0 where it was missed.
        label: Shape (k,), the class of each labelled box.
        classes: C.
        strength: The mean over all classes counts like this many boxes of every class.

    Returns:
        Shape (C,), in [0, 1]; the overall mean for a class without boxes.

    Raises:
        ValueError: Without a single box: there is no validation set then, and weights are 1. Or when the lengths
            differ, a value is outside [0, 1], or a label is none of the classes.
    """
    p, o, of = np.asarray(confidence, np.float64), np.asarray(overlap, np.float64), np.asarray(label, np.int64)
    if len(p) == 0:
        raise ValueError("class quality needs at least one labelled validation box, got none")
    if not (p.shape == o.shape == of.shape == (len(p),)):
        raise ValueError(f"confidence, overlap and label must be equally long, got {p.shape}, {o.shape}, {of.shape}")
    if not ((p >= 0) & (p <= 1) & (o >= 0) & (o <= 1) & (of >= 0) & (of < classes)).all():
        raise ValueError(f"confidence and overlap must be in [0, 1] and label in 0..{classes - 1}")
    quality = p**0.6 * o**0.4
    total = np.bincount(of, quality, minlength=classes)
    count = np.bincount(of, minlength=classes)
    shrunk: Values = np.clip((total + strength * quality.mean()) / (count + strength), 0, 1)
    return shrunk


def class_weights(counts: NDArray[Any], quality: NDArray[Any] | None) -> Values:
    """w_c = (1 + 2 ln(1 + 27 (1 - q_c)) / ln 28) * clip(sqrt(n_med / (n_c + 1)), .5, 3), n_med the median of n.

    Args:
        counts: Shape (C,), labelled boxes per class.
        quality: Shape (C,), in [0, 1], from ``class_quality``; None = no validation set yet, every weight is 1.

    Returns:
        Shape (C,), in [.5, 9].

    Raises:
        ValueError: When the shapes differ or a quality is outside [0, 1].
    """
    n = np.asarray(counts, np.float64)
    if quality is None:
        return np.ones(len(n))
    q = np.asarray(quality, np.float64)
    if q.shape != n.shape:
        raise ValueError(f"quality must have shape {n.shape}, got {q.shape}")
    wrong = q[~((q >= 0) & (q <= 1))]
    if len(wrong):
        raise ValueError(f"quality must lie in [0, 1], got {wrong.tolist()}")
    if len(n) == 0:
        return n
    hard = 1 + 2 * np.log1p(27 * (1 - q)) / np.log(28)
    weights: Values = hard * np.clip(np.sqrt(np.median(n) / (n + 1)), 0.5, 3)
    return weights
