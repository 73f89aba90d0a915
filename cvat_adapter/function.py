"""A cvat-sdk auto-annotation function over hardfirst's own detector, for cvat-cli and agents.

``cvat-cli task auto-annotate ID --function-file function.py -p model=str:PATH``, or as the module
``cvat_adapter.function``. Settings are those of ``hardfirst``; parameters go before them. Weights are never downloaded.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cvat_sdk.auto_annotation as cvataa
import numpy as np
from PIL import Image, ImageOps

from common import config
from common.domain import Instances
from common.errors import ModelError, SettingError, UnreadableImageError
from common.geometry import clip

if TYPE_CHECKING:
    from common.config import Settings
    from common.ports import Detector

PNG_MODES = ("1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA")
"""Images that a PNG file holds as they are."""


class Function:
    """What cvat-sdk asks for: ``spec``, and ``detect`` for each image."""

    def __init__(self, detector: Detector, conf: float) -> None:
        """Nothing is detected yet.

        Args:
            detector: Its class names are the labels.
            conf: Boxes under this confidence are left out unless the caller names another one, in [0, 1].
        """
        self._detector, self._conf = detector, conf
        named = enumerate(detector.classes)
        self.spec = cvataa.DetectionFunctionSpec(
            labels=[cvataa.label_spec(name, number, type="rectangle") for number, name in named]
        )

    def detect(self, context: Any, image: Image.Image) -> list[Any]:
        """The shapes of one image, best first, in pixels of the upright image: the one that CVAT shows.

        Args:
            context: ``frame_name`` and ``conf_threshold`` count.
            image: As PIL opens it: a rotation in its EXIF data is applied here.

        Raises:
            UnreadableImageError: The detector cannot read it.
        """
        threshold = self._conf if context.conf_threshold is None else context.conf_threshold
        upright = ImageOps.exif_transpose(image)
        with tempfile.TemporaryDirectory(prefix="hardfirst-") as folder:
            path = Path(folder) / "image.png"
            kept = upright if upright.mode in PNG_MODES else upright.convert("RGB")
            kept.save(path, compress_level=1)
            answer = self._detector.predict([path])[0]
        if isinstance(answer, str):
            raise UnreadableImageError(f"{context.frame_name}: {answer}")
        return SHAPES["rectangle"](answer.instances, upright.size, threshold)


def rectangles(instances: Instances, size: tuple[int, int], threshold: float) -> list[Any]:
    """Each box with its best class.

    Args:
        instances: What the detector found.
        size: Width and height of the image in pixels; boxes are clipped to it, those without area are left out.
        threshold: Least confidence, in [0, 1].
    """
    sure = instances.confidence >= threshold
    boxes = np.round(clip(instances.boxes[sure], *size), 2)
    scores = instances.scores[sure]
    return [
        cvataa.rectangle(int(row.argmax()), [float(v) for v in box], score=min(1.0, float(row.max())))
        for box, row in zip(boxes, scores, strict=True)
        if box[0] < box[2] and box[1] < box[3]
    ]


SHAPES: dict[str, Callable[[Instances, tuple[int, int], float], list[Any]]] = {"rectangle": rectangles}
"""Type of CVAT -> shapes from instances. Rotated boxes, polygons and skeletons get their place here."""


def create(model: str = "", conf: float | None = None, imgsz: int = 0, device: str = "") -> Function:
    """The function, with its detector loaded.

    Args:
        model: Weights: a path, or a name in the model folder; '' = HARDFIRST_MODEL.
        conf: Boxes under this confidence are left out, in [0, 1]; None = MODEL_SCORE_THRESHOLD.
        imgsz: Pixels of the long side, a multiple of 32; 0 = HARDFIRST_IMGSZ.
        device: 'auto', 'cpu', 'mps', '0'; '' = HARDFIRST_DEVICE.

    Raises:
        SettingError: A parameter that is not allowed.
        ModelError: Weights that are missing, unsafe or broken.
    """
    given = {"model": model, "imgsz": imgsz, "device": device}
    settings = config.load(**{name: value for name, value in given.items() if value})
    threshold = settings.model_score_threshold if conf is None else conf
    if not 0 <= threshold <= 1:
        raise SettingError(f"conf is {conf}: it must be from 0 to 1")
    return Function(_detector(settings), threshold)


def _detector(settings: Settings) -> Detector:
    from common.yolo import weights
    from common.yolo.models import YoloModels

    if weights.located(settings.model, settings.models) is None:
        raise ModelError(f"no weights {settings.model!r}: give model a path, or put the file into {settings.models}")
    models = YoloModels(settings)
    return models.detector(models.base(""))
