"""A project's labelled set as a YOLO data set to take away: the sides are those of a round."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common.config import Settings
from common.connection import project_tools
from common.errors import SettingError, UnknownNameError
from common.loop.reading import labels_at
from common.loop.splitting import split_labels
from common.loop.tools import Tools
from common.loop.training import usable, with_images
from common.ports import TrainingSample
from common.store.projects import ProjectRow
from common.yolo import files
from common.yolo.dataset import Manifest, read_manifest, write_dataset

PARTS = ("images", "labels", "data.yaml", "manifest.json")
"""What an export consists of, the manifest last: it says that the rest is there."""
UNFINISHED = "unfinished-export.json"
"""Stands in for the manifest while an export takes the place of another: the folder may be written to again."""


@dataclass(frozen=True)
class LabelledSet:
    """What a round sees.

    Attributes:
        round: Its number, None = the one that would be made now.
        revision: Of the labels.
        classes: Names in order.
        train: To train on; what a model labelled itself is not in it.
        val: To measure on.
        held: How many labelled look-alikes of ``val`` are left out.
        missing: How many labelled images cannot be read.
    """

    round: int | None
    revision: int
    classes: tuple[str, ...]
    train: list[TrainingSample]
    val: list[TrainingSample]
    held: int
    missing: int


def export_project(
    settings: Settings,
    key: str,
    out: Path,
    number: int | None = None,
    *,
    links: bool = False,
    tell: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write ``out``: images/, labels/, data.yaml, manifest.json; an earlier export there is replaced.

    Args:
        settings: Of the service.
        key: The project.
        out: A folder that is new, empty or an earlier export.
        number: Of the round; None = what a round would see now.
        links: Link images instead of copying them: quick, but bound to this machine.
        tell: Told (images copied, of how many).

    Returns:
        'project', 'folder', 'round', 'train' and 'val' (images), 'boxes', 'held', 'missing', 'classes', 'reports'.

    Raises:
        UnknownNameError: No such project or round; the message lists those there are.
        SettingError: ``out`` holds something else, or cannot be written.
        TrainingError: No label can be used.
    """
    check_free(out)
    with project_tools(settings, key) as (tools, row):
        found = labelled_set(tools, row, number)
    origin = {"project": key, "round": found.round, "revision": found.revision}
    manifest = write_export(found, out, origin, links=links, tell=tell)
    return {
        "project": key,
        "folder": str(out.resolve()),
        "round": found.round,
        **{split: manifest.count(split) for split in ("train", "val")},
        "boxes": sum(entry.boxes for entry in manifest.entries),
        "held": found.held,
        "missing": found.missing,
        "classes": list(manifest.classes),
        "reports": list(manifest.reports),
    }


def labelled_set(tools: Tools, row: ProjectRow, number: int | None = None) -> LabelledSet:
    """The labels of a round, or of one that would be made now, on their sides. Raises UnknownNameError."""
    rounds = {r.number: r for r in tools.store.rounds.all(row.key)}
    if number is not None and number not in rounds:
        raise UnknownNameError(f"no round {number}; there are {list(rounds)}")
    revision = row.revision if number is None else rounds[number].revision
    left = [c.names for c in tools.store.rounds.checkpoints(row.key) if c.round == number]
    classes = tuple(left[0]) if left else row.spec.names
    labels = {s: label for s, label in labels_at(tools, row, revision).items() if usable(label, classes)}
    samples, missing = with_images(tools, row, labels)
    split = split_labels(tools, row, [s.id for s in samples]).stored() if number is None else rounds[number].split
    val, held = (set(split.get(side, ())) for side in ("val", "held"))
    return LabelledSet(
        number,
        revision,
        classes,
        train=[s for s in samples if s.id not in val | held],
        val=[s for s in samples if s.id in val],
        held=len(held),
        missing=missing,
    )


def check_free(out: Path) -> None:
    """Raises SettingError when an export into this folder would destroy something."""
    if out.exists() and not out.is_dir():
        raise SettingError(f"--out is {str(out)!r}, which is a file: name a folder")
    ours = any("export" in (files.read_json(out / name) or {}) for name in ("manifest.json", UNFINISHED))
    if out.is_dir() and any(out.iterdir()) and not ours:
        raise SettingError(f"--out is {str(out)!r}, which holds other things: name a new or an empty folder")


def write_export(
    found: LabelledSet,
    out: Path,
    origin: dict[str, Any],
    *,
    links: bool,
    tell: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Written beside its place and moved there, so that a folder never looks whole when it is not.

    Args:
        found: What to write.
        out: See ``check_free``.
        origin: Goes into the manifest as 'export'.
        links: Link images instead of copying them.
        tell: See ``export_project``.

    Raises:
        SettingError: ``out`` cannot be written.
        TrainingError: No label can be used.
    """
    try:
        with _beside(out) as fresh:
            write_dataset(fresh, found.train, found.val, found.classes)
            manifest = read_manifest(fresh)
            if not links:
                _copy_images(fresh, manifest, tell)
            _make_portable(fresh, manifest, origin)
            _move(fresh, out)
    except OSError as error:
        raise SettingError(f"--out is {str(out)!r}, which cannot be written ({error.strerror})") from error
    return manifest


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    fresh = out.resolve().with_name(f".{out.resolve().name}.{secrets.token_hex(6)}")
    fresh.mkdir(parents=True)
    try:
        yield fresh
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _copy_images(folder: Path, manifest: Manifest, tell: Callable[[int, int], None] | None) -> None:
    for done, entry in enumerate(manifest.entries, start=1):
        if tell is not None:
            tell(done, len(manifest.entries))
        link = folder / "images" / entry.split / entry.file
        if link.is_symlink():
            source = link.resolve()
            link.unlink()
            shutil.copyfile(source, link)


def _make_portable(folder: Path, manifest: Manifest, origin: dict[str, Any]) -> None:
    """Without ``path`` ultralytics reads the folders beside data.yaml, wherever that is."""
    val = "images/val" if manifest.count("val") else "images/train"
    data = {"train": "images/train", "val": val, "names": list(manifest.classes)}
    files.write_text(folder / "data.yaml", json.dumps(data, ensure_ascii=False, indent=1))
    files.write_json(folder / "manifest.json", {"export": origin, **asdict(manifest)})


def _move(fresh: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    files.write_json(out / UNFINISHED, {"export": "unfinished: run it again"})
    (out / "manifest.json").unlink(missing_ok=True)
    for name in PARTS:
        old = out / name
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        (fresh / name).replace(old)
    (out / UNFINISHED).unlink()
