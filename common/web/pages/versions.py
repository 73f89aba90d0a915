"""Static files under addresses that change with their contents, so that browsers may keep them for a year."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from flask import Response, request

STATIC = "pages.static"
FOREVER = "private, max-age=31536000, immutable"
_FOLDER = Path(__file__).resolve().parents[1] / "static"


def name_version(endpoint: str, values: dict[str, Any]) -> None:
    """Give the address of a static file the version of its contents."""
    if endpoint == STATIC and (version := _version(str(values.get("filename")))):
        values.setdefault("v", version)


def keep_static(response: Response) -> Response:
    """Let a static file be kept when it was asked for by its version; by another one it is asked about each time."""
    given = request.args.get("v")
    if request.endpoint == STATIC and response.status_code in (200, 304) and given:
        filename = str((request.view_args or {}).get("filename"))
        response.headers["Cache-Control"] = FOREVER if given == _version(filename) else "no-cache"
    return response


def _version(filename: str) -> str:
    path = _FOLDER / filename
    try:
        return _digest(path, path.stat().st_mtime_ns)
    except OSError:
        return ""


@lru_cache(maxsize=256)
def _digest(path: Path, _changed: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
