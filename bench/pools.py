"""Pools with something to gain, made from real photographs: near-duplicates, and classes that are rare."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from bench.inputs import class_names, data_set

COPIES = 3
"""Shifted and dimmed copies per photograph of a redundant pool."""
SHIFT = 0.03
"""A copy shows the scene moved by at most this share of its sides."""
DIMMED = (0.75, 1.0)
"""Range of a copy's brightness."""
RARE_IMAGES = 5
"""Photographs that show a rare class, in a pool of the rare kind."""
SCENE_GAP = 5
"""A scene of a video ends where no photograph follows for more seconds than that."""

Row = tuple[int, float, float, float, float]


@dataclass(frozen=True)
class Photo:
    """One labelled photograph; rows are class, centre x, centre y, width, height in fractions."""

    path: Path
    rows: tuple[Row, ...]


def photos(folder: Path, split: str) -> list[Photo]:
    """The photographs of ``split`` ('train' or 'val') in the order of its list."""
    names = [Path(line).name for line in (folder / f"{split}.txt").read_text().split()]
    return [Photo(folder / "images" / n, _rows(folder / "labels" / f"{Path(n).stem}.txt")) for n in names]


def _rows(path: Path) -> tuple[Row, ...]:
    lines = path.read_text().split("\n") if path.is_file() else []
    return tuple(
        (int(c), float(x), float(y), float(w), float(h)) for c, x, y, w, h in map(str.split, filter(None, lines))
    )


def plain(name: str, out: Path) -> Path:
    """The data set as it is."""
    return _write(name, out, photos(data_set(name), "train"))


def redundant(name: str, out: Path, unique: int, seed: int = 0) -> Path:
    """So many photographs of the training split, each with its copies: most of the pool teaches nothing new."""
    rng = np.random.default_rng(seed)
    everything = photos(data_set(name), "train")
    chosen = [everything[i] for i in sorted(rng.permutation(len(everything))[:unique].tolist())]
    folder = out / "copies"
    folder.mkdir(parents=True, exist_ok=True)
    pool = []
    for photo in chosen:
        pool += [photo, *(_copy(photo, folder / f"{photo.path.stem}-copy{k}.jpg", rng) for k in range(1, COPIES + 1))]
    return _write(name, out, pool)


def _copy(photo: Photo, path: Path, rng: np.random.Generator) -> Photo:
    """The photograph a moment later: a crop that moves the scene, another brightness, compressed anew."""
    cut = np.sort(rng.uniform(0, SHIFT, 4))
    left, top, right, bottom = cut[rng.permutation(4)].tolist()
    with Image.open(photo.path) as image:
        w, h = image.size
        box = (round(left * w), round(top * h), round((1 - right) * w), round((1 - bottom) * h))
        dimmed = ImageEnhance.Brightness(image.convert("RGB").crop(box)).enhance(float(rng.uniform(*DIMMED)))
        dimmed.save(path, quality=85)
    rows = (_moved(row, (box[0] / w, box[1] / h, box[2] / w, box[3] / h)) for row in photo.rows)
    return Photo(path, tuple(row for row in rows if row))


def _moved(row: Row, box: tuple[float, float, float, float]) -> Row | None:
    """The row in fractions of the crop; None when less than a tenth of it is left."""
    number, x, y, w, h = row
    x1, y1, x2, y2 = (max(box[0], x - w / 2), max(box[1], y - h / 2), min(box[2], x + w / 2), min(box[3], y + h / 2))
    if x2 <= x1 or y2 <= y1 or (x2 - x1) * (y2 - y1) < 0.1 * w * h:
        return None
    wide, high = box[2] - box[0], box[3] - box[1]
    x1, x2, y1, y2 = (x1 - box[0]) / wide, (x2 - box[0]) / wide, (y1 - box[1]) / high, (y2 - box[1]) / high
    return number, (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1


def rare(name: str, out: Path, classes: int = 2, seed: int = 0) -> Path:
    """The training split with its ``classes`` least frequent classes left in ``RARE_IMAGES`` photographs each."""
    rng = np.random.default_rng(seed)
    everything = photos(data_set(name), "train")
    count = Counter(number for photo in everything for number in {row[0] for row in photo.rows})
    thinned = sorted(count, key=lambda number: (count[number], number))[:classes]
    keep: set[Path] = set()
    for number in thinned:
        shows = [p.path for p in everything if any(row[0] == number for row in p.rows)]
        keep |= {shows[i] for i in rng.permutation(len(shows))[:RARE_IMAGES].tolist()}
    pool = [p for p in everything if p.path in keep or not any(row[0] in thinned for row in p.rows)]
    return _write(name, out, pool)


def by_scene(name: str, out: Path) -> Path:
    """Frames of videos, split so that no scene is on both sides: validation is the lowest quarter of scene hashes."""
    everything = photos(data_set(name), "train") + photos(data_set(name), "val")
    scene = _scenes(data_set(name) / "groups.csv")
    quarter = {s for s in scene.values() if hashlib.sha1(s.encode(), usedforsecurity=False).digest()[0] < 64}
    sides: tuple[list[Photo], list[Photo]] = ([], [])
    for photo in everything:
        sides[scene[photo.path.name] in quarter].append(photo)
    return _write(name, out, *sides)


def _scenes(groups: Path) -> dict[str, str]:
    """Image name -> its scene, out of a table of image, video, second."""
    with groups.open(newline="") as file:
        rows = sorted((row["video"], int(row["second"]), row["image"]) for row in csv.DictReader(file))
    scene: dict[str, str] = {}
    last, current = ("", 0), ""
    for video, second, image in rows:
        if video != last[0] or second - last[1] > SCENE_GAP:
            current = f"{video} from {second}"
        scene[image], last = current, (video, second)
    return scene


def _write(name: str, out: Path, pool: Iterable[Photo], val: Sequence[Photo] = ()) -> Path:
    """Images (links), labels, lists and data.yaml; returns data.yaml. ``val`` is the data set's own if not given."""
    source = data_set(name)
    for split, members in (("train", pool), ("val", val or photos(source, "val"))):
        lines = []
        for photo in members:
            target = out / "images" / photo.path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                target.symlink_to(photo.path.resolve())
            label = out / "labels" / f"{photo.path.stem}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text("".join(f"{c} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for c, x, y, w, h in photo.rows))
            lines.append(f"./images/{photo.path.name}\n")
        (out / f"{split}.txt").write_text("".join(lines))
    names = class_names(source)
    data = {"path": ".", "train": "train.txt", "val": "val.txt", "nc": len(names), "names": list(names)}
    (out / "data.yaml").write_text(json.dumps(data))
    return out / "data.yaml"


POOLS: dict[str, Callable[[Path], Path]] = {
    "cards": lambda out: plain("cards", out),
    "bccd": lambda out: plain("bccd", out),
    "plates": lambda out: by_scene("plates", out),
    "cards-redundant": lambda out: redundant("cards", out, 96),
    "bccd-redundant": lambda out: redundant("bccd", out, 64),
    "cards-rare": lambda out: rare("cards", out),
}
"""Name -> function that writes the pool into a folder and returns its data.yaml."""


def make(name: str, folder: Path) -> Path:
    """The data.yaml of a pool, made anew in ``folder``/NAME."""
    out = folder / name
    shutil.rmtree(out, ignore_errors=True)
    return POOLS[name](out)
