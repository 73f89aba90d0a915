"""Control trainings through the loop: chance against the order, when there is time, whatever is cut off."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from common.average_precision import Matches
from common.domain import LabelledBox
from common.learning_curve import Curve
from common.loop import control
from common.loop.control_plan import load_plan
from common.loop.ordering import slice_hash
from common.loop.savings import labels_saved, read_off
from common.loop.splitting import SLICE_SHARE
from common.store.measurements import MeasurementRow
from common.store.projects import ProjectRow
from tests.fakes import FakeTrainer, World, found_boxes, make_world, settle

KEY = "fake:1"
BOX = LabelledBox("cat", (0.1, 0.1, 0.6, 0.6))


@dataclass
class Sided(FakeTrainer):
    """Weights are as good as the folder they were trained in says; every start makes the folder."""

    sides: dict[str, float] = field(default_factory=lambda: {"control": 0.3, "chosen": 0.9})

    def start(self, spec: Any, samples: Any, val: Any = ()) -> list[str]:
        spec.folder.mkdir(parents=True, exist_ok=True)
        return super().start(spec, samples, val)

    def matches(self, folder: Path) -> dict[str, Matches]:
        side = folder.name.rpartition("-")[2]
        if side not in self.sides:
            return super().matches(folder)
        number = max(i for i, spec in enumerate(self.started) if spec.folder == folder)
        return {side * 8: found_boxes(self.validation[number], self.started[number].classes, self.sides[side])}


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "LEAST", 3)


def make(folder: Path, images: int = 110, **settings: Any) -> World:
    """A connected project with an order, nothing labelled, no round due by itself."""
    world = make_world(folder, images, **{"control": True, "min_new_labels": 1000, "later_block": 500, **settings})
    world.trainer = world.tools.trainer = Sided()
    world.clock[0] = time.time() + 60
    settle(world)
    return world


def label(world: World, count: int) -> list[str]:
    world.clock[0] += 101
    chosen = world.platform.order()[:count]
    for task in chosen:
        world.platform.annotate(task, BOX)
    settle(world)
    return chosen


def ask(world: World) -> None:
    world.tools.store.projects.update(KEY, training_asked=world.clock[0])


def train(world: World) -> None:
    """A round from its beginning to its end."""
    ask(world)
    settle(world)
    assert "control" not in world.trainer.started[-1].folder.name
    world.trainer.worth[str(world.models.installed + 1) * 64] = 0.8
    world.trainer.finish()
    settle(world)


def row(world: World) -> ProjectRow:
    found = world.tools.store.projects.get(KEY)
    assert found is not None
    return found


def newest(world: World) -> str:
    return world.trainer.started[-1].folder.name


def journal(world: World) -> str:
    return "\n".join(e.text for e in world.tools.store.journal.newest(KEY, 200))


def in_slice(sample: str) -> bool:
    return slice_hash(KEY, sample) < SLICE_SHARE


def test_both_sides_train_alike_on_as_many_first_labels_and_are_measured_on_the_rounds_images(tmp_path: Path) -> None:
    world = make(tmp_path)
    served = label(world, 100)
    train(world)
    rounds = world.trainer.validation[0]
    assert newest(world) == "control-1-control"
    world.trainer.finish()
    settle(world)
    assert newest(world) == "control-1-chosen"
    (one, other), (chance, chosen) = world.trainer.started[-2:], world.trainer.samples[-2:]
    assert (one.updates, one.seed, one.base, one.imgsz) == (other.updates, other.seed, other.base, other.imgsz)
    assert one.base == Path("base.pt")
    trained = {s.id for s in world.trainer.samples[0]}
    assert [s.id for s in chance] == [s for s in served if s in trained and in_slice(s)][: len(chance)]
    assert [s.id for s in chosen] == [s for s in served if s in trained and not in_slice(s)][: len(chance)]
    assert len(chance) == len(chosen) >= 3
    for val in world.trainer.validation[-2:]:
        assert {s.id for s in val} == {s.id for s in rounds}


def test_the_difference_is_stored_told_and_cleaned_up_after(tmp_path: Path) -> None:
    world = make(tmp_path)
    label(world, 100)
    train(world)
    for _ in range(2):
        world.clock[0] += 50
        world.trainer.finish()
        settle(world)
    (chance,) = world.tools.store.measurements.all(KEY, "control")
    (chosen,) = world.tools.store.measurements.all(KEY, "chosen")
    assert (chance.round, chance.trained, chance.labels) == (1, 1, chosen.labels)
    gained = chosen.metrics["map5095"] - chance.metrics["map5095"]
    assert chosen.metrics["gained"] == pytest.approx(gained)
    assert chosen.metrics["gained_low"] <= gained <= chosen.metrics["gained_high"]
    told = labels_saved(world.tools, row(world))
    assert isinstance(told, dict)
    assert (told["share"], told["note"]) == (None, "not enough data: the learning curve needs 3 rounds")
    assert "control starts" in journal(world)
    assert "the two trainings took 100 s" in journal(world)
    assert not [p for p in (tmp_path / "home" / "rounds").rglob("control-*") if p.is_dir()]


def test_a_round_that_is_due_goes_first_and_the_control_goes_on_after_it(tmp_path: Path) -> None:
    world = make(tmp_path)
    label(world, 100)
    train(world)
    folder, sets = world.trainer.started[-1].folder, world.trainer.samples[-1]
    ask(world)
    settle(world)
    assert world.trainer.poll(folder).message == "cancelled"
    assert newest(world) == "2"
    world.trainer.worth["2" * 64] = 0.8
    world.trainer.finish()
    settle(world)
    assert world.trainer.started[-1].folder == folder
    assert world.trainer.samples[-1] == sets


def test_a_control_that_was_cut_off_goes_on_and_is_given_up_when_it_is_lost_again_and_again(tmp_path: Path) -> None:
    world = make(tmp_path)
    label(world, 100)
    train(world)
    starts = len(world.trainer.started)
    for _ in range(8):
        world.trainer.finish("lost")
        settle(world)
    assert len(world.trainer.started) == starts + 4
    assert {s.folder.name for s in world.trainer.started[starts:]} == {"control-1-control"}
    assert "control failed: its process was lost again and again" in journal(world)
    told = labels_saved(world.tools, row(world))
    assert isinstance(told, str)
    assert told.startswith("not enough data: the control failed")


def test_it_is_made_again_only_when_there_is_half_as_much_more(tmp_path: Path) -> None:
    world = make(tmp_path, 230)
    label(world, 100)
    train(world)
    for _ in range(2):
        world.trainer.finish()
        settle(world)
    starts = len(world.trainer.started)
    label(world, 10)
    train(world)
    assert len(world.trainer.started) == starts + 1
    plan = load_plan(world.tools, row(world))
    assert plan is not None
    assert plan.state == "waiting"
    label(world, 110)
    train(world)
    assert newest(world) == "control-3-control"


def test_without_the_setting_nothing_trains_and_switched_off_it_ends(tmp_path: Path) -> None:
    world = make(tmp_path)
    label(world, 100)
    train(world)
    folder = world.trainer.started[-1].folder
    world.tools.store.projects.update(KEY, settings={"control": False})
    settle(world)
    assert world.trainer.poll(folder).message == "cancelled"
    assert not folder.exists()
    starts = len(world.trainer.started)
    train(world)
    assert len(world.trainer.started) == starts + 1
    told = labels_saved(world.tools, row(world))
    assert told == "not enough data: the setting control is off, so no control training was made"


def test_a_disconnected_projects_control_ends(tmp_path: Path) -> None:
    world = make(tmp_path)
    label(world, 100)
    train(world)
    world.tools.store.projects.update(KEY, state="archived")
    settle(world)
    assert world.trainer.poll(world.trainer.started[-1].folder).message == "cancelled"


def test_labels_from_before_the_first_order_were_chosen_by_nobody(tmp_path: Path) -> None:
    world = make_world(tmp_path, 110, control=True, min_new_labels=1000, later_block=500)
    world.trainer = world.tools.trainer = Sided()
    for task in list(world.platform.tasks)[:100]:
        world.platform.annotate(task, BOX)
    settle(world)
    train(world)
    assert newest(world) == "1"
    told = labels_saved(world.tools, row(world))
    assert told == (
        "not enough data: a control needs 3 training labels of either kind, there are 0 of the random slice and 0 that "
        "the order chose"
    )


def test_images_that_went_away_end_it_with_a_reason(tmp_path: Path) -> None:
    world = make(tmp_path)
    label(world, 100)
    train(world)
    del world.platform.tasks[world.trainer.samples[-1][0].id]
    world.clock[0] += 1000
    settle(world)
    world.trainer.finish("lost")
    settle(world)
    assert "control failed: images that it needs are no longer there" in journal(world)


def test_savings_are_read_off_the_curve_with_the_differences_interval() -> None:
    gained = {"gained": 0.1, "gained_low": -0.2, "gained_high": 0.2}
    chosen = MeasurementRow(KEY, 4, "chosen", 4, "a", 100, 50, 0, gained, 0.0)
    told = read_off(chosen, Curve(1, 1, 0.5))
    assert told["share"] == pytest.approx(0.75)
    assert told["low"] is None
    assert told["high"] == pytest.approx(1 - 1 / 9)
    assert read_off(chosen, Curve(1, 0, 0.5))["note"].startswith("not enough data: the learning curve is flat")


@pytest.mark.parametrize("text", ["", '{"round": 1', "[]", '{"colour": 1}'])
def test_a_plan_that_was_damaged_is_made_anew(tmp_path: Path, text: str) -> None:
    world = make(tmp_path)
    label(world, 100)
    train(world)
    (plan,) = (tmp_path / "home" / "rounds").rglob("control.json")
    kept, starts = json.loads(plan.read_text()), len(world.trainer.started)
    plan.write_text(text)
    settle(world)
    assert {**json.loads(plan.read_text()), "attempts": kept["attempts"], "launched": kept["launched"]} == kept
    assert len(world.trainer.started) == starts, "what trains for it goes on"


def test_an_order_that_serves_once_more_was_there_for_the_labels_of_its_first_time(tmp_path: Path) -> None:
    world = make(tmp_path)
    label(world, 100)
    publications = world.tools.store.publications
    (first,) = publications.all(KEY)
    later = time.time() + 10_000
    publications.update(first.id, activated=later, activations=[*first.activations, later])
    train(world)
    assert newest(world) == "control-1-control"
