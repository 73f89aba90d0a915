"""What happens beside CVAT on bad days: events lost, doubled and late, people at work where we work, two workers."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from common import connection
from common.loop import ActiveLearningLoop, lookalikes
from tests.contract.cvat_life import BOX, Life
from tests.cvat_server.world import Job

CREATE = r"/api/jobs/\d+/annotations/$"
ASSIGN = r"/api/jobs/\d+$"
"""Paths of our two kinds of writes; the method is PATCH."""


@pytest.fixture(autouse=True)
def _near_duplicates_are_as_near_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring how near takes longer than everything else here, and is tested elsewhere."""
    monkeypatch.setattr(lookalikes, "calibrate", lambda *_: 1.0)


@contextmanager
def at_rest(folder: Path, **wanted: Any) -> Iterator[Life]:
    """A project of 12 images in 6 jobs, connected, in order, pre-annotated and handed out."""
    sizes = {"tasks": 1, "images": 12, "job": 2}
    with Life(folder, **{**sizes, "validation_share": 0, **wanted}) as life:
        life.connect()
        life.settle()
        yield life
        life.check()


def rounds(life: Life) -> list[int]:
    return [r.number for r in life.tools.store.rounds.all(life.key)]


def free(life: Life) -> list[Job]:
    """Jobs that nobody has, by id."""
    return [j for j in life.jobs if j.assignee_id is None and j.state == "new"]


# --- events ----------------------------------------------------------------------------------------------


def test_what_lost_webhooks_would_have_told_is_found_by_the_next_comparison(tmp_path: Path) -> None:
    with at_rest(tmp_path) as life:
        life.cvat.courier.lose(1000)
        job = life.inbox("anna")[0]
        life.finish("anna", job)
        life.settle()
        assert life.told() == {}
        life.cvat.courier.lose(0)
        life.compare()
        assert set(life.told()) == {f"{job.task_id}:{frame}" for frame in job.frame_numbers}
        assert len(life.inbox("anna")) == 2


def test_webhooks_twice_backwards_and_redelivered_teach_the_same_labels_and_one_round(tmp_path: Path) -> None:
    with at_rest(tmp_path, min_new_labels=4) as life:
        courier = life.cvat.courier
        courier.hold()
        courier.duplicate(1000)
        for name in ("anna", "ben"):
            life.finish(name, life.inbox(name)[0])
        courier.release()
        life.settle()
        told, revision = life.told(), life.row.revision
        assert len(told) == 4
        assert rounds(life) == [1]
        redeliver(life)
        life.settle()
        life.compare()
        assert life.told() == told
        assert life.row.revision == revision
        assert rounds(life) == [1]


def redeliver(life: Life) -> None:
    """A manager has CVAT send everything once more."""
    (hook,) = life.cvat.world.webhooks.values()
    courier = life.cvat.courier
    courier.duplicate(0)
    deliveries = [d.id for d in life.cvat.world.deliveries.values() if d.event == "update:job"]
    assert deliveries
    for number in deliveries:
        life.manager.call("POST", f"/api/webhooks/{hook.id}/deliveries/{number}/redelivery")


def test_a_webhook_of_a_state_that_is_over_changes_nothing(tmp_path: Path) -> None:
    with at_rest(tmp_path) as life:
        job = life.inbox("anna")[0]
        life.cvat.courier.hold()
        life.finish("anna", job)
        life.manager.reopen(job.id)
        life.cvat.courier.release()
        life.settle()
        assert life.told() == {}
        assert job in life.inbox("anna")


# --- two workers -----------------------------------------------------------------------------------------


@contextmanager
def second(life: Life) -> Iterator[ActiveLearningLoop]:
    """A worker process beside the one of ``life``; nothing leases the project, so both work on it."""
    tools = life.worker()
    loop = ActiveLearningLoop(tools)
    try:
        yield loop
    finally:
        for port in loop._platforms.values():
            port.close()  # type: ignore[attr-defined]
        tools.media.close()
        tools.store.close()


def assignments(life: Life) -> Counter[str]:
    """Path -> how often a job was assigned or taken back."""
    return Counter(path for method, path in life.cvat.log if method == "PATCH" and "annotations" not in path)


def fair(life: Life, most: int = 2) -> None:
    """Nobody has more than WIP, everybody has that many, and no job was assigned twice."""
    assert [len(life.inbox(name)) for name in ("anna", "ben")] == [most, most]
    assert set(assignments(life).values()) == {1}


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_second_worker_at_the_moment_of_an_assignment_assigns_nothing_twice(tmp_path: Path, number: int) -> None:
    with Life(tmp_path, tasks=1, images=12, job=2) as life, second(life) as other:
        worked: list[bool] = []
        life.connect()
        life.cvat.faults.before("PATCH", ASSIGN, number, lambda: worked.extend(other.step(life.key) for _ in range(3)))
        life.settle()
        assert any(worked)
        fair(life)
        life.check()


def test_two_workers_that_hand_out_at_once_keep_everybody_at_their_two_jobs(tmp_path: Path) -> None:
    with at_rest(tmp_path, images=24) as life, second(life) as other:
        life.cvat.log.clear()
        for name in ("anna", "ben"):
            for job in life.inbox(name):
                life.finish(name, job)
        life.cvat.courier.settle(10)
        at_once([lambda: works(life, life.loop), lambda: works(life, other)])
        life.compare()
        done = {f"/api/jobs/{j.id}" for j in life.jobs if j.state == "completed"}
        assert {p: n for p, n in assignments(life).items() if p not in done and n > 1} == {}
        assert [len(life.inbox(name)) for name in ("anna", "ben")] == [2, 2]


def works(life: Life, loop: ActiveLearningLoop) -> None:
    for _ in range(8):
        loop.step(life.key)


def at_once(actions: list[Callable[[], None]]) -> None:
    """Each in a thread of its own, begun together; what one raises comes out here."""
    start, raised = threading.Barrier(len(actions)), []

    def run(action: Callable[[], None]) -> None:
        start.wait()
        try:
            action()
        except BaseException as error:  # noqa: BLE001 - to be raised where pytest sees it
            raised.append(error)

    threads = [threading.Thread(target=run, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


# --- people at work --------------------------------------------------------------------------------------


def test_a_person_who_saves_while_predictions_are_written_keeps_the_box_once(tmp_path: Path) -> None:
    with Life(tmp_path, tasks=1, images=12, job=2) as life:
        drawn: list[Job] = []

        def saves() -> None:
            """Right before our boxes arrive: in every job where they are about to."""
            number = int(life.cvat.log[-1][1].split("/")[3])
            job = life.cvat.world.jobs[number]
            life.manager.assign(number, life.person("anna").id)
            tab = life.person("anna").open(number)
            tab.draw(job.start_frame, life.label["dog"], BOX)
            tab.save()
            drawn.append(job)

        life.connect()
        life.cvat.faults.before("PATCH", CREATE, 2, saves)
        life.settle()
        (job,) = drawn
        before = life.checksum()
        assert life.drawn(job) == [(job.start_frame, BOX)]
        life.compare()
        assert life.checksum() == before
        assert job in life.inbox("anna")
        life.check()


def test_a_manager_who_draws_in_jobs_that_nobody_has_keeps_every_box_through_rounds(tmp_path: Path) -> None:
    with at_rest(tmp_path, images=24, min_new_labels=4) as life:
        for job in free(life):
            tab = life.manager.open(job.id)
            tab.draw(job.start_frame, life.label["dog"], BOX)
            tab.save()
            life.manager.set_state(job.id, "new")
        before = life.checksum(free(life))
        watched = free(life)
        for name in ("anna", "ben"):
            life.finish(name, life.inbox(name)[0])
        life.settle()
        life.trainer.finish()
        life.settle()
        assert rounds(life) == [1]
        assert life.models.installed == 1
        assert life.checksum(watched) == before
        assert Counter(j.id for j in watched for s in j.shapes if s["source"] == "manual") == {j.id: 1 for j in watched}


def test_boxes_of_ours_that_somebody_deleted_or_moved_are_not_brought_back_by_a_new_model(tmp_path: Path) -> None:
    with at_rest(tmp_path, images=24, min_new_labels=4) as life:
        gone, moved, left = free(life)[:3]
        for job in (gone, moved):
            tab = life.manager.open(job.id)
            (first,) = tab.on_frame(job.start_frame)
            if job is gone:
                tab.delete(first["id"])
            else:
                tab.move(first["id"], BOX)
            tab.save()
            life.manager.set_state(job.id, "new")
        before, old = life.checksum(), {s["id"] for s in left.shapes}
        for name in ("anna", "ben"):
            life.person(name).set_state(life.inbox(name)[0].id, "completed")
        life.settle()
        life.trainer.finish()
        life.settle()
        assert [s["frame"] for s in gone.shapes] == [gone.stop_frame]
        assert [s["source"] for s in moved.shapes if s["frame"] == moved.start_frame] == ["semi-auto"]
        assert life.checksum() == before
        assert len(left.shapes) == 2
        assert old.isdisjoint(s["id"] for s in left.shapes)


def test_a_rejected_and_a_reopened_job_take_their_labels_back(tmp_path: Path) -> None:
    with at_rest(tmp_path) as life:
        first, second_ = life.inbox("anna")
        for job in (first, second_):
            life.finish("anna", job)
        life.settle()
        assert len(life.told()) == 4
        life.manager.reject(first.id)
        life.settle()
        assert set(life.told()) == {f"{second_.task_id}:{frame}" for frame in second_.frame_numbers}
        life.manager.reopen(second_.id)
        life.settle()
        assert life.told() == {}
        tab = life.person("anna").open(first.id)
        assert len(tab.shapes) == 4
        tab.finish()
        life.settle()
        assert set(life.told()) == {f"{first.task_id}:{frame}" for frame in first.frame_numbers}


def test_a_deleted_frame_is_no_sample_and_no_label_and_comes_back(tmp_path: Path) -> None:
    with at_rest(tmp_path) as life:
        job = life.inbox("anna")[0]
        life.finish("anna", job)
        life.settle()
        meta, name = f"/api/tasks/{job.task_id}/data/meta", f"{job.task_id}:{job.start_frame}"
        life.manager.call("PATCH", meta, json={"deleted_frames": [job.start_frame]})
        life.compare()
        assert name not in life.told()
        assert name not in {s.external for s in life.tools.store.samples.all(life.key)}
        life.check()
        life.manager.call("PATCH", meta, json={"deleted_frames": []})
        life.compare()
        assert name in life.told()


def test_a_manager_who_hands_out_jobs_is_left_alone_and_counted(tmp_path: Path) -> None:
    with at_rest(tmp_path) as life:
        mine = free(life)[0]
        life.manager.assign(mine.id, life.person("anna").id)
        life.settle()
        held = life.inbox("anna")
        assert len(held) == 3
        life.finish("anna", next(j for j in held if j is not mine))
        life.settle()
        assert len(life.inbox("anna")) == 2
        assert mine in life.inbox("anna")


def test_tasks_that_arrive_later_take_their_place_in_the_order(tmp_path: Path) -> None:
    with at_rest(tmp_path) as life:
        task = life.add_task("late", range(100, 106), 2)
        life.compare()
        assert {f"{task.id}:{n}" for n in range(6)} <= set(life.places())
        late = life.cvat.jobs(task)
        assert all(len(j.shapes) == 2 for j in late)
        shown = life.http.get(f"/api/jobs?project={life.key}").json["jobs"]
        values = life.values()
        assert len(shown) == 9
        assert [j["id"] for j in shown] == sorted(values, key=lambda n: (-values[n], n))


def test_empty_tasks_and_a_corrupt_image_are_reported_and_the_others_go_on(tmp_path: Path) -> None:
    with Life(tmp_path, tasks=1, images=12, job=2) as life:
        life.add_task("without data", range(0), 2)
        life.tasks[0].frames[5].data = b"\x89PNG and then nothing"
        life.connect()
        life.settle()
        (bad,) = life.tools.store.samples.problems(life.key)
        assert bad.external == f"{life.tasks[0].id}:5"
        assert bad.problem
        assert life.sources() == {"auto": 11}
        assert [len(life.inbox(name)) for name in ("anna", "ben")] == [2, 2]
        life.check()


# --- leaving ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [False, True])
def test_disconnecting_puts_everything_back_and_leaves_what_people_did(tmp_path: Path, keep: bool) -> None:
    with at_rest(tmp_path) as life:
        done, begun = life.inbox("anna")
        life.finish("anna", done)
        tab = life.person("anna").open(begun.id)
        tab.draw(begun.start_frame, life.label["dog"], BOX)
        tab.save()
        life.settle()
        before = life.checksum()
        connection.disconnect_project(
            life.settings, "cvat", str(life.project.id), keep_predictions=keep, progress=lambda _: None
        )
        assert life.cvat.world.webhooks == {}
        assert {j.id for j in life.jobs if j.assignee_id is not None} == {done.id, begun.id}
        assert life.checksum() == before
        auto = Counter(j.id for j in life.jobs for s in j.shapes if s["source"] == "auto")
        assert auto == {j.id: 2 for j in (life.jobs if keep else (done, begun))}
        assert life.row.state == "archived"
        life.settle()
        assert life.checksum() == before
