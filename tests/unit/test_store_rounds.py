"""The store's rounds and the orders that follow them: one runs, one is active, and no version is used twice."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from common.domain import RemoteSample
from common.store import Store
from tests.unit.store_project import KEY, annotation, publish, store_fixture  # noqa: F401 - a fixture


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


def test_answered_and_removed_samples_leave_the_queue(store: Store) -> None:
    store.samples.replace(KEY, [RemoteSample(str(i), "") for i in range(4)])
    row = publish(store, ["3", "1", "0", "2"])
    store.labels.record(KEY, [("3", [annotation("1", "3")])])
    store.samples.drop(KEY, ["1"])
    places, total = store.publications.open_places(row)
    assert ([p.sample for p in places], total) == (["0", "2"], 2)
    assert store.publications.answered_in(row, 2) == 2


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
