"""Tiers of rows, the state of a greedy order: which products are known, to how many picks, and what lies outside.

Distances to the chosen set only fall, so a stale product is an upper bound of the true one. Each tier holds the rows of
the tier around it with the greatest bounds. Distances are float32 products until they decide something: those of the
innermost tier, and those so close to the edge between two tiers that an error could put a row on the wrong side, are
taken anew in float64. So equal values are equal, and the lowest row wins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.domain import Floats, Ints
from common.strategies.deficit import Deficit
from common.strategies.distances import ROUGH, Nearest
from common.strategies.points import Points

INNER = 512
"""Rows of the innermost tier when it is made; a pool of up to twice as many is one itself."""
SHRINK = 8
"""A tier is at most so many times larger than the one within, unless that is the innermost."""


@dataclass
class Tier:
    """Some rows, what is known of them, and the greatest bound among all rows that it leaves out.

    Attributes:
        rows: Shape (k,), ascending.
        points: What holds them.
        inside: Shape (k,), where in ``points``; None = they are all of it.
        near: The nearest row chosen when ``seen`` picks were made, and how far: -1 = picked.
        sure: Shape (k,), whether that distance is exact.
        weight: Shape (k,).
        presence: Shape (k, C).
        seen: Shape (k,), picks that ``near`` and ``value`` know.
        value: Shape (k,), products; upper bounds where not all picks were seen.
        now: Picks up to which the greatest of ``value`` are known.
        bound: (value, -row) of the best row outside.
        pairs: Shape (k, k), squared distances among the rows of an innermost tier.
    """

    rows: Ints
    points: Points
    inside: Ints | None
    near: Nearest
    sure: NDArray[np.bool_]
    weight: NDArray[np.float64]
    presence: Floats | None
    seen: Ints
    value: NDArray[np.float64]
    now: int = 0
    bound: tuple[float, int] = (-np.inf, 0)
    pairs: Floats | None = None

    def best(self) -> tuple[tuple[float, int], int]:
        """((value, -row), place in this tier) of the greatest value, lowest row on ties."""
        at = int(np.argmax(self.value))
        return (float(self.value[at]), -int(self.rows[at])), at

    @property
    def innermost(self) -> bool:
        """Whether picks are made here."""
        return len(self.rows) <= 2 * INNER

    @property
    def next_size(self) -> int:
        """Rows of the tier within."""
        middle = len(self.rows) // SHRINK
        return middle if middle > 4 * INNER else INNER


class Greedy:
    """What was picked so far, and what that does to tiers.

    Args:
        points: N rows.
        budget: Picks at most.
        power: Exponent of the distance.
        deficit: The factor that falls as picks are made.
    """

    def __init__(self, points: Points, budget: int, power: float, deficit: Deficit | None) -> None:
        self.points, self.power, self.deficit = points, power, deficit
        self.have = np.zeros(0) if deficit is None else deficit.have.astype(np.float64)
        self.count = 0
        self.order = np.zeros(budget, np.int64)
        self.picked = np.zeros((budget, points.width), np.float32)
        self.taken = np.zeros(len(points), bool)
        self.slack = 0.0

    def root(self, rows: Ints, near: Nearest, weight: NDArray[np.float64]) -> Tier:
        """The outermost tier: every candidate, ``near`` known before the first pick."""
        small = len(rows) <= INNER * SHRINK
        whole = len(rows) == len(self.points)
        self.slack = self._slack(float(weight.max(initial=0)))
        tier = Tier(
            rows,
            self.points.part(rows) if small else self.points,
            None if small or whole else rows,
            near,
            near.row < 0,
            weight,
            None if self.deficit is None else self.deficit.presence[rows],
            np.zeros(len(rows), np.int64),
            np.zeros(len(rows)),
        )
        self._rate(tier)
        return self._prepared(tier)

    def refresh(self, tier: Tier) -> None:
        """Bring the greatest values of ``tier`` up to date: as many as the tier within has rows.

        First those with the greatest bounds; then whatever could be among the greatest after that.
        """
        tier.now = self.count
        if tier.innermost:
            self._rate(tier)
            return
        self._strike(tier)
        wanted = tier.next_size
        self._meet(tier, np.flatnonzero(_greatest(tier.value, min(2 * wanted, len(tier.rows)))))
        edge = np.partition(tier.value[tier.seen == tier.now], -wanted)[-wanted] - 2 * self.slack
        self._meet(tier, np.flatnonzero((tier.value >= edge) & (tier.seen < tier.now)))

    def inner(self, tier: Tier) -> Tier:
        """The rows of ``tier`` with the greatest values; lowest rows on ties."""
        size = tier.next_size
        self._settle_edge(tier, size)
        chosen = _greatest(tier.value, size)
        rest = np.where(chosen, -np.inf, tier.value)
        out = int(np.argmax(rest))
        bound = float(rest[out]) + (0 if tier.sure[out] else self.slack)
        at = np.flatnonzero(chosen)
        return self._prepared(
            Tier(
                tier.rows[at],
                tier.points.part(at if tier.inside is None else tier.inside[at]),
                None,
                tier.near.take(at),
                tier.sure[at],
                tier.weight[at],
                None if tier.presence is None else tier.presence[at],
                tier.seen[at],
                tier.value[at],
                tier.now,
                max(tier.bound, (bound, -int(tier.rows[out]))),
            )
        )

    def pick(self, tier: Tier, at: int) -> tuple[float, float]:
        """(distance, value) of a row of an innermost tier, which is the next one."""
        near = tier.near.squared
        found = (float(np.sqrt(max(near[at], 0))), float(tier.value[at]))
        row = self.order[self.count] = tier.rows[at]
        self.picked[self.count] = tier.points.take(np.array([at]))[0]
        self.count += 1
        self.taken[row] = True
        if self.deficit is not None:
            self.have += self.deficit.amount[row]
        if tier.pairs is not None:
            np.minimum(near, tier.pairs[at], out=near)
        near[at] = -1
        return found

    def _prepared(self, tier: Tier) -> Tier:
        """Ready for picks where it is innermost: every value exact."""
        if tier.innermost:
            self._settle(tier, np.flatnonzero(~tier.sure))
            tier.pairs = self.points.pairs(tier.rows)
        return tier

    def _settle_edge(self, tier: Tier, size: int) -> None:
        """Make exact what an error could put on the wrong side of the edge between the ``size`` greatest and the rest.

        Also the greatest themselves where picks will be made among them.
        """
        while True:
            edge = np.partition(tier.value, len(tier.value) - size)[len(tier.value) - size]
            rough = ~tier.sure & (tier.value >= edge - self.slack)
            if size > 2 * INNER:
                rough &= tier.value <= edge + self.slack
            if not rough.any():
                return
            self._settle(tier, np.flatnonzero(rough))

    def _settle(self, tier: Tier, places: Ints) -> None:
        tier.near.squared[places] = self.points.exact(tier.rows[places], tier.near.take(places))
        tier.sure[places] = True
        self._rate(tier, places)

    def _meet(self, tier: Tier, places: Ints) -> None:
        """Let rows of a tier meet the picks they have not seen."""
        seen = tier.seen[places]
        for start in np.unique(seen).tolist():
            some = places[seen == start]
            whole = len(some) == len(tier.rows)
            inside = some if tier.inside is None else tier.inside[some]
            picks = self.picked[start : tier.now]
            closest = tier.points.closest(tier.inside if whole else inside, picks, tier.near.squared[some])
            tier.sure[tier.near.lower(some, *closest, self.order[start : tier.now])] = False
        self._strike(tier)
        tier.seen[places] = tier.now
        self._rate(tier, places)

    def _strike(self, tier: Tier) -> None:
        """Take out what was picked."""
        gone = self.taken[tier.rows]
        tier.near.squared[gone], tier.sure[gone], tier.value[gone] = -1, True, -np.inf

    def _rate(self, tier: Tier, places: Ints | None = None) -> None:
        some = slice(None) if places is None else places
        near = tier.near.squared[some]
        value = tier.weight[some] * np.maximum(near, 0).astype(np.float64) ** (self.power / 2)
        if self.deficit is not None and tier.presence is not None:
            value *= self.deficit.factor(tier.presence[some], self.have)
        value[near < 0] = -np.inf
        tier.value[some] = value

    def _slack(self, most: float) -> float:
        """More than a value may be off by while distances are off by less than ``ROUGH``; ``most``: greatest weight."""
        off = self.power * 2 ** (self.power - 1) * ROUGH if self.power >= 1 else ROUGH**self.power
        return most * (1 if self.deficit is None else 2) * off if self.power else 0.0


def _greatest(value: NDArray[np.float64], size: int) -> NDArray[np.bool_]:
    """Mask of the ``size`` greatest values, lowest places on ties."""
    edge = np.partition(value, len(value) - size)[len(value) - size]
    inside: NDArray[np.bool_] = value > edge
    inside[np.flatnonzero(value == edge)[: size - int(inside.sum())]] = True
    return inside
