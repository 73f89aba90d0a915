"""OpenVINO for images of any size, and sooner for those that come often: a model of exactly that size of its own."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]
Answer = list[NDArray[np.float32]]

log = logging.getLogger(__name__)

OFTEN = 256 * 320 * 320
"""Pixels of one size from which on a model of its own pays: to compile YOLO11n takes .3 CPU seconds, and an image of
320 pixels then takes a millisecond less."""
AT_ONCE = 4 * 320 * 320
"""Pixels in one call of such a model, about: measured with YOLO11n, 4 images of 320 and 1 of 640 are fastest."""
OWN = 4
"""Sizes at most that have a model of their own, the first that come often..."""
MEMORY = 256 * 2**20
"""...and bytes that all of these may take: their weights, and ``PER_PIXEL`` for each pixel of a call."""
PER_PIXEL = 80
"""Bytes: YOLO11n keeps 64 to 83, measured at 320, 640 and 1280."""


class Sizes:
    """One network for every size. What it answers about an image does not depend on which of its models does.

    Args:
        model: An ``openvino.Model`` of pixels (B, h, w, 3), all of them open; it is not changed.
        compile_: To what runs.
        weights: Bytes of its weights.
    """

    def __init__(self, model: Any, compile_: Callable[[Any], Any], weights: int) -> None:
        self._model, self._compile = model, compile_
        self._any = compile_(model).create_infer_request()
        self._own: dict[tuple[int, int], Any] = {}
        self._weights, self._left = weights, MEMORY
        self._seen: Counter[tuple[int, int]] = Counter()

    def __call__(self, pixels: Pixels) -> Answer:
        """Every output for images of shape (n, h, w, 3), in order; valid until the next call."""
        size = (pixels.shape[1], pixels.shape[2])
        n = chunk(size)
        if len(pixels) >= n and self._pays(size, len(pixels)):
            self._add(size)
        own = self._own.get(size)
        if own is None or len(pixels) < n:
            return run(self._any, pixels)
        whole = len(pixels) // n * n
        if whole == n == len(pixels):
            return run(own, pixels)
        parts = [_copied(run(own, pixels[i : i + n])) for i in range(0, whole, n)]
        if whole < len(pixels):
            parts.append(run(self._any, pixels[whole:]))
        return [np.concatenate(part) for part in zip(*parts, strict=True)]

    def _pays(self, size: tuple[int, int], images: int) -> bool:
        """Whether a size that has no model of its own has come often enough for one."""
        self._seen[size] += images
        often = self._seen[size] * size[0] * size[1] >= OFTEN
        made = sum(own is not None for own in self._own.values())
        return often and size not in self._own and made < OWN and self._cost(size) <= self._left

    def _cost(self, size: tuple[int, int]) -> int:
        """Bytes that a model of this size takes, about."""
        return self._weights + PER_PIXEL * chunk(size) * size[0] * size[1]

    def _add(self, size: tuple[int, int]) -> None:
        """Give a size its own model, if that answers about noise, bit for bit, as the one for every size."""
        self._own[size] = None
        # Not about real images: where a network answers nothing but zeros, everything is equal.
        pixels = np.random.default_rng(0).random((chunk(size), *size, 3), dtype=np.float32)
        try:
            model = self._model.clone()
            model.reshape(list(pixels.shape))
            own = self._compile(model).create_infer_request()
            expected = _copied(run(self._any, pixels))
            equal = all(map(np.array_equal, run(own, pixels), expected))
        except Exception as error:  # noqa: BLE001 - whatever goes wrong in there, the other model answers
            why = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            log.info("no OpenVINO model for %d x %d pixels alone: %s", *size[::-1], why)
            return
        if equal:
            self._own[size] = own
            self._left -= self._cost(size)
        log.debug("OpenVINO for %d x %d pixels alone: %s", *size[::-1], "in use" if equal else "not equal, not used")


def chunk(size: tuple[int, int]) -> int:
    """Images in one call of a model for this size alone: 1, 2, 4 or 8, so that batches of 8 divide."""
    fitting = AT_ONCE // (size[0] * size[1])
    return next((n for n in (8, 4, 2) if n <= fitting), 1)


def run(request: Any, pixels: Pixels) -> Answer:
    """Outputs of one ``openvino.InferRequest``, which its next call overwrites."""
    found = request.infer({0: pixels}, share_inputs=True, share_outputs=True)
    return [found[i] for i in range(len(found))]


def _copied(answer: Sequence[NDArray[np.float32]]) -> Answer:
    return [a.copy() for a in answer]
