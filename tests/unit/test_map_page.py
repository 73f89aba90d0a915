"""The map's page, its points and its library with Flask's client; which images are drawn."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import plotly.offline
import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient
from numpy.typing import NDArray

from common.domain import RemoteSample
from common.store.maps import Crowd
from common.store.schema import map_
from common.web.pages import map as map_page
from common.web.pages.map import choose, sentence, standing
from tests.fakes import World, make_world
from tests.unit import gallery_pool as pool
from tests.unit.test_loop import KEY
from tests.unit.test_pages import HTML, client_of, page
from tests.unit.way_back_world import row_of


@pytest.fixture
def few(tmp_path: Path) -> Iterator[World]:
    """60 images in an order, one unreadable, and a map of the others."""
    made = make_world(tmp_path, 4)
    made.models.names = pool.CLASSES
    pool.fill(made, 60)
    ids = np.array([s.id for s in made.tools.store.samples.all(KEY) if s.sha256], np.int64)
    points = np.random.default_rng(0).uniform(-1, 1, (len(ids), 2)).astype(np.float32)
    made.tools.store.maps.put(KEY, row_of(made).publication or 0, 1.0, ids, points)
    yield made
    made.tools.store.close()


@pytest.fixture
def client(few: World) -> FlaskClient:
    return client_of(few)


def crowd(waiting: int, answered: int = 0, unplaced: int = 0) -> Crowd:
    """Images that wait, the first place the least useful; then answered ones; then some without a place."""
    total = waiting + answered + unplaced
    utility = np.concatenate([np.arange(waiting), np.zeros(answered), np.full(unplaced, np.nan)])
    there = np.repeat([False, True, False], [waiting, answered, unplaced])
    return Crowd(np.arange(1, total + 1), [str(i) for i in range(total)], there, utility)


def everywhere(images: Crowd) -> NDArray[np.bool_]:
    return np.ones(len(images.ids), bool)


# --- which images are drawn, and as what -----------------------------------------------------------------


def test_each_image_is_of_one_group() -> None:
    told = standing(crowd(100, answered=7, unplaced=3), batch=20)
    assert {g.name: told.count(g.name) for g in map_page.GROUPS} == {
        **{"queued": 20, "uncertain": 10, "other": 73, "labelled": 7}
    }
    names = [map_page.GROUPS[i].name for i in told.group.tolist()]
    assert (names[0], names[19], names[20], names[90], names[100], names[107]) == (
        *("queued", "queued", "other", "uncertain", "labelled", "other"),
    )
    assert told.position.tolist() == [*range(1, 101), *[0] * 10]


def test_the_next_batch_is_not_counted_as_uncertain_too() -> None:
    told = standing(crowd(10), batch=10)
    assert (told.count("queued"), told.count("uncertain")) == (10, 0)


def test_a_small_project_is_drawn_whole() -> None:
    images = crowd(50, answered=10)
    told = standing(images, 5)
    chosen = choose(told, everywhere(images))
    assert chosen.tolist() == list(range(60))
    assert sentence(told, everywhere(images), chosen) == "All 60 images are drawn."


def test_of_a_large_project_the_head_of_the_queue_every_label_and_some_others_are_drawn() -> None:
    images = crowd(79_000, answered=340)
    told = standing(images, 100)
    chosen = choose(told, everywhere(images))
    assert len(chosen) == len(set(chosen.tolist())) == 5_000
    assert chosen[:2_000].tolist() == list(range(2_000))
    assert told.crowd.answered[chosen].sum() == 340
    others = chosen[2_000:-340]
    assert abs(others.mean() - 40_500) < 2_000, "drawn evenly"
    assert choose(told, everywhere(images)).tolist() == chosen.tolist()
    assert sentence(told, everywhere(images), chosen) == (
        "5,000 of 79,340 images are drawn: all 340 labelled images, the first 2,000 of the queue, "
        "2,660 of 77,000 others by chance; 74,340 are left out."
    )


def test_many_labels_leave_room_for_the_queue_and_take_what_it_does_not_need() -> None:
    images = crowd(30_000, answered=30_000)
    chosen = choose(standing(images, 100), everywhere(images))
    assert images.answered[chosen].sum() == 2_000
    images = crowd(1_000, answered=30_000)
    told = standing(images, 100)
    chosen = choose(told, everywhere(images))
    assert images.answered[chosen].sum() == 4_000
    assert "4,000 of 30,000 labelled images by chance, the first 1,000 of the queue;" in sentence(
        told, everywhere(images), chosen
    )


def test_images_that_came_since_are_counted_and_not_drawn() -> None:
    images = crowd(10)
    there = everywhere(images)
    there[4] = False
    told = standing(images, 5)
    chosen = choose(told, there)
    assert 4 not in chosen
    assert sentence(told, there, chosen).endswith("drawn. 1 image is not on the map: come since, or not readable.")


def test_a_project_without_images_has_no_points() -> None:
    images = crowd(0)
    assert choose(standing(images, 5), everywhere(images)).tolist() == []


def test_a_crowd_stands_in_queue_order_and_those_without_a_place_come_last(few: World) -> None:
    store, order = few.tools.store, few.tools.store.publications.all(KEY)[0]
    known = [RemoteSample(s.external, s.uri) for s in store.samples.all(KEY) if s.external != "7"]
    store.samples.replace(KEY, [*known, RemoteSample("new", "new.png")])
    found = store.maps.crowd(KEY, order.id)
    queued = [s.sample.external for s in store.gallery.seats(order, 0, 60)]
    names = [name for name in found.names if name != "49"]
    assert names == [*(name for name in queued if name != "49"), "new"]
    assert np.isnan(found.utility).tolist() == [False] * 59 + [True]
    assert (np.diff(found.utility[:59]) < 0).all()
    without = store.maps.crowd(KEY, None)
    assert sorted(without.names) == sorted(found.names)
    assert np.isnan(without.utility).all()


# --- pages ---------------------------------------------------------------------------------------------------


def test_without_a_map_the_page_says_when_it_comes(few: World, tmp_path: Path) -> None:
    few.tools.store.maps.put(KEY, 99, 1.0, np.zeros(0, np.int64), np.zeros((0, 2), np.float32))
    assert "The map is empty" in page(client_of(few), f"/projects/{KEY}/map")
    fresh = make_world(tmp_path / "fresh", 1)
    assert "after the first order is on the platform" in page(client_of(fresh), f"/projects/{KEY}/map")
    pool.fill(fresh, 5)
    text = page(client_of(fresh), f"/projects/{KEY}/map")
    assert "when nothing else is to be done" in text
    assert "plotly" not in text
    assert client_of(fresh).get(f"/projects/{KEY}/map/points").status_code == 404
    fresh.tools.store.close()


def test_the_page_names_what_it_needs_and_says_all_without_scripts(client: FlaskClient) -> None:
    text = page(client, f"/projects/{KEY}/map")
    assert f'data-points="/projects/{KEY}/map/points"' in text
    assert f'data-image="/projects/{KEY}/map/image"' in text
    assert "0 images are labelled, 60 wait, 3 of these in the next batch" in text
    assert "newer than this map" not in text


def test_a_map_of_a_former_order_says_so(few: World) -> None:
    made = few.tools.store.maps.get(KEY)
    assert made is not None
    few.tools.store.maps.put(KEY, 99, 1.0, made.samples, made.points)
    assert "The queue is newer than this map" in page(client_of(few), f"/projects/{KEY}/map")


def test_the_page_is_told_without_reading_the_points(few: World) -> None:
    maps = few.tools.store.maps
    with maps._engine.begin() as connection:
        connection.execute(sa.update(map_).values(body=b"these are no points"))
    assert "data-points=" in page(client_of(few), f"/projects/{KEY}/map")


def test_the_points_tell_places_in_queue_order(few: World, client: FlaskClient) -> None:
    found = client.get(f"/projects/{KEY}/map/points").get_json()
    groups = {g["name"]: g for g in found["groups"]}
    assert {name: g["count"] for name, g in groups.items()} == {
        **{"queued": 3, "uncertain": 3, "other": 54, "labelled": 0}
    }
    order = [s.sample.external for s in few.tools.store.gallery.seats(few.tools.store.publications.all(KEY)[0], 0, 3)]
    assert groups["queued"]["samples"] == [i for i in order if i != "49"]
    assert groups["queued"]["places"][0] in (1, 2)
    drawn = sum(len(g["samples"]) for g in groups.values())
    assert drawn == sum(len(g["x"]) for g in groups.values()) == sum(len(g["y"]) for g in groups.values()) == 59
    assert found["sentence"] == "All 59 images are drawn. 1 image is not on the map: come since, or not readable."


def test_a_labelled_image_changes_its_group_and_the_places_close_up(few: World) -> None:
    client = client_of(few)
    queued, *_, labelled = client.get(f"/projects/{KEY}/map/points").get_json()["groups"]
    first, second = queued["samples"][:2]
    few.tools.store.labels.record(KEY, [(first, [few.platform.annotate(first)])])
    now, *_, answered = client.get(f"/projects/{KEY}/map/points").get_json()["groups"]
    assert (labelled["samples"], answered["samples"]) == ([], [first])
    assert now["samples"][0] == second
    assert now["places"][0] == queued["places"][0]
    text = client.get(f"/projects/{KEY}/map/image?sample={first}", headers=HTML).text
    assert "A person has labelled it." in text


def test_one_image_is_told_with_its_picture_reason_and_link(few: World, client: FlaskClient) -> None:
    answer = client.get(f"/projects/{KEY}/map/image?sample=0", headers=HTML)
    assert answer.status_code == 200
    assert f'src="/projects/{KEY}/thumbnails/0?v=' in answer.text
    assert 'href="http://platform/tasks/0"' in answer.text
    assert "predicted box" in answer.text
    assert "<html" not in answer.text
    for missing in ("?sample=nobody", ""):
        assert client.get(f"/projects/{KEY}/map/image{missing}", headers=HTML).status_code == 404
    assert client.get("/projects/fake:9/map/points").status_code == 404


# --- the library ------------------------------------------------------------------------------------------------


def test_the_library_comes_from_its_package_compressed_where_that_is_taken(client: FlaskClient) -> None:
    address = page(client, f"/projects/{KEY}/map").partition('<script src="/library/')[2].partition('"')[0]
    plain = client.get(f"/library/{address}", headers={"Accept-Encoding": "identity"})
    packed = client.get(f"/library/{address}", headers={"Accept-Encoding": "gzip, br"})
    assert plain.get_data() == plotly.offline.get_plotlyjs().encode()
    assert gzip.decompress(packed.get_data()) == plain.get_data()
    for answer in (plain, packed):
        assert answer.content_type == "text/javascript; charset=utf-8"
        assert "max-age=31536000, immutable" in answer.headers["Cache-Control"]
        assert "Accept-Encoding" in answer.headers["Vary"]
    assert packed.headers["Content-Encoding"] == "gzip"
    assert int(packed.headers["Content-Length"]) < 2_000_000
    assert client.get("/library/plotly-0.0.0.js").status_code == 404
    plain.close()


def test_only_pages_that_draw_load_the_library_and_none_may_run_inline_code(few: World) -> None:
    pool.rounds(few, 0.5, 0.6)
    client = client_of(few)
    for view in ("queue", "curve", "map", "kpi"):
        answer = client.get(f"/projects/{KEY}/{view}", headers=HTML)
        policy = answer.headers["Content-Security-Policy"]
        draws = view in ("curve", "map")
        assert ("/library/plotly-" in answer.text) == draws
        assert ("sha256-" in policy) == draws
        assert "unsafe" not in policy
        assert "script-src 'self';" in policy


def test_the_curve_gives_the_script_what_the_table_says(few: World) -> None:
    pool.rounds(few, 0.5, 0.6)
    text = page(client_of(few), f"/projects/{KEY}/curve")
    assert '<option value="1">AP50 of dog</option>' in text
    assert '"classes": [0.6, 0.6], "kind": "serves", "labels": 40' in text
    assert '"map50": [0.5, 0.45, 0.55]' in text
    assert 'id="curve-still"' in text
