"""The factor for classes that lack labels: it falls as images that show them are picked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.domain import Floats


@dataclass(frozen=True)
class Deficit:
    """A factor 1 + max over classes of presence * max(0, target - have) / target; it never rises as picks are made.

    Attributes:
        presence: Shape (n, C), in [0, 1]: how surely row i shows class c.
        amount: Shape (n, C), 0 or more: what picking row i adds to ``have``.
        target: Positive: what each class shall have; it stays as it is.
        have: Shape (C,), 0 or more: what each class has before the first pick.
    """

    presence: Floats
    amount: Floats
    target: float
    have: NDArray[np.float64]

    def factor(self, presence: Floats, have: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shape (k,), in [1, 2], for rows with this ``presence`` when classes have so much."""
        lack = np.clip(self.target - have, 0, None) / self.target
        gain: NDArray[np.float64] = (presence * lack).max(axis=1, initial=0)
        return 1 + gain
