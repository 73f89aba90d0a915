"""What an image is worth and what it costs: steps 2 to 4 of hybrid, and the utility the plain strategies use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.acquisition import PER_IMAGE, aggregation_options, image_utility, instance_utility
from common.acquisition.aggregate import SUMS, doubt_entropy, top_m
from common.acquisition.difficulty import class_weights
from common.domain import Floats
from common.strategies.pool import Pool, Values, quantiles
from common.strategies.ranges import Switches, require_number, require_whole


@dataclass(frozen=True)
class Terms:
    """Which terms make up the value of an image.

    Attributes:
        acquisition: Name of the acquisition function of one instance.
        flip: Step 2: instances that move under a flip count up to half more, where a mirrored view was measured.
        class_weights: Step 3: hard and rare classes weigh more.
        top: Step 4: instances summed per image.
        nms: Step 4: boxes of one class with more overlap than this count once; 1 = every box counts.
        doubt: Step 4: add the doubt of the best score below the floor.
        empty_factor: Step 4, eta: weight of that doubt for images without a box.
        kappa: Step 4: 0 for a budget in images, 1 for one in hours.
    """

    acquisition: str = "entropy"
    flip: bool = True
    class_weights: bool = True
    top: int = 10
    nms: float = 0.5
    doubt: bool = True
    empty_factor: float = 3.0
    kappa: float = 0.0


@dataclass(frozen=True)
class Aggregated(Switches):
    """What the plain strategies can set about the utility of an image.

    Attributes:
        acquisition: A name of ``ACQUISITIONS``.
        aggregation: A name of ``AGGREGATIONS``.
        n_lowest: Of the aggregation 'mean_of_n_lowest': boxes that count, those of lowest confidence.
        m: Of the aggregation 'top_m': boxes that count.
        overlap: Of the aggregation 'top_m': boxes of one class with more overlap than this count once; 1 = every box.
    """

    acquisition: str = "entropy"
    aggregation: str = "max"
    n_lowest: int = 3
    m: int = 10
    overlap: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require_whole(1, n_lowest=self.n_lowest, m=self.m)
        require_number(0, 1, overlap=self.overlap)

    @property
    def numbers(self) -> dict[str, float]:
        """What the aggregation takes of these. Raises UnknownNameError when there is no such aggregation."""
        return {name: getattr(self, name) for name in aggregation_options(self.aggregation)}

    @property
    def sums(self) -> bool:
        """Whether utilities may exceed 1; what speaks of whole images is not summed, whatever the aggregation."""
        return self.aggregation in SUMS and self.acquisition not in PER_IMAGE

    @property
    def scale(self) -> str:
        """What utilities are measured by: they can be compared where this is the same."""
        numbers = (f"{k}={v:g}" for k, v in self.numbers.items())
        return " ".join([self.acquisition, self.aggregation, *numbers, *(["x/(1+x)"] if self.sums else [])])


def instances(pool: Pool, terms: Terms) -> Values:
    """u_k = h_k * (1 + .5 (1 - IoU_flip)): shape (m,), in [0, 1.5]."""
    d = pool.detections
    utility = instance_utility(terms.acquisition, d)
    if not terms.flip or d.flip_iou is None:
        return utility
    return utility * (1 + 0.5 * (1 - np.clip(d.flip_iou, 0, 1).astype(np.float64)))


def image_value(pool: Pool, terms: Terms) -> Values:
    """V / cost^kappa: shape (n,), 0 or more; of utilities from elsewhere any finite numbers in that order.

    V = sum of the top w_c u_k after entropy-NMS + eta * median(w) * D, D the doubt below the floor in bits.
    Utilities from elsewhere, and acquisition functions of whole images, stand for V as they are.
    """
    if pool.utility is not None:
        return _from_elsewhere(pool.utility.astype(np.float64), expected_seconds(pool), terms.kappa)
    if terms.acquisition in PER_IMAGE:
        value = image_utility(pool.detections, terms.acquisition)
    else:
        value = _summed(pool, terms)
    return np.asarray(value / expected_seconds(pool) ** terms.kappa if terms.kappa else value, np.float64)


def _from_elsewhere(value: Values, cost: Values, kappa: float) -> Values:
    """As they are, or counted from 0 (from the least of them where that is negative) where a cost divides them.

    Halves, and costs over the least of them, so that no finite value grows beyond float64.
    """
    if not kappa:
        return value
    low = min(0.0, float(value.min(initial=0)))
    half = 1.0 if np.isfinite(float(value.max(initial=0)) - low) else 0.5
    found: Values = (half * value - half * low) / (cost / cost.min(initial=np.inf)) ** kappa
    return found


def _summed(pool: Pool, terms: Terms) -> Values:
    d = pool.detections
    weights = class_weights(pool.label_counts, pool.quality if terms.class_weights else None)
    each = instances(pool, terms)
    if len(weights):
        each = each * weights[d.label]
    value = top_m(each, d, np.zeros(len(d)), terms.top, terms.nms)
    if terms.doubt:
        middle = float(np.median(weights)) if len(weights) else 1.0
        value += np.where(d.counts == 0, terms.empty_factor, 1.0) * middle * doubt_entropy(d)
    return np.asarray(value, np.float64)


def expected_seconds(pool: Pool) -> Values:
    """t_img + t_box * expected boxes, the sum of confidences: shape (n,), positive."""
    return pool.image_seconds + pool.box_seconds * pool.detections.total(pool.detections.confidence)


def ranked(pool: Pool, value: Values) -> Values:
    """Rank quantile of ``value`` among the unlabelled readable samples: shape (n,), in (0, 1), 0 for the others."""
    rows = np.flatnonzero(pool.readable & ~pool.labelled)
    out = np.zeros(len(pool))
    out[rows] = quantiles(value[rows])
    return out


def plain_utility(pool: Pool, how: Aggregated) -> Values:
    """Utility by acquisition function and aggregation, or the one from elsewhere, in [0, 1]: shape (n,).

    A sum x counts as x / (1 + x), whatever else is in the pool: the running quantile of ``stream`` keeps its level
    between pools. Utilities from elsewhere are min-max scaled, see ``min_max``.
    """
    if pool.utility is not None:
        return min_max(pool.utility)
    value = image_utility(pool.detections, how.acquisition, how.aggregation, **how.numbers)
    return 1 - 1 / (1 + value) if how.sums else value  # of x / (1 + x), rounding could swap two neighbours


def min_max(values: Values) -> Values:
    """To [0, 1], for any finite values; all equal = 0. What lies closer together than 1e-16 of the range is equal."""
    low, high = float(values.min(initial=np.inf)), float(values.max(initial=-np.inf))
    if not high > low:
        return np.zeros(len(values))
    half = 1.0 if np.isfinite(high - low) else 0.5
    return (half * values - half * low) / (half * high - half * low)


def presence(pool: Pool) -> Floats:
    """Shape (n, C), in [0, 1]: the best score of each class in each image."""
    return pool.detections.greatest(pool.detections.scores).astype(np.float32)


def amounts(pool: Pool) -> Floats:
    """Shape (n, C): expected boxes per predicted class, the sum of confidences."""
    d = pool.detections
    shape = (len(d), d.scores.shape[1])
    cell, each = d.image * shape[1] + d.label, d.confidence
    order = np.lexsort((-each, cell))  # float sums hang on their order; that of the boxes must not show
    summed = np.bincount(cell[order], each[order], shape[0] * shape[1]) if shape[1] else np.zeros(0)
    return summed.reshape(shape).astype(np.float32)
