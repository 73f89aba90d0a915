"""How unsure a model is of one detection: scores in, utilities out, one per row.

Scores are one sigmoid per class and need not sum to 1. Every function maps shape (m, C) in [0, 1] to shape (m,) in
[0, 1], 1 = most informative, and does not depend on the order of classes or of rows. Values outside [0, 1] or NaN are
an error.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def least_confidence(scores: NDArray[Any]) -> Values:
    """1 - max_c p_c (Lewis and Gale, SIGIR 1994); 1 without classes."""
    return 1 - greatest(checked(scores))


def margin(scores: NDArray[Any]) -> Values:
    """1 - (p_(1) - p_(2)) (Scheffer et al., IDA 2001); with one class 1 - abs(2p - 1): 1 at .5, 0 at 0 and 1."""
    p = checked(scores)
    if p.shape[1] == 0:
        return np.ones(len(p))
    if p.shape[1] == 1:
        return 1 - np.abs(2 * p[:, 0] - 1)
    top = np.partition(p, p.shape[1] - 2, axis=1)[:, -2:]
    gap: Values = top[:, 1] - top[:, 0]
    return 1 - gap


def entropy(scores: NDArray[Any]) -> Values:
    """Max over classes of the binary entropy, in bits: 1 when some class is at .5; 0 without classes."""
    return greatest(binary_entropy(checked(scores)))


def categorical_entropy(scores: NDArray[Any]) -> Values:
    """Shannon entropy of p_c / sum p over log C; 0 with fewer than two classes or when every score is 0."""
    p = checked(scores)
    if p.shape[1] < 2:
        return np.zeros(len(p))
    total = p.sum(axis=1, keepdims=True)
    share = np.divide(p, total, out=np.zeros_like(p), where=total > 0)
    bits: Values = _plogp(share).sum(axis=1) / np.log2(p.shape[1])
    return np.clip(bits, 0, 1)


def binary_entropy(p: NDArray[Any]) -> Values:
    """h(p) in bits, elementwise: 1 at .5, 0 at 0 and 1."""
    q = np.asarray(p, dtype=np.float64)
    return np.clip(_plogp(q) + _plogp(1 - q), 0, 1)


def greatest(values: Values) -> Values:
    """Max over the classes of each row: shape (m, C) to (m,); 0 without classes."""
    best: Values = values.max(axis=1, initial=0)
    return best


def _plogp(p: Values) -> Values:
    bits: Values = -p * np.log2(p, out=np.zeros_like(p), where=p > 0)
    return bits


def checked(scores: NDArray[Any]) -> Values:
    """Scores as float64.

    Raises:
        ValueError: Unless of shape (m, C) and in [0, 1].
    """
    p = np.asarray(scores, dtype=np.float64)
    if p.ndim != 2:
        raise ValueError(f"scores must have shape (m, C), got {p.shape}")
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"scores must be in [0, 1], got {p.min()} to {p.max()}")
    return p
