"""One class per kind of head: which boxes it keeps, their full class scores, and their geometry in original pixels.

Shapes: B images, A anchors, C classes, n kept boxes of one image, E further columns of a kind. Everything here gives,
box for box, what ``YOLO.predict`` gives of the same output, except that suppression has no time limit: on a loaded
machine that limit answers "no boxes" for the rest of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.domain import SCORE_FLOOR, Floats, Instances
from common.errors import ModelError
from common.yolo import signals
from common.yolo.images import CentreCrop, Fit, Frame, Letterbox

IOU = 0.7
"""Boxes of one class that overlap more are one box: ultralytics' default."""
_NO_LIMIT_S = 1e9
_CLASSIFY_STRIDES = (8, 16, 32)


@dataclass(frozen=True)
class Kept:
    """What one image keeps, best first, in network pixels.

    Attributes:
        boxes: Shape (n, 4), xyxy; around turned boxes what encloses them.
        scores: Shape (n, C), fp32. Their best is the confidence of the box. Where an end-to-end head names one anchor
            twice, for two classes, the second box has 0 for the class of the first (see ``_told_once``).
        anchors: Shape (n,), int64: where in the output each came from.
        rest: Shape (n, 6 + E), the head's own row: box, confidence, class, and what its kind adds.
        outlines: Polygons of shape (k, 2), of masks only.
    """

    boxes: Tensor
    scores: Tensor
    anchors: Tensor
    rest: Tensor
    outlines: tuple[Floats, ...] = ()


class Boxes:
    """Upright boxes; the kinds that add to them are built on it."""

    rotated = False

    def __init__(self, network: Any, max_boxes: int) -> None:
        """Watch the head of a network that is ready for inference.

        Args:
            network: See ``network.for_inference``.
            max_boxes: Per image.
        """
        self._head = network.model[-1]
        self._classes, self._max_boxes = len(network.names), max_boxes
        self._end_to_end = bool(getattr(self._head, "end2end", False))
        branches = self._head.one2one_cv3 if self._end_to_end else self._head.cv3
        self.layers: list[Any] = [branch[-1] for branch in branches]
        self.strides: Sequence[int] = [int(stride) for stride in self._head.stride]
        if self._end_to_end:
            self._head.max_det = max(max_boxes, 300)
            self._select, self._head.get_topk_index = self._head.get_topk_index, self._selected

    @property
    def end_to_end(self) -> bool:
        """Whether the head selects its boxes itself."""
        return self._end_to_end

    def fit(self, imgsz: int) -> Fit:
        """How images come to the network's size."""
        return Letterbox(imgsz, max(32, *self.strides))

    def prepared(self, x: Tensor) -> Tensor:
        """The network's input from RGB in [0, 1]."""
        return x

    def kept(self, out: Any, size: Sequence[int], *, geometry: bool = True) -> list[Kept]:  # noqa: ARG002 - see Masks
        """The boxes from ``SCORE_FLOOR`` up of each image.

        Args:
            out: What the network returned.
            size: Height and width of its input.
            geometry: False spares what only ``instances`` needs.
        """
        from ultralytics.utils.nms import non_max_suppression

        decoded = self._decoded(out)
        rows, index = non_max_suppression(
            decoded,
            SCORE_FLOOR,
            IOU,
            max_det=self._max_boxes,
            nc=self._classes,
            rotated=self.rotated,
            end2end=self._end_to_end,
            max_time_img=_NO_LIMIT_S,
            return_idxs=True,
        )
        return [self._one(i, decoded, rows[i], index[i].long().view(-1)) for i in range(len(rows))]

    def doubts(self, out: Any, kept: Sequence[Kept]) -> Floats:
        """Shape (B, C), see ``signals.doubts``; a row of an end-to-end head knows the score of one class."""
        decoded = self._decoded(out)
        if self._end_to_end:
            geometry, best = self._geometry(decoded), decoded[:, :, 4]
            every = torch.nn.functional.one_hot(decoded[:, :, 5].long(), self._classes).mT * best[:, None]
        else:
            geometry, every = self._geometry(decoded.transpose(1, 2)), decoded[:, 4 : 4 + self._classes]
            best = every.amax(1)

        def boxes(index: Tensor) -> Tensor:
            return self._enclosing(geometry.gather(1, index[..., None].expand(-1, -1, geometry.shape[2])))

        def scores(index: Tensor) -> Tensor:
            return every.gather(2, index[:, None].expand(-1, self._classes, -1))

        return _numpy(signals.doubts(best, boxes, scores, [k.boxes for k in kept], SCORE_FLOOR))

    def instances(self, kept: Kept, frame: Frame, size: Sequence[int]) -> Instances:
        """In pixels of the original; ``size`` is the height and width of the network's input."""
        return Instances(self._scaled(kept.boxes, frame, size), _numpy(kept.scores))

    def _decoded(self, out: Any) -> Tensor:
        """Shape (B, 4 + C + E, A); of an end-to-end head (B, k, 6 + E)."""
        decoded: Tensor = out[0] if isinstance(out, tuple | list) else out
        return decoded

    def _selected(self, scores: Tensor, limit: int) -> Any:
        """Stand in for the head's selection of rows, which forgets the anchors."""
        chosen = self._select(scores, limit)
        self._all, self._anchors = scores, chosen[2]
        return chosen

    def _one(self, i: int, decoded: Tensor, rows: Tensor, index: Tensor) -> Kept:
        if self._end_to_end:
            anchors = self._anchors[i][index]
            scores = _told_once(self._all[i][anchors].float(), anchors, rows)
            return Kept(self._enclosing_kept(rows), scores, anchors, rows)
        scores = decoded[i, 4 : 4 + self._classes, index].T.float()
        return Kept(self._enclosing_kept(rows), scores, index, rows)

    def _geometry(self, rows: Tensor) -> Tensor:
        """The columns that say where: rows (B, k, ...) -> (B, k, 4)."""
        return rows[..., :4]

    def _enclosing(self, boxes: Tensor) -> Tensor:
        """What ``_geometry`` gives to xyxy."""
        from torchvision.ops import box_convert

        return boxes if self._end_to_end else box_convert(boxes, "cxcywh", "xyxy")

    def _enclosing_kept(self, rows: Tensor) -> Tensor:
        return rows[:, :4]

    def _scaled(self, boxes: Tensor, frame: Frame, size: Sequence[int]) -> Floats:
        from ultralytics.utils.ops import scale_boxes

        return _numpy(scale_boxes(size, boxes.clone(), (frame.height, frame.width)))


class Turned(Boxes):
    """Boxes with an angle."""

    rotated = True

    def instances(self, kept: Kept, frame: Frame, size: Sequence[int]) -> Instances:
        """See ``Boxes``."""
        from ultralytics.utils.ops import scale_boxes

        turned = self._geometry(kept.rest).clone()
        turned[:, :4] = scale_boxes(size, turned[:, :4], (frame.height, frame.width), xywh=True)
        return Instances(_numpy(self._enclosing(turned)), _numpy(kept.scores), rotated=_numpy(turned))

    def _geometry(self, rows: Tensor) -> Tensor:
        """Centre, size and angle: rows (..., 4 + C + 1) -> (..., 5)."""
        return torch.cat([rows[..., :4], rows[..., -1:]], dim=-1)

    def _enclosing(self, boxes: Tensor) -> Tensor:
        from ultralytics.utils.ops import xywhr2xyxyxyxy

        corners = xywhr2xyxyxyxy(boxes)
        return torch.cat([corners.amin(-2), corners.amax(-2)], dim=-1)

    def _enclosing_kept(self, rows: Tensor) -> Tensor:
        return self._enclosing(self._geometry(rows))


class Masks(Boxes):
    """Boxes with a mask, of which the outline is kept."""

    def kept(self, out: Any, size: Sequence[int], *, geometry: bool = True) -> list[Kept]:
        """See ``Boxes``; a box whose mask is empty is dropped, as ultralytics does."""
        found = super().kept(out, size)
        if not geometry:
            return found
        return [_outlined(kept, out[0][1][i], size) for i, kept in enumerate(found)]

    def instances(self, kept: Kept, frame: Frame, size: Sequence[int]) -> Instances:
        """See ``Boxes``."""
        from ultralytics.utils.ops import scale_coords

        shape = (frame.height, frame.width)
        polygons = tuple(scale_coords(size, outline.copy(), shape) for outline in kept.outlines)
        return Instances(self._scaled(kept.boxes, frame, size), _numpy(kept.scores), polygons=polygons)

    def _decoded(self, out: Any) -> Tensor:
        return super()._decoded(out[0])


class Poses(Boxes):
    """Boxes with key points."""

    def instances(self, kept: Kept, frame: Frame, size: Sequence[int]) -> Instances:
        """See ``Boxes``; a network that does not predict visibility has 1 everywhere."""
        from ultralytics.utils.ops import scale_coords

        points = kept.rest[:, 6:].reshape(len(kept.rest), *self._head.kpt_shape).clone()
        points = scale_coords(size, points, (frame.height, frame.width))
        if points.shape[2] == 2:
            points = torch.cat([points, torch.ones_like(points[..., :1])], dim=2)
        return Instances(self._scaled(kept.boxes, frame, size), _numpy(kept.scores), keypoints=_numpy(points))


class Whole(Boxes):
    """Classification: one box, the whole image, whose scores are the softmax."""

    def __init__(self, network: Any, max_boxes: int) -> None:  # noqa: ARG002 - every kind is built the same way
        self.layers = [network.model[-1].linear]
        self.strides = _CLASSIFY_STRIDES
        self._own: Any = getattr(network, "transforms", None)

    def fit(self, imgsz: int) -> Fit:
        """See ``Boxes``; the checkpoint's own transforms where they are for this size, as ultralytics.

        Raises:
            ModelError: They are others than ultralytics makes.
        """
        from torchvision import transforms as kinds
        from ultralytics.data.augment import classify_transforms

        size = getattr(self._own.transforms[0], "size", None) if self._own is not None else None
        same = size in (imgsz, [imgsz, imgsz], (imgsz, imgsz))
        steps = (self._own if same else classify_transforms(imgsz)).transforms
        if tuple(map(type, steps)) != (kinds.Resize, kinds.CenterCrop, kinds.ToTensor, kinds.Normalize):
            raise ModelError(
                f"the checkpoint brings image transforms of its own ({self._own}): train it with ultralytics"
            )
        self._normalise = steps[3]
        return CentreCrop(imgsz, kinds.Compose(steps[:2]))

    def prepared(self, x: Tensor) -> Tensor:
        """See ``Boxes``."""
        normal: Tensor = self._normalise(x)
        return normal

    def kept(self, out: Any, size: Sequence[int], *, geometry: bool = True) -> list[Kept]:  # noqa: ARG002
        """See ``Boxes``."""
        scores = out[0].float()
        box = scores.new_tensor([[0, 0, size[1], size[0]]])
        first = torch.zeros(1, dtype=torch.int64, device=scores.device)
        return [Kept(box, row[None], first, box) for row in scores]

    def doubts(self, out: Any, kept: Sequence[Kept]) -> Floats:  # noqa: ARG002 - nothing lies under a floor
        """See ``Boxes``; always 0."""
        return np.zeros(tuple(out[0].shape), np.float32)

    def instances(self, kept: Kept, frame: Frame, size: Sequence[int]) -> Instances:  # noqa: ARG002
        """See ``Boxes``."""
        return Instances(np.array([[0, 0, frame.width, frame.height]], np.float32), _numpy(kept.scores))


KINDS: dict[str, type[Boxes]] = {
    "Detect": Boxes,
    "v10Detect": Boxes,
    "OBB": Turned,
    "OBB26": Turned,
    "Segment": Masks,
    "Segment26": Masks,
    "Pose": Poses,
    "Pose26": Poses,
    "Classify": Whole,
}
"""Class of the network's last layer -> what reads it."""


def of(network: Any, max_boxes: int) -> Boxes:
    """The reader of a network's head; ``network.require`` has looked at its kind."""
    return KINDS[type(network.model[-1]).__name__](network, max_boxes)


def _told_once(scores: Tensor, anchors: Tensor, rows: Tensor) -> Tensor:
    """Scores (n, C) of end-to-end rows whose best class is each row's own.

    Classes that better rows of the same anchor stand for become 0, those that tie with a row's own a bit lower.
    """
    own = torch.nn.functional.one_hot(rows[:, 5].long(), scores.shape[1])
    before = (anchors[:, None] == anchors).tril(-1)
    left = scores.masked_fill(before.float() @ own.float() > 0, 0.0)
    tied = (left >= rows[:, 4:5]) & (own == 0)
    return torch.where(tied, torch.nextafter(left, torch.zeros_like(left)), left)


def _outlined(kept: Kept, prototypes: Tensor, size: Sequence[int]) -> Kept:
    from ultralytics.utils.ops import masks2segments, process_mask

    if not len(kept.rest):
        return kept
    masks = process_mask(prototypes, kept.rest[:, 6:], kept.boxes, size, upsample=True)
    there = masks.amax((-2, -1)) > 0
    outlines = tuple(masks2segments(masks[there]))
    return replace(
        kept,
        boxes=kept.boxes[there],
        scores=kept.scores[there],
        anchors=kept.anchors[there],
        rest=kept.rest[there],
        outlines=outlines,
    )


def _numpy(tensor: Tensor) -> Floats:
    array: Floats = tensor.float().cpu().numpy()
    return array
