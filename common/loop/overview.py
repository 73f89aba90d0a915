"""Where a project stands, in words: what `hardfirst status` and /api/status tell."""

from __future__ import annotations

from typing import Any

from common.loop import tracing
from common.loop.curve import summary
from common.loop.history import training_history
from common.loop.project_settings import differing
from common.loop.reading import labels_at
from common.loop.tools import Tools
from common.loop.training import decide
from common.ports import TOLD
from common.store.projects import ProjectRow


def project_status(tools: Tools, row: ProjectRow) -> dict[str, Any]:
    """JSON-able; every value is one line of text, but ``warnings``, ``journal`` and ``platform``: name -> line."""
    counts = tools.store.samples.counts(row.key)
    labels = labels_at(tools, row)
    return {
        "key": row.key,
        "title": row.title,
        "state": row.state + (f": {row.reason}" if row.reason else ""),
        "images": f"{counts['samples']} ({counts['fetched']} read, {counts['unreadable']} unreadable)",
        "labels": f"{len(labels)} usable of {counts['answered']} answered, {counts['skipped']} skipped",
        "training": _training(tools, row),
        "verdict": _verdict(tools, row),
        "advice": _advice(tools, row),
        "queue": _queue(tools, row),
        "trace": _trace(tools, row),
        "model": _model(tools, row),
        "classes": ", ".join(row.spec.names) or "not read yet",
        "settings": differing(row.settings),
        "platform": tools.store.memories.of(row.key).all(TOLD),
        "warnings": _warnings(tools, row),
        "journal": [{"at": e.at, "level": e.level, "text": e.text} for e in tools.store.journal.newest(row.key, 8)],
    }


def _training(tools: Tools, row: ProjectRow) -> str:
    running = tools.store.rounds.running(row.key)
    if running is not None:
        at = running.progress.get("message") or "starting"
        metrics = running.progress.get("metrics", {}).items()
        losses = [f"{name.removesuffix('_loss')} {value:.3g}" for name, value in metrics if name.endswith("_loss")]
        told = f"; losses: {', '.join(losses)}" if losses else ""
        return f"round {running.number} on {running.labels} labels: {at}{told}"
    newest = tools.store.rounds.newest(row.key)
    last = f"round {newest.number} {newest.state}: {newest.message}; next: " if newest else ""
    return last + decide(tools, row).reason


def _verdict(tools: Tools, row: ProjectRow) -> str:
    judged = [r for r in training_history(tools, row) if r["verdict"]]
    return f"round {judged[-1]['number']} {judged[-1]['reason']}" if judged else ""


def _advice(tools: Tools, row: ProjectRow) -> str:
    found = summary(tools, row)
    return f"{found['advice']['action']}: {found['advice']['reason']}" if found["points"] else ""


def _queue(tools: Tools, row: ProjectRow) -> str:
    unfinished = tools.store.publications.unfinished(row.key)
    active = tools.store.publications.get(row.publication) if row.publication else None
    parts = []
    if active is not None:
        _, total = tools.store.publications.open_places(active, 0)
        parts.append(f"{active.version}, {total} open")
    if unfinished is not None:
        parts.append(f"sending {unfinished.version}: {unfinished.sent} of {unfinished.total}")
    if row.way_back:
        wish = row.way_back
        parts.append(f"about to serve: {wish['to'] if 'to' in wish else 'the model of round ' + str(wish['round'])}")
    return "; ".join(parts) or "none yet"


def _trace(tools: Tools, row: ProjectRow) -> str:
    """Of the round that runs, else of the order that serves: what its log lines are found by."""
    running = tools.store.rounds.running(row.key)
    names = [tracing.of_round(running.number)] if running is not None else []
    if row.publication is not None:
        names.append(tools.store.publications.get(row.publication).version)
    return tracing.kept(tools, row.key, *names)


def _model(tools: Tools, row: ProjectRow) -> str:
    if row.checkpoint is None:
        return f"{row.spec.model_path or tools.settings.model} (as it came)"
    c = tools.store.rounds.checkpoint(row.checkpoint)
    return f"round {c.round}, {c.sha256[:8]}"


def _warnings(tools: Tools, row: ProjectRow) -> list[str]:
    found = [f"image of {s.external}: {s.problem}" for s in tools.store.samples.problems(row.key, 5)]
    labels = labels_at(tools, row)
    foreign = sorted({b.name for label in labels.values() for b in label.boxes} - set(row.spec.names))
    if row.spec.names and foreign:
        found.append(f"labels of classes the project no longer has do not train: {', '.join(foreign)}")
    review = [label for label in labels.values() if label.review]
    if review:
        found.append(f"{len(review)} images for review, first: {review[0].sample} ({review[0].review})")
    return found
