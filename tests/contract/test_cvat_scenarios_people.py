"""People at work where we work, over the whole loop beside CVAT: what they do stays, and counts once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.contract.cvat_life import ASSIGN, BOX, CREATE, Life, at_rest, begun, near_duplicates_fixture, photo  # noqa: F401
from tests.cvat_server.world import Job

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
        for job in life.free():
            tab = life.manager.open(job.id)
            tab.draw(job.start_frame, life.label["dog"], BOX)
            tab.save()
            life.manager.set_state(job.id, "new")
        before = life.checksum(life.free())
        watched = life.free()
        for name in ("anna", "ben"):
            life.finish(name, life.inbox(name)[0])
        life.settle()
        life.trainer.finish()
        life.settle()
        assert life.rounds() == [1]
        assert life.models.installed == 1
        assert life.checksum(watched) == before
        assert Counter(j.id for j in watched for s in j.shapes if s["source"] == "manual") == {j.id: 1 for j in watched}


def test_boxes_of_ours_that_somebody_deleted_or_moved_are_not_brought_back_by_a_new_model(tmp_path: Path) -> None:
    with at_rest(tmp_path, images=24, min_new_labels=4) as life:
        gone, moved, left = life.free()[:3]
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
        mine = life.free()[0]
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


def test_a_few_images_that_arrive_take_their_places_in_the_order_that_serves_with_boxes(tmp_path: Path) -> None:
    with at_rest(tmp_path, images=48) as life:
        serving, places = life.row.publication, life.places()
        task = life.add_task("late", range(100, 102), 1)
        life.settle()
        late = life.cvat.jobs(task)
        assert [len(j.shapes) for j in late] == [1, 1]
        assert life.row.publication == serving
        assert life.places().items() > places.items()
        values = life.values()
        shown = [j["id"] for j in life.http.get(f"/api/jobs?project={life.key}").json["jobs"]]
        assert shown == sorted(values, key=lambda n: (-values[n], n))
        assert {j.id for j in late} < set(shown)


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


def test_work_from_before_connecting_is_learned_at_once_and_left_as_it_is(tmp_path: Path) -> None:
    with Life(tmp_path, tasks=1, images=12, job=2, validation_share=0) as life:
        done, drawn = life.jobs[:2]
        tab = life.manager.open(done.id)
        for frame in done.frame_numbers:
            tab.draw(frame, life.label["cat"], BOX)
        tab.finish()
        tab = life.manager.open(drawn.id)
        tab.draw(drawn.start_frame, life.label["dog"], BOX)
        tab.save()
        life.manager.set_state(drawn.id, "new")
        before = life.checksum()
        life.connect()
        life.settle()
        assert set(life.told()) == {f"{done.task_id}:{frame}" for frame in done.frame_numbers}
        assert life.checksum() == before
        assert [s["frame"] for s in drawn.shapes if s["source"] == "auto"] == [drawn.stop_frame]
        assert not [s for s in done.shapes if s["source"] == "auto"]
        life.check()


def test_an_emptied_frame_is_a_true_negative_and_what_was_left_is_accepted(tmp_path: Path) -> None:
    with at_rest(tmp_path) as life:
        job = life.inbox("anna")[0]
        tab = life.person("anna").open(job.id)
        for shape in tab.on_frame(job.start_frame):
            tab.delete(shape["id"])
        tab.finish()
        life.settle()
        told = life.tools.store.labels.at(life.key)
        ((empty,), (kept,)) = (told[f"{job.task_id}:{n}"] for n in job.frame_numbers)
        assert empty.boxes == ()
        assert [box.origin for box in kept.boxes] == ["prediction"]


def test_a_frame_in_two_overlapping_jobs_is_one_sample_with_two_answers(tmp_path: Path) -> None:
    with Life(tmp_path, tasks=0, validation_share=0) as life:
        images = [(f"{n}.png", photo(n)) for n in range(5)]
        life.tasks = [life.cvat.add_task(life.project, "pool", images, segment_size=3, overlap=1)]
        life.connect()
        life.settle()
        assert len(life.jobs) == 2
        assert len(life.tools.store.samples.all(life.key)) == 5
        for name in ("anna", "ben"):
            for job in life.inbox(name):
                life.finish(name, job)
        life.settle()
        assert [len(answers) for _, answers in sorted(life.told().items())] == [1, 1, 2, 1, 1]
        assert life.told() == life.truth()


# --- what people hold when a new order comes -------------------------------------------------------------


@contextmanager
def new_order(folder: Path) -> Iterator[Life]:
    """A round is over and its order serves; everybody holds one job of the old order and one of the new one."""
    with at_rest(folder, images=24, min_new_labels=4) as life:
        for name in ("anna", "ben"):
            life.finish(name, life.inbox(name)[0])
        life.settle()
        life.trainer.finish()
        life.settle()
        assert life.models.installed == 1
        yield life


def ours(job: Job) -> set[float]:
    """Where our boxes begin: the number of the round whose model drew them."""
    return {s["points"][0] for s in job.shapes if s["source"] == "auto"}


def test_jobs_nobody_has_are_refreshed_at_once_and_held_ones_when_their_holder_has_been_quiet(tmp_path: Path) -> None:
    with new_order(tmp_path) as life:
        assert {x for job in life.free() for x in ours(job)} == {1.0}
        held = {j.id: ours(j) for name in ("anna", "ben") for j in life.inbox(name)}
        assert {0.0} in held.values()
        life.later(1000)
        life.settle()
        assert {j.id: ours(j) for name in ("anna", "ben") for j in life.inbox(name)} == held
        life.later(2000)
        life.compare()
        now = [j for name in ("anna", "ben") for j in life.inbox(name)]
        assert len(now) == 4
        assert {x for job in now for x in ours(job)} == {1.0}
        values = life.values()
        open_ = [n for n in values if life.cvat.world.jobs[n].state != "completed"]
        assert {j.id for j in now} == set(sorted(open_, key=lambda n: (-values[n], n))[:4])


def test_a_job_that_somebody_began_stays_theirs_with_its_boxes(tmp_path: Path) -> None:
    with new_order(tmp_path) as life:
        job = next(j for j in life.inbox("anna") if ours(j) == {0.0})
        tab = life.person("anna").open(job.id)
        tab.draw(job.start_frame, life.label["dog"], BOX)
        tab.save()
        before, boxes = life.checksum(), [s["id"] for s in job.shapes]
        life.later(3000)
        life.compare()
        assert job in life.inbox("anna")
        assert life.checksum() == before
        assert [s["id"] for s in job.shapes] == boxes


def test_who_saves_at_the_very_moment_a_job_is_taken_back_has_it_again_with_all_of_it(tmp_path: Path) -> None:
    with new_order(tmp_path) as life:
        saved: list[Job] = []

        def saves() -> None:
            job = life.cvat.world.jobs[int(life.cvat.log[-1][1].split("/")[3])]
            name = next(n for n in ("anna", "ben") if job in life.inbox(n))
            tab = life.person(name).open(job.id)
            tab.draw(job.start_frame, life.label["dog"], BOX)
            tab.save()
            saved.append(job)

        life.later(2000)
        life.cvat.faults.before("PATCH", ASSIGN, 1, saves)
        life.compare()
        (job,) = saved
        assert life.drawn(job) == [(job.start_frame, BOX)]
        assert ours(job) == {0.0}
        assert job in life.inbox("anna") + life.inbox("ben")


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
        (given,) = [job for job in life.inbox("anna") if job is not begun]
        before = life.checksum()
        life.leave(keep=keep)
        assert life.cvat.world.webhooks == {}
        theirs = (done, begun, given)  # who was at work a moment ago may have the next one open
        assert {j.id for j in life.jobs if j.assignee_id is not None} == {j.id for j in theirs}
        assert life.inbox("ben") == []
        assert life.checksum() == before
        auto = Counter(j.id for j in life.jobs for s in j.shapes if s["source"] == "auto")
        assert auto == {j.id: 2 for j in (life.jobs if keep else theirs)}
        assert life.row.state == "archived"
        life.settle()
        assert life.checksum() == before


def test_who_begins_a_job_while_hardfirst_leaves_keeps_it(tmp_path: Path) -> None:
    with at_rest(tmp_path) as life:
        job = life.inbox("anna")[0]

        def begins() -> None:
            tab = life.person("anna").open(job.id)
            tab.draw(job.start_frame, life.label["dog"], BOX)
            tab.save()

        life.cvat.faults.before("PATCH", rf"/api/jobs/{job.id}$", 1, begins)
        life.leave()
        assert life.inbox("anna") == [job]
        assert life.inbox("ben") == []
        assert life.drawn(job) == [(job.start_frame, BOX)]
