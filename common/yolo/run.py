"""ultralytics' trainer as a round needs it: a class that can be built from its arguments alone, in any process.

On several GPUs ultralytics starts processes that import the class by its name and give it the arguments: what sits in
an instance or its callbacks would be lost there. Imports torch and ultralytics: to be imported after ``offline.load``.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import DEFAULT_CFG, RANK
from ultralytics.utils.torch_utils import unwrap_model

from common.errors import TrainingError
from common.lifeline import die_with
from common.yolo import files, offline, trainer

_SAVING_SHARE = 0.05
"""Share of the time that saving may take; a set of ten images would otherwise save more than it trains."""
_PROGRESS_S = 0.5
_CHECK_S = 0.5
STARTER = "HARDFIRST_TRAINING_PROCESS"
"""Environment variable with the id of the process that started a training on several GPUs."""


class LastWeights(DetectionTrainer):  # type: ignore[misc]
    """Trains without a look at the validation split: the weights of the last step come out, whatever it holds."""

    def get_dataloader(self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        """Only the training split is ever read; what ultralytics wants to know of the other one it is told of this."""
        if mode == "val":
            return self.train_loader
        return super().get_dataloader(dataset_path, batch_size, rank, mode)

    def validate(self) -> tuple[dict[str, float], None]:
        """Nothing: ``measuring`` does it once the weights are there."""
        return {}, None

    def final_eval(self) -> None:
        """Nothing: it would measure the best weights and strip the last ones in place."""

    def save_model(self) -> bool:
        """Write ``last.pt`` after the last epoch. Raises TrainingError where a number is not finite."""
        return self.write() if self.epoch + 1 >= self.epochs else False

    def write(self) -> bool:
        """Write ``last.pt`` now."""
        self._require_finite()
        self.best_fitness = 0.0  # differs from no fitness: else best.pt would be written too, the same bytes again
        return bool(super().save_model())

    def _require_finite(self) -> None:
        """A save would write zeros for what is not a number: such a file would load, and pass every later check."""
        tensors = (t for t in unwrap_model(self.model).state_dict().values() if t.is_floating_point())
        if not all(bool(torch.isfinite(t).all()) for t in tensors):
            raise TrainingError(f"the training went to infinity in epoch {self.epoch + 1}: the champion keeps serving")


class TrainingRun(LastWeights):
    """The training in the folder above its ``save_dir``: reports progress there and keeps ``safe.pt``.

    In one of several processes it ends with the process that started them, and leaves there why it failed.
    """

    def __init__(self, cfg: Any = DEFAULT_CFG, overrides: dict[str, Any] | None = None, _callbacks: Any = None) -> None:
        if RANK != -1:
            _end_with(int(os.environ[STARTER]))
        super().__init__(cfg, overrides, _callbacks)
        self.folder = self.save_dir.parent
        self._saved_at, self._saving_s = 0.0, 0.0
        self._began, self._batches, self._told = time.monotonic(), 0, 0.0

    def train(self) -> None:
        """Train; on several GPUs start a process for each and wait for their end."""
        if self.ddp:
            os.environ[STARTER] = str(os.getpid())
            (self.folder / trainer.FAILURE).unlink(missing_ok=True)
        try:
            super().train()
        except Exception as error:
            if RANK != -1 and not (self.folder / trainer.FAILURE).exists():
                files.write_json(self.folder / trainer.FAILURE, {"message": str(error)})
            raise

    def run_callbacks(self, event: str) -> None:
        """What ultralytics does there, then ours."""
        super().run_callbacks(event)
        if event == "on_pretrain_routine_end":
            offline.limit_threads(trainer.load_spec(self.folder).threads)
        elif event == "on_train_start":
            self._ready()
        elif event == "on_train_batch_end":
            self._batches += 1
            if time.monotonic() - self._told > _PROGRESS_S:
                self._tell(self.epoch)
        elif event == "on_fit_epoch_end":
            self._tell(self.epoch + 1)

    def save_model(self) -> bool:
        """Save the last epoch always, the first too, between them as often as it is cheap; all but the last safely."""
        last, start = self.epoch + 1 >= self.epochs, time.monotonic()
        if not last and self._saved_at and start - self._saved_at < self._saving_s / _SAVING_SHARE:
            self._require_finite()
            return False
        self.write()
        if not last:
            files.copy(Path(self.last), self.folder / trainer.SAFE)
        self._saved_at = time.monotonic()
        self._saving_s = self._saved_at - start
        return True

    def _ready(self) -> None:
        if not len(self.train_loader.dataset):
            raise TrainingError("there is nothing to train on: no image of the set can be read")
        self._began = time.monotonic()
        self._tell(self.start_epoch)

    def _tell(self, epoch: int) -> None:
        if RANK not in {-1, 0}:
            return
        self._told = time.monotonic()
        steps = len(self.train_loader)
        done = self.start_epoch * steps + self._batches
        numbers = {name: float(value) for name, value in (self.tloss or {}).items()}
        numbers |= {"batch": float(done), "batches": float(self.epochs * steps)}
        if self._batches:
            each = (self._told - self._began) / self._batches
            numbers["eta_s"] = round(each * max(0, self.epochs * steps - done), 1)
        state = {"epoch": min(epoch, self.epochs), "epochs": self.epochs, "metrics": numbers}
        state["images"] = len(self.train_loader.dataset)
        files.write_json(self.folder / trainer.PROGRESS, state, durable=False)


def _end_with(starter: int) -> None:
    """End this process when its launcher ends, or when the process ``starter`` that started the launcher does.

    The launcher gives each of its processes a session of its own, where no signal to the starter's group arrives; and
    it outlives a starter that was killed.
    """
    launcher = psutil.Process(os.getppid())
    die_with(launcher.pid)

    def watch() -> None:
        try:
            while launcher.ppid() == starter:
                time.sleep(_CHECK_S)
        except psutil.NoSuchProcess:
            pass  # the launcher is gone: die_with ends us too
        os._exit(1)

    threading.Thread(target=watch, name="starter", daemon=True).start()
