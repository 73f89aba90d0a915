"""Events lost, doubled and late, and two workers at once, over the whole loop beside CVAT."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from common.loop import ActiveLearningLoop
from tests.contract.cvat_life import ASSIGN, Life, at_rest, near_duplicates_fixture  # noqa: F401 - a fixture

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


def test_what_happened_while_nobody_was_there_is_found_at_the_start(tmp_path: Path) -> None:
    with at_rest(tmp_path) as life:
        life.cvat.courier.lose(1000)
        job = life.inbox("anna")[0]
        life.finish("anna", job)
        life.later(1)
        with second(life) as started:
            started.step(life.key)
        assert set(life.told()) == {f"{job.task_id}:{frame}" for frame in job.frame_numbers}


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
        assert life.rounds() == [1]
        redeliver(life)
        life.settle()
        life.compare()
        assert life.told() == told
        assert life.row.revision == revision
        assert life.rounds() == [1]


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
