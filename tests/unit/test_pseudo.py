"""Pseudo-labels: only what is clearly decided, never what is measured on, the same part of every class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from common.acquisition.pseudo import NOTHING, Boxes, bars, choose
from common.domain import Label, LabelledBox
from common.loop import pseudo_labels
from common.loop.ordering import slice_hash
from common.loop.pseudo_labels import pseudo_samples, same_again
from common.loop.reading import labels_at
from common.loop.splitting import SLICE_SHARE
from common.ports import TrainingSample
from common.store import schema
from common.store.measurements import MeasurementRow
from tests.fakes import World, make_world, picture, settle


def boxes(rows: list[tuple[int, int, float]], images: int, classes: int = 2) -> Boxes:
    """(image, class, confidence) of each box."""
    return Boxes(
        np.array([r[0] for r in rows], np.int64),
        np.array([r[1] for r in rows], np.int64),
        np.array([r[2] for r in rows], np.float64),
        images,
        classes,
    )


@st.composite
def pools(draw: Any) -> tuple[Boxes, np.ndarray[Any, Any]]:
    images, classes = draw(st.integers(1, 30)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    m = draw(st.integers(0, 60))
    found = Boxes(
        rng.integers(0, images, m), rng.integers(0, classes, m), 0.05 + 0.95 * rng.beta(1, 0.6, m), images, classes
    )
    return found, rng.random(images) < 0.8


def all_allowed(b: Boxes) -> np.ndarray[Any, Any]:
    return np.ones(b.images, bool)


def test_an_image_with_one_undecided_box_is_not_chosen() -> None:
    b = boxes([(0, 0, 0.99), (1, 0, 0.99), (1, 0, 0.4), (2, 0, 0.99), (2, 0, 0.07), (3, 0, 0.08)], 4)
    assert choose(b, all_allowed(b), 0.0, 10).tolist() == [0, 2]


@given(pools(), st.floats(0, 1), st.integers(0, 20))
def test_what_is_chosen_is_allowed_decided_and_not_too_much(
    pool: tuple[Boxes, np.ndarray[Any, Any]], map50: float, most: int
) -> None:
    b, allowed = pool
    chosen = choose(b, allowed, map50, most)
    assert len(chosen) <= most
    assert len(set(chosen.tolist())) == len(chosen)
    assert allowed[chosen].all()
    may = allowed[b.image]
    bar = bars(Boxes(b.image[may], b.label[may], b.confidence[may], b.images, b.classes), map50)
    for i in chosen:
        own = b.image == i
        sure = b.confidence[own] >= bar[b.label[own]]
        assert sure.any()
        assert (sure | (b.confidence[own] < NOTHING)).all()


@given(pools(), st.floats(0, 1), st.floats(0, 1), st.integers(0, 20))
def test_a_better_model_accepts_fewer_or_as_many(
    pool: tuple[Boxes, np.ndarray[Any, Any]], one: float, other: float, most: int
) -> None:
    b, allowed = pool
    assert len(choose(b, allowed, max(one, other), most)) <= len(choose(b, allowed, min(one, other), most))


@given(pools(), st.floats(0, 1))
def test_bars_rise_with_the_model_and_none_is_lower_than_the_least(
    pool: tuple[Boxes, np.ndarray[Any, Any]], map50: float
) -> None:
    b, _ = pool
    low, high = bars(b, map50 / 2), bars(b, map50)
    assert (high >= low).all()
    assert (high >= 0.6 + 0.3 * map50 - 1e-12).all()


def test_every_class_gives_as_many_the_surest_first() -> None:
    easy = [(i, 0, 0.99 - i / 1000) for i in range(40)]
    hard = [(40 + i, 1, 0.80 - i / 1000) for i in range(10)]
    b = boxes(easy + hard, 50)
    chosen = choose(b, all_allowed(b), 0.0, 8)
    assert chosen.tolist() == [0, 40, 1, 41, 2, 42, 3, 43]


def test_a_class_with_little_to_give_is_not_made_up_for_by_another() -> None:
    b = boxes([(i, 0, 0.99) for i in range(40)] + [(40, 1, 0.95)], 41)
    chosen = choose(b, all_allowed(b), 0.0, 20)
    assert 40 in chosen
    assert len(chosen) == 1 + 10


def test_an_image_counts_for_its_rarest_class() -> None:
    b = boxes([(0, 0, 0.9), (1, 0, 0.9), (2, 0, 0.9), (2, 1, 0.9)], 3)
    assert choose(b, all_allowed(b), 0.0, 2).tolist() == [0, 2]


def test_images_that_may_not_be_chosen_do_not_move_the_bars() -> None:
    b = boxes([(0, 0, 0.99), (1, 0, 0.99), (2, 0, 0.70)], 3)
    assert choose(b, np.array([False, False, True]), 0.0, 3).tolist() == [2]
    assert choose(b, all_allowed(b), 0.0, 3).tolist() == [0, 1]


@pytest.mark.parametrize("map50", [-0.1, 1.1])
def test_a_quality_outside_its_range_is_refused(map50: float) -> None:
    with pytest.raises(ValueError, match="map50 must be in"):
        bars(boxes([(0, 0, 0.9)], 1), map50)


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="label must lie in"):
        boxes([(0, 5, 0.9)], 1)
    with pytest.raises(ValueError, match="allowed must have shape"):
        choose(boxes([(0, 0, 0.9)], 1), np.ones(2, bool), 0.5, 1)


# --- in a project --------------------------------------------------------------------------------------------


@pytest.fixture
def labelled(tmp_path: Path) -> World:
    """A measured champion serves; of forty images ten are labelled. The model is as sure as a picture is bright."""
    world = make_world(tmp_path, 40, min_new_labels=10)
    for i in range(40):
        picture(tmp_path / "pictures" / f"{i}.png", i, brightness=250 if i % 2 else 60)
    settle(world)
    for task in world.platform.order()[:12]:
        world.platform.annotate(task, LabelledBox("cat", (0.1, 0.1, 0.6, 0.6)))
    world.clock[0] += 10_000
    settle(world)
    world.trainer.worth["1" * 64] = 0.5
    world.trainer.finish()
    settle(world)
    return world


def given_by(world: World, val: tuple[str, ...] = (), more: int = 0) -> list[TrainingSample]:
    row = world.tools.store.projects.get("fake:1")
    assert row is not None
    elsewhere = {f"x{i}": Label(f"x{i}", ()) for i in range(more)}
    return pseudo_samples(world.tools, row, labels_at(world.tools, row) | elsewhere, val)


def measured(world: World, map50: float) -> None:
    row = MeasurementRow("fake:1", 1, "checkpoint", 1, "1" * 64, 12, 40, 0, {"map50": map50}, 0.0)
    world.tools.store.measurements.add([row])


def test_the_surest_images_train_as_the_model_sees_them_under_ids_of_their_own(labelled: World) -> None:
    measured(labelled, 0.0)
    found = given_by(labelled)
    assert 0 < len(found) <= 6
    for s in found:
        task = s.id.removeprefix("pseudo:")
        assert s.id.startswith("pseudo:")
        assert task not in labelled.platform.answers
        assert slice_hash("fake:1", task) >= SLICE_SHARE
        assert int(s.image.stem) % 2 == 1
        assert [(b.name, b.origin) for b in s.label.boxes] == [("cat", "prediction")]
        assert s.label.boxes[0].xyxy == (0, 0, 0.5, 0.5)


def test_neither_validation_nor_skipped_nor_slice_images_nor_look_alikes_of_labelled_ones(
    labelled: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(labelled, 0.0)
    first, second, third, fourth = (s.id.removeprefix("pseudo:") for s in given_by(labelled)[:4])
    labelled.platform.annotate(first, skipped=True)
    monkeypatch.setattr(pseudo_labels, "slice_hash", lambda _, s: 0.0 if s == third else 0.5)
    pictures, tasks = labelled.folder / "pictures", labelled.platform.tasks
    bright = next(t for t in labelled.platform.answers if t != first and int(tasks[t].partition(".")[0]) % 2)
    tasks[fourth] = f"copy-{tasks[fourth]}"  # the image behind it was exchanged
    (pictures / tasks[fourth]).write_bytes((pictures / tasks[bright]).read_bytes())
    labelled.clock[0] += 10_000
    settle(labelled)
    left = {s.id.removeprefix("pseudo:") for s in given_by(labelled, (second,), more=100)}
    assert left
    assert left.isdisjoint({first, second, third, fourth})


def test_a_model_that_was_not_measured_gives_none(labelled: World) -> None:
    with labelled.tools.store.engine.begin() as connection:
        connection.execute(sa.delete(schema.measurement))
    assert given_by(labelled) == []
    labelled.tools.store.projects.update("fake:1", checkpoint=None)
    measured(labelled, 0.5)
    assert given_by(labelled) == []


def test_a_resumed_training_goes_on_with_the_same_guesses_whoever_serves_by_then(labelled: World) -> None:
    measured(labelled, 0.0)
    row = labelled.tools.store.projects.get("fake:1")
    assert row is not None
    found = given_by(labelled)
    split = {"guessed": [s.id.removeprefix("pseudo:") for s in found], "guesser": row.checkpoint}
    labelled.platform.annotate(split["guessed"][0])
    labelled.clock[0] += 10_000
    settle(labelled)
    assert given_by(labelled) != found
    labelled.tools.store.projects.update("fake:1", checkpoint=None)
    row = labelled.tools.store.projects.get("fake:1")
    assert row is not None
    assert same_again(labelled.tools, row, split) == found
    assert same_again(labelled.tools, row, {"guessed": [], "guesser": None}) == []
    assert same_again(labelled.tools, row, {}) is None
    labelled.tools.store.predictions.forget(["1" * 64])
    assert same_again(labelled.tools, row, split) is None


def test_a_training_that_was_killed_is_given_what_it_had(labelled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    labelled.tools.settings = labelled.tools.settings.model_copy(update={"pseudo_labels": True})
    measured(labelled, 0.0)
    labelled.tools.store.projects.update("fake:1", training_asked=labelled.clock[0])
    settle(labelled)
    before = labelled.trainer.samples[-1]
    assert [s for s in before if s.id.startswith("pseudo:")]
    monkeypatch.setattr("common.loop.training.pseudo_samples", lambda *_: [])
    starts = len(labelled.trainer.samples)
    labelled.trainer.finish("lost")
    settle(labelled)
    assert len(labelled.trainer.samples) == starts + 1
    assert labelled.trainer.samples[-1] == before
