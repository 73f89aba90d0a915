"""Disagreement of several models or views about the same objects (query by committee: Seung et al., COLT 1992).

Members are matched to the boxes of one reference (``matching``); one that has no such box votes for "nothing there".
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.acquisition.uncertainty import Values, binary_entropy, checked, greatest

EVIDENCE = {"vote_entropy": "committee", "consensus": "committee", "consistency": "flip"}
"""Acquisition function -> what it needs beyond the one pass: a committee, or in particular its mirrored view."""


def vote_entropy(scores: NDArray[Any], floor: float = 0.05) -> Values:
    """Entropy of the members' hard votes (Dagan and Engelson, ICML 1995), in [0, 1].

    Args:
        scores: Shape (M, m, C), matched scores of M members. A member votes for its best class, or for
            "nothing there" where that is below ``floor``.
        floor: In (0, 1].

    Returns:
        Shape (m,); 0 when all agree, 1 when votes are spread as evenly as M and C allow; 0 with one member.
    """
    p = _members(scores)
    members, rows, classes = p.shape
    most = min(members, classes + 1)
    if most < 2 or rows == 0:
        return np.zeros(rows)
    votes = np.where(p.max(axis=2, initial=0) >= floor, p.argmax(axis=2) if classes else 0, classes)
    share = (votes[:, :, None] == np.arange(classes + 1)).mean(axis=0)
    bits = -share * np.log2(share, out=np.zeros_like(share), where=share > 0)
    spread: Values = bits.sum(axis=1) / _most_bits(members, most)
    return np.clip(spread, 0, 1)


def _most_bits(members: int, most: int) -> float:
    """Entropy of ``members`` votes spread over ``most`` answers as evenly as whole votes go."""
    votes = np.full(most, members // most)
    votes[: members % most] += 1
    share = votes[votes > 0] / members
    return float(-(share * np.log2(share)).sum())


def consensus(scores: NDArray[Any]) -> Values:
    """Consensus entropy: binary entropy of the members' mean score, max over classes, in bits.

    After McCallum and Nigam, ICML 1998 (the committee's mean posterior), with one Bernoulli per class.

    Args:
        scores: Shape (M, m, C), matched scores of M members.

    Returns:
        Shape (m,), in [0, 1].
    """
    return greatest(binary_entropy(_members(scores).mean(axis=0)))


def head_variance(variance: NDArray[Any]) -> Values:
    """Variance of a score over dropout heads as a share of the greatest one possible (.25): shape (m,), in [0, 1]."""
    return np.clip(4 * np.asarray(variance, dtype=np.float64), 0, 1)


def consistency(overlap: NDArray[Any], scores: NDArray[Any], flipped: NDArray[Any]) -> Values:
    """How much an object changes under a flip (Yu et al., WACV 2022, CALD): mean of 1 - IoU and a score distance.

    The distance is the Jensen-Shannon distance in bits, one Bernoulli per class, max over classes.

    Args:
        overlap: Shape (m,), in [0, 1]: IoU with the same object in the mirrored view, 0 when lost.
        scores: Shape (m, C), in the upright view.
        flipped: Shape (m, C), in the mirrored view, 0 when lost.

    Returns:
        Shape (m,), in [0, 1]; 0 when nothing changes.
    """
    p, q = checked(scores), checked(flipped)
    moved = np.clip(1 - np.asarray(overlap, dtype=np.float64), 0, 1)
    mean: Values = (moved + greatest(jensen_shannon(p, q))) / 2
    return mean


def jensen_shannon(p: NDArray[Any], q: NDArray[Any]) -> Values:
    """Jensen-Shannon distance of two Bernoulli variables, in [0, 1], elementwise; symmetric, 0 when equal."""
    a, b = np.asarray(p, dtype=np.float64), np.asarray(q, dtype=np.float64)
    divergence = binary_entropy((a + b) / 2) - (binary_entropy(a) + binary_entropy(b)) / 2
    return np.sqrt(np.clip(divergence, 0, 1))


def _members(scores: NDArray[Any]) -> Values:
    p = np.asarray(scores, dtype=np.float64)
    if p.ndim != 3 or len(p) == 0:
        raise ValueError(f"scores must have shape (M, m, C) with M at least 1, got {p.shape}")
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"scores must be in [0, 1], got {p.min()} to {p.max()}")
    return p
