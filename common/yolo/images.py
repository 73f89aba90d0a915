"""Image files to network input: decoded upright, resized and padded each by itself, never by its neighbours."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
_FACTORS = (8, 4, 2)
"""What libjpeg can shrink by while it decodes."""
_SLACK = 2
"""A reduced image stays this much larger than the network's input. ultralytics' bilinear step to that size skips
pixels; where libjpeg has averaged them before, boxes move. Measured at imgsz 640 on 138 boxes from confidence .25 up:
91 % stay at an IoU of .95 with a slack of 1, 96 % with 2. Below that confidence fewer do: one grey level of noise alone
moves one box in eight there."""
_JPEG = b"\xff\xd8\xff"
_ORIENTATION = 0x0112
_TURNED = 5
"""EXIF orientations from here up swap width and height."""


@dataclass(frozen=True)
class Frame:
    """One image, ready for the network.

    Attributes:
        pixels: Shape (h, w, 3), uint8, RGB.
        width: Pixels of the upright original.
        height: Pixels of the upright original.
    """

    pixels: Pixels
    width: int
    height: int


class Fit(Protocol):
    """How an image comes to the network's size."""

    def reduction(self, width: int, height: int) -> int:
        """By how much an original may be shrunk while decoding and still not be smaller than needed: 1, 2, 4 or 8."""

    def __call__(self, pixels: Pixels, width: int, height: int) -> Pixels:
        """The network's input, shape (h, w, 3), from pixels of an original of this size, maybe reduced."""


class Letterbox:
    """Long side to ``imgsz``, then grey up to the next multiple of the stride, as ultralytics for one image alone."""

    def __init__(self, imgsz: int, stride: int) -> None:
        from ultralytics.data.augment import LetterBox

        self._imgsz = imgsz
        self._box: Any = LetterBox((imgsz, imgsz), auto=True, stride=stride)

    def reduction(self, width: int, height: int) -> int:
        """See ``Fit``."""
        return _reduction(max(width, height), self._imgsz)

    def __call__(self, pixels: Pixels, width: int, height: int) -> Pixels:
        """See ``Fit``. Sizes follow from the original, so that its boxes come back to its own pixels."""
        original = np.broadcast_to(np.uint8(0), (height, width, 3))
        fitted: Pixels = self._box.apply_image({"img": pixels}, self._box.get_params({"img": original}))["img"]
        return fitted


class CentreCrop:
    """Short side to ``imgsz``, then the square in the middle, as ultralytics for classification."""

    def __init__(self, imgsz: int, crop: Any) -> None:
        """``crop`` does that to a PIL image."""
        self._imgsz = imgsz
        self._crop = crop

    def reduction(self, width: int, height: int) -> int:
        """See ``Fit``."""
        return _reduction(min(width, height), self._imgsz)

    def __call__(self, pixels: Pixels, width: int, height: int) -> Pixels:  # noqa: ARG002 - the crop is of what is there
        """See ``Fit``."""
        from PIL import Image

        return np.array(self._crop(Image.fromarray(pixels)))


def _reduction(side: int, wanted: int) -> int:
    return next((factor for factor in _FACTORS if side >= factor * _SLACK * wanted), 1)


class Reader:
    """Decodes and resizes with a few threads, at most ``ahead`` images before they are asked for."""

    def __init__(self, fit: Fit, threads: int, *, reduced: bool) -> None:
        """Nothing is read yet.

        Args:
            fit: How an image comes to the network's size.
            threads: That decode.
            reduced: Let libjpeg shrink photographs at least four times as large as needed: two to four times as fast,
                the pixels differ a little.
        """
        self._fit = fit
        self._threads = threads
        self._reduced = reduced

    def frames(self, paths: Sequence[Path], ahead: int) -> Iterator[tuple[int, Frame | str]]:
        """(place, frame or one sentence why there is none) for every path, in order."""
        if len(paths) == 1:
            yield 0, self.read(paths[0])
            return
        rest = iter(paths)
        with ThreadPoolExecutor(self._threads, "decode") as pool:
            pending: deque[Future[Frame | str]] = deque(pool.submit(self.read, p) for p in islice(rest, ahead))
            for place in range(len(paths)):
                frame = pending.popleft().result()
                pending.extend(pool.submit(self.read, p) for p in islice(rest, 1))
                yield place, frame

    def read(self, path: Path) -> Frame | str:
        """One image, upright (EXIF), or one sentence why it cannot be read."""
        import cv2

        try:
            if not path.is_file():
                return f"the image {path.name} is not there"
            found = self._decode(path)
            if found is None:
                return f"the image {path.name} cannot be decoded: it is damaged, or no image"
            pixels, width, height = found
            if pixels.dtype != np.uint8:
                return f"the image {path.name} has pixels of the type {pixels.dtype}; hardfirst reads 8 and 16 bits"
            return Frame(cv2.cvtColor(self._fit(pixels, width, height), cv2.COLOR_BGR2RGB), width, height)
        except (cv2.error, OSError, ValueError, ImportError, MemoryError) as error:
            why = str(error).strip().splitlines() or [type(error).__name__]
            return f"the image {path.name} cannot be decoded: {why[0]}"

    def _decode(self, path: Path) -> tuple[Any, int, int] | None:
        """BGR pixels, maybe reduced, and the size of the upright original; None when it is damaged."""
        import cv2
        from ultralytics.utils.patches import imread

        width, height = _jpeg_size(path) if self._reduced else (0, 0)
        factor = self._fit.reduction(width, height)
        if factor > 1:
            pixels = imread(str(path), getattr(cv2, f"IMREAD_REDUCED_COLOR_{factor}"))
            if pixels is not None and pixels.shape == (math.ceil(height / factor), math.ceil(width / factor), 3):
                return pixels, width, height
        pixels = imread(str(path), cv2.IMREAD_COLOR)
        if pixels is None or pixels.ndim != 3 or not pixels.size:
            return None
        return pixels, pixels.shape[1], pixels.shape[0]


def _jpeg_size(path: Path) -> tuple[int, int]:
    """Width and height of a JPEG once upright, from its header; (0, 0) for any other file."""
    from PIL.JpegImagePlugin import JpegImageFile

    with path.open("rb") as file:
        if file.read(3) != _JPEG:
            return 0, 0
        file.seek(0)
        try:
            # Not Image.open: it refuses large photographs.
            header = JpegImageFile(file)
            turned = header.getexif().get(_ORIENTATION, 1) >= _TURNED
        except Exception:  # noqa: BLE001 - a broken header raises nearly anything: the full decode says what is wrong
            return 0, 0
        width, height = header.size
        return (height, width) if turned else (width, height)
