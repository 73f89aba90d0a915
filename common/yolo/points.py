"""Directions held on a device: the matrix products of selection done there, the same picks up to ties within 1e-6."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.domain import Floats, Ints
from common.errors import SettingError
from common.strategies.distances import CLOSE, FARTHEST, NOISE, SAME
from common.strategies.points import Points

_NUMBERS = {"cpu": 1 << 21, "cuda": 1 << 27, "mps": 1 << 25}
_CHUNK = 1024
_SMALL = 4096
_GAPS = 1 << 24


class DevicePoints(Points):
    """``Points`` whose features lie on a device, float16 as float16; products are float32, never TF32.

    Args:
        features: As for ``Points``; it must fit into the device's memory.
        device: 'cpu', 'cuda', 'cuda:1', 'mps'.
        scale: As for ``Points``.

    Raises:
        SettingError: A device this machine does not have, or one that is too small.
    """

    def __init__(self, features: NDArray[Any], device: str = "cuda", scale: Floats | None = None) -> None:
        import torch

        super().__init__(features, scale)
        self.device = device
        self._tile = _NUMBERS.get(device.split(":")[0], 1 << 25)
        kind = torch.float16 if self.features.dtype == np.float16 else torch.float32
        try:
            self._held = torch.empty(self.features.shape, dtype=kind, device=torch.device(device))
            self._scale = torch.from_numpy(self.scale.copy()).to(self._held.device)
        except torch.OutOfMemoryError as error:
            size = f"{self.features.shape[0]} x {self.features.shape[1]}"
            raise SettingError(f"--device is {device!r}, whose memory is too small for {size} features") from error
        except (RuntimeError, AssertionError) as error:
            raise SettingError(f"--device is {device!r}, which this machine does not have: cpu is allowed") from error
        for part in self._parts(len(self)):
            with np.errstate(over="ignore", invalid="ignore", under="ignore"):
                block = np.array(self.features[part], np.float16 if kind == torch.float16 else np.float32)
            self._put_units(block, self._odd[part])
            self._held[part] = torch.from_numpy(block).to(self._held.device)

    def part(self, rows: Ints) -> Points:
        """These rows alone: in main memory when they are few, where one pick at a time is quicker."""
        if len(rows) <= _SMALL:
            return super().part(rows)
        return DevicePoints(self.take(rows), self.device, self.usable[rows].astype(np.float32))

    def closest(self, rows: Ints | None, picks: Floats, near: Floats) -> tuple[Floats, Ints]:
        """As ``Points.closest``, on the device."""
        import torch

        there = np.flatnonzero(np.einsum("ij,ij->i", picks, picks) > 0.5)
        known = torch.from_numpy(picks[there]).to(self._held.device)
        index = None if rows is None else torch.from_numpy(np.asarray(rows, np.int64)).to(self._held.device)
        out = torch.from_numpy(near.astype(np.float32)).to(self._held.device)
        place = torch.full_like(out, -1, dtype=torch.int64)
        with _exact():
            for part in self._parts(len(near)):
                at = part if index is None else index[part]
                scale, block = self._scale[at], self._held[at].float()
                for chunk in range(0, len(known), _CHUNK):
                    apart, pick = _squared(block, scale, known[chunk : chunk + _CHUNK], out[part])
                    place[part] = torch.where(apart < out[part], pick + chunk, place[part])
                    out[part] = torch.minimum(out[part], apart)
                if len(known) < len(picks):
                    out[part] = torch.where(scale > 0, out[part], 0.0)
        found = place.cpu().numpy().copy()
        found[found >= 0] = there[found[found >= 0]]
        return out.cpu().numpy().copy(), found

    def likeness(self, rows: Ints, references: Ints, count: int) -> Floats:
        """As ``Points.likeness``, on the device."""
        import torch

        where = self._held.device
        theirs = self._unit(torch.from_numpy(np.asarray(references, np.int64)).to(where))
        place = np.full(len(self), -1, np.int64)
        place[references] = np.arange(len(references))
        out = np.zeros(len(rows), np.float32)
        with _exact():
            for part in self._parts(len(rows), len(references)):
                some = rows[part]
                alike = self._unit(torch.from_numpy(np.asarray(some, np.int64)).to(where)) @ theirs.T
                own = np.flatnonzero(place[some] >= 0)
                alike[torch.from_numpy(own).to(where), torch.from_numpy(place[some][own]).to(where)] = -torch.inf
                out[part] = alike.topk(count, dim=1).values.mean(dim=1).cpu().numpy()
        return out

    def _unit(self, rows: Any) -> Any:
        """Unit rows, zero where there is no direction."""
        scale = self._scale[rows][:, None]
        return (self._held[rows].float() * scale).masked_fill(scale == 0, 0.0)

    def _parts(self, count: int, width: int = 0) -> Iterator[slice]:
        step = max(64, self._tile // max(1, width, self.width))
        for start in range(0, count, step):
            yield slice(start, min(start + step, count))


def _squared(block: Any, scale: Any, picks: Any, near: Any) -> tuple[Any, Any]:
    """(squared distance of ``scale * block`` to the nearest of ``picks``, true where below ``near``; which that is)."""
    import torch

    alike = block @ picks.T
    best, place = alike.max(dim=1)
    best = best * scale
    apart = torch.where(scale > 0, (2 - 2 * best).clamp(0, FARTHEST), 1.0)
    close = ((apart < CLOSE) & (apart < near + 2 * NOISE) & (near > 0)).nonzero()[:, 0]
    if len(close):
        likely = alike[close] >= ((best[close] - NOISE) / scale[close])[:, None]
        apart[close], place[close] = _differences(block[close] * scale[close, None], picks, likely)
    return apart, place


def _differences(mine: Any, picks: Any, likely: Any) -> tuple[Any, Any]:
    """(squared distance of each row to the nearest of its likely picks, from differences; which that is)."""
    row, pick = likely.nonzero(as_tuple=True)
    exact = mine.new_empty(len(row))
    step = max(64, _GAPS // max(1, mine.shape[1]))
    for start in range(0, len(row), step):
        gap = (mine[row[start : start + step]] - picks[pick[start : start + step]]).square().sum(dim=1)
        exact[start : start + step] = gap.masked_fill(gap < SAME, 0.0)
    nearest = mine.new_full((len(mine),), FARTHEST).scatter_reduce_(0, row, exact, "amin")
    first = exact == nearest[row]
    return nearest, pick.new_full((len(mine),), len(picks)).scatter_reduce_(0, row[first], pick[first], "amin")


@contextmanager
def _exact() -> Iterator[None]:
    """Products of float32 numbers keep all their digits, whatever the process asked for."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_float32_matmul_precision(before)
