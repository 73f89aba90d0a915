"""The order of some files: project classes, labels that are there, near-duplicates, strategy. No files are written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.config import Settings
from common.domain import ClassMapping, Ints, Prediction, ProjectSpec
from common.errors import SettingError, UnknownNameError
from common.experiments.limits import require_budget
from common.experiments.scoring import Scored
from common.loop.ordering import slice_hash
from common.loop.project_settings import whole_options
from common.loop.publishing import columns
from common.ports import Model
from common.sample.oracle import FolderOracle, class_names, names_in
from common.strategies import Pool, Selection, query
from common.strategies.screening import directions


@dataclass(frozen=True)
class Wish:
    """What is wanted of an order besides the settings.

    Attributes:
        budget: Places wanted, None = all.
        slice_share: Share of the images in the random slice, in [0, 1); 0 = there is none.
    """

    budget: int | None = None
    slice_share: float = 0.0

    def __post_init__(self) -> None:
        if self.budget is not None:
            require_budget(self.budget)
        if not 0 <= self.slice_share < 1:
            raise SettingError(f"--random-slice is {self.slice_share:g}: at least 0 and below 1 is allowed")


@dataclass(frozen=True)
class Classes:
    """The classes that count, and where the model has them.

    Attributes:
        names: Project classes.
        columns: Project class -> columns of the model's scores; classes the model does not know are missing.
        numbered: What the numbers in label files mean; () = nobody said.
    """

    names: tuple[str, ...]
    columns: dict[int, list[int]]
    numbered: tuple[str, ...] = ()

    @property
    def unknown(self) -> tuple[str, ...]:
        """Project classes that the model does not know."""
        return tuple(n for i, n in enumerate(self.names) if i not in self.columns)


def project_classes(model: Model, only: Sequence[str] = (), data: Path | None = None) -> Classes:
    """All classes of the model; or those a person names; or those of a data set.

    Args:
        model: Its classes are matched by name, in any case of letters.
        only: ``--classes``: each must be one of the model's where that has any.
        data: ``--data``: a YAML file with ``names``; what the model does not know of them always scores 0.

    Raises:
        SettingError: Both were given, the file has no names, or a named class that the model does not know.
    """
    if only and data is not None:
        raise SettingError("--classes and --data both say which classes count: give one of them")
    numbered = names_in(data, f"--data {data}") if data is not None else ()
    names = tuple(dict.fromkeys(only)) or numbered or model.names
    mapped = columns(ProjectSpec("", tuple(ClassMapping(n) for n in names)), model.names)
    if only and model.usable and len(mapped) < len(names):
        wrong = next(n for n in names if n not in mapped)
        raise UnknownNameError(f"--classes names {wrong!r}; the model has {sorted(model.names)}")
    return Classes(names, {names.index(n): hit for n, hit in mapped.items()}, numbered)


def label_counts(images: Sequence[Path], classes: Classes) -> tuple[Ints, int, str]:
    """Labelled boxes per project class, from YOLO label files beside the images.

    Looked for where ultralytics looks (the last ``images`` folder of the path becomes ``labels``), in ``labels`` beside
    the image, and beside the image itself.

    Returns:
        (shape (C,), images with a label file, one sentence why files that are there do not count or '').

    Raises:
        SettingError: A line that is not a YOLO box of a known class.
    """
    counts: Counter[str] = Counter()
    oracles: dict[Path, FolderOracle | None] = {}
    files = [f for f in map(_label_file, images) if f is not None]
    silent: Path | None = None
    for file in files:
        if file.parent not in oracles:
            oracles[file.parent] = _oracle(file.parent, classes)
        oracle = oracles[file.parent]
        if oracle is None:
            silent = file.parent
            continue
        counts.update(box.name.casefold() for box in oracle.answer(file.name))
    why = (
        f"the labels in {silent} do not count: nothing says what their class numbers mean, give --data"
        if silent
        else ""
    )
    return np.array([counts[n.casefold()] for n in classes.names], np.int64), len(files), why


def _label_file(image: Path) -> Path | None:
    parts = list(image.absolute().parts)
    places = [image.parent / "labels" / image.name, image]
    if "images" in parts[:-1]:
        last = len(parts) - 2 - parts[:-1][::-1].index("images")
        places.insert(0, Path(*parts[:last], "labels", *parts[last + 1 :]))
    return next((f for p in places if (f := p.with_suffix(".txt")).is_file()), None)


def _oracle(folder: Path, classes: Classes) -> FolderOracle | None:
    if classes.numbered:
        return FolderOracle(folder, classes.numbered)
    try:
        class_names(folder)
    except SettingError:
        return None
    return FolderOracle(folder)


@dataclass(frozen=True)
class Ranking:
    """An order and what it was made from; rows count through the pool.

    Attributes:
        pool: Every file, labelled ones too.
        paths: Of each row.
        problems: Of each row, '' where it was scored.
        predictions: Of each row, None where there is a problem.
        chosen: The strategy's answer.
        nearest: Per place, the row of the nearest labelled image and its distance; None without one.
    """

    pool: Pool
    paths: list[Path]
    problems: list[str]
    predictions: list[Prediction | None]
    chosen: Selection
    nearest: list[tuple[int, float] | None]


def rank(
    scored: Scored, labelled: Ints, counts: Ints, classes: Classes, group: Ints, wish: Wish, settings: Settings
) -> Ranking:
    """Order what was scored.

    Args:
        scored: All files, labelled ones too.
        labelled: Rows of those that have a label.
        counts: Shape (C,), labelled boxes per class.
        classes: See ``project_classes``.
        group: Shape (n,), near-duplicate groups, -1 = none.
        wish: Budget and random slice.
        settings: Strategy, its options, seed.
    """
    hashes = [slice_hash("rank", f.sha256 or str(f.path)) for f in scored.files] if wish.slice_share else None
    pool = Pool.from_predictions(
        scored.predictions,
        classes.columns,
        len(classes.names),
        labelled=labelled,
        label_counts=counts,
        group=group,
        class_names=classes.names,
        slice_hash=None if hashes is None else np.array(hashes),
        slice_share=wish.slice_share,
        knows=bool(classes.columns),
    )
    budget = len(pool) if wish.budget is None else wish.budget
    options = whole_options(settings, len(labelled))
    chosen = query(settings.strategy, pool, budget, np.random.default_rng(settings.seed), **options)
    paths, problems = [f.path for f in scored.files], [f.problem for f in scored.files]
    return Ranking(pool, paths, problems, scored.predictions, chosen, _nearest(pool, chosen.order))


def _nearest(pool: Pool, rows: Ints) -> list[tuple[int, float] | None]:
    """Row and distance, in [0, 2], of the nearest labelled image, whatever the strategy."""
    points = directions(pool.embeddings, pool.readable)
    anchors = pool.labelled_rows[points.usable[pool.labelled_rows]]
    out: list[tuple[int, float] | None] = [None] * len(rows)
    asked = np.flatnonzero(points.usable[rows])
    if len(anchors) and len(asked):
        apart, which = points.nearest(rows[asked], anchors)
        for place, row, far in zip(asked.tolist(), which.tolist(), apart.tolist(), strict=True):
            out[place] = (row, far)
    return out
