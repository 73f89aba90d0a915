"""Ordering: the pool as arrays, the strategy's answer as places of a publication."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.acquisition import ACQUISITIONS
from common.domain import Label, Prediction
from common.errors import MediaError, UnknownNameError
from common.loop.publishing import NAME, columns
from common.loop.reading import labels_at
from common.loop.scoring import score_some
from common.loop.thumbnails import decode
from common.loop.tools import Tools
from common.media.pixels import pixels, recompressed
from common.policy import needed
from common.ports import Model
from common.store.projects import ProjectRow
from common.store.publications import Place
from common.store.samples import SampleRow
from common.strategies import REGISTRY, Pool, query
from common.strategies.duplicates import Descriptors, brightened, calibrate, centre_crop, descriptor, groups

FIRST_QUEUE_S = 120.0
"""A first queue that is not complete after this long is published from what has been scored; the rest follows."""

CALIBRATED_ON = 64
"""Images whose copies say how far apart near-duplicates of this pool are."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scored:
    """Everything one order is made from."""

    samples: list[SampleRow]
    predictions: list[Prediction | None]
    labels: Mapping[str, Label]
    model: Model


def check_strategy(strategy: str, acquisition: str) -> None:
    """Raise UnknownNameError, listing the right names, unless both are registered."""
    if strategy not in REGISTRY:
        raise UnknownNameError(f"HARDFIRST_STRATEGY is {strategy!r}; there are {sorted(REGISTRY)}")
    if acquisition not in ACQUISITIONS:
        raise UnknownNameError(f"HARDFIRST_ACQUISITION is {acquisition!r}; there are {sorted(ACQUISITIONS)}")


def order_step(tools: Tools, row: ProjectRow) -> bool:
    """Score a slice, or make the order that was asked for; returns whether there was something to do."""
    first = row.publication is None and tools.store.publications.unfinished(row.key) is None
    if row.first_read is None or not (first or row.order_asked is not None):
        return False
    samples = tools.store.samples.all(row.key)
    if all(s.answers for s in samples):
        if row.order_asked is not None:  # the last image is labelled: nothing is left to order
            tools.store.projects.update(row.key, order_asked=None)
        return False
    waited = tools.clock() - row.first_read
    with tools.timed(row, "score"):
        model, round_number = tools.serving(row)
        scored = score_some(tools, row, model, samples)
    if scored and not (first and waited > FIRST_QUEUE_S):
        return True
    _publish(tools, row, model, round_number, samples)
    return True


def _publish(tools: Tools, row: ProjectRow, model: Model, round_number: int, samples: list[SampleRow]) -> None:
    if not model.usable:
        tools.store.journal.write(row.key, model.reason, "warning")
    with tools.timed(row, "order"):
        scored = _scored(tools, row, model, samples)
        places = order(tools, row, scored)
    seconds = tools.seconds.pop(row.key)
    partial = sum(p is None and not s.problem for s, p in zip(scored.samples, scored.predictions, strict=True))
    tools.store.publications.create(
        row.key,
        name=NAME,
        round_number=round_number,
        checkpoint=row.checkpoint,
        sha8=model.sha256[:8],
        places=places,
        seconds=seconds,
        order_asked=tools.clock() if partial else None,
    )
    log.info("%s: ordered %d images in %.1f s", row.key, len(places), seconds["order"])


def _scored(tools: Tools, row: ProjectRow, model: Model, samples: list[SampleRow]) -> Scored:
    hashes = [s.sha256 for s in samples if s.sha256]
    said = tools.store.predictions.get(model.sha256, tools.settings.imgsz, hashes)
    predictions = [said.get(s.sha256 or "") if not s.problem else None for s in samples]
    return Scored(samples, predictions, labels_at(tools, row), model)


def order(tools: Tools, row: ProjectRow, scored: Scored) -> list[Place]:
    """Every open sample of the project, most informative first."""
    s = tools.settings
    pool = make_pool(tools, row, scored)
    options: dict[str, Any] = {}
    fields = REGISTRY[s.strategy].options.__dataclass_fields__
    if "acquisition" in fields:
        options["acquisition"] = s.acquisition
    if "min_new_labels" in fields:
        options["min_new_labels"] = needed(s.min_new_labels, len(scored.labels))
    rng = np.random.default_rng([s.seed, row.revision])
    selection = query(s.strategy, pool, len(pool), rng, **options)
    total = len(selection.order)
    return [
        Place(
            rank,
            scored.samples[i].external,
            rank / (total + 1),
            round(float(utility), 6),
            _parts(part, scored.samples),
        )
        for rank, (i, utility, part) in enumerate(
            zip(selection.order.tolist(), selection.utility, selection.parts, strict=True), start=1
        )
    ]


def _parts(part: dict[str, Any], samples: list[SampleRow]) -> dict[str, Any]:
    """Rows of the pool are nobody's business outside: the nearest labelled image by its platform id."""
    nearest = part.get("nearest_labelled")
    return {**part, "nearest_labelled": samples[nearest].external} if isinstance(nearest, int) else part


def make_pool(tools: Tools, row: ProjectRow, scored: Scored) -> Pool:
    """The project as arrays."""
    names = row.spec.names
    mapped = columns(row.spec, scored.model.names)
    answered = np.array([s.answers > 0 or s.external in scored.labels for s in scored.samples], bool)
    counts = Counter(b.name for label in scored.labels.values() for b in label.boxes)
    return Pool.from_predictions(
        scored.predictions,
        {names.index(name): hit for name, hit in mapped.items()},
        len(names),
        labelled=answered,
        label_counts=np.array([counts[n] for n in names], np.int64),
        group=duplicate_groups(tools, scored.samples),
        class_names=names,
        slice_hash=np.array([slice_hash(row.key, s.external) for s in scored.samples]),
        knows=bool(mapped),
    )


def slice_hash(key: str, sample: str) -> float:
    """In [0, 1), the same for ever: whether a sample belongs to the random slice, and where in it."""
    digest = hashlib.blake2b(f"{key}/{sample}".encode(), digest_size=8, person=b"hf-slice").digest()
    return int.from_bytes(digest, "big") / 2**64


def duplicate_groups(tools: Tools, samples: list[SampleRow]) -> NDArray[np.int64]:
    """Shape (n,): near-duplicate group of each sample, -1 = none."""
    known = tools.store.predictions.descriptors([s.sha256 for s in samples if s.sha256])
    found = np.full(len(samples), -1, np.int64)
    rows = [i for i, s in enumerate(samples) if s.sha256 in known]
    if len(rows) < 2:
        return found
    bodies = [known[samples[i].sha256 or ""] for i in rows]
    described = decode(bodies)
    threshold = _threshold(tools, [samples[i] for i in rows], described)
    local = groups(described, threshold) if threshold is not None else np.full(len(rows), -1)
    found[rows] = np.where(local >= 0, np.array(rows)[local], -1)
    return found


def _threshold(tools: Tools, samples: list[SampleRow], described: Descriptors) -> float | None:
    """Calibrated on copies of some images of this very pool; None when none of them is on the disk."""
    rng = np.random.default_rng(0)
    originals: list[Descriptors] = []
    copies: list[list[Descriptors]] = []
    for i in sorted(rng.permutation(len(samples))[:CALIBRATED_ON].tolist()):
        path = tools.media.path(samples[i].sha256 or "")
        if path is None:
            continue
        try:
            image = pixels(path)
        except (MediaError, OSError):
            continue
        originals.append(descriptor(image))
        copies.append([descriptor(c) for c in (recompressed(image), centre_crop(image), brightened(image, 1.1))])
    if not originals:
        return None
    kinds = [Descriptors.join(list(kind)) for kind in zip(*copies, strict=True)]
    return calibrate(Descriptors.join(originals), kinds, described, rng)
