"""What people and scripts ask of one project: the same answers for the commands (with --json) and for /api/."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from common import logs
from common.errors import RefusedError
from common.loop import tracing
from common.loop.curve import summary
from common.loop.history import training_history
from common.loop.measures import kpis
from common.loop.overview import project_status
from common.loop.reviewing import dismiss, review_rows
from common.loop.tools import Tools
from common.store.projects import ProjectRow


def review(tools: Tools, row: ProjectRow, state: str = "open", **page: Any) -> dict[str, Any]:
    """The review list, see ``reviewing.review_rows``, which also takes ``page``. Raises UnknownNameError."""
    return {"project": row.key, "review": review_rows(tools, row, state, **page)}


ANSWERS: dict[str, Callable[[Tools, ProjectRow], Any]] = {
    "status": lambda tools, row: [project_status(tools, row)],
    "rounds": lambda tools, row: {"project": row.key, "rounds": training_history(tools, row)},
    "curve": lambda tools, row: {"project": row.key, **summary(tools, row)},
    "kpi": lambda tools, row: {"project": row.key, **kpis(tools, row)},
    "review": review,
}
"""Name -> what is there to know, JSON-able. Asking changes nothing."""


def ask_training(tools: Tools, row: ProjectRow) -> dict[str, Any]:
    """A person wants a round now, whatever the number of new labels.

    Raises:
        RefusedError: The project is not connected.
    """
    if row.state == "archived":
        raise RefusedError(
            f"{row.key} is not connected: run `hardfirst connect {row.platform} --project {row.external}` first"
        )
    with logs.bound(trace=logs.current() or logs.fresh()):
        tracing.keep(tools, row.key, tracing.TRAIN)
        tools.store.projects.update(row.key, training_asked=tools.clock())
    return {"project": row.key, "training": "asked"}


def cancel(tools: Tools, row: ProjectRow) -> dict[str, Any]:
    """End the running round at once; the loop stops its training. The next one waits for new labels, or to be asked.

    Raises:
        RefusedError: None is running.
    """
    running = tools.store.rounds.running(row.key)
    if running is None:
        raise RefusedError(f"no round of {row.key} is running: `hardfirst rounds --project {row.key}` lists them")
    tools.store.projects.update(row.key, training_asked=None)
    tools.store.rounds.end(running.id, "cancelled", "cancelled by a person")
    newest = tools.store.rounds.newest(row.key)
    if newest is None or (newest.id, newest.state) != (running.id, "cancelled"):
        raise RefusedError(f"round {running.number} of {row.key} ended before it could be cancelled")
    tools.store.journal.write(row.key, f"round {running.number} was cancelled by a person", "warning")
    return {"project": row.key, "round": running.number, "state": "cancelled"}


def dismiss_finding(tools: Tools, row: ProjectRow, finding: int) -> dict[str, Any]:
    """A person looked at a finding of the review list and the label is right. Raises UnknownNameError."""
    dismiss(tools, row, finding)
    return {"project": row.key, "dismissed": finding}
