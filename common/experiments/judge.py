"""What one image is worth to a model, on a scale that images which arrive later share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.acquisition import PER_IMAGE
from common.acquisition.aggregate import doubt_entropy
from common.acquisition.model_change import bounded
from common.domain import Prediction
from common.experiments.ranking import Classes
from common.strategies.image_value import Terms, image_value
from common.strategies.pool import Pool, Values
from common.strategies.reasons import Chosen, parts
from common.strategies.screening import screen


@dataclass(frozen=True)
class Judge:
    """What an image is worth to a model.

    Attributes:
        classes: See ``project_classes``; the model must know one of them.
        acquisition: A name of ``ACQUISITIONS``.
    """

    classes: Classes
    acquisition: str = "entropy"

    def values(self, predictions: Sequence[Prediction]) -> list[tuple[float, str]]:
        """(value, what speaks for the image in words) of each image, whoever else is asked about.

        The value is hybrid's, 0 or more. Of an acquisition function that speaks of whole images, which measures them
        by each other (model_change), it is the gradient length, or minus the doubt in bits of an image without a box:
        ``comparable`` makes one scale of them.

        Raises:
            UnknownNameError: No such acquisition function.
            SettingError: One that needs what these predictions do not carry.
        """
        terms = Terms(self.acquisition)
        out = []
        for prediction in predictions:
            pool = Pool.from_predictions(
                [prediction], self.classes.columns, len(self.classes.names), class_names=self.classes.names
            )
            value = _raw(pool) if self.acquisition in PER_IMAGE else float(image_value(pool, terms)[0])
            out.append((value, _words(pool, terms)))
        return out

    def comparable(self, values: Values) -> Values:
        """``values`` of several images on one scale, 0 or more: as if all of them had been asked about together."""
        if self.acquisition not in PER_IMAGE:
            return values
        return np.where(values < 0, -values, bounded(np.maximum(values, 0)))


def _raw(pool: Pool) -> float:
    if pool.detections.counts[0]:
        return float(pool.detections.model_change[0])
    return 0.0 - float(doubt_entropy(pool.detections)[0])


def _words(pool: Pool, terms: Terms) -> str:
    """What the boxes waver between; '' when nothing is to be said."""
    value, row = np.zeros(1), np.zeros(1, np.int64)
    screened = screen(pool, value, np.random.default_rng(0), deduplicate=False, guard=False)
    chosen = Chosen(pool, screened, value, value, np.full(1, np.nan, np.float32), "mid", 0, terms)
    reason = str(parts(chosen, row)[0]["reason"])
    return "" if reason.startswith("more informative than") else reason
