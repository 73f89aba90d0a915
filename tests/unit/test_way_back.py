"""The way back: model, predictions and order of a former queue, whether its rows are still there or not."""

from __future__ import annotations

import hashlib
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.domain import Event, QueueItem
from common.errors import RefusedError, UnknownNameError
from common.loop import ActiveLearningLoop
from common.loop.asking import ask_training, cancel
from common.loop.loop import QUIET_S
from common.loop.way_back import ask_promotion, ask_way_back, restorable
from common.ports import Drift, Model
from common.store.projects import ProjectRow
from common.store.publications import Place, PublicationRow
from tests.fakes import FakeModels, World, make_world, picture
from tests.unit import test_crash_points as crash
from tests.unit.test_loop import KEY, label, settle

ZERO = "00000000"
FIRST = f"hardfirst@0.1-{ZERO}"


class KeptModels(FakeModels):
    """Weights are files of a model folder, named by what they were trained in; each is as sure as it is late."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def install(self, trained: Path) -> Model:
        sha = hashlib.sha256(trained.parent.name.encode()).hexdigest()
        path = self._folder / f"{sha}.pt"
        path.write_bytes(b"weights")
        return Model(path, sha, ("cat", "dog"))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make(tmp_path)


def make(folder: Path, images: int = 12, **settings: Any) -> World:
    made = make_world(folder, images, **settings)
    made.tools.models = KeptModels(folder)
    return made


def row_of(world: World) -> ProjectRow:
    row = world.tools.store.projects.get(KEY)
    assert row is not None
    return row


def a_round(world: World) -> str:
    """Enough labels, a pause, a training that is promoted, the new order, a calm while; returns its version."""
    label(world, 3)
    settle(world)
    world.clock[0] += 61
    settle(world)
    world.trainer.finish()
    settle(world)
    calm(world)
    return world.platform.active or ""


def calm(world: World) -> None:
    """Nobody labels, the platform is compared, old rows go."""
    world.clock[0] += QUIET_S + 1000
    settle(world)


def back(world: World, to: str | None = None) -> dict[str, Any]:
    asked = ask_way_back(world.tools, row_of(world), to)
    settle(world)
    return asked


def shown(world: World) -> dict[str, QueueItem]:
    """What annotators see now of what is open, as the platform has it."""
    rows = world.platform.rows[world.platform.active or ""]
    return {t: rows[t] for t in world.platform.order()}


def ledger(world: World) -> dict[str, PublicationRow]:
    return {p.version: p for p in world.tools.store.publications.all(KEY)}


def told(world: World) -> list[str]:
    return [e.text for e in world.tools.store.journal.newest(KEY, 50)]


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


# --- what is refused -------------------------------------------------------------------------------------


def test_a_version_that_nobody_knows_lists_those_there_are(world: World) -> None:
    settle(world)
    a_round(world)
    with pytest.raises(UnknownNameError, match=f"no queue 'hardfirst@9.9-x'; there are \\['{FIRST}'\\]"):
        back(world, "hardfirst@9.9-x")


def test_nothing_to_go_back_to_is_said(world: World) -> None:
    settle(world)
    with pytest.raises(RefusedError, match=r"has nothing to go back to: no model served before this one$"):
        back(world)
    with pytest.raises(RefusedError, match=f"{FIRST} serves already"):
        back(world, FIRST)


@pytest.mark.parametrize("state", ["asked", "stopped", "archived"])
def test_only_an_active_project_goes_back(world: World, state: str) -> None:
    settle(world)
    a_round(world)
    world.tools.store.projects.update(KEY, state=state, reason="because")
    for ask in (lambda: ask_way_back(world.tools, row_of(world)), lambda: ask_promotion(world.tools, row_of(world), 1)):
        with pytest.raises(RefusedError, match=rf"fake:1 is {state} \(because\)"):
            ask()
    assert row_of(world).way_back == {}


def test_weights_or_predictions_that_are_no_longer_kept_are_said(tmp_path: Path) -> None:
    world = make(tmp_path, keep_publications=5)
    settle(world)
    second = a_round(world)
    a_round(world)
    (left, _) = world.tools.store.rounds.checkpoints(KEY)
    world.tools.store.predictions.forget([left.sha256])
    with pytest.raises(RefusedError, match=rf"the predictions of {second} are no longer kept.*\['{FIRST}'\]"):
        back(world)
    Path(left.path).unlink()
    with pytest.raises(RefusedError, match=f"the weights of {second} are no longer kept"):
        back(world)
    assert [p.version for p in restorable(world.tools, row_of(world))] == [FIRST]


def test_other_first_weights_than_then_are_said(world: World) -> None:
    settle(world)
    a_round(world)
    world.tools.models.base = lambda _path: Model(Path("other.pt"), "f" * 64, ("kitty",))  # type: ignore[method-assign]
    with pytest.raises(RefusedError, match=f"{FIRST} was made with other first weights than those of today"):
        back(world)


def test_what_went_between_the_wish_and_the_deed_is_told_in_the_journal_and_changes_nothing(world: World) -> None:
    settle(world)
    second = a_round(world)
    ask_way_back(world.tools, row_of(world))
    world.tools.store.predictions.forget()
    settle(world)
    assert (world.platform.active, row_of(world).way_back) == (second, {})
    assert "what a person asked for was not done: the predictions of" in told(world)[0]


# --- promoting -------------------------------------------------------------------------------------------


def kept_round(world: World) -> int:
    """A round whose model serves no more: somebody went back; returns its number."""
    settle(world)
    a_round(world)
    back(world)
    return 1


def test_a_person_promotes_a_model_that_was_kept_back_and_it_makes_a_new_order(world: World) -> None:
    number = kept_round(world)
    assert ask_promotion(world.tools, row_of(world), number) == {"project": KEY, "round": 1}
    settle(world)
    assert world.tools.serving(row_of(world))[1] == 1
    assert (world.platform.active or "").startswith("hardfirst@1.3-")
    assert row_of(world).way_back == {}


def test_promoting_what_cannot_serve_is_refused(world: World) -> None:
    number = kept_round(world)
    with pytest.raises(UnknownNameError, match=r"no round 7; there are \[1\]"):
        ask_promotion(world.tools, row_of(world), 7)
    label(world, 3)
    settle(world)
    world.clock[0] += 61
    settle(world)
    with pytest.raises(RefusedError, match=r"round 2 is running and left no weights; those that did: \[1\]"):
        ask_promotion(world.tools, row_of(world), 2)
    Path(world.tools.store.rounds.checkpoints(KEY)[0].path).unlink()
    with pytest.raises(RefusedError, match="the weights of round 1 are no longer kept"):
        ask_promotion(world.tools, row_of(world), number)


def test_promoting_what_serves_already_is_refused(world: World) -> None:
    settle(world)
    a_round(world)
    with pytest.raises(RefusedError, match="the model of round 1 serves already"):
        ask_promotion(world.tools, row_of(world), 1)


# --- cancelling ------------------------------------------------------------------------------------------


def start_round(world: World) -> Path:
    settle(world)
    label(world, 3)
    settle(world)
    world.clock[0] += 61
    settle(world)
    running = world.tools.store.rounds.running(KEY)
    assert running is not None
    return Path(running.folder)


def test_a_cancelled_round_ends_at_once_and_its_training_with_the_next_step(world: World) -> None:
    folder = start_round(world)
    ask_training(world.tools, row_of(world))
    assert cancel(world.tools, row_of(world)) == {"project": KEY, "round": 1, "state": "cancelled"}
    assert [(r.state, r.message) for r in world.tools.store.rounds.all(KEY)] == [("cancelled", "cancelled by a person")]
    ActiveLearningLoop(world.tools).step(KEY)
    assert world.trainer.poll(folder).state == "lost"
    calm(world)
    assert len(world.tools.store.rounds.all(KEY)) == 1, "the same labels do not start a round again"
    label(world, 3)
    settle(world)
    world.clock[0] += 61
    settle(world)
    assert [r.state for r in world.tools.store.rounds.all(KEY)] == ["cancelled", "running"]


def test_a_cancelled_training_ends_also_when_the_next_round_was_asked_for_within_the_same_step(world: World) -> None:
    folder = start_round(world)
    loop = ActiveLearningLoop(world.tools)
    stop = loop._stop_cancelled

    def too_early(row: ProjectRow) -> None:
        stop(row)
        if world.tools.store.rounds.running(KEY) is not None and not world.tools.store.rounds.newest(KEY, "cancelled"):
            cancel(world.tools, row_of(world))
            ask_training(world.tools, row_of(world))

    loop._stop_cancelled = too_early  # type: ignore[method-assign]
    loop.step(KEY)
    loop.step(KEY)
    assert [r.state for r in world.tools.store.rounds.all(KEY)] == ["cancelled", "running"]
    assert world.trainer.poll(folder).state == "lost"


def test_a_cancelled_training_ends_also_while_the_platform_is_down(world: World) -> None:
    folder = start_round(world)
    world.platform.down = True
    world.clock[0] += 1000
    loop = ActiveLearningLoop(world.tools)
    loop.step(KEY)
    cancel(world.tools, row_of(world))
    loop.step(KEY)
    assert world.trainer.poll(folder).state == "lost"


def test_weights_of_a_cancelled_round_are_not_taken(world: World) -> None:
    start_round(world)
    cancel(world.tools, row_of(world))
    world.trainer.finish()
    settle(world)
    assert row_of(world).checkpoint is None
    with pytest.raises(RefusedError, match="no round of fake:1 is running: `hardfirst rounds --project fake:1`"):
        cancel(world.tools, row_of(world))


# --- a crash at every moment -----------------------------------------------------------------------------

stock = crash.stock
_quick_order = crash._quick_order


def prepared(stock: Path, folder: Path, keep: int) -> crash.Life:
    """A round is done and its order serves; ``keep`` = 1: the rows of the one before are gone."""
    life = tuned(crash.begin(stock, folder), keep)
    life.settle()
    life.label("100", "101", "102")
    life.settle()
    for wait in (61, 1000, 1000):
        life.world.clock[0] += wait
        life.settle()
    life.world.tools.store.close()
    return life


def tuned(life: crash.Life, keep: int) -> crash.Life:
    settings = life.world.tools.settings.model_copy(update={"keep_publications": keep})
    life.world.tools = replace(life.world.tools, models=KeptModels(life.world.folder), settings=settings)
    return life


def way_back(before: crash.Life, folder: Path, keep: int, at: int = -1) -> crash.Life:
    """A person goes back; the process dies at moment ``at`` since then."""
    life = tuned(crash.begin(before.world.folder, folder, at), keep)
    for name in ("answers", "rows", "active", "state", "stored"):
        setattr(life.platform, name, deepcopy(getattr(before.platform, name)))
    life.world.clock[0] = before.world.clock[0]
    ask_way_back(life.world.tools, row_of(life.world))
    life.settle()
    life.world.clock[0] += 1000
    life.settle()
    return life


def restored(life: crash.Life) -> dict[str, Any]:
    store = life.world.tools.store
    row = row_of(life.world)
    assert row.publication is not None
    publication = store.publications.get(row.publication)
    known = {p.version for p in store.publications.all(KEY) if p.state != "gone"}
    return {
        "project": (row.state, row.reason, row.way_back, row.checkpoint, row.order_asked, row.arrivals),
        "active": (life.platform.active == publication.version, publication.round, publication.state),
        "served": life.platform.order(),
        "sent": (publication.sent == publication.total, publication.in_flight),
        "rows": life.platform.stored[publication.version] == publication.rows,
        "ledger": {v for v, n in life.platform.stored.items() if n} - known,
        "half-made": [p.state for p in store.publications.all(KEY) if p.state in ("building", "sending")],
        "labels": {s: [a.id for a in found] for s, found in store.labels.at(KEY).items()},
    }


@pytest.mark.parametrize("keep", [1, 2])
def test_a_crash_at_any_step_of_the_way_back_ends_where_an_undisturbed_one_does(
    keep: int, stock: Path, tmp_path: Path
) -> None:
    before = prepared(stock, tmp_path / "before", keep)
    calm_life = way_back(before, tmp_path / "calm", keep)
    moments, wanted = calm_life.bomb.passed, restored(calm_life)
    assert wanted["project"] == ("active", "", {}, None, None, {})
    assert wanted["active"] == (True, 0, "active")
    assert len(wanted["served"]) == crash.IMAGES - 3
    assert ("publish" in moments) == (keep == 1)
    for at in range(len(moments)):
        life = way_back(before, tmp_path / str(at), keep, at)
        assert life.crashed == [moments[at]]
        assert restored(life) == wanted, (at, moments[at])


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
