"""CVAT JSON to domain and back. The only place where points, sources and label ids of shapes are read and written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from math import cos, isfinite, radians, sin
from typing import Any

from common.domain import ClassMapping, LabelledBox, ProjectSpec, QueueItem, ShownBox
from cvat_adapter.nouns import AUTO, SEMI_AUTO, Frame, Labels

Json = Mapping[str, Any]
RECTANGLE = "rectangle"
HOLD_BOXES = (RECTANGLE, "any")
"""Types of labels that a rectangle may have."""
ORIGINS = {AUTO: "prediction", SEMI_AUTO: "prediction-changed"}
"""Source of a shape -> what the person did to it; every other source is 'manual'."""
DECIMALS = 2
"""Of a pixel, in what we write: finer than anybody draws, and the same number when it comes back."""


# --- the project -----------------------------------------------------------------------------------------


def labels(raw: Iterable[Json]) -> Labels:
    """The labels as GET /api/labels lists them, in the order they were made; parts of skeletons are none."""
    whole = sorted((one for one in raw if not one.get("parent_id")), key=lambda one: int(one["id"]))
    held = {str(one["name"]): int(one["id"]) for one in whole if one.get("type", "any") in HOLD_BOXES}
    return Labels(held, tuple(str(one["name"]) for one in whole if one["name"] not in held))


def project_spec(title: str, found: Labels, show_from: float) -> ProjectSpec:
    """What the project wants; without classes where no label can hold a box.

    Args:
        title: For people.
        found: Of the project.
        show_from: Boxes under this confidence are not shown, in [0, 1].
    """
    classes = tuple(ClassMapping(name) for name in found.ids)
    return ProjectSpec(title, classes, show_from, timed=False, details={"labels": dict(found.ids)})


# --- what people drew ------------------------------------------------------------------------------------


def answers(raw: Json, frames: Mapping[int, Frame], found: Labels) -> dict[int, tuple[list[LabelledBox], list[str]]]:
    """Frame -> its usable boxes, and one sentence for each thing drawn there that is not; deleted frames are left out.

    Args:
        raw: Annotations as CVAT gives them for one job: shapes and tracks count, tags are no boxes.
        frames: All frames of that job: a track goes on to its last one.
        found: Labels of the project.
    """
    told: dict[int, tuple[list[LabelledBox], list[str]]] = {n: ([], []) for n, f in frames.items() if not f.deleted}
    names = found.names
    for number, called, drawn in _everything(raw, frames):
        if number not in told:
            continue
        box = _box(drawn, frames[number], names, called)
        if isinstance(box, str):
            told[number][1].append(box)
        else:
            told[number][0].append(box)
    return told


def _everything(raw: Json, frames: Mapping[int, Frame]) -> Iterator[tuple[int, str, Json]]:
    """(frame, what a sentence calls it, shape) of every shape, and of every track on every frame where it is seen."""
    for shape in raw.get("shapes") or ():
        yield int(shape["frame"]), f"shape {shape.get('id')}", shape
    for track in raw.get("tracks") or ():
        for number, shape in positions(track, frames):
            yield number, f"track {track.get('id')}", shape


def positions(track: Json, frames: Mapping[int, Frame]) -> Iterator[tuple[int, Json]]:
    """(frame, shape) wherever a track is seen: from each key frame to the next, from the last to the end of ``frames``.

    From a key frame that is 'outside' on it is not seen. Key frames on deleted frames do not count: the editor passes
    over them, too.
    """
    if not frames:
        return
    by_frame = {int(one["frame"]): one for one in track.get("shapes") or ()}
    keys = [by_frame[n] for n in sorted(by_frame) if n not in frames or not frames[n].deleted]
    whose = {"label_id": track.get("label_id"), "source": track.get("source")}
    for left, right in pairwise([*keys, None]):
        if left is None or left.get("outside"):
            continue
        stop = int(right["frame"]) if right else max(frames) + 1
        for number in range(max(int(left["frame"]), min(frames)), stop):
            if number in frames and not frames[number].deleted:
                yield number, {**left, **_between(left, right, number), **whose}


def _between(left: Json, right: Json | None, number: int) -> Json:
    """Points and rotation on a frame between two key frames: in a straight line, turned the shorter way."""
    start, end = _numbers(left.get("points")), _numbers((right or {}).get("points"))
    if right is None or left.get("type") != RECTANGLE or len(start) != 4 or len(end) != 4:
        return {}
    share = (number - int(left["frame"])) / (int(right["frame"]) - int(left["frame"]))
    turn, other = float(left.get("rotation") or 0), float(right.get("rotation") or 0)
    return {
        "points": [a + (b - a) * share for a, b in zip(start, end, strict=True)],
        "rotation": (turn + ((other - turn + 180) % 360 - 180) * share) % 360,
    }


def _box(drawn: Json, frame: Frame, names: Mapping[int, str], called: str) -> LabelledBox | str:
    """The box as fractions of its image, or one sentence why there is none."""
    kind, label = drawn.get("type"), int(drawn.get("label_id") or 0)
    if kind != RECTANGLE:
        return f"{called} is a {kind}, only rectangles train"
    if label not in names:
        return f"{called} has the label {label}, which is none of the project's labels for rectangles"
    points, turn = _numbers(drawn.get("points")), _numbers([drawn.get("rotation") or 0])
    if len(points) != 4 or not turn:
        return f"{called} has points or a rotation that are not finite numbers"
    if frame.width <= 0 or frame.height <= 0:
        return f"{called} is on frame {frame.number}, whose size CVAT does not know"
    x1, y1, x2, y2 = _clipped(_enclosing(points, turn[0]), frame.width, frame.height)
    if not (x1 < x2 and y1 < y2):
        return f"{called} has no area inside the image"
    xyxy = (x1 / frame.width, y1 / frame.height, x2 / frame.width, y2 / frame.height)
    return LabelledBox(names[label], xyxy, ORIGINS.get(str(drawn.get("source")), "manual"))


def _numbers(values: Any) -> list[float]:
    """The values as floats; [] where one is no finite number."""
    found = [float(v) for v in values or () if isinstance(v, int | float) and isfinite(v)]
    return found if len(found) == len(values or ()) else []


def _enclosing(points: list[float], degrees: float) -> tuple[float, float, float, float]:
    """The upright box around a rectangle that is turned about its centre; corners may come in any order."""
    x1, x2 = sorted(points[0::2])
    y1, y2 = sorted(points[1::2])
    if not degrees % 360:
        return x1, y1, x2, y2
    along, across = abs(cos(radians(degrees))), abs(sin(radians(degrees)))
    wide, high = (x2 - x1) * along + (y2 - y1) * across, (x2 - x1) * across + (y2 - y1) * along
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return x - wide / 2, y - high / 2, x + wide / 2, y + high / 2


def _clipped(xyxy: tuple[float, float, float, float], width: float, height: float) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = xyxy
    return max(0.0, x1), max(0.0, y1), min(float(width), x2), min(float(height), y2)


# --- what we draw ----------------------------------------------------------------------------------------


def shapes(item: QueueItem, frame: int, found: Labels) -> list[dict[str, Any]]:
    """Predicted boxes as bodies for PATCH create, clipped to the image.

    Boxes of classes the project does not have, without area, or of an image of unknown size are left out.

    Args:
        item: Boxes in pixels of the upright image.
        frame: Where they go, task-absolute.
        found: Labels of the project the frame is in.
    """
    drawn = (_shape(box, item, frame, found) for box in item.boxes)
    return [shape for shape in drawn if shape]


def _shape(box: ShownBox, item: QueueItem, frame: int, found: Labels) -> dict[str, Any] | None:
    if box.name not in found.ids or item.width <= 0 or item.height <= 0 or not all(map(isfinite, box.xyxy)):
        return None
    points = [_rounded(v) for v in _clipped(_floats(box.xyxy), item.width, item.height)]
    if not (points[0] < points[2] and points[1] < points[3]):
        return None
    return {
        "type": RECTANGLE,
        "frame": frame,
        "label_id": found.ids[box.name],
        "points": points,
        "rotation": 0.0,
        "occluded": False,
        "outside": False,
        "z_order": 0,
        "group": 0,
        "attributes": [],
        "source": AUTO,
        "score": min(1.0, max(0.0, float(box.score))),
    }


def _floats(xyxy: Iterable[float]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (float(v) for v in xyxy)
    return x1, y1, x2, y2


def content(shape: Json) -> tuple[Any, ...]:
    """What a person can change of a shape: equal for what we sent and for what CVAT gives back untouched.

    The score is not among it, as no editor changes it. CVAT fills in the defaults of attributes that were not sent, so
    that a comparison with what was sent without any leaves them out of both.
    """
    return (
        shape["type"],
        int(shape["label_id"]),
        int(shape["frame"]),
        tuple(_rounded(v) for v in shape.get("points") or ()),
        _rounded(shape.get("rotation") or 0),
        bool(shape.get("occluded")),
        bool(shape.get("outside")),
        int(shape.get("z_order") or 0),
        int(shape.get("group") or 0),
        tuple(sorted((int(one["spec_id"]), str(one["value"])) for one in shape.get("attributes") or ())),
        str(shape.get("source") or "manual"),
        tuple(sorted(content(one) for one in shape.get("elements") or ())),
    )


def _rounded(value: float) -> float:
    return round(float(value), DECIMALS) + 0.0  # never -0.0: contents are also compared as text


def human(shape: Json) -> bool:
    """Whether a person drew or changed it; what no one touched since a model drew it is 'auto'."""
    return bool(shape.get("source") != AUTO)
