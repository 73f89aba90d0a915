"""Queue tasks as they are made: frames in exact order, labels and webhook of their project, requests, bad frames."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import pytest

from cvat_adapter.nouns import sample_id
from tests.contract.cvat_queue_desk import FIRST, SECOND, Desk, desk_fixture  # noqa: F401 - a fixture
from tests.cvat_server import world as stored
from tests.cvat_server.faults import faults_of


def test_the_jobs_of_a_queue_task_hold_the_best_frames_in_exact_order(desk: Desk) -> None:
    desk.settle()
    (task,) = desk.tasks
    assert task.name == "hardfirst queue: Birds, order 1"
    assert desk.samples(task) == desk.best(100)
    assert [len(j.frame_numbers) for j in desk.jobs(task)] == [10] * 10
    offers = desk.queue.offers(desk.reader.jobs())
    assert [o.job.id for o in offers] == [j.id for j in desk.jobs(task)]
    assert [o.value for o in offers] == sorted({o.value for o in offers}, reverse=True)
    assert offers[0].value == 1
    assert offers[0].sample == desk.best(1)[0]


def test_a_queue_task_shows_the_very_images_of_the_source(desk: Desk) -> None:
    desk.settle()
    (task,) = desk.tasks
    frames = {sample_id(t.id, n): f.data for t in desk.sources for n, f in enumerate(t.frames)}
    assert [f.data for f in task.frames] == [frames[s] for s in desk.best(100)]
    assert not (desk.settings.folder / "queue-tasks" / str(desk.project.id)).exists()


def test_queue_tasks_are_in_a_project_of_their_own_with_the_same_labels(desk: Desk) -> None:
    desk.settle()
    (task,) = desk.tasks
    sibling = desk.world.projects[task.project_id or 0]
    assert sibling.name == "Birds (hardfirst queue)"
    assert sibling.organization_id == desk.project.organization_id
    assert desk.saved["sibling"] == sibling.id

    def of(project: stored.Project) -> list[Any]:
        labels = desk.world.labels_of(project)
        return [(one.name, one.type, one.color, [(a.name, a.values) for a in one.attributes]) for one in labels]

    assert of(sibling) == of(desk.project)
    assert {t.id for t in desk.world.tasks.values() if t.project_id == desk.project.id} == {t.id for t in desk.sources}


def test_cvat_tells_us_of_the_queue_tasks_as_of_the_project(desk: Desk) -> None:
    desk.settle()
    (hook,) = desk.world.webhooks.values()
    assert (hook.project_id, hook.target_url) == (desk.saved["sibling"], "http://127.0.0.1:9/webhooks")
    assert hook.secret == desk.settings.secrets()[0]


@pytest.mark.parametrize("how", ["deleted", "elsewhere", "fewer events"])
def test_a_webhook_that_no_longer_tells_of_the_queue_tasks_is_put_right(desk: Desk, how: str) -> None:
    desk.settle()
    (hook,) = desk.world.webhooks.values()
    if how == "deleted":
        desk.world.webhooks.clear()
    elif how == "elsewhere":
        hook.target_url = "http://elsewhere.example/webhooks"
    else:
        hook.events = ["update:job"]
    (drift,) = desk.queue.drift()
    assert drift.healed
    (hook,) = desk.world.webhooks.values()
    assert hook.target_url == "http://127.0.0.1:9/webhooks"
    assert {"update:job", "create:task"} <= set(hook.events)
    assert desk.saved["sibling_hook"]["id"] == hook.id
    assert desk.queue.drift() == []


def test_a_new_address_of_ours_reaches_the_queue_tasks_with_the_next_one(desk: Desk) -> None:
    desk.settle()
    desk.settings = desk.settings.model_copy(update={"url": "http://127.0.0.1:10"})
    desk.version = SECOND
    desk.start()
    desk.settle()
    (hook,) = desk.world.webhooks.values()
    assert hook.target_url == "http://127.0.0.1:10/webhooks"


def test_a_webhook_of_the_queue_tasks_that_a_person_switched_off_stays_off(desk: Desk) -> None:
    desk.settle()
    (hook,) = desk.world.webhooks.values()
    hook.is_active, hook.events = False, []
    assert desk.queue.drift() == []
    assert not hook.is_active


def test_a_project_of_queue_tasks_that_is_gone_is_no_drift(desk: Desk) -> None:
    desk.settle()
    desk.person("plugin").call("DELETE", f"/api/projects/{desk.saved['sibling']}")
    assert desk.queue.drift() == []
    assert "sibling" not in desk.saved


def rename(desk: Desk, **names: str) -> None:
    """Labels of the source, old name -> new name, as a person does it."""
    ids = {one.name: one.id for one in desk.world.labels_of(desk.project)}
    for old in names:  # CVAT takes no name twice
        desk.world.labels[ids[old]].name = f"{old} for a moment"
    for old, new in names.items():
        desk.person("plugin").call("PATCH", f"/api/labels/{ids[old]}", json={"name": new})


def answered(desk: Desk) -> set[str]:
    return {b.name for _, found in desk.reader.annotations() for a in found for b in a.boxes}


@pytest.mark.parametrize("names", [{"dog": "hound"}, {"dog": "cat", "cat": "dog"}], ids=["renamed", "swapped"])
def test_a_renamed_label_is_renamed_in_the_queue_and_its_answers_count(desk: Desk, names: dict[str, str]) -> None:
    desk.settle()
    job, sibling = desk.jobs(desk.tasks[0])[0], desk.queue.labels().ids
    desk.answer(job, 0)
    rename(desk, **names)
    (drift,) = desk.queue.drift()
    assert drift.healed
    assert desk.queue.labels().ids == {names.get(name, name): number for name, number in sibling.items()}
    assert answered(desk) == {names["dog"]}
    assert desk.queue.drift() == []
    desk.settle()
    (copy_,) = desk.shapes(desk.best(1)[0])
    assert desk.world.labels[copy_["label_id"]].name == names["dog"]


def test_answers_under_a_label_renamed_a_moment_ago_are_copied_under_its_new_name(desk: Desk) -> None:
    desk.settle()
    desk.answer(desk.jobs(desk.tasks[0])[0], 0)
    rename(desk, dog="hound")
    desk.settle()
    (copy_,) = desk.shapes(desk.best(1)[0])
    assert desk.world.labels[copy_["label_id"]].name == "hound"
    assert set(desk.queue.labels().ids) == {"cat", "hound"}


def test_a_label_that_came_later_is_in_the_next_queue_task(desk: Desk) -> None:
    desk.settle()
    path = f"/api/projects/{desk.project.id}"
    desk.person("plugin").call("PATCH", path, json={"labels": [{"name": "owl", "type": "rectangle"}]})
    desk.version = SECOND
    desk.settle()
    assert list(desk.queue.labels().ids) == ["cat", "dog", "owl"]


def test_nothing_is_sent_when_there_is_nothing_to_do(desk: Desk) -> None:
    desk.settle()
    jobs = desk.reader.jobs()
    desk.cvat.log.clear()
    assert not desk.queue.step(desk.version, desk.orders[desk.version], jobs, annotators=2)
    assert desk.cvat.log == []


def test_a_queue_task_costs_a_request_a_chunk_and_a_few_more(desk: Desk) -> None:
    desk.cvat.log.clear()
    desk.settle()
    reads = desk.cvat.log.matching("GET")
    assert len([r for r in reads if "type=chunk" in r[1]]) == 2
    assert [r for r in reads if "type=frame" in r[1]] == []
    assert len([r for r in reads if r[1].endswith("/data/meta")]) == 3
    assert Counter(path.partition("?")[0] for _, path in desk.writes()) == {
        "/api/projects": 1,
        "/api/webhooks": 1,
        "/api/tasks": 1,
        f"/api/tasks/{desk.tasks[0].id}/data/": 3,
    }


def test_few_frames_of_a_chunk_come_one_by_one(desk: Desk) -> None:
    desk.orders[FIRST] = {s: {"order": n} for n, s in enumerate(desk.best(3))}
    desk.cvat.log.clear()
    desk.settle()
    assert [r for r in desk.cvat.log if "type=chunk" in r[1]] == []
    assert desk.samples(desk.tasks[0]) == list(desk.orders[FIRST])


def test_a_corrupt_image_is_left_out_and_said(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    bad = desk.best(3)[1]
    task, _, frame = bad.partition(":")
    desk.world.tasks[int(task)].frames[int(frame)].data = b"no image"
    with caplog.at_level(logging.WARNING):
        desk.settle()
    assert desk.samples(desk.tasks[0]) == [s for s in desk.best(100) if s != bad]
    assert f"frame {frame} of task {task}" in caplog.text
    desk.version = SECOND
    desk.settle()
    assert bad not in desk.samples(desk.tasks[-1])


def test_a_frame_that_cvat_does_not_give_is_left_out_of_this_task(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    one, other = desk.sources
    desk.orders[FIRST] = {s: {"order": n} for n, s in enumerate([f"{one.id}:3", f"{other.id}:0", f"{one.id}:1"])}
    fault = faults_of(desk.world).add(rf"/api/tasks/{other.id}/data/$", "GET", status=500)
    with caplog.at_level(logging.WARNING):
        desk.settle()
    assert desk.samples(desk.tasks[0]) == [f"{one.id}:3", f"{one.id}:1"]
    assert f"fetch frame 0 of task {other.id}" in caplog.text
    faults_of(desk.world).clear(fault)
    assert desk.settle() == 0
    desk.clock[0] += 4_000
    desk.settle()
    assert desk.samples(desk.tasks[1]) == [f"{other.id}:0"]


def test_a_frame_that_was_deleted_at_the_source_is_not_queued(desk: Desk) -> None:
    task, _, frame = desk.best(1)[0].partition(":")
    desk.person("plugin").call("PATCH", f"/api/tasks/{task}/data/meta", json={"deleted_frames": [int(frame)]})
    desk.settle()
    assert desk.samples(desk.tasks[0]) == desk.best(100)[1:]
