"""Publishing: the best block first, then the switch, then the rest; old rows go when nobody is at work."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable

from common.domain import ClassMapping, Prediction, ProjectSpec, QueueItem, ShownBox
from common.errors import PublishError
from common.loop import tracing
from common.loop.tools import Tools
from common.ports import Model, Platform
from common.store.projects import ProjectRow
from common.store.publications import Place, PublicationRow

NAME = "hardfirst"
"""Versions on the platform begin with it."""

MAX_BOXES = 50_000
"""In one call: about 20 MB, which every platform takes."""

RETIRE_SLICE = 20
"""Rows deleted per step."""

log = logging.getLogger(__name__)


def columns(spec: ProjectSpec, names: tuple[str, ...]) -> dict[str, list[int]]:
    """Class of the project -> columns of the model's class vector; classes the model does not know are left out.

    ``predicted_values`` name the model's classes; without them the class's own name does, in any case.
    """
    exact = {n: i for i, n in enumerate(names)}
    folded = {n.casefold(): i for i, n in enumerate(names)}

    def find(mapping: ClassMapping) -> list[int]:
        if mapping.name in exact:
            return [exact[mapping.name]]
        wanted = mapping.model_names or (mapping.name,)
        hits = (exact.get(n, folded.get(n.casefold())) for n in wanted)
        return [h for h in hits if h is not None]

    return {m.name: hit for m in spec.classes if (hit := find(m))}


def shown_boxes(prediction: Prediction, spec: ProjectSpec, names: tuple[str, ...]) -> tuple[ShownBox, ...]:
    """The boxes an annotator sees: mapped classes at ``spec.show_from`` or more, real confidences, best first."""
    mapped = columns(spec, names)
    boxes: list[ShownBox] = []
    for xyxy, scores in zip(prediction.instances.boxes, prediction.instances.scores, strict=True):
        best, name = max(((float(scores[i]), n) for n, hit in mapped.items() for i in hit), default=(0.0, ""))
        # The box is the model's best class's: a lesser mapped class of it would be a false box.
        if name and best >= spec.show_from and best >= float(scores.max()) - 1e-6:
            x1, y1, x2, y2 = (float(v) for v in xyxy)
            boxes.append(ShownBox(name, (x1, y1, x2, y2), min(best, 1.0)))
    return tuple(sorted(boxes, key=lambda b: -b.score))


def finish_switch(tools: Tools, row: ProjectRow, platform: Platform) -> bool:
    """Switch once more where we were cut off around the switch, before it looks like a person's; True if we were."""
    publication = tools.store.publications.unfinished(row.key)
    if publication is None or publication.activated is not None or publication.in_flight or not publication.rows:
        return False
    if platform.published().get(publication.version, 0) < publication.rows:
        tools.store.publications.update(publication.id, state="failed")
        tools.store.projects.update(row.key, order_asked=tools.clock())
        return True
    with tracing.about(tools, row, tracing.SENDING):
        _switch(tools, row, platform, publication)
    return True


def _switch(tools: Tools, row: ProjectRow, platform: Platform, publication: PublicationRow) -> None:
    platform.activate(publication.version)
    tools.store.publications.activate(publication)
    text = f"queue {publication.version} is active: {publication.total} images, hardest first"
    tools.store.journal.write(row.key, text)
    log.info("%s: published %s, which is active: %d images", row.key, publication.version, publication.total)


def publish_step(tools: Tools, row: ProjectRow, platform: Platform) -> bool:
    """Send the next block of the unfinished publication; returns whether there was one."""
    publication = tools.store.publications.unfinished(row.key)
    if publication is None:
        return False
    with tracing.about(tools, row, tracing.SENDING):
        return _publish(tools, row, platform, publication)


def _publish(tools: Tools, row: ProjectRow, platform: Platform, publication: PublicationRow) -> bool:
    if publication.in_flight and not _settle(tools, row, platform, publication):
        return True
    publication = tools.store.publications.get(publication.id)
    started = time.monotonic()
    waits = publication.activated is None and publication.rows  # an order that serves once more: its rows are there
    if publication.sent < publication.total and not waits:
        model, _ = tools.model_of(row, publication.checkpoint)
        _send(tools, row, platform, publication, model)
    publication = tools.store.publications.get(publication.id)
    if publication.activated is None and publication.rows:
        _switch(tools, row, platform, publication)
    elif publication.activated is None and publication.sent >= publication.total:
        tools.store.publications.update(publication.id, state="failed")  # all of it was labelled meanwhile
    seconds = publication.seconds.get("publish", 0.0) + time.monotonic() - started
    tools.store.publications.update(publication.id, seconds={**publication.seconds, "publish": round(seconds, 3)})
    return True


def highest_number(versions: Iterable[str]) -> int:
    """The highest publication number among versions of ours, 0 = none: a forgotten project's stay on the platform."""
    found = (re.fullmatch(rf"{NAME}@\d+\.(\d+)-\w+", v) for v in versions)
    return max((int(m[1]) for m in found if m), default=0)


def block_size(tools: Tools, p: PublicationRow) -> int:
    """Places of the next block: few until the order is active, then many, because each call costs a fixed time."""
    return tools.settings.later_block if p.rows else tools.settings.first_block


def _send(tools: Tools, row: ProjectRow, platform: Platform, p: PublicationRow, model: Model) -> None:
    places = tools.store.publications.places(p.id, p.sent, block_size(tools, p))
    items, passed_by = _items(tools, row, places, model)
    upto = p.sent + passed_by
    # Rows of an order that serves go with deleted samples: what is there now tells whether a cut off call arrived.
    rows = platform.published().get(p.version, 0) if items and p.activated is not None else p.rows
    tools.store.publications.update(p.id, rows=rows, in_flight=len(items), upto=upto)
    created = platform.publish(p.version, items) if items else 0
    if created != len(items):
        tools.store.publications.update(p.id, state="failed", in_flight=0)
        tools.store.projects.update(row.key, order_asked=tools.clock(), reconciled=None)
        raise PublishError(
            f"the platform stored {created} of {len(items)} predictions of {p.version}: the label config may have "
            "changed meanwhile; the former queue stays, a new one is made from the config as it is now"
        )
    passed = {"sent": upto, "rows": rows + created, "in_flight": 0}
    tools.store.publications.update(p.id, **passed)
    if upto >= p.total:
        log.info("%s: published all of %s: %d rows", row.key, p.version, rows + created)


def _items(tools: Tools, row: ProjectRow, places: list[Place], model: Model) -> tuple[list[QueueItem], int]:
    """(items as the platform wants them, places they cover), at most MAX_BOXES boxes (or one crowded image).

    Samples that went or were answered meanwhile are left out.
    """
    samples = tools.store.samples.some(row.key, [p.sample for p in places])
    hashes = [s.sha256 for s in samples.values() if s.sha256]
    said = tools.store.predictions.boxes(model.sha256, tools.settings_of(row).imgsz, hashes)
    items: list[QueueItem] = []
    count = 0
    for passed_by, place in enumerate(places):
        sample = samples.get(place.sample)
        if sample is None or sample.answers:
            continue
        p = said.get(sample.sha256 or "")
        boxes = shown_boxes(p, row.spec, model.names) if p else ()
        count += len(boxes)
        if count > MAX_BOXES and items:
            return items, passed_by
        items.append(QueueItem(place.sample, place.place, boxes, p.width if p else 0, p.height if p else 0))
    return items, len(places)


def _settle(tools: Tools, row: ProjectRow, platform: Platform, p: PublicationRow) -> bool:
    """We were cut off inside a call: did its rows arrive? True when sending can go on."""
    there = platform.published().get(p.version, 0)
    if there == p.rows:
        tools.store.publications.update(p.id, in_flight=0)
        return True
    if there == p.rows + p.in_flight:
        tools.store.publications.update(p.id, sent=p.upto, rows=there, in_flight=0)
        return True
    state = "failed" if p.activated is None else "active"
    tools.store.publications.update(p.id, state=state, in_flight=0, sent=p.total)
    tools.store.projects.update(row.key, order_asked=tools.clock())
    log.warning("%s: %s has %d rows, %d expected; a new publication replaces it", row.key, p.version, there, p.rows)
    return False


def retire_step(tools: Tools, row: ProjectRow, platform: Platform) -> bool:
    """Delete a few rows of a publication that is neither active nor among the kept ones; returns whether any went."""
    everything = tools.store.publications.all(row.key)
    on_platform = [p for p in everything if p.state in ("active", "retired", "failed")]
    keep = {p.id for p in on_platform if p.activated is not None}
    kept = sorted(keep)[-tools.settings.keep_publications :]
    placed = newest_of_each_model(everything, tools.settings.keep_checkpoints)
    for p in on_platform:
        if p.id in kept or p.state == "active":
            continue
        if p.rows:  # from here on it is not whole: who wants it back has it sent again
            tools.store.publications.update(p.id, rows=0)
        if platform.retire(p.version, RETIRE_SLICE):
            return True
        tools.store.publications.update(p.id, state="gone")
        _forget_places(tools, row, placed)
    return False


def newest_of_each_model(publications: Iterable[PublicationRow], models: int) -> set[int]:
    """Ids of the orders kept for a way back: of the newest ``models`` models that served, the newest one each."""
    newest = {p.checkpoint: p.id for p in publications if p.activated is not None}
    return set(sorted(newest.values())[-models:])


def _forget_places(tools: Tools, row: ProjectRow, keep: set[int]) -> None:
    gone = {p.id for p in tools.store.publications.all(row.key) if p.state == "gone"}
    for publication in (gone - keep) & tools.store.publications.placed(row.key):
        tools.store.publications.drop_queue(publication)
