"""A checkpoint or an architecture to a network ready for inference, whatever its task."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.errors import ModelError
from common.yolo import weights

_HEADS = ("Detect", "v10Detect", "Segment", "Segment26", "Pose", "Pose26", "OBB", "OBB26", "Classify")
_PROBE = 64
"""Side of the image that finds out which layer has which stride."""


def load(path: Path, seed: int) -> Any:
    """The network of a ``.pt`` checkpoint, or of a ``.yaml`` architecture built from ``seed``: fp32, on the CPU.

    Raises:
        ModelError: Missing, unsafe, broken, or with a head of another kind than detect, segment, pose, obb, classify.
    """
    if path.suffix == ".yaml":
        network = _build(path, seed)
        require(network, path)
        return network
    return weights.check(path, require=require)


def require(network: Any, shown: Path) -> None:
    """Raise ModelError unless a network is of a kind that can be scored, for colour images, one name per class."""
    head = network.model[-1] if hasattr(network, "model") else network
    kind = type(head).__name__
    if kind not in _HEADS:
        raise ModelError(f"{shown} has a head of the kind {kind}; hardfirst scores with {', '.join(_HEADS)}")
    classes = head.linear.out_features if kind == "Classify" else head.nc
    if classes != len(network.names):
        raise ModelError(f"{shown} has {classes} outputs for {len(network.names)} class names: train it again")
    if (channels := next(network.parameters()).shape[1]) != 3:
        raise ModelError(f"{shown} takes images of {channels} channels; hardfirst takes colour images")


def for_inference(network: Any, device: Any, *, half: bool, end_to_end: bool | None) -> Any:
    """Batch norm folded in, on the device; the memory order and, by default, the head that ``YOLO.predict`` chooses.

    Args:
        network: As ``load`` gives it; it is changed.
        device: A ``torch.device``.
        half: Compute in 16 bits.
        end_to_end: The head without suppression (YOLO26, YOLOv10); None = as ``YOLO.predict``: the other, if there.

    Raises:
        ModelError: ``end_to_end`` asks for a head that the network does not have.
    """
    import torch

    if getattr(network.model[-1], "end2end", False) or end_to_end:
        network.end2end = bool(end_to_end)
    network = network.fuse(verbose=False).eval().requires_grad_(False).to(device)
    if end_to_end is not None and bool(getattr(network.model[-1], "end2end", False)) != end_to_end:
        raise ModelError(f"end_to_end is {end_to_end}, but the network has only the other kind of head: leave it out")
    network = network.half() if half else network.float()
    x86 = device.type == "cpu" and platform.machine().lower() in ("x86_64", "amd64")
    fast = device.type == "cuda" or (x86 and torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    return network.to(memory_format=torch.channels_last if fast else torch.contiguous_format)


def pyramid(network: Any, strides: Sequence[int]) -> list[Any]:
    """The backbone's last layer of each stride: 4, 6 and 10 for YOLO11, 4, 6 and 9 for YOLOv8."""
    import torch

    up = next(
        (i for i, layer in enumerate(network.model) if isinstance(layer, torch.nn.Upsample)), len(network.model) - 1
    )
    length = len(network.yaml["backbone"]) if getattr(network, "yaml", None) else up
    last: dict[int, Any] = {}
    hooks = [
        layer.register_forward_hook(lambda m, _a, out: last.__setitem__(_PROBE // out.shape[-1], m))
        for layer in network.model[: min(length, len(network.model) - 1)]
    ]
    weight = next(network.parameters())
    with torch.inference_mode():
        network(torch.zeros((1, 3, _PROBE, _PROBE), dtype=weight.dtype, device=weight.device))
    for hook in hooks:
        hook.remove()
    return [last[stride] for stride in strides if stride in last]


def _build(path: Path, seed: int) -> Any:
    import torch
    from ultralytics.nn import tasks

    kinds = {
        "detect": tasks.DetectionModel,
        "segment": tasks.SegmentationModel,
        "pose": tasks.PoseModel,
        "obb": tasks.OBBModel,
        "classify": tasks.ClassificationModel,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            kind = kinds[tasks.guess_model_task(tasks.yaml_model_load(str(path)))]
            return kind(str(path), verbose=False).eval()
        except Exception as error:
            raise ModelError(f"{path} is not an architecture of ultralytics for {', '.join(kinds)}") from error
