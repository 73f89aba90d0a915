"""One round's training with ultralytics, in the process it is called in: meant for the training child.

Kept out of ultralytics' hands: which weights come out (the last, never the best), when a checkpoint is safe, what they
and others are worth, and what counts as finished.
"""

from __future__ import annotations

import gc
import logging
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from common.average_precision import figures
from common.errors import ModelError, SettingError, TrainingError
from common.ports import TrainingSpec
from common.yolo import dataset, files, matches, offline, trainer, weights

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")


def train(spec: TrainingSpec) -> str:
    """Train, resuming where a safe checkpoint lies, until ``final.pt`` is there.

    Returns:
        A sentence when some images did not train, else ''.

    Raises:
        TrainingError: Nothing to train on, or the numbers went to infinity.
        ModelError: A base that cannot be loaded.
        SettingError: A device this machine does not have.
    """
    manifest = dataset.read_manifest(spec.folder)
    final = spec.folder / trainer.FINAL
    if final.is_file():
        return ""
    offline.load()
    offline.limit_threads(spec.threads)
    if spec.base.suffix == ".pt":
        weights.check(spec.base)
    wanted = devices(spec.device)
    last = back_off(lambda batch: _once(spec, manifest, wanted, batch), spec.batch, least=wanted.count(",") + 1)
    finalise(last, final)
    images = manifest.count("train")
    lost = images - int((files.read_json(spec.folder / trainer.PROGRESS) or {}).get("images", images))
    return f"{lost} of {images} images could not be read and did not train" if lost else ""


def measure(spec: TrainingSpec) -> tuple[dict[str, float], list[str]]:
    """Measure the new weights, and those that ``spec.measure`` names, on the round's validation split.

    What was measured before, in this folder, is not measured again.

    Returns:
        The figures of the new weights (``average_precision.figures``), empty without a validation split that can be
        read; and one sentence for all that could not be measured.
    """
    manifest = dataset.read_manifest(spec.folder)
    if not manifest.count("val"):
        return {}, []
    trainer.tell_measuring(spec, manifest.count("train"))
    offline.load()
    offline.limit_threads(spec.threads)
    try:
        new = _measured(spec, spec.folder / trainer.FINAL)
    except TrainingError as error:
        return {}, [str(error)]
    notes = []
    for path in spec.measure:
        try:
            _measured(spec, path)
        except (ModelError, OSError) as error:
            notes.append(f"{path} was not measured: {error}")
    return figures(matches.load(spec.folder)[new], spec.classes), notes


def back_off(attempt: Callable[[int], Answer], batch: int, least: int = 1) -> Answer:
    """``attempt`` with so many images per step; where the memory is too small, again with half as many."""
    while True:
        try:
            return attempt(batch)
        except (RuntimeError, TrainingError) as error:
            if "out of memory" not in str(error).lower() or batch // 2 < least:
                raise
            batch //= 2
            log.warning("the memory is too small: going on with %d images per step", batch)
        _free()


def devices(name: str) -> str:
    """HARDFIRST_DEVICE as ultralytics spells it: 'cpu', 'mps', '0', '0,1'. Raises SettingError."""
    others = name.split(",")[1:]
    found = [
        offline.device(name),
        *(offline.torch_device(other, f"Part of HARDFIRST_DEVICE={name}") for other in others),
    ]
    answer = [str(device).removeprefix("cuda:") for device in found]
    if others and not all(number.isdigit() for number in answer):
        raise SettingError(f"HARDFIRST_DEVICE is {name!r}: only GPUs can train together, by their numbers, as in 0,1")
    return ",".join(dict.fromkeys(answer))


def resumable(safe: Path) -> bool:
    """Whether a checkpoint loads safely and holds an unfinished training.

    ultralytics would start a finished one anew, at full length, and stop at a damaged one.
    """
    from ultralytics.nn.tasks import torch_safe_load

    if not safe.is_file():
        return False
    try:
        state = torch_safe_load(str(safe), safe_only=True)[0]
        return bool(state["optimizer"]) and 0 <= state["epoch"] < state["train_args"]["epochs"] - 1
    except Exception:
        log.exception("%s cannot be resumed from: the training starts over", safe)
        safe.unlink(missing_ok=True)
        return False


def finalise(last: Path, final: Path) -> None:
    """Strip the optimizer, look at every number, and only then give the file its name."""
    from ultralytics.utils.torch_utils import strip_optimizer

    with files.replacing(final) as fresh:
        strip_optimizer(last, s=str(fresh))
        if not fresh.is_file():
            raise TrainingError(f"{last} could not be read back: see {trainer.LOG} beside it")
        weights.check(fresh, shown=final)


def _once(spec: TrainingSpec, manifest: dataset.Manifest, device: str, batch: int) -> Path:
    """Train and return the last checkpoint."""
    from common.yolo.run import TrainingRun

    safe = spec.folder / trainer.SAFE
    overrides: dict[str, Any] = {
        "data": str(spec.folder / "data.yaml"),
        "device": device,
        "batch": batch,
        "save_dir": str(spec.folder / "run"),
        "workers": 0,
    }
    if resumable(safe):
        overrides |= {"model": str(safe), "resume": str(safe)}
    else:
        fresh = trainer.recipe(spec, manifest.count("train")) | {"model": str(spec.base), "exist_ok": True}
        overrides = fresh | overrides
    run = TrainingRun(overrides=overrides)
    try:
        run.train()
    except subprocess.CalledProcessError as error:
        why = (files.read_json(spec.folder / trainer.FAILURE) or {}).get("message", str(error))
        raise TrainingError(f"one of the processes on the GPUs {device} stopped: {why}") from error
    return Path(run.last)


def _measured(spec: TrainingSpec, path: Path) -> str:
    """Measure weights, if that is still to be done; their sha256."""
    from common.yolo import measuring

    sha256 = files.sha256(path)
    if not matches.path(spec.folder, sha256).is_file():
        data = spec.folder / "data.yaml"
        found = back_off(lambda n: measuring.measure(path, data, spec.imgsz, spec.device, n), 2 * spec.batch)
        matches.save(spec.folder, sha256, found)
    return sha256


def _free() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
