"""The sample on disk: pictures, YOLO labels, data.yaml, runs, label config. The only place that writes files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from common.domain import LabelledBox
from common.errors import SettingError
from common.sample.plan import CLASSES, RARE, Frame, plan
from common.sample.render import render

VERSION = 1
"""Of the pictures: goes up whenever the same seed would draw something else."""

LEAST_SIZE, GREATEST_SIZE = (96, 72), (1920, 1440)


@dataclass(frozen=True)
class SampleSet:
    """A sample that lies on disk, complete.

    Attributes:
        folder: Where it lies.
        images: The pool, in the order of time.
        held_out: Pictures to measure on; no run reaches from the pool into them.
        classes: In the order of the label config.
        rare: The rare defect classes.
        runs: Stem of an image -> its run of near-duplicates; singles are missing.
    """

    folder: Path
    images: tuple[Path, ...]
    held_out: tuple[Path, ...]
    classes: tuple[str, ...]
    rare: tuple[str, ...]
    runs: dict[str, str]

    @property
    def labels(self) -> Path:
        """YOLO labels of the pool."""
        return self.folder / "labels"

    @property
    def held_out_labels(self) -> Path:
        """YOLO labels of the held-out pictures."""
        return self.folder / "held_out" / "labels"

    @property
    def data_yaml(self) -> Path:
        """The data set as ultralytics reads it."""
        return self.folder / "data.yaml"


def draw(
    folder: Path,
    *,
    count: int = 440,
    held_out: int = 100,
    size: tuple[int, int] = (480, 360),
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> SampleSet:
    """Draw the sample into ``folder``, or take up where an interrupted call stopped.

    The same arguments give the same bytes (with the same Pillow and numpy). A folder that holds the whole sample
    already is left as it is.

    Args:
        folder: Made when absent; either empty or a sample of the same arguments.
        count: Pictures in the pool, 12 or more.
        held_out: Held-out pictures, 4 or more.
        size: Width and height in pixels, from 96 x 72 to 1920 x 1440.
        seed: 0 or more; another seed draws another factory.
        progress: Called with (pictures done, pictures in all) after every picture that was drawn.

    Returns:
        What lies in the folder now.

    Raises:
        SettingError: an argument is out of range, or the folder holds something else.
    """
    if not all(low <= wanted <= high for low, wanted, high in zip(LEAST_SIZE, size, GREATEST_SIZE, strict=True)):
        raise SettingError(f"size of the sample is {size}; it must lie between {LEAST_SIZE} and {GREATEST_SIZE}")
    order = {"version": VERSION, "seed": seed, "count": count, "held_out": held_out, "size": list(size)}
    frames = plan(count=count, held_out=held_out, seed=seed)
    sample = _sample(folder, frames.pool, frames.held_out)
    complete = _begin(folder, order)
    if complete and all(image.exists() for image in sample.images + sample.held_out):
        return sample
    places = [(f, folder) for f in frames.pool] + [(f, folder / "held_out") for f in frames.held_out]
    for done, (frame, place) in enumerate(places, 1):
        image = place / "images" / f"{frame.name}.jpg"
        if not image.exists():
            _draw_one(frame, place, size)
            if progress:
                progress(done, len(places))
    _describe(folder, [*frames.pool, *frames.held_out])
    _write(folder / "manifest.json", _json({**order, "complete": True}))
    return sample


def _sample(folder: Path, pool: Sequence[Frame], held_out: Sequence[Frame]) -> SampleSet:
    return SampleSet(
        folder=folder,
        images=tuple(folder / "images" / f"{f.name}.jpg" for f in pool),
        held_out=tuple(folder / "held_out" / "images" / f"{f.name}.jpg" for f in held_out),
        classes=CLASSES,
        rare=RARE,
        runs={f.name: f.run for f in pool if f.run},
    )


def _begin(folder: Path, order: dict[str, object]) -> bool:
    """Claim ``folder`` for ``order``; True when it was filled already."""
    manifest = folder / "manifest.json"
    complete = False
    if manifest.exists():
        found = _read(manifest)
        complete = bool(found.pop("complete", False))
        if found != order:
            raise SettingError(f"{folder} holds the sample {found}, not {order}; name another folder, or remove it")
    elif folder.exists() and (not folder.is_dir() or any(not p.name.startswith(".") for p in folder.iterdir())):
        raise SettingError(f"{folder} holds something else than a sample; name an empty or a new folder")
    else:
        # Before anything else lies there: a folder without it would not be known as ours again.
        folder.mkdir(parents=True, exist_ok=True)
        _write(manifest, _json({**order, "complete": False}))
    for part in (folder, folder / "held_out"):
        (part / "images").mkdir(parents=True, exist_ok=True)
        (part / "labels").mkdir(parents=True, exist_ok=True)
    return complete


def _read(manifest: Path) -> dict[str, object]:
    try:
        found = json.loads(manifest.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SettingError(f"{manifest} is not the manifest of a sample; remove its folder, or name another") from error
    return found if isinstance(found, dict) else {}


def _draw_one(frame: Frame, place: Path, size: tuple[int, int]) -> None:
    """The label first, the picture last: a picture that is there is done."""
    pixels, boxes = render(frame, size)
    encoded = io.BytesIO()
    quality = int(np.random.default_rng([frame.light_seed, 6]).integers(68, 93))
    Image.fromarray(pixels).save(encoded, "JPEG", quality=quality)
    _write(place / "labels" / f"{frame.name}.txt", yolo_lines(boxes).encode())
    _write(place / "images" / f"{frame.name}.jpg", encoded.getvalue())


def yolo_lines(boxes: Sequence[LabelledBox]) -> str:
    """One line per box: class index, then middle, width and height as fractions; '' for no box."""
    rows = []
    for box in boxes:
        x1, y1, x2, y2 = box.xyxy
        values = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
        rows.append(f"{CLASSES.index(box.name)} " + " ".join(f"{v:.6f}" for v in values) + "\n")
    return "".join(rows)


def _describe(folder: Path, frames: Sequence[Frame]) -> None:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["image", "sequence", "run"])
    writer.writerows([f"{f.name}.jpg", f.sequence, f.run] for f in frames)
    names = "\n".join(f"  {i}: {name}" for i, name in enumerate(CLASSES))
    _write(folder / "groups.csv", table.getvalue().encode())
    _write(folder / "classes.txt", ("\n".join(CLASSES) + "\n").encode())
    # Without "path", ultralytics resolves both against the folder of this file, wherever it is moved to.
    _write(folder / "data.yaml", f"train: images\nval: held_out/images\nnames:\n{names}\n".encode())


def _json(found: dict[str, object]) -> bytes:
    return (json.dumps(found, indent=2) + "\n").encode()


def _write(path: Path, content: bytes) -> None:
    """All or nothing, whatever moment the process is killed at."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)
