"""alpha * utility + beta * diversity, as practitioners' guides teach it: the control to beat.

Diversity is the distance to the own k-means centroid; both terms are min-max scaled over the candidates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from common.domain import Floats, Ints
from common.strategies.image_value import Aggregated, min_max, plain_utility
from common.strategies.plain import Screening, sorted_draft
from common.strategies.pool import Draft, Pool, Values
from common.strategies.ranges import require_number, require_whole
from common.strategies.screening import directions


@dataclass(frozen=True)
class Options(Screening, Aggregated):
    """Weights and clusters.

    Attributes:
        alpha: Weight of the utility.
        beta: Weight of the distance to the own centroid.
        clusters: Of MiniBatchKMeans; fewer where there are fewer images.
    """

    alpha: float = 0.7
    beta: float = 0.3
    clusters: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number(0, alpha=self.alpha, beta=self.beta)
        if not 0 < self.alpha + self.beta < math.inf:
            raise ValueError(f"alpha + beta is {self.alpha + self.beta}: a finite number above 0 is allowed")
        require_whole(1, clusters=self.clusters)


def select(pool: Pool, budget: int, rng: np.random.Generator, options: Options) -> Draft:
    """Candidates by falling sum; utility = that sum over alpha + beta."""
    del budget
    rows = pool.candidates
    score = np.zeros(len(pool))
    utility = plain_utility(pool, options)
    score[rows] = options.alpha * min_max(utility[rows])
    score[rows] += options.beta * min_max(centroid_distance(pool, rows, options.clusters, rng))
    score /= options.alpha + options.beta
    return sorted_draft(pool, score, score, options, rng, "utility plus diversity")


def centroid_distance(pool: Pool, rows: Ints, clusters: int, rng: np.random.Generator) -> Values:
    """Distance of each row to the centroid of its cluster: shape (k,); 0 for a row without a direction."""
    points = directions(pool.embeddings, pool.readable)
    some = rows[points.usable[rows]]
    out = np.zeros(len(rows))
    seed = int(rng.integers(2**31))
    if len(some) == 0:
        return out
    label, centre = clustered(points.take(some), clusters, seed)
    out[points.usable[rows]] = np.linalg.norm(points.take(some) - centre[label], axis=1)
    return out


def clustered(features: Floats, clusters: int, seed: int) -> tuple[Ints, Floats]:
    """MiniBatchKMeans: (cluster of each row, centroids); no more clusters than rows."""
    from sklearn.cluster import MiniBatchKMeans  # half of what starting a command would cost

    count = min(clusters, len(features))
    model = MiniBatchKMeans(count, random_state=seed, n_init=1, batch_size=4096, max_iter=20)
    label = model.fit_predict(features)
    return np.asarray(label, np.int64), np.asarray(model.cluster_centers_, np.float32)
