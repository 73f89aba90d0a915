from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from common.domain import Event, LabelledBox, QueueItem
from common.loop import ActiveLearningLoop
from common.loop.ordering import slice_hash
from common.store.publications import Place, PublicationRow
from tests.fakes import FakePlatform, World, make_world, picture, settle

KEY = "fake:1"
CAT = LabelledBox("cat", (0.1, 0.1, 0.5, 0.5))
HALF, DARK = 127, 14
"""Brightness is the fake model's confidence: at one half it is most uncertain, in the dark it is sure."""


@pytest.fixture(autouse=True)
def _quick_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.loop.lookalikes.CALIBRATED_ON", 4)


def flat(path: Path, brightness: int) -> None:
    """A picture whose mean is ``brightness`` + .5, of blocks that are like no other's."""
    blocks = np.random.default_rng(brightness).permutation([-10] * 24 + [11] * 24).reshape(6, 8)
    pixels = (brightness + blocks).astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    Image.fromarray(pixels).convert("RGB").save(path)


def names(start: int, *, drawn: bool = False) -> list[str]:
    """Task ids from ``start`` up that belong to the random slice, or do not."""
    return [t for t in map(str, range(start, start + 300)) if (slice_hash(KEY, t) < 0.1) == drawn]


def arrive(world: World, *tasks: tuple[str, str | None], tell: bool = True) -> None:
    """New tasks appear on the platform: (id, picture in the folder)."""
    for task, file in tasks:
        world.platform.tasks[task] = file or "absent.png"
    if tell:
        world.tools.store.inbox.add(Event("fake", "1", "samples"))


def drawn_by_hand(world: World, count: int, brightness: int | None = None) -> list[tuple[str, str]]:
    """So many new pictures of tasks outside the random slice."""
    made = []
    for i, task in enumerate(names(500)[:count]):
        path = world.folder / "pictures" / f"new{task}.png"
        picture(path, 900 + i) if brightness is None else flat(path, brightness)
        made.append((task, path.name))
    return made


def publication(world: World) -> PublicationRow:
    row = world.tools.store.projects.get(KEY)
    assert row is not None
    assert row.publication is not None
    return world.tools.store.publications.get(row.publication)


def queue(world: World) -> list[Place]:
    return world.tools.store.publications.open_places(publication(world))[0]


def told(world: World) -> str:
    return world.tools.store.journal.newest(KEY)[0].text


def published(world: World) -> list[str]:
    return [p.version for p in world.tools.store.publications.all(KEY)]


def test_few_new_images_take_their_places_in_the_queue_that_serves(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    settle(world)
    before = dict(world.platform.rows[world.platform.active or ""])
    calls = len(world.platform.calls)
    arrive(world, *drawn_by_hand(world, 3))
    settle(world)
    assert published(world) == ["hardfirst@0.1-00000000"]
    rows = world.platform.rows["hardfirst@0.1-00000000"]
    assert {t: rows[t] for t in before} == before
    assert world.platform.calls[calls:].count("publish") == 1
    assert world.platform.calls[calls:].count("activate") == 0
    assert [p.sample for p in queue(world)] == world.platform.order()
    assert len(world.platform.order()) == 15
    made = publication(world)
    assert (made.total, made.sent, made.rows, made.in_flight, made.state) == (15, 15, 15, 0, "active")
    stands = [i for i, p in enumerate(queue(world), start=1) if p.parts.get("arrived")]
    assert "3 new images took their places {}, {} and {} of 15".format(*stands) in told(world)


@pytest.mark.parametrize("strategy", ["hybrid", "top_utility"])
def test_a_new_image_stands_where_its_own_utility_puts_it(strategy: str, tmp_path: Path) -> None:
    world = make_world(tmp_path, 40, strategy=strategy)
    settle(world)
    (half, dark) = (drawn_by_hand(world, 1, HALF)[0], names(800)[0])
    flat(world.folder / "pictures" / "dark.png", DARK)
    arrive(world, half, (dark, "dark.png"))
    settle(world)
    main = [p for p in queue(world) if not p.parts["random_slice"]]
    assert (main[0].sample, main[-1].sample) == (half[0], dark)
    assert [p.parts["arrived"] for p in (main[0], main[-1])] == ["utility", "utility"]
    if strategy == "top_utility":
        assert [p.utility for p in main] == sorted((p.utility for p in main), reverse=True)
    rows = world.platform.rows[world.platform.active or ""]
    assert rows[half[0]].boxes[0].name == "cat"


@pytest.mark.parametrize("strategy", ["hybrid", "uniform", "top_utility", "additive", "core_set", "typicality"])
def test_every_strategy_takes_images_in(strategy: str, tmp_path: Path) -> None:
    world = make_world(tmp_path, strategy=strategy)
    settle(world)
    arrive(world, *drawn_by_hand(world, 2))
    settle(world)
    assert len(published(world)) == 1
    assert len(world.platform.order()) == 14
    assert all(p.parts["reason"] for p in queue(world))


def test_more_than_a_few_new_images_get_a_new_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.strategies.insertion.FEW", 2)
    world = make_world(tmp_path)
    settle(world)
    arrive(world, *drawn_by_hand(world, 3))
    settle(world)
    assert published(world) == ["hardfirst@0.1-00000000", "hardfirst@0.2-00000000"]
    assert len(world.platform.order()) == 15


def test_images_that_come_while_the_queue_is_being_sent_wait_for_its_end(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    loop = ActiveLearningLoop(world.tools)
    while (unfinished := world.tools.store.publications.unfinished(KEY)) is None or unfinished.rows == 0:
        loop.step(KEY)
    arrive(world, *drawn_by_hand(world, 1))
    loop.step(KEY)
    assert publication(world).total == 12
    settle(world)
    assert (publication(world).total, len(published(world))) == (13, 1)
    assert len(world.platform.order()) == 13


def test_a_queue_whose_model_no_longer_serves_takes_nobody_in(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    settle(world)
    store = world.tools.store
    opened = store.rounds.start(KEY, revision=0, labels=1, reason="", folder=str(tmp_path), token=1)
    assert opened is not None
    store.rounds.finish(
        opened, path="/w", sha256="5" * 64, names=["cat", "dog"], metrics={}, message="", verdict="promoted"
    )
    store.projects.update(KEY, order_asked=None)
    arrive(world, *drawn_by_hand(world, 1))
    settle(world)
    assert published(world)[-1] == "hardfirst@1.2-55555555"
    assert len(world.platform.order()) == 13


def test_a_look_alike_of_a_queued_image_stands_behind_all_readable_ones(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.platform.tasks["99"] = "absent.png"
    settle(world)
    twin = names(500)[0]
    arrive(world, (twin, "4.png"))
    settle(world)
    assert [p.sample for p in queue(world)][-2:] == [twin, "99"]
    assert queue(world)[-2].parts["reason"] == "a near-duplicate of an image that is here already"
    assert told(world) == "1 new image took its place 13 of 14 (1 kept behind)"


def test_newcomers_are_compared_by_the_threshold_of_the_order_and_nothing_is_calibrated_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(tmp_path)
    settle(world)
    kept = world.tools.lookalikes(KEY)
    threshold = kept.threshold
    assert threshold is not None
    monkeypatch.setattr("common.loop.lookalikes.calibrated", lambda *_: pytest.fail("calibrated anew"))
    twin = names(500)[0]
    arrive(world, (twin, "4.png"))
    settle(world)
    assert world.tools.lookalikes(KEY) is kept
    assert kept.threshold == threshold
    assert queue(world)[-1].sample == twin


def test_an_unreadable_new_image_stands_at_the_very_end(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    settle(world)
    arrive(world, ("500", None))
    settle(world)
    assert world.platform.order()[-1] == "500"
    assert told(world) == "1 new image took its place 13 of 13 (1 unreadable)"
    assert queue(world)[-1].utility == 0


def test_a_member_of_the_random_slice_is_placed_by_its_hash(tmp_path: Path) -> None:
    world = make_world(tmp_path, images=0)
    members = sorted(names(500, drawn=True), key=lambda t: slice_hash(KEY, t))
    others = names(500)
    for i, task in enumerate([*others[:18], members[0], members[4]]):
        picture(world.folder / "pictures" / f"{i}.png", i)
        world.platform.tasks[task] = f"{i}.png"
    settle(world)
    flat(world.folder / "pictures" / "dark.png", DARK)
    flat(world.folder / "pictures" / "half.png", HALF)
    arrive(world, (members[2], "dark.png"), (members[1], "half.png"))
    settle(world)
    drawn = [t for t in world.platform.order() if t in members]
    assert drawn == [members[0], members[1], members[2], members[4]]
    order = world.platform.order()
    assert order.index(members[4]) - order.index(members[2]) == 1


def test_the_block_of_an_order_is_what_it_was_when_images_come_in_before_it(tmp_path: Path) -> None:
    world = make_world(tmp_path, strategy="top_utility")
    settle(world)
    (half,) = drawn_by_hand(world, 1, HALF)
    arrive(world, half)
    settle(world)
    first = publication(world)
    assert world.tools.store.publications.answered_in(first, 12) == 0
    world.platform.annotate(half[0], CAT)
    world.tools.store.inbox.add(Event("fake", "1", "labels", (half[0],)))
    settle(world)
    assert world.tools.store.publications.answered_in(first, 12) == 0


def test_an_image_whose_answer_was_deleted_after_the_order_was_made_comes_back(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    answer = world.platform.annotate("103", CAT)
    settle(world)
    assert "103" not in {p.sample for p in queue(world)}
    del world.platform.answers["103"]
    world.tools.store.inbox.add(Event("fake", "1", "labels", (), (answer.id,)))
    settle(world)
    world.clock[0] += 1000
    settle(world)
    assert "103" in world.platform.order()
    assert "1 image that is open again took its place" in told(world)
    assert len(published(world)) == 1


def test_an_image_that_went_before_it_was_seated_is_left_out(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    settle(world)
    made = drawn_by_hand(world, 2)
    arrive(world, *made)
    loop = ActiveLearningLoop(world.tools)
    loop.step(KEY)
    del world.platform.tasks[made[0][0]]
    world.tools.store.inbox.add(Event("fake", "1", "samples"))
    settle(world)
    assert made[0][0] not in world.platform.order()
    assert made[1][0] in world.platform.order()
    settle(world)


def test_where_there_is_no_room_left_between_two_places_a_new_order_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.strategies.insertion.MIN_GAP", 0.5)
    world = make_world(tmp_path)
    settle(world)
    arrive(world, *drawn_by_hand(world, 1))
    settle(world)
    assert len(published(world)) == 2
    assert len(world.platform.order()) == 13


def test_a_project_whose_last_image_was_labelled_takes_new_ones_in(tmp_path: Path) -> None:
    world = make_world(tmp_path, pause_s=10_000, min_new_labels=50)
    settle(world)
    for task in list(world.platform.tasks):
        world.platform.annotate(task, CAT)
        world.tools.store.inbox.add(Event("fake", "1", "labels", (task,)))
    settle(world)
    arrive(world, *drawn_by_hand(world, 2))
    settle(world)
    assert len(published(world)) == 1
    assert len(world.platform.order()) == 2


@dataclass
class ForgetfulPlatform(FakePlatform):
    """A deleted task takes its predictions along; the line may go dead after a call arrived, or before."""

    dead: str = ""

    def published(self) -> dict[str, int]:
        return {v: sum(t in self.tasks for t in rows) for v, rows in super_rows(self).items()}

    def publish(self, version: str, items: Sequence[QueueItem]) -> int:
        if self.dead == "before":
            raise KeyboardInterrupt
        created = super().publish(version, items)
        if self.dead == "after":
            raise KeyboardInterrupt
        return created


def super_rows(platform: FakePlatform) -> dict[str, dict[str, QueueItem]]:
    platform.calls.append("published")
    return platform.rows


@pytest.mark.parametrize("dead", ["before", "after"])
def test_a_new_image_is_sent_exactly_once_though_others_were_deleted_and_the_process_died(
    tmp_path: Path, dead: str
) -> None:
    world = make_world(tmp_path)
    platform = ForgetfulPlatform(tasks=world.platform.tasks)
    world.tools = replace(world.tools, open=lambda _row: platform)
    world.platform = platform
    settle(world)
    del platform.tasks["103"]
    arrive(world, *drawn_by_hand(world, 1))
    platform.dead = dead
    with pytest.raises(KeyboardInterrupt):
        settle(world)
    platform.dead = ""
    sent = platform.calls.count("publish")
    settle(world)
    assert platform.calls.count("publish") - sent == (1 if dead == "before" else 0)
    assert len(published(world)) == 1
    assert len(platform.order()) == 12
    assert publication(world).rows == 12


# --- the strategy stream -----------------------------------------------------------------------------------


def threshold(world: World) -> dict[str, Any]:
    row = world.tools.store.projects.get(KEY)
    assert row is not None
    kept: dict[str, Any] = row.arrivals["threshold"]
    return kept


def test_stream_queues_what_is_above_the_running_quantile_and_keeps_the_rest_behind(tmp_path: Path) -> None:
    world = make_world(tmp_path, strategy="stream")
    settle(world)
    (half,) = drawn_by_hand(world, 1, HALF)
    flat(world.folder / "pictures" / "dark.png", DARK)
    dark = names(800)[0]
    arrive(world, half, (dark, "dark.png"))
    settle(world)
    main = [p for p in queue(world) if not p.parts["random_slice"]]
    flags = [p.parts["queued"] for p in main]
    assert flags == sorted(flags, reverse=True)
    queued = [p.sample for p in main if p.parts["queued"]]
    assert queued[-1] == half[0]
    assert main[-1].sample == dark
    assert "above the running quantile" in next(p for p in main if p.sample == half[0]).parts["reason"]
    assert "(1 queued, 1 kept behind)" in told(world)
    assert (threshold(world)["seen"], threshold(world)["queued"]) == (2, 1)


def test_the_running_quantile_goes_on_where_it_stood(tmp_path: Path) -> None:
    world = make_world(tmp_path, strategy="stream")
    settle(world)
    levels = []
    for number, (task, brightness) in enumerate(zip(names(800), (DARK, DARK + 3, HALF), strict=False), start=1):
        flat(world.folder / "pictures" / f"s{number}.png", brightness)
        arrive(world, (task, f"s{number}.png"))
        settle(world)
        levels.append(threshold(world)["level"])
        assert threshold(world)["seen"] == number
    falls, again, rises = (round(b - a, 9) for a, b in itertools.pairwise([levels[0] + 0.005, *levels]))
    assert (falls, again, rises) == (-0.005, -0.005, 0.045)
    assert len(published(world)) == 1


def test_images_kept_behind_are_brought_back_by_another_strategy(tmp_path: Path) -> None:
    world = make_world(tmp_path, strategy="stream")
    settle(world)
    (half,) = drawn_by_hand(world, 1, HALF)
    row = world.tools.store.projects.get(KEY)
    assert row is not None
    kept = {"level": 5.0, "seen": 9, "queued": 1, "rate": 0.1, "step": 0.05, "scale": "00000000/entropy max"}
    world.tools.store.projects.update(KEY, arrivals={"threshold": kept})
    arrive(world, half)
    settle(world)
    main = [p.sample for p in queue(world) if not p.parts["random_slice"]]
    assert main[-1] == half[0]
    world.tools.settings = world.tools.settings.model_copy(update={"strategy": "top_utility"})
    world.tools.store.projects.update(KEY, order_asked=world.clock[0])
    settle(world)
    main = [p.sample for p in queue(world) if not p.parts["random_slice"]]
    assert main[0] == half[0]


def test_another_model_is_another_scale_and_the_quantile_starts_anew_on_it(tmp_path: Path) -> None:
    world = make_world(tmp_path, strategy="stream")
    settle(world)
    kept = {"level": 5.0, "seen": 9, "queued": 1, "rate": 0.1, "step": 0.05, "scale": "ffffffff/entropy max"}
    world.tools.store.projects.update(KEY, arrivals={"threshold": kept})
    arrive(world, *drawn_by_hand(world, 1, HALF))
    settle(world)
    assert threshold(world)["level"] < 1.1
    assert (threshold(world)["seen"], threshold(world)["scale"]) == (10, "00000000/entropy max")


@pytest.mark.parametrize(("scale", "passes"), [("00000000/entropy max", False), ("00000000/margin max", True)])
def test_a_new_order_takes_over_the_level_of_its_own_scale_only(tmp_path: Path, scale: str, passes: bool) -> None:
    """5.0 lets nobody through; where it was learnt on another scale the order starts at .5."""
    world = make_world(tmp_path, strategy="stream")
    arrive(world, *drawn_by_hand(world, 1, HALF))
    settle(world)
    kept = {"level": 5.0, "seen": 9, "queued": 1, "rate": 0.1, "step": 0.05, "scale": scale}
    world.tools.store.projects.update(KEY, arrivals={"threshold": kept}, order_asked=world.clock[0])
    settle(world)
    main = [p for p in queue(world) if not p.parts["random_slice"]]
    assert any(p.parts["queued"] for p in main) is passes


def test_another_aggregation_is_another_scale_too(tmp_path: Path) -> None:
    options = ("aggregation=top_m", "m=4")
    world = make_world(tmp_path, strategy="stream", strategy_options=options)
    settle(world)
    arrive(world, *drawn_by_hand(world, 1, HALF))
    settle(world)
    assert threshold(world)["scale"] == "00000000/entropy top_m m=4 overlap=0.5 x/(1+x)"
