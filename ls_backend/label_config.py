"""A Label Studio label config (XML) to a ProjectSpec. Pure; says in one sentence which projects are not served."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Any
from xml.etree.ElementTree import Element, ParseError
from xml.sax.saxutils import quoteattr

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from common.domain import ClassMapping, ProjectSpec
from common.errors import UnsupportedProjectError

COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#8c564b", "#bcbd22", "#9467bd", "#d62728", "#e377c2")

TIMED = ("Video", "VideoRectangle", "Audio", "AudioPlus", "TimeSeries")
"""Tags of projects whose tasks are not one still image."""


def parse(config: str, *, title: str = "", show_from: float = 0.5) -> ProjectSpec:
    """Read a label config.

    Attributes keep the meaning they have for the official YOLO backend: ``predicted_values`` on a Label;
    ``model_score_threshold`` (or ``score_threshold``), ``model_skip`` and ``model_path`` on a RectangleLabels.

    Args:
        config: The XML as Label Studio holds it.
        title: The project's title, for people.
        show_from: Threshold of the controls that name none, in [0, 1].

    Returns:
        The spec; its ``details`` hold the key of the image in the task data (``image``), the name of the image
        tag (``to_name``), class -> control (``control``), control -> classes (``controls``), class -> threshold
        (``show_from``), and the names of controls that are skipped (``skipped``) or of other kinds (``others``).

    Raises:
        UnsupportedProjectError: The project is not one still image per task with rectangle labels.
    """
    root = _root(config)
    image = _image(root)
    controls = _controls(root, image.get("name", ""))
    used = [c for c in controls if not _true(c.get("model_skip"))]
    if not used:
        raise UnsupportedProjectError(
            'every RectangleLabels of the project is marked model_skip="true": take the mark off at least one'
        )
    details = _details(root, image, controls, used, show_from)
    return ProjectSpec(
        title=title,
        classes=tuple(_classes(used)),
        show_from=min(details["show_from"].values()),
        model_path=next((path for c in used if (path := c.get("model_path", "").strip())), ""),
        details=details,
    )


def rectangles(names: Sequence[str]) -> str:
    """A label config for one image and these classes: each has a colour, the first nine a key."""
    rows = "".join(
        f'<Label value={quoteattr(name)} background="{COLOURS[i % len(COLOURS)]}"'
        + (f' hotkey="{i + 1}"' if i < 9 else "")
        + "/>"
        for i, name in enumerate(names)
    )
    image = '<Image name="image" value="$image" zoom="true" zoomControl="true"/>'
    return f'<View>{image}<RectangleLabels name="label" toName="image">{rows}</RectangleLabels></View>'


def _root(config: str) -> Element:
    try:
        root: Element = fromstring(config, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise UnsupportedProjectError(
            f"the project's label config cannot be read ({error}): set up its labeling interface in Label Studio"
        ) from error
    return root


def _image(root: Element) -> Element:
    timed = [e.tag for e in root.iter() if e.tag in TIMED]
    if timed:
        raise UnsupportedProjectError(
            f"the project's label config has a {timed[0]} tag: hardfirst serves projects with one still image per task"
        )
    images = list(root.iter("Image"))
    if len(images) != 1 or images[0].get("valueList"):
        how = "lists of images (valueList)" if len(images) == 1 else f"{len(images)} Image tags"
        raise UnsupportedProjectError(
            f"the project's label config has {how}: hardfirst serves projects with exactly one Image per task"
        )
    value = images[0].get("value", "")
    if not value.startswith("$") or len(value) < 2:
        raise UnsupportedProjectError(
            f'the Image tag has value="{value}": it must name one field of the task data, like value="$image"'
        )
    return images[0]


def _controls(root: Element, image: str) -> list[Element]:
    controls = [c for c in root.iter("RectangleLabels") if c.get("toName", "") == image]
    if not controls:
        raise UnsupportedProjectError(
            f'the project\'s label config has no RectangleLabels for its image: add <RectangleLabels toName="{image}">'
        )
    empty = [c.get("name", "") for c in controls if not _names(c)]
    if empty:
        raise UnsupportedProjectError(
            f"RectangleLabels {empty[0]!r} has no Label of its own: list its labels in the label config "
            "(labels taken from task data are not served)"
        )
    return controls


def _labels(control: Element) -> Iterator[tuple[str, list[str]]]:
    """(class name, names a model may know it by) of each static label."""
    for label in control.iter("Label"):
        # Label Studio writes the alias into results where a Label has one.
        name = label.get("alias") or label.get("value") or ""
        if name and not name.startswith("$"):
            yield name, [v for part in label.get("predicted_values", "").split(",") if (v := part.strip())]


def _names(control: Element) -> list[str]:
    return list(dict.fromkeys(name for name, _ in _labels(control)))


def _classes(controls: list[Element]) -> Iterator[ClassMapping]:
    known: dict[str, dict[str, None]] = {}
    for control in controls:
        for name, values in _labels(control):
            known.setdefault(name, {}).update(dict.fromkeys(values))
    return (ClassMapping(name, tuple(values)) for name, values in known.items())


def _details(
    root: Element, image: Element, controls: list[Element], used: list[Element], show_from: float
) -> dict[str, Any]:
    control_of: dict[str, str] = {}
    threshold: dict[str, float] = {}
    for control in used:
        for name in _names(control):
            control_of.setdefault(name, control.get("name", ""))
            threshold.setdefault(name, _threshold(control, show_from))
    known = {c.get("name", "") for c in controls}
    others = {e.get("name", "") for e in root.iter() if e.get("toName")} - known
    return {
        "image": image.get("value", "")[1:],
        "to_name": image.get("name", ""),
        "control": control_of,
        "controls": {c.get("name", ""): _names(c) for c in used},
        "show_from": threshold,
        "skipped": sorted(known - {c.get("name", "") for c in used}),
        "others": sorted(others),
    }


def _threshold(control: Element, default: float) -> float:
    text = control.get("model_score_threshold") or control.get("score_threshold")
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not isfinite(value) or not 0 <= value <= 1:
        raise UnsupportedProjectError(
            f"RectangleLabels {control.get('name', '')!r} has model_score_threshold={text!r}: "
            "it must be a number from 0 to 1"
        )
    return value


def _true(text: str | None) -> bool:
    return (text or "").strip().lower() in ("true", "1", "yes")
