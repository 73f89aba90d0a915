"""The learning curve of a project, for people: one yardstick for every checkpoint, and whether to go on labelling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from common.learning_curve import Advice, Measured, advise, gains, rising
from common.loop.tools import Tools
from common.policy import needed
from common.store.measurements import MeasurementRow
from common.store.projects import ProjectRow
from common.store.rounds import RoundRow

NOTHING = "no round has been measured yet"


def summary(tools: Tools, row: ProjectRow) -> dict[str, Any]:
    """The curve as JSON-able data; an answer of the store alone.

    The yardstick is the validation set of the newest round that measured something: every checkpoint that was there
    then was measured on it. A checkpoint that was no longer there keeps its last measurement, which is not comparable.
    Refused checkpoints are on the curve: to leave out what fell by bad luck would bend it upwards.

    Returns:
        'round': number of the round whose validation set is the yardstick, None = nothing was measured.
        'images', 'biased': of the yardstick; biased ones are not of the random slice.
        'note': one sentence on how far the yardstick can be trusted, '' when it can.
        'points': by labels trained on, each with 'trained' (number of its round, 0 = the first weights), 'labels',
            'map50', 'map50_low', 'map50_high', 'map5095', 'map5095_low', 'map5095_high' (90 % interval over images),
            'gain' (mAP50 per 100 labels since the point before, None where there is none), 'classes' (name -> 'ap50',
            'ap5095', 'quality'), 'measured' (number of the round that measured it last), 'images', 'biased', 'current'
            (measured by the yardstick), 'verdict', 'serves'.
        'advice': ``learning_curve.Advice`` on mAP50 as a dict: 'action' ('continue', 'stop' or 'wait'), 'reason',
            'gain', 'predicted', 'labels'. Nothing acts on it.
    """
    measured = [m for m in tools.store.measurements.all(row.key) if m.metrics]
    yardstick = max((m.round for m in measured), default=None)
    latest = list({m.trained: m for m in measured}.values())
    current = [m for m in latest if m.round == yardstick]
    rounds = {r.number: r for r in tools.store.rounds.all(row.key)}
    serves = tools.store.rounds.checkpoint(row.checkpoint).round if row.checkpoint else 0
    images, biased = (current[0].images, current[0].biased) if current else (0, 0)
    least = tools.settings_of(row).gate_images
    short = too_few(images, least) if current else NOTHING
    points = [
        _point(m, rounds.get(m.trained), m in current, m.trained == serves)
        for m in sorted(latest, key=lambda m: (m.labels, m.trained))
    ]
    return {
        "round": yardstick,
        "images": images,
        "biased": biased,
        "note": short or (f"{biased} of the {images} images are not of the random slice" if biased else ""),
        "points": _with_gains(points, _measured(current)),
        "advice": asdict(_advice(tools, row, _measured(current), short)),
    }


def _measured(current: Sequence[MeasurementRow]) -> list[Measured]:
    """Rounds as points in the order they were made; weights the project began with have no labels and are none."""
    trained = sorted((m for m in current if m.trained and m.labels), key=lambda m: m.trained)
    return [Measured(m.labels, m.metrics["map50"]) for m in trained]


def _advice(tools: Tools, row: ProjectRow, rounds: list[Measured], short: str) -> Advice:
    s = tools.settings_of(row)
    labels = max((p.labels for p in rounds), default=0)
    coming = needed(s.min_new_labels, labels)
    return Advice("wait", short, labels=coming) if short else advise(rounds, coming, s.stop_gain)


def _point(m: MeasurementRow, made: RoundRow | None, current: bool, serves: bool) -> dict[str, Any]:
    names = ("map50", "map50_low", "map50_high", "map5095", "map5095_low", "map5095_high")
    return {
        "trained": m.trained,
        "labels": m.labels,
        **{name: m.metrics[name] for name in names},
        "classes": by_class(m.metrics),
        "measured": m.round,
        "images": m.images,
        "biased": m.biased,
        "current": current,
        "verdict": made.verdict if made else "",
        "serves": serves,
    }


def by_class(metrics: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Class name -> {'ap50', 'ap5095', 'quality'}, as far as they are there."""
    found: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        kind, slash, of = name.partition("/")
        if slash:
            found.setdefault(of, {})[kind] = value
    return found


def _with_gains(points: list[dict[str, Any]], rounds: list[Measured]) -> list[dict[str, Any]]:
    """Each point with its gain: of rounds with as many labels the last one has it."""
    ordered = rising(rounds)
    gain = {p.labels: g for p, g in zip(ordered[1:], gains(ordered), strict=True)}
    last = {p["labels"]: p["trained"] for p in sorted(points, key=lambda p: p["trained"]) if p["current"]}
    return [
        {**p, "gain": gain.get(p["labels"]) if p["current"] and last[p["labels"]] == p["trained"] else None}
        for p in points
    ]


def too_few(images: int, least: int) -> str:
    """Why a validation set tells nothing, '' when it does."""
    return "" if images >= least else f"not enough data: {images} validation images, {least} are needed"


def advice_line(found: Mapping[str, Any]) -> str:
    """One sentence for the journal."""
    advice = found["advice"]
    return f"learning curve, {advice['action']}: {advice['reason']}"
