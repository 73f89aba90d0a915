"""The parent's side of a training: the folder it happens in, the command that starts it, how far it is.

Knows the files of a training folder and no torch: ``spec.json`` (what to do), ``progress.json`` (where it stands),
``safe.pt`` (to resume from), ``final.pt``, ``matches-<sha256>.npz`` of weights that were measured and, written last,
``result.json``.
"""

from __future__ import annotations

import hashlib
import math
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from common.errors import TrainingError
from common.ports import TrainingProgress, TrainingSpec
from common.yolo import files, matches

SPEC, PROGRESS, RESULT, LOG = "spec.json", "progress.json", "result.json", "train.log"
SAFE, FINAL, FAILURE, FINGERPRINT = "safe.pt", "final.pt", "failure.json", "fingerprint"
_FREE = ("folder", "device", "threads", "token", "measure")
"""Fields that may differ between a training and its continuation."""


def dump_spec(spec: TrainingSpec) -> Path:
    """Write ``spec.json`` into the training's folder and return its path."""
    relative = [str(path) for path in (spec.folder, spec.base, *spec.measure) if not path.is_absolute()]
    if relative:
        raise TrainingError(f"a training needs absolute paths, got {', '.join(relative)}")
    data = asdict(spec) | {"folder": str(spec.folder), "base": str(spec.base), "measure": _measured(spec)}
    files.write_json(spec.folder / SPEC, data)
    return spec.folder / SPEC


def load_spec(folder: Path) -> TrainingSpec:
    """Read ``spec.json``; the folder is where it was found. Raises TrainingError when it is missing or incomplete."""
    data = files.read_json(folder / SPEC)
    try:
        given = {k: v for k, v in (data or {}).items() if k in TrainingSpec.__dataclass_fields__}
        spec = TrainingSpec(**given)
        base, measure = Path(spec.base), tuple(map(Path, spec.measure))
        return replace(spec, folder=folder.resolve(), base=base, classes=tuple(spec.classes), measure=measure)
    except TypeError as error:
        raise TrainingError(f"{folder / SPEC} is missing or incomplete: start the training again") from error


def epochs(spec: TrainingSpec, images: int) -> int:
    """How often to pass over the set so that ``spec.updates`` steps are made; at least once."""
    steps = math.ceil(max(1, images) / spec.batch)
    return spec.epochs or max(1, math.ceil(spec.updates / steps))


def recipe(spec: TrainingSpec, images: int) -> dict[str, Any]:
    """One explicit recipe for small sets, as ultralytics' arguments.

    AdamW at a fine-tuning rate, a short warm-up, cosine decay; a mosaic for half of the images, none in the last
    fifth of the run. ``nbs`` equals the batch: ultralytics would otherwise gather 64 images for one update.
    """
    passes, steps = epochs(spec, images), math.ceil(max(1, images) / spec.batch)
    warmup = min(100, math.ceil(0.1 * passes * steps))
    return {
        "imgsz": max(64, spec.imgsz),
        "epochs": passes,
        "batch": spec.batch,
        "nbs": spec.batch,
        "optimizer": "AdamW",
        "lr0": 0.002 if spec.base.suffix == ".yaml" else 0.001,
        "lrf": 0.05,
        "cos_lr": True,
        "momentum": 0.9,
        "weight_decay": 0.0005,
        "warmup_epochs": warmup / steps,
        "warmup_bias_lr": 0.0,
        "mosaic": 0.5,
        "close_mosaic": max(1, math.ceil(0.2 * passes)),
        "patience": 0,
        "seed": spec.seed,
        "deterministic": True,
        "amp": False,
        "plots": False,
        "val": False,
        "workers": 0,
        "rect": False,
        "cache": False,
        "verbose": False,
    }


def command(folder: Path, parent: int) -> list[str]:
    """The command of the training child of process ``parent``; it takes no module from the working folder."""
    return [sys.executable, "-P", "-m", "common.yolo.train_child", str(folder), "--parent", str(parent)]


def begin(spec: TrainingSpec) -> bool:
    """Make the folder ready for ``spec`` and return whether anything is left to do.

    A folder that holds another training (other base, classes, data or recipe) starts over; the same training goes on
    from its safe checkpoint; a finished one only gets the new fencing token, and weights to measure that it was not
    asked for before.
    """
    spec.folder.mkdir(parents=True, exist_ok=True)
    same = is_same(spec)
    done = files.read_json(spec.folder / RESULT) if same else None
    dump_spec(spec)
    if done and done.get("state") == "done" and Path(done.get("checkpoint", "")).is_file() and _is_measured(spec, done):
        files.write_json(spec.folder / RESULT, done | {"token": spec.token})
        return False
    for name in (RESULT, PROGRESS) if same else (RESULT, PROGRESS, SAFE, FINAL):
        (spec.folder / name).unlink(missing_ok=True)
    if not same:
        matches.forget(spec.folder)
    files.write_text(spec.folder / FINGERPRINT, _fingerprint(spec))
    return True


def finish(spec: TrainingSpec, metrics: dict[str, float], message: str, seconds: float) -> None:
    """Say in ``result.json`` that all is done, under the fencing token that holds now."""
    final = spec.folder / FINAL
    result = {
        "state": "done",
        "checkpoint": str(final),
        "token": token(spec.folder),
        "metrics": metrics,
        "message": message,
        "sha256": files.sha256(final),
        "measure": _measured(spec),
        "seconds": round(seconds, 1),
    }
    files.write_json(spec.folder / RESULT, result)


def is_same(spec: TrainingSpec) -> bool:
    """Whether the folder holds this very training, begun before; device, threads and token may differ."""
    mark = spec.folder / FINGERPRINT
    return mark.is_file() and mark.read_text() == _fingerprint(spec)


def has_ended(folder: Path) -> bool:
    """Whether the training has left its result: whatever its process still does no longer matters."""
    return files.read_json(folder / RESULT) is not None


def token(folder: Path) -> int:
    """The fencing token that holds now: the owner of a running training may have a new one."""
    return int((files.read_json(folder / SPEC) or {}).get("token", 0))


def tell_measuring(spec: TrainingSpec, images: int) -> None:
    """Say that the training is through, and that weights are being measured."""
    before = files.read_json(spec.folder / PROGRESS) or {"epochs": epochs(spec, images)}
    now = before | {"epoch": before["epochs"], "doing": "measuring"}
    files.write_json(spec.folder / PROGRESS, now, durable=False)


def progress(folder: Path, *, alive: bool, ended: str = "") -> TrainingProgress:
    """Where the training in ``folder`` stands.

    Args:
        folder: Its folder.
        alive: Whether its process was seen running before this call.
        ended: How the process ended, for people; '' when that is not known.
    """
    result, now = files.read_json(folder / RESULT), files.read_json(folder / PROGRESS) or {}
    epoch, total = int(now.get("epoch", 0)), int(now.get("epochs", 0))
    if result is not None:
        return _finished(result, epoch, total)
    if not alive:
        why = f"the training process is gone ({ended})" if ended else "no training process runs here"
        return TrainingProgress("lost", epoch, total, message=f"{why}; see {folder / LOG}", token=token(folder))
    numbers = {k: float(v) for k, v in now.get("metrics", {}).items()}
    left = f", about {numbers['eta_s']:.0f} s left" if "eta_s" in numbers else ""
    message = now.get("doing", f"epoch {epoch} of {total}{left}") if now else "getting ready"
    return TrainingProgress("running", epoch, total, message=message, token=token(folder), metrics=numbers)


def _finished(result: dict[str, Any], epoch: int, epochs: int) -> TrainingProgress:
    checkpoint = result.get("checkpoint")
    return TrainingProgress(
        str(result.get("state", "failed")),
        epoch,
        epochs,
        message=str(result.get("message", "")),
        checkpoint=Path(checkpoint) if checkpoint else None,
        token=int(result.get("token", 0)),
        metrics={k: float(v) for k, v in result.get("metrics", {}).items()},
    )


def _measured(spec: TrainingSpec) -> list[str]:
    return [str(path) for path in spec.measure]


def _is_measured(spec: TrainingSpec, result: dict[str, Any]) -> bool:
    return set(_measured(spec)) <= set(result.get("measure", []))


def _fingerprint(spec: TrainingSpec) -> str:
    """A hash of all that decides what comes out: the spec without its free fields, and the data's manifest."""
    fixed = {k: str(v) for k, v in sorted(asdict(spec).items()) if k not in _FREE}
    manifest = spec.folder / "manifest.json"
    data = files.sha256(manifest) if manifest.is_file() else ""
    return hashlib.sha256(f"{fixed} {data}".encode()).hexdigest()
