"""Bytes to a checked image file: header first, then a real decode. What is stored, OpenCV reads as 8-bit BGR."""

from __future__ import annotations

import struct
import threading
from contextlib import nullcontext
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from common.errors import UnreadableImageError

_KEPT = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp"}
"""Formats stored as they came; every other is stored as PNG, because detectors differ in what they read."""
_CONVERTED = ("GIF", "TIFF", "AVIF")
SUFFIXES = tuple(sorted(set(_KEPT.values())))
"""Every suffix a stored file may have."""

_LARGE = 25_000_000
"""Pixels above which images are decoded one at a time, so that eight threads cannot fill the memory."""
_ORIENTATION = 0x0112
_END_OF_JPEG = b"\xff\xd9"


@dataclass(frozen=True)
class Checked:
    """An image that decodes.

    Attributes:
        data: The bytes to store: as they came, or converted.
        suffix: By what the bytes are, not by what they were called.
        width: Pixels of the upright image.
        height: Pixels of the upright image.
    """

    data: bytes
    suffix: str
    width: int
    height: int


class Decoder:
    """Checks and, where needed, converts images; safe to share between threads."""

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._one_large = threading.Lock()
        Image.init()
        self._formats = [name for name in (*_KEPT, *_CONVERTED) if name in Image.OPEN]

    def check(self, data: bytes, label: str) -> Checked:
        """``data`` as an image file that detectors read and that shows what the annotator saw.

        Args:
            data: The whole file.
            label: What to call it in messages.

        Raises:
            UnreadableImageError: Empty, not an image, cut off, or too many pixels.
        """
        if not data:
            raise UnreadableImageError(f"{label}: the file is empty (0 bytes): upload it again")
        image = self._header(data, label)
        width, height = image.size
        if not 0 < width * height <= self._max_pixels:
            raise UnreadableImageError(
                f"{label}: {width} x {height} pixels, more than the {self._max_pixels} allowed: "
                "make the image smaller or raise HARDFIRST_MAX_IMAGE_PIXELS"
            )
        with self._one_large if width * height > _LARGE else nullcontext():
            return _decoded(image, data, label)

    def _header(self, data: bytes, label: str) -> Any:
        # Pillow's own limit warns at 89 million pixels and raises at twice that: ours replaces it, before any decode.
        Image.MAX_IMAGE_PIXELS = None
        try:
            return Image.open(BytesIO(data), formats=self._formats)
        except Exception as error:  # a hostile header makes Pillow's parsers raise nearly anything
            raise UnreadableImageError(f"{label}: {_what(data)}") from error


def _decoded(image: Any, data: bytes, label: str) -> Checked:
    name, size = image.format, image.size
    try:
        _load(image, data)
        if _differs_in_browser(image):
            return _converted(_as_shown(image))
        pixels = _opencv(data, size)
        if pixels is None:
            return _converted(_as_shown(image))
    except Exception as error:  # the same for bodies
        raise UnreadableImageError(f"{label}: a damaged or cut-off {name} file ({error}): upload it again") from error
    if name not in _KEPT:
        return _converted(Image.fromarray(np.ascontiguousarray(pixels[..., ::-1])))
    height, width = pixels.shape[:2]
    return Checked(_trimmed(data) if _KEPT[name] == ".jpg" else data, _KEPT[name], width, height)


def _load(image: Any, data: bytes) -> None:
    """Read to the last byte: OpenCV fills what is missing with grey, Pillow says so."""
    if image.format in ("JPEG", "MPO"):
        with Image.open(BytesIO(data), formats=["JPEG", "MPO"]) as probe:
            probe.draft(None, (1, 1))  # an eighth of the size: all bytes are read, little is computed
            probe.load()
    else:
        image.load()


def _differs_in_browser(image: Any) -> bool:
    """Whether detectors would see something else than the annotator's browser showed."""
    if image.format in ("MPO", "JPEG"):
        return False
    if image.format == "GIF" or (image.format != "TIFF" and getattr(image, "n_frames", 1) > 1):
        return True
    # Chromium ignores the orientation in WebP and applies it in JPEG, PNG and AVIF; OpenCV applies it in WebP and
    # not in AVIF; Ultralytics measures it in JPEG only.
    if image.format in ("WEBP", "PNG", "AVIF") and _orientation(image) != 1:
        return True
    return _is_transparent(image)


def _orientation(image: Any) -> int:
    """EXIF orientation, 1 = upright; broken EXIF says nothing."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except (SyntaxError, ValueError, TypeError, LookupError, struct.error):
        return 1


def _is_transparent(image: Any) -> bool:
    if "A" not in image.getbands() and "a" not in image.getbands() and "transparency" not in image.info:
        return False
    return bool(image.convert("RGBA").getchannel("A").getextrema()[0] < 255)


def _as_shown(image: Any) -> Any:
    """The first frame as a browser shows it: upright, on white, 8 bits of RGB."""
    image.seek(0)
    as_stored = image.format == "WEBP" or _orientation(image) == 1
    upright = image if as_stored else ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8)).convert("RGB")
    if upright.mode in ("I", "F"):
        raise ValueError(f"pixels of type {upright.mode} cannot be shown")
    if not _is_transparent(upright):
        return upright.convert("RGB")
    layer = upright.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _opencv(data: bytes, size: tuple[int, int]) -> Any | None:
    """Shape (height, width, 3), uint8, upright; None when OpenCV cannot, or sees another image than the header says."""
    import cv2

    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    if pixels is None or pixels.dtype != np.uint8 or sorted(pixels.shape[:2]) != sorted(size):
        return None
    return pixels


def _converted(image: Any) -> Checked:
    buffer = BytesIO()
    Image.fromarray(np.asarray(image)).save(buffer, "PNG", compress_level=3)
    return Checked(buffer.getvalue(), ".png", *image.size)


def _trimmed(data: bytes) -> bytes:
    """Without what follows the end marker: Ultralytics takes trailing bytes for damage and rewrites the file."""
    return data[: data.rfind(_END_OF_JPEG) + 2]


def _what(data: bytes) -> str:
    """What bytes that are no image probably are, and what to do about it."""
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"<!doctype html") or b"<html" in head:
        return "the server answered with a web page, not an image: the token may lack the right to read it"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "a damaged or cut-off WebP file: upload it again"
    if b"<svg" in head:
        return "a vector graphic (SVG): only pixel images can be labelled here"
    if head.startswith(b"<?xml"):
        return "the server answered with XML, not an image: the storage may have refused it"
    if head.startswith((b"{", b"[")):
        return "the server answered with JSON, not an image: the token may lack the right to read it"
    return "not an image that can be read here: JPEG, PNG, WebP, BMP, GIF, TIFF and AVIF can"
