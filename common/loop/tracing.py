"""Which event began what of a project: kept in the store, so that a later step, or another process, says it too.

A wish or a label begins a round, a round or a new image an order, an order what is sent. Each is another step, minutes
later and maybe after a restart: the trace waits under the name of what it is to begin.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from common import logs
from common.loop.tools import Tools
from common.store.projects import ProjectRow

KIND = "trace"
"""Of a project's memory."""
LABELS, TRAIN, WAY_BACK, ORDER, SENDING = "labels", "train", "way back", "order", "sending"
"""What was read last, a wish for a round, a wish to go back, the order to be made, what is being sent."""


def of_round(number: int) -> str:
    """The name under which a round's trace is kept."""
    return f"round {number}"


def keep(tools: Tools, key: str, *names: str) -> None:
    """What is done now begins these; nothing is kept where it has no trace."""
    if trace := logs.current():
        tools.store.memories.of(key).put(KIND, dict.fromkeys(names, trace))


def kept(tools: Tools, key: str, *names: str) -> str:
    """The trace under the first of these names that has one, else ''."""
    found = tools.store.memories.of(key).get(KIND, names)
    return next((str(found[name]) for name in names if name in found), "")


def traces(tools: Tools, key: str) -> dict[str, str]:
    """Name -> trace of everything that is kept of a project: rounds ('round 3') and versions among it."""
    return {name: str(trace) for name, trace in tools.store.memories.of(key).all(KIND).items()}


def drop(tools: Tools, key: str, *names: str) -> None:
    """These have begun."""
    tools.store.memories.of(key).drop(KIND, names)


@contextmanager
def about(tools: Tools, row: ProjectRow, *names: str, **fields: object) -> Iterator[None]:
    """Inside, lines carry the trace under the first of these names that has one, else a fresh one, kept from now on."""
    found = kept(tools, row.key, *names)
    with logs.bound(project=row.key, trace=found or logs.fresh(), **fields):
        if not found:
            keep(tools, row.key, names[0])
        yield
