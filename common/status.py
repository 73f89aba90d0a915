"""What people ask to see: where a project stands, and which settings there are."""

from __future__ import annotations

import ast
import inspect
import itertools
from pathlib import Path
from typing import Any

from common import compose
from common.config import Settings, variable
from common.connection import opened
from common.errors import UnknownNameError
from common.loop.project_settings import differing
from common.loop.reading import labels_at
from common.loop.tools import Tools
from common.loop.training import decide
from common.store.projects import ProjectRow


def statuses(settings: Settings, key: str | None = None) -> list[dict[str, Any]]:
    """``project_status`` of every project, or of one.

    Raises:
        UnknownNameError: No such project.
    """
    with opened(settings) as store:
        tools = compose.tools(settings, store)
        projects = store.projects.all()
        if key is not None and key not in [p.key for p in projects]:
            raise UnknownNameError(f"no project {key!r}; there are {[p.key for p in projects]}")
        return [project_status(tools, p) for p in projects if key in (None, p.key)]


def setting_rows() -> list[tuple[str, str, str]]:
    """(variable, default, meaning) of every setting, in the order of ``Settings``; '' = no default."""
    meanings = _meanings()
    return [
        (variable(name), _default(field.default), meanings[name].rstrip("."))
        for name, field in Settings.model_fields.items()
    ]


def _meanings() -> dict[str, str]:
    """The sentence under each field: the one place where a setting is explained."""
    (source,) = ast.parse(inspect.getsource(Settings)).body
    body = source.body if isinstance(source, ast.ClassDef) else []
    return {
        node.target.id: " ".join(str(below.value.value).split())
        for node, below in itertools.pairwise(body)
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
    }


def _default(value: Any) -> str:
    if value is None or value == ():
        return ""
    if isinstance(value, bool):
        return str(int(value))
    return str(value) if isinstance(value, str | Path) else f"{value:g}" if isinstance(value, float) else str(value)


def project_status(tools: Tools, row: ProjectRow) -> dict[str, Any]:
    """JSON-able; every value but ``warnings`` and ``journal`` is one line of text."""
    counts = tools.store.samples.counts(row.key)
    labels = labels_at(tools, row)
    return {
        "key": row.key,
        "title": row.title,
        "state": row.state + (f": {row.reason}" if row.reason else ""),
        "images": f"{counts['samples']} ({counts['fetched']} read, {counts['unreadable']} unreadable)",
        "labels": f"{len(labels)} usable of {counts['answered']} answered, {counts['skipped']} skipped",
        "training": _training(tools, row),
        "queue": _queue(tools, row),
        "model": _model(tools, row),
        "classes": ", ".join(row.spec.names) or "not read yet",
        "settings": differing(row.settings),
        "warnings": _warnings(tools, row),
        "journal": [{"at": e.at, "level": e.level, "text": e.text} for e in tools.store.journal.newest(row.key, 8)],
    }


def _training(tools: Tools, row: ProjectRow) -> str:
    running = tools.store.rounds.running(row.key)
    if running is not None:
        at = running.progress.get("message") or "starting"
        return f"round {running.number} on {running.labels} labels: {at}"
    newest = tools.store.rounds.newest(row.key)
    last = f"round {newest.number} {newest.state}: {newest.message}; next: " if newest else ""
    return last + decide(tools, row).reason


def _queue(tools: Tools, row: ProjectRow) -> str:
    unfinished = tools.store.publications.unfinished(row.key)
    active = tools.store.publications.get(row.publication) if row.publication else None
    parts = []
    if active is not None:
        _, total = tools.store.publications.open_places(active, 0)
        parts.append(f"{active.version}, {total} open")
    if unfinished is not None:
        parts.append(f"sending {unfinished.version}: {unfinished.sent} of {unfinished.total}")
    return "; ".join(parts) or "none yet"


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
        found.append(f"labels of classes the config no longer has do not train: {', '.join(foreign)}")
    review = [label for label in labels.values() if label.review]
    if review:
        found.append(f"{len(review)} images for review, first: {review[0].sample} ({review[0].review})")
    return found
