"""The plotting library's JavaScript, served from its Python package: nothing of it is copied, nobody else is asked."""

from __future__ import annotations

import gzip
from importlib.metadata import distribution, version
from pathlib import Path
from threading import Lock

from flask import Response, make_response, request, send_file

from common.errors import UnknownNameError

PACKAGE = "plotly"
FILE = "plotly/package_data/plotly.min.js"
STYLES = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' 'sha256-ji27qzEtxXZW+7dun6UwjHXJ18e6WAin1VvNtkzIE/o='"
"""The style elements it makes: an empty one, which its script fills, and the one of geographic maps, which nobody needs
but whose refusal would stand in the console. Of another version the second may differ, and plots work all the same."""
KEEP_S = 31_536_000
"""A year: the address changes with the version."""


class Library:
    """One file of some 5 MB; compressed once, by the first who asks."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._compressed = b""

    @property
    def version(self) -> str:
        """Of the package; part of the address."""
        return version(PACKAGE)

    def respond(self, wanted: str) -> Response:
        """The file. Raises UnknownNameError for another version than the installed one."""
        if wanted != self.version:
            raise UnknownNameError(f"no {PACKAGE} {wanted[:20]!r}; there is {self.version}: load the page again")
        path = Path(str(distribution(PACKAGE).locate_file(FILE)))
        if request.accept_encodings["gzip"]:
            answer = make_response(self._gzip(path))
            answer.content_encoding = "gzip"
        else:
            answer = send_file(path)
        answer.content_type = "text/javascript; charset=utf-8"
        answer.vary.add("Accept-Encoding")
        answer.headers["Cache-Control"] = f"private, max-age={KEEP_S}, immutable"
        return answer

    def _gzip(self, path: Path) -> bytes:
        with self._lock:
            if not self._compressed:
                self._compressed = gzip.compress(path.read_bytes(), 6, mtime=0)
        return self._compressed
