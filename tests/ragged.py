"""Hypothesis strategies: what a model may say about a few images, odd cases included, and pools made of it."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from common.acquisition.detections import Detections
from common.strategies import Pool

SCORE = st.sampled_from([0.0, 0.5, 1.0, 0.3, 0.7]) | st.floats(0, 1, width=32)
BOXES = np.array([(0, 0, 9, 9), (1, 0, 10, 9), (30, 5, 60, 40), (5, 5, 5, 20), (7, 7, 7, 7)], np.float32)
EVIDENCE = ("disagreement", "flip_iou", "flip_scores", "committee")


@st.composite
def detections(draw: st.DrawFn, evidence: bool | None = None, most: int = 5) -> Detections:
    """Up to ``most`` images of 0 to 6 boxes and 0 to 3 classes; None = evidence or not, by chance."""
    n, classes, members = draw(st.integers(0, most)), draw(st.integers(0, 3)), draw(st.integers(1, 3))
    counts = draw(st.lists(st.integers(0, 6), min_size=n, max_size=n))
    m = sum(counts)
    has = draw(st.booleans()) if evidence is None else evidence
    return Detections(
        np.cumsum([0, *counts]).astype(np.int64),
        BOXES[draw(arrays(np.int64, m, elements=st.integers(0, len(BOXES) - 1)))],
        _scores(draw, m, classes),
        _scores(draw, n) * np.float32(0.05),
        _scores(draw, n) * np.float32(draw(st.sampled_from([0.0, 1.0, 1e4]))),
        _scores(draw, m) / 4 if has else None,
        _scores(draw, m) if has else None,
        _scores(draw, m, classes) if has else None,
        _scores(draw, members, m, classes) if has else None,
    )


def _scores(draw: st.DrawFn, *shape: int) -> np.ndarray:
    return draw(arrays(np.float32, shape, elements=SCORE))


def shuffled(d: Detections, seed: int) -> Detections:
    """The same boxes of the same images in another order."""
    rng = np.random.default_rng(seed)
    parts = [a + rng.permutation(b - a) for a, b in zip(d.offsets[:-1], d.offsets[1:], strict=True)]
    rows = np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64)
    moved = {"boxes": d.boxes[rows], "scores": d.scores[rows]}
    for name in EVIDENCE:
        array = getattr(d, name)
        moved[name] = array if array is None else array[:, rows] if name == "committee" else array[rows]
    assert set(moved) <= {f.name for f in fields(d)}
    return replace(d, **moved)


EMBEDDINGS = {
    "usual": lambda rng, n: rng.standard_normal((n, 4)),
    "few directions": lambda rng, n: np.eye(4)[rng.integers(0, 2, n)],
    "zero": lambda _, n: np.zeros((n, 4)),
    "NaN": lambda _, n: np.full((n, 4), np.nan),
    "some NaN, some infinite, some zero": lambda rng, n: (
        rng.standard_normal((n, 4)) * rng.choice([1, np.nan, np.inf, 0], (n, 1))
    ),
    "no column": lambda _, n: np.zeros((n, 0)),
}


@st.composite
def pools(draw: st.DrawFn, most: int = 24, evidence: bool | None = None) -> Pool:
    """Up to ``most`` images with everything a pool may hold, the odd cases of every part."""
    said = draw(detections(evidence, most=6))
    copies = draw(st.integers(1, max(1, most // max(1, len(said)))))
    said = _repeated(said, copies)
    n, classes = len(said), said.scores.shape[1]
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    embeddings = EMBEDDINGS[draw(st.sampled_from(sorted(EMBEDDINGS)))]
    share = st.sampled_from([0.0, 0.3, 1.0])
    with np.errstate(invalid="ignore"):
        rows = np.asarray(embeddings(rng, n), np.float32)
    return Pool(
        rows,
        said,
        rng.random(n) < draw(share),
        rng.integers(0, 100, classes),
        rng.integers(-1, max(1, n // 3), n) if draw(st.booleans()) else np.full(n, -1, np.int64),
        rng.random(n) >= draw(share) * 0.5,
        quality=rng.random(classes) if draw(st.booleans()) else None,
        slice_hash=rng.random(n) if draw(st.booleans()) else None,
        knows=draw(st.booleans()),
    )


def _repeated(d: Detections, times: int) -> Detections:
    """All images ``times`` over: equal utilities, identical boxes."""
    m = len(d.scores)
    tiled = {n: np.concatenate([getattr(d, n)] * times) for n in ("boxes", "scores", "doubt", "model_change")}
    for name in EVIDENCE:
        array = getattr(d, name)
        tiled[name] = array if array is None else np.concatenate([array] * times, axis=int(name == "committee"))
    steps = [d.offsets[:1], *[d.offsets[1:] + m * k for k in range(times)]]
    return replace(d, offsets=np.concatenate(steps), **tiled)
