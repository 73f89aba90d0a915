"""The review list a page at a time: addresses of what is shown alone, and one port of the platform for all requests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from common.store.projects import ProjectRow
from common.web.app import create_app
from common.web.backend import Backend
from common.web.pages.queue import PAGE
from tests.fakes import FakePlatform, World, make_world
from tests.unit import gallery_pool as pool
from tests.unit.test_loop import KEY

FOUND = PAGE + 10


@dataclass
class Linking(FakePlatform):
    """Remembers whose address was asked for."""

    linked: list[str] = field(default_factory=list)

    def link(self, sample: str) -> str:
        self.linked.append(sample)
        return super().link(sample)


@dataclass
class Doors:
    """Opens a port, and counts."""

    platform: Linking
    opened: int = 0

    def __call__(self, _row: ProjectRow) -> Linking:
        self.opened += 1
        return self.platform


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = make_world(tmp_path, 1)
    made.models.names = pool.CLASSES
    pool.fill(made, 100)
    pool.review(made, FOUND)
    yield made
    made.tools.store.close()


@pytest.fixture
def doors(world: World) -> Doors:
    made = Doors(Linking())
    world.tools.open = made
    return made


@pytest.fixture
def client(world: World, doors: Doors) -> FlaskClient:
    assert world.tools.open is doors
    return create_app(Backend(world.tools, lambda _model, _paths, _imgsz: []), []).test_client()


def test_a_page_asks_for_the_addresses_it_shows(client: FlaskClient, doors: Doors) -> None:
    first = client.get(f"/projects/{KEY}/review", headers={"Accept": "text/html"})
    assert doors.platform.linked == [str(i) for i in range(PAGE)]
    assert f"1 to {PAGE} of {FOUND}" in first.text
    last = client.get(f"/projects/{KEY}/review?start={PAGE}", headers={"Accept": "text/html"})
    assert doors.platform.linked[PAGE:] == [str(i) for i in range(PAGE, FOUND)]
    assert f"{PAGE + 1} to {FOUND} of {FOUND}" in last.text
    assert 'rel="next"' not in last.text


def test_the_whole_list_as_json_opens_the_platform_once_for_all_who_ask(client: FlaskClient, doors: Doors) -> None:
    for _ in range(3):
        found = client.get(f"/api/review?project={KEY}").json["review"]
        assert [f["link"] for f in found] == [f"http://platform/tasks/{i}" for i in range(FOUND)]
    assert doors.opened == 1
