"""What CVAT 2.73 does with annotations: checks, ids and the surprising rules, as functions on one job."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from tests.cvat_server.replies import invalid, server_error
from tests.cvat_server.world import Job, Json

KINDS = ("tags", "shapes", "tracks")
SOURCES = ("auto", "semi-auto", "manual", "file", "consensus")
POINTS: dict[str, Callable[[int], bool]] = {
    "rectangle": lambda n: n == 4,
    "ellipse": lambda n: n == 4,
    "cuboid": lambda n: n == 16,
    "polygon": lambda n: n >= 6 and n % 2 == 0,
    "polyline": lambda n: n >= 4 and n % 2 == 0,
    "points": lambda n: n >= 2 and n % 2 == 0,
    "mask": lambda n: n > 4,
    "skeleton": lambda n: n == 0,
}
NEEDED = {"tags": ("frame", "label_id"), "shapes": ("type", "frame", "label_id"), "tracks": ("frame", "label_id")}


@dataclass(frozen=True)
class Rules:
    """What a write may name: per label id (sublabels too) the values its attributes have until somebody sets them."""

    defaults: dict[int, dict[int, str]]
    next_id: Callable[[str], int]

    def check(self, kind: str, item: Json) -> None:
        """A label or attribute that is not of this project: RefusalError."""
        label = item["label_id"]
        if label not in self.defaults:
            raise invalid([f"label_id `{label}` is invalid"])
        for value in item.get("attributes", []):
            if value["spec_id"] not in self.defaults[label]:
                raise invalid([f"spec_id `{value['spec_id']}` is invalid"])
        for element in item.get("elements", []):
            self.check(kind, element)

    def check_all(self, data: Json) -> None:
        for kind in KINDS:
            for item in data[kind]:
                self.check(kind, item)


def read(body: Json) -> Json:
    """The three lists of a request body; RefusalError names each wrong item by its place in its list."""
    data = {kind: list(body.get(kind) or []) for kind in KINDS}
    for kind in KINDS:
        errors = [_errors(kind, item) for item in data[kind]]
        if any(errors):
            raise invalid({kind: errors})
    return data


def _errors(kind: str, item: Json) -> Json:
    found: Json = {name: ["This field is required."] for name in NEEDED[kind] if name not in item}
    if item.get("source", "manual") not in SOURCES:
        found["source"] = [f"must be one of {', '.join(map(repr, SOURCES))}, got {item['source']!r}"]
    if kind != "shapes":
        return found
    found |= _outside("score", item, 1) | _outside("rotation", item, 360)
    if (shape := item.get("type")) is not None and shape not in POINTS:
        found["type"] = [f'"{shape}" is not a valid choice.']
    elif shape is not None and not found and not POINTS[shape](len(item.get("points") or [])):
        found["points"] = [f"invalid length for shape type '{shape}'"]
    elements = [_errors(kind, element) for element in item.get("elements") or []]
    return found | ({"elements": elements} if any(elements) else {})


def _outside(name: str, item: Json, most: int) -> Json:
    value = item.get(name, 0)
    if value < 0:
        return {name: ["Ensure this value is greater than or equal to 0."]}
    return {name: [f"Ensure this value is less than or equal to {most}."]} if value > most else {}


def slice_of(data: Json, job: Job) -> Json:
    """What of a task's request falls into a job. A frame that is in no job falls nowhere, and nobody is told."""
    first, last = job.start_frame, job.stop_frame
    return {kind: [item for item in data[kind] if first <= item["frame"] <= last] for kind in KINDS}


def is_empty(data: Json) -> bool:
    return not any(data[kind] for kind in KINDS)


def create(job: Job, data: Json, rules: Rules) -> Json:
    """Adds without looking for doubles or at the frame, the label's type or the image's edges; the objects with ids.

    An id in the request is kept; one that the job has already breaks the server as it breaks CVAT's database.
    """
    for kind in KINDS:
        if {item["id"] for item in data[kind] if item.get("id")} & {item["id"] for item in getattr(job, kind)}:
            raise server_error()
    answers = {kind: [_WRITTEN[kind](item) for item in data[kind]] for kind in KINDS}
    for kind in KINDS:
        for item in _parents_first(answers[kind]):
            item["id"] = item["id"] or rules.next_id(kind[:-1])
        getattr(job, kind).extend(_STORED[kind](item, rules) for item in answers[kind])
    return answers


def update(job: Job, data: Json, rules: Rules) -> Json:
    """Deletes by id, then adds with the same id: an object that was gone is back."""
    delete(job, data)
    return create(job, data, rules)


def replace(job: Job, data: Json, rules: Rules) -> Json:
    """Wipes everything of the job, whoever made it, then adds; frames of other jobs come along."""
    clear(job)
    return create(job, data, rules)


def delete(job: Job, data: Json) -> Json:
    """Deletes by id; what is gone already is answered as if it had been there."""
    for kind in KINDS:
        gone = {item.get("id") for item in data[kind]}
        if gone:
            setattr(job, kind, [item for item in getattr(job, kind) if item["id"] not in gone])
    return {kind: [_WRITTEN[kind](item) for item in data[kind]] for kind in KINDS}


def clear(job: Job) -> bool:
    """Deletes everything; whether there was anything."""
    had = any(getattr(job, kind) for kind in KINDS)
    for kind in KINDS:
        setattr(job, kind, [])
    return had


def annotations_of(job: Job) -> Json:
    """What GET shows, by frame; deleted frames too."""
    return {kind: sorted(getattr(job, kind), key=lambda item: item["frame"]) for kind in KINDS}


def merged(parts: Iterable[tuple[Job, Json]]) -> Json:
    """One list of the jobs' lists; on frames that two jobs share, a shape that both have comes once."""
    whole: Json = {kind: [] for kind in KINDS}
    last = -1
    for job, part in parts:
        for kind in KINDS:
            items = part[kind]
            if job.start_frame <= last and kind == "shapes":
                seen = [item for item in whole[kind] if item["frame"] >= job.start_frame]
                items = [item for item in items if not any(_same(item, other) for other in seen)]
            whole[kind].extend(items)
        last = max(last, job.stop_frame)
    return whole


def _same(one: Json, other: Json) -> bool:
    """CVAT counts shapes of overlapping segments as one from IoU 0.75 on; here of their bounding boxes."""
    keys = ("frame", "type", "label_id")
    return all(one[key] == other[key] for key in keys) and _iou(_box(one), _box(other)) >= 0.75


def _box(shape: Json) -> tuple[float, float, float, float]:
    points = shape.get("points") or [0, 0]
    if shape["type"] == "mask":
        points = points[-4:]
    return min(points[::2]), min(points[1::2]), max(points[::2]), max(points[1::2])


def _iou(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    if one == other:
        return 1.0
    width, height = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
    both = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return both / (sum(areas) - both) if both else 0.0


def _parents_first(items: list[Json]) -> Iterator[Json]:
    """Objects, then the shapes of tracks, then elements: the order in which the database gives ids."""
    return chain(items, *(item.get("elements", ()) for item in items))


def _plain(item: Json) -> Json:
    """The fields every kind has, with CVAT's defaults."""
    return {
        "id": item.get("id"),
        "label_id": item["label_id"],
        "group": item.get("group", 0),
        "source": item.get("source", "manual"),
        "frame": item["frame"],
        "attributes": list(item.get("attributes", [])),
    }


def _drawn(item: Json) -> Json:
    names = {"occluded": False, "outside": False, "z_order": 0, "rotation": 0}
    points = {"points": list(item["points"])} if "points" in item else {}
    return {"type": item["type"]} | {name: item.get(name, value) for name, value in names.items()} | points


def _written_element(item: Json) -> Json:
    return _drawn(item) | _plain(item) | {"score": item.get("score", 1)}


def _written_shape(item: Json) -> Json:
    return _written_element(item) | {"elements": [_written_element(one) for one in item.get("elements") or []]}


def _written_track(item: Json) -> Json:
    shapes = [
        _drawn(one) | {"id": one.get("id"), "frame": one["frame"], "attributes": list(one.get("attributes", []))}
        for one in item.get("shapes") or []
    ]
    return _plain(item) | {"shapes": shapes, "elements": [_written_track(one) for one in item.get("elements") or []]}


def _with_defaults(item: Json, rules: Rules) -> list[Json]:
    given = [{"spec_id": value["spec_id"], "value": value["value"]} for value in item["attributes"]]
    named = {value["spec_id"] for value in given}
    defaults = rules.defaults[item["label_id"]]
    return given + [{"spec_id": spec, "value": value} for spec, value in defaults.items() if spec not in named]


def _stored_tag(item: Json, rules: Rules) -> Json:
    return item | {"attributes": _with_defaults(item, rules)}


def _stored_shape(item: Json, rules: Rules) -> Json:
    found = item | {
        "score": float(item["score"]),
        "rotation": float(item["rotation"]),
        "points": [float(value) for value in item.get("points", [])],
        "attributes": _with_defaults(item, rules),
    }
    if "elements" in item:
        found["elements"] = [_stored_shape(one, rules) for one in item["elements"]]
    return found


def _stored_track(item: Json, rules: Rules) -> Json:
    shapes = [one | {"id": one["id"] or rules.next_id("tracked shape")} for one in item["shapes"]]
    elements = [_stored_track(one, rules) for one in item["elements"]]
    return item | {"attributes": _with_defaults(item, rules), "shapes": shapes, "elements": elements}


_WRITTEN: dict[str, Callable[[Json], Json]] = {"tags": _plain, "shapes": _written_shape, "tracks": _written_track}
_STORED: dict[str, Callable[[Json, Rules], Json]] = {
    "tags": _stored_tag,
    "shapes": _stored_shape,
    "tracks": _stored_track,
}
