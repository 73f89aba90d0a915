"""A round on labels that went wrong, with real trainings: the gate refuses it, and the queue stays as it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from common.domain import ClassMapping, Event, LabelledBox
from common.jobs import LocalRunner
from common.loop import ActiveLearningLoop
from common.store.projects import ProjectRow
from common.yolo.models import YoloModels, YoloTrainer
from tests.cells import CELLS, cells
from tests.fakes import World, make_world

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
KEY = "fake:1"
IMAGES, OPEN = 72, 8
SETTINGS = {
    "imgsz": 96,
    "updates": 60,
    "batch": 8,
    "min_new_labels": 20,
    "pause_s": 0,
    "threads": 1,
    "device": "cpu",
    "engine": "torch",
    "validation_share": 0.3,
    "gate_images": 15,
}


@pytest.fixture
def world(tmp_path: Path, shared: Path) -> Iterator[World]:
    made = make_world(tmp_path, 0, **SETTINGS, model=str(shared / "weights/yolo11n-rebuilt.pt"))
    tools = made.tools
    tools.clock = time.time
    tools.models = YoloModels(tools.settings)
    tools.trainer = YoloTrainer(LocalRunner(tools.settings.folder))
    made.platform.classes = tuple(ClassMapping(name) for name in CELLS)
    for sample in cells(shared, IMAGES):
        (tmp_path / "pictures" / f"{sample.id}.jpg").symlink_to(sample.image)
        made.platform.tasks[sample.id] = f"{sample.id}.jpg"
    yield made
    tools.trainer.close()


def run_until(loop: ActiveLearningLoop, done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 240
    while not done():
        assert time.monotonic() < deadline, what
        if not loop.step(KEY):
            time.sleep(0.05)


def test_a_round_on_shuffled_labels_is_refused_and_the_queue_stays(world: World, shared: Path) -> None:
    truth = {s.id: s.label.boxes for s in cells(shared, IMAGES)}
    labelled = sorted(truth)[: IMAGES - OPEN]
    store, loop, platform = world.tools.store, ActiveLearningLoop(world.tools), world.platform
    for sample in labelled:
        platform.annotate(sample, *truth[sample])
    run_until(loop, lambda: len(store.rounds.checkpoints(KEY)) == 1, "the first round")
    first = store.rounds.newest(KEY)
    assert first is not None
    assert len(first.split["val"]) >= 15
    run_until(loop, lambda: _queue(world) == (1, True), "its queue")
    order, serving = platform.order(), _row(world).checkpoint

    training = [s for s in labelled if s not in first.split["val"]]
    for i, sample in enumerate(training):  # as if all of them had been exported under the wrong names
        platform.annotate(sample, *map(_elsewhere, truth[training[i - 1]]))
    loop.record(Event("fake", "1", "labels", tuple(training)))
    loop.record(Event("fake", "1", "train"))
    run_until(loop, lambda: _ended(world, 2), "the poisoned round")
    refused = store.rounds.newest(KEY)
    assert refused is not None
    assert refused.verdict == "kept", refused.gate
    assert refused.gate["high"] < 0, refused.gate
    assert _row(world).checkpoint == serving
    for _ in range(20):
        loop.step(KEY)
    assert platform.order() == order
    assert _row(world).order_asked is None


def _elsewhere(box: LabelledBox) -> LabelledBox:
    """Another class on the other side of the image."""
    x1, y1, x2, y2 = box.xyxy
    return replace(box, name=CELLS[CELLS.index(box.name) - 1], xyxy=(1 - x2, 1 - y2, 1 - x1, 1 - y1))


def _row(world: World) -> ProjectRow:
    found = world.tools.store.projects.get(KEY)
    assert found is not None
    return found


def _queue(world: World) -> tuple[int, bool]:
    """(round of the active queue, whether it is all there)."""
    store, row = world.tools.store, _row(world)
    active = store.publications.get(row.publication) if row.publication else None
    return (active.round if active else -1, store.publications.unfinished(KEY) is None and row.order_asked is None)


def _ended(world: World, number: int) -> bool:
    newest = world.tools.store.rounds.newest(KEY)
    return newest is not None and newest.number == number and newest.state != "running"
