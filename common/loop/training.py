"""A round's training: when it begins, what it is given, how it goes; ``promotion`` says what comes of it."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import replace
from pathlib import Path

from common import logs
from common.config import Settings
from common.domain import Label
from common.errors import ModelError, TrainingError
from common.loop import tracing
from common.loop.promotion import conclude, fail, to_measure, unmeasured_champion
from common.loop.pseudo_labels import MARK, pseudo_samples, same_again
from common.loop.reading import labels_at
from common.loop.splitting import split_labels
from common.loop.tools import Tools
from common.policy import Decision, Standing, after_loss, needed, should_train
from common.ports import Model, TrainingSample, TrainingSpec
from common.store.projects import ProjectRow
from common.store.rounds import RoundRow

log = logging.getLogger(__name__)


def train_step(tools: Tools, row: ProjectRow, read: float | None) -> bool:
    """Start a round when it is time, follow the running one; returns whether anything moved.

    Args:
        tools: Of the loop.
        row: The project.
        read: Every label acknowledged before this moment is in the store, seconds since the epoch; None when that is
            not known: then nothing starts while a hint waits. A round counts as started at this moment, so that what
            was acknowledged before its start is in it.
    """
    running = tools.store.rounds.running(row.key)
    if running is not None:
        with logs.bound(project=row.key, trace=_trace(tools, running), round=running.number):
            return _follow(tools, row, running)
    if read is None and tools.store.inbox.pending(row.platform, row.external, 1):
        return False
    if not decide(tools, row).train:
        return False
    wish = (tracing.TRAIN,) if row.training_asked is not None else ()
    with tracing.about(tools, row, *wish, tracing.LABELS):
        return _start(tools, row, time.time() if read is None else read)


def _trace(tools: Tools, running: RoundRow) -> str:
    return tracing.kept(tools, running.project, tracing.of_round(running.number))


def decide(tools: Tools, row: ProjectRow) -> Decision:
    """Whether a round is due, and why or why not."""
    s = tools.settings_of(row)
    return should_train(standing(tools, row), min_new=s.min_new_labels, pause_s=s.pause_s)


def standing(tools: Tools, row: ProjectRow) -> Standing:
    """Where the project stands."""
    now = {s: label for s, label in labels_at(tools, row).items() if usable(label, row.spec.names)}
    newest = tools.store.rounds.newest(row.key)
    before = labels_at(tools, row, newest.revision) if newest else {}
    changed = sum(before.get(s) != label for s, label in now.items())
    last = tools.store.labels.last_recorded(row.key, row.first_read or tools.clock())
    publication = tools.store.publications.get(row.publication) if row.publication else None
    block = needed(tools.settings_of(row).min_new_labels, len(before))
    used = publication is not None and tools.store.publications.answered_in(publication, block) >= block
    return Standing(
        labels=len(now),
        trained=len(before),
        changed=changed,
        idle_s=None if last is None else tools.clock() - last,
        block_used=used,
        asked=row.training_asked is not None,
        rounds=newest.number if newest else 0,
    )


def usable(label: Label, names: tuple[str, ...]) -> bool:
    """A label trains when it is empty or has a box of a class the project still has."""
    return not label.boxes or any(b.name in names for b in label.boxes)


def _start(tools: Tools, row: ProjectRow, moment: float) -> bool:
    decision = decide(tools, row)
    if tools.store.samples.awaited(row.key):
        return False
    samples, missing = with_images(tools, row, _usable_at(tools, row, row.revision))
    if not samples:
        if missing:
            text = f"none of the {missing} labelled images can be read yet; training waits for them"
            tools.store.journal.write(row.key, text, "warning")
        return False
    split = split_labels(tools, row, [s.id for s in samples])
    opened = tools.store.rounds.start(
        row.key,
        revision=row.revision,
        labels=len(split.train),
        reason=decision.reason,
        folder=str(tools.settings.folder / "rounds" / row.key.replace(":", "-")),
        token=row.fence,
        split=split.stored(),
        started=moment,
        asked=row.training_asked,
    )
    if opened is None:
        return False
    left_out = f"; {missing} labelled images cannot be read and are left out" if missing else ""
    tracing.keep(tools, row.key, tracing.of_round(opened.number))
    tracing.drop(tools, row.key, tracing.TRAIN, tracing.LABELS)
    tools.store.journal.write(row.key, f"round {opened.number} starts: {split}: {decision.reason}{left_out}")
    with logs.bound(round=opened.number):
        log.info("%s: round %d starts: %s", row.key, opened.number, decision.reason)
        _launch(tools, row, opened, samples)
    return True


def _usable_at(tools: Tools, row: ProjectRow, revision: int) -> dict[str, Label]:
    return {s: label for s, label in labels_at(tools, row, revision).items() if usable(label, row.spec.names)}


def with_images(tools: Tools, row: ProjectRow, labels: dict[str, Label]) -> tuple[list[TrainingSample], int]:
    """(what can train, how many images cannot be had)."""
    rows = tools.store.samples.some(row.key, list(labels))
    found, missing = [], 0
    for sample, label in labels.items():
        sha = rows[sample].sha256 if sample in rows else None
        path = tools.media.path(sha) if sha else None
        if path is None:
            missing += 1
        else:
            found.append(TrainingSample(sample, path, label))
    return found, missing


def training_spec(
    s: Settings, folder: Path, base: Model, classes: tuple[str, ...], token: int, measure: tuple[Path, ...] = ()
) -> TrainingSpec:
    """What the settings ask of a training in ``folder``."""
    return TrainingSpec(
        folder=folder,
        base=base.path,
        classes=classes,
        imgsz=s.imgsz,
        updates=s.updates,
        epochs=s.epochs,
        batch=s.batch,
        device=s.device,
        seed=s.seed,
        threads=s.threads,
        token=token,
        measure=measure,
    )


def _launch(tools: Tools, row: ProjectRow, round_row: RoundRow, samples: list[TrainingSample]) -> None:
    """Write the data set and start, or resume, the child; the sides are those of the round's beginning."""
    round_row = replace(round_row, split={**round_row.split, "against": row.checkpoint})
    tools.store.rounds.update(round_row.id, attempts=round_row.attempts + 1, token=row.fence, split=round_row.split)
    val, held = (set(round_row.split.get(side, ())) for side in ("val", "held"))
    train = [s for s in samples if s.id not in val | held]
    try:
        spec = training_spec(
            tools.settings_of(row),
            Path(round_row.folder),
            _base(tools, row),
            row.spec.names,
            row.fence,
            to_measure(tools, row),
        )
        train += _guessed(tools, row, round_row, samples)
        dropped = tools.trainer.start(spec, train, [s for s in samples if s.id in val])
    except (ModelError, TrainingError) as error:
        fail(tools, row, round_row, str(error))
        return
    if dropped:
        text = f"round {round_row.number}: {len(dropped)} boxes could not train, first: {dropped[0]}"
        tools.store.journal.write(row.key, text, "warning")


def _guessed(tools: Tools, row: ProjectRow, round_row: RoundRow, samples: list[TrainingSample]) -> list[TrainingSample]:
    """What the champion labels for this training, noted in the round: those images must never be measured on."""
    if not tools.settings_of(row).pseudo_labels:
        return []
    before = same_again(tools, row, round_row.split)
    if before is not None:
        return before
    found = pseudo_samples(tools, row, {s.id: s.label for s in samples}, round_row.split.get("val", ()))
    guessed = [s.id.removeprefix(MARK) for s in found]
    noted = {"pseudo": len(found), "guessed": guessed, "guesser": row.checkpoint}
    tools.store.rounds.update(round_row.id, split={**round_row.split, **noted})
    return found


def _base(tools: Tools, row: ProjectRow) -> Model:
    """The weights a round starts from; every label trains again whichever these are."""
    if tools.settings_of(row).train_from == "champion" and row.checkpoint is not None:
        champion, _ = tools.serving(row)
        if champion.path.is_file():
            return champion
    return tools.models.base(row.spec.model_path)


def _follow(tools: Tools, row: ProjectRow, running: RoundRow) -> bool:
    progress = tools.trainer.poll(Path(running.folder))
    if progress.state == "running":
        numbers = {name: value for name, value in progress.metrics.items() if math.isfinite(value)}
        told = {"message": progress.message, "metrics": numbers}
        shown = {"epoch": progress.epoch, "epochs": progress.epochs, **told}
        if shown != running.progress:
            # A training that gets on is not given up, however often its machine is restarted.
            on = progress.epoch > int(running.progress.get("epoch", 0))
            tools.store.rounds.update(running.id, progress=shown, **({"attempts": 1} if on else {}))
        return False
    if progress.state == "done" and not unmeasured_champion(tools, row, running):
        conclude(tools, row, running, progress)
    elif progress.state == "done" or (progress.state == "lost" and after_loss(running.attempts)):
        why = "was cut off; it resumes" if progress.state == "lost" else "is done; the champion it meets has changed"
        log.warning("%s: training of round %d %s", row.key, running.number, why)
        _launch(tools, row, running, with_images(tools, row, _usable_at(tools, row, running.revision))[0])
    else:
        fail(tools, row, running, progress.message or "its process was lost again and again")
    return True
