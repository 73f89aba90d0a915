"""Descriptors of stored images: for near-duplicates, and for a cold start without any model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.domain import Instances, Prediction
from common.errors import UnreadableImageError
from common.media.pixels import pixels
from common.strategies.duplicates import Descriptors, descriptor


def describe(path: Path) -> bytes:
    """The near-duplicate descriptor of an image, 776 bytes."""
    return encode(descriptor(pixels(path)))


def encode(d: Descriptors) -> bytes:
    """One descriptor as bytes."""
    return d.hashes.astype("<u8").tobytes() + d.thumbnails.tobytes()


def decode(bodies: Sequence[bytes]) -> Descriptors:
    """Descriptors of several images; the inverse of ``encode``."""
    raw = np.frombuffer(b"".join(bodies), np.uint8).reshape(len(bodies), 776)
    hashes = np.ascontiguousarray(raw[:, :8]).view("<u8").reshape(-1).astype(np.uint64)
    return Descriptors(hashes, np.ascontiguousarray(raw[:, 8:]))


def plain_prediction(path: Path) -> Prediction | str:
    """What can be said without a model: no box, and a colour thumbnail as embedding; a sentence when unreadable."""
    try:
        image = pixels(path)
    except (UnreadableImageError, OSError) as error:
        return str(error)
    thumbnail = descriptor(image).thumbnails[0].astype(np.float32) / 255
    nothing = Instances(np.zeros((0, 4), np.float32), np.zeros((0, 0), np.float32))
    height, width = image.shape[:2]
    none = np.zeros(0, np.float32)
    return Prediction(nothing, thumbnail, none, none, none, width, height)
