"""One checkpoint, resident: boxes, class scores, embedding and model signals from one forward pass per image."""

from __future__ import annotations

import logging
import platform
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from common.domain import SCORE_FLOOR, Instances, Prediction
from common.errors import ModelError
from common.yolo import offline, weights
from common.yolo.images import Frame, Reader

log = logging.getLogger(__name__)

IOU = 0.7
"""Boxes of one class that overlap more are one box: ultralytics' default."""
_PROBE = 64
"""Side of the image that finds out which layer has which stride."""


class YoloDetector:
    """Implements ``common.ports.Detector`` with an ultralytics detection network.

    Args:
        path: A ``.pt`` checkpoint, or a ``.yaml`` architecture: then the network knows nothing and is built from
            ``seed``, so that its embeddings are the same every time.
        imgsz: Pixels of the long side, a multiple of 32.
        device: 'auto', 'cpu', 'mps', '0'.
        batch: Images per pass, 0 = by device and size; halved for good when the GPU's memory is too small.
        threads: CPU threads, 0 = all; torch keeps one such number per process.
        max_boxes: Boxes per image at most, best first.
        seed: Of dropout masks and of an architecture's weights.

    Raises:
        ModelError: Weights that are missing, unsafe, broken or not a detector's.
        SettingError: A device this machine does not have.
    """

    classes: tuple[str, ...]

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
    ) -> None:
        offline.load()
        import torch

        self._device = offline.device(device)
        network = _architecture(path, seed) if path.suffix == ".yaml" else weights.check(path)
        head = _suppressed(network)
        self.classes = tuple(str(network.names[i]) for i in range(len(network.names)))
        self._half = self._device.type == "cuda"
        self._network = _for_inference(network, self._device, half=self._half)
        self.batch = batch or _batch(self._device.type, imgsz)
        self._max_boxes = max_boxes
        cores = offline.cores()
        torch.set_num_threads(threads or cores)
        self._reader = Reader(imgsz, max(32, int(max(head.stride))), min(4, max(2, cores)))
        self._watch(head, seed)

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

    def _watch(self, head: Any, seed: int) -> None:
        """Hook the backbone's last layer of each stride and the inputs of the last class layers."""
        import torch

        from common.yolo import signals

        generator = torch.Generator().manual_seed(seed)
        layers = [branch[-1] for branch in head.cv3]
        self._levels = [signals.Level.of(layer, generator) for layer in layers]
        self._maps: dict[int, Any] = {}
        self._inputs: dict[int, Any] = {}
        for i, layer in enumerate(layers):
            layer.register_forward_pre_hook(lambda _m, args, i=i: self._inputs.__setitem__(i, args[0]))
        for i, layer in enumerate(_pyramid(self._network, head, self._tensor([_blank()]))):
            layer.register_forward_hook(lambda _m, _a, out, i=i: self._maps.__setitem__(i, out))

    def _tensor(self, frames: Sequence[Frame]) -> Any:
        """Shape (B, 3, h, w), RGB in [0, 1], exactly as ultralytics' predictor prepares it."""
        import torch

        x = torch.from_numpy(np.stack([frame.pixels for frame in frames])).to(self._device)
        x = x.permute(0, 3, 1, 2).contiguous().flip(1)
        return (x.half() if self._half else x.float()).div_(255)

    def _forward(self, frames: Sequence[Frame]) -> list[Prediction]:
        import torch
        from ultralytics.utils.nms import non_max_suppression

        with torch.inference_mode():
            x = self._tensor(frames)
            out = self._network(x)
            out = out[0] if isinstance(out, tuple | list) else out
            if out.shape[1] != 4 + len(self.classes):
                raise ModelError(f"the network's output has shape {tuple(out.shape)}: it is no plain detection head")
            # A time limit would silently answer "no boxes" for the rest of the batch on a loaded machine.
            rows, kept = non_max_suppression(
                out, SCORE_FLOOR, IOU, max_det=self._max_boxes, max_time_img=1e9, return_idxs=True
            )
            kept = [index.long().view(-1) for index in kept]
            answers = self._predictions(frames, x.shape[2:], out, rows, kept)
        self._maps.clear()
        self._inputs.clear()
        return answers

    def _predictions(self, frames: Sequence[Frame], shape: Any, out: Any, rows: Any, kept: Any) -> list[Prediction]:
        from ultralytics.utils.ops import scale_boxes

        from common.yolo import signals

        scores = [out[i, 4:, index].T.float() for i, index in enumerate(kept)]
        changes, spreads = self._signals(kept, scores)
        embeddings = signals.pooled([self._maps[i] for i in sorted(self._maps)]).cpu().numpy()
        answers = []
        for i, frame in enumerate(frames):
            doubt = signals.doubt(out[i, :4].T, out[i, 4:].amax(0), rows[i][:, :4], SCORE_FLOOR)
            boxes = scale_boxes(shape, rows[i][:, :4], (frame.height, frame.width))
            instances = Instances(boxes.float().cpu().numpy(), scores[i].cpu().numpy())
            spread = spreads[i].cpu().numpy()
            answers.append(
                Prediction(instances, embeddings[i], doubt, float(changes[i]), spread, frame.width, frame.height)
            )
        return answers

    def _signals(self, kept: Any, scores: Any) -> tuple[Any, Any]:
        """Gradient length of each image, and the disagreement of each of its boxes."""
        import torch

        from common.yolo import signals

        anchor, probability = torch.cat(kept), torch.cat(scores)
        counts = torch.tensor([len(index) for index in kept], device=anchor.device)
        image = torch.repeat_interleave(torch.arange(len(kept), device=anchor.device), counts)
        squared = probability.new_zeros(len(kept))
        spread = probability.new_zeros(len(anchor))
        sizes = [self._inputs[i].shape[2] * self._inputs[i].shape[3] for i in range(len(self._levels))]
        for i, (level, end) in enumerate(zip(self._levels, accumulate(sizes), strict=True)):
            here = ((anchor >= end - sizes[i]) & (anchor < end)).nonzero().view(-1)
            if not len(here):
                continue
            inputs = signals.gather(self._inputs[i], image[here], anchor[here] - (end - sizes[i]))
            spread[here] = signals.disagreement(level, inputs, probability[here].argmax(1))
            for one in set(image[here].tolist()):
                mine = image[here] == one
                squared[one] += signals.gradient(inputs[mine], probability[here][mine])
        return squared.sqrt().tolist(), torch.split(spread, counts.tolist())


def _blank() -> Frame:
    return Frame(np.zeros((_PROBE, _PROBE, 3), np.uint8), _PROBE, _PROBE)


def _batch(device: str, imgsz: int) -> int:
    full = 32 if device == "cuda" else 16
    return max(1, min(full, full * 640**2 // imgsz**2))


def _architecture(path: Path, seed: int) -> Any:
    import torch
    from ultralytics.nn.tasks import DetectionModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            network = DetectionModel(str(path), verbose=False).eval()
        except Exception as error:
            raise ModelError(f"{path} is not a detection architecture of ultralytics") from error
    weights.require_detector(network, path)
    return network


def _suppressed(network: Any) -> Any:
    """The head, switched to the outputs that need suppression where it has both kinds (YOLO26, YOLOv10)."""
    head = network.model[-1]
    if getattr(head, "end2end", False):
        network.end2end = False
    return head


def _for_inference(network: Any, device: Any, *, half: bool) -> Any:
    """Batch norm folded in, on the device; the memory order that ultralytics chooses there."""
    import torch

    network = network.fuse(verbose=False).eval().requires_grad_(False).to(device)
    network = network.half() if half else network.float()
    x86 = device.type == "cpu" and platform.machine().lower() in ("x86_64", "amd64")
    fast = device.type == "cuda" or (x86 and torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    return network.to(memory_format=torch.channels_last if fast else torch.contiguous_format)


def _pyramid(network: Any, head: Any, x: Any) -> list[Any]:
    """The backbone's last layer of each of the head's strides: 4, 6 and 10 for YOLO11, 4, 6 and 9 for YOLOv8."""
    import torch

    up = next(
        (i for i, layer in enumerate(network.model) if isinstance(layer, torch.nn.Upsample)), len(network.model) - 1
    )
    backbone = network.model[: len(network.yaml["backbone"]) if getattr(network, "yaml", None) else up]
    strides: dict[int, Any] = {}
    hooks = [
        layer.register_forward_hook(lambda m, _a, out: strides.__setitem__(x.shape[-1] // out.shape[-1], m))
        for layer in backbone
    ]
    with torch.inference_mode():
        network(x)
    for hook in hooks:
        hook.remove()
    return [strides[int(stride)] for stride in head.stride if int(stride) in strides]
