"""An oracle that reads its answers from a folder of YOLO label files. It only reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import yaml

from common.domain import LabelledBox
from common.errors import HardfirstError, SettingError


class NoAnswerError(HardfirstError, KeyError):
    """The oracle has no label file for this image."""

    # KeyError would show the message in quotes.
    __str__ = HardfirstError.__str__


class FolderOracle:
    """Answers with what the file of the same stem says; an empty file is a true negative.

    Args:
        folder: YOLO label files, one per image, or a data set folder with them in ``labels``.
        classes: Class names in the order of the indices; None = what ``classes.txt`` or ``data.yaml`` in the
            folder, or in the one above it, says.

    Raises:
        SettingError: no such folder, no label file in it, or no class names to be found.
    """

    def __init__(self, folder: Path, classes: Sequence[str] | None = None) -> None:
        if not folder.is_dir():
            raise SettingError(f"the oracle {folder} is not a folder; name one that holds YOLO label files")
        inner = folder / "labels"
        self.folder = inner if inner.is_dir() else folder
        self.classes = tuple(classes) if classes is not None else class_names(self.folder)
        self._files = {p.stem: p for p in sorted(self.folder.rglob("*.txt")) if p.name != "classes.txt"}
        if not self._files:
            raise SettingError(f"the oracle {self.folder} holds no label file (*.txt); one per image is needed")

    @property
    def names(self) -> tuple[str, ...]:
        """Stems of the images it can answer for, sorted."""
        return tuple(sorted(self._files))

    def answer(self, image_name: str) -> list[LabelledBox]:
        """The boxes of one image, clipped to it; [] for a true negative.

        Args:
            image_name: A file name, path or stem; only the stem counts.

        Raises:
            NoAnswerError: there is no label file of this stem.
            SettingError: the file is not UTF-8 or cannot be read, or a line is not a YOLO box of a known class.
        """
        path = self._files.get(PurePosixPath(image_name).stem) or self._files.get(PurePosixPath(image_name).name)
        if path is None:
            stem = PurePosixPath(image_name).stem
            raise NoAnswerError(f"the oracle {self.folder} has no answer for {image_name!r}: there is no {stem}.txt")
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingError(_unread(path, error, "a class and a box in numbers per line")) from error
        found = [self._box(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
        return [box for box in found if box is not None]

    def __contains__(self, image_name: str) -> bool:
        return PurePosixPath(image_name).stem in self._files

    def _box(self, path: Path, number: int, line: str) -> LabelledBox | None:
        """The box on one line; None when nothing of it lies in the image."""
        try:
            index, *values = line.split()
            name = self.classes[_index(index)]
            x1, y1, x2, y2 = _corners([float(v) for v in values])
        except (ValueError, IndexError, OverflowError) as error:
            raise SettingError(
                f"line {number} of {path} is {line.strip()[:80]!r}; wanted are a class from 0 to "
                f"{len(self.classes) - 1} and x, y, width and height (or a polygon) as fractions"
            ) from error
        if not (x1 < x2 and y1 < y2):
            return None
        return LabelledBox(name, (x1, y1, x2, y2))


def _unread(path: Path, error: OSError | UnicodeDecodeError, wanted: str) -> str:
    if isinstance(error, OSError):
        return f"{path} cannot be read ({error.strerror}): {wanted} is wanted"
    return f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8 text, {wanted}"


def _index(text: str) -> int:
    value = float(text)
    if value < 0 or value != int(value):
        raise ValueError(f"class must be a whole number from 0 up, got {text}")
    return int(value)


def _corners(values: list[float]) -> tuple[float, float, float, float]:
    """Corners of a box (x, y, w, h) or of the box around a polygon (x, y, x, y, x, y...), clipped to [0, 1]."""
    if len(values) == 4:
        x, y, wide, high = values
        xs, ys = [x - wide / 2, x + wide / 2], [y - high / 2, y + high / 2]
    elif len(values) >= 6 and len(values) % 2 == 0:
        xs, ys = values[::2], values[1::2]
    else:
        raise ValueError(f"a box has 4 numbers and a polygon 6 or more, got {len(values)}")
    if not all(-1 <= v <= 2 for v in (*xs, *ys)):
        raise ValueError("coordinates must be fractions of the image")
    x1, y1, x2, y2 = (min(max(v, 0.0), 1.0) for v in (min(xs), min(ys), max(xs), max(ys)))
    return x1, y1, x2, y2


def class_names(folder: Path) -> tuple[str, ...]:
    """Class names from ``classes.txt`` or ``data.yaml`` in ``folder`` or in the one above it.

    Raises:
        SettingError: neither file is there, or it cannot be read, or it holds no names.
    """
    for place in (folder, folder.parent):
        if (place / "classes.txt").is_file():
            try:
                lines = (place / "classes.txt").read_text(encoding="utf-8-sig").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise SettingError(_unread(place / "classes.txt", error, "one class name per line")) from error
            return _once(place / "classes.txt", [line.strip() for line in lines if line.strip()])
        for name in ("data.yaml", "data.yml"):
            if (place / name).is_file():
                return names_in(place / name, str(place / name))
    raise SettingError(
        f"nothing says what the class numbers in {folder} mean; put classes.txt (one name per line) "
        "or data.yaml (with names) beside the labels, or give the names"
    )


def names_in(path: Path, where: str) -> tuple[str, ...]:
    """The ``names`` of a data.yaml; messages begin with ``where``. Raises SettingError."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingError(f"{where} cannot be read as YAML: it must be a data.yaml with names") from error
    return listed_names(where, content.get("names") if isinstance(content, dict) else None)


def listed_names(where: str, names: object) -> tuple[str, ...]:
    """What ``names`` of a data.yaml says, a list or a mapping from 0 up; see ``names_in``. Raises SettingError."""
    told: object = names
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        told = [names[i] for i in range(len(names))]
    if not isinstance(told, list) or not told or len({str(n) for n in told}) != len(told):
        raise SettingError(
            f"{where}: names must be distinct class names, a list or numbered from 0 without gaps, got {names!r:.200}"
        )
    return tuple(str(n) for n in told)


def _once(path: Path, names: list[str]) -> tuple[str, ...]:
    if not names or len(set(names)) != len(names):
        raise SettingError(f"{path} must name every class once, got {names}")
    return tuple(names)
