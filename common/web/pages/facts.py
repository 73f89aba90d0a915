"""Where a project stands, for the list of projects and the head of its own pages; cheap at any number of labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from common.errors import HardfirstError
from common.loop.curve import summary
from common.loop.tools import Tools
from common.store.projects import ProjectRow
from common.store.publications import PublicationRow
from common.store.rounds import RoundRow
from common.web.kept import Kept
from common.web.pages.words import number

PLATFORMS = {"label-studio": "Label Studio", "cvat": "CVAT"}
STATES = {
    "asked": "will be connected within seconds",
    "active": "active",
    "stopped": "stopped: a person has to decide",
    "archived": "not connected",
}
VERDICTS = {"promoted": "promoted", "provisional": "promoted provisionally", "kept": "kept back", "": "promoted"}
RECENT_S = 86400.0
"""Warnings of the journal are problems for so long."""


@dataclass(frozen=True)
class Facts:
    """Text, '' where there is nothing to say; ``open`` places wait in ``version``, ``answered`` are labelled."""

    key: str
    title: str
    platform: str
    state: str
    state_text: str
    images: str
    labels: str
    share: float
    open: int
    answered: int
    version: str
    training: str
    verdict: str
    advice: str
    unreadable: str
    problems: tuple[str, ...]


def facts(tools: Tools, row: ProjectRow, kept: Kept) -> Facts:
    """Of one project; what is counted may be as old as ``kept`` says, unless a label came since. Raises StoreError."""
    running = tools.store.rounds.running(row.key)
    active = tools.store.publications.get(row.publication) if row.publication else None
    state = (row.created, row.revision, row.publication)
    counts: dict[str, int] = kept.of((row.key, "counts"), state, lambda: _counted(tools, row, active))
    return Facts(
        key=row.key,
        title=row.title or f"Project {row.external}",
        platform=PLATFORMS.get(row.platform, row.platform),
        state=row.state,
        state_text=STATES.get(row.state, row.state),
        images=number(counts["samples"]),
        labels=f"{number(counts['answered'])} of {number(counts['samples'])}",
        share=100 * counts["answered"] / max(1, counts["samples"]),
        open=counts["open"],
        answered=counts["answered"],
        version=active.version if active else "",
        training=_training(running) if running else "",
        verdict=_verdict(tools, row),
        advice=_advice(tools, row),
        unreadable=_unreadable(counts["unreadable"]),
        problems=tuple(_problems(tools, row)),
    )


def _counted(tools: Tools, row: ProjectRow, active: PublicationRow | None) -> dict[str, int]:
    return {**tools.store.samples.counts(row.key), "open": tools.store.gallery.count(active) if active else 0}


def _unreadable(count: int) -> str:
    return f"{number(count)} image{'s' if count > 1 else ''} cannot be read" if count else ""


def _training(running: RoundRow) -> str:
    return f"round {running.number} on {number(running.labels)} labels: {running.progress.get('message') or 'starting'}"


def _verdict(tools: Tools, row: ProjectRow) -> str:
    done = tools.store.rounds.newest(row.key, "done")
    if done is None:
        return ""
    return f"Round {done.number} " + str(done.gate.get("reason") or f"was {VERDICTS.get(done.verdict, done.verdict)}")


def _advice(tools: Tools, row: ProjectRow) -> str:
    try:
        found: dict[str, Any] = summary(tools, row)
    except HardfirstError:
        return ""
    return f"{found['advice']['action']}: {found['advice']['reason']}" if found["points"] else ""


def _problems(tools: Tools, row: ProjectRow) -> list[str]:
    found = [row.reason] if row.reason and row.state != "active" else []
    newest = tools.store.journal.newest(row.key, 50)
    since = tools.clock() - RECENT_S
    bad = [e for e in newest if e.level == "error" and e.at >= since]
    return found + [e.text for e in bad[:1]]
