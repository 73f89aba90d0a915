"""Why this image: the numbers behind a place in the queue, and one sentence in words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

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
    """

    pool: Pool
    screened: Screened
    value: Values
    typical: Values
    distance: Floats
    regime: str
    explain: int
    terms: Terms


def parts(chosen: Chosen, rows: Ints) -> list[dict[str, Any]]:
    """One dict of plain numbers and a 'reason' per row."""
    pool = chosen.pool
    unsure, notes = _boxes(chosen, rows)
    rare = _rare_class(pool, rows)
    index, apart = _nearest_labelled(chosen, rows)
    size = _group_sizes(pool)
    late, odd = set(chosen.screened.deferred.tolist()), set(chosen.screened.outliers.tolist())
    out = []
    for place, row in enumerate(rows.tolist()):
        group = int(pool.group[row])
        part: dict[str, Any] = {
            "A": round(float(chosen.value[row]), 4),
            "T": round(float(chosen.typical[row]), 4),
            "distance": _number(chosen.distance[row]),
            "nearest_labelled": index[place],
            "nearest_labelled_distance": _number(apart[place]),
            "uncertain_boxes": unsure[place],
            "rare_class": None if rare[place] < 0 else pool.class_name(rare[place]),
            "duplicate_group": group if group >= 0 else None,
            "duplicate_group_size": size[group] if group >= 0 else 1,
            "random_slice": bool(pool.in_slice[row]),
            "deferred": row in late,
            "outlier": row in odd,
            "regime": chosen.regime,
        }
        part["reason"] = _sentence(part, notes[place], bool(pool.readable[row]))
        out.append(part)
    return out


def _sentence(part: dict[str, Any], note: str, readable: bool) -> str:
    if not readable:
        return "the image cannot be read"
    found = ["random slice, drawn by chance to measure against"] if part["random_slice"] else []
    flags = {"outlier": "unlike all other images", "deferred": "a near-duplicate of it comes first"}
    found += [words for flag, words in flags.items() if part[flag]]
    if part["regime"] == "cold":
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
    """Uncertain boxes of each row, and what they waver between."""
    pool, d = chosen.pool, chosen.pool.detections
    if len(d.scores) == 0 or d.scores.shape[1] == 0:
        return [0] * len(rows), [_empty_note(pool, int(r)) for r in rows]
    terms = chosen.terms if chosen.terms.acquisition != "model_change" else Terms(flip=chosen.terms.flip)
    unsure = instances(pool, terms) >= UNSURE
    counts, notes = [], []
    for row in rows.tolist():
        start, stop = int(d.offsets[row]), int(d.offsets[row + 1])
        doubtful = d.scores[start:stop][unsure[start:stop]]
        counts.append(len(doubtful))
        notes.append(_note(pool, doubtful) if len(doubtful) else _empty_note(pool, row))
    return counts, notes


def _note(pool: Pool, scores: Floats) -> str:
    """The most frequent kind of doubt: 'two boxes between hard_hat and person', 'one box that may be a helmet'."""
    kinds: Counter[tuple[int, ...]]
    if scores.shape[1] == 1:
        kinds = Counter([(0,)] * len(scores))
    else:
        top = np.argsort(-scores, axis=1, kind="stable")[:, :2]
        second = np.take_along_axis(scores, top[:, 1:], axis=1)[:, 0]
        first = np.take_along_axis(scores, top[:, :1], axis=1)[:, 0]
        between = second >= np.maximum(first / 3, 0.1)
        kinds = Counter(
            (int(min(a, b)), int(max(a, b))) if two else (int(a),) for (a, b), two in zip(top, between, strict=True)
        )
    kind, count = min(kinds.items(), key=lambda item: (-item[1], item[0]))
    boxes = f"{_count(count)} box{'es' if count > 1 else ''}"
    names = [pool.class_name(c) for c in kind]
    return f"{boxes} between {names[0]} and {names[1]}" if len(names) > 1 else f"{boxes} perhaps {names[0]}"


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


def _group_sizes(pool: Pool) -> dict[int, int]:
    group, count = np.unique(pool.group, return_counts=True)
    return dict(zip(group.tolist(), count.tolist(), strict=True))


def _number(value: Any) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


def _short(value: float) -> str:
    """.31 for 0.31."""
    return f"{value:.2f}".removeprefix("0")


def _count(number: int) -> str:
    return _WORDS[number] if number < len(_WORDS) else str(number)
