"""Near-duplicate groups of real photographs against published lists: precision and recall of pairs."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from rich.table import Table

from bench import inputs
from bench.report import Report, tell
from common.loop.lookalikes import calibrated, near_duplicates
from common.loop.thumbnails import decode, describe
from common.strategies.duplicates import Descriptors, distances

SETS = ("bccd", "cards", "plates")
QUICK = 100
"""Images of a set, in the order of their names, with --quick."""
SHOWN = 12

Figures = tuple[int, float, float]
"""Pairs, precision, recall."""

Pair = tuple[int, int]


@dataclass(frozen=True)
class Found:
    """What the product's own groups say of one data set.

    A pair is found when both images are in one group, near when its distance is within the threshold, listed when the
    set's ``near_duplicates.txt`` has it.

    Attributes:
        name: Of the data set.
        images: How many.
        threshold: The calibrated distance.
        groups: Groups of two and more images.
        grouped: Images in them.
        listed: Pairs of the list.
        found: Pairs within groups: how many, precision, recall.
        near: Pairs within the threshold: how many, precision, recall.
        describe_s: Seconds for decoding and describing all images.
        group_s: Seconds for the threshold and the groups.
        unlisted: Pairs found but not listed: first, second, distance.
        missed: Pairs listed but not found: first, second, distance.
    """

    name: str
    images: int
    threshold: float
    groups: int
    grouped: int
    listed: int
    found: Figures
    near: Figures
    describe_s: float
    group_s: float
    unlisted: list[tuple[str, str, float]]
    missed: list[tuple[str, str, float]]


def run(*, quick: bool) -> Report:
    """Group every data set as a project's images are grouped; quick: the first hundred of each."""
    report = Report("duplicates", quick)
    answers: list[Found] = []
    with report.measured():
        for name in SETS:
            tell(f"near-duplicates of {name}")
            answers.append(measure(inputs.data_set(name), QUICK if quick else None))
    report.numbers = {a.name: asdict(a) for a in answers}
    report.show(_table(answers), _pairs(answers))
    return report


def measure(folder: Path, most: int | None = None) -> Found:
    """One data set: images/, near_duplicates.txt."""
    files = sorted((folder / "images").iterdir())[:most]
    began = time.perf_counter()
    bodies = [describe(f) for f in files]
    described = decode(bodies)
    middle = time.perf_counter()
    group = near_duplicates(bodies, files.__getitem__)
    ended = time.perf_counter()
    threshold = calibrated(range(len(files)), files.__getitem__, described) or 0.0
    found = {p for g in np.unique(group[group >= 0]) for p in combinations(np.flatnonzero(group == g).tolist(), 2)}
    listed = _listed(folder / "near_duplicates.txt", {f.stem: i for i, f in enumerate(files)})

    def named(pairs: Iterable[Pair]) -> list[tuple[str, str, float]]:
        rows = np.array(sorted(pairs), np.int64).reshape(-1, 2)
        far = distances(described.take(rows[:, 0]), described.take(rows[:, 1]))
        said = [(files[a].stem, files[b].stem, round(float(d), 2)) for (a, b), d in zip(rows, far, strict=True)]
        return sorted(said, key=lambda p: p[2])

    return Found(
        folder.name,
        len(files),
        round(float(threshold), 3),
        len(np.unique(group[group >= 0])),
        int((group >= 0).sum()),
        len(listed),
        _figures(found, listed),
        _figures(_within(described, threshold), listed),
        round(middle - began, 3),
        round(ended - middle, 3),
        named(found - listed),
        named(listed - found),
    )


def _listed(path: Path, index: dict[str, int]) -> set[Pair]:
    """Pairs of the list whose two images are both in ``index``, lower index first."""
    names = [line.split()[2:4] for line in path.read_text().splitlines() if line and not line.startswith("#")]
    rows = [(index[a], index[b]) for a, b in names if a in index and b in index]
    return {(min(r), max(r)) for r in rows}


def _figures(pairs: set[Pair], listed: set[Pair]) -> Figures:
    """Precision is 1 where no pair is found, recall where none is listed."""
    both = len(pairs & listed)
    return len(pairs), round(both / len(pairs), 3) if pairs else 1.0, round(both / len(listed), 3) if listed else 1.0


def _within(described: Descriptors, threshold: float) -> set[Pair]:
    """Every pair up to the threshold, row by row."""
    out: set[Pair] = set()
    for row in range(len(described) - 1):
        others = np.arange(row + 1, len(described))
        far = distances(described.take(np.full(len(others), row)), described.take(others))
        out |= {(row, int(other)) for other in others[far <= threshold]}
    return out


def _table(answers: list[Found]) -> Table:
    head = ("data set", "images", "threshold", "groups", "listed", "in groups: n, P, R", "near: n, P, R", "seconds")
    table = Table(*head, title="near-duplicate pairs against the lists; seconds: describe + group")
    for a in answers:
        table.add_row(
            a.name,
            str(a.images),
            f"{a.threshold:.2f}",
            f"{a.groups} of {a.grouped}",
            str(a.listed),
            "{}, {:.2f}, {:.2f}".format(*a.found),
            "{}, {:.2f}, {:.2f}".format(*a.near),
            f"{a.describe_s:.2f} + {a.group_s:.2f}",
        )
    return table


def _pairs(answers: list[Found]) -> Table:
    table = Table("data set", "what", "first", "second", "distance", title="pairs that differ from the lists")
    for a in answers:
        for what, pairs in (("not listed", a.unlisted), ("missed", a.missed)):
            for first, second, far in pairs[:SHOWN]:
                table.add_row(a.name, what, first, second, f"{far:.1f}")
            if len(pairs) > SHOWN:
                table.add_row(a.name, what, f"... and {len(pairs) - SHOWN} more", "", "")
    return table
