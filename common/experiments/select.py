"""Bring your own features: arrays in files, a strategy by name, the order as an array. No images, no model needed."""

from __future__ import annotations

import os
import tokenize
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.acquisition import ACQUISITIONS
from common.acquisition.aggregate import AGGREGATIONS
from common.config import load
from common.domain import Ints
from common.errors import SettingError, UnknownNameError
from common.experiments import limits
from common.experiments.output import followed, require_file, require_place
from common.strategies import REGISTRY, Pool, query
from common.strategies.options import option
from common.strategies.points import Points

NEED_UTILITY = ("additive", "stream", "top_utility")
"""Strategies that order by utility and have nothing else to go by."""
_NAMES = {"acquisition": ACQUISITIONS, "aggregation": AGGREGATIONS}
"""Options that are names; whoever brings utilities asks none of them, and a wrong one is wrong all the same."""
_MAGIC = b"\x93NUMPY"
_SMALL = 4096


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        embeddings: .npy of shape (n, D), float16, float32 or float64.
        out: .npy to write: indices into the rows, int64, best first.
        budget: Rows wanted, 1 or more.
        strategy: A name of ``REGISTRY``.
        options: ``name=value`` of the strategy.
        utility: .npy of shape (n,), finite, higher = more informative; None = there is none.
        labelled: .npy of distinct row indices, or a mask of type bool, shape (n,); None = nothing is labelled.
        seed: Of everything random.
        device: 'auto', 'cpu', 'mps', '0': where matrix products are done.
    """

    embeddings: Path
    out: Path
    budget: int
    strategy: str
    options: tuple[str, ...] = ()
    utility: Path | None = None
    labelled: Path | None = None
    seed: int = 0
    device: str = "cpu"


def run(request: Request) -> tuple[Ints, int]:
    """Write the order; returns it and the number of rows it was chosen from.

    The answer has ``budget`` rows, or all that have no label when these are fewer. ``core_set`` and ``hybrid`` order
    greedily as far as the budget goes, unless an option ``greedy_limit`` says otherwise.

    Raises:
        UnknownNameError: No such strategy, acquisition function or aggregation.
        SettingError: A file, an option or a number that is not allowed; one sentence.
    """
    options = _options(request)
    device = limits.device(request.device)
    if not request.out.parent.is_dir():
        raise SettingError(f"--out is {request.out}, but there is no folder {request.out.parent}: make it first")
    _require_place(request)
    pool = replace(_pool(request), points=_holder(device))
    found = query(request.strategy, pool, request.budget, np.random.default_rng(request.seed), **options)
    _write(request.out, found.order)
    return found.order, int((~pool.labelled).sum())


def _require_place(request: Request) -> None:
    """Raise SettingError where the answer cannot be written, or would be written over what somebody needs."""
    require_file("--out", request.out)
    inputs = (request.embeddings, request.utility, request.labelled)
    require_place("--out", request.out, load(), inputs, _is_order)


def _is_order(path: Path) -> bool:
    """Whether a file is an answer, which another run may write over."""
    try:
        found = _array("--out", path, "whole numbers")
    except SettingError:
        return False
    return found.ndim == 1 and found.dtype == np.int64


def _pool(request: Request) -> Pool:
    features = _embeddings(request.embeddings)
    n = len(features)
    utility = None if request.utility is None else _utility(request.utility, n)
    if utility is None and request.strategy in NEED_UTILITY:
        raise SettingError(f"strategy {request.strategy!r} orders by utility: give --utility, one number per row")
    labelled = None if request.labelled is None else _labelled(request.labelled, n)
    return Pool.from_embeddings(features, labelled=labelled, utility=utility)


def _holder(device: str) -> Callable[[NDArray[Any]], Points]:
    if device == "cpu":
        return Points
    from common.yolo.points import DevicePoints

    return partial(DevicePoints, device=device)


def _embeddings(path: Path) -> NDArray[Any]:
    array = _array("--embeddings", path, "shape (n, D)")
    if array.ndim != 2:
        raise SettingError(f"--embeddings {path} has shape {array.shape}: (n, D) is wanted, one row per image")
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise SettingError(f"--embeddings {path} holds {array.dtype}: float16, float32 or float64 is wanted")
    return array


def _utility(path: Path, n: int) -> NDArray[np.float64]:
    array = _array("--utility", path, f"shape ({n},)")
    if array.shape != (n,) or array.dtype.kind not in "fiub":
        raise SettingError(
            f"--utility {path} has shape {array.shape} and holds {array.dtype}: {n} numbers are wanted, one per row of "
            "--embeddings"
        )
    values = np.array(array, np.float64)
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise SettingError(
            f"--utility {path} has {len(wrong)} values that are not finite, the first is {values[wrong[0]]} at row "
            f"{wrong[0]}: give every row a number"
        )
    return values


def _labelled(path: Path, n: int) -> NDArray[Any]:
    array = _array("--labelled", path, f"indices in 0..{n - 1}")
    if array.dtype.kind == "b" and array.shape == (n,):
        return np.array(array)
    if array.size == 0 and array.ndim == 1:
        return np.zeros(0, np.int64)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise SettingError(
            f"--labelled {path} has shape {array.shape} and holds {array.dtype}: a list of whole row numbers is wanted"
        )
    wrong = array[(array < 0) | (array >= n)]
    if len(wrong):
        raise SettingError(f"--labelled {path} names row {wrong[0]}: 0 to {n - 1} are the rows of --embeddings")
    rows, count = np.unique(array, return_counts=True)
    if (count > 1).any():  # most likely a mask of 0 and 1
        row, times = rows[count.argmax()], count.max()
        raise SettingError(
            f"row {row} is named {times} times in --labelled {path}: give each labelled row once, or a mask of type "
            "bool"
        )
    return np.array(array, np.int64)


def _array(option: str, path: Path, wanted: str) -> NDArray[Any]:
    """The array of a .npy file, memory-mapped; pickles are never opened."""
    if not path.is_file():
        raise SettingError(f"{option} is {path}: there is no such file; a .npy array of {wanted} is wanted")
    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise ValueError("its first bytes are others")
            file.seek(0)
            small = path.stat().st_size < _SMALL  # an array without elements cannot be mapped
            found = np.load(file if small else path, mmap_mode=None if small else "r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, tokenize.TokenError) as error:  # numpy parses the head as code
        raise SettingError(
            f"{option} is {path}, which is not a whole .npy file of numbers ({error}): a .npy array of {wanted} is "
            "wanted, as numpy.save writes it"
        ) from error
    return np.asarray(found)


def _options(request: Request) -> dict[str, Any]:
    limits.require_budget(request.budget)
    if request.seed < 0:
        raise SettingError(f"--seed is {request.seed}: 0 or more is allowed")
    if request.strategy not in REGISTRY:
        raise UnknownNameError(f"no strategy {request.strategy!r}; there are {sorted(REGISTRY)}")
    known = REGISTRY[request.strategy].options.__dataclass_fields__
    # Nobody reads reasons here, and a budget that was asked for is worth its greedy places.
    options: dict[str, Any] = {name: 0 for name in ("greedy_limit", "explain") if name in known}
    for text in request.options:
        try:
            name, value = option(request.strategy, text)
        except SettingError as error:
            raise SettingError(f"--option {text}: {error}") from error
        if name in _NAMES and value not in _NAMES[name]:
            raise UnknownNameError(f"--option {text}: no {name} {value!r}; there are {sorted(_NAMES[name])}")
        options[name] = value
    return options


def _write(path: Path, order: Ints) -> None:
    """Whole or not at all."""
    target = followed(path)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            np.save(file, order.astype(np.int64))
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise SettingError(f"--out is {path}, which cannot be written: {error.strerror}") from error
