"""A manager who changes the project itself: what was labelled stays labelled, what is ours stays ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from common.loop import lookalikes
from tests.contract.cvat_life import Life


@pytest.fixture(autouse=True)
def _near_duplicates_are_as_near_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring how near takes longer than everything else here, and is tested elsewhere."""
    monkeypatch.setattr(lookalikes, "calibrate", lambda *_: 1.0)


@contextmanager
def at_rest(folder: Path, **wanted: Any) -> Iterator[Life]:
    """A project of 12 images in 6 jobs, connected, in order, pre-annotated and handed out."""
    with Life(folder, **{"tasks": 1, "images": 12, "job": 2, "validation_share": 0, **wanted}) as life:
        life.connect()
        life.settle()
        yield life
        life.check()


@pytest.fixture(name="life")
def life_fixture(tmp_path: Path) -> Iterator[Life]:
    with at_rest(tmp_path) as life:
        yield life


def change_label(life: Life, which: str, **change: Any) -> None:
    body = {"labels": [{"id": life.label[which], **change}]}
    life.manager.call("PATCH", f"/api/projects/{life.project.id}", json=body)


def test_a_renamed_label_renames_the_boxes_that_were_drawn_with_it(life: Life) -> None:
    job = life.inbox("anna")[0]
    life.finish("anna", job)
    life.settle()
    change_label(life, "cat", name="lion")
    life.compare()
    names = {box[0] for boxes in life.told().values() for answer in boxes for box in answer}
    assert names == {"lion"}
    assert life.row.spec.names == ("lion", "dog")


def test_a_renamed_label_is_read_once(life: Life) -> None:
    life.finish("anna", life.inbox("anna")[0])
    life.settle()
    change_label(life, "cat", name="lion")
    life.compare()
    life.compare()
    revision = life.row.revision
    life.cvat.log.clear()
    life.compare()
    assert life.row.revision == revision
    assert len(life.cvat.log.matching("GET", "/api/jobs?")) == 3


def test_a_deleted_label_takes_its_boxes_along_and_leaves_true_negatives(life: Life) -> None:
    job = life.inbox("anna")[0]
    life.finish("anna", job)
    life.settle()
    change_label(life, "cat", deleted=True)
    life.compare()
    assert life.told() == {f"{job.task_id}:{frame}": [[]] for frame in job.frame_numbers}


def test_a_job_that_is_moved_on_keeps_its_labels_until_it_is_rejected(life: Life) -> None:
    job = life.inbox("anna")[0]
    life.finish("anna", job)
    life.settle()
    labels = life.told()
    assert set(labels) == {f"{job.task_id}:{frame}" for frame in job.frame_numbers}
    life.manager.set_state(job.id, "new", stage="validation")
    life.settle()
    life.compare()
    assert life.told() == labels
    life.manager.set_state(job.id, "rejected")
    life.settle()
    assert life.told() == {}
    life.manager.set_state(job.id, "completed")
    life.settle()


def test_a_job_that_is_only_touched_teaches_nothing_new(life: Life) -> None:
    job = life.inbox("anna")[0]
    life.finish("anna", job)
    life.settle()
    revision = life.row.revision
    life.manager.set_state(job.id, "completed", stage="acceptance")
    life.settle()
    assert life.row.revision == revision


def test_a_webhook_that_was_made_anew_by_connect_is_known_to_the_worker(life: Life) -> None:
    life.cvat.world.webhooks.clear()
    life.connect()
    life.compare()
    assert len(life.cvat.world.webhooks) == 1
    assert [text for text in life.journal() if "healed" in text] == []
    assert life.row.platform_state["hook"]["id"] in life.cvat.world.webhooks
