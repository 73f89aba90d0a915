"""Embeddings on a plane: arrays and a seed in, arrays out. The same arrays and seed give the same map.

Some representatives are laid out by t-SNE (van der Maaten and Hinton, JMLR 2008; scikit-learn's Barnes-Hut version,
van der Maaten, JMLR 2014), which takes seconds; every other image goes where its nearest representatives are.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from common.domain import Floats

DIRECTIONS = 50
"""Principal components that t-SNE and the search for neighbours work in."""
NEIGHBOURS = 6
"""Representatives an image is placed by."""
PERPLEXITY = 30.0
PIECES = (12.0, 1.0, 1.0, 1.0)
"""Exaggeration of attraction in each piece of t-SNE: groups form first, unless a former map has them, then settle."""
STEPS = 250
"""Steps of one piece; scikit-learn makes no fewer."""
FEW = 30
"""Fewer representatives are laid out by their first two principal components: they have no neighbourhoods to keep."""
SMALL, GROWN = 1e-4, 20.0
"""Spread t-SNE starts from, as in its paper, and where there was a map before: about as wide as it will be."""
SAME = 1e-6
"""Representatives that differ by less in every direction are one point."""


class Plane:
    """A map being made: ``pieces`` to its end, then ``place`` as often as wanted.

    Args:
        representatives: Shape (m, d), m and d at least 1, finite.
        seed: Of whatever is drawn by chance.
        before: Shape (m, 2), where representatives were on the map before, NaN = they were not: the new one then keeps
            its orientation. None = there was no map.

    Attributes:
        layout: Shape (m, 2), where the representatives are, in [-1, 1].
    """

    def __init__(self, representatives: Floats, seed: int, before: Floats | None = None) -> None:
        self._seed = seed
        rows = _unit(representatives)
        self._centre = rows.mean(axis=0)
        self._axes = _axes(rows - self._centre, seed)
        self._features = self._turned(rows)
        many = len(rows) >= FEW
        former = _former(self._features, before) if many and before is not None else None
        self._pieces = PIECES if former is None else PIECES[1:]
        self.layout = SMALL * _scaled(_flat(self._features)) if former is None else GROWN * _scaled(former)

    def pieces(self) -> Iterator[None]:
        """Lay out the representatives, one piece of the work at a time."""
        if len(self._features) >= FEW and np.ptp(self._features, axis=0).max() > SAME:
            for exaggeration in self._pieces:
                self.layout = self._piece(exaggeration)
                yield
        self.layout = _scaled(self.layout)

    def _piece(self, exaggeration: float) -> Floats:
        from sklearn.manifold import TSNE

        m = len(self._features)
        made = TSNE(
            init=self.layout,
            perplexity=min(PERPLEXITY, (m - 1) / 3),
            early_exaggeration=exaggeration,
            max_iter=STEPS,
            random_state=self._seed,
        )
        with threadpool_limits(1):  # sums of several threads come in any order, and a map is not worth all processors
            found: Floats = made.fit_transform(self._features).astype(np.float32)
        return found

    def place(self, rows: Floats) -> Floats:
        """Shape (n, 2): where these embeddings, shape (n, d), go; NaN for one that is not finite."""
        from sklearn.neighbors import KNeighborsRegressor

        found = np.full((len(rows), 2), np.nan, np.float32)
        fine = np.isfinite(rows).all(axis=1)
        if fine.any():
            count = min(NEIGHBOURS, len(self._features))
            near = KNeighborsRegressor(count, weights="distance", algorithm="brute").fit(self._features, self.layout)
            with threadpool_limits(1):
                found[fine] = near.predict(self._turned(_unit(rows[fine])))
        return found

    def _turned(self, rows: Floats) -> Floats:
        turned: Floats = ((rows - self._centre) @ self._axes.T).astype(np.float32)
        return turned


def _unit(rows: Floats) -> Floats:
    """Every row of length 1, as strategies compare embeddings; a row of zeros stays."""
    wide = np.asarray(rows, np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    unit: Floats = (wide / np.where(length > 0, length, 1)).astype(np.float32)
    return unit


def _axes(centred: Floats, seed: int) -> Floats:
    """Shape (k, d): at most ``DIRECTIONS`` principal directions, two at least where there are so many dimensions."""
    from sklearn.decomposition import PCA

    m, d = centred.shape
    if m < 3 or np.abs(centred).max() <= SAME:
        return np.eye(min(2, d), d, dtype=np.float32)
    with threadpool_limits(1):
        axes: Floats = PCA(min(DIRECTIONS, m, d), random_state=seed).fit(centred).components_.astype(np.float32)
    return axes


def _flat(features: Floats) -> Floats:
    """The first two directions."""
    flat = np.zeros((len(features), 2), np.float32)
    flat[:, : min(2, features.shape[1])] = features[:, :2]
    return flat


def _former(features: Floats, before: Floats) -> Floats | None:
    """Where the representatives were, newcomers beside those most like them; None where most of them are new."""
    from sklearn.neighbors import KNeighborsRegressor

    known: NDArray[np.bool_] = np.isfinite(before.sum(axis=1))
    if known.sum() * 2 < len(before) or np.ptp(before[known], axis=0).max(initial=0.0) <= SAME:
        return None
    found = np.array(before, np.float32)
    if not known.all():
        count = min(NEIGHBOURS, int(known.sum()))
        near = KNeighborsRegressor(count, weights="distance", algorithm="brute").fit(features[known], before[known])
        found[~known] = near.predict(features[~known])
    return found


def _scaled(points: Floats) -> Floats:
    """Centred, the farthest coordinate 1; points that are all the same are at 0."""
    centred = points - points.mean(axis=0)
    most = float(np.abs(centred).max())
    scaled: Floats = (centred / most if most > 0.01 * SMALL else np.zeros_like(centred)).astype(np.float32)
    return scaled
