"""Labels of the stand-in CVAT: made from specifications, changed through projects and tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.cvat_server.replies import invalid
from tests.cvat_server.world import Attribute, Json, Label, Project, Task, World

TYPES = ("any", "cuboid", "ellipse", "mask", "points", "polygon", "polyline", "rectangle", "skeleton", "tag")
_COLORS = ("#e5b557", "#66be96", "#3d7199", "#b3eb6f", "#c06060", "#ba9109", "#2eceda", "#906080", "#24b353")


def change_labels(world: World, owner: Project | Task, specs: Sequence[Json]) -> None:
    """Adds, changes (with an id) and deletes (id and `deleted`) labels, as PATCH of a project does.

    Raises:
        RefusalError: 400 for an unknown type, an unknown id, or a name that is there already.
    """
    names = [one.name for one in world.labels_of(owner)] + [one["name"] for one in specs if "id" not in one]
    if len(set(names)) < len(names):
        raise invalid({"labels": ["All label names must be unique"]})
    for spec in specs:
        if "id" in spec:
            _edit(world, owner, spec)
        else:
            add_label(world, owner, spec)


def add_label(world: World, owner: Project | Task, spec: Json, parent: Label | None = None) -> Label:
    """Stores a label and, for a skeleton, its sublabels.

    Raises:
        RefusalError: 400, the type is not one of `TYPES`.
    """
    kind = spec.get("type", "any")
    if kind not in TYPES:
        raise invalid({"labels": [{"type": [f'"{kind}" is not a valid choice.']}]})
    number = world.next_id("label")
    project_id, task_id = (owner.id, None) if isinstance(owner, Project) else (None, owner.id)
    color = spec.get("color") or _COLORS[number % len(_COLORS)]
    label = Label(number, spec["name"], color, kind, project_id, task_id, svg=spec.get("svg", ""))
    label.parent_id = parent.id if parent else None
    label.attributes = [_attribute(world, one) for one in spec.get("attributes", [])]
    world.labels[number] = label
    label.sublabels = [add_label(world, owner, one, label) for one in spec.get("sublabels", [])]
    return label


def _attribute(world: World, spec: Json) -> Attribute:
    values = list(spec.get("values", []))
    default: Any = spec.get("default_value", values[0] if values else "")
    kind = spec.get("input_type", "text")
    return Attribute(world.next_id("attribute"), spec["name"], bool(spec.get("mutable")), kind, str(default), values)


def _edit(world: World, owner: Project | Task, spec: Json) -> None:
    label = world.labels.get(spec["id"])
    if label is None or label not in world.labels_of(owner):
        raise invalid({"labels": [f"Not found label with id #{spec['id']} to change"]})
    if spec.get("deleted"):
        delete_label(world, label)
        return
    label.name = spec.get("name", label.name)
    label.color = spec.get("color", label.color)
    label.attributes += [_attribute(world, one) for one in spec.get("attributes", []) if "id" not in one]


def delete_label(world: World, label: Label) -> None:
    """Takes the label away, with its sublabels and with all annotations that use it."""
    gone = {label.id, *(one.id for one in label.sublabels)}
    for number in gone:
        world.labels.pop(number, None)
    for job in world.jobs.values():
        for kind in ("shapes", "tags", "tracks"):
            setattr(job, kind, [one for one in getattr(job, kind) if one["label_id"] not in gone])
