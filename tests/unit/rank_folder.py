"""Folders of pictures for `hardfirst rank`, with a fake model and a real store."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from common.cli import main
from common.config import Settings
from common.experiments import command_line, rank
from common.experiments.rank import Report, Request
from common.experiments.ranking import Wish
from common.store import Store, open_store
from tests.fakes import FakeModels, picture

Run = Callable[..., Report]


@pytest.fixture(name="folder")
def folder_fixture(tmp_path: Path) -> Path:
    """Eight pictures, one of them in a folder below."""
    made = tmp_path / "photos"
    (made / "below").mkdir(parents=True)
    for i in range(7):
        picture(made / f"{i}.png", i)
    picture(made / "below" / "7.png", 7)
    return made


@pytest.fixture(name="settings")
def settings_fixture(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, home=tmp_path / "home", imgsz=320, min_new_labels=3)


@pytest.fixture(name="store")
def store_fixture(settings: Settings) -> Iterator[Store]:
    settings.folder.mkdir()
    made = open_store(settings.database, settings.folder)
    yield made
    made.close()


@pytest.fixture(name="models")
def models_fixture() -> FakeModels:
    return FakeModels(("kitty", "dog"))


@pytest.fixture(name="ranked")
def ranked_fixture(tmp_path: Path, settings: Settings, store: Store, models: FakeModels) -> Run:
    """Rank a folder into order.csv."""

    def run(source: Path, wish: Wish | None = None, **given: Any) -> Report:
        request = Request(source, tmp_path / "order.csv", wish or Wish(), **given)
        return rank.run(request, settings, store, models, models.base(""), lambda _done, _all: None)

    return run


@pytest.fixture(name="command")
def command_fixture(clean_home: Path, monkeypatch: pytest.MonkeyPatch, models: FakeModels) -> Callable[..., Result]:
    monkeypatch.setattr(command_line, "open_model", lambda _settings: (models, models.base("")))
    return lambda *words: CliRunner().invoke(main, ["rank", *words])


def cells(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
