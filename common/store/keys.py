"""Keys of the projects, read without SQLAlchemy: that takes longer to import than a person waits for a Tab."""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import closing
from pathlib import Path

from dotenv import dotenv_values

WAIT_S = 0.2
"""A database that is locked is not waited for."""

SCHEME = "sqlite:///"

logging.getLogger("dotenv").addHandler(logging.NullHandler())  # a line of .env that it cannot read is not for a Tab


def project_keys() -> list[tuple[str, str]]:
    """(key, title) of the projects that are not archived, oldest first.

    The store is where ``HARDFIRST_HOME`` or ``HARDFIRST_DATABASE_URL`` say, in the environment or in ``.env``. None
    where there is no store, or one that is no SQLite file, is locked or cannot be read.
    """
    try:
        with closing(sqlite3.connect(f"{_path().as_uri()}?mode=ro", uri=True, timeout=WAIT_S)) as store:
            query = "SELECT key, title FROM project WHERE state != 'archived' ORDER BY created"
            return [(str(key), str(title)) for key, title in store.execute(query)]
    except (sqlite3.Error, OSError, ValueError):
        return []


def _path() -> Path:
    """Raises ValueError where the store is no SQLite file."""
    known = {**dotenv_values(".env"), **{name: value for name, value in os.environ.items() if value}}
    url = known.get("HARDFIRST_DATABASE_URL")
    if url and not url.startswith(SCHEME):
        raise ValueError(url)
    home = Path(known.get("HARDFIRST_HOME") or ".hardfirst").expanduser()
    return (Path(url.removeprefix(SCHEME)) if url else home / "hardfirst.db").resolve()
