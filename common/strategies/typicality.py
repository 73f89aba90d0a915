"""TypiClust (Hacohen et al., ICML 2022): the densest image of each cluster, emptiest clusters first. For cold start.

The paper makes min(labelled + budget, 500) clusters for a budget. Here B, the images of one round, stands for the
budget however many are asked for: clusters that hang on what is asked would give a smaller budget other images than
the beginning of a larger one, and annotators may stop anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.domain import Ints
from common.policy import needed
from common.strategies.clusters import k_means
from common.strategies.plain import scored_parts
from common.strategies.points import Points
from common.strategies.pool import Draft, Pool, Values
from common.strategies.ranges import require_whole
from common.strategies.screening import directions, sample, typicality


@dataclass(frozen=True)
class Options:
    """Clusters and neighbours.

    Attributes:
        min_new_labels: Clusters are min(labelled + B, ``most_clusters``), B = max(this, 10 % of the labelled set):
            not the budget, see above.
        most_clusters: See above.
        neighbours: Of the typicality within a cluster.
        references: Most members of a cluster that others are compared with, at least 2.
        small: Clusters with fewer members come after all others.
    """

    min_new_labels: int = 20
    most_clusters: int = 500
    neighbours: int = 20
    references: int = 2000
    small: int = 5

    def __post_init__(self) -> None:
        require_whole(
            1, min_new_labels=self.min_new_labels, most_clusters=self.most_clusters, neighbours=self.neighbours
        )
        require_whole(2, references=self.references)
        require_whole(0, small=self.small)


def select(pool: Pool, budget: int, rng: np.random.Generator, options: Options) -> Draft:
    """Round after round one image per cluster: fewest labelled or chosen members first, then the larger cluster.

    Images without a direction come last. Utility: typicality within the own cluster, from [-1, 1] to [0, 1].
    """
    del budget
    points = directions(pool.embeddings, pool.readable, pool.points)
    rows = np.flatnonzero(points.usable & pool.readable)
    label = np.full(len(pool), -1, np.int64)
    if len(rows):
        labelled = int(pool.labelled.sum())
        count = min(labelled + needed(options.min_new_labels, labelled), options.most_clusters)
        label[rows] = k_means(points.take(rows), count, rng)
    dense = _density(points, rows, label, options, rng)
    order = _turns(pool, label, dense, options.small)
    utility = np.where(label >= 0, (1 + dense) / 2, 0)
    return Draft(order, utility, lambda asked: scored_parts(pool, asked, utility, "typicality in its cluster"))


def _density(points: Points, rows: Ints, label: Ints, options: Options, rng: np.random.Generator) -> Values:
    out = np.zeros(len(points))
    for members in np.split(rows[np.argsort(label[rows], kind="stable")], _cuts(label[rows])):
        compared = sample(np.sort(members), options.references, rng)
        out[members] = typicality(points, members, compared, options.neighbours)
    return out


def _cuts(label: Ints) -> Ints:
    """Where a sorted copy of ``label`` changes."""
    return np.flatnonzero(np.diff(np.sort(label))) + 1


def _turns(pool: Pool, label: Ints, dense: Values, small: int) -> Ints:
    """Candidates by (members labelled or chosen before, cluster size, density)."""
    rows = pool.candidates
    mine = label[rows]
    known = np.bincount(label[pool.labelled & (label >= 0)], minlength=int(label.max(initial=0)) + 1)
    size = np.bincount(label[label >= 0], minlength=len(known))
    order = np.lexsort((rows, -dense[rows], mine))
    turn = np.zeros(len(rows), np.int64)
    starts = np.flatnonzero(np.diff(mine[order], prepend=-2))
    turn[order] = np.arange(len(rows)) - np.repeat(starts, np.diff(starts, append=len(rows)))
    turn += known[np.maximum(mine, 0)]
    late = np.where(mine < 0, 2, (size[np.maximum(mine, 0)] < small).astype(np.int64))
    turns: Ints = rows[np.lexsort((rows, -size[np.maximum(mine, 0)], turn, late))]
    return turns
