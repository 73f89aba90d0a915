from __future__ import annotations

import logging
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common import worker as module
from common.domain import Event, LabelledBox
from common.errors import StoreError
from common.loop import ActiveLearningLoop
from common.store import Store
from common.worker import Worker, identity
from tests.fakes import World, make_world

KEY = "fake:1"
CAT = LabelledBox("cat", (0.1, 0.1, 0.5, 0.5))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path, images=4)


def make_worker(world: World) -> Worker:
    return Worker(world.tools.store, ActiveLearningLoop(world.tools))


def settle(worker: Worker) -> None:
    for _ in range(60):
        if not worker.turn():
            return
    pytest.fail("the worker never came to rest")


def another(name: str) -> str:
    """A lease owner that is not this process."""
    host, pid, started = identity().rsplit(":", 2)
    return {
        "another machine": f"elsewhere:{pid}:{started}",
        "a dead process": f"{host}:4194305:{started}",
        "a process that had our number": f"{host}:{pid}:{int(started) - 100}",
        "a living process": identity(os.getppid()),
    }[name]


@pytest.mark.parametrize("owner", ["another machine", "a living process"])
def test_a_project_that_somebody_works_on_is_left_alone(world: World, owner: str) -> None:
    assert world.tools.store.projects.lease(KEY, another(owner), 60) is not None
    settle(make_worker(world))
    assert world.platform.calls == []


def test_a_lease_that_ran_out_is_taken(world: World) -> None:
    world.tools.store.projects.lease(KEY, another("another machine"), -1)
    settle(make_worker(world))
    assert world.platform.active


@pytest.mark.parametrize("owner", ["a dead process", "a process that had our number"])
def test_the_lease_of_a_dead_process_of_this_machine_is_taken_at_once(world: World, owner: str) -> None:
    world.tools.store.projects.lease(KEY, another(owner), 3600)
    settle(make_worker(world))
    assert world.platform.active


def test_a_process_that_dies_while_another_worker_runs_loses_its_lease_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead: list[str] = []
    monkeypatch.setattr(module, "is_gone", lambda owner: owner in dead)
    world.tools.store.projects.lease(KEY, "other", 3600)
    here = make_worker(world)
    settle(here)
    assert world.platform.calls == []
    dead.append("other")
    settle(here)
    assert world.platform.active


def test_the_number_of_the_newest_owner_reaches_the_training(world: World) -> None:
    store = world.tools.store
    for owner in ("first", "second"):
        store.projects.lease(KEY, owner, 60)
        store.projects.release(owner)
    here = make_worker(world)
    settle(here)
    for task in ("100", "101", "102"):
        world.platform.annotate(task, CAT)
    store.inbox.add(Event("fake", "1", "labels", ("100", "101", "102")))
    store.inbox.add(Event("fake", "1", "train"))
    settle(here)
    assert [s.token for s in world.trainer.started] == [3]

    store.projects.release(identity())
    store.projects.lease(KEY, "a newer one", 60)
    store.projects.release("a newer one")
    world.trainer.finish("lost")
    settle(here)
    assert [s.token for s in world.trainer.started] == [3, 5]
    world.trainer.finish()
    settle(here)
    assert world.models.installed == 1


def test_a_lease_is_renewed_while_a_step_takes_long(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENEW_S", 0.02)
    monkeypatch.setattr(module, "LEASE_S", 0.2)
    here, refused = make_worker(world), []

    def slow(_key: str) -> bool:
        threading.Event().wait(0.6)
        refused.append(world.tools.store.projects.lease(KEY, "a second worker", 60) is None)
        return False

    monkeypatch.setattr(here._loop, "step", slow)
    here.turn()
    assert refused == [True]


def test_a_project_that_was_disconnected_is_left_to_others(world: World) -> None:
    here, projects = make_worker(world), world.tools.store.projects
    settle(here)
    assert projects.lease(KEY, "who disconnects", 60) is None
    projects.update(KEY, state="archived")
    here.turn()
    assert projects.lease(KEY, "who disconnects", 60) is not None


class Faulty:
    """A store that cannot be reached for a while."""

    def __init__(self, store: Store, worker: Worker, faults: int) -> None:
        self._all, self._worker, self._faults = store.projects.all, worker, faults
        self.turns = 0

    def all(self) -> list[Any]:
        self.turns += 1
        if self.turns <= self._faults:
            raise StoreError("the database is locked")
        if self.turns > self._faults + 4:
            self._worker.stop()
        return self._all()


def test_a_store_that_fails_for_a_while_does_not_end_the_worker(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "IDLE_S", 0.0)
    monkeypatch.setattr(module.signal, "signal", lambda *_: None)
    here = make_worker(world)
    faulty = Faulty(world.tools.store, here, faults=3)
    monkeypatch.setattr(world.tools.store.projects, "all", faulty.all)
    here.run()
    assert [r.message for r in caplog.records if r.levelno == logging.WARNING][:3] == ["the database is locked"] * 3
    assert world.platform.calls != []


def test_a_worker_that_stops_gives_its_leases_back_and_ends_its_trainings(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[bool] = []
    monkeypatch.setattr(module.signal, "signal", lambda *_: None)
    monkeypatch.setattr(world.trainer, "close", lambda: closed.append(True))
    here = make_worker(world)
    settle(here)
    here.stop()
    here.run()
    assert closed == [True]
    assert world.tools.store.projects.owners() == set()


def test_hints_of_unknown_projects_are_dropped(world: World) -> None:
    inbox = world.tools.store.inbox
    for kind in ("labels", "samples", "train"):
        inbox.add(Event("fake", "77", kind))
    settle(make_worker(world))
    assert inbox.pending("fake", "77") == []
    assert world.tools.store.projects.get("fake:77") is None


def test_a_project_that_a_person_added_on_the_platform_is_connected(world: World) -> None:
    store = world.tools.store
    store.projects.forget(KEY)
    store.inbox.add(Event("fake", "1", "labels", ("100",)))
    store.inbox.add(Event("fake", "1", "connect"))
    here = make_worker(world)
    here._adopt()
    asked = store.projects.get(KEY)
    assert asked is not None
    assert asked.state == "asked"
    settle(here)
    row = store.projects.get(KEY)
    assert row is not None
    assert row.state == "active"
    assert world.platform.state["connected"]


@pytest.fixture
def two(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[World, dict[str, Exception]]:
    """A second project, and exceptions by project that opening its platform raises."""
    faults: dict[str, Exception] = {}
    opened = world.tools.open

    def open_platform(row: Any) -> Any:
        if row.key in faults:
            raise faults[row.key]
        return opened(row) if row.key == KEY else replace(world.platform, calls=[], rows={}, state={})

    world.tools.open = open_platform
    world.tools.store.projects.ask("fake", "2")
    return world, faults


def test_a_fault_of_ours_in_one_project_stops_no_other_and_is_said(
    two: tuple[World, dict[str, Exception]], caplog: pytest.LogCaptureFixture
) -> None:
    world, faults = two
    faults[KEY] = KeyError("embedding")
    settle(make_worker(world))
    first, second = (world.tools.store.projects.get(k) for k in (KEY, "fake:2"))
    assert first is not None
    assert second is not None
    assert second.publication is not None
    assert first.reason.startswith("unexpected KeyError: 'embedding'")
    (entry,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert entry.exc_info is not None


def test_a_project_with_a_fault_rests_longer_each_time_and_recovers_by_itself(
    two: tuple[World, dict[str, Exception]], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, faults = two
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    faults[KEY] = ZeroDivisionError("division by zero")
    here = make_worker(world)
    rests = []
    for _ in range(9):
        settle(here)
        until, wait = here._rests[KEY]
        rests.append(wait)
        now[0] = until
        world.clock[0] += wait
    assert rests == [5, 10, 20, 40, 80, 160, 320, 600, 600]
    faults.clear()
    settle(here)
    row = world.tools.store.projects.get(KEY)
    assert row is not None
    assert (row.state, row.reason, here._rests) == ("active", "", {})


def test_a_fault_while_a_round_runs_does_not_lose_the_round(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    here = make_worker(world)
    settle(here)
    for task in ("100", "101", "102"):
        world.platform.annotate(task, CAT)
    world.tools.store.inbox.add(Event("fake", "1", "labels", ("100", "101", "102")))
    world.tools.store.inbox.add(Event("fake", "1", "train"))
    settle(here)
    with monkeypatch.context() as broken:
        broken.setattr(world.trainer, "poll", lambda _folder: 1 / 0)
        settle(here)
    running = world.tools.store.rounds.running(KEY)
    assert running is not None
    here._rests.clear()
    world.clock[0] += 10
    world.trainer.finish()
    settle(here)
    done = world.tools.store.rounds.newest(KEY)
    assert done is not None
    assert (done.number, done.state) == (1, "done")
