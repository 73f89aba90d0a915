"""Why this image: the numbers behind a place in the queue, and one sentence in words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.domain import Floats, Ints
from common.strategies.image_value import Terms, instances, presence
from common.strategies.pool import Pool, Values
from common.strategies.screening import Screened

UNSURE = 0.7
"""An instance of at least this utility is called uncertain."""
_RARE = 0.25
_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True)
class Chosen:
    """What hybrid knows about its choice.

    Attributes:
        pool: The pool.
        screened: Near-duplicates and outliers.
        value: Shape (n,), A.
        typical: Shape (n,), T.
        distance: Shape (n,), distance to labelled and earlier images when it was picked; NaN = not picked greedily.
        regime: 'cold', 'low' or 'mid'.
        explain: So many places get the distance to the nearest labelled image.
        terms: What made up the value.
        opening: Rows that stand first for being typical, because nothing was labelled.
        deferred: Near-duplicates that wait for the end: those screened out, and those of what the random slice serves.
    """

    pool: Pool
    screened: Screened
    value: Values
    typical: Values
    distance: Floats
    regime: str
    explain: int
    terms: Terms
    opening: tuple[int, ...] = ()
    deferred: tuple[int, ...] = ()


def parts(chosen: Chosen, rows: Ints) -> list[dict[str, Any]]:
    """One dict of plain numbers and a 'reason' per row."""
    pool = chosen.pool
    unsure, notes = _boxes(chosen, rows)
    index, apart = _nearest_labelled(chosen, rows)
    late, odd = np.zeros(len(pool), bool), np.zeros(len(pool), bool)
    late[list(chosen.deferred)] = odd[chosen.screened.outliers] = True
    columns: dict[str, list[Any]] = {
        "A": _rounded(chosen.value[rows]),
        "T": _rounded(chosen.typical[rows]),
        "distance": _rounded(chosen.distance[rows]),
        "nearest_labelled": index,
        "nearest_labelled_distance": _rounded(apart),
        "uncertain_boxes": unsure,
        "rare_class": [None if c < 0 else pool.class_name(c) for c in _rare_class(pool, rows)],
        "duplicate_group": [None if g < 0 else g for g in pool.group[rows].tolist()],
        "duplicate_group_size": _group_sizes(pool)[rows].tolist(),
        "random_slice": pool.in_slice[rows].tolist(),
        "deferred": late[rows].tolist(),
        "outlier": odd[rows].tolist(),
        "regime": [chosen.regime] * len(rows),
    }
    out = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    opening = np.isin(rows, chosen.opening).tolist()
    for part, note, readable, first in zip(out, notes, pool.readable[rows].tolist(), opening, strict=True):
        part["reason"] = _sentence(part, note, readable, first)
    return out


def _sentence(part: dict[str, Any], note: str, readable: bool, first: bool) -> str:
    if not readable:
        return "the image cannot be read"
    found = ["random slice, drawn by chance to measure against"] if part["random_slice"] else []
    flags = {"outlier": "unlike all other images", "deferred": "a near-duplicate of it comes first"}
    found += [words for flag, words in flags.items() if part[flag]]
    if part["regime"] == "cold" or first:
        found.append(f"more typical than {100 * part['T']:.0f} % of the images")
    elif note:
        found.append(note)
    if part["rare_class"]:
        found.append(f"may show {part['rare_class']}, which has few labels")
    if part["nearest_labelled_distance"] is not None:
        found.append(f"nearest labelled image {_short(part['nearest_labelled_distance'])} away")
    if part["duplicate_group"] is not None and part["duplicate_group_size"] > 1:
        found.append(f"duplicate group of {part['duplicate_group_size']}")
    return "; ".join(found) or f"more informative than {100 * part['A']:.0f} % of the images"


def _boxes(chosen: Chosen, rows: Ints) -> tuple[list[int], list[str]]:
    """Uncertain boxes of each row, and what most of them waver between."""
    pool, d = chosen.pool, chosen.pool.detections
    if len(d.scores) == 0 or d.scores.shape[1] == 0:
        return [0] * len(rows), [_empty_note(pool, r) for r in rows.tolist()]
    terms = chosen.terms if chosen.terms.acquisition != "model_change" else Terms(flip=chosen.terms.flip)
    doubtful = np.flatnonzero(instances(pool, terms) >= UNSURE)
    kind, count = _commonest(d.image[doubtful], _kinds(d.scores[doubtful]), len(pool))
    said: dict[tuple[int, int], str] = {}
    notes = []
    for row, key in zip(rows.tolist(), zip(kind[rows].tolist(), count[rows].tolist(), strict=True), strict=True):
        if key[1] and key not in said:
            said[key] = _note(pool, *key)
        notes.append(said[key] if key[1] else _empty_note(pool, row))
    return np.bincount(d.image[doubtful], minlength=len(pool))[rows].tolist(), notes


def _kinds(scores: Floats) -> Ints:
    """The doubt of each box as one number, shape (m,): first * (C + 1), plus second + 1 where it is between two.

    It is between two classes when the second best score is at least a third of the best, and .1.
    """
    classes = scores.shape[1]
    first = scores.argmax(axis=1)
    if classes == 1 or len(scores) == 0:
        return np.asarray(first, np.int64) * (classes + 1)
    best = scores[np.arange(len(scores)), first]
    others = scores.copy()
    others[np.arange(len(scores)), first] = -np.inf
    second = others.argmax(axis=1)
    two = others.max(axis=1) >= np.maximum(best / 3, 0.1)
    low, high = np.minimum(first, second), np.maximum(first, second)
    found: Ints = np.where(two, low * (classes + 1) + high + 1, first * (classes + 1))
    return found


def _commonest(image: Ints, kind: Ints, n: int) -> tuple[Ints, Ints]:
    """(kind, count) of the most frequent kind of each of n images, the lowest on ties; count 0 = it has none."""
    out = np.zeros(n, np.int64), np.zeros(n, np.int64)
    span = int(kind.max(initial=0)) + 1
    key, count = np.unique(image * span + kind, return_counts=True)
    order = np.lexsort((key, -count, key // span))
    first = order[np.diff(key[order] // span, prepend=-1) != 0]
    out[0][key[first] // span] = key[first] % span
    out[1][key[first] // span] = count[first]
    return out


def _note(pool: Pool, kind: int, count: int) -> str:
    """'two boxes between hard_hat and person', 'one box perhaps helmet'."""
    first, second = divmod(kind, pool.detections.scores.shape[1] + 1)
    boxes = f"{_count(count)} box{'es' if count > 1 else ''}"
    if second == 0:
        return f"{boxes} perhaps {pool.class_name(first)}"
    return f"{boxes} between {pool.class_name(first)} and {pool.class_name(second - 1)}"


def _empty_note(pool: Pool, row: int) -> str:
    doubt = float(pool.detections.doubt[row])
    empty = int(pool.detections.counts[row]) == 0
    return f"no box, best score below the floor {_short(doubt)}" if empty and doubt > 0 else ""


def _rare_class(pool: Pool, rows: Ints) -> list[int]:
    """The predicted class with the fewest labels, where that is under half the median class; -1 = none."""
    counts = pool.label_counts
    if len(counts) < 2 or not pool.knows:
        return [-1] * len(rows)
    rare = np.flatnonzero(2 * counts < np.median(counts))
    rare = rare[np.argsort(counts[rare], kind="stable")]
    if len(rare) == 0:
        return [-1] * len(rows)
    shown = presence(pool)[np.ix_(rows, rare)] >= _RARE
    return [int(rare[s.argmax()]) if s.any() else -1 for s in shown]


def _nearest_labelled(chosen: Chosen, rows: Ints) -> tuple[list[int | None], Floats]:
    index: list[int | None] = [None] * len(rows)
    apart = np.full(len(rows), np.nan, np.float32)
    points = chosen.screened.points
    anchors = chosen.pool.labelled_rows[points.usable[chosen.pool.labelled_rows]]
    asked = np.flatnonzero(points.usable[rows[: chosen.explain]])
    if len(anchors) == 0 or len(asked) == 0:
        return index, apart
    best, at = points.nearest(rows[asked], anchors)
    apart[asked] = best
    for place, anchor in zip(asked.tolist(), at.tolist(), strict=True):
        index[place] = anchor
    return index, apart


def _group_sizes(pool: Pool) -> Ints:
    """Shape (n,): members of each image's near-duplicate group, 1 without one."""
    _, place, count = np.unique(pool.group, return_inverse=True, return_counts=True)
    sizes: Ints = np.where(pool.group < 0, 1, count[place.reshape(-1)] if len(count) else 1)
    return sizes


def _rounded(values: NDArray[Any]) -> list[float | None]:
    """Four digits; None where there is no number."""
    listed = np.round(np.asarray(values, np.float64), 4).tolist()
    return [value if math.isfinite(value) else None for value in listed]


def _short(value: float) -> str:
    """.31 for 0.31."""
    return f"{value:.2f}".removeprefix("0")


def _count(number: int) -> str:
    return _WORDS[number] if number < len(_WORDS) else str(number)
