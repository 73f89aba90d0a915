"""The end of a round: what was measured, the gate's verdict, and the one transaction that makes it so."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from common.average_precision import Matches
from common.errors import HardfirstError, ModelError, TrainingError
from common.loop import tracing
from common.loop.curve import advice_line, summary
from common.loop.results import figures
from common.loop.tools import Tools
from common.policy import GateRules, Verdict, gate
from common.ports import VIEWS, Model, TrainingProgress
from common.store.measurements import CHECKPOINT, MeasurementRow
from common.store.projects import ProjectRow
from common.store.rounds import CheckpointRow, RoundRow

log = logging.getLogger(__name__)


def retained(tools: Tools, row: ProjectRow) -> list[CheckpointRow]:
    """The serving checkpoint and the newest ``keep_checkpoints`` of a project, refused ones included, oldest first."""
    everything = tools.store.rounds.checkpoints(row.key)
    newest = {c.id for c in everything[-tools.settings.keep_checkpoints :]}
    return [c for c in everything if c.id in newest or c.id == row.checkpoint]


def to_measure(tools: Tools, row: ProjectRow) -> tuple[Path, ...]:
    """Weights that a round measures besides its own, the champion's first.

    The weights a project began with are among them while they serve and know a class of it by its name.
    """
    there = [c for c in retained(tools, row) if Path(c.path).is_file()]
    paths = [Path(c.path) for c in sorted(there, key=lambda c: (c.id != row.checkpoint, -c.round))]
    if row.checkpoint is None:
        base = tools.models.base(row.spec.model_path)
        paths = [base.path, *paths] if _knows(base, row) else paths
    return tuple(dict.fromkeys(paths))


def unmeasured_champion(tools: Tools, row: ProjectRow, running: RoundRow) -> bool:
    """Whether another model serves than when the training was launched, and the gate needs it measured first."""
    if not running.split.get("val") or running.split.get("against", row.checkpoint) == row.checkpoint:
        return False
    try:
        champion, _ = tools.serving(row)
        there = champion.path in to_measure(tools, row)
        return there and champion.sha256 not in tools.trainer.matches(Path(running.folder))
    except (ModelError, TrainingError):  # the end of the round meets it again, and says so
        return False


def _knows(base: Model, row: ProjectRow) -> bool:
    return base.usable and not set(base.names).isdisjoint(row.spec.names)


def conclude(tools: Tools, row: ProjectRow, running: RoundRow, progress: TrainingProgress) -> None:
    """Take the weights in, compare them with the champion's, and promote them or keep them back."""
    if progress.checkpoint is None or progress.token != running.token:
        fail(tools, row, running, "its result belongs to another training")
        return
    try:
        model = tools.models.install(progress.checkpoint)
    except ModelError as error:
        fail(tools, row, running, str(error))
        return
    try:
        found = tools.trainer.matches(Path(running.folder))
        verdict = _judge(tools, row, running, model, found)
    except (ModelError, TrainingError, ValueError) as error:  # ValueError: two models met different images
        fail(tools, row, running, str(error))
        _discard(tools, running, model)
        return
    message = f"{verdict.reason}; trained on {running.labels} labels in {tools.clock() - running.started:.0f} s"
    done = tools.store.rounds.finish(
        running,
        path=str(model.path),
        sha256=model.sha256,
        names=list(model.names),
        metrics=progress.metrics,
        message=message,
        verdict=verdict.kind,
        gate={"reason": verdict.reason, **verdict.numbers},
        measurements=_measurements(tools, row, running, model, found),
    )
    if not done:
        _discard(tools, running, model)
        return
    after = "it serves from now on" if verdict.serves else "the former model keeps serving"
    level = "info" if verdict.serves else "warning"
    if verdict.serves:
        tracing.keep(tools, row.key, tracing.ORDER)
    log.info("%s: round %d done: %s; %s", row.key, running.number, message, after)
    tools.store.journal.write(row.key, f"round {running.number} done: {message}; {after}", level)
    tools.store.journal.write(row.key, advice_line(summary(tools, row)))


def named(tools: Tools, row: ProjectRow) -> list[Model]:
    """Weights that settings or a label config name, whoever made them."""
    try:
        members = tools.settings_of(row).committee
    except HardfirstError:  # of settings that a person still has to put right
        members = ()
    found = []
    for name in ("", row.spec.model_path, *(m for m in members if m not in VIEWS)):
        try:
            found.append(tools.models.base(name))
        except HardfirstError:  # not there: nothing to keep
            continue
    return found


def _discard(tools: Tools, ended: RoundRow, model: Model) -> None:
    """Delete what a round installed that was ended meanwhile, unless something else names the same weights.

    A round that runs on was taken over: whoever follows it now installs the same file.
    """
    now = next((r for r in tools.store.rounds.all(ended.project) if r.id == ended.id), None)
    if now is not None and now.state == "running":
        return
    projects = tools.store.projects.all()
    left = {Path(c.path) for p in projects for c in tools.store.rounds.checkpoints(p.key)}
    if model.path not in left | {m.path for p in projects for m in named(tools, p)}:
        model.path.unlink(missing_ok=True)


def _judge(tools: Tools, row: ProjectRow, running: RoundRow, model: Model, found: Mapping[str, Matches]) -> Verdict:
    s = tools.settings_of(row)
    champion, _ = tools.serving(row)
    return gate(
        found.get(model.sha256),
        found.get(champion.sha256),
        model.names,
        GateRules(s.gate_images, s.gate_margin, s.gate_class_drop),
        np.random.default_rng([s.seed, running.number]),
        first=row.checkpoint is None and not _knows(champion, row),
        wanted=len(running.split.get("val", ())),
    )


def _measurements(
    tools: Tools, row: ProjectRow, running: RoundRow, model: Model, found: Mapping[str, Matches]
) -> list[MeasurementRow]:
    """One row for each set of weights of the project that was measured."""
    labels = {r.number: r.labels for r in tools.store.rounds.all(row.key)}
    weights = {c.round: c.sha256 for c in tools.store.rounds.checkpoints(row.key)}
    weights[running.number] = model.sha256
    if row.checkpoint is None:
        weights[0] = tools.serving(row)[0].sha256
    seed = (tools.settings_of(row).seed, running.number)
    biased = len(running.split.get("biased", ()))
    metrics = {sha: figures(found[sha], model.names, seed) for sha in set(weights.values()) & set(found)}
    return [
        MeasurementRow(
            project=row.key,
            round=running.number,
            kind=CHECKPOINT,
            trained=number,
            sha256=sha,
            labels=labels.get(number, 0),
            images=len(found[sha].truths),
            biased=biased,
            metrics=metrics[sha],
            at=tools.clock(),
        )
        for number, sha in sorted(weights.items())
        if sha in metrics
    ]


def fail(tools: Tools, row: ProjectRow, running: RoundRow, why: str) -> None:
    """Close a round without new weights, and say why."""
    tools.store.rounds.end(running.id, "failed", why)
    text = f"round {running.number} failed: {why}; the former model keeps serving"
    tools.store.journal.write(row.key, text, "error")
