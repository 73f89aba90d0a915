"""How informative is an image: arrays in, utilities out, no I/O. Higher = more informative, always.

Rules that hold for every name: only classes that a model class is mapped to take part; the order of the boxes of an
image does not matter, bit for bit; an image without a box gets the doubt of its best score below the floor; where no
image has a box, no evidence is asked for; no image gives an empty answer; NaN is refused by ``Detections``.
"""

from __future__ import annotations

import inspect
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
    return uncertainty.least_confidence(d.of_mapped(d.scores))


def _margin(d: Detections) -> Values:
    return uncertainty.margin(d.of_mapped(d.scores))


def _entropy(d: Detections) -> Values:
    return uncertainty.entropy(d.of_mapped(d.scores))


def _categorical_entropy(d: Detections) -> Values:
    return uncertainty.categorical_entropy(d.of_mapped(d.scores))


def _vote_entropy(d: Detections) -> Values:
    return committee.vote_entropy(_members(d, "vote_entropy"))


def _consensus(d: Detections) -> Values:
    return committee.consensus(_members(d, "consensus"))


def _head_variance(d: Detections) -> Values:
    return committee.head_variance(_needed(d, d.disagreement, "head_variance", "variance over dropout heads"))


def _consistency(d: Detections) -> Values:
    if len(d.scores) == 0:
        return np.zeros(0)
    overlap = _needed(d, d.flip_iou, "consistency", "a mirrored view")
    there = _needed(d, d.flip_scores, "consistency", "a mirrored view")
    return committee.consistency(overlap, d.of_mapped(d.scores), d.of_mapped(there))


def _model_change(d: Detections) -> Values:
    boxes = d.counts > 0
    return np.where(boxes, model_change.bounded(np.where(boxes, d.model_change, 0)), doubt_entropy(d))


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
        SettingError: The detections lack what the function needs, or an option that the aggregation does not have or
            allow.
    """
    combine = _named("aggregation", aggregation, AGGREGATIONS)
    allowed = aggregation_options(aggregation)
    wrong = sorted(set(options) - set(allowed))
    if wrong:
        raise SettingError(f"aggregation {aggregation!r} has no option {wrong[0]!r}; there are {sorted(allowed)}")
    utility = _named("acquisition", acquisition, ACQUISITIONS)(detections)
    if acquisition in PER_IMAGE:
        return utility
    return combine(utility, detections, doubt_entropy(detections), **options)


def aggregation_options(name: str) -> dict[str, Any]:
    """What can be set of an aggregation, with defaults. Raises UnknownNameError when there is no such aggregation."""
    parameters = inspect.signature(_named("aggregation", name, AGGREGATIONS)).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def _named(kind: str, name: str, registry: dict[str, Callable[..., Values]]) -> Callable[..., Values]:
    if name not in registry:
        raise UnknownNameError(f"no {kind} {name!r}; there are {sorted(registry)}")
    return registry[name]


def _members(d: Detections, name: str) -> NDArray[Any]:
    """Shape (M, m, C of the mapped classes)."""
    if len(d.scores) == 0:
        return d.of_mapped(d.scores)[None]
    return d.of_mapped(_needed(d, d.committee, name, "matched scores of a committee"))


def _needed(d: Detections, evidence: NDArray[Any] | None, name: str, what: str) -> NDArray[Any]:
    """The evidence; none is needed where there is no instance, so that a queue can be made before any model is."""
    if len(d.scores) == 0:
        return np.zeros(0)
    if evidence is None:
        raise SettingError(
            f"acquisition {name!r} needs {what}, which these predictions do not carry; use one of "
            "['categorical_entropy', 'entropy', 'least_confidence', 'margin'] or have the detector measure it"
        )
    return evidence
