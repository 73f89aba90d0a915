"""Where a project stands, for the list of projects and the head of its own pages; cheap at any number of labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from common.errors import HardfirstError
from common.loop.curve import summary
from common.loop.tools import Tools
from common.store.gallery import Wanted
from common.store.projects import ProjectRow
from common.store.rounds import RoundRow
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
    """All text; '' where there is nothing to say. ``problems`` are whole sentences."""

    key: str
    title: str
    platform: str
    state: str
    state_text: str
    images: str
    labels: str
    share: float
    queue: str
    training: str
    verdict: str
    advice: str
    problems: tuple[str, ...]


def facts(tools: Tools, row: ProjectRow) -> Facts:
    """Of one project. Raises StoreError."""
    counts = tools.store.samples.counts(row.key)
    running = tools.store.rounds.running(row.key)
    return Facts(
        key=row.key,
        title=row.title or f"Project {row.external}",
        platform=PLATFORMS.get(row.platform, row.platform),
        state=row.state,
        state_text=STATES.get(row.state, row.state),
        images=number(counts["samples"]),
        labels=f"{number(counts['answered'])} of {number(counts['samples'])}",
        share=100 * counts["answered"] / max(1, counts["samples"]),
        queue=_queue(tools, row),
        training=_training(running) if running else "",
        verdict=_verdict(tools, row),
        advice=_advice(tools, row),
        problems=tuple(_problems(tools, row, counts)),
    )


def _queue(tools: Tools, row: ProjectRow) -> str:
    if row.publication is None:
        return ""
    active = tools.store.publications.get(row.publication)
    return f"{number(tools.store.gallery.count(active, Wanted()))} images wait, in the order {active.version}"


def _training(running: RoundRow) -> str:
    return f"round {running.number} on {number(running.labels)} labels: {running.progress.get('message') or 'starting'}"


def _verdict(tools: Tools, row: ProjectRow) -> str:
    done = tools.store.rounds.newest(row.key, "done")
    if done is None:
        return ""
    told = f"round {done.number} was {VERDICTS.get(done.verdict, done.verdict)}"
    return f"{told}: {done.gate['reason']}" if done.gate.get("reason") else told


def _advice(tools: Tools, row: ProjectRow) -> str:
    try:
        found: dict[str, Any] = summary(tools, row)
    except HardfirstError:
        return ""
    return f"{found['advice']['action']}: {found['advice']['reason']}" if found["points"] else ""


def _problems(tools: Tools, row: ProjectRow, counts: dict[str, int]) -> list[str]:
    found = [row.reason] if row.reason and row.state != "active" else []
    if counts["unreadable"]:
        plural = "s" if counts["unreadable"] > 1 else ""
        found.append(f"{number(counts['unreadable'])} image{plural} cannot be read")
    newest = tools.store.journal.newest(row.key, 50)
    since = tools.clock() - RECENT_S
    bad = [e for e in newest if e.level == "error" and e.at >= since]
    return found + [e.text for e in bad[:1]]
