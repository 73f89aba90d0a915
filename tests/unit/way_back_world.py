"""A project whose rounds leave weights that can serve again, and what a person does with it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from common.loop.loop import QUIET_S
from common.loop.way_back import ask_way_back
from common.ports import Model
from common.store.projects import ProjectRow
from tests.fakes import FakeModels, World, make_world, settle
from tests.unit.test_loop import KEY, label, trained_round

ZERO = "00000000"
FIRST = f"hardfirst@0.1-{ZERO}"


class KeptModels(FakeModels):
    """Weights are files of a model folder, named by what they were trained in; each is as sure as it is late."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def install(self, trained: Path) -> Model:
        sha = hashlib.sha256(trained.parent.name.encode()).hexdigest()
        path = self._folder / f"{sha}.pt"
        path.write_bytes(b"weights")
        return Model(path, sha, ("cat", "dog"))


@pytest.fixture(name="world")
def world_fixture(tmp_path: Path) -> World:
    return make(tmp_path)


def make(folder: Path, images: int = 12, **settings: Any) -> World:
    made = make_world(folder, images, **settings)
    made.tools.models = KeptModels(folder)
    return made


def row_of(world: World) -> ProjectRow:
    row = world.tools.store.projects.get(KEY)
    assert row is not None
    return row


def a_round(world: World) -> str:
    """Enough labels, a pause, a training that is promoted, the new order, a calm while; returns its version."""
    trained_round(world)
    calm(world)
    return world.platform.active or ""


def calm(world: World) -> None:
    """Nobody labels, the platform is compared, old rows go."""
    world.clock[0] += QUIET_S + 1000
    settle(world)


def back(world: World, to: str | None = None) -> dict[str, Any]:
    asked = ask_way_back(world.tools, row_of(world), to)
    settle(world)
    return asked


def told(world: World) -> list[str]:
    return [e.text for e in world.tools.store.journal.newest(KEY, 50)]


def start_round(world: World) -> Path:
    settle(world)
    label(world, 3)
    settle(world)
    world.clock[0] += 61
    settle(world)
    running = world.tools.store.rounds.running(KEY)
    assert running is not None
    return Path(running.folder)
