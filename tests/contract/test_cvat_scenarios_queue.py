"""The whole loop with queue tasks (``--queue task``): jobs too long for an order by job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cvat_adapter.queue_plan import sample_of
from tests.contract.cvat_life import ASSIGN, BOX, CREATE, Life, near_duplicates_fixture  # noqa: F401 - a fixture
from tests.cvat_server.world import Job, Task


@contextmanager
def at_rest(folder: Path, **wanted: Any) -> Iterator[Life]:
    """Two tasks of one job each, 80 frames in all, connected in task mode; the first queue task is handed out."""
    with Life(folder, **{"tasks": 2, "images": 40, "job": 40, "validation_share": 0, **wanted}) as life:
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
        assert life.sources() == {"auto": 80}
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
        held = {name: life.inbox(name) for name in ("anna", "ben")}
        life.leave()
        assert {name: life.inbox(name) for name in held} == held  # what may be open now is not taken away
        (queue,) = queue_tasks(life)
        assert [job.shapes for job in life.free() if job.task_id == queue.id] == [[], [], []]
        assert life.checksum() == before
        assert life.told() == told
        assert life.cvat.world.webhooks == {}


def test_lost_webhooks_of_queue_tasks_are_made_good_by_the_next_comparison(tmp_path: Path) -> None:
    with at_rest(tmp_path) as life:
        life.cvat.courier.lose(1000)
        samples = work(life, "anna")
        life.settle(steps=3, until=lambda: True)
        assert life.told() == {}
        life.cvat.courier.lose(0)
        life.compare()
        assert counted(life) == set(samples)


def test_a_queue_job_that_is_rejected_takes_its_labels_back_until_it_is_finished_again(tmp_path: Path) -> None:
    with at_rest(tmp_path) as life:
        job = life.inbox("anna")[0]
        samples = work(life, "anna")
        life.settle()
        assert counted(life) == set(samples)
        life.manager.reject(job.id)
        life.settle()
        assert life.told() == {}
        assert job in life.inbox("anna")
        life.person("anna").open(job.id).finish()
        life.settle()
        assert counted(life) == set(samples)


FAULTS: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", r"/api/projects$", {}),
    ("POST", r"/api/tasks$", {}),
    ("POST", r"/data/?$", {}),
    ("PATCH", CREATE, {}),
    ("PATCH", ASSIGN, {}),
    ("GET", r"/api/requests/", {"times": 3}),
    ("GET", r"/data/?$", {"times": 3}),
]
"""(method, path, times) of what is cut off before or after CVAT did it."""


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(("method", "path", "more"), FAULTS)
def test_what_is_cut_off_on_the_way_to_a_queue_task_is_made_good_and_nothing_is_there_twice(
    tmp_path: Path, method: str, path: str, more: dict[str, Any], late: bool
) -> None:
    with Life(tmp_path, tasks=1, images=40, job=40, validation_share=0) as life:
        life.connect(queue="task")
        fault = life.cvat.faults.add(path, method, hang_up=True, late=late, **{"times": 1, **more})
        for _ in range(6):
            life.settle()
            life.later(120)
        life.settle()
        assert fault.met >= 1
        (task,) = queue_tasks(life)
        assert [s for j in life.cvat.jobs(task) for s in shown(life, j)] == order(life)
        assert life.sources() == {"auto": 40}
        assert [len(life.inbox(name)) for name in ("anna", "ben")] == [2, 2]
        assert len(life.cvat.world.projects) == 2
        assert life.row.reason == ""
        life.check()


def test_an_answer_on_its_way_home_that_is_cut_off_arrives_once(tmp_path: Path) -> None:
    with at_rest(tmp_path) as life:
        home = "|".join(str(j.id) for t in life.tasks for j in life.cvat.jobs(t))
        fault = life.cvat.faults.add(rf"/api/jobs/({home})/annotations/$", "PATCH", hang_up=True, late=True, times=2)
        samples = work(life, "anna")
        for _ in range(4):
            life.settle()
            life.later(120)
        life.settle()
        assert fault.met == 2
        drawn = Counter(f"{j.task_id}:{n}" for t in life.tasks for j in life.cvat.jobs(t) for n, _ in life.drawn(j))
        assert drawn == dict.fromkeys(samples, 1)
        assert counted(life) == set(samples)


def test_going_back_to_the_inbox_leaves_no_queue_task_that_nobody_has_worked_in(tmp_path: Path) -> None:
    with at_rest(tmp_path) as life:
        life.connect(queue="inbox")
        life.settle()
        (old,) = queue_tasks(life)
        assert all(j.task_id == old.id for name in ("anna", "ben") for j in life.inbox(name))
        for _ in range(3):
            life.later(2000)
            life.compare()
        assert queue_tasks(life) == []
        home = {t.id for t in life.tasks}
        assert {j.task_id for name in ("anna", "ben") for j in life.inbox(name)} <= home
        assert [len(life.inbox(name)) for name in ("anna", "ben")] == [1, 1]  # there are two jobs
        assert life.sources() == {"auto": 80}


def test_after_going_back_to_the_inbox_people_finish_what_they_hold_and_its_answers_come_home(tmp_path: Path) -> None:
    with at_rest(tmp_path) as life:
        life.connect(queue="inbox")
        life.settle()
        samples = [s for name in ("anna", "ben") for _ in range(2) for s in work(life, name)]
        life.settle()
        (old,) = queue_tasks(life)
        assert old.name.endswith("(done)")
        drawn = Counter(f"{j.task_id}:{n}" for t in life.tasks for j in life.cvat.jobs(t) for n, _ in life.drawn(j))
        assert counted(life) == set(samples)
        assert drawn.keys() <= set(samples)
        assert set(drawn.values()) <= {1}
