"""The decisions of `hardfirst watch`: one CSV that only grows. The queue, and all a restart needs, is read from it.

One line per decision, one write per line: killed at any moment it lacks at most the line in work. A line that was cut
off is passed over and its image decided again. The last line of a content counts, so that a person reverses a decision
by one line more. What decisions hang on (the model, ...) stands in lines without an image: its kind in ``by``, JSON in
``reason``.
"""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from common.errors import SettingError

WATCH, DUPLICATE, PERSON = "watch", "duplicate", "person"
"""Who decided: the running threshold, the rule that no near-duplicate is queued, a person."""


@dataclass(frozen=True)
class Line:
    """One decision about one content; the fields are the columns of the CSV.

    Attributes:
        at: When, ISO 8601, UTC.
        path: The image when it was decided.
        queued: 'yes' or 'no'.
        utility: Share of the images before it that are less informative, in [0, 1].
        reason: In words.
        by: 'watch', 'duplicate' or 'person'.
        value: What the utility is the rank of; see ``Judge.values``.
        threshold: Where the running quantile stood after it.
        sha256: Of the content; last, so that a line that was cut off has none.
    """

    at: str
    path: str
    queued: str
    utility: float
    reason: str
    by: str
    value: float
    threshold: float
    sha256: str


_LONGEST = 2**16
"""Bytes of a line at most: what a file that is no queue is read of."""
COLUMNS = tuple(f.name for f in fields(Line))


class Journal:
    """The CSV at ``path``; it and its folder are made when the first line comes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside, no other watch decides here; lines of a person may come all the same.

        Raises:
            SettingError: One does already, or the folder cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = self.path.with_name(f".{self.path.name}.lock").open("w")
        except OSError as error:
            raise SettingError(f"--out is {self.path}, which cannot be written: {error.strerror or error}") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise SettingError(
                    f"--out is {self.path}, where another `hardfirst watch` is at work: stop it, or name another file"
                ) from error
            yield

    def lines(self) -> list[Line]:
        """Every whole line about an image, oldest first; [] where there is no file.

        Raises:
            SettingError: The file is something else.
        """
        return [line for row in self._rows() if (line := _line(row)) is not None]

    def known(self, kind: str) -> dict[str, Any] | None:
        """What was kept last by ``keep`` under this name; None where nothing was. Raises SettingError as ``lines``."""
        found = [told for row in self._rows() if (told := _told(row, kind)) is not None]
        return found[-1] if found else None

    def _rows(self) -> list[str]:
        try:
            text = self.path.read_text(encoding="utf-8", errors="surrogateescape")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise SettingError(f"--out is {self.path}, which cannot be read: {error.strerror or error}") from error
        rows = [row.rstrip("\r") for row in text.removeprefix("\ufeff").split("\n")]
        if not _begins(rows[0]):
            raise SettingError(f"--out is {self.path}, which is not a queue of `hardfirst watch`: name another file")
        return rows

    def add(self, line: Line) -> None:
        """Append, in one write. Raises SettingError where that cannot be done."""
        self._append([str(v) for v in asdict(line).values()])

    def keep(self, at: str, kind: str, told: Mapping[str, Any]) -> None:
        """Append a line without an image, JSON-able, in one write. Raises SettingError as ``add``."""
        cells = {"at": at, "reason": json.dumps(told, ensure_ascii=False), "by": kind}
        self._append([cells.get(name, "") for name in COLUMNS])

    def _append(self, cells: Sequence[str]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+", buffering=0) as file:
                file.write(_start(file) + _text(cells))
        except OSError as error:
            raise SettingError(f"{self.path} cannot be written: {error.strerror or error}") from error

    def set_aside(self) -> Path | None:
        """Give the file a name that is free, such as queue.1.csv, and return that; None where there is no file.

        Raises:
            SettingError: The file is something else, or it cannot be renamed.
        """
        self._rows()
        if not self.path.exists():
            return None
        numbered = (self.path.with_name(f"{self.path.stem}.{n}{self.path.suffix}") for n in range(1, 10**6))
        free = next(path for path in numbered if not path.exists())
        try:
            return self.path.rename(free)
        except OSError as error:
            raise SettingError(f"{self.path} cannot be renamed to {free}: {error.strerror or error}") from error

    def sync(self) -> None:
        """Wait until every line is on the disk."""
        if self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())


def is_queue(path: Path) -> bool:
    """Whether a file is a queue of `hardfirst watch`, whole or cut off."""
    try:
        with path.open(encoding="utf-8", errors="surrogateescape") as file:
            row = file.readline(_LONGEST).removeprefix("\ufeff").rstrip("\r\n")
    except OSError:
        return False
    return bool(row) and _begins(row)


def _begins(row: str) -> bool:
    """Whether a queue may begin so: with the head or a part of it, with a line, with nothing."""
    return not row or ",".join(COLUMNS).startswith(row) or _line(row) is not None


def queue(lines: Sequence[Line]) -> list[Line]:
    """The lines that count and are queued, in order of arrival."""
    last: dict[str, Line] = {}
    for line in lines:
        last[line.sha256] = line
    return [line for line in last.values() if line.queued == "yes"]


def _start(file: io.FileIO | io.BufferedRandom) -> bytes:
    """What must stand before the next line: the names of the columns, or the end of a line that was cut off."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        return _text(COLUMNS)
    file.seek(size - 1)
    return b"" if file.read(1) == b"\n" else b"\n"


def _text(cells: Sequence[str]) -> bytes:
    out = io.StringIO()
    # A line is a line: what a file name may hold must not end it.
    csv.writer(out, lineterminator="\n").writerow([re.sub(r"[\r\n]", "?", cell) for cell in cells])
    return out.getvalue().encode("utf-8", "surrogateescape")


def _line(text: str) -> Line | None:
    """None for an empty line, the head, one without an image, or a line that is not whole."""
    cells = next(csv.reader([text]), [])
    if len(cells) != len(COLUMNS) or not re.fullmatch(r"[0-9a-f]{64}", cells[-1]):
        return None
    values = dict(zip(COLUMNS, cells, strict=True))
    try:
        numbers = {name: float(values[name]) for name in ("utility", "value", "threshold")}
    except ValueError:
        return None
    return Line(**{**values, **numbers})  # type: ignore[arg-type]


def _told(text: str, kind: str) -> dict[str, Any] | None:
    """The JSON of a whole line without an image, of this kind; else None."""
    cells = next(csv.reader([text]), [])
    values = dict(zip(COLUMNS, cells, strict=False))
    if len(cells) != len(COLUMNS) or values["by"] != kind or values["sha256"]:
        return None
    try:
        told = json.loads(values["reason"])
    except ValueError:
        return None
    return told if isinstance(told, dict) else None
