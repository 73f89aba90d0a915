"""Small pictures of stored images, for pages: made once, kept in a folder of their own, the least used ones dropped."""

from __future__ import annotations

import os
import threading
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from common.errors import UnreadableImageError
from common.media.pixels import pixels

LONG_SIDE = 320
"""Pixels of the long side."""
_QUALITY = 82
_AT_ONCE = 2
"""Images decoded at the same time: the web process has other work."""
_SWEEP_EVERY = 500


class Thumbnails:
    """One file per content; safe to share between threads.

    Args:
        folder: Where they are kept; made when the first one is.
        most_bytes: Their bytes together; the least recently used go first.
    """

    def __init__(self, folder: Path, most_bytes: int = 500_000_000) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._turn = threading.Semaphore(_AT_ONCE)
        self._made = 0

    def of(self, sha256: str, original: Path) -> bytes:
        """The thumbnail of an image as JPEG, upright.

        Raises:
            UnreadableImageError: The image cannot be decoded.
        """
        path = self._folder / sha256[:2] / f"{sha256}.jpg"
        with suppress(FileNotFoundError):
            body = path.read_bytes()
            os.utime(path)
            return body
        with self._turn:
            body = _small(original)
        with suppress(OSError):  # a full disk makes pages slower, not empty
            self._keep(path, body)
        return body

    def _keep(self, path: Path, body: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{uuid.uuid4().hex}")
        try:
            fresh.write_bytes(body)
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
        self._made += 1
        if self._made % _SWEEP_EVERY == 0:
            self.sweep()

    def sweep(self) -> int:
        """Drop the least recently used until the rest fits; returns how many went."""
        found = []
        for path in self._folder.glob("??/*"):
            with suppress(FileNotFoundError):
                found.append((path.stat().st_mtime, path.stat().st_size, path))
        size, gone = sum(bytes_ for _, bytes_, _ in found), 0
        for _, bytes_, path in sorted(found):
            if size <= self._most_bytes:
                break
            path.unlink(missing_ok=True)
            size, gone = size - bytes_, gone + 1
        return gone


def _small(original: Path) -> bytes:
    import cv2

    try:
        image: Any = pixels(original)
        height, width = image.shape[:2]
        scale = min(1.0, LONG_SIDE / max(height, width))
        if scale < 1:
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        done, body = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    except (OSError, cv2.error) as error:
        raise UnreadableImageError(f"{original.name} cannot be decoded: {error}") from error
    if not done:
        raise UnreadableImageError(f"{original.name} cannot be made smaller")
    small: bytes = body.tobytes()
    return small
