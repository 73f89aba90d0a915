"""What the plain strategies share: order by one number, with steps 1 and 5 of hybrid on demand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from common.domain import Ints
from common.strategies.pool import Draft, Pool, Values
from common.strategies.ranges import Switches
from common.strategies.screening import duplicates, screen


@dataclass(frozen=True)
class Screening(Switches):
    """Steps 1 and 5 of hybrid, off by default: the control arms of a comparison switch them on.

    Attributes:
        deduplicate: One candidate per near-duplicate group first, the others at the end.
        guard: Images unlike all others at the end.
    """

    deduplicate: bool = False
    guard: bool = False


def sorted_draft(
    pool: Pool, score: Values, utility: Values, screening: Screening, rng: np.random.Generator, what: str
) -> Draft:
    """Candidates by falling score, lowest row on ties; then deferred near-duplicates, then outliers.

    Args:
        pool: The pool.
        score: Shape (n,), the order.
        utility: Shape (n,), in [0, 1], reported.
        screening: What must wait.
        rng: For the outlier guard.
        what: The reason's words for the score.
    """
    free, late, odd = screened_rows(pool, score, screening, rng)
    order = np.concatenate([by_score(rows, score) for rows in (free, late, odd)])

    def parts(rows: Ints) -> list[dict[str, Any]]:
        told = scored_parts(pool, rows, utility, what)
        if not screening.guard:
            return told
        return [part | {"outlier": out} for part, out in zip(told, np.isin(rows, odd).tolist(), strict=True)]

    return Draft(order, utility, parts)


def screened_rows(pool: Pool, score: Values, screening: Screening, rng: np.random.Generator) -> tuple[Ints, Ints, Ints]:
    """(free, deferred near-duplicates, outliers), each ascending, together all candidates."""
    rows, none = pool.candidates, np.zeros(0, np.int64)
    if screening.guard:
        found = screen(pool, score, rng, deduplicate=screening.deduplicate, guard=True)
        return found.free, found.deferred, found.outliers
    if not screening.deduplicate:
        return rows, none, none
    late = duplicates(pool.group, rows, pool.labelled, score)
    return rows[~late], rows[late], none


def by_score(rows: Ints, score: Values) -> Ints:
    """Rows by falling score, lowest row on ties."""
    order: Ints = rows[np.lexsort((rows, -score[rows]))]
    return order


def scored_parts(pool: Pool, rows: Ints, utility: Values, what: str) -> list[dict[str, Any]]:
    """Parts of a strategy that knows one number."""
    out = []
    for row in rows.tolist():
        value = round(float(utility[row]), 4)
        reason = f"{what} {value:.2f}" if pool.readable[row] else "the image cannot be read"
        if pool.in_slice[row] and pool.readable[row]:
            reason = "random slice, drawn by chance to measure against"
        out.append({"utility": value, "random_slice": bool(pool.in_slice[row]), "reason": reason})
    return out
