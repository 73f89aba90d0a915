"""How a round ends: promoted, provisional or kept back; what it measured; what stays on the disk."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.average_precision import Matches, compare
from common.domain import Event, LabelledBox
from common.errors import TrainingError
from common.loop import ActiveLearningLoop
from common.loop.committee import committee_of
from common.loop.history import training_history
from common.loop.housekeeping import tidy
from common.loop.ordering import duplicate_groups, gather, make_pool, order
from common.loop.overview import project_status
from common.loop.results import figures, known_quality, quality_of
from common.loop.way_back import ask_way_back, restorable
from common.ports import Model
from common.store.measurements import MeasurementRow
from common.store.projects import ProjectRow
from common.store.rounds import RoundRow
from tests.fakes import FakeModels, World, make_world, settle

KEY = "fake:1"
CAT = LabelledBox("cat", (0.1, 0.1, 0.5, 0.5))
DOG = LabelledBox("dog", (0.6, 0.6, 0.9, 0.9))
FIRST, SECOND = "1" * 64, "2" * 64


class FolderModels(FakeModels):
    """Trained weights are files of a folder of their own, under the name of their number."""

    def __init__(self, folder: Path, names: tuple[str, ...]) -> None:
        super().__init__(names)
        self._folder = folder
        folder.mkdir()

    def install(self, trained: Path) -> Model:
        model = super().install(trained)
        path = self._folder / f"{self.installed}.pt"
        path.write_bytes(b"weights")
        return Model(path, f"{self.installed:x}" * 64 if self.installed < 16 else "", model.names)


def begin(tmp_path: Path, images: int = 140, names: tuple[str, ...] = ("kitty",), **settings: Any) -> World:
    """Half of the labels validate, so that few pictures are enough; no picture resembles another."""
    values = {"validation_share": 0.6, "pause_s": 0, "min_new_labels": 3, "keep_checkpoints": 2, **settings}
    world = make_world(tmp_path, images, first_block=500, later_block=500, **values)
    world.models = world.tools.models = FolderModels(tmp_path / "models", names)
    settle(world)
    return world


@pytest.fixture(autouse=True)
def _quick_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.loop.lookalikes.CALIBRATED_ON", 1)
    monkeypatch.setattr("common.policy.compare", partial(compare, repeats=50))
    monkeypatch.setattr("common.loop.results.REPEATS", 20)


def answer(world: World, count: int, *, ask: bool = False) -> None:
    """A person answers the next tasks, enough of them or with a word that a round is wanted; it begins."""
    world.clock[0] += 1
    for task in [t for t in world.platform.tasks if t not in world.platform.answers][:count]:
        world.platform.annotate(task, CAT, DOG)
    for kind in ("labels", "train") if ask else ("labels",):
        world.tools.store.inbox.add(Event("fake", "1", kind))
    settle(world)


def end(world: World, **worth: float | dict[str, float]) -> RoundRow:
    """The round ends; r1=0.9: the weights of round 1 find nine boxes of ten."""
    world.trainer.worth |= {f"{int(name[1:]):x}" * 64: value for name, value in worth.items()}
    spec = world.trainer.started[-1]
    (spec.folder / "run").mkdir(parents=True, exist_ok=True)
    for name in ("final.pt", "safe.pt", "run/last.pt"):
        (spec.folder / name).write_bytes(b"0" * 1000)
    for name in ("manifest.json", "result.json", "matches-1.npz"):
        (spec.folder / name).write_bytes(b"1")
    world.trainer.finish()
    settle(world)
    newest = world.tools.store.rounds.newest(KEY)
    assert newest is not None
    return newest


def row_of(world: World) -> ProjectRow:
    row = world.tools.store.projects.get(KEY)
    assert row is not None
    return row


def journal(world: World) -> str:
    return "\n".join(f"{e.level}: {e.text}" for e in world.tools.store.journal.newest(KEY, 100))


@pytest.fixture
def poisoned(tmp_path: Path) -> World:
    """A good champion, then a challenger that finds a third of it."""
    world = begin(tmp_path, gate_images=20)
    answer(world, 70)
    end(world, r1=0.9)
    answer(world, 30)
    return world


def test_a_poisoned_round_leaves_the_champion_and_its_queue_alone(poisoned: World) -> None:
    before, active = row_of(poisoned), poisoned.platform.active
    assert len(poisoned.trainer.validation[-1]) >= 48
    ended = end(poisoned, r2=0.3)
    assert (ended.state, ended.verdict) == ("done", "kept")
    now = row_of(poisoned)
    assert (now.checkpoint, now.publication, now.order_asked) == (before.checkpoint, before.publication, None)
    assert poisoned.platform.active == active == "hardfirst@1.2-11111111"
    assert [p.state for p in poisoned.tools.store.publications.all(KEY)] == ["retired", "active"]
    assert f"warning: round 2 done: kept: mAP50-95 {_short(ended.gate['map5095'])} against" in journal(poisoned)
    assert "; the former model keeps serving" in journal(poisoned)
    assert ended.gate["reason"].startswith("kept: mAP50-95 ")
    assert ended.gate["high"] < 0


def _short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def test_a_refused_round_is_not_repeated_at_once_but_with_new_labels(poisoned: World) -> None:
    end(poisoned, r2=0.3)
    settle(poisoned)
    assert len(poisoned.trainer.started) == 2
    answer(poisoned, 13)
    assert len(poisoned.trainer.started) == 3


def test_a_refused_model_is_kept_for_a_person_who_wants_it_and_is_measured_on(poisoned: World) -> None:
    end(poisoned, r2=0.3)
    assert [c.round for c in poisoned.tools.store.rounds.checkpoints(KEY)] == [1, 2]
    answer(poisoned, 13)
    assert [p.name for p in poisoned.trainer.started[-1].measure] == ["1.pt", "2.pt"], "the champion's first"


def test_a_refused_model_is_no_member_of_the_committee(poisoned: World) -> None:
    end(poisoned, r2=0.3)
    answer(poisoned, 13)
    end(poisoned, r3=0.95)
    tools = poisoned.tools
    tools.store.projects.update(KEY, settings={"committee": ["checkpoints"]})
    model, number = tools.serving(row_of(poisoned))
    assert number == 3
    assert [m.sha256 for m in committee_of(tools, row_of(poisoned), model).members] == [FIRST]


def test_a_better_challenger_takes_over_and_everything_measured_is_stored(poisoned: World) -> None:
    ended = end(poisoned, r2=0.95)
    assert ended.verdict == "promoted"
    assert poisoned.platform.active == "hardfirst@2.3-22222222"
    rows = [m for m in poisoned.tools.store.measurements.all(KEY) if m.round == 2]
    assert [(m.trained, m.sha256) for m in rows] == [(1, FIRST), (2, SECOND)]
    assert {m.images for m in rows} == {len(ended.split["val"])}
    assert {m.biased for m in rows} == {len(ended.split["biased"])}
    assert [m.labels for m in rows] == [len(s) for s in poisoned.trainer.samples]
    metrics = rows[1].metrics
    assert metrics["map5095_low"] <= metrics["map5095"] <= metrics["map5095_high"]
    assert {"ap50/cat", "ap5095/dog", "quality/cat"} <= set(metrics)


def test_the_verdict_is_the_same_whenever_it_is_made(poisoned: World, tmp_path: Path) -> None:
    again = begin(tmp_path / "again", gate_images=20)
    answer(again, 70)
    end(again, r1=0.9)
    answer(again, 30)
    assert end(again, r2=0.8).gate == end(poisoned, r2=0.8).gate


def test_with_few_validation_images_a_model_is_promoted_provisionally(tmp_path: Path) -> None:
    world = begin(tmp_path, 40)
    answer(world, 20)
    assert end(world, r1=0.9).verdict == "provisional"
    answer(world, 10)
    ended = end(world, r2=0.1)
    assert ended.verdict == "provisional"
    assert "not enough data: " in ended.message
    assert "30 are needed" in ended.message
    assert row_of(world).checkpoint == world.tools.store.rounds.checkpoints(KEY)[-1].id


def test_first_weights_that_know_a_class_are_measured_and_may_keep_serving(tmp_path: Path) -> None:
    world = begin(tmp_path, names=("cat", "dog"), gate_images=20)
    world.trainer.worth = {"0" * 64: 0.95}
    answer(world, 70)
    assert world.trainer.started[-1].measure == (Path("base.pt"),)
    assert end(world, r1=0.2).verdict == "kept"
    assert row_of(world).checkpoint is None
    answer(world, 20)
    assert [p.name for p in world.trainer.started[-1].measure] == ["base.pt", "1.pt"]
    end(world, r2=0.99)
    assert row_of(world).checkpoint is not None
    measured = [(m.round, m.trained, m.labels > 0) for m in world.tools.store.measurements.all(KEY)]
    assert measured == [(1, 0, False), (1, 1, True), (2, 0, False), (2, 1, True), (2, 2, True)]
    answer(world, 20)
    assert "base.pt" not in [p.name for p in world.trainer.started[-1].measure]


def test_a_champion_that_came_back_during_a_training_is_measured_before_the_gate_judges(tmp_path: Path) -> None:
    world = begin(tmp_path, names=("cat", "dog"), gate_images=20)
    answer(world, 70)
    end(world, r1=0.95)
    answer(world, 30)
    assert [p.name for p in world.trainer.started[-1].measure] == ["1.pt"]
    ask_way_back(world.tools, row_of(world))
    settle(world)
    assert row_of(world).checkpoint is None
    assert end(world, r2=0.1).state == "running", "its weights are there; what serves now is measured beside them"
    assert [p.name for p in world.trainer.started[-1].measure] == ["base.pt", "1.pt"]
    assert {s.id for s in world.trainer.samples[-1]} == {s.id for s in world.trainer.samples[-2]}
    world.trainer.worth["0" * 64] = 0.9
    assert end(world).verdict == "kept"


def test_a_champion_that_came_back_and_cannot_be_measured_does_not_hold_the_round_up(tmp_path: Path) -> None:
    world = begin(tmp_path, names=("cat", "dog"), gate_images=20)
    answer(world, 70)
    end(world, r1=0.95)
    answer(world, 30)
    ask_way_back(world.tools, row_of(world))
    settle(world)
    end(world, r2=0.9)
    ended = end(world)
    assert (ended.verdict, len(world.trainer.started)) == ("provisional", 3)
    assert "the champion could not be measured" in ended.message


def test_two_models_that_met_different_images_fail_the_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = begin(tmp_path, gate_images=20)
    answer(world, 70)
    end(world, r1=0.9)
    answer(world, 30)
    real = world.trainer.matches

    def shorter(folder: Path) -> dict[str, Matches]:
        found = real(folder)
        m = found[FIRST]
        known = m.image > 0
        rows = (m.image[known] - 1, m.label[known], m.confidence[known], m.correct[known])
        return found | {FIRST: Matches(*rows, m.truths[1:])}

    monkeypatch.setattr(world.trainer, "matches", shorter)
    ended = end(world, r2=0.9)
    assert (ended.state, "the same images" in ended.message) == ("failed", True)


def test_first_weights_that_know_no_class_are_beaten_by_the_first_model(tmp_path: Path) -> None:
    world = begin(tmp_path, gate_images=20)
    answer(world, 70)
    assert world.trainer.started[-1].measure == ()
    ended = end(world, r1=0.2)
    assert ended.verdict == "promoted"
    assert ended.message.startswith("promoted: the first model that knows the labels, mAP50-95 .")


@pytest.mark.parametrize(("train_from", "second"), [("base", "base.pt"), ("champion", "1.pt")])
def test_a_round_starts_from_what_the_setting_says(tmp_path: Path, train_from: str, second: str) -> None:
    world = begin(tmp_path, 40, train_from=train_from)
    answer(world, 20)
    end(world, r1=0.9)
    answer(world, 10)
    assert [s.base.name for s in world.trainer.started] == ["base.pt", second]
    assert {s.id for s in world.trainer.samples[0]} <= {s.id for s in world.trainer.samples[1]}, (
        "everything trains again"
    )


def test_a_result_that_cannot_be_read_fails_the_round_and_nothing_is_promoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = begin(tmp_path, 40)
    answer(world, 20)

    def broken(folder: Path) -> dict[str, Matches]:
        raise TrainingError(f"{folder}/matches is damaged")

    monkeypatch.setattr(world.trainer, "matches", broken)
    ended = end(world, r1=0.9)
    assert (ended.state, ended.verdict) == ("failed", "")
    assert row_of(world).checkpoint is None


@pytest.mark.parametrize("values", [{"state": "cancelled"}, {"token": 99}])
def test_a_round_that_is_no_longer_ours_changes_nothing(tmp_path: Path, values: dict[str, Any]) -> None:
    world = begin(tmp_path, 40)
    answer(world, 20)
    store = world.tools.store
    running = store.rounds.running(KEY)
    assert running is not None
    store.rounds.update(running.id, **values)
    measured = MeasurementRow(KEY, 1, "checkpoint", 1, FIRST, 1, 1, 0, {}, 1.0)
    left: dict[str, Any] = {"path": "/w", "sha256": FIRST, "names": [], "metrics": {}, "message": "", "verdict": "kept"}
    assert not store.rounds.finish(running, **left, measurements=[measured])
    assert store.rounds.checkpoints(KEY) == []
    assert store.measurements.all(KEY) == []
    assert row_of(world).checkpoint is None


def cancelled_while_installing(world: World, monkeypatch: pytest.MonkeyPatch, **values: Any) -> None:
    """Somebody ends, or takes over, the round between its weights' way into the model folder and its end."""
    install = world.models.install

    def slow(trained: Path) -> Model:
        running = world.tools.store.rounds.running(KEY)
        assert running is not None
        world.tools.store.rounds.update(running.id, **values)
        return install(trained)

    monkeypatch.setattr(world.models, "install", slow)


@pytest.mark.parametrize(("values", "left"), [({"state": "cancelled"}, []), ({"token": 99}, ["1.pt"])])
def test_weights_of_a_round_that_ended_meanwhile_do_not_stay_those_of_one_taken_over_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], left: list[str]
) -> None:
    world = begin(tmp_path, 40)
    answer(world, 20)
    cancelled_while_installing(world, monkeypatch, **values)
    world.trainer.finish()
    ActiveLearningLoop(world.tools).step(KEY)
    assert world.models.installed == 1
    assert world.tools.store.rounds.checkpoints(KEY) == []
    assert [p.name for p in (tmp_path / "models").iterdir()] == left


def test_weights_of_a_cancelled_round_that_a_checkpoint_or_a_setting_names_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = begin(tmp_path, 40)
    answer(world, 20)
    end(world, r1=0.9)
    answer(world, 10)
    cancelled_while_installing(world, monkeypatch, state="cancelled")
    first, second = tmp_path / "models/1.pt", tmp_path / "models/2.pt"
    base = world.models.base
    monkeypatch.setattr(world.models, "base", lambda name: replace(base(name), path=second))
    world.trainer.finish()
    settle(world)
    assert first.is_file()
    assert second.is_file()


def test_weights_of_a_round_that_fails_at_its_end_do_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = begin(tmp_path, 40)
    answer(world, 20)

    def broken(folder: Path) -> dict[str, Matches]:
        raise TrainingError(f"{folder}/matches is damaged")

    monkeypatch.setattr(world.trainer, "matches", broken)
    assert end(world, r1=0.9).state == "failed"
    assert list((tmp_path / "models").iterdir()) == []


def test_validation_images_on_which_nothing_could_be_measured_are_said(tmp_path: Path) -> None:
    world = begin(tmp_path, 40)
    answer(world, 20)
    ended = end(world)
    count = len(ended.split["val"])
    assert count > 0
    assert f"the new model could not be measured on its {count} validation images" in ended.message


def test_the_advice_of_the_curve_is_told_after_each_round(poisoned: World) -> None:
    end(poisoned, r2=0.95)
    assert "learning curve, wait: 2 of 3 rounds that advice needs" in journal(poisoned)


def test_the_history_says_of_each_round_what_became_of_it(poisoned: World) -> None:
    poisoned.clock[0] += 5
    end(poisoned, r2=0.3)
    answer(poisoned, 13)
    first, second, third = training_history(poisoned.tools, row_of(poisoned))
    assert [e["number"] for e in (first, second, third)] == [1, 2, 3]
    assert (first["verdict"], first["serves"], first["checkpoint"]) == ("promoted", True, FIRST)
    assert (second["verdict"], second["serves"], second["state"]) == ("kept", False, "done")
    assert second["reason"].startswith("kept: ")
    assert second["map50"] == pytest.approx(second["map5095"])
    assert second["map50"] < first["map50"]
    assert (third["state"], third["map50"], third["reason"]) == ("running", None, "starting")
    assert second["images"] == len(poisoned.trainer.validation[1])


def test_a_running_round_tells_its_epoch_its_losses_and_the_time_left(tmp_path: Path) -> None:
    world = begin(tmp_path, 40)
    answer(world, 20)
    folder, said = world.trainer.started[-1].folder, "epoch 3 of 10, about 12 s left"
    numbers = {"box_loss": 1.25, "cls_loss": float("nan"), "eta_s": 12.0}
    states = world.trainer.states
    states[folder] = replace(states[folder], epoch=3, message=said, metrics=numbers)
    ActiveLearningLoop(world.tools).step(KEY)
    (running,) = training_history(world.tools, row_of(world))
    known = {"box_loss": 1.25, "eta_s": 12.0}
    assert running["progress"] == {"epoch": 3, "epochs": 10, "message": said, "metrics": known}, "NaN is no JSON"
    assert project_status(world.tools, row_of(world))["training"].endswith(f"{said}; losses: box 1.25")


def test_a_badly_known_class_weighs_more_in_the_next_order(poisoned: World) -> None:
    tools, row = poisoned.tools, row_of(poisoned)
    model, _ = tools.serving(row)
    samples = tools.store.samples.all(KEY)
    scored = gather(tools, row, model, samples)
    group = duplicate_groups(tools, row, samples)
    before = make_pool(tools, row, scored, group).quality
    assert before is not None
    assert before[0] == pytest.approx(before[1], abs=0.1)
    end(poisoned, r1={"cat": 0.2, "dog": 0.9}, r2=0.1)
    row = row_of(poisoned)
    after = make_pool(tools, row, gather(tools, row, model, samples), group).quality
    assert after is not None
    assert after[0] < after[1] - 0.3, "by the classes of the project, whatever the model's order is"


def test_images_of_a_badly_known_class_rise_in_the_order(tmp_path: Path) -> None:
    world = begin(tmp_path, 60, strategy_options="typicality=false")
    answer(world, 20)
    tools, row, model = world.tools, row_of(world), Model(Path("w.pt"), "d" * 64, ("dog", "cat"))
    samples = tools.store.samples.all(KEY)
    kept = gather(tools, row, tools.serving(row)[0], samples)
    shown = {s.external: name for s, name in zip(samples, ("dog", "cat") * 30, strict=True)}
    said = [_sees(p, ("dog", "cat").index(shown[s.external])) for s, p in zip(samples, kept.predictions, strict=True)]
    scored = replace(kept, predictions=said, model=model)
    places: list[dict[str, float]] = []
    for quality in ({}, {"quality/dog": 0.9, "quality/cat": 0.1}, {"quality/dog": 0.1, "quality/cat": 0.9}):
        tools.store.measurements.add([MeasurementRow(KEY, 1, "checkpoint", 1, model.sha256, 9, 9, 0, quality, 1.0)])
        ranks = [(shown[p.sample], p.rank) for p in order(tools, row, scored)]
        places.append({name: float(np.mean([r for n, r in ranks if n == name])) for name in ("dog", "cat")})
    unknown, bad_cat, bad_dog = places
    assert bad_cat["cat"] < unknown["cat"] < bad_dog["cat"]
    assert bad_dog["dog"] < unknown["dog"] < bad_cat["dog"]


def _sees(said: Any, column: int) -> Any:
    """The same prediction by a model that sees one box of this class, not sure of it."""
    scores = np.zeros((1, 2), np.float32)
    scores[0, column] = 0.3
    instances = replace(said.instances, scores=scores)
    return replace(said, instances=instances, doubt=np.zeros(2, np.float32), model_change=np.zeros(2, np.float32))


def test_quality_stands_in_the_order_of_the_project_and_fills_what_was_not_measured(tmp_path: Path) -> None:
    world = begin(tmp_path, 4)
    tools, row, model = world.tools, row_of(world), Model(Path("w.pt"), FIRST, ("dog", "cat"))
    assert known_quality(tools, row, model) is None
    metrics = {"quality/dog": 0.9, "quality/cat": 0.1}
    tools.store.measurements.add([MeasurementRow(KEY, 1, "checkpoint", 1, FIRST, 9, 9, 0, metrics, 1.0)])
    assert known_quality(tools, row, model) == pytest.approx([0.1, 0.9])
    grown = replace(row, spec=replace(row.spec, classes=(*row.spec.classes, replace(row.spec.classes[0], name="cow"))))
    assert known_quality(tools, grown, model) == pytest.approx([0.1, 0.9, 0.5])


def test_quality_counts_missed_boxes_and_no_false_ones() -> None:
    truths = np.array([[1, 1], [1, 0]])
    found = Matches(
        np.array([0, 0, 1]),
        np.array([0, 0, 0]),
        np.array([0.8, 0.7, 0.6]),
        np.array([[True], [False], [True]]),
        truths,
        np.array([0.9, 0.0, 0.6]),
    )
    each = np.array([0.8**0.6 * 0.9**0.4, 0.6**0.6 * 0.6**0.4, 0.0])
    mean = each.mean()
    assert quality_of(found) == pytest.approx([(each[:2].sum() + 10 * mean) / 12, 10 * mean / 11])
    assert quality_of(replace(found, overlap=None)) is None


def test_a_set_without_a_labelled_box_gives_no_figure() -> None:
    nothing = Matches(*np.zeros((2, 0), np.int64), np.zeros(0), np.zeros((0, 10), bool), np.zeros((5, 2), np.int64))
    assert figures(nothing, ("cat", "dog"), (0, 1)) == {}


def sizes(world: World) -> int:
    roots = (world.tools.settings.folder / "rounds", world.folder / "models")
    return sum(f.stat().st_size for root in roots for f in root.rglob("*") if f.is_file())


def test_the_disk_stays_bounded_over_many_rounds_and_the_records_stay(tmp_path: Path) -> None:
    world = begin(tmp_path, 34)
    used = []
    for number in range(1, 13):
        world.trainer.worth.clear()
        answer(world, 10 if number == 1 else 2, ask=True)
        end(world, **{f"r{number}": 0.5 + number / 50})
        world.clock[0] += 3700
        settle(world)
        tidy(world.tools)
        used.append(sizes(world))
    assert max(used[6:]) - min(used[6:]) < 500, used
    checkpoints = world.tools.store.rounds.checkpoints(KEY)
    assert len(checkpoints) == 12
    assert [c.round for c in checkpoints if Path(c.path).is_file()] == [11, 12]
    old, new = (Path(r.folder) for r in world.tools.store.rounds.all(KEY)[::11])
    assert sorted(f.name for f in old.iterdir()) == ["manifest.json", "matches-1.npz", "result.json"]
    assert (new / "run" / "last.pt").is_file()
    assert not (new / "final.pt").exists()


def test_weights_that_another_project_serves_or_a_setting_names_stay(tmp_path: Path) -> None:
    world = begin(tmp_path, 60, keep_checkpoints=2)
    for number in range(1, 6):
        answer(world, 10 if number == 1 else 4)
        end(world, **{f"r{number}": 0.5})
    store = world.tools.store
    paths = {c.round: Path(c.path) for c in store.rounds.checkpoints(KEY)}
    store.projects.ask("fake", "2")
    opened = store.rounds.start("fake:2", revision=0, labels=1, reason="", folder=str(tmp_path / "two"), token=1)
    assert opened is not None
    store.rounds.finish(
        opened, path=str(paths[1]), sha256=FIRST, names=["cat"], metrics={}, message="", verdict="promoted"
    )
    base = world.models.base
    world.models.base = lambda name: (  # type: ignore[method-assign, assignment]
        Model(paths[2], SECOND, ("cat",)) if name == "mine.pt" else base(name)
    )
    store.projects.update(KEY, settings={"committee": ["flip", "mine.pt"]})
    world.clock[0] += 3700
    settle(world)
    tidy(world.tools)
    assert [n for n, path in paths.items() if path.is_file()] == [1, 2, 4, 5]
    assert store.predictions.have(SECOND, 640)
    assert not store.predictions.have("3" * 64, 640)


def test_the_serving_checkpoint_stays_however_old_it_is(tmp_path: Path) -> None:
    world = begin(tmp_path, 130, gate_images=20, keep_checkpoints=2)
    answer(world, 70)
    end(world, r1=0.95)
    for number in (2, 3, 4):
        answer(world, 12)
        assert end(world, **{f"r{number}": 0.3}).verdict == "kept"
    tidy(world.tools)
    there = [c.round for c in world.tools.store.rounds.checkpoints(KEY) if Path(c.path).is_file()]
    assert there == [1, 3, 4]
    answer(world, 14)
    assert [p.name for p in world.trainer.started[-1].measure] == ["1.pt", "4.pt", "3.pt"]


def test_weights_of_a_queue_that_a_person_can_go_back_to_stay_however_many_were_refused_since(tmp_path: Path) -> None:
    world = begin(tmp_path, 130, gate_images=20)
    for number, worth, verdict in (
        (1, 0.5, "promoted"),
        (2, 0.7, "promoted"),
        (3, 0.95, "promoted"),
        (4, 0.3, "kept"),
        (5, 0.3, "kept"),
    ):
        answer(world, 70 if number == 1 else 4, ask=True)
        assert end(world, **{f"r{number}": worth}).verdict == verdict
    world.clock[0] += 3700
    settle(world)
    tidy(world.tools)
    there = [c.round for c in world.tools.store.rounds.checkpoints(KEY) if Path(c.path).is_file()]
    assert there == [2, 3, 4, 5]
    assert restorable(world.tools, row_of(world))[-1].round == 2
