"""The protocol of a backtest: paired units, shared trainings, and going on after a crash at any step."""

from __future__ import annotations

import io
import json
import time
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backtest_fakes import BUDGETS, HYBRID, PLAIN, TWIN, UNIFORM, FakeLearner, dot, make_task, make_unit
from hypothesis import given
from hypothesis import strategies as st

from common.errors import SettingError
from common.experiments.backtest import replay
from common.experiments.backtest.arms import Arm
from common.experiments.backtest.child import play
from common.experiments.backtest.replay import Unit, choose, rounds, stable_seed, worst_quarter
from common.experiments.backtest.task import FULL, Task, read_rounds
from common.experiments.backtest.trainings import Trainings, pack, unpack

ARMS = (UNIFORM, HYBRID, PLAIN, TWIN)


def played(unit: Unit, arm: Arm) -> list[dict[str, Any]]:
    return list(rounds(unit, arm, FakeLearner(unit)))


def picks(unit: Unit, arm: Arm) -> list[list[str]]:
    return [one["picked"] for one in played(unit, arm)]


def results(folder: Path) -> dict[str, Any]:
    """What a unit left, without its times."""
    found = {p.name: json.loads(p.read_text()) for p in (folder / "units").glob("*/*.json") if p.name != "task.json"}
    for record in found.values():
        for one in record.get("rounds", []):
            one.pop("choosing_s")
    return found


def test_every_arm_of_a_unit_begins_with_the_same_images() -> None:
    unit = make_unit()
    assert len({tuple(picks(unit, arm)[0]) for arm in ARMS}) == 1


def test_another_seed_begins_with_other_images() -> None:
    assert picks(make_unit(0), UNIFORM)[0] != picks(make_unit(1), UNIFORM)[0]


@pytest.mark.parametrize("arm", ARMS, ids=lambda a: a.label)
def test_budgets_are_cumulative_labels_and_no_image_is_bought_twice(arm: Arm) -> None:
    found = played(make_unit(), arm)
    assert [one["labels"] for one in found] == list(BUDGETS)
    bought = [image for one in found for image in one["picked"]]
    assert len(bought) == len(set(bought)) == BUDGETS[-1]


@pytest.mark.parametrize("arm", ARMS, ids=lambda a: a.label)
def test_the_same_seed_gives_the_same_picks(arm: Arm) -> None:
    assert picks(make_unit(), arm) == picks(make_unit(), arm)


def test_uniform_under_another_label_draws_other_images() -> None:
    again = picks(make_unit(), Arm("uniform (A/A)", "uniform"))
    assert again[0] == picks(make_unit(), UNIFORM)[0]
    assert again[1:] != picks(make_unit(), UNIFORM)[1:]


def test_other_arms_differ_by_what_they_do_and_not_by_luck() -> None:
    one, two = Arm("additive", "additive"), Arm("the same", "additive", {"alpha": 0.7})
    assert picks(make_unit(), one) == picks(make_unit(), two)


def test_boxes_and_hours_follow_from_what_was_bought() -> None:
    unit = make_unit()
    one = played(unit, UNIFORM)[1]
    rows = [unit.ids.index(image) for image in [*picks(unit, UNIFORM)[0], *one["picked"]]]
    boxes = int(unit.counts[rows].sum())
    assert (one["boxes"], one["class_boxes"]) == (boxes, unit.counts[rows].sum(axis=0).tolist())
    assert one["hours"] == pytest.approx((5 * len(rows) + 7 * boxes) / 3600)


def test_the_model_of_the_round_before_scores_and_the_last_one_does_not_score() -> None:
    unit = make_unit()
    asked: list[tuple[int, bool]] = []

    class Spy(FakeLearner):
        def learn(self, rows: Any, updates: int, *, predict: bool) -> Any:
            asked.append((len(rows), predict))
            return super().learn(rows, updates, predict=predict)

    list(rounds(unit, HYBRID, Spy(unit)))
    assert asked == [(3, True), (3, True), (6, True), (6, True), (12, False)]


def test_a_block_is_as_large_as_what_a_round_buys_unless_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    unit, given_options = make_unit(), []

    def spy(name: str, pool: Any, budget: int, rng: Any, **options: Any) -> Any:
        given_options.append((budget, options, pool.slice_share, pool.in_slice.any()))
        return real(name, pool, budget, rng, **options)

    real = replay.query
    monkeypatch.setattr(replay, "query", spy)
    seen = [dot(np.random.default_rng(0)) for _ in unit.ids]
    choose(unit, HYBRID, unit.initial(), seen, 1)
    choose(unit, Arm("b", "hybrid", {"min_new_labels": 9}), unit.initial(), seen, 1)
    choose(unit, UNIFORM, unit.initial(), seen, 1)
    assert [g[:2] for g in given_options] == [(3, {"min_new_labels": 3}), (3, {"min_new_labels": 9}), (3, {})]
    assert all(share == 0 and not member for _, _, share, member in given_options)


def test_an_image_nobody_can_read_is_not_chosen_before_the_others() -> None:
    unit = make_unit()
    seen = [None if i % 2 else dot(np.random.default_rng(i)) for i in range(len(unit.ids))]
    chosen = choose(unit, HYBRID, np.array([0, 2, 4]), seen, 1)
    assert all(row % 2 == 0 for row in chosen)


def test_the_first_round_of_all_arms_is_one_training(tmp_path: Path) -> None:
    unit, task = make_unit(), make_task(tmp_path, ARMS)
    learner = FakeLearner(unit)
    play(task, unit, Trainings(learner, tmp_path / "cache"), {})
    assert sum(len(rows) == BUDGETS[0] for rows in learner.seen) == 1
    assert sum(len(rows) == len(unit.ids) for rows in learner.seen) == 1, "the reference"


def test_arms_that_choose_the_same_images_share_their_trainings(tmp_path: Path) -> None:
    unit, task = make_unit(), make_task(tmp_path, (PLAIN, TWIN))
    learner = FakeLearner(unit)
    play(task, unit, Trainings(learner, tmp_path / "cache"), {})
    assert len(learner.seen) == 1 + len(BUDGETS)
    one, other = (read_rounds(task.arm_file(arm)) for arm in (PLAIN, TWIN))
    assert [r["picked"] for r in one] == [r["picked"] for r in other]


def test_a_unit_counts_what_it_has_done(tmp_path: Path) -> None:
    unit, task = make_unit(), make_task(tmp_path, ARMS)
    assert (task.done(), task.trainings()) == (0, 2 + 2 * len(ARMS))
    play(task, unit, FakeLearner(unit), {})
    assert task.done() == task.trainings()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a unit leaves that nothing interrupts."""
    folder, unit = tmp_path_factory.mktemp("whole"), make_unit()
    play(make_task(folder, ARMS), unit, FakeLearner(unit), {})
    return results(folder)


TRAININGS = 2 + 2 * len(ARMS) - 2
"""The twin needs none of its own."""


@pytest.mark.parametrize("step", range(1, TRAININGS + 1))
def test_a_crash_in_any_training_costs_that_training_and_changes_nothing(tmp_path: Path, step: int, whole: Any) -> None:
    unit, task = make_unit(), make_task(tmp_path / "crashed", ARMS)
    learner = FakeLearner(unit, fails_at=step)
    trainings = Trainings(learner, tmp_path / "cache")
    with pytest.raises(KeyboardInterrupt):
        play(task, unit, trainings, {})
    assert play(task, unit, trainings, {})
    assert len(learner.seen) == TRAININGS + 1
    assert results(tmp_path / "crashed") == whole


@pytest.mark.parametrize("step", range(1, 15))
def test_a_crash_at_any_write_changes_nothing(
    tmp_path: Path, step: int, whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit, task = make_unit(), make_task(tmp_path / "crashed", ARMS)
    writes = 0

    def killed(self: Path, target: Any) -> Path:
        nonlocal writes
        writes += 1
        if writes == step:
            raise KeyboardInterrupt
        return real(self, target)

    real = Path.replace
    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        play(task, unit, Trainings(FakeLearner(unit), tmp_path / "cache"), {})
    monkeypatch.undo()
    assert play(task, unit, Trainings(FakeLearner(unit), tmp_path / "cache"), {})
    assert results(tmp_path / "crashed") == whole


def test_an_arm_that_comes_later_is_what_it_would_have_been(tmp_path: Path) -> None:
    unit = make_unit()
    learner = FakeLearner(unit)
    trainings = Trainings(learner, tmp_path / "cache")
    play(make_task(tmp_path / "late", (UNIFORM,)), unit, trainings, {})
    before = len(learner.seen)
    play(make_task(tmp_path / "late", (UNIFORM, HYBRID)), unit, trainings, {})
    assert len(learner.seen) == before + 2, "its initial set was trained on before"
    play(make_task(tmp_path / "whole", (UNIFORM, HYBRID)), unit, FakeLearner(unit), {})
    assert results(tmp_path / "late") == results(tmp_path / "whole")


def test_when_the_time_is_over_the_round_that_runs_is_the_last(tmp_path: Path) -> None:
    unit = make_unit()
    trainings = Trainings(FakeLearner(unit), tmp_path / "cache")
    assert not play(make_task(tmp_path, ARMS, until=time.time() - 1), unit, trainings, {})
    task = make_task(tmp_path, ARMS)
    assert task.done() == 1, "the reference is the first training"
    assert not (task.folder / "uniform.json").exists()
    assert play(task, unit, trainings, {})


def test_a_task_survives_its_file(tmp_path: Path) -> None:
    task = make_task(tmp_path, (HYBRID, Arm("x", "additive", {"alpha": 0.5})), seed=3)
    assert Task.read(task.save()) == task
    assert task.name == "dots-3"
    assert task.folder / FULL == tmp_path / "units" / "dots-3" / "full.json"


@pytest.mark.parametrize(
    ("budgets", "wanted"),
    [
        ((), "rising"),
        ((4, 4), "rising"),
        ((8, 4), "rising"),
        ((0, 4), "from 1"),
        ((4, 31), "has 30 images"),
    ],
)
def test_budgets_that_cannot_be_bought_are_refused(budgets: tuple[int, ...], wanted: str) -> None:
    with pytest.raises(SettingError, match=wanted):
        make_unit(budgets=budgets)


def test_counts_must_cover_the_pool() -> None:
    with pytest.raises(ValueError, match="cover 30 images"):
        replace(make_unit(), group=np.zeros(3, np.int64))


def test_seeds_depend_on_every_word_and_on_nothing_else() -> None:
    assert stable_seed("cards", 1, "hybrid", 2) == stable_seed("cards", 1, "hybrid", 2) == 15127041318709076404
    words = [("cards", 1, "a", 2), ("cards", 1, "a", 3), ("cards", 1, "b", 2), ("cards", 2, "a", 2), ("c", 1, "a", 2)]
    assert len({stable_seed(*w) for w in words}) == len(words)


@pytest.mark.parametrize(
    ("per_class", "wanted"), [([], 0.0), ([0.5], 0.5), ([0.9, 0.1, 0.5, 0.7], 0.1), ([0.9, 0.1, 0.5, 0.7, 0.3], 0.2)]
)
def test_the_worst_quarter_has_at_least_one_class(per_class: list[float], wanted: float) -> None:
    assert worst_quarter(per_class) == pytest.approx(wanted)


@given(
    boxes=st.lists(st.integers(0, 3) | st.none(), max_size=5),
    flip=st.booleans(),
    members=st.integers(0, 2),
    seed=st.integers(0, 99),
)
def test_predictions_survive_their_file_bit_for_bit(
    boxes: list[int | None], flip: bool, members: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    before = [None if n is None else dot(rng, n, flip=flip, members=members) for n in boxes]
    after = unpack(pack(before))
    assert [p is None for p in after] == [p is None for p in before]
    for one, other in zip(before, after, strict=True):
        if one is None or other is None:
            continue
        for a, b in zip(
            astuple(one.instances)[:2] + astuple(one)[1:],
            astuple(other.instances)[:2] + astuple(other)[1:],
            strict=True,
        ):
            assert (a is None) == (b is None)
            assert a is None or (np.asarray(a).dtype == np.asarray(b).dtype and np.array_equal(a, b))


def test_predictions_from_before_doubt_and_gradient_were_per_class_are_read_with_both_shared_out() -> None:
    rng = np.random.default_rng(0)
    made = [dot(rng, 2), None, dot(rng, 0)]
    with np.load(io.BytesIO(pack(made))) as data:
        arrays = {name: data[name] for name in data if name not in ("sizes", "doubt", "model_change")}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays, heads=np.array([[0.03, 1.5, 40, 30], [0.0, 2.5, 40, 30]]))
    one, unreadable, other = unpack(buffer.getvalue())
    assert unreadable is None
    assert one is not None
    assert other is not None
    assert (one.doubt.tolist(), other.doubt.tolist()) == ([pytest.approx(0.03)] * 2, [0, 0])
    assert [np.linalg.norm(p.model_change) for p in (one, other)] == pytest.approx([1.5, 2.5])
    assert (one.width, one.height) == (40, 30)
    assert np.array_equal(one.instances.scores, made[0].instances.scores)  # type: ignore[union-attr]


def test_every_round_says_by_which_device_and_versions_it_was_played(tmp_path: Path) -> None:
    unit = make_unit()
    task = make_task(tmp_path, (UNIFORM,))
    old, new = ({"device": device, "versions": {"torch": torch}} for device, torch in (("cpu", "1"), ("cuda:0", "2")))
    with pytest.raises(KeyboardInterrupt):
        play(task, unit, FakeLearner(unit, fails_at=3), old)
    assert play(task, unit, FakeLearner(unit), new)
    assert json.loads((task.folder / "full.json").read_text())["round"].items() >= old.items()
    played = json.loads(task.arm_file(UNIFORM).read_text())["rounds"]
    assert [{name: one[name] for name in old} for one in played] == [old, new, new]
