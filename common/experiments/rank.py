"""`hardfirst rank`: score a folder, write its order as CSV and the first of it as one picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from common.config import Settings
from common.domain import Ints
from common.errors import MediaError, SettingError
from common.experiments.files import SUFFIXES, Found, find_labelled, look, plain, utf8
from common.experiments.output import followed, require_file, require_other, require_place, weights_of
from common.experiments.rank_rows import cards_of, cells_of, is_ours, write_csv
from common.experiments.ranking import Classes, Ranking, Wish, label_counts, project_classes, rank
from common.experiments.scoring import Scored, Scorer
from common.experiments.sheet import FIRST, draw_sheet, is_sheet, save_sheet
from common.loop.lookalikes import near_duplicates
from common.ports import Model, Models
from common.store import Store
from common.strategies import REGISTRY
from common.yolo.files import replacing

SHOWN_PROBLEMS = 10
"""Unreadable images named on the terminal; the CSV names all."""
CLEAR, KNOWN_SHARE = 0.25, 0.1
"""A model that has a box of at least this confidence in less than this share of images does not seem to know them."""


@dataclass(frozen=True)
class Request:
    """What a person asks for.

    Attributes:
        source: A folder of images, or a ``.txt`` list of them.
        out: The CSV.
        wish: How to order.
        labelled: A list of images that have a label, None = there are none.
        only: ``--classes``.
        data: ``--data``.
        sheet: The picture, None = none is wanted.
    """

    source: Path
    out: Path
    wish: Wish
    labelled: Path | None = None
    only: tuple[str, ...] = ()
    data: Path | None = None
    sheet: Path | None = None

    def __post_init__(self) -> None:
        if self.sheet is not None and self.sheet.suffix.lower() not in (".png", ".jpg", ".jpeg"):
            raise SettingError(f"--sheet is {self.sheet}: its name must end in .png, .jpg or .jpeg")
        for option, path in self._places:
            require_file(option, path)
        if self.sheet is not None and self.sheet.exists() and not is_sheet(self.sheet):
            raise SettingError(
                f"--sheet is {self.sheet}, which exists and is no contact sheet of hardfirst: name another file"
            )
        if self.sheet is not None and followed(self.sheet) == followed(self.out):
            raise SettingError(f"--out is {self.out}: name a file of its own for the CSV")
        if self.out.suffix.lower() in SUFFIXES:
            raise SettingError(f"--out is {self.out}, a name for a picture: name a file for the CSV, such as order.csv")
        require_other("--out", self.out, (self.source, self.labelled, self.data))

    def require_places(self, settings: Settings) -> None:
        """Raise SettingError where a result cannot be written, or would be written over what hardfirst needs."""
        for option, path in self._places:
            require_place(option, path, settings, weights_of(settings), is_ours)

    @property
    def _places(self) -> list[tuple[str, Path]]:
        return [("--out", self.out), *([("--sheet", self.sheet)] if self.sheet is not None else [])]


@dataclass
class Report:
    """What came of it; ``summary`` is for scripts.

    Attributes:
        rows: Cells of the CSV by column, in the order of the queue.
        summary: Counts, files, the first rows: JSON-able.
        notes: Sentences a person should read.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


TellAll = Callable[[int, int], None]
"""Called with (images done, images in all)."""


def run(request: Request, settings: Settings, store: Store, models: Models, model: Model, tell: TellAll) -> Report:
    """Score, order, write.

    Args:
        request: What to do.
        settings: How large images may be and are made; the size of a block.
        store: Its predictions and descriptors are the memory.
        models: Where the detector comes from.
        model: The checkpoint, from ``models``.
        tell: Hears of every slice that was scored.

    Raises:
        SettingError: See ``look``, ``find_labelled``, ``project_classes``, ``label_counts``.
        MediaError: No image could be read.
        ModelError: The weights cannot be loaded.
        StoreError: The database is locked or full.
    """
    found, sheets = _images(request.source)
    images = found.images
    labelled = find_labelled(request.labelled, images, request.source) if request.labelled else []
    classes = project_classes(model, request.only, request.data)
    counts, with_label, silent = label_counts(labelled, classes)
    among = set(images)
    everything = [*images, *(p for p in labelled if p not in among)]
    scorer = Scorer(store, models, model, settings)
    tell(0, len(everything))
    scored = scorer.score(everything, lambda done: tell(done, len(everything)))
    if len(scored.unreadable) == len(everything):
        first = plain(Path(scored.unreadable[0].problem))
        raise MediaError(f"none of {len(everything)} images could be read; the first: {first}")
    place = {path: row for row, path in enumerate(everything)}
    rows = np.array([place[p] for p in labelled], np.int64)
    made = rank(scored, rows, counts, classes, _groups(scored), request.wish, settings)
    notes = found.notes
    notes += [f"{len(sheets)} contact sheets of hardfirst are left out, such as {sheets[0]}"] if sheets else []
    notes += scorer.notes
    notes += _notes(model, classes, scored, silent) + _strangers(settings, made)
    report = Report(cells_of(made), _summary(request, settings, model, scored, made), notes)
    report.summary["label_files"] = with_label
    _write(request, report, made)
    return report


def _images(source: Path) -> tuple[Found, list[Path]]:
    """(images to rank, contact sheets that lay among them). Raises as ``look``; MediaError with sheets alone."""
    found = look(source)
    sheets = [path for path in found.images if is_sheet(path)]
    if len(sheets) == len(found.images):
        raise MediaError(f"there is no image in {source} but contact sheets of hardfirst, such as {sheets[0]}")
    marked = set(sheets)
    return replace(found, images=[path for path in found.images if path not in marked]), sheets


def _groups(scored: Scored) -> Ints:
    bodies = [None if f.problem else scored.descriptors.get(f.sha256) for f in scored.files]
    return near_duplicates(bodies, lambda i: scored.files[i].path)


def _summary(request: Request, settings: Settings, model: Model, scored: Scored, made: Ranking) -> dict[str, Any]:
    grouped = made.pool.group[made.pool.group >= 0]
    return {
        "order": str(request.out),
        "sheet": str(request.sheet) if request.sheet else None,
        "model": str(model.path),
        "strategy": settings.strategy,
        "images": len(scored.files),
        "ranked": len(made.chosen.order),
        "labelled": int(made.pool.labelled.sum()),
        "scored": scored.fresh,
        "cached": scored.cached,
        "unreadable": [{"path": utf8(f.path), "problem": f.problem} for f in scored.unreadable],
        "duplicate_groups": len(np.unique(grouped)),
        "duplicates": len(grouped),
    }


def _notes(model: Model, classes: Classes, scored: Scored, silent: str) -> list[str]:
    notes = []
    if not model.usable:
        notes.append(f"cold start, the order goes by how typical images are: {model.reason}")
    elif not classes.columns:
        notes.append("cold start, the order goes by how typical images are: the model knows none of the classes")
    elif classes.unknown:
        notes.append(f"the model does not know {', '.join(classes.unknown)}: nothing is predicted for it")
    notes += [silent] if silent else []
    notes += [f.problem for f in scored.unreadable[:SHOWN_PROBLEMS]]
    hidden = len(scored.unreadable) - SHOWN_PROBLEMS
    return [*notes, f"and {hidden} more images that could not be read"] if hidden > 0 else notes


def _strangers(settings: Settings, made: Ranking) -> list[str]:
    """One sentence where the model sees next to nothing, and the strategy asks it for its doubt."""
    asks = "acquisition" in REGISTRY[settings.strategy].options.__dataclass_fields__
    pool, readable = made.pool, int(made.pool.readable.sum())
    clear = int((pool.detections.greatest(pool.detections.confidence) >= CLEAR).sum())
    if not (asks and pool.knows and readable) or clear >= KNOWN_SHARE * readable:
        return []
    so = "the order rests on typicality and diversity more than on doubt"
    so = so if settings.strategy == "hybrid" else "its doubt, which the order goes by, says little"
    return [
        f"the model does not seem to know these images: it has a box of confidence {CLEAR:g} or more in {clear} of "
        f"{readable}, so {so}: give a --model that knows the classes, or --strategy typicality, which asks none"
    ]


def _write(request: Request, report: Report, made: Ranking) -> None:
    """The CSV, and the sheet where one is wanted; each whole or not at all."""
    try:
        writing = request.out
        write_csv(followed(request.out), report.rows)
        if request.sheet is not None:
            writing = request.sheet
            count = int((~made.pool.labelled).sum())
            title = f"The first {min(FIRST, len(report.rows))} of {count} images to label"
            told = f"{Path(report.summary['model']).name} · {report.summary['strategy']}"
            with replacing(followed(request.sheet)) as fresh:
                save_sheet(draw_sheet(cards_of(report.rows, made), title, told), fresh)
    except OSError as error:
        raise SettingError(f"{writing} cannot be written: {error.strerror or error}") from error
