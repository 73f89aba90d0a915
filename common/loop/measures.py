"""A project's figures, from what the store really has: `hardfirst kpi`, /api/kpi, a part of /metrics."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from common.errors import HardfirstError
from common.kpi import (
    ENOUGH,
    Typical,
    Values,
    break_limit,
    difference,
    per_week,
    shares,
    tally,
    typical,
    waits,
)
from common.loop.publishing import shown_boxes
from common.loop.savings import labels_saved
from common.loop.tools import Tools
from common.store.projects import ProjectRow
from common.store.publications import PublicationRow
from common.store.rounds import RoundRow
from common.store.times import Answer, First

NEWEST = 20_000
"""Figures are of so many answers, the newest."""
LOOKED_UP = 2_000
"""Of answers that kept no predicted box, so many, the newest, are looked up for whether boxes were shown at all."""
NOT_KEPT = "not known: which boxes an annotator had before them is not recorded"

NOT_TIMED = "not known: the platform does not tell how long an answer took"


@dataclass(frozen=True)
class Answers:
    """Answers of people with what is known about their images.

    Attributes:
        all: Newest first.
        firsts: Sample id -> its first answer.
        orders: (since, publication) of each time an order began to serve, oldest first.
    """

    all: list[Answer]
    firsts: dict[str, First]
    orders: list[tuple[float, PublicationRow]]

    @cached_property
    def activated(self) -> Values:
        """Shape (P,), seconds since the epoch, ascending."""
        return np.array([at for at, _ in self.orders], np.float64)

    def order_of(self, answer: Answer) -> PublicationRow | None:
        """The one that served when the image got its first answer."""
        place = int(np.searchsorted(self.activated, self.firsts[answer.sample].labelled, side="right"))
        return self.orders[place - 1][1] if place else None


def kpis(tools: Tools, row: ProjectRow) -> dict[str, Any]:
    """JSON-able; times in seconds. What cannot be told is a sentence that begins 'not enough data' or 'not known'.

    Keys:
        query_to_label: images, median_s, p90_s.
        seconds_per_image, seconds_per_box: with_boxes and without_boxes, each images, median_s, low_s, high_s; and
            difference (with minus without), s, low_s, high_s. A sentence where the platform tells no time.
        left_out: breaks, break_limit_s (None = no limit), unknown (whether boxes were shown), untimed.
        boxes: accepted, edited, drawn; shares; classes (class -> counts); deleted.
        rounds: finished, per_week, labels (typical growth), seconds (typical), verdicts (verdict -> share).
        model: round, age_s, labels_since.
        labels_saved: see ``common.loop.savings.labels_saved``.
    """
    answers = read(tools, row, NEWEST)
    seconds: dict[str, Any] | str
    boxes: dict[str, Any] | str
    seconds, boxes, left_out = _spent(tools, row, answers)
    if not row.spec.timed:
        seconds = boxes = NOT_TIMED
    return {
        "query_to_label": query_to_label(answers),
        "seconds_per_image": seconds,
        "seconds_per_box": boxes,
        "left_out": left_out,
        "boxes": box_kinds(answers) | {"deleted": NOT_KEPT},
        "rounds": _rounds(tools, row),
        "model": model_age(tools, row),
        "labels_saved": labels_saved(tools, row),
    }


def read(tools: Tools, row: ProjectRow, limit: int) -> Answers:
    """The newest ``limit`` answers of a project."""
    found = tools.store.times.answers(row.key, limit)
    firsts = tools.store.times.firsts(row.key, list(dict.fromkeys(a.sample for a in found)))
    orders = [(at, p) for p in tools.store.publications.all(row.key) for at in p.activations]
    return Answers(found, firsts, sorted(orders, key=lambda order: order[0]))


def query_to_label(answers: Answers) -> dict[str, Any] | str:
    """How long images waited from the newest order before their label to that label."""
    firsts = list(answers.firsts.values())
    found = waits(
        np.array([f.labelled for f in firsts], np.float64),
        np.array([f.listed for f in firsts], np.float64),
        answers.activated,
    )
    if not len(found):
        return "not enough data: no image was labelled while an order of hardfirst was active"
    median, late = np.quantile(found, [0.5, 0.9]).tolist()
    return {"images": len(found), "median_s": median, "p90_s": late}


def box_kinds(answers: Answers) -> dict[str, Any]:
    """What people did with boxes while an order was active: before that nothing of ours could be accepted."""
    served = [a for a in answers.all if answers.order_of(a) is not None]
    classes = tally(b for a in served for b in a.boxes)
    total: Counter[str] = sum(classes.values(), Counter())
    counts = {kind: total[kind] for kind in ("accepted", "edited", "drawn")}
    return {**counts, "shares": shares(counts), "classes": {n: dict(c) for n, c in sorted(classes.items())}}


def _spent(tools: Tools, row: ProjectRow, answers: Answers) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """(seconds per image, seconds per box, what was left out)."""
    timed = [a for a in answers.all if a.lead_time is not None and a.lead_time > 0]
    seconds = np.array([a.lead_time for a in timed], np.float64)
    boxes = np.array([len(a.boxes) for a in timed], np.float64)
    limit = break_limit(seconds)
    shown = _shown(tools, row, answers, timed)
    kind = np.array([-1 if s is None else int(s) for s in shown], np.int64)
    usable = seconds <= limit
    left_out = {
        "breaks": int((~usable).sum()),
        "break_limit_s": limit if math.isfinite(limit) else None,
        "unknown": int((usable & (kind < 0)).sum()),
        "untimed": len(answers.all) - len(timed),
    }
    drawn = usable & (boxes > 0)
    each = seconds[drawn] / boxes[drawn]
    per_image = _compared(seconds[usable & (kind == 1)], seconds[usable & (kind == 0)])
    return per_image, _compared(each[kind[drawn] == 1], each[kind[drawn] == 0]), left_out


def _compared(shown: Values, bare: Values) -> dict[str, Any]:
    one, other = typical(shown), typical(bare)
    found: dict[str, Any] = {"with_boxes": _told(one, len(shown)), "without_boxes": _told(other, len(bare))}
    if one is None or other is None:
        return {**found, "difference": f"not enough data: both kinds need {ENOUGH} answers"}
    s, low, high = difference(one, other)
    return {**found, "difference": {"s": s, "low_s": low, "high_s": high}}


def _told(found: Typical | None, have: int) -> dict[str, Any] | str:
    if found is None:
        return f"not enough data: {have} of {ENOUGH} answers"
    return {"images": found.n, "median_s": found.median, "low_s": found.low, "high_s": found.high}


def _shown(tools: Tools, row: ProjectRow, answers: Answers, timed: Sequence[Answer]) -> list[bool | None]:
    """Whether each answer began with a predicted box in the image; None = not known.

    It did where such a box is left in it. It did not where no order was active. Else what the order's checkpoint said
    is asked, by the threshold of today: known only while it is kept.
    """
    kept = [any(origin != "manual" for _, origin in a.boxes) for a in timed]
    orders = [answers.order_of(a) for a in timed]
    unclear = [i for i in range(len(timed)) if not kept[i] and orders[i] is not None][:LOOKED_UP]
    asked: dict[int | None, list[int]] = {}
    for i in unclear:
        asked.setdefault(getattr(orders[i], "checkpoint", None), []).append(i)
    told: dict[int, bool] = {}
    for checkpoint, rows in asked.items():
        told |= _said(tools, row, checkpoint, {i: timed[i].sha256 for i in rows})
    return [True if kept[i] else False if orders[i] is None else told.get(i) for i in range(len(timed))]


def _said(tools: Tools, row: ProjectRow, checkpoint: int | None, images: Mapping[int, str]) -> dict[int, bool]:
    """Answer -> whether a checkpoint has boxes to show in its image; without an entry = not kept."""
    try:
        model, _ = tools.model_of(row, checkpoint)
    except HardfirstError:
        return {}
    said = tools.store.predictions.boxes(model.sha256, tools.settings_of(row).imgsz, [s for s in images.values() if s])
    return {i: bool(shown_boxes(said[sha], row.spec, model.names)) for i, sha in images.items() if sha in said}


def _rounds(tools: Tools, row: ProjectRow) -> dict[str, Any]:
    everything = tools.store.rounds.all(row.key)
    done = [r for r in everything if r.state == "done" and r.ended is not None]
    if not done:
        return {
            "finished": 0,
            "per_week": 0.0,
            "labels": "not enough data: no finished round",
            "seconds": None,
            "verdicts": {},
        }
    ends = [r.ended for r in done if r.ended is not None]
    return {
        "finished": len(done),
        "per_week": per_week(ends, everything[0].started, tools.clock()),
        "labels": _growth(done),
        "seconds": float(np.median([r.ended - r.started for r in done if r.ended is not None])),
        "verdicts": shares(Counter(r.verdict for r in done if r.verdict)),
    }


def _growth(done: Sequence[RoundRow]) -> float | str:
    grown = [after.labels - before.labels for before, after in pairwise(done)]
    return float(np.median(grown)) if grown else "not enough data: one finished round"


def model_age(tools: Tools, row: ProjectRow) -> dict[str, Any]:
    """How old the serving model is, in seconds and in labels it has not seen; age None = the weights it began with."""
    if row.checkpoint is None:
        return {"round": 0, "age_s": None, "labels_since": tools.store.times.labelled_since(row.key, 0)}
    champion = tools.store.rounds.checkpoint(row.checkpoint)
    made = next((r for r in tools.store.rounds.all(row.key) if r.number == champion.round), None)
    since = tools.store.times.labelled_since(row.key, made.revision if made else 0)
    return {"round": champion.round, "age_s": max(0.0, tools.clock() - champion.created), "labels_since": since}
