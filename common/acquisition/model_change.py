"""Expected gradient length of the last class layer, in closed form, without a backward pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.acquisition.uncertainty import checked


def gradient_length(scores: NDArray[Any], features: NDArray[Any], targets: NDArray[Any] | None = None) -> float:
    """Length of the gradient of binary cross entropy on the last 1 x 1 class convolution.

    The Frobenius norm of sum_k (p_k - t_k) x_k^T. After Settles, Craven and Ray, NIPS 2007 (expected gradient length),
    with the most likely labelling for the expectation. Without the usual division by the number of targets, so that
    it does not fall as boxes are added.

    Args:
        scores: Shape (m, C), sigmoids of the kept boxes.
        features: Shape (m, D), inputs of that layer at their anchors.
        targets: Shape (m, C), in [0, 1]; None = the model's own answer, 1 where p >= .5, else 0.

    Returns:
        0 or more; 0 without boxes.
    """
    p, x = checked(scores), np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or len(x) != len(p):
        raise ValueError(f"features must have shape ({len(p)}, D), got {x.shape}")
    if p.size == 0:
        return 0.0
    wanted = (p >= 0.5).astype(np.float64) if targets is None else checked(targets)
    return float(np.linalg.norm((p - wanted).T @ x))


def bounded(lengths: NDArray[Any]) -> NDArray[np.float64]:
    """Lengths of a pool to [0, 1): x / (x + median of the positive ones); same order, 0 stays 0. Shape (n,)."""
    x = np.asarray(lengths, dtype=np.float64)
    if not (np.isfinite(x) & (x >= 0)).all():
        raise ValueError("gradient lengths must be finite and 0 or more")
    middle = float(np.median(x[x > 0])) if (x > 0).any() else 1.0
    return x / (x + middle)
