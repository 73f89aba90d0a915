"""A crash at every step: whatever the moment, a new loop over the same store ends where an undisturbed one ends."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import sqlalchemy as sa

from common.domain import Event, LabelledBox, QueueItem
from common.loop import ActiveLearningLoop
from common.ports import Drift, Model, TrainingProgress
from common.store import open_store
from tests.fakes import FakeModels, FakePlatform, FakeTrainer, World, make_world, picture
from tests.thorough import THOROUGH

KEY = "fake:1"
CAT = LabelledBox("cat", (0.1, 0.1, 0.5, 0.5))
IMAGES = 7
SPACING = 29
"""Moments between two crashes of a process that dies again and again."""


class Crash(BaseException):
    """The power goes: nothing may catch it."""


@dataclass
class Bomb:
    """Goes off at one moment: before a commit, or before a call that leaves the process."""

    at: int = -1
    again: int = 0
    """Goes off every so many moments after the first time; 0 = once."""
    armed: bool = False
    passed: list[str] = field(default_factory=list)
    places: list[tuple[tuple[str, int], ...]] = field(default_factory=list)
    """Where in our code each moment was: (file, line) of every caller."""

    def moments(self) -> list[int]:
        """Numbers of all moments, or of the last at each place: by then the most has happened."""
        last = {place: at for at, place in enumerate(self.places)}
        return list(range(len(self.passed))) if THOROUGH else sorted(last.values())

    def tick(self, moment: str) -> None:
        if not self.armed:  # somebody else's doing: the person, the web process
            return
        self.passed.append(moment)
        self.places.append(_callers(sys._getframe(1)))
        since = len(self.passed) - 1 - self.at
        if self.at >= 0 and (since == 0 or (self.again and since > 0 and since % self.again == 0)):
            raise Crash(moment)

    def watch(self, engine: sa.Engine) -> None:
        def before_commit(connection: sa.Connection) -> None:
            if connection.get_execution_options().get("write"):
                self.tick("commit")

        sa.event.listen(engine, "commit", before_commit)


def _callers(frame: FrameType | None) -> tuple[tuple[str, int], ...]:
    found = []
    while frame is not None:
        if f"{os.sep}common{os.sep}" in frame.f_code.co_filename:
            found.append((frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back
    return tuple(found)


@dataclass
class StrictPlatform(FakePlatform):
    """Keeps every row it was sent, as Label Studio does, and notices a version that is not the one left there."""

    bomb: Bomb = field(default_factory=Bomb)
    stored: Counter[str] = field(default_factory=Counter)

    def _call(self, name: str) -> None:
        self.bomb.tick(name)
        super()._call(name)

    def publish(self, version: str, items: Sequence[QueueItem]) -> int:
        created = super().publish(version, items)
        self.stored[version] += created
        return created

    def published(self) -> dict[str, int]:
        self._call("published")
        return dict(+self.stored)

    def retire(self, version: str, limit: int) -> int:
        went = super().retire(version, limit)
        self.stored[version] -= went
        return went

    def drift(self, version: str | None) -> list[Drift]:
        self._call("drift")
        same = version is None or self.active == version
        return [] if same else [Drift(f"model_version is {self.active!r}, not {version!r}", healed=False, fix="undo")]


class StrictModels(FakeModels):
    """Weights have the hash of their bytes, so that taking the same ones in twice is once."""

    def __init__(self, bomb: Bomb) -> None:
        super().__init__()
        self._bomb = bomb

    def install(self, trained: Path) -> Model:
        self._bomb.tick("install")
        return Model(trained, hashlib.sha256(trained.parent.name.encode()).hexdigest(), ("cat", "dog"))


@dataclass
class MortalTrainer(FakeTrainer):
    """Its children die with the process; a second look at a living one finds it done."""

    bomb: Bomb = field(default_factory=Bomb)

    def start(self, spec: Any, samples: Any, val: Any = ()) -> list[str]:
        self.bomb.tick("start training")
        return super().start(spec, samples, val)

    def poll(self, folder: Path) -> TrainingProgress:
        now = super().poll(folder)
        if now.state == "running":
            self.states[folder] = replace(now, state="done", checkpoint=folder / "final.pt")
        return now

    def die(self) -> None:
        for folder, now in self.states.items():
            if now.state == "running":
                self.states[folder] = replace(now, state="lost")


@pytest.fixture(scope="module", autouse=True)
def _quick_order() -> Iterator[None]:
    """What makes near-duplicates near is not asked here, and costs most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("common.loop.lookalikes.CALIBRATED_ON", 1)
        yield


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures and an empty, migrated database: made once, copied for every crash."""
    folder = tmp_path_factory.mktemp("stock")
    make_world(folder, IMAGES).tools.store.close()
    return folder


@dataclass
class Life:
    """One project whose worker may die at any moment and is started again."""

    world: World
    platform: StrictPlatform
    trainer: MortalTrainer
    bomb: Bomb
    crashed: list[str] = field(default_factory=list)
    seen: list[list[str]] = field(default_factory=list)

    def settle(self) -> None:
        """Until nothing moves; a crash starts a new process over what is on the disk."""
        loop = ActiveLearningLoop(self.world.tools)
        calm = 0
        for _ in range(80):
            self.bomb.armed = True
            try:
                calm = 0 if loop.step(KEY) else calm + 1
            except Crash as crash:
                self.crashed.append(str(crash))
                loop, calm = self._again(), 0
            finally:
                self.bomb.armed = False
            if calm == 2:  # a running training moves nothing while it runs
                return
        pytest.fail(f"the loop never came to rest after {self.crashed}")

    def _again(self) -> ActiveLearningLoop:
        self.trainer.die()
        self.world.tools.store.close()
        self.world.tools = replace(self.world.tools, store=self._store(), labels={})
        # What made the process die took a while: the next comparison is due.
        self.world.clock[0] += 1000
        return ActiveLearningLoop(self.world.tools)

    def _store(self) -> Any:
        settings = self.world.tools.settings
        store = open_store(settings.database, settings.folder)
        for engine in (store.engine, store._inbox_engine):
            self.bomb.watch(engine)
        return store

    def label(self, *tasks: str) -> None:
        for task in tasks:
            self.platform.annotate(task, CAT)
            self.world.tools.store.inbox.add(Event("fake", "1", "labels", (task,)))


def begin(stock: Path, folder: Path, at: int = -1, again: int = 0) -> Life:
    shutil.copytree(stock, folder, dirs_exist_ok=True)
    bomb = Bomb()
    world = make_world(folder, 0)
    platform = StrictPlatform(tasks={str(100 + i): f"{i}.png" for i in range(IMAGES)}, bomb=bomb)
    trainer = MortalTrainer(bomb=bomb)
    world.tools = replace(world.tools, open=lambda _row: platform, trainer=trainer, models=StrictModels(bomb))
    life = Life(world, platform, trainer, bomb)
    world.tools.store.close()
    world.tools.store = life._store()
    bomb.at, bomb.again = at, again
    return life


def story(life: Life) -> None:
    """Connect; three labels and a round; a new picture, a deletion nobody told us of, a class, a round asked for."""
    platform, clock = life.platform, life.world.clock
    life.settle()
    life.label("100", "101", "102")
    life.settle()
    clock[0] += 61
    life.settle()
    clock[0] += 61
    picture(life.world.folder / "pictures" / "new.png", 99)
    platform.tasks["500"] = "new.png"
    del platform.answers["101"]
    platform.tasks.pop("103")
    life.settle()
    clock[0] += 1000
    life.settle()
    life.seen.append(sorted(platform.order()))
    inbox = life.world.tools.store.inbox
    life.label("104")
    inbox.add(Event("fake", "1", "train"))
    life.settle()
    clock[0] += 61
    life.settle()
    clock[0] += 1000
    life.settle()


def outcome(life: Life) -> dict[str, Any]:
    """What must be the same however often the process died."""
    store = life.world.tools.store
    row = store.projects.get(KEY)
    assert row is not None
    assert row.publication is not None
    assert row.checkpoint is not None
    publication = store.publications.get(row.publication)
    ledger = {p.version: p.rows for p in store.publications.all(KEY) if p.state != "gone"}
    stored = {v: n for v, n in life.platform.stored.items() if n}
    queue = [p.sample for p in store.publications.open_places(publication)[0]]
    return {
        "state": (row.state, row.reason, row.order_asked, row.training_asked),
        "labels": {s: [a.id for a in found] for s, found in store.labels.at(KEY).items()},
        "answered": store.samples.counts(KEY)["answered"],
        "rounds": [(r.number, r.state) for r in store.rounds.all(KEY)],
        "checkpoints": [c.sha256 for c in store.rounds.checkpoints(KEY)],
        "serves": store.rounds.checkpoint(row.checkpoint).round,
        "trained on": sorted(s.id for s in life.trainer.samples[-1]),
        "active": (publication.version == life.platform.active, publication.state),
        "sent": publication.sent == publication.total,
        "queue": sorted(queue),
        "served": [*life.seen, sorted(life.platform.order())],
        "rows": stored[publication.version] == publication.rows,
        "ledger": {v for v in stored if v not in ledger},
        "half-made": [p.state for p in store.publications.all(KEY) if p.state in ("building", "sending")],
        "hints": store.inbox.pending("fake", "1"),
    }


@pytest.fixture(scope="module")
def undisturbed(stock: Path, tmp_path_factory: pytest.TempPathFactory) -> Life:
    life = begin(stock, tmp_path_factory.mktemp("undisturbed"))
    story(life)
    return life


def test_the_story_itself_ends_well(undisturbed: Life) -> None:
    end = outcome(undisturbed)
    assert end["labels"] == {"100": ["100-1"], "102": ["102-1"], "104": ["104-1"]}
    assert end["rounds"] == [(1, "done"), (2, "done")]
    assert end["trained on"] == ["100", "102", "104"]
    assert end["served"] == [["101", "104", "105", "106", "500"], ["101", "105", "106", "500"]]
    assert end["queue"] == end["served"][-1]
    assert (end["active"], end["sent"], end["rows"], end["ledger"]) == ((True, "active"), True, True, set())


def differences(life: Life, wanted: dict[str, Any]) -> dict[str, Any]:
    end = outcome(life)
    return {k: (end[k], wanted[k]) for k in end if end[k] != wanted[k]}


@pytest.mark.parametrize("first", range(0, SPACING, 4))
def test_a_process_that_dies_again_and_again_ends_where_an_undisturbed_one_does(
    first: int, undisturbed: Life, stock: Path, tmp_path: Path
) -> None:
    life = begin(stock, tmp_path, first, SPACING)
    story(life)
    assert len(life.crashed) > 3
    assert differences(life, outcome(undisturbed)) == {}, life.crashed


@pytest.mark.integration  # for its minutes
@pytest.mark.parametrize("part", range(8))
def test_a_crash_at_any_step_changes_nothing_in_the_end(
    part: int, undisturbed: Life, stock: Path, tmp_path: Path
) -> None:
    wanted, moments = outcome(undisturbed), undisturbed.bomb.passed
    wrong = {}
    for at in undisturbed.bomb.moments()[part::8]:
        life = begin(stock, tmp_path / str(at), at)
        story(life)
        assert life.crashed == [moments[at]], (at, life.bomb.passed)
        if found := differences(life, wanted):
            wrong[at, moments[at]] = found
    assert wrong == {}


def insertion(life: Life, at: int = -1) -> list[str]:
    """Two pictures arrive, one of them twice; returns the moments since then. The process dies at number ``at``."""
    life.settle()
    begun = len(life.bomb.passed)
    life.bomb.at = begun + at if at >= 0 else -1
    for i, task in enumerate(("500", "501")):
        picture(life.world.folder / "pictures" / f"{task}.png", 99 + i)
        life.platform.tasks[task] = f"{task}.png"
    life.platform.tasks["502"] = "501.png"
    life.world.tools.store.inbox.add(Event("fake", "1", "samples"))
    life.settle()
    life.world.clock[0] += 1000
    life.settle()
    return life.bomb.passed[begun:]


def seated(life: Life) -> dict[str, Any]:
    """What an insertion leaves."""
    store = life.world.tools.store
    row = store.projects.get(KEY)
    assert row is not None
    (publication,) = store.publications.all(KEY)
    places = store.publications.open_places(publication)[0]
    return {
        "waiting": (row.arrivals, row.order_asked, row.reason),
        "ledger": (publication.state, publication.total, publication.sent, publication.rows, publication.in_flight),
        "stored": life.platform.stored[publication.version],
        "queue": [(p.sample, p.place, p.rank) for p in places],
        "served": life.platform.order() == [p.sample for p in places],
    }


@pytest.mark.parametrize("part", range(4))
def test_a_crash_at_any_step_of_an_insertion_sends_every_new_image_once(part: int, stock: Path, tmp_path: Path) -> None:
    calm = begin(stock, tmp_path / "calm")
    moments, wanted = insertion(calm), seated(calm)
    assert wanted["waiting"] == ({}, None, "")
    assert wanted["ledger"] == ("active", IMAGES + 3, IMAGES + 3, IMAGES + 3, 0)
    assert (wanted["stored"], wanted["served"]) == (IMAGES + 3, True)
    for at in range(part, len(moments), 4):
        life = begin(stock, tmp_path / str(at))
        insertion(life, at)
        assert life.crashed == [moments[at]]
        assert seated(life) == wanted, (at, moments[at])


def test_when_the_last_image_is_labelled_nothing_is_published_and_nothing_fails(stock: Path, tmp_path: Path) -> None:
    life = begin(stock, tmp_path)
    life.settle()
    life.label(*life.platform.tasks)
    life.world.clock[0] += 61
    life.settle()
    life.world.clock[0] += 1000
    life.settle()
    row = life.world.tools.store.projects.get(KEY)
    assert row is not None
    assert (row.state, row.reason, row.order_asked) == ("active", "", None)
    assert row.checkpoint is not None
    assert list(life.platform.stored) == ["hardfirst@0.1-00000000"]


def test_a_queue_whose_images_were_all_labelled_before_it_was_sent_is_dropped(stock: Path, tmp_path: Path) -> None:
    life = begin(stock, tmp_path)
    loop, store = ActiveLearningLoop(life.world.tools), life.world.tools.store
    while store.publications.unfinished(KEY) is None:
        loop.step(KEY)
    life.label(*life.platform.tasks)
    life.settle()
    assert +life.platform.stored == Counter()
    assert [p.state for p in store.publications.all(KEY)] == ["gone"]


def test_a_round_that_was_cancelled_meanwhile_is_not_promoted(stock: Path, tmp_path: Path) -> None:
    life = begin(stock, tmp_path)
    life.settle()
    store = life.world.tools.store
    running = store.rounds.start(KEY, revision=0, labels=1, reason="", folder="/f", token=1)
    assert running is not None
    store.rounds.end(running.id, "cancelled", "the project was disconnected")
    left = {"path": "/w", "sha256": "1" * 64, "names": [], "metrics": {}, "message": ""}
    assert not store.rounds.finish(running, **left, verdict="kept")
    assert store.rounds.checkpoints(KEY) == []
    assert [r.state for r in store.rounds.all(KEY)] == ["cancelled"]
