"""The way back: a person restores a former queue with its model, or makes a model the champion that was kept back.

What is asked for is checked at once and again by the loop, which does it before it publishes. Labels are not touched.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from common.errors import ModelError, RefusedError, UnknownNameError
from common.loop import tracing
from common.loop.publishing import NAME
from common.loop.tools import Tools
from common.ports import Platform
from common.store.projects import ProjectRow
from common.store.publications import PublicationRow
from common.store.rounds import CheckpointRow

log = logging.getLogger(__name__)


def restorable(tools: Tools, row: ProjectRow) -> list[PublicationRow]:
    """Queues a person can go back, or forward, to, oldest first: order, weights and predictions are all there."""
    placed = tools.store.publications.placed(row.key)
    return [p for p in tools.store.publications.all(row.key) if not _problem(tools, row, p, placed)]


def ask_way_back(tools: Tools, row: ProjectRow, to: str | None = None) -> dict[str, Any]:
    """Have the loop go back to a former queue.

    Args:
        tools: Of the service.
        row: The project.
        to: A publication's version; None = the newest queue of the model that served before the one that does now, so
            that asking twice goes back twice.

    Returns:
        'project', 'from' (the version that serves, '' = none) and 'to'.

    Raises:
        UnknownNameError: No such version; the message lists those there are.
        RefusedError: There is nothing to go back to, or what it needs is no longer kept.
    """
    _check_active(row)
    target = _named(tools, row, to) if to else _before(tools, row)
    tracing.keep(tools, row.key, tracing.WAY_BACK)
    tools.store.projects.update(row.key, way_back={"to": target.version, "asked": tools.clock()})
    serving = tools.store.publications.get(row.publication).version if row.publication else ""
    return {"project": row.key, "from": serving, "to": target.version}


def ask_promotion(tools: Tools, row: ProjectRow, number: int) -> dict[str, Any]:
    """Have the loop make the weights of a round the champion, whatever its verdict was.

    Returns:
        'project' and 'round'.

    Raises:
        UnknownNameError: No such round; the message lists those there are.
        RefusedError: It left no weights, they are no longer kept, or they serve already.
    """
    _check_active(row)
    _weights(tools, row, number)
    tracing.keep(tools, row.key, tracing.WAY_BACK)
    tools.store.projects.update(row.key, way_back={"round": number, "asked": tools.clock()})
    return {"project": row.key, "round": number}


def way_back_step(tools: Tools, row: ProjectRow, platform: Platform) -> bool:
    """Do what a person asked for; returns whether anybody did.

    Until the one transaction that ends the wish everything is as it was: cut off before, it is done again.
    """
    if not row.way_back:
        return False
    with tracing.about(tools, row, tracing.WAY_BACK):
        _grant(tools, row, platform, row.way_back)
    return True


def _grant(tools: Tools, row: ProjectRow, platform: Platform, wish: dict[str, Any]) -> None:
    try:
        told, level = _promote(tools, row) if "round" in wish else _go_back(tools, row, platform), "info"
    except (RefusedError, UnknownNameError) as error:
        tools.store.publications.fulfil(row.key, wish)
        told, level = f"what a person asked for was not done: {error}", "error"
    else:
        tracing.keep(tools, row.key, tracing.ORDER, tracing.SENDING)
        tracing.drop(tools, row.key, tracing.WAY_BACK)
    tools.store.journal.write(row.key, told, level)
    log.info("%s: %s", row.key, told)


def _promote(tools: Tools, row: ProjectRow) -> str:
    wish = row.way_back
    left = _weights(tools, row, wish["round"])
    tools.store.publications.fulfil(row.key, wish, checkpoint=left.id, order_asked=tools.clock())
    return f"a person made the model of round {left.round} the champion; it makes a new order"


def _go_back(tools: Tools, row: ProjectRow, platform: Platform) -> str:
    target = _named(tools, row, row.way_back["to"])
    told = f"a person went back to {target.version}: {_model(target)} serves again"
    # Images that came since are looked for; done early it is harmless.
    tools.store.projects.update(row.key, arrivals={**row.arrivals, "asked": tools.clock()})
    rows = _whole(tools, platform, target)
    if rows:
        tools.store.publications.restore(target, rows, row.way_back)
        return f"{told}; its order and predictions are still there"
    places, _ = tools.store.publications.open_places(target)
    if not places:
        values = {"checkpoint": target.checkpoint, "order_asked": tools.clock()}
        tools.store.publications.fulfil(row.key, row.way_back, **values)
        return f"{told}; all images of its order are answered, it makes a new one of what is open"
    again = tools.store.publications.create(
        row.key,
        name=NAME,
        round_number=target.round,
        checkpoint=target.checkpoint,
        sha8=target.version[-8:],
        places=[replace(place, rank=rank) for rank, place in enumerate(places, start=1)],
        seconds={},
        wish=row.way_back,
    )
    left_out = f", without {target.total - len(places)} answered since" if len(places) < target.total else ""
    return f"{told}; its order is sent again as {again.version}: {len(places)} images{left_out}"


def _whole(tools: Tools, platform: Platform, p: PublicationRow) -> int:
    """Rows of a publication on the platform, 0 = not all: what is missing for a deleted sample is not missed."""
    if p.state == "active":
        return p.rows
    if p.state != "retired" or p.in_flight:
        return 0
    there = platform.published().get(p.version, 0)
    return there if 0 <= p.rows - there <= tools.store.publications.lost(p) else 0


def _check_active(row: ProjectRow) -> None:
    if row.state != "active":
        why = f" ({row.reason})" if row.reason else ""
        raise RefusedError(f"{row.key} is {row.state}{why}: the model of an active project can be changed, no other's")


def _named(tools: Tools, row: ProjectRow, version: str) -> PublicationRow:
    """Raises UnknownNameError and RefusedError."""
    found = [p for p in tools.store.publications.all(row.key) if p.version == version]
    if not found:
        raise UnknownNameError(f"no queue {version!r}; there are {_versions(restorable(tools, row))}")
    return _possible(tools, row, found)


def _before(tools: Tools, row: ProjectRow) -> PublicationRow:
    """The newest queue of the model before. By the rounds of the models: a queue sent again has a new number."""
    serving = tools.model_of(row, row.checkpoint)[1]
    every = tools.store.publications.all(row.key)
    earlier = [p for p in every if p.activated is not None and p.round < serving]
    if not earlier:
        there = f"; there are {_versions(found)} by name" if (found := restorable(tools, row)) else ""
        raise RefusedError(f"{row.key} has nothing to go back to: no model served before this one{there}")
    last = max(p.round for p in earlier)
    return _possible(tools, row, [p for p in earlier if p.round == last])


def _possible(tools: Tools, row: ProjectRow, found: Sequence[PublicationRow]) -> PublicationRow:
    """The newest of these that can be restored. Raises RefusedError with what the newest lacks."""
    placed = tools.store.publications.placed(row.key)
    problems = {p.id: _problem(tools, row, p, placed) for p in found}
    for p in reversed(found):
        if not problems[p.id]:
            return p
    raise RefusedError(f"{problems[found[-1].id]}; there are {_versions(restorable(tools, row))}")


def _problem(tools: Tools, row: ProjectRow, p: PublicationRow, placed: set[int]) -> str:
    """Why a publication cannot be restored, '' = it can."""
    if p.activated is None:
        return f"{p.version} never served, or is about to"
    if p.id == row.publication and p.checkpoint == row.checkpoint:
        return f"{p.version} serves already"
    kept = f"HARDFIRST_KEEP_CHECKPOINTS is {tools.settings.keep_checkpoints}"
    if p.id not in placed:
        return f"the order of {p.version} is no longer kept ({kept})"
    try:
        model, _ = tools.model_of(row, p.checkpoint)
    except ModelError as error:
        return str(error)
    if not p.version.endswith(model.sha256[:8]):
        return f"{p.version} was made with other first weights than those of today ({model.sha256[:8]})"
    if p.checkpoint is not None and not model.path.exists():
        return f"the weights of {p.version} are no longer kept ({kept})"
    if model.usable and not tools.store.predictions.knows(model.sha256):
        return f"the predictions of {p.version} are no longer kept ({kept})"
    return ""


def _weights(tools: Tools, row: ProjectRow, number: int) -> CheckpointRow:
    """What a round left, when it can serve. Raises UnknownNameError and RefusedError."""
    rounds = {r.number: r for r in tools.store.rounds.all(row.key)}
    left = {c.round: c for c in tools.store.rounds.checkpoints(row.key)}
    if number not in rounds:
        raise UnknownNameError(f"no round {number}; there are {list(rounds)}")
    if number not in left:
        raise RefusedError(
            f"round {number} is {rounds[number].state} and left no weights; those that did: {list(left)}"
        )
    if left[number].id == row.checkpoint:
        raise RefusedError(f"the model of round {number} serves already")
    if not tools.model_of(row, left[number].id)[0].path.exists():
        kept = tools.settings.keep_checkpoints
        raise RefusedError(f"the weights of round {number} are no longer kept (HARDFIRST_KEEP_CHECKPOINTS is {kept})")
    return left[number]


def _versions(publications: Sequence[PublicationRow]) -> list[str]:
    return [p.version for p in publications]


def _model(p: PublicationRow) -> str:
    return f"the model of round {p.round}" if p.round else "the model the project began with"
