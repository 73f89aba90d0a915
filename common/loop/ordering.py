"""Ordering: the pool as arrays, the strategy's answer as places of a publication."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.domain import Ints, Label, Prediction
from common.loop import project_settings, tracing
from common.loop.committee import committee_of, evidence_missing
from common.loop.publishing import NAME, columns
from common.loop.reading import labels_at
from common.loop.results import known_quality
from common.loop.scoring import score_some
from common.loop.tools import Tools
from common.ports import Model
from common.store.projects import ProjectRow
from common.store.publications import Place
from common.store.samples import SampleRow
from common.strategies import Pool, query
from common.strategies.image_value import Aggregated
from common.strategies.stream import Options

FIRST_QUEUE_S = 120.0
"""A first queue that is not complete after this long is published from what has been scored; the rest follows."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scored:
    """Everything one order is made from."""

    samples: list[SampleRow]
    predictions: list[Prediction | None]
    labels: Mapping[str, Label]
    model: Model


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
    project_settings.check_project(tools.settings, row.settings)
    waited = tools.clock() - row.first_read
    with tracing.about(tools, row, tracing.ORDER):
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
        scored = gather(tools, row, model, samples)
        places = order(tools, row, scored)
    seconds = tools.seconds.pop(row.key)
    partial = sum(p is None and not s.problem for s, p in zip(scored.samples, scored.predictions, strict=True))
    made = tools.store.publications.create(
        row.key,
        name=NAME,
        round_number=round_number,
        checkpoint=row.checkpoint,
        sha8=model.sha256[:8],
        places=places,
        seconds=seconds,
        order_asked=tools.clock() if partial else None,
    )
    tracing.keep(tools, row.key, made.version, tracing.SENDING)
    if not partial:
        tracing.drop(tools, row.key, tracing.ORDER)
    now = tools.store.projects.get(row.key)
    if now is not None and now.settings != row.settings:  # a person changed them while this order was made
        tools.store.projects.update(row.key, order_asked=tools.clock())
    log.info("%s: ordered %d images in %.1f s: %s", row.key, len(places), seconds["order"], made.version)


def gather(tools: Tools, row: ProjectRow, model: Model, samples: list[SampleRow]) -> Scored:
    """What ``model`` said of these samples, and what people did."""
    hashes = [s.sha256 for s in samples if s.sha256]
    looks = committee_of(tools, row, model).looks
    said = tools.store.predictions.get(model.sha256, tools.settings_of(row).imgsz, hashes, looks)
    predictions = [said.get(s.sha256 or "") if not s.problem else None for s in samples]
    return Scored(samples, predictions, labels_at(tools, row), model)


def order(tools: Tools, row: ProjectRow, scored: Scored) -> list[Place]:
    """Every open sample of the project, most informative first."""
    pool = make_pool(tools, row, scored, duplicate_groups(tools, row, scored.samples))
    name, options = strategy(tools, row, len(scored.labels))
    selection = query(name, pool, len(pool), generator(tools, row), **options)
    total = len(selection.order)
    return [
        Place(
            rank,
            scored.samples[i].external,
            rank / (total + 1),
            round(float(utility), 6),
            outward(part, scored.samples),
        )
        for rank, (i, utility, part) in enumerate(
            zip(selection.order.tolist(), selection.utility, selection.parts, strict=True), start=1
        )
    ]


def strategy(tools: Tools, row: ProjectRow, labels: int) -> tuple[str, dict[str, Any]]:
    """(name, options) of the strategy that orders a project with so many labels."""
    s = tools.settings_of(row)
    options = project_settings.whole_options(s, labels)
    if "acquisition" in options:
        options["acquisition"] = _acquisition(tools, row)
    kept = row.arrivals.get("threshold")
    if s.strategy == "stream" and kept:
        model, _ = tools.serving(row)
        if kept["scale"] == utility_scale(model, Options(**options)):
            options["level"] = kept["level"]
    return s.strategy, options


def utility_scale(model: Model, options: Aggregated) -> str:
    """What utilities are measured by: levels can be compared where this is the same."""
    return f"{model.sha256[:8]}/{options.scale}"


def _acquisition(tools: Tools, row: ProjectRow) -> str:
    """The project's, or entropy while nobody else of its committee is there."""
    wanted = tools.settings_of(row).acquisition
    model, _ = tools.serving(row)
    missing = evidence_missing(wanted, committee_of(tools, row, model))
    if missing and model.usable:
        tools.store.journal.write(row.key, f"{missing}: the order goes by entropy so far", "warning")
    return "entropy" if missing else wanted


def generator(tools: Tools, row: ProjectRow) -> np.random.Generator:
    """The same for the same labels."""
    return np.random.default_rng([tools.settings_of(row).seed, row.revision])


def outward(part: dict[str, Any], samples: list[SampleRow]) -> dict[str, Any]:
    """Rows of the pool are nobody's business outside: the nearest labelled image by its platform id."""
    nearest = part.get("nearest_labelled")
    return {**part, "nearest_labelled": samples[nearest].external} if isinstance(nearest, int) else part


def make_pool(tools: Tools, row: ProjectRow, scored: Scored, group: Ints) -> Pool:
    """The project as arrays; ``group`` from ``duplicate_groups``."""
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
        group=group,
        class_names=names,
        quality=known_quality(tools, row, scored.model),
        slice_hash=np.array([slice_hash(row.key, s.external) for s in scored.samples]),
        knows=bool(mapped),
        points=tools.keeper(row.key),
    )


def slice_hash(key: str, sample: str) -> float:
    """In [0, 1), the same for ever: whether a sample belongs to the random slice, and where in it."""
    return keyed_hash(key, sample, b"hf-slice")


def keyed_hash(key: str, sample: str, purpose: bytes) -> float:
    """In [0, 1), the same for ever, independent from one purpose (at most 16 bytes) to another."""
    digest = hashlib.blake2b(f"{key}/{sample}".encode(), digest_size=8, person=purpose).digest()
    return int.from_bytes(digest, "big") / 2**64


def duplicate_groups(tools: Tools, row: ProjectRow, samples: list[SampleRow], new: Ints | None = None) -> Ints:
    """Shape (n,): near-duplicate group of each sample, -1 = none; anew, or kept and joined by the samples ``new``."""
    known = tools.store.predictions.descriptors([s.sha256 for s in samples if s.sha256])
    bodies = [known.get(s.sha256 or "") for s in samples]
    kept = tools.lookalikes(row.key)

    def path(i: int) -> Path | None:
        return tools.media.path(samples[i].sha256 or "")

    return kept.whole(bodies, path) if new is None else kept.grown(bodies, path, new)
