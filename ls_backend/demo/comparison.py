"""What the order was worth: the same number of labels in uniform order, trained and measured the same way."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.config import Settings
from common.domain import Label
from common.errors import TrainingError
from common.jobs import LocalRunner
from common.loop.training import training_spec
from common.ports import TrainingSample
from common.sample.oracle import FolderOracle
from common.sample.replay import rare_classes, tally, uniform_orders
from common.yolo.dataset import write_dataset
from common.yolo.evaluate import evaluate_in_child
from common.yolo.models import YoloModels

REPLAYS = 3


@dataclass(frozen=True)
class Row:
    """One line of the table; mAP in [0, 1]."""

    order: str
    labels: int
    map50: float
    map5095: float
    rare: float


class Comparison:
    """Trains replays and measures weights on held-out images; every result is kept, so that a second run resumes."""

    def __init__(
        self, folder: Path, settings: Settings, oracle: FolderOracle, files: Sequence[Path], held_out: Path
    ) -> None:
        """Nothing is trained yet.

        Args:
            folder: Where data sets, trainings and results go.
            settings: The same as the service's: image size, updates, batch, device.
            oracle: Answers for ``files``.
            files: The images of the project.
            held_out: ``data.yaml`` of the held-out set.
        """
        recipe = (Path(settings.model).stem, settings.imgsz, settings.updates, settings.batch)
        self._folder = folder / "-".join(map(str, recipe))
        self._settings = settings
        self._oracle = oracle
        self._files = {f.stem: f for f in files}
        self._held_out = held_out
        self._truth = {name: oracle.answer(name) for name in self._files}
        self.rare = rare_classes(self._truth)
        self._models = YoloModels(settings)
        self._runner = LocalRunner(settings.folder)

    def served(self, names: Sequence[str], tell: Callable[[str], None]) -> Row:
        """The labels in the order they were served in, all of them to train on.

        Not the weights of the round, which keeps a quarter of its labels to validate with.
        """
        tell(f"the order served, {len(names)} labels")
        return Row("hardfirst", len(names), *self._replayed(f"served-{len(names)}", [Path(n).stem for n in names]))

    def uniform(self, labels: int, tell: Callable[[str], None]) -> Row:
        """The mean of three uniform orders with this many labels, the same updates and the same base."""
        rows = []
        for number, order in enumerate(uniform_orders(self._files, range(REPLAYS)), start=1):
            tell(f"uniform order, replay {number} of {REPLAYS}, {labels} labels")
            rows.append(self._replayed(f"uniform{number}-{labels}", order[:labels]))
        map50, map5095, rare = (sum(r[i] for r in rows) / REPLAYS for i in range(3))
        return Row(f"uniform (mean of {REPLAYS})", labels, map50, map5095, rare)

    def close(self) -> None:
        """Stop a training that is under way."""
        self._runner.close()

    def _replayed(self, name: str, chosen: Sequence[str]) -> tuple[float, float, int]:
        """mAP50, mAP50-95 and rare boxes of a model trained on these labels."""
        found = self._kept(name, lambda: self._measure(self._train(name, chosen)))
        return found["map50"], found["map5095"], tally(chosen, self._truth, self.rare).rare

    def _kept(self, name: str, make: Callable[[], dict[str, float]]) -> dict[str, float]:
        path = self._folder / f"{name}.json"
        if not path.exists():
            found = make()
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_suffix(".new")
            fresh.write_text(json.dumps(found, indent=2))
            fresh.replace(path)
        return dict(json.loads(path.read_text()))

    def _measure(self, weights: Path) -> dict[str, float]:
        s = self._settings
        return evaluate_in_child(weights, self._held_out, imgsz=s.imgsz, home=s.folder, device=s.device)

    def _train(self, name: str, chosen: Sequence[str]) -> Path:
        folder = self._folder / name
        samples = [TrainingSample(c, self._files[c], Label(c, tuple(self._truth[c]))) for c in chosen]
        write_dataset(folder, samples, [], self._oracle.classes)
        spec = training_spec(self._settings, folder, self._models.base(""), self._oracle.classes, token=0)
        self._runner.start(spec)
        while (progress := self._runner.poll(folder)).state == "running":
            time.sleep(0.5)
        if progress.checkpoint is None:
            raise TrainingError(f"the replay {name} failed: {progress.message}")
        return progress.checkpoint
