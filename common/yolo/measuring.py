"""What weights come to on a validation split: ultralytics' validator, with every box kept as ``Matches``.

Imports torch and ultralytics: to be imported after ``offline.load``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ultralytics.data import build_dataloader
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.utils.metrics import box_iou

from common.average_precision import Matches
from common.errors import TrainingError
from common.yolo import dataset, offline, weights
from common.yolo.matches import match

BATCH = 16


def measure(path: Path, data_yaml: Path, imgsz: int, device: str, batch: int = BATCH) -> Matches:
    """Measure weights on the validation split of a training set.

    Args:
        path: A detection checkpoint. Its classes meet the set's by name; one that it does not know has no boxes.
        data_yaml: As ``dataset.write_dataset`` writes it.
        imgsz: Pixels of the long side.
        device: See ``offline.device``.
        batch: Images per pass; the same for all weights that are to be compared.

    Returns:
        Rows of ``truths`` are the images that could be read, in the order of their samples' ids.

    Raises:
        ModelError: Weights that cannot be loaded.
        TrainingError: No validation split, or not one image of it that can be read.
    """
    manifest = dataset.read_manifest(data_yaml.parent)
    if not manifest.count("val"):
        raise TrainingError(f"{data_yaml} has no validation set: a round needs labels in the random slice first")
    network = weights.check(path)
    arguments = {
        "data": str(data_yaml),
        "imgsz": max(64, imgsz),
        "device": str(offline.device(device)).removeprefix("cuda:"),
        "batch": batch,
        "rect": True,
        "workers": 0,
        "plots": False,
        "verbose": False,
        "mode": "val",
    }
    run = _Collector(manifest.classes, data_yaml.parent, arguments)
    try:
        run(model=network)
    except RuntimeError as error:
        if "No valid images found" not in str(error):
            raise
        raise TrainingError(f"no image of the validation set of {data_yaml} can be read") from error
    return run.matches({e.file: e.id for e in manifest.entries if e.split == "val"})


class _Collector(DetectionValidator):  # type: ignore[misc]
    """Keeps what was matched, image by image, in the project's class numbers."""

    def __init__(self, classes: tuple[str, ...], folder: Path, args: dict[str, Any]) -> None:
        super().__init__(save_dir=folder, args=args)
        self._classes = classes
        self._images: dict[str, dict[str, NDArray[Any]]] = {}

    def matches(self, ids: dict[str, str]) -> Matches:
        """All of them; ``ids`` names the sample of each file."""
        images = [self._images[name] for name in sorted(self._images, key=lambda name: ids[name])]
        rows = {key: np.concatenate([image[key] for image in images]) for key in images[0] if key != "truths"}
        image = np.repeat(np.arange(len(images)), [len(i["label"]) for i in images])
        return Matches(image=image, truths=np.stack([i["truths"] for i in images]), **rows)

    def get_dataloader(self, dataset_path: str, batch_size: int) -> Any:
        """Without ultralytics' cut of the labels to the first class numbers that the model has."""
        images = self.build_dataset(dataset_path, batch=batch_size, mode="val")
        return build_dataloader(images, batch_size, 0, shuffle=False, pin_memory=False, device=self.device)

    def init_metrics(self, model: Any) -> None:
        """Besides ultralytics' own: the project's number of each of the model's classes, -1 where it has none."""
        super().init_metrics(model)
        ours = {name: i for i, name in enumerate(self._classes)}
        numbers = [ours.get(str(model.names[i]), -1) for i in range(len(model.names))]
        self._numbers = torch.tensor(numbers, dtype=torch.float32, device=self.device)

    def postprocess(self, preds: Any) -> list[dict[str, Any]]:
        """Boxes of classes that the project has, under the project's numbers."""
        answer = []
        for found in super().postprocess(preds):
            translated = found | {"cls": self._numbers[found["cls"].long()]}
            known = translated["cls"] >= 0
            answer.append({key: value[known] for key, value in translated.items()})
        return answer

    def update_metrics(self, preds: list[dict[str, Any]], batch: dict[str, Any]) -> None:
        """Match the boxes of one batch."""
        for i, found in enumerate(preds):
            self.seen += 1
            wanted = self._prepare_batch(i, batch)
            same = wanted["cls"][:, None] == found["cls"]
            iou = (box_iou(wanted["bboxes"], found["bboxes"]) * same).cpu().numpy()
            correct, overlap = match(iou, self.iouv.cpu().numpy())
            self._images[Path(wanted["im_file"]).name] = {
                "label": found["cls"].cpu().numpy().astype(np.int64),
                "confidence": found["conf"].cpu().numpy().astype(np.float64),
                "correct": correct,
                "overlap": overlap,
                "truths": np.bincount(wanted["cls"].cpu().numpy().astype(np.int64), minlength=len(self._classes)),
            }

    def get_stats(self) -> dict[str, Any]:
        """None: the figures follow from the matches."""
        return {}

    def print_results(self) -> None:
        """Nothing to print."""
