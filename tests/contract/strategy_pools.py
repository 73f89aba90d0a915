"""Pools of images of every kind, and what a strategy answers about them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from common.acquisition.detections import Detections
from common.strategies import REGISTRY, Pool, query

ALL = pytest.mark.parametrize("name", sorted(REGISTRY))


def make_pool(n: int = 90, classes: int = 3, seed: int = 0, **changes) -> Pool:
    """Random images: some labelled, unreadable, in groups, in the random slice, without boxes."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 5, n)
    m = int(counts.sum())
    corner, size = rng.random((m, 2)) * 300, rng.random((m, 2)) * 60 + 5
    detections = Detections(
        np.concatenate([[0], np.cumsum(counts)]),
        np.hstack([corner, corner + size]).astype(np.float32),
        rng.random((m, classes)).astype(np.float32),
        (rng.random(n) * 0.05).astype(np.float32),
        rng.random(n).astype(np.float32),
    )
    pool = Pool(
        rng.standard_normal((n, 6)).astype(np.float32),
        detections,
        rng.random(n) < 0.2,
        rng.integers(0, 200, classes),
        np.where(rng.random(n) < 0.3, rng.integers(0, 12, n), -1),
        rng.random(n) > 0.05,
        tuple("abcdefgh"[:classes]),
        slice_hash=rng.random(n),
    )
    return replace(pool, **changes)


def ask(name: str, pool: Pool, budget: int | None = None, seed: int = 5, **options):
    return query(name, pool, len(pool) if budget is None else budget, np.random.default_rng(seed), **options)


def cold(pool: Pool) -> Pool:
    return replace(pool, knows=False, detections=Detections.nothing(len(pool), pool.detections.scores.shape[1]))


NAN = np.full((90, 6), np.nan, np.float32)
HALF = np.where(np.arange(90)[:, None] % 2 == 0, NAN, make_pool().embeddings)
POOLS = {
    "usual": make_pool(),
    "cold": cold(make_pool()),
    "nothing labelled": make_pool(labelled=np.zeros(90, bool), label_counts=np.zeros(3, np.int64)),
    "cold, nothing labelled": cold(make_pool(labelled=np.zeros(90, bool), label_counts=np.zeros(3, np.int64))),
    "many labels": make_pool(label_counts=np.array([900, 60, 3]), quality=np.array([0.9, 0.5, 0.1])),
    "one class": make_pool(classes=1),
    "no class": make_pool(classes=0),
    "one image": make_pool(1, labelled=np.zeros(1, bool), readable=np.ones(1, bool)),
    "empty": make_pool(0),
    "all labelled": make_pool(labelled=np.ones(90, bool)),
    "nothing readable": make_pool(readable=np.zeros(90, bool)),
    "only the random slice": make_pool(slice_hash=np.zeros(90)),
    "no random slice": make_pool(slice_hash=None),
    "no embedding at all": make_pool(embeddings=NAN),
    "embeddings of length 0": make_pool(embeddings=np.zeros((90, 0), np.float32)),
    "zero embeddings": make_pool(embeddings=np.zeros((90, 6), np.float32)),
    "half the embeddings unknown": make_pool(embeddings=HALF),
    "huge embeddings": make_pool(embeddings=np.full((90, 6), 3e38, np.float32)),
    "float16": make_pool(embeddings=make_pool().embeddings.astype(np.float16)),
    "all alike": make_pool(embeddings=np.ones((90, 6), np.float32), group=np.zeros(90, np.int64)),
    "own utilities": make_pool(utility=np.random.default_rng(1).normal(size=90)),
    "utilities from end to end of float64": make_pool(
        utility=np.random.default_rng(1).choice([-1.7e308, 0, 1.7e308], 90)
    ),
    "tiny embeddings": make_pool(embeddings=make_pool().embeddings * np.float32(1e-38)),
    "embeddings of every length": make_pool(
        embeddings=make_pool().embeddings * 10.0 ** np.random.default_rng(2).integers(-300, 300, (90, 1))
    ),
}
