"""Queue tasks when a request or the process is cut off anywhere, and when two processes work at them."""

from __future__ import annotations

from typing import Any

import pytest

from common.errors import PlatformError
from tests.contract.cvat_queue_desk import SECOND, Desk, desk_fixture  # noqa: F401 - a fixture
from tests.cvat_server.faults import faults_of

# --- being cut off ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [False, True], ids=["before it is done", "after it is done"])
@pytest.mark.parametrize("number", range(1, 7))
def test_a_write_that_is_cut_off_while_a_task_is_made_is_made_good(desk: Desk, number: int, *, late: bool) -> None:
    """Writes: project, webhook, task, and three of the upload."""
    faults = faults_of(desk.world)
    faults.before("POST", "", number, lambda: faults.add("", "POST", hang_up=True, late=late, times=1))
    crashes = 0
    for _ in range(20):
        try:
            desk.settle()
            break
        except PlatformError:
            crashes += 1
            desk.start()
    assert crashes <= 1
    assert len(desk.tasks) == 1
    assert desk.samples(desk.tasks[0]) == desk.best(100)
    assert [row["state"] for row in desk.memory.all("round_task").values()] == ["open"]
    assert len(desk.memory.all("mapped")) == 100
    assert len(desk.world.projects) == 2
    assert len(desk.world.webhooks) == 1


class PulledPlugError(Exception):
    """The process ends here."""


class Plug:
    """A memory that ends the process after so many writes."""

    def __init__(self, memory: Any, left: int) -> None:
        self._memory, self._left = memory, left

    def __getattr__(self, name: str) -> Any:
        if name in ("put", "add", "drop"):
            self._left -= 1
            if self._left < 0:
                raise PulledPlugError
        return getattr(self._memory, name)


@pytest.mark.parametrize("writes", range(7))
def test_a_process_that_ends_between_two_writes_on_the_disk_makes_one_task(desk: Desk, writes: int) -> None:
    whole, desk.memory = desk.memory, Plug(desk.memory, writes)  # type: ignore[assignment]
    desk.start()
    try:
        desk.settle()
    except PulledPlugError:
        desk.memory = whole
        desk.start()
        desk.settle()
    desk.memory = whole
    assert [desk.samples(t) for t in desk.tasks] == [desk.best(100)]
    assert whole.all("round_plan") == {}
    assert len(whole.all("mapped")) == 100


@pytest.mark.parametrize("writes", range(10))
def test_a_process_that_ends_while_answers_are_copied_copies_each_once(desk: Desk, writes: int) -> None:
    desk.settle()
    desk.answer(desk.jobs(desk.tasks[0])[0], *range(10))
    whole, desk.memory = desk.memory, Plug(desk.memory, writes)  # type: ignore[assignment]
    desk.start()
    try:
        desk.settle()
    except PulledPlugError:
        desk.memory = whole
        desk.start()
        desk.settle()
    desk.memory = whole
    assert [len(desk.shapes(s)) for s in desk.best(10)] == [1] * 10


@pytest.mark.parametrize("late", [False, True], ids=["before it is done", "after it is done"])
def test_a_copy_that_is_cut_off_is_finished_and_not_doubled(desk: Desk, *, late: bool) -> None:
    desk.settle()
    desk.answer(desk.jobs(desk.tasks[0])[0], *range(10))
    faults = faults_of(desk.world)
    faults.add(r"/api/jobs/\d+/annotations", "PATCH", hang_up=True, late=late, times=1)
    with pytest.raises(PlatformError):
        desk.settle()
    desk.start()
    desk.settle()
    assert [len(desk.shapes(s)) for s in desk.best(10)] == [1] * 10


@pytest.mark.parametrize("late", [False, True], ids=["before it is done", "after it is done"])
def test_a_deletion_that_is_cut_off_is_finished(desk: Desk, *, late: bool) -> None:
    desk.settle()
    desk.version = SECOND
    faults_of(desk.world).add(r"/api/tasks/\d+$", "DELETE", hang_up=True, late=late, times=1)
    with pytest.raises(PlatformError):
        desk.settle()
    desk.start()
    desk.settle()
    assert [desk.samples(t) for t in desk.tasks] == [desk.best(100)]
    assert len(desk.memory.all("mapped")) == 100


# --- two processes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_a_process_that_slept_while_another_copied_copies_nothing_twice(desk: Desk, method: str) -> None:
    desk.settle()
    desk.answer(desk.jobs(desk.tasks[0])[0], *range(10))
    sources = "|".join(str(j.id) for t in desk.sources for j in desk.jobs(t))
    asleep = desk.queue
    jobs = desk.reader.jobs()

    def others() -> None:
        desk.start()
        desk.settle()

    faults_of(desk.world).before(method, rf"/api/jobs/({sources})/annotations/$", 1, others)
    asleep.step(desk.version, desk.orders[desk.version], jobs, annotators=2)
    desk.settle()
    assert [len(desk.shapes(s)) for s in desk.best(10)] == [1] * 10
