"""The review list: after each round, the labels worth a second look. Reads labels, never writes one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.domain import Annotation, Label, Prediction
from common.errors import HardfirstError, UnknownNameError
from common.geometry import clip, to_fractions
from common.loop.publishing import columns
from common.loop.reading import labels_at
from common.loop.scoring import score_some
from common.loop.tools import Tools
from common.ports import Model, chunks
from common.review import Disputed, Doubts, Finding, Looked, disagreements, doubts, findings, recognised
from common.store.projects import ProjectRow
from common.store.reviews import STATES
from common.store.samples import SampleRow

SLICE = 500
"""Images whose predictions are in memory at once."""

Links = Callable[[ProjectRow, Sequence[str]], list[str]]
"""(project, samples) -> where a person opens each, '' = not known."""

log = logging.getLogger(__name__)


def review_step(tools: Tools, row: ProjectRow) -> bool:
    """Make the list once per finished round, when its order is on the platform; returns whether it did anything.

    Labelled images are scored with the pool; where there is no pool left to score, they are scored here.
    """
    done = tools.store.rounds.newest(row.key, "done")
    if done is None or done.number <= row.reviewed or row.order_asked is not None:
        return False
    if tools.store.publications.unfinished(row.key) is not None:
        return False
    labels = labels_at(tools, row)
    samples = tools.store.samples.some(row.key, list(labels))
    model, _ = tools.serving(row)
    if model.usable and score_some(tools, row, model, list(samples.values())):
        return True
    at = tools.clock()
    contradicted, unseen = _contradicted(tools, row, model, labels, samples)
    found = _known_again(tools, row, contradicted) + _disputed(tools, row)
    new, gone = tools.store.reviews.record(row.key, done.number, found, at, unseen)
    if new or gone:
        text = f"after round {done.number}, {len(found)} places in labels to look at again: {new} new, {gone} settled"
        tools.store.journal.write(row.key, text)
    log.info("%s: reviewed %d labels in %.1f s", row.key, len(labels), tools.clock() - at)
    return True


def _contradicted(
    tools: Tools, row: ProjectRow, model: Model, labels: dict[str, Label], samples: dict[str, SampleRow]
) -> tuple[list[Finding], set[str]]:
    """(what the model contradicts, labelled samples of which it said nothing)."""
    if not model.usable:
        return [], set(labels)
    names = row.spec.names
    mapped = columns(row.spec, model.names)
    known = np.array([n in mapped for n in names], bool)
    unseen = set(labels)
    seen: list[Doubts] = []
    for part in chunks([s for s in samples.values() if s.sha256 and not s.problem], SLICE):
        looked = list(_looked(tools, row, model, labels, part, [mapped.get(n, []) for n in names]))
        unseen -= {i.sample for i in looked}
        seen += [doubts(looked, names, known)] if looked else []
    return findings(seen, len(names)), unseen


def _looked(
    tools: Tools,
    row: ProjectRow,
    model: Model,
    labels: dict[str, Label],
    samples: Sequence[SampleRow],
    hits: Sequence[Sequence[int]],
) -> Iterator[Looked]:
    imgsz = tools.settings_of(row).imgsz
    said = tools.store.predictions.boxes(model.sha256, imgsz, [s.sha256 for s in samples if s.sha256])
    for sample in samples:
        p = said.get(sample.sha256 or "")
        if p is not None:
            yield Looked(sample.external, labels[sample.external].boxes, *_of_project(p, hits))


def _of_project(p: Prediction, hits: Sequence[Sequence[int]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Boxes in fractions and scores of the project's classes, (m, C), of the boxes whose best class is one of those.

    Args:
        p: What the model said.
        hits: For each class of the project, the model's classes.
    """
    all_scores = p.instances.scores
    scores = np.zeros((len(all_scores), len(hits)))
    for c, hit in enumerate(hits):
        if hit:
            scores[:, c] = all_scores[:, list(hit)].max(axis=1)
    ours = scores.max(axis=1, initial=0) >= all_scores.max(axis=1, initial=0) - 1e-6
    boxes = to_fractions(clip(p.instances.boxes, p.width, p.height), p.width, p.height)
    return boxes[ours], scores[ours]


def _known_again(tools: Tools, row: ProjectRow, found: Sequence[Finding]) -> list[Finding]:
    """What nobody drew keeps its mark while it stays at about the same place."""
    before = [r for r in tools.store.reviews.all(row.key) if r.kind == "missed"]
    return recognised(found, ((r.sample, r.mark, Disputed(**r.boxes[0])) for r in before))


def _disputed(tools: Tools, row: ProjectRow) -> list[Finding]:
    """What two people drew differently."""
    trust = tools.settings.trust_converted
    every: dict[str, list[Annotation]] = tools.store.labels.at(row.key, row.revision)
    several = (answers for answers in every.values() if len(answers) > 1)
    return [f for answers in several for f in disagreements(answers, row.spec.names, trust_converted=trust)]


def review_rows(
    tools: Tools,
    row: ProjectRow,
    state: str = "open",
    *,
    start: int = 0,
    limit: int | None = None,
    links: Links | None = None,
) -> list[dict[str, Any]]:
    """The list as people and scripts read it, JSON-able, heaviest first.

    Args:
        tools: Of the service.
        row: The project.
        state: 'open', 'dismissed' or 'gone'. Open findings of a sample that somebody has answered since are left out:
            the next round tells whether they are settled.
        start: Findings passed over.
        limit: So many at most, None = all.
        links: Who knows the platform's addresses, None = a port of it is opened.

    Returns:
        Dicts of 'id' (int, for ``dismiss``), 'sample' (the platform's id, text), 'kind' (of ``common.review.KINDS``),
        'reason' (one sentence), 'weight' (in [0, 1], 1 = look at it first), 'boxes' (list of {'name', 'xyxy' in
        fractions of the image, 'by': 'label', 'model' or a person, 'score': of the model, else None}), 'round',
        'state', 'at' (seconds since the epoch) and 'link' ('' where the platform cannot be opened).

    Raises:
        UnknownNameError: No such state.
    """
    if state not in STATES:
        raise UnknownNameError(f"no state {state!r} of a finding; there are {list(STATES)}")
    rows = tools.store.reviews.waiting(row.key, state, start, limit)
    samples = [r.sample for r in rows]
    addresses = links(row, samples) if links else _links(tools, row, samples)
    return [
        {**{k: v for k, v in asdict(r).items() if k not in ("project", "mark")}, "link": link}
        for r, link in zip(rows, addresses, strict=True)
    ]


def _links(tools: Tools, row: ProjectRow, samples: Sequence[str]) -> list[str]:
    """One per sample, '' where the platform's settings are missing: the list is worth showing without them."""
    if not samples:
        return []
    try:
        platform = tools.open(row)
        return [platform.link(s) for s in samples]
    except HardfirstError as error:
        log.warning("%s: the review list is shown without links: %s", row.key, error)
        return [""] * len(samples)


def dismiss(tools: Tools, row: ProjectRow, finding: int) -> None:
    """A person looked and the label is right: not listed again while what is disputed stays the same; idempotent.

    Raises:
        UnknownNameError: The project has no finding of this id.
    """
    if not tools.store.reviews.dismiss(row.key, finding):
        raise UnknownNameError(
            f"{row.key} has no finding {finding}: `hardfirst review --project {row.key}` lists them with their ids"
        )
