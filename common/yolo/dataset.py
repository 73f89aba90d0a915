"""Labels to the folder that a training reads: links to images, one text file per label, lists, data.yaml.

Nothing leaves a training silently: what is clipped or left out stands in ``manifest.json`` with its reason.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from common.domain import LabelledBox
from common.errors import TrainingError
from common.ports import TrainingSample
from common.yolo import files

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"})
"""File names a training accepts; an image under another name is linked under the one its content asks for."""
_MAGIC = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
)
_DIGITS = 6
"""Decimals of a coordinate: a millionth of the image's side."""


@dataclass(frozen=True)
class Entry:
    """One image of a training set: what it is and what it was made from.

    Attributes:
        id: The platform's sample id.
        split: 'train' or 'val'.
        file: Name of the image in ``images/<split>``.
        image: sha256 of the image.
        label: sha256 of the label's text.
        boxes: Boxes that train.
    """

    id: str
    split: str
    file: str
    image: str
    label: str
    boxes: int


@dataclass(frozen=True)
class Manifest:
    """All that is in a training set and all that is not.

    Attributes:
        classes: Names in order.
        entries: One per image.
        reports: What was clipped or left out, one sentence each, naming the sample.
        foreign: Class name -> boxes left out because the project has no such class.
    """

    classes: tuple[str, ...]
    entries: tuple[Entry, ...] = ()
    reports: tuple[str, ...] = ()
    foreign: dict[str, int] = field(default_factory=dict)

    def count(self, split: str) -> int:
        """Images of a split."""
        return sum(entry.split == split for entry in self.entries)


def write_dataset(
    folder: Path, samples: Sequence[TrainingSample], val: Sequence[TrainingSample], classes: Sequence[str]
) -> Path:
    """Write a training set; an older one in the same folder is replaced, the same one is left untouched.

    Args:
        folder: The round's own folder.
        samples: What to train on; a label without boxes is a true negative.
        val: What to measure on; may be empty.
        classes: Class names in order.

    Returns:
        The absolute path of ``data.yaml``; ``manifest.json`` lies beside it, ``read_manifest`` reads it.

    Raises:
        TrainingError: No class, or not one usable training image.
    """
    folder = folder.resolve()
    plan = _Plan(tuple(classes))
    for split, members in (("train", samples), ("val", val)):
        plan.split(split, members)
    manifest = plan.manifest()
    if not classes or not manifest.count("train"):
        raise TrainingError(
            f"there is nothing to train on: {len(classes)} classes, no usable image among {len(samples)}; "
            + " ".join(manifest.reports[:3])
        )
    if not _is_there(folder, manifest):
        _write(folder, plan, manifest)
    return folder / "data.yaml"


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the training set in a folder. Raises TrainingError when there is none."""
    data = files.read_json(folder / "manifest.json")
    if data is None:
        raise TrainingError(f"{folder} holds no training set: write_dataset makes one")
    entries = tuple(Entry(**entry) for entry in data["entries"])
    return Manifest(tuple(data["classes"]), entries, tuple(data["reports"]), data["foreign"])


def safe_name(sample: str) -> str:
    """A file name for any sample id: itself where it is plain, else a readable part and a hash of the whole."""
    if re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", sample):
        return sample
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", sample)[:40].strip("_")
    return f"{readable}.{hashlib.sha256(sample.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def label_text(boxes: Sequence[LabelledBox], classes: Sequence[str]) -> tuple[str, list[str], Counter[str]]:
    """A label as ultralytics reads it: ``class cx cy w h`` per line, fractions of the image.

    Returns:
        The text, one sentence per box that was clipped or left out, and the counted names of foreign classes.
    """
    index = {name: i for i, name in enumerate(classes)}
    lines: dict[str, None] = {}
    reports: list[str] = []
    foreign: Counter[str] = Counter()
    for box in boxes:
        if box.name not in index:
            foreign[box.name] += 1
            continue
        row, report = _row(box)
        reports += [report] if report else []
        if row:
            lines[f"{index[box.name]} {row}"] = None
    return "".join(f"{line}\n" for line in lines), reports, foreign


def _row(box: LabelledBox) -> tuple[str, str]:
    """The four numbers of one box, '' when nothing is left of it; and what was wrong with it."""
    clipped = [min(1.0, max(0.0, value)) if math.isfinite(value) else math.nan for value in box.xyxy]
    x1, y1, x2, y2 = clipped
    w, h = round(x2 - x1, _DIGITS), round(y2 - y1, _DIGITS)
    if not (w > 0 and h > 0):
        return "", f"a box of {box.name!r} at {box.xyxy} has no area and was left out"
    row = " ".join(f"{value:.{_DIGITS}f}" for value in ((x1 + x2) / 2, (y1 + y2) / 2, w, h))
    outside = tuple(clipped) != tuple(box.xyxy)
    return row, f"a box of {box.name!r} at {box.xyxy} lay outside the image and was clipped" if outside else ""


class _Plan:
    """What a training set will hold: decided, and read, before anything is written."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.files: list[tuple[Entry, Path, str]] = []
        self.reports: list[str] = []
        self.foreign: Counter[str] = Counter()

    def manifest(self) -> Manifest:
        """All that was planned."""
        entries = tuple(entry for entry, _, _ in self.files)
        return Manifest(self.classes, entries, tuple(self.reports), dict(self.foreign))

    def split(self, split: str, samples: Sequence[TrainingSample]) -> None:
        """Plan one split."""
        seen: set[str] = set()
        for sample in samples:
            if sample.id in seen:
                self.reports.append(f"sample {sample.id}: it came twice; the second one was left out")
            else:
                self._sample(split, sample)
            seen.add(sample.id)

    def _sample(self, split: str, sample: TrainingSample) -> None:
        try:
            suffix, digest = _suffix(sample.image), files.sha256(sample.image)
        except OSError as error:
            self.reports.append(f"sample {sample.id}: its image cannot be read ({error.strerror}); left out")
            return
        if not suffix:
            self.reports.append(f"sample {sample.id}: its image is of no kind a training reads; left out")
            return
        text, reports, foreign = label_text(sample.label.boxes, self.classes)
        self.reports += [f"sample {sample.id}: {report}" for report in reports]
        self.foreign += foreign
        if foreign:
            names = ", ".join(sorted(foreign))
            self.reports.append(f"sample {sample.id}: {foreign.total()} boxes of classes not in use: {names}")
        label = hashlib.sha256(text.encode()).hexdigest()
        entry = Entry(sample.id, split, f"{safe_name(sample.id)}{suffix}", digest, label, text.count("\n"))
        self.files.append((entry, sample.image.resolve(), text))


def _is_there(folder: Path, manifest: Manifest) -> bool:
    """Whether the folder holds exactly this set: a training may be reading it."""
    if not (folder / "data.yaml").is_file() or not (folder / "manifest.json").is_file():
        return False
    linked = all((folder / "images" / e.split / e.file).exists() for e in manifest.entries)
    return linked and read_manifest(folder) == manifest


def _write(folder: Path, plan: _Plan, manifest: Manifest) -> None:
    (folder / "manifest.json").unlink(missing_ok=True)
    for kind in ("images", "labels"):
        shutil.rmtree(folder / kind, ignore_errors=True)
        for split in ("train", "val"):
            (folder / kind / split).mkdir(parents=True)
    lists: dict[str, list[str]] = {"train": [], "val": []}
    for entry, image, text in plan.files:
        link = folder / "images" / entry.split / entry.file
        _link(image, link)
        label = (folder / "labels" / entry.split / entry.file).with_suffix(".txt")
        label.write_text(text, encoding="utf-8")
        lists[entry.split].append(f"{link}\n")
    for split, lines in lists.items():
        files.write_text(folder / f"{split}.txt", "".join(lines))
    _data_yaml(folder, manifest.classes, with_val=bool(lists["val"]))
    files.write_json(folder / "manifest.json", asdict(manifest))


def _suffix(image: Path) -> str:
    """The file name suffix a training accepts for this image, '' when there is none. Raises OSError."""
    with image.open("rb") as file:
        head = file.read(12)
    if image.suffix.lower() in SUFFIXES:
        return image.suffix.lower()
    if head[:4] == b"RIFF" and head[8:] == b"WEBP":
        return ".webp"
    return next((suffix for magic, suffix in _MAGIC if head.startswith(magic)), "")


def _link(source: Path, target: Path) -> None:
    try:
        target.symlink_to(source)
    except OSError:
        shutil.copyfile(source, target)  # a file system without links


def _data_yaml(folder: Path, classes: Sequence[str], *, with_val: bool) -> None:
    """Written by us, always: a foreign data.yaml can name code to run. JSON is YAML, and quotes every name."""
    data: dict[str, Any] = {
        "path": str(folder),
        "train": "train.txt",
        "val": "val.txt" if with_val else "train.txt",
        "names": list(classes),
    }
    files.write_text(folder / "data.yaml", json.dumps(data, ensure_ascii=False, indent=1))
