"""What keeps the disk in bounds: images nobody labelled, and what retired checkpoints said."""

from __future__ import annotations

from pathlib import Path

from common.errors import HardfirstError
from common.loop.tools import Tools
from common.store.projects import ProjectRow

KEPT_CHECKPOINTS = 2
"""Of a project, besides the serving one: what they said about the pool is kept for a way back."""


def tidy(tools: Tools) -> None:
    """Labelled images and every checkpoint's weights stay; the rest goes, oldest first, down to the settings."""
    projects = tools.store.projects.all()
    tools.media.evict({s.sha256 for p in projects for s in tools.store.samples.all(p.key) if s.sha256 and s.answers})
    kept = {model for p in projects for model in _models(tools, p)}
    trained = {c.sha256 for p in projects for c in tools.store.rounds.checkpoints(p.key)}
    tools.store.predictions.forget(sorted(trained - kept))  # what `rank` asked other weights stays
    for p in projects:
        for done in (r for r in tools.store.rounds.all(p.key) if r.state == "done"):
            (Path(done.folder) / "final.pt").unlink(missing_ok=True)  # a copy of it serves from the model folder


def _models(tools: Tools, row: ProjectRow) -> list[str]:
    """Checkpoints whose predictions are still of use to a project."""
    trained = tools.store.rounds.checkpoints(row.key)
    kept = [c.sha256 for c in trained[-KEPT_CHECKPOINTS:]]
    shown = {p.checkpoint for p in tools.store.publications.all(row.key) if p.state in ("sending", "active")}
    kept += [c.sha256 for c in trained if c.id in shown or c.id == row.checkpoint]
    try:
        kept.append(tools.models.base(row.spec.model_path).sha256)
    except HardfirstError:
        return kept
    return kept
