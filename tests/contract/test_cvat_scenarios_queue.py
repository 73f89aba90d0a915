"""The whole loop with queue tasks (``--queue task``): jobs too long for an order by job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from common import connection
from common.loop import lookalikes
from cvat_adapter.queue_plan import DONE, sample_of
from tests.contract.cvat_life import BOX, Life
from tests.cvat_server.world import Job, Task


@pytest.fixture(autouse=True)
def _near_duplicates_are_as_near_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring how near takes longer than everything else here, and is tested elsewhere."""
    monkeypatch.setattr(lookalikes, "calibrate", lambda *_: 1.0)


@contextmanager
def at_rest(folder: Path, **wanted: Any) -> Iterator[Life]:
    """Two tasks of one job each, 60 frames in all, connected in task mode; the first queue task is handed out."""
    with Life(folder, **{"tasks": 2, "images": 30, "job": 30, "validation_share": 0, **wanted}) as life:
        life.connect(queue="task")
        life.settle()
        yield life
        life.check()


def queue_tasks(life: Life) -> list[Task]:
    """Oldest first."""
    return [t for _, t in sorted(life.cvat.world.tasks.items()) if t.project_id != life.project.id]


def shown(life: Life, job: Job) -> list[str]:
    """The source samples that a queue job shows, in its order."""
    frames = life.cvat.world.tasks[job.task_id].frames
    return [str(sample_of(frames[n].name)) for n in job.frame_numbers]


def order(life: Life) -> list[str]:
    places = life.places()
    return sorted(places, key=places.__getitem__)


def work(life: Life, name: str) -> list[str]:
    """The person draws a dog on every frame of their first job and finishes it; the samples of it."""
    job = life.inbox(name)[0]
    labels = life.cvat.world.labels_of(life.cvat.world.projects[life.cvat.world.tasks[job.task_id].project_id or 0])
    dog = next(label.id for label in labels if label.name == "dog")
    life.person(name).annotate(job.id, [(n, dog, BOX) for n in job.frame_numbers])
    return shown(life, job)


def counted(life: Life) -> set[str]:
    """Source samples that the store knows as answered."""
    return {s.external for s in life.tools.store.samples.all(life.key) if s.answers}


def test_two_annotators_work_through_queue_tasks_in_exact_order_and_a_round_makes_a_new_one(tmp_path: Path) -> None:
    with at_rest(tmp_path, min_new_labels=20) as life:
        (first,) = queue_tasks(life)
        best = order(life)
        assert [s for j in life.cvat.jobs(first) for s in shown(life, j)] == best
        handed = [j.id for name in ("anna", "ben") for j in life.inbox(name)]
        assert sorted(handed) == [j.id for j in life.cvat.jobs(first)][:4]
        assert life.sources() == {"auto": 60}
        worked = work(life, "anna") + work(life, "ben")
        life.settle()
        assert counted(life) == set(worked) == set(best[:20])
        assert [r.number for r in life.tools.store.rounds.all(life.key)] == [1]
        life.trainer.finish()
        life.settle()
        old, new = queue_tasks(life)
        assert old is first
        again = [s for j in life.cvat.jobs(new) for s in shown(life, j)]
        held = {s for name in ("anna", "ben") for j in life.inbox(name) for s in shown(life, j) if j.task_id == old.id}
        assert set(again).isdisjoint(set(worked) | held)
        assert again == [s for s in order(life) if s not in set(worked) | held]
        assert [len(life.inbox(name)) for name in ("anna", "ben")] == [2, 2]


def test_answers_come_back_to_the_source_once_and_disconnecting_leaves_them(tmp_path: Path) -> None:
    with at_rest(tmp_path) as life:
        samples = work(life, "anna")
        life.settle()
        life.compare()
        home = [j for t in life.tasks for j in life.cvat.jobs(t)]
        drawn = Counter(f"{j.task_id}:{frame}" for j in home for frame, _ in life.drawn(j))
        assert drawn == dict.fromkeys(samples, 1)
        before = life.checksum()
        told = life.told()
        connection.disconnect_project(
            life.settings, "cvat", str(life.project.id), keep_predictions=False, progress=lambda _: None
        )
        assert life.checksum() == before
        assert life.told() == told
        assert life.cvat.world.webhooks == {}
        assert all(j.assignee_id is None or j.state == "completed" for j in life.jobs)
