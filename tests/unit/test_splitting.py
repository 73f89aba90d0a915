"""Which labels train and which are measured on."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.domain import Event, Label, LabelledBox
from common.loop.ordering import slice_hash
from common.loop.pseudo_labels import MARK
from common.loop.splitting import FEW, SLICE_SHARE, Split, split, top_up_hash, validates
from common.ports import TrainingSample
from tests.fakes import World, make_world, settle

KEY = "fake:1"
CAT = LabelledBox("cat", (0.1, 0.1, 0.5, 0.5))


def sides(
    since: dict[str, int],
    groups: dict[str, int] | None = None,
    trained: set[str] | None = None,
    *,
    share: float = 0.2,
    images: int = 100,
) -> Split:
    return split(KEY, since, groups or {}, trained or set(), share=share, images=images)


def ids(count: int) -> dict[str, int]:
    """All labelled at once."""
    return dict.fromkeys(map(str, range(count)), 1)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[str], list[int], dict[str, int], float, int]:
    """(samples as they are labelled, ends of the rounds, groups, share, images wanted)."""
    count = draw(st.integers(1, 150))
    order = draw(st.permutations([str(i) for i in range(count)]))
    ends = sorted(draw(st.lists(st.integers(1, count), min_size=1, max_size=5)))
    members = draw(st.lists(st.integers(0, count - 1), max_size=count))
    groups = {str(m): i % max(1, len(members) // 3) for i, m in enumerate(members)}
    return order, ends, groups, draw(st.sampled_from([0.0, 0.2, 0.6])), draw(st.sampled_from([1, 5, 100]))


@given(histories())
def test_every_sample_has_one_side_and_something_always_trains(
    story: tuple[list[str], list[int], dict[str, int], float, int],
) -> None:
    order, _, groups, share, images = story
    found = sides({s: i for i, s in enumerate(order)}, groups, share=share, images=images)
    assert sorted([*found.train, *found.val, *found.held]) == sorted(order)
    assert found.train
    assert set(found.biased) <= set(found.val)


@given(histories())
def test_validation_and_training_never_share_a_group(
    story: tuple[list[str], list[int], dict[str, int], float, int],
) -> None:
    order, _, groups, share, images = story
    found = sides({s: i for i, s in enumerate(order)}, groups, share=share, images=images)
    measured = {groups[s] for s in found.val if s in groups}
    assert not measured & {groups[s] for s in found.train if s in groups}
    assert len(measured) == sum(s in groups for s in found.val), "one of a group is enough"
    assert {groups[s] for s in found.held} <= measured


@given(histories())
def test_nothing_comes_to_validation_after_it_has_trained(
    story: tuple[list[str], list[int], dict[str, int], float, int],
) -> None:
    order, ends, groups, share, images = story
    trained: set[str] = set()
    for end in ends:
        found = sides({s: i for i, s in enumerate(order[:end])}, groups, trained, share=share, images=images)
        assert not trained & set(found.val)
        trained |= set(found.train)


@given(histories())
def test_bad_luck_never_takes_more_than_the_share_of_all_labels(
    story: tuple[list[str], list[int], dict[str, int], float, int],
) -> None:
    order, _, groups, share, images = story
    found = sides({s: i for i, s in enumerate(order)}, groups, share=share, images=images)
    assert len(found.biased) <= share * len(order)


def test_odd_members_of_the_random_slice_validate_and_even_ones_train() -> None:
    found = sides(ids(2000), share=0.0)
    members = {s for s in ids(2000) if slice_hash(KEY, s) < SLICE_SHARE}
    assert set(found.val) == {s for s in members if validates(slice_hash(KEY, s))}
    assert found.biased == ()
    assert 0.35 < len(found.val) / len(members) < 0.65


def test_the_bit_that_decides_is_frozen() -> None:
    assert [validates(p) for p in (0.0, 2**-40, 2 * 2**-40, 0.05 + 2**-40)] == [False, True, False, True]
    members = [s for s in ids(60) if slice_hash(KEY, s) < SLICE_SHARE]
    assert [s for s in members if validates(slice_hash(KEY, s))] == ["5", "24", "39"]


def test_a_small_slice_is_topped_up_in_hash_order_to_the_images_wanted() -> None:
    found = sides(ids(200), images=20)
    assert len(found.val) == 20
    others = [s for s in ids(200) if slice_hash(KEY, s) >= SLICE_SHARE]
    assert sorted(found.biased) == sorted(sorted(others, key=lambda s: top_up_hash(KEY, s))[: len(found.biased)])


def test_no_more_than_the_share_is_topped_up() -> None:
    found = sides(ids(1000), images=1000)
    assert all(top_up_hash(KEY, s) < 0.2 for s in found.biased)
    assert 0.1 < len(found.biased) / 1000 < 0.25


def test_as_the_slice_grows_topped_up_samples_leave_validation() -> None:
    small, large = sides(ids(300), images=30), sides(ids(1200), images=30)
    assert len(small.val) == len(large.val) == 30 or len(large.val) > 30
    assert len(large.biased) < len(small.biased)


def test_with_few_labels_all_of_them_train() -> None:
    assert sides(ids(FEW - 1), share=0.9) == Split(tuple(sorted(ids(FEW - 1))))
    assert sides(ids(40), share=0.9).val != ()


def test_where_nothing_would_be_left_to_train_on_nothing_is_measured() -> None:
    one_group = dict.fromkeys(ids(12), 0)
    first = next(s for s in ids(12) if slice_hash(KEY, s) >= SLICE_SHARE and top_up_hash(KEY, s) < 0.9)
    since = {**ids(12), first: 0}
    assert sides(since, one_group, share=0.9) == Split(tuple(sorted(since)))


def test_the_first_label_of_a_group_decides_for_all_of_them() -> None:
    free = sides(ids(100))
    measured, trains = free.val[0], free.train[0]
    alike = {"new-1": 5, "new-2": 5, "new-3": 6, measured: 5, trains: 6}
    since = {**ids(100), "new-1": 2, "new-2": 3, "new-3": 2}
    found = sides(since, alike)
    assert measured in found.val
    assert found.held == ("new-1", "new-2")
    assert {trains, "new-3"} <= set(found.train)


def test_what_trained_before_and_its_look_alikes_train() -> None:
    free = sides(ids(100))
    before, alike = free.val[0], free.val[1]
    found = sides(ids(100), {before: 1, alike: 1, "gone": 2, free.val[2]: 2}, {before, "gone"})
    assert {before, alike, free.val[2]} <= set(found.train)
    assert found.held == ()


def test_the_journal_says_who_does_what() -> None:
    assert str(Split(("1",), ("2", "3"), ("3",), ("4",))) == (
        "1 train, 2 validate (1 of them not of the random slice), 1 look-alikes of those are held back"
    )
    assert str(Split(("1", "2"))) == "2 train, 0 validate"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path, 30, validation_share=0.5, pause_s=0)


def answer(world: World, tasks: list[str]) -> None:
    world.clock[0] += 1
    for task in tasks:
        world.platform.annotate(task, CAT)
    world.tools.store.inbox.add(Event("fake", "1", "labels"))
    settle(world)


def test_a_round_is_given_the_sides_and_keeps_them_when_it_is_resumed(world: World) -> None:
    settle(world)
    answer(world, [str(100 + i) for i in range(20)])
    running = world.tools.store.rounds.running(KEY)
    assert running is not None
    val = running.split["val"]
    assert 0 < len(val) < 20
    assert sorted(s.id for s in world.trainer.validation[0]) == val
    assert running.labels == len(world.trainer.samples[0]) == 20 - len(val) - len(running.split["held"])
    world.tools.store.projects.update(KEY, settings={"validation_share": 0})
    world.trainer.finish("lost")
    settle(world)
    assert world.trainer.samples[0] == world.trainer.samples[1]
    assert world.trainer.validation[0] == world.trainer.validation[1]
    journal = [e.text for e in world.tools.store.journal.newest(KEY)]
    assert any(t.startswith(f"round 1 starts: {running.labels} train, {len(val)} validate") for t in journal)


def test_labels_of_a_round_before_never_validate_whatever_the_settings_become(world: World) -> None:
    world.tools.store.projects.update(KEY, settings={"validation_share": 0})
    settle(world)
    answer(world, [str(100 + i) for i in range(15)])
    world.trainer.finish()
    settle(world)
    first = {s.id for s in world.trainer.samples[0]}
    world.tools.store.projects.update(KEY, settings={"validation_share": 0.9})
    answer(world, [str(115 + i) for i in range(15)])
    assert world.trainer.validation[-1]
    assert not first & {s.id for s in world.trainer.validation[-1]}
    assert first <= {s.id for s in world.trainer.samples[-1]}


def test_what_the_model_labelled_itself_trains_and_never_validates(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    guessed = [str(115 + i) for i in range(15)]
    made = [TrainingSample(f"{MARK}{s}", Path(f"{s}.png"), Label(f"{MARK}{s}", (CAT,))) for s in guessed]
    monkeypatch.setattr("common.loop.training.pseudo_samples", lambda *_: made)
    settle(world)
    answer(world, [str(100 + i) for i in range(15)])
    assert not any(s.id.startswith(MARK) for s in world.trainer.samples[-1]), "off unless a person asks for it"
    world.trainer.finish()
    settle(world)
    world.tools.store.projects.update(KEY, settings={"pseudo_labels": True, "validation_share": 0.9})
    world.tools.store.inbox.add(Event("fake", "1", "train"))
    settle(world)
    running = world.tools.store.rounds.running(KEY)
    assert running is not None
    assert (running.split["pseudo"], running.split["guessed"]) == (15, guessed)
    assert world.trainer.samples[-1][-15:] == made
    assert running.labels == len(world.trainer.samples[-1]) - 15
    world.trainer.finish()
    settle(world)
    answer(world, guessed)
    assert not {s.id for s in world.trainer.validation[-1]} & set(guessed)


def test_copies_of_a_validation_image_are_held_back(tmp_path: Path) -> None:
    world = make_world(tmp_path, 30, validation_share=0.5, pause_s=0)
    settle(world)
    first = [str(100 + i) for i in range(20)]
    answer(world, first)
    running = world.tools.store.rounds.running(KEY)
    assert running is not None
    copied = running.split["val"][0]
    world.trainer.finish()
    settle(world)
    world.platform.tasks["copy"] = world.platform.tasks[copied]
    world.tools.store.inbox.add(Event("fake", "1", "samples"))
    settle(world)
    answer(world, ["copy", "120", "121", "122"])
    later = world.tools.store.rounds.running(KEY)
    assert later is not None
    assert "copy" in later.split["held"]
    assert "copy" not in {s.id for s in world.trainer.samples[-1]}
