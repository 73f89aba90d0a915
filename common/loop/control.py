"""Control trainings: the same number of labels, once chosen by chance, once by the order. What did the order save?

Asked for by the setting ``control``; made while no round trains, resumed after a kill, put off when a round is due. The
plan is a file, the results are measurements.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace

import numpy as np

from common.average_precision import Matches, compare
from common.errors import ModelError, TrainingError
from common.loop.control_plan import Plan, forget_plan, load_plan, save_plan, training_folder
from common.loop.ordering import slice_hash
from common.loop.reading import labels_at
from common.loop.results import figures
from common.loop.savings import CHOSEN, CONTROL, curve_of, read_off, sentence
from common.loop.splitting import SLICE_SHARE
from common.loop.tools import Tools
from common.loop.training import decide, training_spec, usable
from common.policy import after_loss
from common.ports import TrainingSample
from common.store.measurements import MeasurementRow
from common.store.projects import ProjectRow
from common.store.rounds import RoundRow

SIDES = (CONTROL, CHOSEN)
LEAST = 100
"""Training labels that each side must have."""
GROWN = 1.5
"""A control is made again when both sides can have so many times the labels of the last one."""
RECIPE = ("imgsz", "updates", "epochs", "batch", "seed")
"""Settings that are kept for both trainings, whatever a person changes in between."""

log = logging.getLogger(__name__)


def control_step(tools: Tools, row: ProjectRow) -> bool:
    """Begin, follow or put off a control; to be called when rounds had their turn. Returns whether anything moved."""
    plan = load_plan(tools, row)
    if not tools.settings_of(row).control:
        return _switched_off(tools, row, plan)
    newest = tools.store.rounds.newest(row.key, "done")
    if plan is None or plan.state != "open":
        if newest is None or (plan is not None and plan.round == newest.number) or _busy(tools, row):
            return False
        return _consider(tools, row, newest, plan)
    if _busy(tools, row):
        return _put_off(tools, row, plan)
    return _follow(tools, row, plan)


def stop_control(tools: Tools, row: ProjectRow) -> None:
    """The project is left: whatever trains for its control ends."""
    plan = load_plan(tools, row)
    if plan is not None and plan.state == "open":
        _put_off(tools, row, plan)


def _switched_off(tools: Tools, row: ProjectRow, plan: Plan | None) -> bool:
    if plan is not None:
        _clear(tools, row, plan)
        forget_plan(tools, row)
    return False


def _clear(tools: Tools, row: ProjectRow, plan: Plan) -> None:
    """Nothing of its trainings stays."""
    for side in SIDES:
        tools.trainer.cancel(training_folder(tools, row, plan, side))
        shutil.rmtree(training_folder(tools, row, plan, side), ignore_errors=True)


def _busy(tools: Tools, row: ProjectRow) -> bool:
    return tools.store.rounds.running(row.key) is not None or decide(tools, row).train


def _consider(tools: Tools, row: ProjectRow, newest: RoundRow, before: Plan | None) -> bool:
    """Write down whether the newest round has the labels for a control."""
    samples = _sides(tools, row, newest)
    have = {side: len(ids) for side, ids in samples.items()}
    n, last = min(have.values()), _last(tools, row, before)
    missing = (
        f"not enough data: a control needs {LEAST} training labels of either kind, there are {have[CONTROL]} of the "
        f"random slice and {have[CHOSEN]} that the order chose"
    )
    reason = missing if n < LEAST else "" if n >= GROWN * last else f"the last control had {last} labels of {n} by now"
    if not newest.split.get("val"):
        reason = "not enough data: the newest round had no validation set"
    if reason:
        save_plan(tools, row, Plan(newest.number, "waiting", reason, labels=last))
        return False
    s = tools.settings_of(row)
    reason = f"two trainings on {n} labels each, by chance and by the order, after round {newest.number}"
    plan = Plan(
        newest.number,
        "open",
        f"not enough data: the control is under way, {reason}",
        n,
        newest.revision,
        {side: ids[:n] for side, ids in samples.items()},
        list(newest.split["val"]),
        list(row.spec.names),
        {name: getattr(s, name) for name in RECIPE},
    )
    save_plan(tools, row, plan)
    usual = f"a round trained for about {(newest.ended or newest.started) - newest.started:.0f} s"
    tools.store.journal.write(row.key, f"control starts: {reason}; {usual}; a round that is due goes first")
    return True


def _sides(tools: Tools, row: ProjectRow, newest: RoundRow) -> dict[str, list[str]]:
    """Side -> samples that train in a round, first labelled first; what was labelled before any order nobody chose."""
    aside = {*newest.split.get("val", ()), *newest.split.get("held", ())}
    labels = labels_at(tools, row, newest.revision)
    train = [s for s, label in labels.items() if s not in aside and usable(label, row.spec.names)]
    activated = [at for p in tools.store.publications.all(row.key) for at in p.activations]
    firsts = tools.store.times.firsts(row.key, train)
    since = min(activated, default=float("inf"))
    served = sorted((firsts[s].labelled, s) for s in train if s in firsts and firsts[s].labelled >= since)
    chance = {s for _, s in served if slice_hash(row.key, s) < SLICE_SHARE}
    return {CONTROL: [s for _, s in served if s in chance], CHOSEN: [s for _, s in served if s not in chance]}


def _last(tools: Tools, row: ProjectRow, before: Plan | None) -> int:
    """Labels of the last control, failed ones included: what failed is not tried again and again."""
    made = [m.labels for m in tools.store.measurements.all(row.key, CONTROL)]
    return max([*made, before.labels if before else 0])


def _follow(tools: Tools, row: ProjectRow, plan: Plan) -> bool:
    for side in SIDES:
        progress = tools.trainer.poll(training_folder(tools, row, plan, side))
        if progress.state == "running":
            return False
        if progress.state == "lost" and after_loss(plan.attempts.get(side, 0)):
            return _launch(tools, row, plan, side)
        if progress.state != "done":
            return _end(tools, row, plan, "failed", progress.message or "its process was lost again and again")
    return _measure(tools, row, plan)


def _launch(tools: Tools, row: ProjectRow, plan: Plan, side: str) -> bool:
    """Start, or resume, one of the two trainings."""
    s = tools.settings_of(row).model_copy(update=plan.recipe)
    train, val = (_with_images(tools, row, plan, ids) for ids in (plan.samples[side], plan.val))
    if train is None or val is None:
        return _end(tools, row, plan, "failed", "images that it needs are no longer there")
    try:
        base = tools.models.base(row.spec.model_path)
        spec = training_spec(s, training_folder(tools, row, plan, side), base, tuple(plan.classes), row.fence)
        tools.trainer.start(spec, train, val)
    except (ModelError, TrainingError) as error:
        return _end(tools, row, plan, "failed", str(error))
    attempts = {**plan.attempts, side: plan.attempts.get(side, 0) + 1}
    save_plan(tools, row, replace(plan, attempts=attempts, launched=tools.clock(), seconds=_spent(tools, plan)))
    return True


def _with_images(tools: Tools, row: ProjectRow, plan: Plan, ids: list[str]) -> list[TrainingSample] | None:
    """Every one of these samples, or None when a label or an image is missing: the two sides would not be equal."""
    labels, rows = labels_at(tools, row, plan.revision), tools.store.samples.some(row.key, ids)
    found = []
    for i in ids:
        path = tools.media.path(rows[i].sha256 or "") if i in rows and i in labels else None
        if path is None:
            return None
        found.append(TrainingSample(i, path, labels[i]))
    return found


def _measure(tools: Tools, row: ProjectRow, plan: Plan) -> bool:
    """Both are done: compare them on the same images, store that, clean up."""
    found = [tools.trainer.matches(training_folder(tools, row, plan, side)) for side in SIDES]
    if not all(found):
        return _end(tools, row, plan, "failed", "nothing was measured")
    (chance_sha, chance), (chosen_sha, chosen) = (next(iter(f.items())) for f in found)
    seed = [plan.recipe["seed"], plan.round]
    try:
        gap = compare(chance, chosen, np.random.default_rng(seed))
    except ValueError as error:
        return _end(tools, row, plan, "failed", str(error))
    gained = {"gained": gap.mean, "gained_low": gap.low, "gained_high": gap.high}
    rows = [
        _row(tools, row, plan, CONTROL, chance_sha, chance, {}),
        _row(tools, row, plan, CHOSEN, chosen_sha, chosen, gained),
    ]
    tools.store.measurements.add(rows)
    told = sentence(read_off(rows[1], curve_of(tools, row)))
    return _end(tools, row, plan, "done", f"{told}; the two trainings took {_spent(tools, plan):.0f} s")


def _row(
    tools: Tools, row: ProjectRow, plan: Plan, kind: str, sha256: str, found: Matches, more: dict[str, float]
) -> MeasurementRow:
    biased = sum(slice_hash(row.key, s) >= SLICE_SHARE for s in plan.val)
    metrics = figures(found, plan.classes, [plan.recipe["seed"], plan.round]) | more
    return MeasurementRow(
        project=row.key,
        round=plan.round,
        kind=kind,
        trained=plan.round,
        sha256=sha256,
        labels=plan.labels,
        images=len(found.truths),
        biased=biased,
        metrics=metrics,
        at=tools.clock(),
    )


def _put_off(tools: Tools, row: ProjectRow, plan: Plan) -> bool:
    """A round goes first: the child ends, what it saved stays."""
    if plan.launched is None:
        return False
    for side in SIDES:
        tools.trainer.cancel(training_folder(tools, row, plan, side))
    log.info("%s: the control waits for a round", row.key)
    save_plan(tools, row, replace(plan, launched=None, attempts={}, seconds=_spent(tools, plan)))
    return False


def _end(tools: Tools, row: ProjectRow, plan: Plan, state: str, reason: str) -> bool:
    _clear(tools, row, plan)
    told = reason if state == "done" else f"not enough data: the control failed: {reason}"
    save_plan(tools, row, Plan(plan.round, state, told, labels=plan.labels))
    tools.store.journal.write(row.key, f"control {state}: {reason}", "info" if state == "done" else "warning")
    return True


def _spent(tools: Tools, plan: Plan) -> float:
    return plan.seconds + (tools.clock() - plan.launched if plan.launched is not None else 0.0)
