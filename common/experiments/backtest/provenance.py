"""What the results of one folder were made by, told where it differs: devices, versions, the training itself."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from common.experiments.backtest.arms import UNIFORM

Records = Sequence[dict[str, Any]]


def told(records: Records, references: Records) -> list[str]:
    """One sentence for each thing that differs; nothing is said of rounds that do not name theirs."""
    return [*_devices(records, references), *_versions(records, references), *_first_trainings(records)]


def _rounds(records: Records, references: Records) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every round, the references' too, with the record that it stands in."""
    yield from ((r, one) for r in records for one in r["rounds"])
    yield from ((r, r["round"]) for r in references)


def _devices(records: Records, references: Records) -> list[str]:
    found = Counter(one["device"] for _, one in _rounds(records, references) if "device" in one)
    if len(found) < 2:
        return []
    counts = ", ".join(f"{n} rounds on {name}" for name, n in sorted(found.items()))
    return [f"Trained on several devices, whose arithmetic differs in the last digits: {counts}."]


def _versions(records: Records, references: Records) -> list[str]:
    """By round; a round from before rounds kept them has those of its record, which are of the last one played."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for record, one in _rounds(records, references):
        for name, version in (one.get("versions") or record.get("versions") or {}).items():
            found[name][version] += 1
    several = [
        f"{name} {', '.join(f'{version} ({n} rounds)' for version, n in sorted(counts.items()))}"
        for name, counts in sorted(found.items())
        if len(counts) > 1
    ]
    return [f"Played with several versions, which may train otherwise: {'; '.join(several)}."] if several else []


def _first_trainings(records: Records) -> list[str]:
    """All arms of a unit begin with one training: where its figures differ, the later ones are no pairs either."""
    first = {(r["data"], r["seed"]): r["rounds"][0] for r in records if r["arm"] == UNIFORM and r["rounds"]}
    apart: dict[str, list[float]] = defaultdict(list)
    for record in records:
        base = first.get((record["data"], record["seed"]))
        if base is None or not record["rounds"] or record["rounds"][0]["picked"] != base["picked"]:
            continue
        difference = abs(record["rounds"][0]["metrics"]["map5095"] - base["metrics"]["map5095"])
        if difference:
            apart[f"{record['data']}-{record['seed']}"].append(difference)
    if not apart:
        return []
    units = ", ".join(f"{name} ({len(found)} arms, up to {max(found):.4f})" for name, found in sorted(apart.items()))
    return [
        "The first training, which all arms of a unit share, came out otherwise than for uniform, by another version "
        f"or on another machine: {units}. Uniform's figures stand for it; later rounds differ by that chance, too."
    ]
