"""The review list of a large project: its time, and that it is not all in memory at once."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from rich.console import Console

from common.domain import Annotation, Instances, Prediction, RemoteSample
from common.loop import reviewing
from common.store import Store
from common.store.schema import checkpoint, round_
from tests.fakes import World, make_world
from tests.unit.label_errors import NAMES, Skill, cases

KEY = "fake:1"
IMAGES, BOXES = 20_000, 10
GOAL_S = 8.0
"""CPU seconds, reading labels and predictions from SQLite and writing the findings included."""
KINDS = 500
"""Different images; the others are copies of them."""

pytestmark = pytest.mark.integration


def label_all(store: Store) -> None:
    made = [c.looked for c in cases(np.random.default_rng(0), KINDS, Skill(), boxes=BOXES)]
    none = np.zeros(len(NAMES), np.float32)
    size = np.array([640, 480, 640, 480])
    store.samples.replace(KEY, [RemoteSample(str(i), "", answers=1) for i in range(IMAGES)])
    rows = store.samples.all(KEY)
    said, answers, fetched = [], [], []
    for i, row in enumerate(rows):
        looked, sha = made[i % KINDS], f"{i:064d}"
        boxes, scores = (looked.boxes * size).astype(np.float32), looked.scores.astype(np.float32)
        spread = np.zeros(len(boxes), np.float32)
        said.append((sha, Prediction(Instances(boxes, scores), none, none, none, spread, 640, 480)))
        at = datetime(2026, 1, 1, tzinfo=UTC)
        answers.append((row.external, [Annotation(f"a{i}", row.external, at, "ann", boxes=looked.drawn)]))
        fetched.append({"id": row.id, "sha256": sha, "width": 640, "height": 480, "problem": ""})
    store.samples.fetched(KEY, fetched)
    store.labels.record(KEY, answers)
    store.predictions.put("1" * 64, 640, said)


def reviewable(folder: Path) -> World:
    """A project of which everything is known and round 1 is done."""
    world = make_world(folder, 0)
    world.platform.classes = ()
    store = world.tools.store
    store.projects.update(KEY, state="active", spec={"title": "", "classes": [_class(n) for n in NAMES]})
    label_all(store)
    opened = store.rounds.start(KEY, revision=1, labels=IMAGES, reason="", folder=str(folder), token=0)
    assert opened is not None
    serve(store, opened)
    return world


def _class(name: str) -> dict[str, Any]:
    return {"name": name, "model_names": []}


def serve(store: Store, opened: Any) -> None:
    values = {"project": KEY, "round": 1, "path": "w.pt", "sha256": "1" * 64, "names": list(NAMES), "created": 0.0}
    with store.engine.begin() as connection:
        new = connection.execute(sa.insert(checkpoint).returning(checkpoint.c.id), values).scalar_one()
        connection.execute(sa.update(round_).where(round_.c.id == opened.id).values(state="done"))
    store.projects.update(KEY, checkpoint=new, order_asked=None)


def test_twenty_thousand_labels_are_reviewed_in_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = reviewable(tmp_path)
    asked: list[int] = []
    boxes = world.tools.store.predictions.boxes

    def counted(model: str, imgsz: int, images: Any) -> Any:
        asked.append(len(images))
        return boxes(model, imgsz, images)

    monkeypatch.setattr(world.tools.store.predictions, "boxes", counted)
    row = world.tools.store.projects.get(KEY)
    assert row is not None
    started = time.process_time()
    assert reviewing.review_step(world.tools, row)
    took = time.process_time() - started
    found = world.tools.store.reviews.all(KEY)
    Console().print(f"{took:.1f} CPU seconds for {IMAGES} images with {BOXES} boxes, {len(found)} findings")
    assert len(found) > IMAGES // 20
    assert sum(asked) == IMAGES
    assert max(asked) <= reviewing.SLICE
    assert took < 5 * GOAL_S
