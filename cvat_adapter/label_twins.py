"""Labels of a project and of its copy: ids differ, names do not. Annotations from one to the other. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

_KEPT = ("type", "occluded", "outside", "z_order", "rotation", "points", "source", "score", "group")
_ATTRIBUTE = ("name", "mutable", "input_type", "default_value", "values")
_SUBLABEL = re.compile(r'data-label-id="(\d+)"')


def specification(raw: Json) -> Json:
    """The body that creates a copy of a label, from the label as CVAT lists it."""
    made: Json = {
        "name": raw["name"],
        "color": raw["color"],
        "type": raw["type"],
        "attributes": [{k: a[k] for k in _ATTRIBUTE} for a in raw.get("attributes", ())],
    }
    if raw["type"] == "skeleton":
        names = {str(one["id"]): one["name"] for one in raw.get("sublabels", ())}
        made["sublabels"] = [specification(one) for one in raw.get("sublabels", ())]
        # The drawing names its parts by id when it is read, and by name when it is written.
        made["svg"] = _SUBLABEL.sub(lambda m: f'data-label-name="{names.get(m[1], m[1])}"', raw.get("svg", ""))
    return made


def missing(wanted: Iterable[Json], there: Iterable[Json]) -> list[Json]:
    """Specifications of the labels that ``there`` lacks by name."""
    names = {raw["name"] for raw in there}
    return [specification(raw) for raw in wanted if raw["name"] not in names]


def pairs(wanted: Iterable[Json], there: Iterable[Json]) -> dict[str, int]:
    """Id of a label, as text -> id of its copy of the same name."""
    named = {raw["name"]: int(raw["id"]) for raw in there}
    return {str(raw["id"]): named[raw["name"]] for raw in wanted if raw["name"] in named}


def renames(wanted: Iterable[Json], there: Iterable[Json], known: Mapping[str, int]) -> list[tuple[int, str]]:
    """(id, new name) for each copy whose original has another name now, in an order in which no name is there twice.

    Args:
        wanted: The labels as they are to be named.
        there: Their copies; one that would need the name of a label that is no copy stays as it is.
        known: ``pairs`` of an earlier time.
    """
    names = {int(raw["id"]): str(raw["name"]) for raw in there}
    now = {known[str(raw["id"])]: str(raw["name"]) for raw in wanted if str(raw["id"]) in known}
    todo = {copy: name for copy, name in now.items() if names.get(copy, name) != name}
    steps: list[tuple[int, str]] = []
    while todo:
        held = {name: copy for copy, name in names.items()}
        free = [copy for copy, name in todo.items() if name not in held]
        stuck = [copy for copy, name in todo.items() if name in held and held[name] not in todo]
        if stuck and not free:
            del todo[stuck[0]]
            continue
        copy = free[0] if free else next(iter(todo))
        names[copy] = todo.pop(copy) if free else f"{names[copy]} ({copy})"  # names in a ring: one steps aside
        steps.append((copy, names[copy]))
    return steps


@dataclass(frozen=True)
class Twins:
    """Ids of one project's labels and attributes -> ids of the other's, of the same name."""

    labels: Mapping[int, int]
    attributes: Mapping[int, int]

    @classmethod
    def of(cls, here: Iterable[Json], there: Iterable[Json]) -> Twins:
        """From the labels of both projects as CVAT lists them."""
        others = {_path(raw, parent): raw for raw, parent in _flat(there)}
        labels: dict[int, int] = {}
        attributes: dict[int, int] = {}
        for raw, parent in _flat(here):
            other = others.get(_path(raw, parent))
            if other is None:
                continue
            labels[raw["id"]] = other["id"]
            named = {a["name"]: a["id"] for a in other.get("attributes", ())}
            attributes |= {a["id"]: named[a["name"]] for a in raw.get("attributes", ()) if a["name"] in named}
        return cls(labels, attributes)

    def translated(self, item: Json, frame: int) -> Json | None:
        """A shape or a tag as the other project takes it, on a frame of its own; None where a label has no twin."""
        if item["label_id"] not in self.labels:
            return None
        elements = [self.translated(one, frame) for one in item.get("elements") or ()]
        if None in elements:
            return None
        values = [a for a in item.get("attributes", ()) if a["spec_id"] in self.attributes]
        made = {k: item[k] for k in _KEPT if k in item}
        made |= {"label_id": self.labels[item["label_id"]], "frame": frame}
        made["attributes"] = [{"spec_id": self.attributes[a["spec_id"]], "value": a["value"]} for a in values]
        return made | ({"elements": elements} if elements else {})


def _flat(labels: Iterable[Json]) -> Iterable[tuple[Json, str]]:
    for raw in labels:
        yield raw, ""
        for one in raw.get("sublabels") or ():
            yield one, raw["name"]


def _path(raw: Json, parent: str) -> tuple[str, str]:
    return parent, raw["name"]
