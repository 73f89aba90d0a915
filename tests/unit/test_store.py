from __future__ import annotations

import multiprocessing
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from hypothesis import given, settings
from hypothesis import strategies as st

from common.domain import Annotation, ClassMapping, Event, Instances, LabelledBox, Prediction, ProjectSpec, RemoteSample
from common.errors import StoreError
from common.store import Store, migrations, open_store
from common.store.engine import copy_before_migration, make_engine
from common.store.predictions import pack, unpack
from common.store.publications import Place, PublicationRow
from common.store.schema import metadata

KEY = "fake:1"
START = datetime(2026, 1, 1, tzinfo=UTC)


def urls(folder: Path) -> list[str]:
    """SQLite always; PostgreSQL where a server was named."""
    return [f"sqlite:///{folder / 'hardfirst.db'}", *filter(None, [os.environ.get("HARDFIRST_TEST_POSTGRES")])]


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    available = urls(tmp_path)
    if request.param == "postgresql" and len(available) == 1:
        pytest.skip("HARDFIRST_TEST_POSTGRES names no server")
    opened = open_store(available[request.param == "postgresql"], tmp_path)
    opened.forget(KEY)
    opened.projects.ask("fake", "1")
    yield opened
    opened.forget(KEY)
    opened.close()


def annotation(number: str, sample: str, minute: int = 0, *boxes: LabelledBox) -> Annotation:
    return Annotation(number, sample, START + timedelta(minutes=minute), "ann", boxes=boxes)


def publish(store: Store, samples: list[str]) -> PublicationRow:
    places = [Place(i + 1, s, (i + 1) / (len(samples) + 1), 1 - i / 10, {}) for i, s in enumerate(samples)]
    return store.publications.create(
        KEY, name="hf", round_number=0, checkpoint=None, sha8="abcd1234", places=places, seconds={}
    )


def test_the_same_answer_twice_is_one_row(store: Store) -> None:
    store.samples.replace(KEY, [RemoteSample("7", "/7.jpg", answers=1)])
    assert store.labels.record(KEY, [("7", [annotation("1", "7")])]) == 1
    assert store.labels.record(KEY, [("7", [annotation("1", "7")])]) == 0
    assert [a.id for a in store.labels.at(KEY)["7"]] == ["1"]


@pytest.mark.parametrize("own_time", [True, False])
def test_the_time_of_an_answer_that_says_the_same_counts_where_it_is_its_own(store: Store, own_time: bool) -> None:
    """Given an answer; when its time moves; I expect another one, but for times of something larger that holds it."""
    store.samples.replace(KEY, [RemoteSample("7", "/7.jpg", answers=1)])
    for minute in (0, 5):
        store.labels.record(KEY, [("7", [replace(annotation("1", "7", minute), own_time=own_time)])])
    (answer,) = store.labels.at(KEY)["7"]
    assert answer.updated == START + timedelta(minutes=5 if own_time else 0)
    row = store.projects.get(KEY)
    assert row is not None
    assert row.revision == 1 + own_time


def test_an_answer_that_says_something_else_at_the_same_time_is_a_change(store: Store) -> None:
    """Given a box; when its class is renamed, which moves no time; I expect the new name, and the old one before."""
    store.samples.replace(KEY, [RemoteSample("7", "/7.jpg", answers=1)])
    for name in ("car", "vehicle"):
        box = LabelledBox(name, (0.1, 0.1, 0.5, 0.5), "manual")
        store.labels.record(KEY, [("7", [annotation("1", "7", 0, box)])])
    assert [a.boxes[0].name for r in (1, 2) for a in store.labels.at(KEY, r)["7"]] == ["car", "vehicle"]
    assert len(store.labels.at(KEY)["7"]) == 1


def test_an_answer_that_is_no_longer_listed_was_deleted(store: Store) -> None:
    store.samples.replace(KEY, [RemoteSample("7", "/7.jpg")])
    store.labels.record(KEY, [("7", [annotation("1", "7"), annotation("2", "7")])])
    store.labels.record(KEY, [("7", [annotation("2", "7")])])
    assert [a.id for a in store.labels.at(KEY)["7"]] == ["2"]
    assert store.samples.counts(KEY)["answered"] == 1


def test_labels_at_an_older_revision_stay_as_they_were(store: Store) -> None:
    store.samples.replace(KEY, [RemoteSample("7", "/7.jpg")])
    box = LabelledBox("cat", (0.1, 0.1, 0.2, 0.2))
    store.labels.record(KEY, [("7", [annotation("1", "7", 0, box)])])
    project = store.projects.get(KEY)
    assert project is not None
    store.labels.record(KEY, [("7", [annotation("1", "7", 5)])])
    assert store.labels.at(KEY, project.revision)["7"][0].boxes == (box,)
    assert store.labels.at(KEY)["7"][0].boxes == ()


def test_a_deleted_annotation_still_names_its_sample(store: Store) -> None:
    store.samples.replace(KEY, [RemoteSample("7", "/7.jpg")])
    store.labels.record(KEY, [("7", [annotation("1", "7")])])
    store.labels.record(KEY, [("7", [])])
    assert store.labels.samples_of(KEY, ["1", "unknown"]) == ["7"]


def test_samples_are_made_equal_to_the_platforms_list(store: Store) -> None:
    first = store.samples.replace(KEY, [RemoteSample("1", "/1.jpg"), RemoteSample("2", "/2.jpg", answers=1)])
    second = store.samples.replace(KEY, [RemoteSample("2", "/2.jpg", answers=2), RemoteSample("3", "/3.jpg")])
    assert first == (["1", "2"], [], ["2"])
    assert second == (["3"], ["1"], ["2"])
    assert [s.external for s in store.samples.all(KEY)] == ["2", "3"]


def test_an_exchanged_image_is_had_again(store: Store) -> None:
    store.samples.replace(KEY, [RemoteSample("1", "/1.jpg")])
    row = store.samples.all(KEY)[0]
    store.samples.fetched(KEY, [{"id": row.id, "sha256": "a" * 64, "width": 4, "height": 3, "problem": ""}])
    store.samples.replace(KEY, [RemoteSample("1", "/other.jpg")])
    again = store.samples.all(KEY)[0]
    assert (again.uri, again.sha256) == ("/other.jpg", None)


def test_two_rounds_of_one_project_never_run_at_once(store: Store) -> None:
    first = store.rounds.start(KEY, revision=1, labels=2, reason="", folder="/f", token=1)
    assert first is not None
    assert first.number == 1
    assert store.rounds.start(KEY, revision=1, labels=2, reason="", folder="/f", token=1) is None
    store.rounds.end(first.id, "failed", "out of memory")
    second = store.rounds.start(KEY, revision=1, labels=2, reason="", folder="/f", token=1)
    assert second is not None
    assert second.number == 2


def test_the_database_itself_refuses_a_second_running_round(store: Store) -> None:
    store.rounds.start(KEY, revision=1, labels=2, reason="", folder="/f", token=1)
    copy = sa.text(
        "INSERT INTO round (project, number, state, revision, labels, reason, folder, token, attempts, progress,"
        " message, started) SELECT project, 99, state, revision, labels, reason, folder, token, attempts, progress,"
        " message, started FROM round WHERE project = :key"
    )
    with pytest.raises(sa.exc.IntegrityError), store.engine.begin() as connection:
        connection.execute(copy, {"key": KEY})


def test_promoting_ends_the_round_serves_the_checkpoint_and_asks_for_an_order(store: Store) -> None:
    running = store.rounds.start(KEY, revision=1, labels=2, reason="", folder="/f", token=1)
    assert running is not None
    store.rounds.finish(
        running, path="m.pt", sha256="b" * 64, names=["cat"], metrics={}, message="fine", verdict="promoted"
    )
    project = store.projects.get(KEY)
    assert project is not None
    assert project.checkpoint is not None
    assert store.rounds.checkpoint(project.checkpoint).sha256 == "b" * 64
    assert project.order_asked is not None
    assert store.rounds.running(KEY) is None


def test_a_version_is_never_used_twice(store: Store) -> None:
    versions = [publish(store, ["1"]).version for _ in range(3)]
    assert versions == ["hf@0.1-abcd1234", "hf@0.2-abcd1234", "hf@0.3-abcd1234"]


def test_only_the_newest_publication_is_unfinished(store: Store) -> None:
    publish(store, ["1"])
    newest = publish(store, ["1", "2"])
    unfinished = store.publications.unfinished(KEY)
    assert unfinished is not None
    assert unfinished.id == newest.id


def test_activating_retires_the_one_before(store: Store) -> None:
    one = publish(store, ["1"])
    store.publications.activate(one)
    two = publish(store, ["1"])
    store.publications.activate(two)
    assert [p.state for p in store.publications.all(KEY)] == ["retired", "active"]


def test_an_order_that_serves_once_more_keeps_the_times_it_served_before(store: Store) -> None:
    one = publish(store, ["1"])
    store.publications.activate(one)
    two = publish(store, ["1"])
    store.publications.activate(two)
    store.publications.restore(store.publications.get(one.id), 1, {})
    waiting = store.publications.get(one.id)
    assert (waiting.activated, len(waiting.activations)) == (None, 1)
    store.publications.activate(waiting)
    again, other = store.publications.get(one.id), store.publications.get(two.id)
    assert again.activations == [waiting.activations[0], again.activated]
    assert waiting.activations[0] <= other.activations[0] <= again.activations[1]


def test_orders_of_before_are_known_to_have_served_once(tmp_path: Path) -> None:
    url = urls(tmp_path)[0]
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    engine = make_engine(url, durable=False)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        columns = "id, project, number, round, version, state, total, sent, rows, in_flight, upto, seconds, created"
        for number, activated in ((1, "1732180668.25"), (2, "NULL")):
            values = f"{number}, 'fake:1', {number}, 0, 'v{number}', 'retired', 1, 1, 1, 0, 0, '{{}}', 1.0, {activated}"
            connection.execute(sa.text(f"INSERT INTO publication ({columns}, activated) VALUES ({values})"))
    engine.dispose()
    opened = open_store(url, tmp_path)
    assert [p.activations for p in opened.publications.all("fake:1")] == [[1732180668.25], []]
    opened.close()


def test_answered_and_removed_samples_leave_the_queue(store: Store) -> None:
    store.samples.replace(KEY, [RemoteSample(str(i), "") for i in range(4)])
    row = publish(store, ["3", "1", "0", "2"])
    store.labels.record(KEY, [("3", [annotation("1", "3")])])
    store.samples.drop(KEY, ["1"])
    places, total = store.publications.open_places(row)
    assert ([p.sample for p in places], total) == (["0", "2"], 2)
    assert store.publications.answered_in(row, 2) == 2


def test_hints_come_out_in_order_and_once(store: Store) -> None:
    for sample in ("1", "2"):
        store.inbox.add(Event("fake", "1", "labels", (sample,)))
    hints = store.inbox.pending("fake", "1")
    assert [h.event.samples for h in hints] == [("1",), ("2",)]
    store.inbox.done([h.id for h in hints])
    assert store.inbox.pending("fake", "1") == []


def test_a_lease_is_for_one_owner_and_its_number_grows_with_each_new_one(store: Store) -> None:
    assert store.projects.lease(KEY, "me", 60) == 1
    assert store.projects.lease(KEY, "me", 60) == 1
    assert store.projects.lease(KEY, "you", 60) is None
    store.projects.release("me")
    assert store.projects.lease(KEY, "you", 60) == 2


def test_a_forgotten_project_leaves_nothing_behind(store: Store) -> None:
    store.samples.replace(KEY, [RemoteSample("1", "")])
    store.labels.record(KEY, [("1", [annotation("1", "1")])])
    publish(store, ["1"])
    store.inbox.add(Event("fake", "1", "train"))
    store.forget(KEY)
    assert store.projects.get(KEY) is None
    assert store.labels.at(KEY) == {}
    assert store.inbox.projects() == set()
    assert store.publications.all(KEY) == []


def test_what_a_project_wants_survives_the_store(store: Store) -> None:
    spec = ProjectSpec("Pets", (ClassMapping("cat", ("kitty",)),), 0.3, "m.pt", {"image": "image"})
    store.projects.update(KEY, spec=spec)
    row = store.projects.get(KEY)
    assert row is not None
    assert row.spec == spec


def test_a_database_of_a_newer_version_is_refused_in_one_sentence(tmp_path: Path) -> None:
    url = urls(tmp_path)[0]
    open_store(url, tmp_path).close()
    with sqlite3.connect(tmp_path / "hardfirst.db") as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match="written by a newer hardfirst"):
        open_store(url, tmp_path)


def test_the_migrations_make_exactly_the_tables_of_the_schema(store: Store) -> None:
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": _ours})
        assert compare_metadata(context, metadata) == []


def _ours(_thing: object, name: str, kind: str, _reflected: bool, _other: object) -> bool:
    return not (kind == "table" and name in ("alembic_version", "event", "event_trace"))


def test_an_older_database_is_copied_before_it_is_migrated(tmp_path: Path) -> None:
    url = urls(tmp_path)[0]
    open_store(url, tmp_path).close()
    with sqlite3.connect(tmp_path / "hardfirst.db") as raw:
        raw.execute("DELETE FROM alembic_version")
        raw.execute("INSERT INTO alembic_version VALUES ('0001')")
    engine = make_engine(url, durable=False)
    copy_before_migration(engine)
    copies = list(tmp_path.glob("hardfirst.db.*.copy"))
    assert len(copies) == 1
    with sqlite3.connect(copies[0]) as raw:
        assert raw.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
    engine.dispose()


def test_a_locked_database_says_so_and_nothing_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.store.engine.BUSY_S", 0.1)
    store = open_store(urls(tmp_path)[0], tmp_path)
    blocker = sqlite3.connect(tmp_path / "hardfirst.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"):
        store.projects.ask("fake", "2")
    blocker.close()
    assert store.projects.all() == []
    store.close()


def test_a_webhook_does_not_wait_for_a_writer_of_the_main_database(tmp_path: Path) -> None:
    store = open_store(urls(tmp_path)[0], tmp_path)
    blocker = sqlite3.connect(tmp_path / "hardfirst.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    store.inbox.add(Event("fake", "1", "labels", ("1",)))
    assert len(store.inbox.pending("fake", "1")) == 1
    blocker.close()
    store.close()


def _add_events(url: str, folder: str, count: int) -> None:
    store = open_store(url, Path(folder))
    for i in range(count):
        store.inbox.add(Event("fake", "1", "labels", (str(i),)))
    os._exit(9)


def test_what_was_acknowledged_survives_a_killed_process(tmp_path: Path) -> None:
    url = urls(tmp_path)[0]
    child = multiprocessing.get_context("spawn").Process(target=_add_events, args=(url, str(tmp_path), 25))
    child.start()
    child.join(60)
    store = open_store(url, tmp_path)
    assert len(store.inbox.pending("fake", "1")) == 25
    store.close()


@settings(max_examples=25, deadline=None)
@given(boxes=st.integers(0, 5), classes=st.integers(1, 4), seed=st.integers(0, 100))
def test_a_prediction_comes_back_as_it_was(boxes: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 500, (boxes, 4)).astype(np.float32)
    scores = rng.uniform(0, 1, (boxes, classes)).astype(np.float32)
    spread = rng.uniform(0, 1, boxes).astype(np.float32)
    embedding = rng.normal(size=7).astype(np.float32)
    doubt, change = rng.uniform(0, 0.05, classes).astype(np.float32), rng.uniform(0, 9, classes).astype(np.float32)
    made = Prediction(Instances(corners, scores), embedding, doubt, change, spread, 640, 480)
    back = unpack(pack(made))
    assert np.array_equal(back.instances.boxes, corners)
    assert np.allclose(back.instances.scores, scores, atol=1e-3)
    assert np.allclose(back.embedding, embedding, rtol=1e-3)
    assert np.allclose(back.doubt, doubt, rtol=1e-3)
    assert equal(back.model_change, change)
    assert (back.width, back.height) == (640, 480)


def bare(boxes: int = 3, classes: int = 2) -> Prediction:
    scores = np.linspace(0.25, 0.75, boxes * classes, dtype=np.float32).reshape(boxes, classes)
    corners = np.arange(4 * boxes, dtype=np.float32).reshape(boxes, 4)
    each, spread = np.zeros(classes, np.float32), np.zeros(boxes, np.float32)
    return Prediction(Instances(corners, scores), np.ones(5, np.float32), each, each, spread, 4, 3)


@settings(max_examples=40, deadline=None)
@given(
    boxes=st.integers(0, 4),
    classes=st.integers(1, 3),
    members=st.integers(-1, 3),
    flip=st.booleans(),
    geometry=st.sampled_from(["", "rotated", "polygons", "keypoints"]),
    seed=st.integers(0, 100),
)
def test_second_looks_and_geometry_come_back_as_they_were(
    boxes: int, classes: int, members: int, flip: bool, geometry: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)

    def numbers(*shape: int) -> np.ndarray:
        return rng.uniform(0, 1, shape).astype(np.float16).astype(np.float32)

    shapes = {
        "": {},
        "rotated": {"rotated": numbers(boxes, 5)},
        "polygons": {"polygons": tuple(numbers(int(rng.integers(0, 6)), 2) for _ in range(boxes))},
        "keypoints": {"keypoints": numbers(boxes, 4, 3)},
    }
    plain = bare(boxes, classes)
    made = replace(
        plain,
        instances=replace(plain.instances, **shapes[geometry]),
        flip_iou=numbers(boxes) if flip else None,
        flip_scores=numbers(boxes, classes) if flip else None,
        committee=numbers(members, boxes, classes) if members >= 0 else None,
    )
    back = unpack(pack(made))
    for name in ("flip_iou", "flip_scores", "committee"):
        assert equal(getattr(back, name), getattr(made, name))
    for name in ("boxes", "rotated", "keypoints"):
        assert equal(getattr(back.instances, name), getattr(made.instances, name))
    assert (back.instances.polygons is None) == (made.instances.polygons is None)
    pairs = zip(back.instances.polygons or (), made.instances.polygons or (), strict=True)
    assert all(equal(a, b) for a, b in pairs)


def equal(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    return one is other if one is None or other is None else np.array_equal(one, other)


def test_a_prediction_without_second_looks_takes_no_room_for_them() -> None:
    n, classes, depth = 3, 2, 5
    assert len(pack(bare(n, classes))) == 6 * 8 + n * 4 * 4 + n * classes * 2 + n * 4 + depth * 2 + classes * 6


@pytest.mark.parametrize("doubt", [0.0, 0.05, np.nan])
def test_a_prediction_from_before_doubt_and_gradient_were_per_class_is_read_with_both_shared_out(doubt: float) -> None:
    seen = replace(bare(), flip_iou=np.ones(3, np.float32), flip_scores=np.ones((3, 2), np.float32))
    now = pack(seen)
    start = len(pack(bare())) - 2 * 6
    head = np.array([doubt, 1.5, 4, 3, 3, 2, 5], "<f8").tobytes()
    old = unpack(head + now[6 * 8 : start] + now[start + 2 * 6 :])
    np.testing.assert_array_equal(old.doubt, np.full(2, doubt, np.float32))
    assert np.linalg.norm(old.model_change) == pytest.approx(1.5)
    assert (old.width, old.height) == (4, 3)
    for name in ("embedding", "disagreement", "flip_iou", "flip_scores"):
        assert equal(getattr(old, name), getattr(seen, name))
    assert equal(old.instances.boxes, seen.instances.boxes)


def test_predictions_with_other_looks_stand_beside_each_other(store: Store) -> None:
    looked = replace(bare(), flip_iou=np.ones(3, np.float32), flip_scores=np.ones((3, 2), np.float32))
    store.predictions.put("a" * 64, 320, [("i" * 64, bare())])
    store.predictions.put("a" * 64, 320, [("i" * 64, looked)], "flip")
    assert store.predictions.get("a" * 64, 320, ["i" * 64])["i" * 64].flip_iou is None
    assert store.predictions.get("a" * 64, 320, ["i" * 64], "flip")["i" * 64].flip_iou is not None
    assert store.predictions.have("a" * 64, 320, "half") == set()
    assert store.predictions.forget(["b" * 64]) == 0
    assert store.predictions.forget(["a" * 64]) == 2
    assert store.predictions.have("a" * 64, 320, "flip") == set()


def test_boxes_are_found_whatever_was_asked_besides_and_of_the_wanted_size_where_there_are_some(store: Store) -> None:
    small, large = bare(1), bare(2)
    store.predictions.put("a" * 64, 320, [("i" * 64, small), ("j" * 64, small)], "flip")
    store.predictions.put("a" * 64, 640, [("i" * 64, large)])
    found = store.predictions.boxes("a" * 64, 640, ["i" * 64, "j" * 64, "k" * 64])
    assert {image: len(p.instances) for image, p in found.items()} == {"i" * 64: 2, "j" * 64: 1}
    store.predictions.forget()


def test_settings_of_a_project_survive_the_store(store: Store) -> None:
    row = store.projects.get(KEY)
    assert row is not None
    assert row.settings == {}
    store.projects.update(KEY, settings={"imgsz": 320, "committee": ["flip"]})
    again = store.projects.get(KEY)
    assert again is not None
    assert again.settings == {"imgsz": 320, "committee": ["flip"]}


def test_a_wish_for_a_round_that_was_made_while_another_began_stays(store: Store) -> None:
    store.projects.ask("fake", "1")
    store.projects.update(KEY, training_asked=20.0)
    store.rounds.start(KEY, revision=1, labels=2, reason="", folder="/f", token=1, asked=10.0)
    row = store.projects.get(KEY)
    assert row is not None
    assert row.training_asked == 20.0


def test_a_round_answers_the_wish_it_was_begun_for(store: Store) -> None:
    store.projects.ask("fake", "1")
    store.projects.update(KEY, training_asked=20.0)
    store.rounds.start(KEY, revision=1, labels=2, reason="", folder="/f", token=1, asked=20.0)
    row = store.projects.get(KEY)
    assert row is not None
    assert row.training_asked is None
