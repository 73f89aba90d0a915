"""Reading a platform: a hint says where to look, the fetch is the truth, the comparison finds what hints missed."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from common import logs
from common.consensus import training_label
from common.domain import Annotation, Label, RemoteSample
from common.loop import tracing
from common.loop.tools import Tools
from common.ports import Platform
from common.store.inbox import Hint
from common.store.projects import ProjectRow
from common.strategies.insertion import few

OVERLAP_S = 5.0
"""Labels changed this long before the watermark are read once more: writes that were under way are not missed."""

PATIENCE = 20
"""A comparison that took t seconds is not repeated for PATIENCE * t, so that large projects are not worn out."""

log = logging.getLogger(__name__)


def follow_hints(tools: Tools, row: ProjectRow, platform: Platform) -> bool:
    """Act on the events that came in, under the trace of the first; returns whether there were any."""
    hints = tools.store.inbox.pending(row.platform, row.external)
    if not hints:
        return False
    with logs.bound(project=row.key, trace=_trace(hints)):
        log.info("%s: reads what %d events are about: %s", row.key, len(hints), _kinds(hints))
        log.debug("%s: their traces are %s", row.key, [h.trace for h in hints])
        _follow(tools, row, platform, hints)
    return True


def _trace(hints: list[Hint], kind: str = "") -> str:
    """Of the first of these, or of the first of a kind, else a fresh one."""
    return next((h.trace for h in hints if h.trace and kind in ("", h.event.kind)), "") or logs.fresh()


def _kinds(hints: list[Hint]) -> str:
    return ", ".join(dict.fromkeys(h.event.kind for h in hints))


def _follow(tools: Tools, row: ProjectRow, platform: Platform, hints: list[Hint]) -> None:
    events = [h.event for h in hints]
    moved = read_samples(tools, row, platform) if any(e.kind == "samples" for e in events) else []
    label_events = [e for e in events if e.kind == "labels"]
    named = {s for e in label_events for s in e.samples} | set(moved if row.watermark is not None else [])
    named |= set(tools.store.labels.samples_of(row.key, [a for e in label_events for a in e.annotations]))
    if named:
        _record(tools, row, platform, samples=sorted(named))
    if any(not e.samples and not e.annotations for e in label_events):
        _record(tools, row, platform, since=row.watermark)
    if label_events:
        tracing.keep(tools, row.key, tracing.LABELS)
    with logs.bound(trace=_trace(hints, "train")):
        _ask_training(tools, row, [h.at for h in hints if h.event.kind == "train"])
    tools.store.inbox.done([h.id for h in hints])


def _ask_training(tools: Tools, row: ProjectRow, asked: list[float]) -> None:
    """A person asked for a round: after the labels are read, so that it has them, and once, also when cut off.

    A round that started since then was the answer.
    """
    newest = tools.store.rounds.newest(row.key)
    if asked and (newest is None or newest.started < max(asked)):
        tracing.keep(tools, row.key, tracing.TRAIN)
        tools.store.projects.update(row.key, training_asked=tools.clock())


def compare(tools: Tools, row: ProjectRow, platform: Platform) -> None:
    """Make everything we know equal to what the platform says: project, samples, labels."""
    with logs.bound(project=row.key, trace=logs.fresh()):
        _compare(tools, row, platform)


def _compare(tools: Tools, row: ProjectRow, platform: Platform) -> None:
    started = time.monotonic()
    spec = platform.spec()
    if spec != row.spec:
        _tell_class_changes(tools, row, row.spec.names, spec.names)
        tools.store.projects.update(row.key, spec=spec, order_asked=tools.clock() if row.publication else None)
    seen: list[float] = []
    moved = read_samples(tools, row, platform, seen)
    _record(tools, row, platform, since=row.watermark, seen=max(seen, default=0.0))
    if moved and row.watermark is not None:
        _record(tools, row, platform, samples=moved)
    took = time.monotonic() - started
    now = tools.clock()
    first = {} if row.first_read else {"first_read": now}
    tools.store.projects.update(row.key, reconciled=now + PATIENCE * took, **first)


def read_samples(tools: Tools, row: ProjectRow, platform: Platform, seen: list[float] | None = None) -> list[str]:
    """Read the platform's list of samples; returns those whose number of answers is not as recorded.

    Args:
        tools: Of the loop.
        row: The project.
        platform: Its port.
        seen: Gets the platform's own times of change, seconds since the epoch.
    """

    def listed() -> Iterator[RemoteSample]:
        for sample in platform.samples():
            if seen is not None and sample.updated is not None:
                seen.append(sample.updated.timestamp())
            yield sample

    new, lost, moved = tools.store.samples.replace(row.key, listed())
    if lost or not set(new).isdisjoint(moved):  # what was agreed on before may name them, or lack what came back
        tools.labels.clear()
    if new or lost:
        tools.store.journal.write(row.key, f"{len(new)} new images, {len(lost)} removed")
    _ask_order(tools, row)
    return moved


def _ask_order(tools: Tools, row: ProjectRow) -> None:
    """Images without a place in the newest order need one: seen from the store, whenever we were cut off."""
    queue = tools.store.publications.unfinished(row.key)
    if queue is None and row.publication is not None:
        queue = tools.store.publications.get(row.publication)
    if queue is None or row.order_asked is not None:
        return
    new = len(tools.store.samples.unplaced(row.key, queue.id))
    if not new:
        return
    tracing.keep(tools, row.key, tracing.ORDER)
    if few(new, tools.store.publications.open_places(queue, 0)[1]):
        tools.store.projects.update(row.key, arrivals={**row.arrivals, "asked": tools.clock()})
    else:
        tools.store.projects.update(row.key, order_asked=tools.clock())


def labels_at(tools: Tools, row: ProjectRow, revision: int | None = None) -> dict[str, Label]:
    """Sample id -> the label that trains, as of a revision (None = now)."""
    wanted = row.revision if revision is None else revision
    key = (row.key, row.created, wanted)
    if key not in tools.labels:
        trust, answers = tools.settings.trust_converted, tools.store.labels.at(row.key, wanted)
        agreed = {s: training_label(a, trust_converted=trust) for s, a in answers.items()}
        for stale in [k for k in tools.labels if k[0] == row.key][:-3]:
            del tools.labels[stale]
        tools.labels[key] = {s: label for s, label in agreed.items() if label is not None}
    return tools.labels[key]


def _record(
    tools: Tools,
    row: ProjectRow,
    platform: Platform,
    *,
    since: float | None = None,
    samples: list[str] | None = None,
    seen: float = 0.0,
) -> None:
    """Fetch and record, sample by sample as they come, so that a long first reading survives a crash.

    ``seen`` is the newest change in a listing made before: everything up to there has been read afterwards.
    """
    moment = None if since is None else datetime.fromtimestamp(since - OVERLAP_S, UTC)
    found = platform.annotations(samples=samples) if samples is not None else platform.annotations(since=moment)
    latest = max(row.watermark or 0.0, seen)
    batch: list[tuple[str, list[Annotation]]] = []
    changes = 0
    for sample, answers in found:
        batch.append((sample, answers))
        latest = max([latest, *(a.updated.timestamp() for a in answers)])
        if len(batch) == 100:
            changes += tools.store.labels.record(row.key, batch, tools.clock())
            batch = []
    changes += tools.store.labels.record(row.key, batch, tools.clock())
    if samples is None:
        tools.store.projects.update(row.key, watermark=latest)
    if changes:
        tracing.keep(tools, row.key, tracing.LABELS)
        log.info("%s: %d label changes", row.key, changes)


def _tell_class_changes(tools: Tools, row: ProjectRow, before: tuple[str, ...], after: tuple[str, ...]) -> None:
    added = [n for n in after if n not in before]
    removed = [n for n in before if n not in after]
    if before and added:
        tools.store.journal.write(row.key, f"classes added: {', '.join(added)}")
    if removed:
        text = f"classes renamed or removed: {', '.join(removed)}; their boxes no longer train, nothing was deleted"
        tools.store.journal.write(row.key, text, "warning")
