"""Label Studio JSON to domain and back. The only place where boxes are percentages."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any, TypeGuard

from common.domain import Annotation, LabelledBox, ProjectSpec, QueueItem, RemoteSample, ShownBox
from common.geometry import enclosing_box, rotated_corners

KIND = "rectanglelabels"
ORIGINS = ("manual", "prediction", "prediction-changed")
REGION_PREFIX = "hf-"
"""Starts the id of every region we predict, so that a converted prediction of ours is known by sight."""
CONVERTED_AFTER = timedelta(minutes=10)
"""An import makes a task and its annotations in one go; an untouched annotation this much younger was converted."""


# --- tasks -----------------------------------------------------------------------------------------------


def image_uri(data: Any, key: str) -> str:
    """The image of a task's ``data`` under ``key`` ('image', or 'photo.url' for a nested one); '' when absent."""
    value = data.get(key) if isinstance(data, Mapping) else None
    if value is None and isinstance(data, Mapping) and "." in key:
        head, _, rest = key.partition(".")
        return image_uri(data.get(head), rest)
    return value.strip() if isinstance(value, str) else ""


def sample(task: Mapping[str, Any], spec: ProjectSpec) -> RemoteSample:
    """A task as GET /api/tasks, GET /api/tasks/ID and TASKS_CREATED give it."""
    return RemoteSample(
        id=str(task["id"]),
        uri=image_uri(task.get("data"), spec.details["image"]),
        updated=moment(task.get("updated_at")),
        answers=int(task.get("total_annotations") or 0),
        skips=int(task.get("cancelled_annotations") or 0),
    )


def moment(text: Any) -> datetime | None:
    """An ISO date of Label Studio in UTC; None when there is none."""
    if not isinstance(text, str) or not text:
        return None
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)


# --- annotations -----------------------------------------------------------------------------------------


def annotation(raw: Mapping[str, Any], spec: ProjectSpec, task: Mapping[str, Any] | None = None) -> Annotation:
    """An annotation as GET task, the export and the webhooks give it.

    Args:
        raw: The annotation; ``completed_by`` may be an id or an object.
        spec: Of the project.
        task: The task it belongs to, where ``raw`` does not name it; its ``created_at`` helps to tell an import
            from a bulk conversion.
    """
    result = raw.get("result")
    kept, dropped = boxes(result if isinstance(result, list) else [], spec)
    lead = raw.get("lead_time")
    sample_id = raw.get("task") or (task or {}).get("id")
    return Annotation(
        id=str(raw["id"]),
        sample=str(sample_id if not isinstance(sample_id, Mapping) else sample_id.get("id")),
        updated=moment(raw.get("updated_at")) or moment(raw.get("created_at")) or datetime.fromtimestamp(0, UTC),
        person=_person(raw.get("completed_by")),
        skipped=bool(raw.get("was_cancelled")),
        ground_truth=bool(raw.get("ground_truth")),
        converted=converted(raw, task),
        lead_time=float(lead) if _number(lead) else None,
        boxes=tuple(kept),
        dropped=tuple(dropped),
    )


def _person(who: Any) -> str:
    found = who.get("id") if isinstance(who, Mapping) else who
    return "" if found is None else str(found)


def converted(raw: Mapping[str, Any], task: Mapping[str, Any] | None = None) -> bool:
    """Whether nobody looked at this annotation: it was made in bulk from predictions.

    Seen on Label Studio 1.23.2; all have ``last_action`` null and ``bulk_created`` false:

    ============================================  =========  ==========  =================  ============
    made by                                       lead_time  updated_by  parent_prediction  ground_truth
    ============================================  =========  ==========  =================  ============
    a person in the browser                       seconds    user        id or null         false
    POST /api/tasks/ID/annotations, no lead time  null       user        as sent            false
    'Create annotations from predictions'         null       null        id                 false
    the same, edited or marked afterwards         any        user        id                 any
    import with the tasks                         as sent    null        null               true unless sent
    'Propagate annotations'                       null       null        null, but a        false
                                                                         parent_annotation
    ============================================  =========  ==========  =================  ============

    So: untouched (no lead time, no ``updated_by``) and from a prediction. Deleting the prediction sets
    ``parent_prediction`` to null; what is left then are the prediction's own regions (a ``score``, our prefix)
    and a date of birth after the task's. Rows of ``bulk_created`` are Label Studio's own word for it.
    """
    if raw.get("bulk_created"):
        return True
    if raw.get("lead_time") is not None or raw.get("updated_by") is not None or raw.get("ground_truth"):
        return False
    if raw.get("parent_prediction") is not None:
        return True
    # Webhook payloads of imports carry no updated_by key at all in some versions; a copy of a person's work is one.
    if "updated_by" not in raw or raw.get("parent_annotation") is not None or raw.get("was_cancelled"):
        return False
    result = raw.get("result")
    if any(_predicted(region) for region in (result if isinstance(result, list) else [])):
        return True
    born, task_born = moment(raw.get("created_at")), moment((task or {}).get("created_at"))
    return born is not None and task_born is not None and born - task_born > CONVERTED_AFTER


def _predicted(region: Any) -> bool:
    if not isinstance(region, Mapping) or "origin" in region:
        return False
    return "score" in region or str(region.get("id", "")).startswith(REGION_PREFIX)


def boxes(result: Sequence[Any], spec: ProjectSpec) -> tuple[list[LabelledBox], list[str]]:
    """The usable boxes of a result, and one sentence for each region that is not.

    Regions of controls that the project has but that are not ours (choices, text, skipped controls, relations)
    are neither.
    """
    kept: list[LabelledBox] = []
    dropped: list[str] = []
    for region in result:
        if _foreign(region, spec):
            continue
        found = _region(region, spec)
        if isinstance(found, str):
            dropped.append(found)
        else:
            names, xyxy = found
            origin = region.get("origin") if region.get("origin") in ORIGINS else "manual"
            unknown = [n for n in names if n not in spec.details["control"]]
            kept.extend(LabelledBox(n, xyxy, origin) for n in dict.fromkeys(names) if n not in unknown)
            dropped.extend(f"{_called(region)} has the label {n!r}, which the label config does not" for n in unknown)
    return kept, dropped


def _foreign(region: Any, spec: ProjectSpec) -> bool:
    if not isinstance(region, Mapping):
        return False
    name = region.get("from_name")
    return region.get("type") == "relation" or name in spec.details["others"] or name in spec.details["skipped"]


def _called(region: Any) -> str:
    return f"region {str(region.get('id', '?'))!r}"


def _region(region: Any, spec: ProjectSpec) -> tuple[list[str], tuple[float, float, float, float]] | str:
    """(labels, xyxy fractions), or one sentence why there are none."""
    if not isinstance(region, Mapping) or not isinstance(region.get("value"), Mapping):
        return f"a region is {type(region).__name__} without a value, not a rectangle"
    name, kind, value = region.get("from_name"), region.get("type"), region["value"]
    if name not in spec.details["controls"]:
        return f"{_called(region)} belongs to control {name!r}, which the label config does not have"
    names = value.get(KIND)
    if kind != KIND or not isinstance(names, list):
        return f"{_called(region)} has type {kind!r}, not {KIND!r}"
    if not names:
        return f"{_called(region)} has no label"
    xyxy = _corners(region, value)
    return xyxy if isinstance(xyxy, str) else ([str(n) for n in names], xyxy)


def _corners(region: Mapping[str, Any], value: Mapping[str, Any]) -> tuple[float, float, float, float] | str:
    """Enclosing box as fractions, clipped to the image. ``image_rotation`` only turns the view, not the region."""
    numbers: list[Any] = [
        value.get("x"),
        value.get("y"),
        value.get("width"),
        value.get("height"),
        value.get("rotation") or 0,
    ]
    if not all(_number(n) for n in numbers):
        return f"{_called(region)} has a position or size that is not a finite number"
    x, y, width, height, turn = (float(n) for n in numbers)
    if width <= 0 or height <= 0:
        return f"{_called(region)} has no area ({width:g} x {height:g} %)"
    aspect = 1.0
    if turn % 360:
        wide, high = region.get("original_width"), region.get("original_height")
        if not (_number(wide) and _number(high) and wide > 0 and high > 0):
            return f"{_called(region)} is turned but does not say its image's original_width and original_height"
        aspect = wide / high
    # Turning needs one unit both ways: y and height in percent of the width, as x and width are.
    left, top, right, bottom = enclosing_box(rotated_corners(x, y / aspect, width, height / aspect, turn)).tolist()
    found = (left, top * aspect, right, bottom * aspect)
    x1, y1, x2, y2 = (min(100.0, max(0.0, n)) / 100 for n in found)
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else f"{_called(region)} lies outside the image"


def _number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)


# --- predictions -----------------------------------------------------------------------------------------


def prediction(item: QueueItem, version: str, spec: ProjectSpec) -> dict[str, Any]:
    """A row for POST /api/projects/ID/import/predictions: low ``score`` = label first.

    Boxes of classes the project no longer has, and boxes under their own control's threshold, are left out.
    """
    return {
        "task": int(item.sample),
        "model_version": version,
        # Not a number stays what it is, so that ``problems`` finds it.
        "score": min(1.0, max(0.0, item.order)) if isfinite(item.order) else item.order,
        "result": regions(item.sample, item.boxes, item.width, item.height, spec),
    }


def regions(
    sample_id: str, shown: Sequence[ShownBox], width: int, height: int, spec: ProjectSpec
) -> list[dict[str, Any]]:
    """Predicted boxes as regions; ``score`` is the real confidence; ids are the same for the same box."""
    found = (_shown(sample_id, i, box, width, height, spec) for i, box in enumerate(shown))
    return [region for region in found if region]


def _shown(
    sample_id: str, index: int, box: ShownBox, width: int, height: int, spec: ProjectSpec
) -> dict[str, Any] | None:
    control = spec.details["control"].get(box.name)
    if control is None or width <= 0 or height <= 0 or box.score < spec.details["show_from"][box.name]:
        return None
    x1, x2 = (_percent(box.xyxy[i], width) for i in (0, 2))
    y1, y2 = (_percent(box.xyxy[i], height) for i in (1, 3))
    if not (x1 < x2 and y1 < y2):
        return None
    seed = f"{sample_id}|{index}|{box.name}|{x1}|{y1}|{x2}|{y2}"
    return {
        "id": REGION_PREFIX + hashlib.sha256(seed.encode()).hexdigest()[:10],
        "from_name": control,
        "to_name": spec.details["to_name"],
        "type": KIND,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1, "rotation": 0, KIND: [box.name]},
        "score": min(1.0, max(0.0, float(box.score))),
    }


def _percent(pixels: float, side: int) -> float:
    return min(100.0, max(0.0, 100.0 * float(pixels) / side))


def problems(row: Mapping[str, Any], spec: ProjectSpec) -> list[str]:
    """Why Label Studio would silently drop this row, one sentence each; empty = it will store it.

    Mirrors ``LabelInterface.validate_prediction``, which answers 201 and only counts fewer rows.
    """
    found = []
    score, result = row.get("score"), row.get("result")
    if not _number(score) or not 0 <= score <= 1:
        found.append(f"task {row.get('task')}: score is {score!r}, it must be a number from 0 to 1")
    if not isinstance(result, list):
        return [*found, f"task {row.get('task')}: result is {type(result).__name__}, it must be a list"]
    found.extend(
        f"task {row.get('task')}, {_called(region)}: {why}" for region in result for why in _faults(region, spec)
    )
    return found


def _faults(region: Mapping[str, Any], spec: ProjectSpec) -> Iterator[str]:
    name, value = region.get("from_name"), region.get("value") or {}
    known = spec.details["controls"].get(name)
    if known is None:
        yield f"from_name is {name!r}, the label config has {sorted(spec.details['controls'])}"
        return
    if region.get("to_name") != spec.details["to_name"] or region.get("type") != KIND:
        yield (
            f"to_name is {region.get('to_name')!r} and type {region.get('type')!r}, "
            f"they must be {spec.details['to_name']!r} and {KIND!r}"
        )
    wrong = [n for n in value.get(KIND) or [None] if n not in known]
    if wrong:
        yield f"label is {wrong[0]!r}, control {name!r} has {known}"
    numbers = [value.get(key) for key in ("x", "y", "width", "height")]
    if not all(_number(n) and n <= 100 for n in numbers):
        yield f"x, y, width, height are {numbers}, they must be numbers up to 100"
