"""The store's samples and labels: as the platform lists them, and as they were at an older revision."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from common.domain import LabelledBox, RemoteSample
from common.store import Store
from tests.unit.store_project import KEY, START, annotation, store_fixture  # noqa: F401 - a fixture


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
