"""One checkpoint, resident: boxes, class scores, embedding and model signals from one forward pass per image."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common.domain import Prediction
from common.errors import ModelError
from common.yolo import network, offline
from common.yolo.images import Frame, Reader

if TYPE_CHECKING:
    from common.yolo.heads import Boxes, Kept
    from common.yolo.signals import Measured
    from common.yolo.views import Answer, Looks

log = logging.getLogger(__name__)


class YoloDetector:
    """Implements ``common.ports.Detector`` with an ultralytics network: detect, segment, pose, obb or classify.

    On a CPU every answer is, bit for bit, the one of the image alone, whatever the batch: by torch also whatever the
    number of threads (see ``exact``), by OpenVINO within 1e-3 of torch's (see ``openvino``), so that what is stored by
    checkpoint, image and size need not know which of them answered. On a GPU the last digits depend on the batch around
    an image, because the library's kernels do.

    Args:
        path: A ``.pt`` checkpoint, or a ``.yaml`` architecture: then the network knows nothing and is built from
            ``seed``, so that its embeddings are the same every time.
        imgsz: Pixels of the long side, a multiple of 32; of the short side for classification.
        device: 'auto', 'cpu', 'mps', '0'.
        batch: Images per pass, 0 = by device and size; halved for good when the GPU's memory is too small.
        threads: CPU threads, 0 = all; torch keeps one such number per process.
        max_boxes: Boxes per image at most, best first.
        seed: Of dropout masks and of an architecture's weights.
        reduced_decode: Let libjpeg shrink photographs at least four times as large as needed: faster, and about one
            confident box in twenty moves; False = the boxes of ``YOLO.predict`` for every image.
        end_to_end: The head without suppression (YOLO26, YOLOv10); None = the one ``YOLO.predict`` takes.
        views: More looks at each image, out of ``common.ports.VIEWS``; each costs a pass or a part of one.
        members: Checkpoints of a committee, of the same task; their classes meet ours by name.
        engine: 'torch'; 'auto' = OpenVINO on a CPU where it is equal and faster; 'openvino' = where it is equal.
        converted: Folder in which converted checkpoints are kept; None = torch.

    Raises:
        ModelError: Weights that are missing, unsafe, broken or of a kind that cannot be scored.
        SettingError: A device this machine does not have.
        UnknownNameError: A view there is not.
    """

    classes: tuple[str, ...]
    engine: str
    """What answers: 'torch' or 'openvino'."""

    def __init__(
        self,
        path: Path,
        imgsz: int,
        device: str = "auto",
        *,
        batch: int = 0,
        threads: int = 0,
        max_boxes: int = 300,
        seed: int = 0,
        reduced_decode: bool = True,
        end_to_end: bool | None = None,
        views: Sequence[str] = (),
        members: Sequence[Path] = (),
        engine: str = "torch",
        converted: Path | None = None,
    ) -> None:
        offline.load()
        import torch

        from common.yolo import signals

        self._device = offline.device(device)
        self._half = self._device.type == "cuda"
        self._max_boxes, self._seed, self._end_to_end = max_boxes, seed, end_to_end
        self._network, self._head, self.classes = self._ready(path)
        self.batch = batch or _batch(self._device.type, imgsz)
        cores = offline.cores()
        torch.set_num_threads(threads or cores)
        self._reader = Reader(self._head.fit(imgsz), min(4, max(2, cores)), reduced=reduced_decode)
        self._pyramid = signals.Pyramid(network.pyramid(self._network, self._head.strides))
        self._last = signals.LastLayers(self._head.layers, seed)
        self._choose: Any = None
        if self._device.type == "cpu" and engine != "torch" and converted is not None:
            from common.yolo import openvino

            self._choose = partial(openvino.choose, openvino.Wish(engine, converted, imgsz, seed, threads or cores))
            self._network = self._choose(path, self._network, self._head, self._pyramid, self._last)
        self.engine = str(getattr(self._network, "engine", "torch"))
        self._views: Any = None
        self._heads = "heads" in views
        if views or members:
            from common.yolo.views import Views

            self._views = Views(views, [self._member(member) for member in members])

    def predict(self, paths: Sequence[Path]) -> list[Prediction | str]:
        """See ``common.ports.Detector``. At most about four batches of images are in memory at once."""
        answers: dict[int, Prediction | str] = {}
        waiting: dict[tuple[int, ...], list[tuple[int, Frame]]] = {}
        for place, frame in self._reader.frames(paths, ahead=self.batch):
            if isinstance(frame, str):
                answers[place] = frame
                continue
            group = waiting.setdefault(frame.pixels.shape, [])
            group.append((place, frame))
            crowded = sum(map(len, waiting.values())) >= 3 * self.batch
            if len(group) >= self.batch or crowded:
                largest = max(waiting, key=lambda shape: len(waiting[shape]))
                answers |= self._answer(waiting.pop(largest))
        for group in waiting.values():
            answers |= self._answer(group)
        return [answers[place] for place in range(len(paths))]

    def _answer(self, group: list[tuple[int, Frame]]) -> dict[int, Prediction | str]:
        """Predict frames of one shape; halve the batch when the GPU's memory is too small."""
        import torch

        answers: dict[int, Prediction | str] = {}
        while group:
            now, later = group[: self.batch], group[self.batch :]
            try:
                predictions = self._forward([frame for _, frame in now])
            except torch.OutOfMemoryError as error:
                self._smaller(len(now), now[0][1], error)
                continue
            answers |= dict(zip((place for place, _ in now), predictions, strict=True))
            group = later
        return answers

    def _smaller(self, tried: int, frame: Frame, error: Exception) -> None:
        import torch

        if tried == 1:
            size = "x".join(map(str, frame.pixels.shape[1::-1]))
            raise ModelError(
                f"the GPU's memory is too small for one image of {size} pixels: lower HARDFIRST_IMGSZ, or set "
                "HARDFIRST_DEVICE to cpu"
            ) from error
        self.batch = tried // 2
        log.warning("the GPU's memory is too small for %d images at once: from now on %d", tried, self.batch)
        torch.cuda.empty_cache()

    def _ready(self, path: Path) -> tuple[Any, Boxes, tuple[str, ...]]:
        """A network ready for inference, the reader of its head, its class names."""
        from common.yolo import exact, heads

        loaded = network.load(path, self._seed)
        ready = network.for_inference(loaded, self._device, half=self._half, end_to_end=self._end_to_end)
        if self._device.type == "cpu":
            exact.make_exact(ready)
        return ready, heads.of(ready, self._max_boxes), tuple(str(ready.names[i]) for i in range(len(ready.names)))

    def _tensor(self, frames: Sequence[Frame]) -> Any:
        """Shape (B, 3, h, w): the numbers of ultralytics' predictor, in the memory order the layers want."""
        import torch

        x = torch.from_numpy(np.stack([frame.pixels for frame in frames])).to(self._device).permute(0, 3, 1, 2)
        return self._head.prepared((x.half() if self._half else x.float()).div_(255))

    def _forward(self, frames: Sequence[Frame]) -> list[Prediction]:
        import torch

        with torch.inference_mode():
            x = self._tensor(frames)
            size = tuple(x.shape[2:])
            out = self._network(x)
            kept = self._head.kept(out, size)
            doubts = self._head.doubts(out, kept)
            measured = self._last.measure([k.anchors for k in kept], [k.scores for k in kept], heads=self._heads)
            change, embeddings = measured.change.cpu().numpy(), self._pyramid.embedding().cpu().numpy()
            looks = self._look(x, kept, measured)
            answers = []
            for i, frame in enumerate(frames):
                instances = self._head.instances(kept[i], frame, size)
                spread = measured.disagreement[i].cpu().numpy()
                answers.append(
                    Prediction(instances, embeddings[i], doubts[i], change[i], spread, frame.width, frame.height)
                )
        self._pyramid.maps.clear()
        self._last.inputs.clear()
        return [_with(answer, look) for answer, look in zip(answers, looks, strict=True)] if looks else answers

    def _look(self, x: Any, kept: Sequence[Kept], measured: Measured) -> list[Looks]:
        """Look again, where that was asked for; what the hooks caught of the one pass is used up by now."""
        if self._views is None:
            return []
        boxes, scores = [k.boxes.float() for k in kept], [k.scores for k in kept]
        answer = _answer_of(self._network, self._head)
        looks: list[Looks] = self._views.look(answer, x, boxes, scores, measured.heads if self._heads else None)
        return looks

    def _member(self, path: Path) -> Answer:
        """Another checkpoint's answer in our classes, 0 where it does not know one."""
        from common.yolo import signals

        member, head, names = self._ready(path)
        if type(head) is not type(self._head):
            raise ModelError(f"{path} is of another task: all members of a committee must be of the same")
        if self._choose is not None:
            pyramid = signals.Pyramid(network.pyramid(member, head.strides))
            member = self._choose(path, member, head, pyramid, signals.LastLayers(head.layers, self._seed))
        column = {name: i for i, name in enumerate(names)}
        places = [column.get(name, len(names)) for name in self.classes]
        return _answer_of(member, head, places)


def _answer_of(member: Any, head: Boxes, places: Sequence[int] | None = None) -> Answer:
    """Forward pass and suppression of one network; ``places`` = its column for each of our classes, C = none."""

    def answer(x: Any) -> list[tuple[Any, Any]]:
        import torch

        with torch.inference_mode():
            found = head.kept(member(x), tuple(x.shape[2:]), geometry=False)
        pairs = [(k.boxes.float(), k.scores) for k in found]
        if places is None:
            return pairs
        return [(boxes, torch.nn.functional.pad(scores, (0, 1))[:, places]) for boxes, scores in pairs]

    return answer


def _with(answer: Prediction, look: Looks) -> Prediction:
    def array(tensor: Any) -> Any:
        return None if tensor is None else tensor.float().cpu().numpy()

    return replace(
        answer,
        flip_iou=array(look.flip_iou),
        flip_scores=array(look.flip_scores),
        committee=array(look.committee),
    )


def _batch(device: str, imgsz: int) -> int:
    """A CPU is fastest while what a layer gives fits its cache: measured with YOLO11n, 8 images of 320, 4 of 640."""
    full, large = {"cuda": (32, 32), "cpu": (8, 4)}.get(device, (16, 16))
    return max(1, min(full, large * 640**2 // imgsz**2))
