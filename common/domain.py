"""The nouns, frozen. Boxes are xyxy; utility grows with interest; times are UTC."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def _check_shape(name: str, array: NDArray[Any], wanted: tuple[int | None, ...]) -> None:
    """Raise ValueError unless ``array`` has the wanted shape; None in ``wanted`` stands for any length."""
    fits = array.ndim == len(wanted) and all(w is None or w == g for w, g in zip(wanted, array.shape, strict=True))
    if not fits:
        raise ValueError(f"{name} must have shape {wanted}, got {array.shape}")


@dataclass(frozen=True)
class Instances:
    """What one model says about one image.

    Attributes:
        boxes: Shape (n, 4), xyxy absolute pixels of the upright image (EXIF orientation applied).
        scores: Shape (n, C), in [0, 1]; one sigmoid per class of ``Detector.classes``; rows need not sum to 1.
        rotated: Shape (n, 5), centre x and y, width, height in pixels and angle in radians: turned boxes, which
            ``boxes`` enclose. At most one of these three geometries is there.
        polygons: n outlines, each of shape (k, 2), x and y in pixels.
        keypoints: Shape (n, K, 3), x and y in pixels and visibility in [0, 1].
    """

    boxes: Floats
    scores: Floats
    rotated: Floats | None = None
    polygons: tuple[Floats, ...] | None = None
    keypoints: Floats | None = None

    def __post_init__(self) -> None:
        _check_shape("boxes", self.boxes, (None, 4))
        _check_shape("scores", self.scores, (len(self.boxes), None))
        if sum(g is not None for g in (self.rotated, self.polygons, self.keypoints)) > 1:
            raise ValueError("instances have at most one geometry: rotated, polygons or keypoints")
        if self.rotated is not None:
            _check_shape("rotated", self.rotated, (len(self.boxes), 5))
        if self.keypoints is not None:
            _check_shape("keypoints", self.keypoints, (len(self.boxes), None, 3))
        if self.polygons is not None and len(self.polygons) != len(self.boxes):
            raise ValueError(f"polygons must be {len(self.boxes)} outlines, got {len(self.polygons)}")

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def confidence(self) -> Floats:
        """Shape (n,): the best class score of each box."""
        return self.scores.max(axis=1) if self.scores.size else np.zeros(len(self.boxes), np.float32)


@dataclass(frozen=True)
class Prediction:
    """Everything one forward pass of one checkpoint gives for one image.

    Attributes:
        instances: Every box from confidence .05 up (``SCORE_FLOOR``), best first.
        embedding: Shape (D,), raw pooled features; finite.
        doubt: Shape (C,), in [0, .05]: per class its best score where no class lies above the floor and no kept box
            overlaps; 0 when there is none.
        model_change: Shape (C,), 0 or more: expected gradient length of each class's row of the last class layer; the
            length over several classes is the root of the sum of their squares.
        disagreement: Shape (n,), variance over dropout heads of the score of each kept box's best class, 0 or more.
        width: Pixels of the upright image.
        height: Pixels of the upright image.
        flip_iou: Shape (n,), in [0, 1], overlap with the same object in the mirrored image, 0 when it is lost there;
            None = no such view was asked for.
        flip_scores: Shape (n, C), scores of that object there, 0 when lost; None together with ``flip_iou``.
        committee: Shape (M, n, C), scores of the matched box of each committee member, 0 where it found none;
            None = no committee was asked for.
    """

    instances: Instances
    embedding: Floats
    doubt: Floats
    model_change: Floats
    disagreement: Floats
    width: int
    height: int
    flip_iou: Floats | None = None
    flip_scores: Floats | None = None
    committee: Floats | None = None

    def __post_init__(self) -> None:
        n, classes = self.instances.scores.shape
        _check_shape("embedding", self.embedding, (None,))
        _check_shape("doubt", self.doubt, (classes,))
        _check_shape("model_change", self.model_change, (classes,))
        _check_shape("disagreement", self.disagreement, (n,))
        if (self.flip_iou is None) != (self.flip_scores is None):
            raise ValueError("flip_iou and flip_scores come together")
        for name, shape in (("flip_iou", (n,)), ("flip_scores", (n, classes)), ("committee", (None, n, classes))):
            if getattr(self, name) is not None:
                _check_shape(name, getattr(self, name), shape)


def over_all_classes(doubt: float, model_change: float, classes: int) -> tuple[Floats, Floats]:
    """``Prediction.doubt`` and ``model_change``, each of shape (C,), where one number over all classes is known.

    The doubt may be of any class; the length is shared out evenly, so that the one over all classes stays.
    """
    each = model_change / max(1, classes) ** 0.5
    return np.full(classes, doubt, np.float32), np.full(classes, each, np.float32)


SCORE_FLOOR = 0.05
"""Boxes from this confidence up take part in scoring; what a platform shows is cut higher."""


@dataclass(frozen=True)
class LabelledBox:
    """One box a person drew.

    Attributes:
        name: Class name as the project's label config spells it.
        xyxy: Fractions of the upright image, each in [0, 1]: a label outlives the pixel size it was drawn at.
        origin: 'manual', 'prediction' or 'prediction-changed': what the person did to it.
    """

    name: str
    xyxy: tuple[float, float, float, float]
    origin: str = "manual"

    def __post_init__(self) -> None:
        x1, y1, x2, y2 = self.xyxy
        if not (0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1):
            raise ValueError(f"xyxy must satisfy 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1, got {self.xyxy}")


@dataclass(frozen=True)
class Annotation:
    """One person's answer about one sample, as the platform holds it. Never written by hardfirst.

    Attributes:
        id: The platform's annotation id.
        sample: The platform's sample id.
        updated: When it last changed; with ``id`` and content the idempotency key.
        person: The platform's id of who submitted it, '' where unknown.
        skipped: The person gave no answer; never trains.
        ground_truth: Marked as ground truth on the platform.
        converted: Made in bulk from predictions, by nobody's eyes; trains only where that is trusted.
        lead_time: Seconds the person spent, None where the platform does not say.
        boxes: What was drawn; empty and not skipped = a true negative.
        dropped: Regions that could not be used, one sentence each.
        own_time: False = ``updated`` is of something larger that holds it, and moves for other reasons, too.
    """

    id: str
    sample: str
    updated: datetime
    person: str = ""
    skipped: bool = False
    ground_truth: bool = False
    converted: bool = False
    lead_time: float | None = None
    boxes: tuple[LabelledBox, ...] = ()
    dropped: tuple[str, ...] = ()
    own_time: bool = True


@dataclass(frozen=True)
class Label:
    """The one training label of a sample, agreed from its annotations (see ``consensus``)."""

    sample: str
    boxes: tuple[LabelledBox, ...]
    review: str = ""
    """Why a person should look at it again, '' when there is no reason."""


@dataclass(frozen=True)
class RemoteSample:
    """One image of a project as the platform lists it.

    Attributes:
        id: The platform's own id.
        uri: Where the platform says the image is (a URL, a path on the platform, s3://...).
        updated: The platform's last change of the sample, None where it does not say.
        answers: Submitted annotations that are not skips.
        skips: Skipped annotations.
    """

    id: str
    uri: str
    updated: datetime | None = None
    answers: int = 0
    skips: int = 0


@dataclass(frozen=True)
class ClassMapping:
    """One class of the project and the names under which a model may know it (``predicted_values``)."""

    name: str
    model_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProjectSpec:
    """What a project wants: its classes, how they map to a model's, and which model.

    Attributes:
        title: For people.
        classes: In the order of the label config.
        show_from: Boxes under this confidence are not shown to annotators, in [0, 1].
        model_path: Weights the project asks for, inside the model folder; '' = the service's default.
        timed: Whether the platform tells how long a person took over an answer.
        details: Whatever the adapter needs to write regions (control names ...), JSON-able, opaque to ``common``.
    """

    title: str
    classes: tuple[ClassMapping, ...]
    show_from: float = 0.5
    model_path: str = ""
    timed: bool = True
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in config order."""
        return tuple(c.name for c in self.classes)


@dataclass(frozen=True)
class ShownBox:
    """One predicted box as an annotator sees it; xyxy absolute pixels, score in [0, 1]."""

    name: str
    xyxy: tuple[float, float, float, float]
    score: float


@dataclass(frozen=True)
class QueueItem:
    """One place of a publication.

    Attributes:
        sample: The platform's sample id.
        order: In [0, 1], low = label first; strictly increasing along the queue.
        boxes: Pre-annotations, already cut at the project's ``show_from``.
        width: Pixels of the upright image, 0 when unknown (then ``boxes`` is empty).
        height: Pixels of the upright image, 0 when unknown.
    """

    sample: str
    order: float
    boxes: tuple[ShownBox, ...] = ()
    width: int = 0
    height: int = 0


EVENT_KINDS = ("connect", "labels", "samples", "train")


@dataclass(frozen=True)
class Event:
    """A hint that something changed on a platform; the worker reads what.

    Attributes:
        platform: As in a project key.
        project: The platform's project id.
        kind: 'connect' (a person added us there), 'labels', 'samples' or 'train' (a person asked for a round).
        samples: Platform ids it is about, empty when the event does not say.
        annotations: Platform ids of annotations it is about: deletions name no sample.
    """

    platform: str
    project: str
    kind: str
    samples: tuple[str, ...] = ()
    annotations: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in EVENT_KINDS:
            raise ValueError(f"kind must be one of {EVENT_KINDS}, got {self.kind!r}")
