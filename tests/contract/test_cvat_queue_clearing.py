"""Queue tasks that go: back to the inbox, and at disconnect."""

from __future__ import annotations

from tests.contract.cvat_queue_desk import Desk, desk_fixture, everywhere  # noqa: F401 - a fixture

# --- back to the inbox -----------------------------------------------------------------------------------


def wind_down(desk: Desk) -> None:
    while desk.queue.wind_down(desk.reader.jobs()):
        pass


def test_going_back_to_the_inbox_clears_what_nobody_has_worked_in(desk: Desk) -> None:
    desk.settle()
    assert desk.queue.left
    wind_down(desk)
    assert (desk.tasks, desk.memory.all("round_task"), desk.queue.left) == ([], {}, False)
    desk.cvat.log.clear()
    assert not desk.queue.wind_down(desk.reader.jobs())
    assert desk.writes() == []


def test_going_back_to_the_inbox_while_a_task_is_made_leaves_nothing_behind(desk: Desk) -> None:
    assert desk.step()
    assert desk.step()
    wind_down(desk)
    assert desk.tasks == []
    assert not desk.queue.left


def test_going_back_to_the_inbox_lets_people_finish_and_copies_what_they_did(desk: Desk) -> None:
    desk.settle()
    (task,) = desk.tasks
    first, second = desk.jobs(task)[:2]
    desk.assign(second, "ben")
    desk.answer(first, 0)
    wind_down(desk)
    assert len(desk.shapes(desk.best(1)[0])) == 1
    assert desk.queue.offers(desk.reader.jobs()) == []
    assert task in desk.tasks
    desk.answer(second, 10, name="ben")
    wind_down(desk)
    assert len(desk.shapes(desk.best(11)[10])) == 1
    assert task.name.endswith("(done)")
    assert not desk.queue.left


# --- disconnect ------------------------------------------------------------------------------------------


def test_removing_deletes_what_nobody_has_worked_in(desk: Desk) -> None:
    desk.settle()
    desk.preannotate()
    sibling = desk.saved["sibling"]
    (change,) = desk.queue.remove()
    assert str(change) == f"project {sibling} of the queue tasks: {desk.cvat.url}/projects/{sibling} -> deleted"
    assert list(desk.world.projects) == [desk.project.id]
    assert desk.world.webhooks == {}
    assert "sibling" not in desk.saved
    assert desk.queue.remove() == []
    assert desk.memory.all("mapped") == {}


def test_removing_leaves_what_people_did(desk: Desk) -> None:
    desk.settle()
    desk.answer(desk.jobs(desk.tasks[0])[0], 0)
    desk.settle()
    (change,) = desk.queue.remove()
    assert "stays: people work or worked in 1 of its tasks" in str(change)
    assert len(desk.tasks) == 1
    assert desk.world.webhooks == {}


def test_what_was_finished_a_moment_before_a_removal_is_copied_first(desk: Desk) -> None:
    desk.settle()
    desk.answer(desk.jobs(desk.tasks[0])[0], 0)
    desk.queue.remove()
    assert len(desk.shapes(desk.best(1)[0])) == 1


def test_answers_from_before_a_removal_are_found_again(desk: Desk) -> None:
    desk.settle()
    desk.answer(desk.jobs(desk.tasks[0])[0], 0)
    best = desk.best(10)
    desk.queue.remove()
    for kind in desk.memory.counts():
        desk.memory.drop(kind)
    desk.start()
    desk.settle()
    assert {s.id for s in desk.reader.samples() if s.answers} == set(best)
    assert set(everywhere(desk).values()) == {1}
    assert len(desk.world.projects) == 2
