"""Files that are there whole or not at all: written beside their place, synced, renamed."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes. Raises OSError when it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def replacing(target: Path, *, durable: bool = True) -> Iterator[Path]:
    """A path to write to; it takes the target's place when the block ends well and is removed when it does not.

    The path has the target's suffix. With ``durable`` the bytes are on the disk before the name changes.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.stem}.{secrets.token_hex(6)}{target.suffix}")
    try:
        yield fresh
        if durable:
            sync(fresh)
        fresh.replace(target)
        if durable:
            sync(target.parent)
    finally:
        fresh.unlink(missing_ok=True)


def copy(source: Path, target: Path) -> None:
    """Copy atomically and durably."""
    with replacing(target) as fresh:
        shutil.copyfile(source, fresh)


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Write UTF-8 text atomically."""
    with replacing(path, durable=durable) as fresh:
        fresh.write_text(text, encoding="utf-8")


def write_json(path: Path, data: Any, *, durable: bool = True) -> None:
    """Write JSON atomically; readers see the old text or the new one."""
    write_text(path, json.dumps(data, ensure_ascii=False, indent=1), durable=durable)


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file, None when there is no file or no object in it."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None
