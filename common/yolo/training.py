"""One training with ultralytics, in the process it is called in: meant for the training child.

Kept out of ultralytics' hands: which weights come out (the last, never the best), when a checkpoint is safe, and what
counts as finished.
"""

from __future__ import annotations

import gc
import logging
import time
from pathlib import Path
from typing import Any

from common.errors import TrainingError
from common.ports import TrainingSpec
from common.yolo import dataset, files, offline, trainer, weights

log = logging.getLogger(__name__)
_SAVING_SHARE = 0.05
"""Share of the time that saving may take; a set of ten images would otherwise save more than it trains."""
_PROGRESS_S = 0.5


def train(spec: TrainingSpec) -> tuple[dict[str, float], str]:
    """Train, resuming where a safe checkpoint lies, until ``final.pt`` is there.

    Returns:
        The final metrics, empty without a validation set; and a sentence when some images did not train, else ''.

    Raises:
        TrainingError: Nothing to train on, or the numbers went to infinity.
        ModelError: A base that cannot be loaded.
    """
    manifest = dataset.read_manifest(spec.folder)
    final, measured = spec.folder / trainer.FINAL, files.read_json(spec.folder / trainer.METRICS)
    if final.is_file() and measured is not None:
        return {k: float(v) for k, v in measured.items()}, ""
    offline.load()
    limit_threads(spec.threads)
    if spec.base.suffix == ".pt":
        weights.check(spec.base)
    run = _run(spec, manifest)
    metrics = final_metrics(run.validator.metrics) if manifest.count("val") else {}
    files.write_json(spec.folder / trainer.METRICS, metrics)
    _finalise(Path(run.last), final)
    lost = manifest.count("train") - len(run.train_loader.dataset)
    return metrics, f"{lost} of {manifest.count('train')} images could not be read and did not train" if lost else ""


def limit_threads(threads: int) -> int:
    """Make torch and ultralytics' own pools use so many CPU threads (0 = all but one) and return the number."""
    import torch
    import ultralytics.utils as utils

    wanted = threads or max(1, offline.cores() - 1)
    utils.NUM_THREADS = wanted
    torch.set_num_threads(wanted)
    return wanted


def final_metrics(measured: Any) -> dict[str, float]:
    """``map50``, ``map5095`` and ``ap50/<class>`` of the classes that occur, each in [0, 1]."""
    box, names = measured.box, measured.names
    answer = {"map50": float(box.map50), "map5095": float(box.map)}
    present = zip(box.ap_class_index, box.ap50, strict=True)
    return answer | {f"ap50/{names[int(i)]}": float(ap) for i, ap in present}


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


def _run(spec: TrainingSpec, manifest: dataset.Manifest) -> Any:
    """Train; where the GPU's memory is too small, again with half the batch."""
    batch = spec.batch
    while True:
        try:
            return _once(spec, manifest, batch)
        except RuntimeError as error:
            if "out of memory" not in str(error).lower() or batch == 1:
                raise
            batch //= 2
            log.warning("the memory is too small: going on with %d images per step", batch)
        _free()


def _once(spec: TrainingSpec, manifest: dataset.Manifest, batch: int) -> Any:
    from ultralytics.models.yolo.detect import DetectionTrainer

    safe = spec.folder / trainer.SAFE
    common = {
        "data": str(spec.folder / "data.yaml"),
        "device": str(offline.device(spec.device)).removeprefix("cuda:"),
        "batch": batch,
        "save_dir": str(spec.folder / "run"),
        "workers": 0,
    }
    if resumable(safe):
        overrides = common | {"model": str(safe), "resume": str(safe)}
    else:
        overrides = trainer.recipe(spec, manifest.count("train")) | common | {"model": str(spec.base), "exist_ok": True}
    run = DetectionTrainer(overrides=overrides)
    _Keeper(run, spec, measure=manifest.count("val") > 0)
    run.train()
    return run


def _free() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class _Keeper:
    """Sits in one ultralytics trainer: reports progress, keeps ``safe.pt``, refuses numbers that are not finite."""

    def __init__(self, run: Any, spec: TrainingSpec, *, measure: bool) -> None:
        self._folder, self._threads = spec.folder, spec.threads
        self._save = run.save_model
        self._saved_at, self._saving_s = 0.0, 0.0
        self._began, self._batches, self._told = time.monotonic(), 0, 0.0
        run.save_model = lambda: self._keep(run)
        run.final_eval = lambda: None  # it would measure again, with the best weights, and overwrite the last
        if not measure:
            run.validate = lambda: ({}, None)
        run.add_callback("on_pretrain_routine_end", lambda _: limit_threads(self._threads))
        run.add_callback("on_train_start", self._ready)
        run.add_callback("on_train_batch_end", self._batch)
        run.add_callback("on_fit_epoch_end", lambda r: self._tell(r, r.epoch + 1))

    def _ready(self, run: Any) -> None:
        if not len(run.train_loader.dataset):
            raise TrainingError("there is nothing to train on: no image of the set can be read")
        self._began = time.monotonic()
        self._tell(run, run.start_epoch)

    def _batch(self, run: Any) -> None:
        self._batches += 1
        if time.monotonic() - self._told > _PROGRESS_S:
            self._tell(run, run.epoch)

    def _tell(self, run: Any, epoch: int) -> None:
        self._told = time.monotonic()
        steps = len(run.train_loader)
        done = run.start_epoch * steps + self._batches
        each = (self._told - self._began) / max(1, self._batches)
        numbers = {name: float(value) for name, value in (run.tloss or {}).items()}
        numbers |= {"batch": float(done), "batches": float(run.epochs * steps)}
        if self._batches:
            numbers["eta_s"] = round(each * max(0, run.epochs * steps - done), 1)
        state = {"epoch": min(epoch, run.epochs), "epochs": run.epochs, "metrics": numbers}
        files.write_json(self._folder / trainer.PROGRESS, state, durable=False)

    def _keep(self, run: Any) -> bool:
        """Instead of ``save_model``: the last epoch always, the first too, between them as often as it is cheap."""
        _require_finite(run)
        last = run.epoch + 1 >= run.epochs
        start = time.monotonic()
        if not last and self._saved_at and start - self._saved_at < self._saving_s / _SAVING_SHARE:
            return False
        self._save()
        if not last:
            files.copy(Path(run.last), self._folder / trainer.SAFE)
        self._saved_at = time.monotonic()
        self._saving_s = self._saved_at - start
        return True


def _require_finite(run: Any) -> None:
    """A save would write zeros for what is not a number: such a file would load, and pass every later check."""
    import torch
    from ultralytics.utils.torch_utils import unwrap_model

    tensors = (t for t in unwrap_model(run.model).state_dict().values() if t.is_floating_point())
    if not all(bool(torch.isfinite(t).all()) for t in tensors):
        raise TrainingError(f"the training went to infinity in epoch {run.epoch + 1}: the champion keeps serving")


def _finalise(last: Path, final: Path) -> None:
    """Strip the optimizer, look at every number, and only then give the file its name."""
    from ultralytics.utils.torch_utils import strip_optimizer

    with files.replacing(final) as fresh:
        strip_optimizer(last, s=str(fresh))
        if not fresh.is_file():
            raise TrainingError(f"{last} could not be read back: see {trainer.LOG} beside it")
        weights.check(fresh, shown=final)
