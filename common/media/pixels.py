"""Pixels of a stored image, upright, for descriptors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import UnreadableImageError

ENOUGH = 512
"""Descriptors need no more than this many pixels of the short side; large images are decoded smaller."""


def pixels(path: Path) -> NDArray[np.uint8]:
    """Shape (height, width, 3), BGR, EXIF orientation applied; large images at a half, a quarter or an eighth.

    Raises:
        UnreadableImageError: It cannot be decoded.
    """
    import cv2
    from PIL import Image

    with Image.open(path) as header:
        short = min(header.size)
    sizes = ((8, cv2.IMREAD_REDUCED_COLOR_8), (4, cv2.IMREAD_REDUCED_COLOR_4), (2, cv2.IMREAD_REDUCED_COLOR_2))
    flag = next((f for n, f in sizes if short >= n * ENOUGH), cv2.IMREAD_COLOR)
    found: Any = cv2.imread(str(path), flag)
    if found is None:
        raise UnreadableImageError(f"{path.name} cannot be decoded")
    image: NDArray[np.uint8] = found
    return image


def recompressed(image: NDArray[np.uint8], quality: int = 60) -> NDArray[np.uint8]:
    """The image after a JPEG of this quality."""
    import cv2

    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    again: Any = cv2.imdecode(data, cv2.IMREAD_COLOR) if done else image
    copy: NDArray[np.uint8] = again
    return copy
