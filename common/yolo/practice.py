"""Many short trainings in one process: train, measure, score, forget. For replays; the service trains in a child."""

from __future__ import annotations

import gc
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.domain import Prediction
from common.errors import TrainingError
from common.ports import TrainingSample, TrainingSpec
from common.yolo import offline, trainer, training, weights
from common.yolo.dataset import write_dataset
from common.yolo.evaluate import evaluate


@dataclass
class Practice:
    """Trains from one checkpoint and measures on one validation set.

    Attributes:
        base: A detection checkpoint, ``.pt``, or an architecture, ``.yaml``.
        classes: Names in order.
        val: What to measure on.
        folder: Its own; holds one training at a time.
        imgsz: Pixels of the long side, a multiple of 32.
        batch: Images per step.
        freeze: So many first layers keep their weights.
        device: See ``offline.device``.
        threads: CPU threads, 0 = all.
        views: More looks when scoring, out of ``common.ports.VIEWS``.
    """

    base: Path
    classes: tuple[str, ...]
    val: Sequence[TrainingSample]
    folder: Path
    imgsz: int
    batch: int = 8
    freeze: int = 0
    device: str = "cpu"
    threads: int = 0
    views: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time of the last call's steps."""

    def prepare(self) -> None:
        """Load what every training needs; ``offline.prepare`` has run before.

        Raises:
            ModelError: A checkpoint that nothing can start from.
            SettingError: A device this machine does not have.
        """
        offline.load()
        offline.device(self.device)
        if self.base.suffix == ".pt":
            weights.check(self.base)
        limit_threads(self.threads)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_dataset(self.folder / "val", list(self.val)[:1], self.val, self.classes)

    def train(self, samples: Sequence[TrainingSample], updates: int, seed: int) -> tuple[Path, int]:
        """Train on ``samples`` from the base with the recipe of ``trainer``; the last weights and the steps made.

        Raises:
            TrainingError: Nothing to train on, or numbers that are not finite.
        """
        started = time.perf_counter()
        folder = self.folder / "train"
        shutil.rmtree(folder, ignore_errors=True)
        data = write_dataset(folder, samples, (), self.classes)
        spec = TrainingSpec(
            folder, self.base, self.classes, self.imgsz, updates, 0, self.batch, self.device, seed, self.threads, 0
        )
        steps = self._run(spec, data, len(samples))
        self.seconds = {"train": time.perf_counter() - started}
        return folder / trainer.FINAL, steps

    def _run(self, spec: TrainingSpec, data: Path, images: int) -> int:
        from common.yolo.run import LastWeights

        overrides: dict[str, Any] = trainer.recipe(spec, images) | {
            "data": str(data),
            "device": str(offline.device(spec.device)).removeprefix("cuda:"),
            "save_dir": str(spec.folder / "run"),
            "model": str(spec.base),
            "exist_ok": True,
            "freeze": self.freeze or None,
        }
        run = LastWeights(overrides=overrides)
        run.add_callback("on_pretrain_routine_end", lambda _: limit_threads(self.threads))
        run.train()
        if len(run.train_loader.dataset) != images:
            lost = images - len(run.train_loader.dataset)
            raise TrainingError(f"{lost} of {images} images cannot be read: take them off the list of images")
        training.finalise(Path(run.last), spec.folder / trainer.FINAL)
        return int(run.epochs) * -(-images // int(run.batch_size))

    def measure(self, checkpoint: Path) -> dict[str, float]:
        """See ``evaluate``."""
        started = time.perf_counter()
        limit_threads(self.threads)
        metrics = evaluate(checkpoint, self.folder / "val" / "data.yaml", self.imgsz, self.device)
        self.seconds["measure"] = time.perf_counter() - started
        return metrics

    def score(self, checkpoint: Path, images: Sequence[Path]) -> list[Prediction | None]:
        """What a checkpoint says about images; None = unreadable. Its classes must be ours, in order."""
        from common.yolo.detector import YoloDetector

        started = time.perf_counter()
        detector = YoloDetector(
            checkpoint, self.imgsz, self.device, threads=self.threads or offline.cores(), views=self.views
        )
        if detector.classes != self.classes:
            raise TrainingError(f"{checkpoint} knows {detector.classes}, not {self.classes}")
        said = detector.predict(list(images))
        self.seconds["score"] = time.perf_counter() - started
        return [p if isinstance(p, Prediction) else None for p in said]

    def forget(self) -> None:
        """Delete the training's folder and free what it held."""
        shutil.rmtree(self.folder / "train", ignore_errors=True)
        gc.collect()


def limit_threads(threads: int) -> None:
    """Make torch and ultralytics use so many CPU threads, 0 = all, also where ultralytics sets its own number."""
    from ultralytics.utils import torch_utils

    torch_utils.NUM_THREADS = offline.limit_threads(threads or offline.cores())
