"""Queue tasks when the order changes, or when a person deletes them."""

from __future__ import annotations

from tests.contract.cvat_queue_desk import BOX, FIRST, SECOND, Desk, desk_fixture, everywhere  # noqa: F401 - a fixture


def test_a_new_order_replaces_a_task_that_nobody_has_begun(desk: Desk) -> None:
    desk.settle()
    old = desk.tasks[0].id
    desk.version = SECOND
    desk.settle()
    assert [t.name for t in desk.tasks] == ["hardfirst queue: Birds, order 2"]
    assert desk.samples(desk.tasks[0]) == desk.best(100)
    rows = desk.memory.all("mapped")
    assert len(rows) == 100
    assert not any(key.startswith(f"{old}:") for key in rows)
    assert [row["state"] for row in desk.memory.all("round_task").values()] == ["open"]


def test_untouched_jobs_of_the_old_order_are_withdrawn_and_no_frame_is_there_twice(desk: Desk) -> None:
    desk.settle()
    desk.preannotate()
    desk.hand_out()
    old = desk.tasks[0]
    begun, done = desk.held("anna")[0], desk.held("ben")[0]
    editor = desk.person("anna").open(begun.id)
    editor.draw(begun.start_frame, desk.label("dog"), BOX)
    editor.save()
    desk.answer(done, done.start_frame, name="ben")
    desk.version = desk.state["active"] = SECOND
    desk.settle()
    desk.hand_out()
    assert [t.name[-7:] for t in desk.tasks] == ["order 1", "order 2"]
    assert {o.job.task for o in desk.queue.offers(desk.reader.jobs())} == {desk.tasks[1].id}
    assert set(everywhere(desk).values()) == {1}
    kept = {s for j in desk.jobs(old)[:4] for s in desk.samples(old)[j.start_frame : j.stop_frame + 1]}
    assert desk.samples(desk.tasks[1]) == desk.best(100, out=kept)  # type: ignore[arg-type]


def test_an_old_task_with_work_stays_and_is_renamed_when_it_is_over(desk: Desk) -> None:
    desk.settle()
    old = desk.tasks[0]
    desk.answer(desk.jobs(old)[0], 0)
    desk.version = SECOND
    desk.settle()
    assert old.name == "hardfirst queue: Birds, order 1 (done)"
    assert len(desk.tasks) == 2
    assert [len(desk.shapes(desk.samples(old)[0] or ""))] == [1]
    desk.start()
    jobs = desk.reader.jobs()
    desk.cvat.log.clear()
    assert not desk.queue.step(desk.version, desk.orders[desk.version], jobs, annotators=2)
    assert desk.cvat.log == []


def test_what_annotators_hold_unbegun_is_taken_back_by_the_inbox_and_then_goes(desk: Desk) -> None:
    desk.settle()
    desk.preannotate()
    desk.hand_out()
    old = desk.tasks[0]
    desk.version = desk.state["active"] = SECOND
    desk.settle()
    assert old in desk.tasks
    desk.clock[0] += 4_000
    for _ in range(4):
        desk.inbox.take_back(desk.reader.jobs())
        desk.hand_out()
    desk.settle()
    assert old not in desk.tasks


def test_an_order_that_begins_the_same_keeps_its_task(desk: Desk) -> None:
    desk.settle()
    desk.orders[SECOND] = dict(desk.orders[FIRST])
    desk.version = SECOND
    desk.cvat.log.clear()
    desk.settle()
    assert desk.writes() == []
    assert [row["version"] for row in desk.memory.all("round_task").values()] == [SECOND]


def test_somebodys_shape_in_an_unassigned_job_saves_a_closed_task(desk: Desk) -> None:
    desk.settle()
    old = desk.tasks[0]
    job = desk.jobs(old)[5]
    desk.person("plugin").call(
        "PATCH",
        f"/api/jobs/{job.id}/annotations",
        params={"action": "create"},
        json={"shapes": [{"type": "rectangle", "frame": 50, "label_id": desk.label("dog"), "points": BOX}]},
    )
    desk.version = SECOND
    desk.settle()
    assert old in desk.tasks
    assert len(job.shapes) == 1


def test_a_box_of_ours_that_somebody_deleted_is_work_too(desk: Desk) -> None:
    desk.settle()
    desk.preannotate()
    old = desk.tasks[0]
    desk.jobs(old)[0].shapes.pop(0)
    desk.version = SECOND
    desk.settle()
    assert old in desk.tasks


def test_an_order_that_changes_while_the_task_is_made_leaves_nothing_behind(desk: Desk) -> None:
    assert desk.step()
    assert desk.step()
    desk.version = SECOND
    desk.settle()
    assert [t.name for t in desk.tasks] == ["hardfirst queue: Birds, order 2"]
    assert desk.samples(desk.tasks[0]) == desk.best(100)


def test_a_queue_task_that_a_person_deleted_gives_its_frames_back(desk: Desk) -> None:
    desk.settle()
    desk.person("plugin").call("DELETE", f"/api/tasks/{desk.tasks[0].id}")
    desk.settle()
    assert desk.samples(desk.tasks[0]) == desk.best(100)
    assert len(desk.memory.all("round_task")) == 1


def test_a_deleted_project_of_queue_tasks_is_made_anew(desk: Desk) -> None:
    desk.settle()
    desk.person("plugin").call("DELETE", f"/api/projects/{desk.saved['sibling']}")
    desk.settle()
    assert desk.samples(desk.tasks[0]) == desk.best(100)
