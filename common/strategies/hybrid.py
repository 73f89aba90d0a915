"""The default: hard, typical where little is known, far from what is labelled, no look-alikes, no junk, in blocks.

Eight steps, each with its switch: near-duplicates, instance uncertainty, class weight, image value and cost, outlier
guard, candidates, greedy order, random slice (the pool's ``slice_share``). After Yang et al., CVPR 2024 (PPAL:
candidates, difficulty), Sener and Savarese, ICLR 2018 (distance), Hacohen et al., ICML 2022 (typicality while cold).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.domain import Ints
from common.policy import needed
from common.strategies.deficit import Deficit
from common.strategies.distances import Memory, Nearest
from common.strategies.farthest_first import farthest_first
from common.strategies.image_value import Terms, amounts, image_value, presence, ranked
from common.strategies.plain import by_score
from common.strategies.points import Points
from common.strategies.pool import Draft, Pool, Values
from common.strategies.ranges import Switches, is_number, require_number, require_whole
from common.strategies.reasons import Chosen, parts
from common.strategies.schedule import places
from common.strategies.screening import Screened, screen

EXPONENTS = {"cold": (0.0, 1.0, 1.0), "low": (0.5, 0.5, 1.0), "mid": (1.0, 0.0, 1.0)}
"""Regime -> exponents of utility quantile A, typicality quantile T and distance."""


@dataclass(frozen=True)
class Options(Switches):
    """Switches and numbers; the defaults are the design.

    Attributes:
        acquisition: Acquisition function of one instance.
        flip: Step 2, see ``Terms``.
        class_weights: Step 3, see ``Terms``.
        doubt: Step 4, see ``Terms``.
        nms: Step 4, see ``Terms``.
        top: Step 4, see ``Terms``.
        empty_factor: Step 4, see ``Terms``.
        kappa: Step 4, see ``Terms``.
        deduplicate: Step 1: one candidate per near-duplicate group, none where one is labelled.
        guard: Step 5: hold outliers back.
        outlier_share: Step 5: share of a block reserved for them.
        limit_candidates: Step 6: only the best ``spread`` (``cold_spread`` while cold) times B compete.
        spread: Step 6.
        cold_spread: Step 6.
        regime: Step 7: 'auto', 'cold', 'low' or 'mid'.
        uncertainty: Step 7: factor A.
        typicality: Step 7: factor T.
        diversity: Step 7: factor distance.
        deficit: Step 7: factor for classes with few labels.
        low_until: Step 7: the regime is 'low' while the median class has fewer labelled boxes.
        min_new_labels: B = max(this, 10 % of the labelled set).
        greedy_limit: Places ordered greedily, 0 = as many as the budget asks for; the rest follows by A (by T while
            cold).
        references: Step 5 and T: at most so many random rows are compared with, at least 2.
        explain: So many places get the distance to the nearest labelled image in their parts.
    """

    acquisition: str = "entropy"
    flip: bool = True
    class_weights: bool = True
    doubt: bool = True
    nms: float = 0.5
    top: int = 10
    empty_factor: float = 3.0
    kappa: float = 0.0
    deduplicate: bool = True
    guard: bool = True
    outlier_share: float = 0.03
    limit_candidates: bool = True
    spread: int = 4
    cold_spread: int = 10
    regime: str = "auto"
    uncertainty: bool = True
    typicality: bool = True
    diversity: bool = True
    deficit: bool = True
    low_until: float = 50
    min_new_labels: int = 20
    greedy_limit: int = 2000
    references: int = 10_000
    explain: int = 2000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.regime not in ("auto", *EXPONENTS):
            raise ValueError(f"regime is {self.regime!r}: one of {['auto', *EXPONENTS]} is allowed")
        require_whole(
            1, top=self.top, spread=self.spread, cold_spread=self.cold_spread, min_new_labels=self.min_new_labels
        )
        require_whole(0, greedy_limit=self.greedy_limit, explain=self.explain)
        require_whole(2, references=self.references)
        require_number(0, 1, nms=self.nms, kappa=self.kappa)
        require_number(0, empty_factor=self.empty_factor, low_until=self.low_until)
        if not is_number(self.outlier_share) or not 0 <= self.outlier_share < 1:
            raise ValueError(f"outlier_share is {self.outlier_share!r}: a number, at least 0 and below 1, is allowed")

    @property
    def terms(self) -> Terms:
        """What makes up the value of an image."""
        return Terms(
            self.acquisition,
            self.flip,
            self.class_weights,
            self.top,
            self.nms,
            self.doubt,
            self.empty_factor,
            self.kappa,
        )


def select(pool: Pool, budget: int, rng: np.random.Generator, options: Options) -> Draft:
    """The eight steps. Utility of the answer: A, or T while cold; it does not fall along the order."""
    value = ranked(pool, image_value(pool, options.terms))
    screened = screen(
        pool,
        value,
        rng,
        deduplicate=options.deduplicate,
        guard=options.guard,
        references=options.references,
    )
    typical = ranked(pool, screened.likeness.astype(np.float64))
    kind = regime(pool, options)
    key = typical if kind == "cold" else value
    blocks = _Blocks(pool, screened, value, typical, kind, options)
    while len(blocks.order) < min(budget, options.greedy_limit or budget) and len(blocks.left):
        blocks.add()
    order = [*blocks.order, *blocks.left, *blocks.late(key), *blocks.odd[blocks.odd_served :]]
    chosen = Chosen(
        pool,
        screened,
        value,
        typical,
        blocks.distance,
        kind,
        options.explain,
        options.terms,
        blocks.opening,
        tuple(blocks.deferred),
    )
    return Draft(np.array(order[:budget], np.int64), key, lambda rows: parts(chosen, rows))


def regime(pool: Pool, options: Options) -> str:
    """'cold' without a model that knows the labels, 'low' with few labels per class, else 'mid'."""
    if options.regime != "auto":
        return options.regime
    if not pool.knows:
        return "cold"
    counts = pool.label_counts if len(pool.label_counts) else np.array([pool.labelled.sum()])
    return "low" if np.median(counts) < options.low_until else "mid"


class _Near:
    """Squared distances to labelled images, which the points remember, and to what this query has placed.

    Computed only for rows that compete, and only to what they have not met.
    """

    def __init__(self, points: Points, labelled: Ints) -> None:
        self.points, self.labelled = points, labelled
        self.picks: Ints = np.zeros(0, np.int64)
        self.memory = Memory(len(points))

    def update(self, rows: Ints) -> Nearest:
        """Of n rows, true in ``rows``."""
        old, new = self.points.covered(self.labelled, rows), self.points.covered(self.picks, rows, self.memory)
        nearer = new.squared < old.squared
        return Nearest(np.minimum(old.squared, new.squared), np.where(nearer, new.row, old.row))


class _Blocks:
    """Steps 6 and 7: greedy blocks, one after the other, as if each had been labelled before the next."""

    def __init__(
        self, pool: Pool, screened: Screened, value: Values, typical: Values, kind: str, options: Options
    ) -> None:
        a, b, c = EXPONENTS[kind]
        self.pool, self.screened, self.options = pool, screened, options
        self.weight = value ** (a * options.uncertainty) * typical ** (b * options.typicality)
        self.power = c * options.diversity
        key = typical if kind == "cold" else value
        self.left = by_score(screened.free, key)
        self.odd = by_score(screened.outliers, key)
        self.odd_served = 0
        self.placed = np.zeros(len(pool), bool)
        self.typical = typical
        self.begun = bool(pool.labelled.any())
        self.opening: tuple[int, ...] = ()
        self.size = needed(options.min_new_labels, int(pool.labelled.sum()))
        spread = options.cold_spread if kind == "cold" else options.spread
        self.window = spread * self.size if options.limit_candidates else len(pool)
        self.order: list[int] = []
        self.deferred: list[int] = [int(i) for i in screened.deferred]
        self.distance = np.full(len(pool), np.nan, np.float32)
        self.near = _Near(screened.points, pool.labelled_rows)
        self.places = 0
        self.balance = options.deficit and kind != "cold" and len(pool.label_counts) > 0
        self.presence = presence(pool) if self.balance else None
        self.amount = amounts(pool) if self.balance else None
        self.have = pool.label_counts.astype(np.float64)

    def add(self) -> None:
        """Order one block of B places."""
        visitors = self.pool.slice_queue[places(self.places, self.size, self.pool.slice_share)]
        self.places += self.size
        room = self.size - len(visitors)
        odd = self._outliers(room)
        self._meet(np.concatenate([visitors, odd]))
        self._defer_mates(visitors)
        window = np.sort(self.left[: self.window])
        first = self._first(window, room - len(odd))
        found = farthest_first(
            self.screened.points,
            room - len(odd) - len(first),
            candidates=window[~np.isin(window, first)],
            near=self.near.update(window),
            weight=self.weight,
            power=self.power,
            deficit=self._deficit(),
        )
        self.distance[found.order] = found.distance
        self._meet(found.order)
        self.placed[first] = self.placed[found.order] = True
        self.left = self.left[~self.placed[self.left]]
        self.order += np.concatenate([first, found.order, odd]).tolist()

    def late(self, key: Values) -> Ints:
        """Deferred near-duplicates, best first."""
        return by_score(np.array(self.deferred, np.int64), key)

    def _first(self, window: Ints, room: int) -> Ints:
        """With nothing labelled the very first pick is argmax T, whatever the regime and the random slice."""
        begun = self.begun
        self.begun = begun or room > 0
        if begun or room < 1 or len(window) == 0 or not self.options.typicality:
            return window[:0]
        first = window[np.argmax(self.typical[window]), None]
        self.opening = tuple(first.tolist())
        self.distance[first] = np.sqrt(self.near.update(first).squared[first])
        self._meet(first)
        return first

    def _outliers(self, room: int) -> Ints:
        due = int(self.options.outlier_share * (len(self.order) + room) + 1e-9)
        served = self.odd[self.odd_served : max(self.odd_served, min(due, self.odd_served + room))]
        self.odd_served += len(served)
        return served

    def _meet(self, rows: Ints) -> None:
        self.near.picks = np.concatenate([self.near.picks, rows])
        if self.amount is not None:
            self.have += self.amount[rows].sum(axis=0)

    def _defer_mates(self, visitors: Ints) -> None:
        """Near-duplicates of an image that the random slice serves wait for the end as well."""
        if not self.options.deduplicate:
            return
        groups = self.pool.group[visitors]
        if not (groups >= 0).any():
            return
        mates = np.isin(self.pool.group[self.left], groups[groups >= 0])
        self.deferred += [int(i) for i in self.left[mates]]
        self.left = self.left[~mates]

    def _deficit(self) -> Deficit | None:
        """Classes with fewer boxes than the median class has now: that is what they shall have."""
        if self.presence is None or self.amount is None:
            return None
        target = float(np.median(self.have))
        rare = np.flatnonzero(self.have < target)
        if len(rare) == 0:
            return None
        return Deficit(self.presence[:, rare], self.amount[:, rare], target, self.have[rare])
