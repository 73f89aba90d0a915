"""What the store keeps of a project besides: settings, hints, leases; and how it is forgotten."""

from __future__ import annotations

from common.domain import ClassMapping, Event, ProjectSpec, RemoteSample
from common.store import Store
from tests.unit.store_project import KEY, annotation, publish, store_fixture  # noqa: F401 - a fixture


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


def test_settings_of_a_project_survive_the_store(store: Store) -> None:
    row = store.projects.get(KEY)
    assert row is not None
    assert row.settings == {}
    store.projects.update(KEY, settings={"imgsz": 320, "committee": ["flip"]})
    again = store.projects.get(KEY)
    assert again is not None
    assert again.settings == {"imgsz": 320, "committee": ["flip"]}
