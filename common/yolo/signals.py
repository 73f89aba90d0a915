"""What one forward pass says beyond its boxes: doubt, gradient length, disagreement. Tensors in, numbers out.

Shapes: B images, A anchors, C classes, n kept boxes of one image, F channels before the last class layer, K masks.
Every number of an image is computed from that image alone, bit for bit, whatever the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

CANDIDATES = 256
"""Anchors under the floor that are looked at for doubt at least, best first..."""
SHARE = 12
"""...and at least one in so many. With YOLO11n and YOLOv8n at 320 and 640, against all anchors: no class's doubt was
more than .003 too small, for 1 % of the pass."""
WIDER = 4
"""So many times as many where those of an image are all explained."""
COVERED = 0.5
"""A kept box explains a candidate it overlaps by more."""
MASKS = 8
KEEP = 0.8
"""Share of channels a dropout mask keeps."""


@dataclass(frozen=True)
class Level:
    """The last class layer at one scale: a 1 x 1 convolution or a linear layer.

    Attributes:
        weight: Shape (C, F).
        bias: Shape (C,).
        masks: Shape (K, F): 0, or 1 / KEEP.
        softmax: Whether classes exclude each other; else each has a sigmoid of its own.
    """

    weight: Tensor
    bias: Tensor
    masks: Tensor
    softmax: bool = False

    @classmethod
    def of(cls, layer: nn.Module, generator: torch.Generator) -> Level:
        """Take the parameters of a layer; masks come from the generator, so that they are the same every time."""
        assert isinstance(layer, nn.Conv2d | nn.Linear)  # noqa: S101 - for the type checker
        weight = layer.weight.detach().float().flatten(1)
        bias = layer.bias.detach().float() if layer.bias is not None else weight.new_zeros(len(weight))
        kept = torch.rand((MASKS, weight.shape[1]), generator=generator) < KEEP
        return cls(weight, bias, (kept.float() / KEEP).to(weight.device), isinstance(layer, nn.Linear))

    def heads(self, inputs: Tensor) -> Tensor:
        """Class scores under each dropout mask: inputs (n, F) -> (K, n, C), fp32."""
        return self._heads(inputs).float()

    def disagreement(self, inputs: Tensor, classes: Tensor) -> Tensor:
        """Variance of each box's class score over dropout masks on the layer's input (Gal and Ghahramani, 2016).

        Args:
            inputs: Shape (n, F).
            classes: Shape (n,), the class of each box.

        Returns:
            Shape (n,), in [0, .25].
        """
        inputs = inputs.double()
        if self.softmax:
            scores = self._heads(inputs).gather(2, classes.view(1, -1, 1).expand(MASKS, -1, 1))[..., 0].T
        else:
            logits = (inputs * self.weight[classes]) @ self.masks.T.double() + self.bias[classes, None]
            scores = logits.sigmoid()
        return scores.var(dim=1, unbiased=False).float()

    def residual(self, scores: Tensor) -> Tensor:
        """P - t, shape (n, C): t is the model's own hard answer, p >= .5 or, under a softmax, the best class."""
        if self.softmax:
            return scores - nn.functional.one_hot(scores.argmax(1), scores.shape[1])
        return scores - (scores >= 0.5).float()

    def _heads(self, inputs: Tensor) -> Tensor:
        """As ``heads``, in double precision."""
        # The order of additions, which rows and threads decide, stays below float32's last bit.
        logits = (inputs.double() * self.masks[:, None]) @ self.weight.T.double() + self.bias
        return logits.softmax(2) if self.softmax else logits.sigmoid()


def gradient(inputs: Tensor, residual: Tensor) -> Tensor:
    """Squared length of the cross-entropy gradient in each class's weights, shape (C,): rows of |sum (p - t) x^T|^2.

    The change that believing one's own answer would cause (expected gradient length, Settles, Craven and Ray,
    NIPS 2007, with the most likely labelling).

    Args:
        inputs: Shape (n, F), what went into the layer at each kept box.
        residual: Shape (n, C), p - t.
    """
    # In double precision for the same reason as the scores under masks.
    return (residual.T.double() @ inputs.double()).square().sum(1).float()


def doubts(
    best: Tensor,
    boxes: Callable[[Tensor], Tensor],
    scores: Callable[[Tensor], Tensor],
    kept: Sequence[Tensor],
    floor: float,
) -> Tensor:
    """Per class the best score of an anchor that lies at or under the floor and whose box no kept one explains.

    An anchor lies where its best class does; a kept box explains what it overlaps by IoU > .5. Scores of an anchor that
    is not looked at (see ``CANDIDATES``) are no better than the best class of any that is.

    Args:
        best: Shape (B, A), the best class score of each anchor.
        boxes: Indices of shape (B, k) to boxes of shape (B, k, 4), xyxy.
        scores: Indices of shape (B, k) to class scores of shape (B, C, k).
        kept: Per image shape (n, 4), xyxy.
        floor: Confidence from which boxes are kept.

    Returns:
        Shape (B, C), in [0, floor]; 0 when there is no such anchor.
    """
    from torchvision.ops import box_iou

    under = torch.where(best > floor, best.new_full((), -1.0), best).float()
    explained = nn.utils.rnn.pad_sequence([k.float() for k in kept], batch_first=True)

    def among(wanted: int) -> tuple[Tensor, Tensor]:
        values, index = under.topk(min(wanted, under.shape[1]), dim=1)
        taken = (values < 0) | (box_iou(boxes(index).float(), explained) > COVERED).any(2)
        return scores(index).float().masked_fill(taken[:, None], 0).amax(2), taken.all(1, keepdim=True)

    wanted = max(CANDIDATES, under.shape[1] // SHARE)
    found, none = among(wanted)
    return torch.where(none, among(wanted * WIDER)[0], found) if bool(none.any()) else found


@dataclass(frozen=True)
class Measured:
    """What the last class layers say of one batch.

    Attributes:
        change: Shape (B, C), per image the gradient length of each class, 0 or more.
        disagreement: Per image shape (n,).
        heads: Per image shape (K, n, C), empty when nobody asked.
    """

    change: Tensor
    disagreement: list[Tensor]
    heads: list[Tensor]


class LastLayers:
    """The last class layers of a network, watched: what went into them during the last forward pass."""

    def __init__(self, layers: Sequence[nn.Module], seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self._levels = [Level.of(layer, generator) for layer in layers]
        self.inputs: dict[int, Tensor] = {}
        for i, layer in enumerate(layers):
            layer.register_forward_pre_hook(lambda _m, args, i=i: self.inputs.__setitem__(i, args[0]))

    def measure(self, anchors: Sequence[Tensor], scores: Sequence[Tensor], *, heads: bool = False) -> Measured:
        """Per image anchors (n,) and scores (n, C) of its kept boxes to the signals of the last class layers."""
        counts = [len(a) for a in anchors]
        anchor, p = torch.cat(list(anchors)), torch.cat(list(scores))
        image = torch.repeat_interleave(
            torch.arange(len(counts), device=p.device), torch.tensor(counts, device=p.device)
        )
        squared, spread = p.new_zeros((len(counts), p.shape[1])), p.new_zeros(len(anchor))
        every = p.new_zeros((MASKS if heads else 0, *p.shape))
        maps = [_as_map(self.inputs[i]) for i in range(len(self._levels))]
        ends = accumulate(m.shape[2] * m.shape[3] for m in maps)
        for level, inputs, end in zip(self._levels, maps, ends, strict=True):
            start = end - inputs.shape[2] * inputs.shape[3]
            here = ((anchor >= start) & (anchor < end)).nonzero().view(-1)
            if not len(here):
                continue
            x, mine, owner = gather(inputs, image[here], anchor[here] - start), p[here], image[here]
            spread[here] = level.disagreement(x, mine.argmax(1))
            if heads:
                every[:, here] = level.heads(x)
            owners, rows = torch.unique_consecutive(owner, return_counts=True)
            parts = zip(torch.split(x, rows.tolist()), torch.split(level.residual(mine), rows.tolist()), strict=True)
            squared[owners] += torch.stack([gradient(*part) for part in parts])
        per_image = list(torch.split(every, counts, dim=1)) if heads else []
        return Measured(squared.sqrt(), list(torch.split(spread, counts)), per_image)


class Pyramid:
    """Backbone layers, watched: one map per stride of the last forward pass."""

    def __init__(self, layers: Sequence[Any]) -> None:
        self.maps: dict[int, Tensor] = {}
        self.levels = len(layers)
        for i, layer in enumerate(layers):
            layer.register_forward_hook(lambda _m, _a, out, i=i: self.maps.__setitem__(i, out))

    def embedding(self) -> Tensor:
        """Global average of each map (B, F, h, w), L2-normalised, side by side: (B, sum of F), fp32."""
        maps = [self.maps[i] for i in sorted(self.maps)]
        return torch.cat([nn.functional.normalize(m.float().mean((2, 3)), dim=1) for m in maps], dim=1)


def gather(maps: Tensor, image: Tensor, anchor: Tensor) -> Tensor:
    """Channels at anchors: maps (B, F, h, w), image and anchor shape (n,) -> (n, F), fp32."""
    width = maps.shape[-1]
    return maps[image, :, anchor // width, anchor % width].float()


def _as_map(inputs: Tensor) -> Tensor:
    return inputs if inputs.ndim == 4 else inputs[:, :, None, None]
