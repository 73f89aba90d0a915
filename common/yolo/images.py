"""Image files to network input: decoded upright, resized and padded each by itself, never by its neighbours."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Frame:
    """One image, ready for the network.

    Attributes:
        pixels: Shape (h, w, 3), uint8, BGR; h and w are multiples of the stride.
        width: Pixels of the upright original.
        height: Pixels of the upright original.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int


class Reader:
    """Decodes and resizes with a few threads, at most ``ahead`` images before they are asked for."""

    def __init__(self, imgsz: int, stride: int, threads: int) -> None:
        from ultralytics.data.augment import LetterBox

        self._letterbox: Any = LetterBox((imgsz, imgsz), auto=True, stride=stride)
        self._threads = threads

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
        from ultralytics.utils.patches import imread

        if not path.is_file():
            return f"the image {path.name} is not there"
        try:
            pixels = imread(str(path), cv2.IMREAD_COLOR)
            if pixels is None or pixels.ndim != 3 or not pixels.size:
                return f"the image {path.name} cannot be decoded: it is damaged, or no image"
            return Frame(self._letterbox(image=pixels), pixels.shape[1], pixels.shape[0])
        except (cv2.error, OSError, ValueError, ImportError, MemoryError) as error:
            why = str(error).strip().splitlines() or [type(error).__name__]
            return f"the image {path.name} cannot be decoded: {why[0]}"
