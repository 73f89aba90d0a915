"""What keeps the disk in bounds: images nobody labelled, retired checkpoints and what they said, ended trainings."""

from __future__ import annotations

import shutil
from pathlib import Path

from common.loop.promotion import named, retained
from common.loop.tools import Tools
from common.ports import Model
from common.store.projects import ProjectRow
from common.store.rounds import CheckpointRow

WHOLE_FOLDERS = 2
"""Of a project's ended rounds, the newest ones whose folders stay as they are."""
RECORDS = (".json", ".log", ".npz")
"""Of older ones, what says how it went: manifest, result, matches."""


def tidy(tools: Tools) -> None:
    """Labelled images, serving weights and those of the newest rounds stay; the rest goes, down to the settings."""
    projects = tools.store.projects.all()
    tools.media.evict({s.sha256 for p in projects for s in tools.store.samples.all(p.key) if s.sha256 and s.answers})
    kept = [c for p in projects for c in _kept(tools, p)]
    others = [m for p in projects for m in named(tools, p)]
    _drop_weights(tools, projects, kept, others)
    trained = {c.sha256 for p in projects for c in tools.store.rounds.checkpoints(p.key)}
    wanted = {c.sha256 for c in kept} | {m.sha256 for m in others}
    tools.store.predictions.forget(sorted(trained - wanted))  # what `rank` asked other weights stays
    for p in projects:
        _trim_folders(tools, p)


def _kept(tools: Tools, row: ProjectRow) -> list[CheckpointRow]:
    """Checkpoints of a project that serve, or may serve again: the newest, and those of orders that are still kept."""
    placed = tools.store.publications.placed(row.key)
    shown = {p.checkpoint for p in tools.store.publications.all(row.key) if p.id in placed}
    newest = {c.id for c in retained(tools, row)}
    return [c for c in tools.store.rounds.checkpoints(row.key) if c.id in newest | shown]


def _drop_weights(tools: Tools, projects: list[ProjectRow], kept: list[CheckpointRow], others: list[Model]) -> None:
    safe = {Path(c.path) for c in kept} | {m.path for m in others}
    for p in projects:
        for c in tools.store.rounds.checkpoints(p.key):
            if Path(c.path) not in safe:
                Path(c.path).unlink(missing_ok=True)


def _trim_folders(tools: Tools, row: ProjectRow) -> None:
    ended = [r for r in tools.store.rounds.all(row.key) if r.state != "running"]
    for r in ended:
        if r.state == "done":
            (Path(r.folder) / "final.pt").unlink(missing_ok=True)  # a copy of it is in the model folder
    for r in ended[:-WHOLE_FOLDERS]:
        for path in sorted(Path(r.folder).glob("*")):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.suffix not in RECORDS:
                path.unlink(missing_ok=True)
