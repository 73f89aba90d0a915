"""What one forward pass says beyond its boxes: doubt, gradient length, disagreement. Tensors in, numbers out.

Shapes: A anchors, C classes, n kept boxes, F channels before the last class layer, K masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

CANDIDATES = 1000
"""Boxes under the floor that are looked at for doubt, best first."""
MASKS = 8
KEEP = 0.8
"""Share of channels a dropout mask keeps."""


@dataclass(frozen=True)
class Level:
    """The last class layer at one scale: a 1 x 1 convolution, and what went into it.

    Attributes:
        weight: Shape (C, F).
        bias: Shape (C,).
        masks: Shape (K, F): 0, or 1 / KEEP.
    """

    weight: Tensor
    bias: Tensor
    masks: Tensor

    @classmethod
    def of(cls, layer: nn.Conv2d, generator: torch.Generator) -> Level:
        """Take the parameters of a layer; masks come from the generator, so that they are the same every time."""
        weight = layer.weight.detach().float().flatten(1)
        bias = layer.bias.detach().float() if layer.bias is not None else weight.new_zeros(len(weight))
        kept = torch.rand((MASKS, weight.shape[1]), generator=generator) < KEEP
        return cls(weight, bias, (kept.float() / KEEP).to(weight.device))


def doubt(boxes: Tensor, best: Tensor, kept: Tensor, floor: float) -> float:
    """Best score at or under the floor whose box overlaps no kept box by IoU > .5; 0 when there is none.

    Args:
        boxes: Shape (A, 4), xywh.
        best: Shape (A,), the best class score of each anchor.
        kept: Shape (n, 4), xyxy.
        floor: Confidence from which boxes are kept.
    """
    from torchvision.ops import box_convert, box_iou

    under = torch.where(best > floor, best.new_full((), -1.0), best).float()
    scores, index = under.topk(min(CANDIDATES, len(under)))
    if len(kept):
        candidates = box_convert(boxes[index].float(), "cxcywh", "xyxy")
        scores = scores[box_iou(candidates, kept.float()).amax(1) <= 0.5]
    return max(0.0, float(scores.max())) if len(scores) else 0.0


def disagreement(level: Level, inputs: Tensor, classes: Tensor) -> Tensor:
    """Variance of each box's class score over dropout masks on the last class layer's input (Gal and Ghahramani, 2016).

    Args:
        level: The layer.
        inputs: Shape (n, F).
        classes: Shape (n,), the class of each box.

    Returns:
        Shape (n,), in [0, .25].
    """
    logits = (inputs * level.weight[classes]) @ level.masks.T + level.bias[classes, None]
    return logits.sigmoid().var(dim=1, unbiased=False)


def gradient(inputs: Tensor, scores: Tensor) -> Tensor:
    """Squared length of the cross-entropy gradient in the last class layer's weights, closed form: |sum (p - t) x^T|^2.

    t is the model's own hard answer, 1 where p >= .5: the change that believing it would cause (expected gradient
    length, Settles, Craven and Ray, NIPS 2007, with the most likely labelling).

    Args:
        inputs: Shape (n, F), what went into the layer at each kept box.
        scores: Shape (n, C), in [0, 1].
    """
    return ((scores - (scores >= 0.5).float()).T @ inputs).square().sum()


def gather(maps: Tensor, image: Tensor, anchor: Tensor) -> Tensor:
    """Channels at anchors: maps (B, F, h, w), image and anchor shape (n,) -> (n, F), fp32."""
    width = maps.shape[-1]
    return maps[image, :, anchor // width, anchor % width].float()


def pooled(maps: Sequence[Tensor]) -> Tensor:
    """Global average of each map (B, F, h, w), L2-normalised, side by side: (B, sum of F), fp32."""
    return torch.cat([nn.functional.normalize(m.float().mean((2, 3)), dim=1) for m in maps], dim=1)
