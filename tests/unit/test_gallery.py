"""The queue by the page, as SQLite and PostgreSQL tell it: the same places, positions and counts."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from bench import gallery
from common.domain import Annotation, RemoteSample
from common.store import Store, open_store
from common.store.gallery import FEW, SHOW, Wanted
from common.store.publications import Place, PublicationRow
from tests.unit.store_project import annotation

pytestmark = pytest.mark.timeout(30)  # a page that PostgreSQL plans badly takes minutes
KEY = "fake:1"
COUNT = 700


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("gallery")
    url = f"sqlite:///{folder / 'hardfirst.db'}"
    if request.param == "postgresql":
        url = os.environ.get("HARDFIRST_TEST_POSTGRES", "")
        if not url:
            pytest.skip("HARDFIRST_TEST_POSTGRES names no server")
    opened = open_store(url, folder)
    opened.forget(KEY)
    opened.projects.ask("fake", "1")
    yield opened
    opened.forget(KEY)
    opened.close()


@pytest.fixture
def made(store: Store) -> PublicationRow:
    """700 samples of which every fifth is answered or gone; of every fifty the last cannot be read."""
    known = store.projects.get(KEY)
    if known is not None and known.publication:
        return store.publications.get(known.publication)
    made = gallery.fill(store, KEY, COUNT, title="Many", imgsz=640, predicted=0)
    skipped = Annotation("s", "11", annotation("1", "1").updated, skipped=True)
    store.labels.record(
        KEY, [("11", [skipped]), *((str(i), [annotation(str(i), str(i))]) for i in range(0, COUNT, 10))]
    )
    store.samples.drop(KEY, [str(i) for i in range(5, COUNT, 10)])
    return made


def waiting(store: Store, made: PublicationRow) -> list[Place]:
    """By Python: what is open, in order."""
    there = {s.external for s in store.samples.all(KEY) if not s.answers}
    return [p for p in sorted(store.publications.places(made.id), key=lambda p: p.place) if p.sample in there]


WANTED = {
    "random": lambda p: p.parts["random_slice"],
    "uncertain": lambda p: p.parts["uncertain_boxes"] > 0,
    "rare": lambda p: p.parts["rare_class"] is not None,
    "duplicates": lambda p: p.parts["duplicate_group_size"] > 1,
    "outliers": lambda p: p.parts["outlier"],
    "arrived": lambda p: "arrived" in p.parts,
    "unreadable": lambda p: int(p.sample) % 50 == 49,
}


def test_the_count_is_of_open_places_only(store: Store, made: PublicationRow) -> None:
    assert store.gallery.count(made) == len(waiting(store, made)) == COUNT * 8 // 10


def test_postgresql_has_counted_a_queue_when_it_begins_to_serve(store: Store, made: PublicationRow) -> None:
    if store.engine.dialect.name != "postgresql":
        pytest.skip("SQLite plans by its indexes")
    with store.engine.connect() as connection:
        counted = connection.scalar(sa.text("SELECT reltuples FROM pg_class WHERE relname = 'queue'"))
    assert counted >= made.total


@pytest.mark.parametrize("few", [FEW, 0], ids=["looked up", "read at once"])
@pytest.mark.parametrize("start", [0, 60, 540, 559, 560, 10_000])
def test_a_page_is_a_piece_of_the_order(
    store: Store, made: PublicationRow, start: int, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.store.gallery.FEW", few)
    wanted = waiting(store, made)[start : start + 60]
    seats = store.gallery.seats(made, start, 60)
    assert [s.place for s in seats] == wanted
    assert [s.position for s in seats] == list(range(start + 1, start + 1 + len(wanted)))
    assert all(s.sample.external == s.place.sample for s in seats)


@pytest.mark.parametrize("show", sorted(SHOW))
def test_a_kind_of_image_is_what_its_parts_say_at_its_true_position(
    store: Store, made: PublicationRow, show: str
) -> None:
    order = waiting(store, made)
    wanted = [(n, p.sample) for n, p in enumerate(order, start=1) if WANTED[show](p)]
    for start in (0, 7):
        seats, total = store.gallery.filtered(made, Wanted(show), start, 20)
        assert [(s.position, s.sample.external) for s in seats] == wanted[start : start + 20]
        assert total == len(wanted)


def test_a_page_past_the_last_one_still_tells_how_many_there_are(store: Store, made: PublicationRow) -> None:
    _, total = store.gallery.filtered(made, Wanted("rare"), 0, 10)
    assert store.gallery.filtered(made, Wanted("rare"), total, 10) == ([], total)
    assert total > 10


@pytest.mark.parametrize(
    ("text", "found"),
    [("NEAREST", True), (".31 away", True), ("random slice", True), ("100%", False), ("_", False), ("'\"\\", False)],
)
def test_a_reason_is_found_in_any_case_and_signs_are_taken_as_they_are(
    store: Store, made: PublicationRow, text: str, found: bool
) -> None:
    wanted = [p.sample for p in waiting(store, made) if text.lower() in p.parts["reason"]]
    seats, total = store.gallery.filtered(made, Wanted(reason=text), 0, COUNT)
    assert [s.sample.external for s in seats] == wanted
    assert total == len(wanted)
    assert bool(total) is found


def test_both_conditions_must_hold(store: Store, made: PublicationRow) -> None:
    seats, total = store.gallery.filtered(made, Wanted("rare", "random slice"), 0, COUNT)
    assert total == len(seats) > 0
    assert all(s.place.parts["rare_class"] and s.place.parts["random_slice"] for s in seats)


def test_parts_that_a_strategy_does_not_tell_are_of_no_kind(store: Store) -> None:
    """Given an order without parts, and one with fractions; I expect no error, on PostgreSQL neither."""
    store.forget("fake:2")
    store.projects.ask("fake", "2")
    store.samples.replace("fake:2", [RemoteSample(str(i), f"{i}.png") for i in range(2)])
    places = [Place(1, "0", 0.3, 1.0, {}), Place(2, "1", 0.6, 0.5, {"uncertain_boxes": 0.5, "outlier": None})]
    bare = store.publications.create(
        "fake:2", name="hf", round_number=0, checkpoint=None, sha8="a" * 8, places=places, seconds={}
    )
    found = {show: [s.position for s in store.gallery.filtered(bare, Wanted(show), 0, 9)[0]] for show in SHOW}
    store.forget("fake:2")
    assert found == {show: [2] if show == "uncertain" else [] for show in SHOW}


def test_a_name_that_no_database_takes_is_of_nothing(store: Store) -> None:
    for key in ("fake:\0", "\0", "fake:" + "9" * 5000, "fäke:1", "' or 1=1 --"):
        assert store.projects.get(key) is None
        assert store.samples.some(KEY, [key]) == {}


@pytest.mark.parametrize("state", ["open", "dismissed", "gone"])
def test_findings_by_the_page_are_pieces_of_the_list(store: Store, made: PublicationRow, state: str) -> None:
    store.reviews.record(KEY, 1, gallery.findings(30), 4e9)
    store.reviews.record(KEY, 2, gallery.findings(20), 4e9)
    for row in store.reviews.waiting(KEY)[:6]:
        store.reviews.dismiss(KEY, row.id)
    whole = store.reviews.waiting(KEY, state)
    assert len(whole) == store.reviews.count(KEY, state) > 5
    assert [r for start in range(0, 30, 4) for r in store.reviews.waiting(KEY, state, start, 4)] == whole
