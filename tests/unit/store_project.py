"""A store with one project, over SQLite and, where a server was named, PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from common.domain import Annotation, LabelledBox
from common.store import Store, open_store
from common.store.publications import Place, PublicationRow

KEY = "fake:1"
START = datetime(2026, 1, 1, tzinfo=UTC)


def urls(folder: Path) -> list[str]:
    """SQLite always; PostgreSQL where a server was named."""
    return [f"sqlite:///{folder / 'hardfirst.db'}", *filter(None, [os.environ.get("HARDFIRST_TEST_POSTGRES")])]


@pytest.fixture(name="store", params=["sqlite", "postgresql"])
def store_fixture(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
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
