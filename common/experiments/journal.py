"""The decisions of `hardfirst watch`: one CSV that only grows. The queue, and all a restart needs, is read from it.

One line per decision, one write per line: killed at any moment it lacks at most the line in work. A line that was cut
off is passed over and its image decided again. The last line of a content counts, so that a person reverses a decision
by one line more.
"""

from __future__ import annotations

import csv
import fcntl
import io
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from common.errors import SettingError

WATCH, PERSON = "watch", "person"


@dataclass(frozen=True)
class Line:
    """One decision about one content; the fields are the columns of the CSV.

    Attributes:
        at: When, ISO 8601, UTC.
        path: The image when it was decided.
        queued: 'yes' or 'no'.
        utility: Share of the images before it that are less informative, in [0, 1].
        reason: In words.
        by: 'watch' or 'person'.
        value: What the utility is the rank of, 0 or more.
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
        """Every whole line, oldest first; [] where there is no file.

        Raises:
            SettingError: The file is something else.
        """
        try:
            text = self.path.read_text(encoding="utf-8", errors="surrogateescape")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise SettingError(f"--out is {self.path}, which cannot be read: {error.strerror or error}") from error
        rows = [row.rstrip("\r") for row in text.removeprefix("\ufeff").split("\n")]
        if rows[0] and not ",".join(COLUMNS).startswith(rows[0]) and _line(rows[0]) is None:
            raise SettingError(f"--out is {self.path}, which is not a queue of `hardfirst watch`: name another file")
        return [line for row in rows if (line := _line(row)) is not None]

    def add(self, line: Line) -> None:
        """Append, in one write. Raises SettingError where that cannot be done."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+", buffering=0) as file:
                file.write(_start(file) + _text([str(v) for v in asdict(line).values()]))
        except OSError as error:
            raise SettingError(f"{self.path} cannot be written: {error.strerror or error}") from error

    def sync(self) -> None:
        """Wait until every line is on the disk."""
        if self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())


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
    """None for an empty line, the head, or a line that is not whole."""
    cells = next(csv.reader([text]), [])
    if len(cells) != len(COLUMNS) or not re.fullmatch(r"[0-9a-f]{64}", cells[-1]):
        return None
    values = dict(zip(COLUMNS, cells, strict=True))
    try:
        numbers = {name: float(values[name]) for name in ("utility", "value", "threshold")}
    except ValueError:
        return None
    return Line(**{**values, **numbers})  # type: ignore[arg-type]
