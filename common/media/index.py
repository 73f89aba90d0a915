"""URL -> content, in one small SQLite file that several processes share. Only a cache: it may be deleted."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import StoreError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS urls (
    key TEXT PRIMARY KEY, sha256 TEXT NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL,
    etag TEXT NOT NULL, modified TEXT NOT NULL, checked REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS urls_sha256 ON urls (sha256);
"""
_BUSY_S = 30.0


@dataclass(frozen=True)
class Entry:
    """What one URL gave when it was last asked.

    Attributes:
        sha256: Of the stored file.
        width: Pixels of the upright image.
        height: Pixels of the upright image.
        etag: '' where the server gave none.
        modified: Last-Modified as the server wrote it, '' where it gave none.
        checked: When the server last confirmed it, seconds since 1970.
    """

    sha256: str
    width: int
    height: int
    etag: str
    modified: str
    checked: float

    @property
    def conditions(self) -> dict[str, str]:
        """Request headers that ask whether it has changed; empty when the server gave nothing to ask with."""
        named = {"if-none-match": self.etag, "if-modified-since": self.modified}
        return {name: value for name, value in named.items() if value}


class Index:
    """Safe to share between threads and processes; open it after a fork, not before."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def find(self, key: str) -> Entry | None:
        """What is known about a URL, by the hash of it."""
        rows = self._run("SELECT sha256, width, height, etag, modified, checked FROM urls WHERE key = ?", [(key,)])
        return Entry(*rows[0]) if rows else None

    def put(self, key: str, entry: Entry) -> None:
        """Remember what a URL gave."""
        row = (key, entry.sha256, entry.width, entry.height, entry.etag, entry.modified, entry.checked)
        self._run("INSERT OR REPLACE INTO urls VALUES (?, ?, ?, ?, ?, ?, ?)", [row])

    def forget(self, contents: Iterable[str]) -> None:
        """Drop every URL that gave one of these contents (sha256)."""
        self._run("DELETE FROM urls WHERE sha256 = ?", [(sha,) for sha in contents])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _run(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run ``statement`` for every row, in one transaction."""
        try:
            with self._lock:
                connection = self._connection = self._connection or self._open()
                with connection:
                    if len(rows) == 1:
                        return connection.execute(statement, rows[0]).fetchall()
                    connection.executemany(statement, rows)
                    return []
        except sqlite3.Error as error:
            raise StoreError(
                f"the image index {self._path.name} cannot be used ({error}): free space, or delete it in "
                f"{self._path.parent.name}/; it is only a cache"
            ) from error

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, timeout=_BUSY_S, check_same_thread=False)
        until = time.monotonic() + _BUSY_S
        while True:
            try:
                # SQLite does not wait for its lock when it switches to WAL: a second process may be doing just that.
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.executescript(_SCHEMA)
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > until:
                    connection.close()
                    raise
                time.sleep(0.02)
            except sqlite3.Error:
                connection.close()
                raise
            else:
                return connection
