"""Making the map of a project: when, from what, a slice at a time, and what of it stays in the store."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from common.domain import Event, Floats
from common.loop import ActiveLearningLoop, mapping
from common.loop.mapping import Mapping, representatives
from common.store import Store, open_store
from common.store.maps import MapHead
from common.store.schema import map_
from tests.fakes import World, make_world
from tests.unit import gallery_pool as pool
from tests.unit.test_loop import KEY
from tests.unit.way_back_world import row_of

BASE = "0" * 64


@pytest.fixture
def few(tmp_path: Path) -> Iterator[World]:
    """60 images in an order, one of them unreadable."""
    made = make_world(tmp_path, 1)
    made.models.names = pool.CLASSES
    pool.fill(made, 60)
    yield made
    made.tools.store.close()


def say(world: World, embeddings: Floats) -> None:
    """What the model of the order sees in images '0', '1' and so on."""
    store, imgsz = world.tools.store, world.tools.settings.imgsz
    said = store.predictions.get(BASE, imgsz, [pool.digest("0")])[pool.digest("0")]
    found = [(pool.digest(str(i)), replace(said, embedding=e)) for i, e in enumerate(embeddings)]
    store.predictions.put(BASE, imgsz, found)


def two_kinds(count: int = 60) -> Floats:
    """The first half of the images is of one kind, the second of another."""
    rng = np.random.default_rng(0)
    centres = np.repeat([[1, 0, 0, 0], [0, 1, 0, 0]], count // 2, axis=0)
    return (centres + 0.05 * rng.normal(size=(count, 4))).astype(np.float32)


def make(world: World, mapping: Mapping | None = None) -> int:
    """Returns the number of slices."""
    work, slices = mapping or Mapping(world.tools), 0
    while work.step(row_of(world)):
        slices += 1
    return slices


def ids(world: World) -> dict[str, int]:
    return {s.external: s.id for s in world.tools.store.samples.all(KEY)}


def test_every_image_that_was_looked_at_is_on_the_map_of_the_active_order(few: World) -> None:
    say(few, two_kinds())
    assert few.tools.store.maps.get(KEY) is None
    assert make(few) > 3
    made = few.tools.store.maps.get(KEY)
    assert made is not None
    assert made.publication == row_of(few).publication
    there = ids(few)
    assert made.samples.tolist() == [there[str(i)] for i in range(60) if i != 49]
    assert np.isfinite(made.points).all()
    assert np.abs(made.points).max() <= 1.01
    apart = np.linalg.norm(made.points[:29].mean(axis=0) - made.points[30:].mean(axis=0))
    assert apart > np.linalg.norm(made.points[:29] - made.points[:29].mean(axis=0), axis=1).max()


def test_the_map_is_made_once_per_order_and_is_the_same_again(few: World) -> None:
    say(few, two_kinds())
    make(few)
    assert make(few) == 0
    store = few.tools.store
    first = store.maps.get(KEY)
    other = make_world(few.folder / "other", 1)
    other.models.names = pool.CLASSES
    pool.fill(other, 60)
    say(other, two_kinds())
    make(other)
    second = other.tools.store.maps.get(KEY)
    assert first is not None
    assert second is not None
    assert first.points.tolist() == second.points.tolist()
    other.tools.store.close()


def test_a_new_order_brings_a_new_map_that_keeps_the_orientation(few: World) -> None:
    say(few, two_kinds())
    make(few)
    store = few.tools.store
    first = store.maps.get(KEY)
    assert first is not None
    turned = -first.points
    store.maps.put(KEY, first.publication - 1, 0.0, first.samples, turned)
    assert make(few) > 0
    again = store.maps.get(KEY)
    assert again is not None
    assert again.publication == first.publication
    assert np.corrcoef(again.points.ravel(), turned.ravel())[0, 1] > 0.9


def test_nothing_is_drawn_before_there_is_an_order_or_while_another_is_asked_for(tmp_path: Path) -> None:
    world = make_world(tmp_path, 1)
    assert make(world) == 0
    pool.fill(world, 10)
    world.tools.store.projects.update(KEY, order_asked=1.0)
    assert make(world) == 0
    world.tools.store.projects.update(KEY, order_asked=None)
    assert make(world) > 0
    world.tools.store.close()


def test_a_map_that_is_overtaken_by_an_order_is_begun_again(few: World) -> None:
    say(few, two_kinds())
    work = Mapping(few.tools)
    assert work.step(row_of(few))
    few.tools.store.projects.update(KEY, order_asked=1.0)
    assert not work.step(row_of(few))
    few.tools.store.projects.update(KEY, order_asked=None)
    assert make(few, work) > 3
    assert few.tools.store.maps.publication(KEY) == row_of(few).publication


def test_embeddings_that_are_no_numbers_are_left_out(few: World) -> None:
    strange = two_kinds()
    strange[[3, 40]] = np.nan
    say(few, strange)
    make(few)
    made = few.tools.store.maps.get(KEY)
    assert made is not None
    there = ids(few)
    assert set(made.samples.tolist()) == {there[str(i)] for i in range(60) if i not in (3, 40, 49)}
    assert np.isfinite(made.points).all()


def test_a_model_that_has_seen_nothing_leaves_an_empty_map(few: World) -> None:
    few.tools.store.predictions.forget()
    assert make(few) > 0
    made = few.tools.store.maps.get(KEY)
    assert made is not None
    assert made.points.shape == (0, 2)


def test_more_images_than_representatives_are_all_placed(few: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapping, "REPRESENTATIVES", 40)
    monkeypatch.setattr(mapping, "SLICE", 25)
    say(few, two_kinds())
    assert make(few) >= 1 + 4 + 3
    made = few.tools.store.maps.get(KEY)
    assert made is not None
    assert len(made.samples) == 59
    assert np.isfinite(made.points).all()


def test_representatives_are_one_of_each_picture_and_stay_while_a_pool_grows(few: World) -> None:
    samples = few.tools.store.samples.all(KEY)
    read = [s for s in samples if s.sha256]
    chosen = representatives([*read, replace(read[0], id=999)])
    assert len(chosen) == len({s.sha256 for s in read})
    assert 999 not in {s.id for s in chosen}
    assert [s for s in chosen if s in read[:30]] == representatives(read[:30])


def test_a_map_that_cannot_be_made_is_said_once_and_stops_nothing(few: World, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __init__(self, *_: object) -> None:
            raise ValueError("the numbers do not converge")

    monkeypatch.setattr(mapping, "Plane", Broken)
    assert make(few) == 2
    newest = few.tools.store.journal.newest(KEY)[0]
    assert (newest.level, newest.text.split(";")[0]) == (
        "warning",
        "the map cannot be made: ValueError: the numbers do not converge",
    )
    assert row_of(few).retry_at is None


def test_weights_that_are_gone_leave_the_project_at_work(few: World) -> None:
    spec = replace(row_of(few).spec, model_path="missing.pt")
    few.tools.store.projects.update(KEY, spec=spec)
    assert make(few) == 1
    assert "there is no such file" in few.tools.store.journal.newest(KEY)[0].text


def test_the_loop_makes_the_map_last_and_a_hint_does_not_wait_for_it(tmp_path: Path) -> None:
    world = make_world(tmp_path, 12)
    store, loop = world.tools.store, ActiveLearningLoop(world.tools)
    while loop.step(KEY) and row_of(world).publication is None:
        assert store.maps.publication(KEY) is None
    loop.step(KEY)
    assert store.maps.publication(KEY) is None
    world.platform.annotate("100")
    store.inbox.add(Event("fake", "1", "labels", ("100",)))
    loop.step(KEY)
    assert store.labels.last_recorded(KEY, 0.0) is not None
    assert store.maps.publication(KEY) is None
    while loop.step(KEY):
        pass
    assert store.maps.publication(KEY) == row_of(world).publication
    store.close()


def test_a_map_goes_with_its_project_and_a_new_one_takes_its_place(few: World) -> None:
    store = few.tools.store
    store.maps.put(KEY, 7, 1.5, np.array([1, 2]), np.array([[0, 1], [0.5, -1]], np.float32))
    store.maps.put(KEY, 8, 2.5, np.array([3]), np.array([[0.25, 0]], np.float32))
    made = store.maps.get(KEY)
    assert made is not None
    assert (made.publication, made.seconds) == (8, 2.5)
    assert (made.samples.tolist(), made.points.tolist()) == ([3], [[0.25, 0]])
    store.forget(KEY)
    assert store.maps.get(KEY) is None
    with pytest.raises(ValueError, match=r"points must have shape \(2, 2\), got \(1, 2\)"):
        store.maps.put(KEY, 9, 0.0, np.array([1, 2]), np.zeros((1, 2), np.float32))


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_handed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A store that knows a project without a map."""
    url = f"sqlite:///{tmp_path / 'hardfirst.db'}"
    if request.param == "postgresql":
        url = os.environ.get("HARDFIRST_TEST_POSTGRES", "")
        if not url:
            pytest.skip("HARDFIRST_TEST_POSTGRES names no server")
    store = open_store(url, tmp_path)
    store.forget(KEY)
    store.projects.ask("fake", "1")
    yield store
    store.forget(KEY)
    store.close()


@pytest.mark.parametrize("images", [0, 1, 1000])
def test_the_head_of_a_map_says_whether_any_image_is_on_it(empty_handed: Store, images: int) -> None:
    maps = empty_handed.maps
    assert maps.head(KEY) is None
    maps.put(KEY, 7, 1.5, np.zeros(images, np.int64), np.zeros((images, 2), np.float32))  # packs as small as can be
    made = maps.get(KEY)
    assert made is not None
    assert maps.head(KEY) == MapHead(7, made.made, empty=images == 0)


def test_the_head_of_a_map_is_read_without_its_points(empty_handed: Store) -> None:
    maps = empty_handed.maps
    maps.put(KEY, 7, 1.5, np.array([1]), np.zeros((1, 2), np.float32))
    with maps._engine.begin() as connection:
        broken = sa.update(map_).where(map_.c.project == KEY).values(body=b"these are no points", made=5.0)
        connection.execute(broken)
    with pytest.raises(zlib.error):
        maps.get(KEY)
    assert maps.head(KEY) == MapHead(7, 5.0, empty=False)
