"""Which labels train and which are measured on: the same sides for ever, whatever comes later."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.loop.ordering import duplicate_groups, keyed_hash, slice_hash
from common.loop.tools import Tools
from common.store.projects import ProjectRow
from common.strategies import Pool

SLICE_SHARE = Pool.slice_share
"""Of all samples, in the random slice."""
FEW = 10
"""With fewer labels all of them train: two or three images would measure nothing."""


@dataclass(frozen=True)
class Split:
    """Sample ids, each in ascending order.

    Attributes:
        train: To train on.
        val: To measure on.
        biased: Those of ``val`` that are not of the random slice: the strategy chose most of them.
        held: Near-duplicates of ``val``; they neither train nor validate.
    """

    train: tuple[str, ...]
    val: tuple[str, ...] = ()
    biased: tuple[str, ...] = ()
    held: tuple[str, ...] = ()

    def stored(self) -> dict[str, Any]:
        """As ``RoundRow.split`` keeps it; what is left trains."""
        return {"val": list(self.val), "biased": list(self.biased), "held": list(self.held), "pseudo": 0}

    def __str__(self) -> str:
        biased = f" ({len(self.biased)} of them not of the random slice)" if self.biased else ""
        held = f", {len(self.held)} look-alikes of those are held back" if self.held else ""
        return f"{len(self.train)} train, {len(self.val)} validate{biased}{held}"


def validates(place: float) -> bool:
    """Whether a member of the random slice, by its ``slice_hash``, is measured on; the others train.

    Odd members validate: a bit of the hash far behind those that decide on membership, so that a member keeps its side
    whoever is labelled besides it.
    """
    return int(place * 2**40) & 1 == 1


def top_up_hash(key: str, sample: str) -> float:
    """In [0, 1), the same for ever: whether a sample outside the slice may be measured on, and how soon."""
    return keyed_hash(key, sample, b"hf-top-up")


def split(
    key: str,
    since: Mapping[str, int],
    groups: Mapping[str, int],
    trained: Collection[str],
    *,
    share: float,
    images: int,
) -> Split:
    """Odd members of the random slice validate, and while those are few, others by a hash of their own.

    Of a group of near-duplicates the first labelled member decides: it trains, and so do the others; or it validates,
    and the others are held. Whatever trained before, and its group, trains: as labels are added, a sample may leave
    validation, never come to it after it trained. Places are taken in hash order, and the slice takes them away.

    Args:
        key: Project key.
        since: Labelled sample -> first revision that had a label of it.
        groups: Sample -> near-duplicate group, samples without one left out.
        trained: Samples that any model of the project trained on.
        share: Of the samples outside the slice, may be measured on, in [0, 1), and never more than this share of all
            labels: few of them would else lose many to bad luck; 0 = the slice alone.
        images: The slice is topped up to so many validation images.

    Returns:
        Every sample of ``since`` on one side. With fewer than ``FEW`` of them, and where nothing would be left to train
        on, all train.
    """
    everything = Split(tuple(sorted(since)))
    if len(since) < FEW:
        return everything
    leaders = _leaders(since, groups)
    known = {groups[s] for s in trained if s in groups}
    free = [s for s in leaders.values() if s not in trained and groups.get(s) not in known]
    place = {s: slice_hash(key, s) for s in free}
    measured = {s for s in free if place[s] < SLICE_SHARE and validates(place[s])}
    luck = {s: top_up_hash(key, s) for s in free if place[s] >= SLICE_SHARE}
    ready = sorted((s for s in luck if luck[s] < share), key=lambda s: (luck[s], s))
    biased = set(ready[: max(0, min(images - len(measured), int(share * len(since))))])
    val = measured | biased
    alike = {groups[s] for s in val if s in groups}
    held = {s for s in since if s not in val and groups.get(s) in alike}
    train = set(since) - val - held
    return Split(*(tuple(sorted(side)) for side in (train, val, biased, held))) if train else everything


def _leaders(since: Mapping[str, int], groups: Mapping[str, int]) -> dict[object, str]:
    """The first labelled member of each group; a sample without a group leads itself."""
    found: dict[object, str] = {}
    for sample in sorted(since, key=lambda s: (since[s], s)):
        found.setdefault(groups.get(sample, sample), sample)
    return found


def split_labels(tools: Tools, row: ProjectRow, samples: Collection[str]) -> Split:
    """The sides of these labelled samples now."""
    s = tools.settings_of(row)
    spans = tools.store.labels.spans(row.key)
    since = {sample: min(first for first, _ in spans[sample]) for sample in samples}
    trained = _trained(tools, row, spans)
    return split(row.key, since, _groups(tools, row), trained, share=s.validation_share, images=s.validation_images)


def _groups(tools: Tools, row: ProjectRow) -> dict[str, int]:
    """Sample -> near-duplicate group, as the newest order saw them."""
    samples = tools.store.samples.all(row.key)
    found = duplicate_groups(tools, row, samples, np.zeros(0, np.int64)).tolist()
    return {s.external: group for s, group in zip(samples, found, strict=True) if group >= 0}


def _trained(tools: Tools, row: ProjectRow, spans: Mapping[str, list[tuple[int, int | None]]]) -> set[str]:
    """Samples that had an answer when a round that left weights began and were not set aside, and those it guessed."""
    found: set[str] = set()
    for done in (r for r in tools.store.rounds.all(row.key) if r.state == "done"):
        there = (
            sample
            for sample, answers in spans.items()
            if any(since <= done.revision and (until is None or until > done.revision) for since, until in answers)
        )
        found |= set(there) - set(done.split.get("val", ())) - set(done.split.get("held", ()))
        found |= set(done.split.get("guessed", ()))
    return found
