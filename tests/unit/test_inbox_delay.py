"""Hints that wait: a burst is one row, seen only when it is due, and nothing that comes later is lost in it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from common.config import Settings
from common.domain import Event
from common.loop.reading import follow_hints
from common.store import Store, inbox, open_store
from common.store.schema import event
from tests.fakes import make_world

SAVED = Event("cvat", "4", "labels")


class Clock:
    """The inbox's time, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(inbox, "time", made)
    return made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = open_store(Settings(_env_file=None, home=tmp_path).database, tmp_path)
    yield made
    made.close()


def rows(store: Store) -> int:
    with store._inbox_engine.connect() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(event)) or 0


def due(store: Store, project: str = "4") -> list[Event]:
    return [h.event for h in store.inbox.pending("cvat", project)]


def test_a_hint_that_waits_is_seen_when_it_is_due_and_not_before(store: Store, clock: Clock) -> None:
    store.inbox.add(SAVED, 30)
    clock.now += 29.9
    assert (due(store), store.inbox.projects()) == ([], set())
    clock.now += 0.1
    assert (due(store), store.inbox.projects()) == ([SAVED], {("cvat", "4")})
    (hint,) = store.inbox.pending("cvat", "4")
    assert hint.at == clock.now


def test_a_burst_is_one_row_and_its_first_event_says_when(store: Store, clock: Clock) -> None:
    for _ in range(100):
        store.inbox.add(SAVED, 30)
        clock.now += 0.2
    assert rows(store) == 1
    clock.now += 10
    assert due(store) == [SAVED]


def test_what_comes_once_the_hint_is_due_waits_anew(store: Store, clock: Clock) -> None:
    """It may be read at this very moment, before what the second one is about."""
    store.inbox.add(SAVED, 30)
    clock.now += 30
    store.inbox.add(SAVED, 30)
    assert (rows(store), len(due(store))) == (2, 1)


def test_a_hint_that_was_acted_on_covers_nothing(store: Store, clock: Clock) -> None:
    store.inbox.add(SAVED, 30)
    clock.now += 30
    store.inbox.done([h.id for h in store.inbox.pending("cvat", "4")])
    clock.now -= 30  # a clock that was set back
    store.inbox.add(SAVED, 30)
    assert rows(store) == 2


def test_a_hint_without_delay_is_due_at_once_beside_one_that_waits(store: Store, clock: Clock) -> None:
    store.inbox.add(SAVED, 30)
    store.inbox.add(SAVED)
    store.inbox.add(SAVED)
    assert due(store) == [SAVED, SAVED]
    clock.now += 30
    assert len(due(store)) == 3


@pytest.mark.parametrize(
    "other",
    [
        Event("label-studio", "4", "labels"),
        Event("cvat", "5", "labels"),
        Event("cvat", "4", "samples"),
        Event("cvat", "4", "labels", ("1",)),
        Event("cvat", "4", "labels", (), ("1",)),
    ],
)
@pytest.mark.usefixtures("clock")
def test_only_the_very_same_hint_is_spared(store: Store, other: Event) -> None:
    for new in (SAVED, other, SAVED, other):
        store.inbox.add(new, 30)
    assert rows(store) == 2


def test_hints_that_come_due_out_of_order_are_all_seen(store: Store, clock: Clock) -> None:
    later, sooner = Event("cvat", "4", "labels"), Event("cvat", "4", "samples")
    store.inbox.add(later, 30)
    store.inbox.add(sooner, 5)
    clock.now += 5
    assert due(store) == [sooner]
    store.inbox.done([h.id for h in store.inbox.pending("cvat", "4")])
    clock.now += 25
    assert due(store) == [later]


def test_a_burst_in_many_threads_is_one_row(store: Store) -> None:
    start = threading.Barrier(8)

    def add(_: int) -> None:
        start.wait()
        for _ in range(5):
            store.inbox.add(SAVED, 30)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(8)))
    assert rows(store) == 1


def test_a_forgotten_project_forgets_what_waits(store: Store, clock: Clock) -> None:
    store.inbox.add(SAVED, 30)
    store.inbox.forget("cvat", "4")
    clock.now += 30
    assert (rows(store), due(store)) == (0, [])


def test_the_loop_reads_for_a_hint_only_when_it_is_due(tmp_path: Path, clock: Clock) -> None:
    world = make_world(tmp_path)
    store = world.tools.store
    row = store.projects.get("fake:1")
    assert row is not None
    store.inbox.add(Event("fake", "1", "labels"), 30)
    assert not follow_hints(world.tools, row, world.platform)
    assert world.platform.calls == []
    clock.now += 30
    assert follow_hints(world.tools, row, world.platform)
    assert world.platform.calls == ["annotations"]
    assert not follow_hints(world.tools, row, world.platform)
    store.close()
