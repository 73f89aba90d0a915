"""A round's training: from labels at one revision to a serving checkpoint, or to a sentence why not."""

from __future__ import annotations

import logging
from pathlib import Path

from common.config import Settings
from common.domain import Label
from common.errors import ModelError, TrainingError
from common.loop.reading import labels_at
from common.loop.tools import Tools
from common.policy import Decision, Standing, after_loss, needed, should_train
from common.ports import Model, TrainingProgress, TrainingSample, TrainingSpec
from common.store.projects import ProjectRow
from common.store.rounds import RoundRow

log = logging.getLogger(__name__)


def train_step(tools: Tools, row: ProjectRow) -> bool:
    """Start a round when it is time, follow the running one; returns whether anything moved."""
    running = tools.store.rounds.running(row.key)
    if running is not None:
        return _follow(tools, row, running)
    if not decide(tools, row).train:
        return False
    return _start(tools, row)


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


def _start(tools: Tools, row: ProjectRow) -> bool:
    decision = decide(tools, row)
    labels = {s: label for s, label in labels_at(tools, row).items() if usable(label, row.spec.names)}
    samples, missing = _with_images(tools, row, labels)
    if not samples:
        if missing:
            text = f"none of the {missing} labelled images can be read yet; training waits for them"
            tools.store.journal.write(row.key, text, "warning")
        return False
    folder = str(tools.settings.folder / "rounds" / row.key.replace(":", "-"))
    opened = tools.store.rounds.start(
        row.key, revision=row.revision, labels=len(samples), reason=decision.reason, folder=folder, token=row.fence
    )
    if opened is None:
        return False
    tools.store.journal.write(row.key, f"round {opened.number} starts on {len(samples)} labels: {decision.reason}")
    _launch(tools, row, opened, samples)
    return True


def _with_images(tools: Tools, row: ProjectRow, labels: dict[str, Label]) -> tuple[list[TrainingSample], int]:
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


def training_spec(s: Settings, folder: Path, base: Model, classes: tuple[str, ...], token: int) -> TrainingSpec:
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
    )


def _launch(tools: Tools, row: ProjectRow, round_row: RoundRow, samples: list[TrainingSample]) -> None:
    """Write the data set and start, or resume, the child."""
    tools.store.rounds.update(round_row.id, attempts=round_row.attempts + 1, token=row.fence)
    try:
        base = tools.models.base(row.spec.model_path)
        folder = Path(round_row.folder)
        spec = training_spec(tools.settings_of(row), folder, base, row.spec.names, row.fence)
        dropped = tools.trainer.start(spec, samples)
    except (ModelError, TrainingError) as error:
        _fail(tools, row, round_row, str(error))
        return
    if dropped:
        text = f"round {round_row.number}: {len(dropped)} boxes could not train, first: {dropped[0]}"
        tools.store.journal.write(row.key, text, "warning")


def _follow(tools: Tools, row: ProjectRow, running: RoundRow) -> bool:
    progress = tools.trainer.poll(Path(running.folder))
    if progress.state == "running":
        shown = {"epoch": progress.epoch, "epochs": progress.epochs, "message": progress.message}
        if shown != running.progress:
            # A training that gets on is not given up, however often its machine is restarted.
            on = progress.epoch > int(running.progress.get("epoch", 0))
            tools.store.rounds.update(running.id, progress=shown, **({"attempts": 1} if on else {}))
        return False
    if progress.state == "done":
        _promote(tools, row, running, progress)
    elif progress.state == "lost" and after_loss(running.attempts):
        log.warning("%s: training of round %d was cut off; it resumes", row.key, running.number)
        labels = {s: v for s, v in labels_at(tools, row, running.revision).items() if usable(v, row.spec.names)}
        _launch(tools, row, running, _with_images(tools, row, labels)[0])
    else:
        _fail(tools, row, running, progress.message or "its process was lost again and again")
    return True


def _promote(tools: Tools, row: ProjectRow, running: RoundRow, progress: TrainingProgress) -> None:
    if progress.checkpoint is None or progress.token != running.token:
        _fail(tools, row, running, "its result belongs to another training")
        return
    try:
        model = tools.models.install(progress.checkpoint)
    except ModelError as error:
        _fail(tools, row, running, str(error))
        return
    message = f"trained on {running.labels} labels in {tools.clock() - running.started:.0f} s"
    promoted = tools.store.rounds.promote(
        running,
        path=str(model.path),
        sha256=model.sha256,
        names=list(model.names),
        metrics=progress.metrics,
        message=message,
    )
    if promoted:
        tools.store.journal.write(row.key, f"round {running.number} done: {message}; it serves from now on")


def _fail(tools: Tools, row: ProjectRow, running: RoundRow, why: str) -> None:
    tools.store.rounds.end(running.id, "failed", why)
    text = f"round {running.number} failed: {why}; the former model keeps serving"
    tools.store.journal.write(row.key, text, "error")
