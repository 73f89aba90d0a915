"""Jobs of queue tasks as annotators get them: the best first, with our boxes, and the next part in time."""

from __future__ import annotations

from tests.contract.cvat_queue_desk import Desk, desk_fixture  # noqa: F401 - a fixture


def test_both_annotators_get_the_first_blocks(desk: Desk) -> None:
    desk.settle()
    desk.hand_out()
    (task,) = desk.tasks
    first = [j.id for j in desk.jobs(task)[:4]]
    assert sorted(j.id for name in ("anna", "ben") for j in desk.held(name)) == first
    assert [len(desk.held(name)) for name in ("anna", "ben")] == [2, 2]


def test_queue_jobs_are_pre_annotated_with_the_labels_of_their_own_project(desk: Desk) -> None:
    desk.settle()
    desk.preannotate()
    shapes = [s for j in desk.jobs(desk.tasks[0]) for s in j.shapes]
    assert {s["label_id"] for s in shapes} == {desk.label("cat")}
    assert sorted(s["frame"] for s in shapes) == list(range(100))
    assert {s["source"] for s in shapes} == {"auto"}


def test_only_queue_jobs_show_source_frames(desk: Desk) -> None:
    desk.settle()
    jobs = desk.reader.jobs()
    (task,) = desk.tasks
    third = next(j for j in jobs if j.id == desk.jobs(task)[2].id)
    source = next(j for j in jobs if j.task == desk.sources[0].id)
    assert desk.queue.wanted(third) == dict(zip(range(20, 30), desk.best(30)[20:], strict=True))
    assert desk.queue.wanted(source) == {}


def test_the_next_part_of_an_order_comes_before_annotators_run_dry(desk: Desk) -> None:
    desk.settle()
    (task,) = desk.tasks
    for job in desk.jobs(task)[:6]:
        desk.assign(job, "anna")
    assert desk.settle() == 0  # four are free, for two people with two each
    desk.assign(desk.jobs(task)[6], "anna")
    desk.settle()
    parts = desk.tasks
    assert [t.name for t in parts] == ["hardfirst queue: Birds, order 1", "hardfirst queue: Birds, order 1, part 2"]
    assert [s for t in parts for s in desk.samples(t)] == desk.best(140)
