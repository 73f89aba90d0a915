"""The store's database: its migrations, locked, of another version, and after a kill."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext

from common.domain import Event
from common.errors import StoreError
from common.store import Store, migrations, open_store
from common.store.engine import copy_before_migration, make_engine
from common.store.schema import metadata
from tests.unit.store_project import store_fixture, urls  # noqa: F401 - a fixture


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
