"""What the selection benchmark runs in child processes: `python -m bench.selection_cases CASE key=value ...`.

A process of its own per case: its peak memory is the case's, and its threads are set from outside.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from common.acquisition.detections import Detections
from common.domain import Floats, Ints
from common.strategies import Pool, hybrid, query, screening
from common.strategies.duplicates import Descriptors, groups
from common.strategies.farthest_first import Deficit, farthest_first
from common.strategies.keeper import Keeper
from common.strategies.points import Points

TILE = 8192


def features(path: str, rows: str, width: str, kind: str, dtype: str) -> dict[str, Any]:
    """Write features: 'gaussian' = all directions alike, the hardest case; 'clustered' = scenes, as real ones are."""
    rng = np.random.default_rng(0)
    n, d = int(rows), int(width)
    centres = rng.standard_normal((max(2, n // 40), 32), dtype=np.float32)
    mix = rng.standard_normal((32, d), dtype=np.float32)
    out = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=(n, d))  # type: ignore[no-untyped-call]
    for start in range(0, n, TILE):
        count = min(TILE, n - start)
        block = rng.standard_normal((count, d), dtype=np.float32)
        if kind == "clustered":
            within = 0.5 * rng.standard_normal((count, 32), dtype=np.float32)
            block = (centres[rng.integers(len(centres), size=count)] + within) @ mix + 0.5 * block
        out[start : start + count] = block
    out.flush()
    return {}


def machine(width: str) -> dict[str, Any]:
    """F and BW: the best of several products of the shapes that selection uses, the best of several copies."""
    rng, d = np.random.default_rng(0), int(width)
    x = rng.standard_normal((4096, d), dtype=np.float32)
    best = 0.0
    for rows, picks in ((1024, 512), (4096, 512), (4096, 4096)):
        out, picked = np.empty((rows, picks), np.float32), x[:picks].copy()
        for _ in range(8):
            began = time.perf_counter()
            np.matmul(x[:rows], picked.T, out=out)
            best = max(best, 2 * rows * picks * d / (time.perf_counter() - began))
    big = np.zeros(1 << 26, np.float32)
    copy, speed = np.zeros_like(big), 0.0
    for _ in range(5):
        began = time.perf_counter()
        np.copyto(copy, big)
        speed = max(speed, 2 * big.nbytes / (time.perf_counter() - began))
    return {"flops": best, "bytes_per_s": speed}


def exact(path: str, picks: str, balanced: str) -> dict[str, Any]:
    """Each pick against the greatest value at its time, in float64; and against the plain order, one at a time."""
    x = np.load(path)
    rng, count = np.random.default_rng(0), int(picks)
    presence = (rng.random((len(x), 5)) * (rng.random((len(x), 5)) < 0.2)).astype(np.float32)
    deficit = Deficit(presence, presence * 2, 900.0, np.array([0.0, 600, 810, 870, 891]))
    used = deficit if balanced == "true" else None
    found = farthest_first(Points(x), count, anchors=np.array([0]), deficit=used).order
    wanted, _ = _plain(x, count, 0, used)
    _, gap = _plain(x, count, 0, used, follow=found)
    return {"equal": int((found == wanted).sum()), "picks": count, "worst_gap": gap}


def _plain(
    x: Floats, count: int, start: int, deficit: Deficit | None, follow: Ints | None = None
) -> tuple[Ints, float]:
    """(order, how much the worst pick of ``follow`` lacks to the greatest value): greedy, one at a time, float64."""
    unit = x.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    near = ((unit - unit[start]) ** 2).sum(axis=1)
    near[start] = -1
    have = np.zeros(0) if deficit is None else deficit.have
    order, worst = np.zeros(count, np.int64), 0.0
    for place in range(count):
        value = np.sqrt(np.maximum(near, 0))
        if deficit is not None:
            value *= deficit.factor(deficit.presence, have)
        value[near < 0] = -1
        row = int(np.argmax(value)) if follow is None else int(follow[place])
        worst = max(worst, float(value.max() - value[row]))
        order[place] = row
        near = np.where(near < 0, -1, np.minimum(near, np.maximum(2 - 2 * (unit @ unit[row]), 0)))
        near[row] = -1
        have = have if deficit is None else have + deficit.amount[row]
    return order, worst


def radius(path: str, order: str, picks: str) -> dict[str, Any]:
    """Covering radius of an order, and of the plain greedy order that starts at the same row."""
    x, found = np.load(path), np.load(order)[: int(picks)]
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    began = time.perf_counter()
    near, plain = np.full(len(x), 4, np.float32), np.zeros(len(found), np.int64)
    row = int(found[0])
    for place in range(len(found)):
        plain[place] = row
        near = np.minimum(near, 2 - 2 * (unit @ unit[row]))
        near[row] = -1
        row = int(np.argmax(near))
    took = time.perf_counter() - began
    ours, theirs = _covering(x, found), _covering(x, plain)
    return {"ours": ours, "plain": theirs, "apart": abs(ours - theirs) / theirs, "plain_seconds": took}


def _covering(x: Floats, order: Ints) -> float:
    points = Points(x)
    near, _ = points.closest(None, points.take(order), np.full(len(x), 4, np.float32))
    return float(np.sqrt(near.max()))


def incremental(path: str, labelled: str, new: str) -> dict[str, Any]:
    """Distances to the labelled set after some labels arrived: only new ones met, against all computed anew."""
    x = np.load(path)
    rows = np.random.default_rng(0).permutation(len(x))[: int(labelled) + int(new)]
    everything, points = np.arange(len(x)), Points(x)
    seconds: list[float] = []
    for points_now, anchors in ((points, rows[: int(labelled)]), (points, rows), (Points(x), rows)):
        began = time.process_time()
        near = points_now.covered(np.sort(anchors), everything).squared.copy()
        seconds.append(time.process_time() - began)
        if len(seconds) == 2:
            late = near
    return {
        "first": seconds[0],
        "incremental": seconds[1],
        "anew": seconds[2],
        "apart": float(np.abs(late - near).max()),
    }


def whole_hybrid(path: str) -> dict[str, Any]:
    """The default, step by step, over a made-up project: the whole order, as the service asks for it; then again."""
    x = np.load(path)
    seconds: dict[str, float] = {}
    descriptors = _descriptors(len(x))
    began = time.process_time()
    group = groups(descriptors, 8.0)
    seconds["near-duplicate groups"] = time.process_time() - began
    keeper = Keeper()
    pool = _project(x, group, keeper)
    with _timed(seconds):
        began = time.process_time()
        answer = query("hybrid", pool, len(pool), np.random.default_rng(0))
        total = time.process_time() - began
    known = ("directions", "image value", "typicality, outlier guard", "blocks", "parts")
    seconds["rest"] = total - sum(seconds[name] for name in known)
    seconds["the whole order"] = total
    began = time.process_time()
    again = query("hybrid", _more_labels(pool, answer.order[:50]), len(pool), np.random.default_rng(0))
    seconds["again, 50 labels later"] = time.process_time() - began
    return {
        "seconds": {name: round(s, 3) for name, s in seconds.items()},
        "rows": len(answer.order),
        "again": len(again.order),
        "in_groups": int((group >= 0).sum()),
    }


@contextmanager
def _timed(seconds: dict[str, float]) -> Iterator[None]:
    """Measure the steps where hybrid calls them."""
    steps: list[tuple[Any, str, str]] = [
        (screening, "directions", "directions"),
        (hybrid, "image_value", "image value"),
        (screening, "typicality", "typicality, outlier guard"),
        (hybrid._Blocks, "add", "blocks"),
        (hybrid, "parts", "parts"),
    ]
    before = [getattr(where, name) for where, name, _ in steps]
    for (where, name, label), function in zip(steps, before, strict=True):
        setattr(where, name, _counting(function, seconds, label))
    try:
        yield
    finally:
        for (where, name, _), function in zip(steps, before, strict=True):
            setattr(where, name, function)


def _counting(function: Callable[..., Any], seconds: dict[str, float], label: str) -> Callable[..., Any]:
    seconds[label] = 0.0

    def timed(*given: Any, **named: Any) -> Any:
        began = time.process_time()
        try:
            return function(*given, **named)
        finally:
            seconds[label] += time.process_time() - began

    return timed


def _descriptors(n: int) -> Descriptors:
    """One image in five is a copy of an earlier one, a few bits and grey levels off."""
    rng = np.random.default_rng(1)
    hashes = rng.integers(0, 2**63, n, dtype=np.uint64)
    thumbnails = rng.integers(0, 256, (n, 768), dtype=np.uint8)
    copies = np.flatnonzero(rng.random(n) < 0.2)[1:]
    of = rng.integers(0, copies)
    hashes[copies] = hashes[of] ^ (np.uint64(1) << rng.integers(0, 63, len(copies)).astype(np.uint64))
    thumbnails[copies] = np.clip(thumbnails[of].astype(np.int16) + rng.integers(-3, 4, (len(copies), 768)), 0, 255)
    return Descriptors(hashes, thumbnails)


def _project(x: Floats, group: Ints, keeper: Keeper) -> Pool:
    rng, n, classes = np.random.default_rng(2), len(x), 10
    counts = rng.poisson(4, n)
    m = int(counts.sum())
    corner, size = rng.random((m, 2)) * 600, rng.random((m, 2)) * 90 + 9
    scores = (rng.random((m, classes)) ** 4).astype(np.float32)
    return Pool(
        x,
        Detections(
            np.concatenate([[0], np.cumsum(counts)]),
            np.hstack([corner, corner + size]).astype(np.float32),
            scores,
            (rng.random(n) * 0.05).astype(np.float32),
            rng.random(n).astype(np.float32),
        ),
        rng.random(n) < 0.025,
        rng.integers(20, 500, classes),
        group,
        rng.random(n) > 0.001,
        slice_hash=rng.random(n),
        points=keeper,
    )


def _more_labels(pool: Pool, rows: Ints) -> Pool:
    from dataclasses import replace

    labelled = pool.labelled.copy()
    labelled[rows] = True
    return replace(pool, labelled=labelled)


CASES = {f.__name__: f for f in (features, machine, exact, radius, incremental, whole_hybrid)}


def main(name: str, *words: str) -> None:
    """Run one case; its numbers are one line of JSON."""
    given = dict(word.split("=", 1) for word in words)
    found = CASES[name](**given)
    peak = Path("/proc/self/status")
    if peak.exists():
        line = next(row for row in peak.read_text().splitlines() if row.startswith("VmHWM"))
        found["peak_bytes"] = int(line.split()[1]) * 1024
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
