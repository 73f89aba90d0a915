"""How informative is an image: arrays in, utilities out, no I/O. Higher = more informative, always."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.acquisition import committee, model_change, uncertainty
from common.acquisition.aggregate import AGGREGATIONS, doubt_entropy
from common.acquisition.detections import Detections
from common.acquisition.uncertainty import Values
from common.errors import SettingError, UnknownNameError


def _least_confidence(d: Detections) -> Values:
    return uncertainty.least_confidence(d.scores)


def _margin(d: Detections) -> Values:
    return uncertainty.margin(d.scores)


def _entropy(d: Detections) -> Values:
    return uncertainty.entropy(d.scores)


def _categorical_entropy(d: Detections) -> Values:
    return uncertainty.categorical_entropy(d.scores)


def _vote_entropy(d: Detections) -> Values:
    return committee.vote_entropy(_needed(d.committee, "vote_entropy", "matched scores of a committee"))


def _consensus(d: Detections) -> Values:
    return committee.consensus(_needed(d.committee, "consensus", "matched scores of a committee"))


def _head_variance(d: Detections) -> Values:
    return committee.head_variance(_needed(d.disagreement, "head_variance", "variance over dropout heads"))


def _consistency(d: Detections) -> Values:
    overlap = _needed(d.flip_iou, "consistency", "a mirrored view")
    return committee.consistency(overlap, d.scores, _needed(d.flip_scores, "consistency", "a mirrored view"))


def _model_change(d: Detections) -> Values:
    return model_change.bounded(d.model_change)


ACQUISITIONS: dict[str, Callable[[Detections], Values]] = {
    "least_confidence": _least_confidence,
    "margin": _margin,
    "entropy": _entropy,
    "categorical_entropy": _categorical_entropy,
    "vote_entropy": _vote_entropy,
    "consensus": _consensus,
    "head_variance": _head_variance,
    "consistency": _consistency,
    "model_change": _model_change,
}
"""Name -> function of detections; shape (m,), in [0, 1], one per instance, except for ``PER_IMAGE``."""

PER_IMAGE = frozenset({"model_change"})
"""Acquisition functions that speak of whole images: shape (n,), nothing to aggregate."""


def instance_utility(name: str, detections: Detections) -> Values:
    """Utility of every instance: shape (m,), in [0, 1].

    Raises:
        UnknownNameError: No such function, or one that speaks of whole images only.
        SettingError: The detections lack what the function needs.
    """
    if name in PER_IMAGE:
        raise UnknownNameError(
            f"acquisition {name!r} speaks of whole images, not of instances; "
            f"there are {sorted(set(ACQUISITIONS) - PER_IMAGE)}"
        )
    return _named("acquisition", name, ACQUISITIONS)(detections)


def image_utility(
    detections: Detections, acquisition: str = "entropy", aggregation: str = "top_m", **options: Any
) -> Values:
    """Utility of every image: shape (n,), 0 or more, finite; at most 1 but for the sums.

    Args:
        detections: What the model says.
        acquisition: A name of ``ACQUISITIONS``.
        aggregation: A name of ``AGGREGATIONS``; not used by the functions of ``PER_IMAGE``.
        **options: Of the aggregation.

    Raises:
        UnknownNameError: A name in no registry; the message lists the right ones.
        SettingError: The detections lack what the function needs.
    """
    combine = _named("aggregation", aggregation, AGGREGATIONS)
    utility = _named("acquisition", acquisition, ACQUISITIONS)(detections)
    if acquisition in PER_IMAGE:
        return utility
    return combine(utility, detections, doubt_entropy(detections), **options)


def _named(kind: str, name: str, registry: dict[str, Callable[..., Values]]) -> Callable[..., Values]:
    if name not in registry:
        raise UnknownNameError(f"no {kind} {name!r}; there are {sorted(registry)}")
    return registry[name]


def _needed(evidence: NDArray[Any] | None, name: str, what: str) -> NDArray[np.float32]:
    if evidence is None:
        raise SettingError(
            f"acquisition {name!r} needs {what}, which these predictions do not carry; use one of "
            "['categorical_entropy', 'entropy', 'least_confidence', 'margin'] or have the detector measure it"
        )
    return evidence
