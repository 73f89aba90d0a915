"""Answers as they are read from CVAT's jobs, also those of queue tasks, with the requests counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from common.errors import PlatformError
from cvat_adapter import answers as module
from cvat_adapter.nouns import sample_id
from tests.contract.cvat_site import BOX, EARLY, Site, answers_of, read, site_fixture  # noqa: F401 - a fixture
from tests.cvat_server import world as records
from tests.cvat_server.faults import faults_of
from tests.cvat_server.people import Manager

# --- answers ---------------------------------------------------------------------------------------------


def test_an_answer_is_what_a_person_left_on_a_frame_of_a_done_job(site: Site) -> None:
    task = site.task(4, segment_size=2)
    job = site.cvat.jobs(task)[0]
    site.done(job, 1)
    found = dict(site.reader.annotations())
    empty, drawn = found[sample_id(task.id, 0)][0], found[sample_id(task.id, 1)][0]
    assert set(found) == {empty.sample, drawn.sample}
    assert (empty.boxes, empty.skipped) == ((), False)
    assert (drawn.id, drawn.person, drawn.updated) == (f"{job.id}:1", str(job.assignee_id), job.updated_date)
    assert drawn.lead_time is None
    (box,) = drawn.boxes
    assert (box.name, box.origin) == ("bird", "manual")
    assert box.xyxy == pytest.approx((0.1, 0.1, 0.5, 0.5))


def test_a_job_counts_from_the_stage_that_was_asked_for(site: Site) -> None:
    task = site.task(1)
    (job,) = site.cvat.jobs(task)
    site.done(job)
    reader = site.reader_of(done_stage="acceptance")
    assert (read(reader.annotations()), list(answers_of(reader).values())) == ({}, [0])
    with site.manager() as boss:
        boss.accept(job.id)
    assert (list(read(reader.annotations())), list(answers_of(reader).values())) == ([sample_id(task.id, 0)], [1])


@pytest.mark.parametrize(
    ("moves", "counting"),
    [
        ([], ["annotation"]),
        ([("new", "validation")], ["annotation"]),
        ([("new", "validation"), ("in progress", "validation")], ["annotation"]),
        ([("new", "validation"), ("rejected", "validation")], []),
        ([("completed", "validation")], ["annotation", "validation"]),
        ([("completed", "validation"), ("new", "acceptance")], ["annotation", "validation"]),
        ([("completed", "validation"), ("rejected", "acceptance")], []),
        ([("completed", "acceptance")], ["annotation", "validation", "acceptance"]),
        ([("completed", "acceptance"), ("new", "validation")], ["annotation"]),
        ([("completed", "acceptance"), ("new", "annotation")], []),
    ],
    ids=lambda moves: " then ".join(" ".join(one) for one in moves) if moves and isinstance(moves[0], tuple) else None,
)
def test_a_job_that_is_moved_on_keeps_the_labels_of_the_stage_before(
    site: Site, moves: list[tuple[str, str]], counting: list[str]
) -> None:
    task = site.task(1)
    (job,) = site.cvat.jobs(task)
    site.done(job, 0)
    with site.manager() as boss:
        for state, stage in moves:
            boss.set_state(job.id, state, stage=stage)
    sample = sample_id(task.id, 0)
    for stage in ("annotation", "validation", "acceptance"):
        reader, answers = site.reader_of(done_stage=stage), [f"{job.id}:0"] if stage in counting else []
        assert answers_of(reader) == {sample: len(answers)}
        assert read(reader.annotations()) == ({sample: answers} if answers else {})
        assert read(reader.annotations(since=EARLY)) == {sample: answers}
        assert read(reader.annotations(samples=[sample])) == {sample: answers}


def test_a_done_job_over_which_cvat_breaks_down_is_passed_by_and_read_again(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    task = site.task(6, segment_size=2)
    bad, *others = site.cvat.jobs(task)
    for job in (bad, *others):
        site.done(job, job.start_frame)
    reader = site.reader
    faults_of(site.cvat.world).add(rf"/api/jobs/{bad.id}/annotations", status=500)
    good = {sample_id(task.id, n): [f"{others[n // 2 - 1].id}:{n}"] for n in range(2, 6)}
    assert read(reader.annotations()) == good, "what is known of the others' samples stays: they do not come"
    assert f"the answers of job {bad.id} are passed by" in caplog.text
    assert answers_of(reader)[sample_id(task.id, 0)] == 1, "so that the comparison finds it"
    watermark = max(job.updated_date for job in others)
    assert read(reader.annotations(samples=[sample_id(task.id, 0)])) == {}
    faults_of(site.cvat.world).clear()
    found = {sample_id(task.id, n): [f"{bad.id}:{n}"] for n in range(2)}
    assert read(reader.annotations(since=watermark)) == found, "also where it was known in an older state"
    assert read(reader.annotations(since=watermark)) == {}
    assert read(reader.annotations(samples=list(found))) == found


def test_a_cvat_that_breaks_down_over_every_job_is_one_trouble(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 2)
    task = site.task(3, segment_size=1)
    for job in site.cvat.jobs(task):
        site.done(job)
    faults_of(site.cvat.world).add(r"/api/jobs/\d+/annotations", status=500)
    with pytest.raises(PlatformError, match="status 500"):
        list(site.reader.annotations())


def test_only_jobs_that_changed_since_are_read(site: Site) -> None:
    task = site.task(4, segment_size=2)
    first, second = site.cvat.jobs(task)
    site.done(first)
    watermark = first.updated_date
    assert read(site.reader.annotations(since=watermark)) == {}
    assert site.asked() == {"GET api/jobs": 1}
    site.done(second)
    assert list(read(site.reader.annotations(since=watermark))) == [sample_id(task.id, 2), sample_id(task.id, 3)]


@pytest.mark.parametrize("back", [Manager.reject, Manager.reopen])
def test_a_job_that_goes_back_takes_its_answers_along(site: Site, back: Callable[[Manager, int], Any]) -> None:
    task = site.task(2)
    (job,) = site.cvat.jobs(task)
    site.done(job, 0)
    watermark = job.updated_date
    with site.manager() as boss:
        back(boss, job.id)
    samples = [sample_id(task.id, n) for n in range(2)]
    site.cvat.log.clear()
    assert read(site.reader.annotations(since=watermark)) == {s: [] for s in samples}
    assert read(site.reader.annotations(samples=samples[:1])) == {samples[0]: []}
    assert read(site.reader.annotations()) == {}
    assert "GET api/jobs/N/annotations" not in site.asked()


def test_named_samples_are_read_and_no_others(site: Site) -> None:
    task = site.task(6, segment_size=2)
    for job in site.cvat.jobs(task):
        site.done(job)
    asked = [sample_id(task.id, 5), sample_id(task.id, 0), sample_id(task.id, 99), "77:0"]
    found = read(site.reader.annotations(samples=asked))
    assert {sample: len(ids) for sample, ids in found.items()} == {asked[0]: 1, asked[1]: 1, asked[2]: 0, asked[3]: 0}
    assert site.asked()["GET api/jobs/N/annotations"] == 2


def test_a_frame_in_two_overlapping_jobs_is_one_sample_with_two_answers(site: Site) -> None:
    task = site.task(5, segment_size=3, overlap=1)
    first, second = site.cvat.jobs(task)
    site.done(first, 2)
    shared = sample_id(task.id, 2)
    watermark = first.updated_date
    site.done(second, 2)
    assert answers_of(site.reader)[shared] == 2
    wanted = [f"{first.id}:2", f"{second.id}:2"]
    assert read(site.reader.annotations())[shared] == wanted
    assert read(site.reader.annotations(since=watermark))[shared] == wanted  # only the second job changed after it
    assert read(site.reader.annotations(samples=[shared])) == {shared: wanted}
    assert all(len(one.boxes) == 1 for one in dict(site.reader.annotations())[shared])


def test_deleted_frames_have_no_answers(site: Site) -> None:
    task = site.task(2)
    (job,) = site.cvat.jobs(task)
    site.done(job, 0, 1)
    with site.manager() as boss:
        boss.call("PATCH", f"/api/tasks/{task.id}/data/meta", json={"deleted_frames": [0]})
    assert read(site.reader.annotations()) == {sample_id(task.id, 1): [f"{job.id}:1"]}


def test_a_track_ends_with_its_job_also_when_the_whole_task_is_read(site: Site) -> None:
    task = site.task(8, segment_size=2)
    jobs = site.cvat.jobs(task)
    shape = {"type": "rectangle", "frame": 0, "points": BOX, "outside": False}
    body = {"tracks": [{"label_id": site.label, "frame": 0, "shapes": [shape]}]}
    with site.manager() as boss:
        boss.call("PATCH", f"/api/jobs/{jobs[0].id}/annotations/", params={"action": "create"}, json=body)
        for job in jobs:
            boss.set_state(job.id, "completed")
    site.cvat.log.clear()
    found = dict(site.reader.annotations())
    assert [len(found[sample_id(task.id, n)][0].boxes) for n in range(8)] == [1, 1, 0, 0, 0, 0, 0, 0]
    assert site.asked()["GET api/tasks/N/annotations"] == 1


def test_the_first_reading_costs_little(site: Site) -> None:
    tasks = [site.task(20, segment_size=1) for _ in range(12)]
    for task in tasks:
        for job in site.cvat.jobs(task):
            job.state = "completed"
    site.cvat.log.clear()
    reader = site.reader
    assert len(list(reader.samples())) == 240
    assert len(list(reader.annotations())) == 240
    assert site.asked() == {
        "GET api/tasks": 1,
        "GET api/jobs": 2 * 3,
        "GET api/labels": 1,
        "GET api/tasks/N/data/meta": 12,
        "GET api/tasks/N/annotations": 12,
    }


def test_a_second_reading_asks_only_for_what_changed(site: Site) -> None:
    tasks = [site.task(4, segment_size=2) for _ in range(5)]
    reader = site.reader
    newest = max(one.updated for one in reader.samples() if one.updated)
    site.done(site.cvat.jobs(tasks[2])[0], 0)
    list(reader.samples())
    assert len(list(reader.annotations(since=newest))) == 2
    assert site.asked() == {
        "GET api/tasks": 1,
        "GET api/jobs": 2,
        "GET api/labels": 1,
        "GET api/tasks/N/data/meta": 1,
        "GET api/jobs/N/annotations": 1,
    }


def test_a_task_too_large_to_be_read_at_once_is_read_job_by_job(site: Site) -> None:
    task = site.task(6, segment_size=1)
    for job in site.cvat.jobs(task):
        site.done(job, job.start_frame)
    faults_of(site.cvat.world).add(rf"/api/tasks/{task.id}/annotations", status=504)
    found = dict(site.reader.annotations())
    assert [len(answer.boxes) for answers in found.values() for answer in answers] == [1] * 6


# --- queue tasks -----------------------------------------------------------------------------------------


@dataclass
class Queue:
    """A sibling project with a task of two frames: the source's frames 3 and 0."""

    source: records.Task
    task: records.Task
    label: int


@pytest.fixture
def queue(site: Site) -> Queue:
    boss = site.cvat.world.users[site.project.owner_id]
    sibling = site.cvat.add_project("queue", ["bird"], owner=boss, org=site.cvat.world.organizations[1])
    source, task = site.task(4, segment_size=2), site.task(2, sibling)
    site.state["sibling"] = sibling.id
    site.memory.put("mapped", {f"{task.id}:0": f"{source.id}:3", f"{task.id}:1": f"{source.id}:0"})
    return Queue(source, task, site.cvat.world.labels_of(sibling)[0].id)


def test_a_frame_of_a_queue_task_is_an_answer_about_its_source(site: Site, queue: Queue) -> None:
    (job,) = site.cvat.jobs(queue.task)
    site.done(job, 0, label=queue.label)
    last, first = f"{queue.source.id}:3", f"{queue.source.id}:0"
    assert answers_of(site.reader) == {f"{queue.source.id}:{n}": int(n in (0, 3)) for n in range(4)}
    found = dict(site.reader.annotations())
    assert {sample: [a.id for a in answers] for sample, answers in found.items()} == {
        first: [f"{job.id}:1"],
        last: [f"{job.id}:0"],
    }
    assert [box.name for box in found[last][0].boxes] == ["bird"]


def test_both_places_of_a_sample_are_read_whichever_changed(site: Site, queue: Queue) -> None:
    (job,), (source, _) = site.cvat.jobs(queue.task), site.cvat.jobs(queue.source)
    site.done(source)
    watermark = source.updated_date
    site.done(job)
    first = f"{queue.source.id}:0"
    wanted = [f"{source.id}:0", f"{job.id}:1"]
    assert read(site.reader.annotations(since=watermark))[first] == wanted
    assert read(site.reader.annotations(samples=[first])) == {first: wanted}
    assert read(site.reader.annotations())[first] == wanted
    assert answers_of(site.reader)[first] == 2


def test_frames_of_queue_tasks_are_no_samples_and_unknown_ones_no_answers(site: Site, queue: Queue) -> None:
    site.memory.drop("mapped", [f"{queue.task.id}:0"])
    site.done(site.cvat.jobs(queue.task)[0])
    assert {int(s.partition(":")[0]) for s in answers_of(site.reader)} == {queue.source.id}
    assert list(read(site.reader.annotations())) == [f"{queue.source.id}:0"]


def test_jobs_and_tasks_of_both_projects_come_in_one_listing(site: Site, queue: Queue) -> None:
    site.cvat.log.clear()
    assert {task.project for task in site.reader.tasks().values()} == {site.project.id, site.state["sibling"]}
    assert len(site.reader.jobs()) == 3
    assert site.asked() == {"GET api/tasks": 1, "GET api/jobs": 1}
