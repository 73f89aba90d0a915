"""The contract of common.ports.Memory, over the store's and over the one that tests use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from common.ports import Memory
from common.store import open_store
from tests.unit.cvat_memory import DictMemory

Of = Callable[[str], Memory]
OURS, THEIRS = "fake:memory-1", "fake:memory-2"


@pytest.fixture(params=["dict", "sqlite", "postgresql"])
def of(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Of]:
    """The memory of a project, by its key."""
    if request.param == "dict":
        made = {OURS: DictMemory(), THEIRS: DictMemory()}
        yield made.__getitem__
        return
    server = os.environ.get("HARDFIRST_TEST_POSTGRES", "")
    if request.param == "postgresql" and not server:
        pytest.skip("HARDFIRST_TEST_POSTGRES names no server")
    store = open_store(server if request.param == "postgresql" else f"sqlite:///{tmp_path / 'hardfirst.db'}", tmp_path)
    for project in (OURS, THEIRS):
        store.forget(project)
    yield store.memories.of
    for project in (OURS, THEIRS):
        store.forget(project)
    store.close()


@pytest.fixture
def memory(of: Of) -> Memory:
    return of(OURS)


def test_what_was_put_is_got_and_the_rest_is_missing(memory: Memory) -> None:
    memory.put("job", {"7": {"rank": 1}, "8": [1, 2.5, None, True, "ä"]})
    assert memory.get("job", ["7", "8", "9"]) == {"7": {"rank": 1}, "8": [1, 2.5, None, True, "ä"]}


def test_put_replaces_rows_of_the_same_key_and_leaves_the_others(memory: Memory) -> None:
    memory.put("job", {"7": 1, "8": 1})
    memory.put("job", {"7": 2})
    assert memory.all("job") == {"7": 2, "8": 1}


def test_all_comes_by_key(memory: Memory) -> None:
    memory.put("job", {"3": "c", "1": "a", "2": "b"})
    assert list(memory.all("job").items()) == [("1", "a"), ("2", "b"), ("3", "c")]


def test_kinds_do_not_mix(memory: Memory) -> None:
    memory.put("job", {"7": "a"})
    memory.put("shapes", {"7": "b"})
    assert (memory.get("job", ["7"]), memory.all("shapes")) == ({"7": "a"}, {"7": "b"})


def test_projects_do_not_mix(of: Of) -> None:
    of(OURS).put("job", {"7": "a"})
    assert of(THEIRS).all("job") == {}
    assert of(THEIRS).add("job", "7", "b")
    assert of(THEIRS).drop("job") == 1
    assert of(OURS).all("job") == {"7": "a"}


def test_counts_are_by_kind_of_a_prefix_taken_literally(memory: Memory) -> None:
    for kind, number in (("place:v1", 2), ("place:v2", 1), ("place_v3", 1), ("job", 3)):
        memory.put(kind, {str(i): i for i in range(number)})
    assert memory.counts("place:") == {"place:v1": 2, "place:v2": 1}
    assert memory.counts("place_") == {"place_v3": 1}
    assert memory.counts() == {"place:v1": 2, "place:v2": 1, "place_v3": 1, "job": 3}


def test_of_two_that_add_the_first_stays(memory: Memory) -> None:
    assert memory.add("slot", "3/0", {"job": 7})
    assert not memory.add("slot", "3/0", {"job": 8})
    assert memory.get("slot", ["3/0"]) == {"3/0": {"job": 7}}


def test_of_many_that_add_at_once_one_wins(of: Of) -> None:
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda n: of(OURS).add("slot", "3/0", n), range(8)))
    assert won.count(True) == 1
    assert of(OURS).get("slot", ["3/0"]) == {"3/0": won.index(True)}


def test_drop_says_how_many_went(memory: Memory) -> None:
    memory.put("job", {str(i): i for i in range(5)})
    assert memory.drop("job", ["1", "9"]) == 1
    assert memory.drop("job", []) == 0
    assert memory.drop("job", limit=3) == 3
    assert memory.drop("job") == 1
    assert memory.drop("job") == 0
    assert memory.counts() == {}


def test_more_rows_than_one_transaction_takes(memory: Memory) -> None:
    rows = {f"{i:04}": i for i in range(1201)}
    memory.put("place:v1", rows)
    assert memory.get("place:v1", iter(rows)) == memory.all("place:v1") == rows
    assert memory.drop("place:v1", iter(rows)) == 1201


def test_a_value_that_is_changed_afterwards_stays_as_it_was_written(memory: Memory) -> None:
    value = {"frames": [1]}
    memory.put("shapes", {"7": value})
    value["frames"].append(2)
    memory.get("shapes", ["7"])["7"]["frames"].append(3)
    assert memory.get("shapes", ["7"]) == {"7": {"frames": [1]}}
