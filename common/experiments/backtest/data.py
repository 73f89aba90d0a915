"""A labelled set in the YOLO layout: data.yaml, lists or folders of images, text labels, and groups that stay whole."""

from __future__ import annotations

import csv
import hashlib
import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from common.domain import Ints, Label, LabelledBox
from common.errors import SettingError
from common.experiments.files import is_utf8, plain, read_lines
from common.ports import TrainingSample
from common.sample.oracle import listed_names
from common.yolo import files
from common.yolo.dataset import SUFFIXES

_RESPLIT = 0x5B117
"""Keeps the generator of splits apart from the others of a unit."""


@dataclass(frozen=True)
class DataSet:
    """A labelled set.

    Attributes:
        name: What the report calls it; a file name.
        classes: Names in order.
        train: The pool of every replay.
        val: What every model is measured on.
        group: Sample id -> the group it belongs to, such as its video; empty without ``--groups``.
    """

    name: str
    classes: tuple[str, ...]
    train: tuple[TrainingSample, ...]
    val: tuple[TrainingSample, ...]
    group: dict[str, str]

    def digest(self) -> str:
        """A hash of everything in it, images included."""
        parts = [repr((self.name, self.classes, sorted(self.group.items())))]
        for split in (self.train, self.val):
            parts += [repr((s.id, files.sha256(s.image), s.label.boxes)) for s in split]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def class_counts(self) -> Ints:
        """Shape (n, C): boxes per class of each image of the training split."""
        index = {name: i for i, name in enumerate(self.classes)}
        counts = np.zeros((len(self.train), len(self.classes)), np.int64)
        for row, sample in enumerate(self.train):
            for name, n in Counter(box.name for box in sample.label.boxes).items():
                counts[row, index[name]] = n
        return counts


def load(path: Path, name: str = "", groups: Path | None = None) -> DataSet:
    """Read a data set.

    Args:
        path: ``data.yaml`` with ``train``, ``val`` (a list file, a folder of images, or several) and ``names``.
        name: Its name; '' = the folder's.
        groups: CSV with a head: image file name, group, anything.

    Raises:
        SettingError: Something is missing, a label names a class that does not exist, or the name of a file is not
            UTF-8: a report could not name it, and OpenCV would end the process over it.
    """
    told = _yaml(path)
    root = path.resolve().parent / str(told.get("path") or ".")
    classes = listed_names(str(path), told.get("names"))
    splits = {split: _samples(path, root, told.get(split), split, classes) for split in ("train", "val")}
    ids = Counter(s.id for split in splits.values() for s in split)
    twice = [i for i, n in ids.items() if n > 1]
    if twice:
        raise SettingError(f"{path}: image {twice[0]!r} is listed twice; an image belongs once to one split")
    known = _groups(groups, ids) if groups else {}
    return DataSet(name or path.resolve().parent.name, classes, tuple(splits["train"]), tuple(splits["val"]), known)


def require_apart(data: DataSet) -> None:
    """Raise SettingError when the training and the validation split share a group."""
    both = {data.group[s.id] for s in data.train} & {data.group[s.id] for s in data.val} if data.group else set()
    if both:
        named = ", ".join(sorted(both)[:5])
        raise SettingError(
            f"{data.name}: the training and the validation split share {len(both)} groups ({named}): list each group "
            "in one split, or let --resplit draw splits that keep groups whole"
        )


def resplit(data: DataSet, seed: int) -> DataSet:
    """Other splits of the same images, drawn by ``seed``; a group stays whole, an image without one is its own.

    Groups come to the validation split in random order, each only where that brings its size nearer to the size it
    has; it gets at least one group, and the training split keeps at least one.
    """
    everything = sorted(data.train + data.val, key=lambda s: s.id)
    members: dict[str, list[TrainingSample]] = {}
    for sample in everything:
        members.setdefault(data.group.get(sample.id, f"\0{sample.id}"), []).append(sample)
    names = sorted(members)
    if len(names) < 2:
        raise SettingError(f"{data.name} has one group only: it cannot be split")
    order = [names[i] for i in np.random.default_rng([seed, _RESPLIT]).permutation(len(names))]
    wanted, chosen = len(data.val), list[str]()
    size = 0
    for name in order:
        nearer = abs(size + len(members[name]) - wanted) < abs(size - wanted)
        if nearer and len(chosen) < len(names) - 1:
            chosen.append(name)
            size += len(members[name])
    chosen = chosen or [min(order, key=lambda n: len(members[n]))]
    val = {s.id for name in chosen for s in members[name]}
    train = tuple(s for s in everything if s.id not in val)
    return replace(data, train=train, val=tuple(s for s in everything if s.id in val))


def _yaml(path: Path) -> dict[str, Any]:
    try:
        told = yaml.safe_load(_utf8(path, "--data").read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingError(f"--data {path} cannot be read ({error.strerror}): give the path of a data.yaml") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingError(f"--data {path} is not YAML in UTF-8") from error
    if not isinstance(told, dict) or not {"train", "val", "names"} <= set(told):
        raise SettingError(f"--data {path} needs the keys train, val and names")
    return told


def _samples(path: Path, root: Path, told: Any, split: str, classes: Sequence[str]) -> list[TrainingSample]:
    sources = told if isinstance(told, list) else [told]
    images = [image for source in sources if source for image in _images(root / str(source))]
    if not images:
        raise SettingError(f"{path}: {split} is {told!r}, where no image is listed")
    names = Counter(image.name for image in images)
    return [_sample(i, i.name if names[i.name] == 1 else os.path.relpath(i, root), classes) for i in images]


def _images(source: Path) -> list[Path]:
    if source.is_dir():
        return sorted(p for p in source.iterdir() if p.suffix.lower() in SUFFIXES)
    if not source.is_file():
        raise SettingError(f"{plain(source)} is neither a folder of images nor a list of them")
    return [source.parent / line for _, line in read_lines(source)]


def _utf8(path: Path, what: str) -> Path:
    """The absolute path. Raises SettingError for one that is not UTF-8."""
    path = path.absolute()
    if not is_utf8(path):
        raise SettingError(f"{what} {plain(path)}: the name is not UTF-8: rename it")
    return path


def _sample(image: Path, key: str, classes: Sequence[str]) -> TrainingSample:
    image = _utf8(image, "image")
    if not image.is_file():
        raise SettingError(f"image {image} is listed, but it does not exist")
    boxes: tuple[LabelledBox, ...] = ()
    label = label_path(image)
    if label.is_file():
        rows = enumerate(label.read_text(encoding="utf-8", errors="replace").splitlines(), start=1)
        found = (_box(label, number, row.split(), classes) for number, row in rows if row.strip())
        boxes = tuple(box for box in found if box)
    return TrainingSample(key, image, Label(key, boxes))


def label_path(image: Path) -> Path:
    """The rule of ultralytics: the last ``/images/`` becomes ``/labels/``, the suffix ``.txt``."""
    head, found, tail = str(image).rpartition("/images/")
    return Path(f"{head}/labels/{tail}" if found else str(image)).with_suffix(".txt")


def _box(label: Path, number: int, row: Sequence[str], classes: Sequence[str]) -> LabelledBox | None:
    """A box, or the box around a polygon, cut at the image's edge; None when nothing is left of it."""
    try:
        kind, *values = map(float, row)
    except ValueError:
        kind, values = math.nan, []
    if len(values) < 4 or len(values) % 2 or not all(map(math.isfinite, [kind, *values])):
        raise SettingError(f"{label}, line {number}: not `class x y width height` in numbers: {' '.join(row)!r}")
    if kind != int(kind) or not 0 <= kind < len(classes):
        raise SettingError(f"{label}, line {number}: class {row[0]}, but data.yaml has classes 0 to {len(classes) - 1}")
    if len(values) == 4:
        x, y, w, h = values
        edges = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    else:
        edges = (min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2]))
    x1, y1, x2, y2 = (min(1.0, max(0.0, value)) for value in edges)
    return LabelledBox(classes[int(kind)], (x1, y1, x2, y2)) if x1 < x2 and y1 < y2 else None


def _groups(path: Path, ids: Iterable[str]) -> dict[str, str]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, ValueError) as error:
        raise SettingError(f"--groups {path} cannot be read: give a CSV with the columns image, group") from error
    known = {Path(row[0]).name: row[1] for row in rows[1:] if len(row) > 1}
    missing = [i for i in ids if Path(i).name not in known]
    if missing:
        raise SettingError(f"--groups {path} has no line for image {missing[0]!r} ({len(missing)} are missing)")
    return {i: known[Path(i).name] for i in ids}
