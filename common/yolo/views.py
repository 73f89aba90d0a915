"""More looks at a batch than the one pass: mirrored, half-size, dropout heads, other checkpoints.

Each look is a member of a committee, its boxes matched to those the detector kept (``common.acquisition.matching``).
Shapes: B images of 3 x h x w, n kept boxes of one image, C classes, K dropout heads, M members.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from common.acquisition.matching import match
from common.domain import Floats
from common.errors import UnknownNameError
from common.ports import VIEWS

Answer = Callable[[Tensor], list[tuple[Tensor, Tensor]]]
"""x (B, 3, h, w), as the network wants it -> per image (boxes (n, 4), xyxy network pixels; scores (n, C)), after
non-maximum suppression, from ``SCORE_FLOOR`` up."""

STRIDE = 32
GREY = 114 / 255
"""What ultralytics pads images with."""


@dataclass(frozen=True)
class Looks:
    """What the other looks at one image say of its n kept boxes: float32 on the CPU.

    Attributes:
        flip_iou: Shape (n,), in [0, 1]: overlap with the same object in the mirrored image, 0 when it is lost there;
            None = "flip" was not asked for.
        flip_scores: Shape (n, C): scores of that object there, 0 when lost; None together with ``flip_iou``.
        committee: Shape (M, n, C): scores of each member's matched box, 0 where it has none; None = no member.
    """

    flip_iou: Tensor | None
    flip_scores: Tensor | None
    committee: Tensor | None


@dataclass(frozen=True)
class _Matched:
    """One member about one image: shapes (n,) and (n, C)."""

    overlap: Tensor
    scores: Tensor


class Views:
    """The looks somebody asked for; without any, ``look`` runs nothing."""

    def __init__(self, names: Sequence[str], members: Sequence[Answer] = ()) -> None:
        """Nothing runs yet.

        Args:
            names: Out of ``common.ports.VIEWS``; members of the committee in this order.
            members: Other checkpoints, after them; their scores have the columns of the detector's.

        Raises:
            UnknownNameError: A name that is no view.
        """
        wrong = sorted(set(names) - set(VIEWS))
        if wrong:
            raise UnknownNameError(f"no view {wrong[0]!r}; there are {list(VIEWS)}")
        self.names = tuple(dict.fromkeys(names))
        self._members = tuple(members)

    def look(
        self,
        answer: Answer,
        x: Tensor,
        boxes: list[Tensor],
        scores: list[Tensor],
        heads: list[Tensor] | None,
    ) -> list[Looks]:
        """Look again at a batch.

        Args:
            answer: Of the detector's own network; it runs once more for "flip" and once for "half", so hooks on the
                network are overwritten: what they caught belongs to the last call.
            x: Shape (B, 3, h, w), as the network wants it.
            boxes: Per image shape (n, 4), xyxy network pixels: what the detector kept.
            scores: Per image shape (n, C).
            heads: Per image shape (K, n, C), the class scores of each dropout head; needed for "heads" only.

        Returns:
            One entry per image.

        Raises:
            ValueError: "heads" was asked for and ``heads`` is None.
        """
        if "heads" in self.names and heads is None:
            raise ValueError("the view 'heads' needs the class scores of the dropout heads")
        again = {"flip": _flipped, "half": _halved}
        seen = {n: _matched(again[n](answer, x), boxes, scores) for n in self.names if n in again}
        others = [_matched(member(x), boxes, scores) for member in self._members]
        return [self._looks(i, seen, others, heads) for i in range(len(boxes))]

    def _looks(
        self, i: int, seen: dict[str, list[_Matched]], others: list[list[_Matched]], heads: list[Tensor] | None
    ) -> Looks:
        """Everything about image ``i``."""
        members = []
        for name in self.names:
            if name in seen:
                members.append(seen[name][i].scores[None])
            elif heads is not None:
                members.append(heads[i].detach().float().cpu())
        members += [other[i].scores[None] for other in others]
        flip = seen["flip"][i] if "flip" in seen else None
        return Looks(
            flip.overlap if flip else None,
            flip.scores if flip else None,
            torch.cat(members) if members else None,
        )


def _flipped(answer: Answer, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Seen in the mirrored batch, back where it is in the upright one."""
    return [(mirrored(boxes, x.shape[3]), scores) for boxes, scores in answer(x.flip(3))]


def mirrored(boxes: Tensor, width: int) -> Tensor:
    """Boxes of an image mirrored left to right; its own inverse. Shape (n, 4)."""
    return torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=1)


def _halved(answer: Answer, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Seen at half the resolution, boxes back in pixels of ``x``."""
    small, scale = halved(x)
    return [(boxes * boxes.new_tensor(scale), scores) for boxes, scores in answer(small)]


def halved(x: Tensor) -> tuple[Tensor, tuple[float, float, float, float]]:
    """A batch at half its height and width, grey to the right and below up to whole strides.

    Returns:
        (batch, what its xyxy boxes are multiplied with to be pixels of ``x``).
    """
    height, width = x.shape[2:]
    size = (max(1, height // 2), max(1, width // 2))
    small = torch.nn.functional.interpolate(x, size=size, mode="area")
    below, right = (-side % STRIDE for side in size)
    padded = torch.nn.functional.pad(small, (0, right, 0, below), value=GREY)
    across, down = width / size[1], height / size[0]
    return padded, (across, down, across, down)


def _matched(theirs: list[tuple[Tensor, Tensor]], boxes: list[Tensor], scores: list[Tensor]) -> list[_Matched]:
    """One member's boxes on the kept ones, image by image."""
    found = []
    for (their_boxes, their_scores), mine, p in zip(theirs, boxes, scores, strict=True):
        if p.shape[1] != their_scores.shape[1]:
            raise ValueError(f"a member speaks of {their_scores.shape[1]} classes, the detector of {p.shape[1]}")
        overlap, there = match(_array(mine), _array(p), _array(their_boxes), _array(their_scores))
        found.append(_Matched(torch.from_numpy(overlap).float(), torch.from_numpy(there).float()))
    return found


def _array(tensor: Tensor) -> Floats:
    array: Floats = tensor.detach().float().cpu().numpy()
    return array
