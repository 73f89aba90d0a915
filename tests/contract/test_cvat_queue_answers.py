"""Answers in queue tasks: what they say of their source frames, and how they are copied to the source."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest

from common.domain import QueueItem, ShownBox
from cvat_adapter import wire
from tests.contract.cvat_queue_desk import BOX, FIRST, SECOND, Desk, desk_fixture  # noqa: F401 - a fixture
from tests.cvat_server import world as stored
from tests.cvat_server.faults import faults_of


def test_a_finished_queue_job_answers_its_source_frames(desk: Desk) -> None:
    desk.settle()
    job = desk.jobs(desk.tasks[0])[0]
    desk.answer(job, 0, 3)
    answers = {s: [b.name for a in found for b in a.boxes] for s, found in desk.reader.annotations() if found}
    best = desk.best(10)
    assert answers == {s: ["dog"] if s in (best[0], best[3]) else [] for s in best}
    assert {s.id for s in desk.reader.samples() if s.answers} == set(best)


def test_its_shapes_are_copied_to_the_source_once_with_their_source_kept(desk: Desk) -> None:
    desk.settle()
    desk.preannotate()
    job, best = desk.jobs(desk.tasks[0])[0], desk.best(10)
    desk.assign(job, "ben")
    editor = desk.person("ben").open(job.id)
    moved, relabelled = editor.on_frame(0)[0]["id"], editor.on_frame(1)[0]["id"]
    editor.move(moved, BOX)
    editor.relabel(relabelled, desk.label("dog"))
    editor.delete(editor.on_frame(2)[0]["id"])
    editor.draw(3, desk.label("dog"), BOX)
    editor.finish()
    desk.settle()
    names = {one.id: one.name for one in desk.world.labels_of(desk.project)}
    found = [sorted((names[s["label_id"]], s["source"]) for s in desk.shapes(sample)) for sample in best[:5]]
    assert found == [
        [("cat", "semi-auto")],
        [("dog", "semi-auto")],
        [],
        [("cat", "auto"), ("dog", "manual")],
        [("cat", "auto")],
    ]
    tail = desk.world.labels_of(desk.project)[0].attributes[0].id
    assert desk.shapes(best[0])[0]["attributes"] == [{"spec_id": tail, "value": "no"}]
    assert desk.shapes(best[0])[0]["points"] == BOX
    desk.start()
    assert desk.settle() == 0
    assert [len(desk.shapes(sample)) for sample in best[:5]] == [1, 1, 0, 2, 1]


def test_answers_go_back_in_one_write_per_source_job(desk: Desk) -> None:
    desk.settle()
    desk.answer(desk.jobs(desk.tasks[0])[0], *range(10))
    targets = {desk.source(s).id for s in desk.best(10)}
    desk.cvat.log.clear()
    desk.settle()
    sent = [path for method, path in desk.writes("PATCH", "/api/jobs/") if "action=create" in path]
    assert sorted(sent) == sorted(f"/api/jobs/{n}/annotations/?action=create" for n in targets)


def test_source_jobs_that_somebody_has_are_not_written_to(desk: Desk) -> None:
    desk.settle()
    sample = desk.best(1)[0]
    desk.assign(desk.source(sample), "ben")
    desk.answer(desk.jobs(desk.tasks[0])[0], *range(10))
    desk.settle()
    assert desk.source(sample).shapes == []
    assert all(desk.shapes(s) for s in desk.best(10) if desk.source(s) is not desk.source(sample))


def test_a_persons_shape_at_the_source_is_never_touched_or_doubled(desk: Desk) -> None:
    desk.settle()
    first, second = desk.best(2)
    source = desk.source(first)
    theirs = {"type": "rectangle", "label_id": desk.world.labels_of(desk.project)[0].id, "points": [1, 1, 9, 9]}
    body = {"shapes": [{**theirs, "frame": int(first.partition(":")[2]), "source": "manual"}]}
    path = f"/api/jobs/{source.id}/annotations"
    desk.person("plugin").call("PATCH", path, params={"action": "create"}, json=body)
    before = copy.deepcopy(desk.shapes(first))
    desk.answer(desk.jobs(desk.tasks[0])[0], 0, 1)
    desk.settle()
    assert desk.shapes(first) == before
    assert [s["points"] for s in desk.shapes(second)] == [BOX]


def test_our_own_boxes_at_the_source_make_room_for_the_answer(desk: Desk) -> None:
    desk.settle()
    sample = desk.best(1)[0]
    source = next(j for j in desk.reader.jobs() if j.id == desk.source(sample).id)
    boxes = (ShownBox("cat", (1.0, 2.0, 30.0, 40.0), 0.75),)
    frame = int(sample.partition(":")[2])
    shapes = wire.shapes(QueueItem(sample, 0.0, boxes, 64, 48), frame, desk.reader.labels())
    desk.pre.write(source, {frame: shapes}, FIRST)
    assert len(desk.shapes(sample)) == 1
    desk.answer(desk.jobs(desk.tasks[0])[0], 0)
    desk.settle()
    assert [(s["source"], s["points"]) for s in desk.shapes(sample)] == [("manual", BOX)]


def test_a_refused_copy_is_said_and_holds_up_nothing(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.settle()
    desk.answer(desk.jobs(desk.tasks[0])[0], 0)
    faults_of(desk.world).add(r"/api/jobs/\d+/annotations", "PATCH", status=400, times=1)
    with caplog.at_level(logging.INFO):
        desk.settle()
    assert "stays in the queue task alone" in caplog.text
    assert desk.shapes(desk.best(1)[0]) == []
    assert {s.id for s in desk.reader.samples() if s.answers} == set(desk.best(10))


def test_a_deleted_frame_of_a_queue_task_answers_nothing(desk: Desk) -> None:
    desk.settle()
    (task,) = desk.tasks
    desk.person("plugin").call("PATCH", f"/api/tasks/{task.id}/data/meta", json={"deleted_frames": [0]})
    desk.answer(desk.jobs(task)[0], 0, 1)
    desk.settle()
    assert [len(desk.shapes(s)) for s in desk.best(2)] == [0, 1]


def drawn_track(desk: Desk, kind: str, points: list[float]) -> dict[str, Any]:
    """On frames 1 to 3 of the first queue job: it moves 20 pixels to the right, and is gone on frame 4."""
    moved = [v + 20 * (i % 2 == 0) for i, v in enumerate(points)]
    keys = [(1, points, False), (3, moved, False), (4, moved, True)]
    shapes = [
        {"type": kind, "frame": n, "points": at, "outside": gone, "occluded": False, "attributes": []}
        for n, at, gone in keys
    ]
    return {
        "frame": 1,
        "label_id": desk.label("dog"),
        "group": 0,
        "source": "manual",
        "attributes": [],
        "shapes": shapes,
    }


def draw_track(desk: Desk, job: stored.Job, track: dict[str, Any]) -> None:
    body = {"version": 0, "tags": [], "shapes": [], "tracks": [track]}
    path = f"/api/jobs/{job.id}/annotations"
    desk.person("plugin").call("PATCH", path, params={"action": "create"}, json=body)


def test_a_track_comes_back_as_a_rectangle_on_each_frame_where_it_is_seen(desk: Desk) -> None:
    desk.settle()
    job = desk.jobs(desk.tasks[0])[0]
    draw_track(desk, job, drawn_track(desk, "rectangle", [10.0, 8.0, 30.0, 30.0]))
    desk.answer(job, 0)
    desk.settle()
    found = [[(s["points"], s["source"]) for s in desk.shapes(sample)] for sample in desk.best(5)]
    assert found == [
        [(BOX, "manual")],
        [([10.0, 8.0, 30.0, 30.0], "manual")],
        [([20.0, 8.0, 40.0, 30.0], "manual")],
        [([30.0, 8.0, 50.0, 30.0], "manual")],
        [],
    ]


def test_a_track_that_cannot_be_copied_is_said_and_keeps_its_task(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.settle()
    (task,) = desk.tasks
    job = desk.jobs(task)[0]
    draw_track(desk, job, drawn_track(desk, "polygon", [10.0, 8.0, 30.0, 8.0, 20.0, 30.0]))
    with caplog.at_level(logging.WARNING):
        desk.answer(job, 0)
        desk.settle()
    assert f"queue job {job.id} has 1 tracks that are no rectangles" in caplog.text
    assert [len(desk.shapes(s)) for s in desk.best(3)] == [1, 0, 0]
    desk.version = SECOND
    desk.settle()
    desk.queue.remove()
    assert task in desk.tasks
    assert len(job.tracks) == 1


def test_a_reopened_queue_job_deletes_nothing_and_is_said(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.settle()
    job = desk.jobs(desk.tasks[0])[0]
    desk.answer(job, 0)
    desk.settle()
    desk.person("plugin").reopen(job.id)
    with caplog.at_level(logging.WARNING):
        desk.settle()
        desk.settle()
    assert caplog.text.count(f"queue job {job.id} was reopened") == 1
    desk.person("anna").annotate(job.id, [(1, desk.label("dog"), BOX)])
    desk.settle()
    assert [len(desk.shapes(s)) for s in desk.best(2)] == [1, 0]
    said = {s: len(a[0].boxes) for s, a in desk.reader.annotations() if a}
    assert [said[s] for s in desk.best(2)] == [1, 1]
