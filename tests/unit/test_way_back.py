"""The way back: model, predictions and order of a former queue, whether its rows are still there or not."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.domain import Event, QueueItem
from common.errors import RefusedError
from common.loop import ActiveLearningLoop
from common.loop.way_back import ask_way_back, restorable
from common.ports import Drift
from common.store.publications import Place, PublicationRow
from tests.fakes import World, picture, settle
from tests.unit.test_loop import KEY, label
from tests.unit.way_back_world import (
    FIRST,
    ZERO,
    a_round,
    back,
    calm,
    make,
    row_of,
    told,
    world_fixture,  # noqa: F401 - fixtures are found by name
)


def shown(world: World) -> dict[str, QueueItem]:
    """What annotators see now of what is open, as the platform has it."""
    rows = world.platform.rows[world.platform.active or ""]
    return {t: rows[t] for t in world.platform.order()}


def ledger(world: World) -> dict[str, PublicationRow]:
    return {p.version: p for p in world.tools.store.publications.all(KEY)}


# --- rows that are still there ---------------------------------------------------------------------------


def test_going_back_serves_the_former_order_predictions_and_model_without_sending_a_row(world: World) -> None:
    settle(world)
    before = shown(world)
    second = a_round(world)
    published = world.platform.calls.count("publish")
    assert back(world) == {"project": KEY, "from": second, "to": FIRST}
    assert world.platform.active == FIRST
    assert shown(world) == {t: i for t, i in before.items() if not world.platform.answers.get(t)}
    assert world.platform.calls.count("publish") == published
    row = row_of(world)
    assert (row.checkpoint, row.way_back, row.order_asked, row.state) == (None, {}, None, "active")
    assert {v: p.state for v, p in ledger(world).items()} == {FIRST: "active", second: "retired"}
    assert row.publication == ledger(world)[FIRST].id
    assert f"a person went back to {FIRST}: the model the project began with serves again; its order" in told(world)[1]


def test_asked_twice_it_goes_back_twice_and_by_name_forward_again(tmp_path: Path) -> None:
    world = make(tmp_path, keep_publications=5)
    settle(world)
    second = a_round(world)
    third = a_round(world)
    back(world)
    assert world.platform.active == second
    back(world)
    assert world.platform.active == FIRST
    with pytest.raises(RefusedError, match=f"nothing to go back to: .*; there are .*{second}.*{third}"):
        back(world)
    back(world, third)
    assert world.platform.active == third
    assert world.tools.serving(row_of(world))[1] == 2


def test_a_second_wish_before_the_first_is_done_takes_its_place(world: World) -> None:
    settle(world)
    second = a_round(world)
    third = a_round(world)
    ask_way_back(world.tools, row_of(world), FIRST)
    ask_way_back(world.tools, row_of(world), second)
    settle(world)
    assert (world.platform.active, row_of(world).way_back) == (second, {})
    assert third in ledger(world)


def test_a_wish_that_comes_while_another_is_done_is_kept(world: World) -> None:
    settle(world)
    a_round(world)
    later = {"to": "another", "asked": 2.0}
    world.tools.store.projects.update(KEY, way_back=later)
    first = ledger(world)[FIRST]
    world.tools.store.publications.restore(first, first.rows, {"to": FIRST, "asked": 1.0})
    assert row_of(world).way_back == later


def test_an_order_of_the_newer_model_that_is_still_being_sent_is_given_up(world: World) -> None:
    settle(world)
    label(world, 3)
    settle(world)
    world.clock[0] += 61
    settle(world)
    world.trainer.finish()
    loop = ActiveLearningLoop(world.tools)
    while len(ledger(world)) < 2:
        loop.step(KEY)
    (newer,) = set(ledger(world)) - {FIRST}
    assert ledger(world)[newer].state == "sending"
    assert back(world)["to"] == FIRST
    assert (world.platform.active, row_of(world).checkpoint) == (FIRST, None)
    assert (ledger(world)[newer].state, ledger(world)[FIRST].state) == ("gone", "active")


def test_a_newer_queue_that_serves_already_is_not_sent_to_its_end_first(world: World) -> None:
    settle(world)
    label(world, 3)
    settle(world)
    world.clock[0] += 61
    settle(world)
    world.trainer.finish()
    loop = ActiveLearningLoop(world.tools)
    while world.platform.active == FIRST:
        loop.step(KEY)
    newer = world.platform.active or ""
    assert len(world.platform.rows[newer]) == 5
    back(world)
    assert (world.platform.active, len(world.platform.rows[newer])) == (FIRST, 5)
    assert (ledger(world)[newer].state, ledger(world)[newer].sent) == ("retired", 5)
    back(world, newer)
    assert (world.platform.active, len(world.platform.rows[newer])) == (newer, 9)


def test_a_queue_that_was_not_sent_completely_is_completed_after_the_switch(world: World) -> None:
    settle(world)
    first = ledger(world)[FIRST]
    second = a_round(world)
    world.tools.store.publications.update(first.id, sent=5, rows=5)
    rows = world.platform.rows[FIRST]
    world.platform.rows[FIRST] = dict(list(rows.items())[:5])
    calls = len(world.platform.calls)
    back(world)
    again = [c for c in world.platform.calls[calls:] if c in ("publish", "activate")]
    assert again[0] == "activate"
    assert (ledger(world)[FIRST].state, ledger(world)[FIRST].sent) == ("active", 12)
    assert set(shown(world)) == set(world.platform.order())
    assert len(world.platform.order()) == 9
    assert ledger(world)[second].state == "retired"


def test_deleted_images_do_not_make_a_queue_be_sent_again(world: World) -> None:
    settle(world)
    a_round(world)
    lost = world.platform.order()[0]
    del world.platform.tasks[lost]
    del world.platform.rows[FIRST][lost]
    world.tools.store.inbox.add(Event("fake", "1", "samples"))
    settle(world)
    back(world)
    assert world.platform.active == FIRST
    assert len(ledger(world)) == 2


# --- rows that are gone ----------------------------------------------------------------------------------


def test_a_queue_whose_rows_are_gone_is_sent_again_as_it_was(tmp_path: Path) -> None:
    world = make(tmp_path, keep_publications=1)
    settle(world)
    before = shown(world)
    second = a_round(world)
    assert ledger(world)[FIRST].state == "gone"
    assert FIRST not in world.platform.rows
    back(world)
    third = f"hardfirst@0.3-{ZERO}"
    assert world.platform.active == third
    assert shown(world) == {t: i for t, i in before.items() if not world.platform.answers.get(t)}
    row = row_of(world)
    assert (row.checkpoint, row.way_back, row.order_asked) == (None, {}, None)
    assert {v: p.state for v, p in ledger(world).items()} == {FIRST: "gone", second: "gone", third: "active"}
    assert f"sent again as {third}: 9 images, without 3 answered since" in "\n".join(told(world))


def test_going_back_twice_over_rows_that_are_gone_ends_at_the_first_model(tmp_path: Path) -> None:
    world = make(tmp_path, keep_publications=1)
    settle(world)
    second = a_round(world)
    a_round(world)
    back(world)
    calm(world)
    assert world.platform.active == f"hardfirst@1.4-{second[-8:]}"
    back(world)
    assert world.platform.active == f"hardfirst@0.5-{ZERO}"


def test_rows_that_were_partly_deleted_count_as_gone(tmp_path: Path) -> None:
    world = make(tmp_path, 30, keep_publications=1)
    settle(world)
    label(world, 3)
    settle(world)
    world.clock[0] += 61
    settle(world)
    world.trainer.finish()
    loop = ActiveLearningLoop(world.tools)
    while len(world.platform.rows[FIRST]) == 30:
        loop.step(KEY)
    assert ledger(world)[FIRST].state == "retired"
    world.tools.store.publications.lost = lambda _row: 100  # type: ignore[method-assign]
    back(world)
    assert world.platform.active == f"hardfirst@0.3-{ZERO}"
    assert len(world.platform.order()) == 27


def test_orders_of_the_newest_models_are_kept_and_older_ones_forgotten(tmp_path: Path) -> None:
    world = make(tmp_path, 20, keep_publications=1, keep_checkpoints=2)
    settle(world)
    versions = [FIRST, *(a_round(world) for _ in range(3))]
    world.tools.store.projects.update(KEY, order_asked=world.clock[0])
    settle(world)
    calm(world)
    newest = world.platform.active or ""
    placed = world.tools.store.publications.placed(KEY)
    assert {p.version for p in ledger(world).values() if p.id in placed} == {versions[2], newest}
    with pytest.raises(
        RefusedError, match=rf"the order of {FIRST} is no longer kept \(HARDFIRST_KEEP_CHECKPOINTS is 2"
    ):
        back(world, FIRST)
    assert [p.version for p in restorable(world.tools, row_of(world))] == [versions[2]]


def test_when_every_image_of_the_order_is_answered_the_restored_model_makes_a_new_one(tmp_path: Path) -> None:
    world = make(tmp_path, keep_publications=1)
    settle(world)
    a_round(world)
    label(world, 9)
    settle(world)
    for i in range(4):
        picture(world.folder / "pictures" / f"late{i}.png", 50 + i)
        world.platform.tasks[f"90{i}"] = f"late{i}.png"
    calm(world)
    back(world)
    assert "all images of its order are answered, it makes a new one of what is open" in "\n".join(told(world))
    assert world.platform.active == f"hardfirst@0.3-{ZERO}"
    assert sorted(world.platform.order()) == ["900", "901", "902", "903"]


def test_the_places_of_what_is_restored_keep_their_order_and_reasons(tmp_path: Path) -> None:
    world = make(tmp_path, keep_publications=1)
    settle(world)
    first: list[Place] = world.tools.store.publications.places(ledger(world)[FIRST].id)
    a_round(world)
    back(world)
    again = world.tools.store.publications.places(row_of(world).publication or 0)
    there = [p for p in first if not world.platform.answers.get(p.sample)]
    assert [(p.sample, p.place, p.utility, p.parts) for p in again] == [
        (p.sample, p.place, p.utility, p.parts) for p in there
    ]
    assert [p.rank for p in again] == list(range(1, 10))


# --- what goes on besides --------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [1, 2])
def test_images_that_came_since_take_their_places_in_the_restored_queue(tmp_path: Path, keep: int) -> None:
    world = make(tmp_path, 24, keep_publications=keep)
    settle(world)
    a_round(world)
    picture(world.folder / "pictures" / "late.png", 99)
    world.platform.tasks["900"] = "late.png"
    world.tools.store.inbox.add(Event("fake", "1", "samples"))
    settle(world)
    back(world)
    assert "900" in world.platform.order()
    assert (world.platform.active or "").startswith("hardfirst@0.")
    assert world.tools.store.publications.unfinished(KEY) is None


def test_a_running_training_goes_on_and_is_judged_against_the_restored_champion(world: World) -> None:
    settle(world)
    a_round(world)
    label(world, 3)
    settle(world)
    world.clock[0] += 61
    settle(world)
    back(world)
    running = world.tools.store.rounds.running(KEY)
    assert running is not None
    assert world.trainer.poll(Path(running.folder)).state == "running"
    assert row_of(world).checkpoint is None
    world.trainer.finish()
    settle(world)
    assert world.tools.serving(row_of(world))[1] == 2


def test_a_persons_change_on_the_platform_is_seen_before_the_switch_hides_it(world: World) -> None:
    settle(world)
    second = a_round(world)
    world.platform.drifts = [Drift("sampling is 'sequential'", healed=False, fix="set it back")]
    ask_way_back(world.tools, row_of(world))
    ActiveLearningLoop(world.tools).step(KEY)
    assert (world.platform.active, row_of(world).state) == (second, "stopped")


def test_labels_are_as_they_were(world: World) -> None:
    settle(world)
    a_round(world)
    there, known = repr(world.platform.answers), world.tools.store.labels.at(KEY)
    back(world)
    calm(world)
    assert repr(world.platform.answers) == there
    assert world.tools.store.labels.at(KEY) == known
