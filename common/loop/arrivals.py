"""Arrivals: few new images take their places in the queue that serves; many ask for a new order."""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from common.domain import Ints
from common.loop import tracing
from common.loop.ordering import (
    Scored,
    duplicate_groups,
    gather,
    generator,
    make_pool,
    outward,
    strategy,
    utility_scale,
)
from common.loop.reading import labels_at
from common.loop.scoring import score_some
from common.loop.tools import Tools
from common.ports import Model
from common.store.projects import ProjectRow
from common.store.publications import Place, PublicationRow
from common.store.samples import SampleRow
from common.strategies import REGISTRY, Pool
from common.strategies import insertion as seating
from common.strategies.insertion import Queue, Seat
from common.strategies.pool import Mask, Values
from common.strategies.stream import Options, Threshold, decide, start

NAMED = 6
"""Places named in the journal; of more only the first and the last."""

log = logging.getLogger(__name__)


def arrive_step(tools: Tools, row: ProjectRow) -> bool:
    """Score a slice of the images that wait for a place, or seat them; returns whether there was something to do.

    Only in a queue that is completely sent and whose model still serves. Where it does not, where too many wait or
    where there is no room left between two places, a new order is asked for.
    """
    if row.arrivals.get("asked") is None or row.order_asked is not None or row.publication is None:
        return False
    if tools.store.publications.unfinished(row.key) is not None:
        return False
    publication = tools.store.publications.get(row.publication)
    labels = labels_at(tools, row)
    new = [s for s in tools.store.samples.unplaced(row.key, publication.id) if s.external not in labels]
    if not new:
        tools.store.projects.update(row.key, arrivals=_settled(row))
        return False
    model, _ = tools.serving(row)
    if not _takes(tools, publication, row, model, len(new)):
        return _ask_order(tools, row)
    with tracing.about(tools, row, tracing.ORDER):
        with tools.timed(row, "score"):
            scored = score_some(tools, row, model, new)
        return bool(scored) or _seat(tools, row, publication, model, new)


def _settled(row: ProjectRow) -> dict[str, Any]:
    return {k: v for k, v in row.arrivals.items() if k != "asked"}


def _ask_order(tools: Tools, row: ProjectRow) -> bool:
    tools.store.projects.update(row.key, order_asked=tools.clock(), arrivals=_settled(row))
    return True


def _takes(tools: Tools, publication: PublicationRow, row: ProjectRow, model: Model, new: int) -> bool:
    serves = publication.checkpoint == row.checkpoint and publication.version.endswith(f"-{model.sha256[:8]}")
    places = tools.store.publications.open_places(publication, 0)[1]
    return serves and publication.state == "active" and seating.few(new, places)


@dataclass(frozen=True)
class _Hall:
    """All that a seat is found from.

    Attributes:
        scored: What the queue could be made from now.
        pool: The same as arrays.
        name: Of the strategy.
        options: Its options.
        utility: Shape (n,), the strategy's own.
        queue: As it stands.
        new: Shape (k,), rows of the pool in order of arrival.
        parts: What speaks for each of them.
        behind: Shape (k,), near-duplicates and outliers.
    """

    scored: Scored
    pool: Pool
    name: str
    options: Any
    utility: Values
    queue: Queue
    new: Ints
    parts: list[dict[str, Any]]
    behind: Mask


def _seat(tools: Tools, row: ProjectRow, publication: PublicationRow, model: Model, waiting: list[SampleRow]) -> bool:
    """Give every waiting image its place, in one go; always True."""
    started = time.monotonic()
    hall = _hall(tools, row, publication, model, waiting)
    arrivals, notes = _settled(row), dict[int, dict[str, Any]]()
    passed = None
    if hall.name == "stream":
        arrivals["threshold"], notes = _decided(row, hall, utility_scale(model, hall.options))
        passed = np.array([i in notes and notes[i]["queued"] for i in range(len(hall.pool))], bool)
    seats = seating.seats(hall.pool, hall.queue, hall.new, hall.utility, behind=hall.behind, passed=passed)
    found = seating.between(hall.queue.place, seats)
    if found is None:
        return _ask_order(tools, row)
    places = _places(hall, seats, found.tolist(), notes, publication.total)
    tools.store.publications.insert(publication, places, arrivals)
    tracing.keep(tools, row.key, tracing.SENDING)
    tracing.drop(tools, row.key, tracing.ORDER)
    tools.store.journal.write(row.key, _told(hall, seats, publication))
    tools.seconds.pop(row.key, None)  # of the order that comes next this was no part
    log.info("%s: %d new images seated in %.1f s", row.key, len(places), time.monotonic() - started)
    return True


def _hall(tools: Tools, row: ProjectRow, publication: PublicationRow, model: Model, waiting: list[SampleRow]) -> _Hall:
    scored = gather(tools, row, model, tools.store.samples.all(row.key))
    index = {s.external: i for i, s in enumerate(scored.samples)}
    new = np.array([index[s.external] for s in waiting], np.int64)
    pool = make_pool(tools, row, scored, duplicate_groups(tools, row, scored.samples, new))
    name, values = strategy(tools, row, len(scored.labels))
    chosen = REGISTRY[name]
    if "greedy_limit" in chosen.options.__dataclass_fields__:
        values["greedy_limit"] = 1  # the utilities are wanted, not the order
    options = chosen.options(**values)
    draft = chosen.select(pool, len(pool), generator(tools, row), options)
    queue = _queue(tools.store.publications.places(publication.id), index, pool)
    parts = draft.parts(new)
    behind = np.array([p.get("outlier", False) for p in parts], bool)
    if getattr(options, "deduplicate", True):  # one without a switch would queue look-alikes nobody needs
        behind |= seating.look_alikes(pool.group, new, seating.ranks(draft.utility))
    return _Hall(scored, pool, name, options, draft.utility, queue, new, parts, behind)


def _queue(places: list[Place], index: dict[str, int], pool: Pool) -> Queue:
    places = sorted(places, key=lambda p: p.place)
    rows = np.array([index.get(p.sample, -1) for p in places], np.int64)
    rows[(rows >= 0) & pool.labelled[rows]] = -1
    return Queue(
        np.array([p.place for p in places], np.float64),
        rows,
        np.array([p.parts.get("arrived") == seating.UTILITY for p in places], bool),
        np.array([int(p.parts.get("queued", -1)) for p in places], np.int64),
    )


def _decided(row: ProjectRow, hall: _Hall, scale: str) -> tuple[dict[str, Any], dict[int, dict[str, Any]]]:
    """(the running quantile after these images, pool row -> what it said), for those that are for it to decide."""
    utility, known = hall.utility, hall.queue.row[hall.queue.row >= 0]
    state = _threshold(row, hall.options, scale, utility[known[hall.pool.readable[known]]].tolist())
    ours = seating.free(hall.pool, hall.new, hall.behind)
    notes: dict[int, dict[str, Any]] = {}
    for i in hall.new[ours].tolist():
        level = state.level
        queued, state = decide(state, float(utility[i]))
        word = "above" if queued else "below"
        reason = f"utility {utility[i]:.2f}, {word} the running quantile {level:.2f} on arrival"
        notes[i] = {"queued": queued, "reason": reason}
    return {**asdict(state), "scale": scale}, notes


def _threshold(row: ProjectRow, options: Options, scale: str, known: list[float]) -> Threshold:
    """Where the running quantile stands; another model's utilities are another scale, on which it starts anew."""
    kept = dict(row.arrivals.get("threshold") or {})
    fresh = start(known, options.rate, options.step)
    if not kept:
        return fresh if options.level is None else replace(fresh, level=options.level)
    level = kept["level"] if kept["scale"] == scale else fresh.level
    return replace(fresh, level=level, seen=kept["seen"], queued=kept["queued"])


def _places(
    hall: _Hall, seats: list[Seat], found: list[float], notes: dict[int, dict[str, Any]], total: int
) -> list[Place]:
    parts = dict(zip(hall.new.tolist(), hall.parts, strict=True))
    return [
        Place(
            total + number,
            hall.scored.samples[seat.row].external,
            place,
            round(float(hall.utility[seat.row]), 6) if hall.pool.readable[seat.row] else 0.0,
            outward(_reasons(parts[seat.row], seat, notes.get(seat.row, {})), hall.scored.samples),
        )
        for number, (seat, place) in enumerate(zip(seats, found, strict=True), start=1)
    ]


def _reasons(part: dict[str, Any], seat: Seat, note: dict[str, Any]) -> dict[str, Any]:
    told = {**part, **note, "arrived": seat.how}
    if seat.how == seating.BEHIND and not note and not part.get("outlier"):
        told |= {k: v for k, v in {"deferred": True, "queued": False}.items() if k in part}
        told["reason"] = "a near-duplicate of an image that is here already"
    return told


def _told(hall: _Hall, seats: list[Seat], publication: PublicationRow) -> str:
    """In words: '3 new images took their places 4, 17 and 210 of 1,042'."""
    opened = np.concatenate([[0], np.cumsum(hall.queue.row >= 0)])
    stands = [int(opened[s.gap]) + number for number, s in enumerate(seats, start=1)]
    fresh = sum(hall.scored.samples[s.row].seen >= publication.created for s in seats)
    again = len(seats) - fresh
    who = [f"{fresh:,} new image{'s' if fresh > 1 else ''}"] if fresh else []
    who += (
        [f"{again:,} image{'s' if again > 1 else ''} that {'are' if again > 1 else 'is'} open again"] if again else []
    )
    numbers = [f"{n:,}" for n in stands]
    where = " and ".join(([", ".join(numbers[:-1])] if len(numbers) > 1 else []) + numbers[-1:])
    if len(numbers) > NAMED:
        where = f"from {numbers[0]} to {numbers[-1]}"
    took = "took their places" if len(seats) > 1 else "took its place"
    text = f"{' and '.join(who)} {took} {where} of {int(opened[-1]) + len(seats):,}"
    how = Counter(s.how for s in seats)
    notes = {seating.PASSED: "queued", seating.BEHIND: "kept behind", seating.UNREADABLE: "unreadable"}
    said = [f"{how[k]} {word}" for k, word in notes.items() if how[k]]
    return f"{text} ({', '.join(said)})" if said else text
