"""Engines, transactions and migrations: SQLite by default, PostgreSQL by URL."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError, OperationalError

from common.errors import StoreError

BUSY_S = 10
"""How long a writer waits for another one before it gives up."""


def make_engine(url: str, *, durable: bool) -> sa.Engine:
    """An engine whose transactions begin as told by the execution option ``write``.

    Args:
        url: SQLAlchemy URL.
        durable: SQLite only: flush to the disk at every commit (the inbox) or at checkpoints (the rest). Either way
            a killed process loses nothing that was committed.
    """
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return sa.create_engine(parsed, pool_pre_ping=True, pool_size=10)
    if parsed.database and parsed.database != ":memory:":
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(parsed, connect_args={"timeout": BUSY_S, "check_same_thread": False})
    sa.event.listen(engine, "connect", lambda raw, _: _prepare(raw, durable=durable))
    sa.event.listen(engine, "begin", _begin)
    return engine


def _prepare(raw: sqlite3.Connection, *, durable: bool) -> None:
    raw.isolation_level = None
    for pragma in ("journal_mode=WAL", f"synchronous={'FULL' if durable else 'NORMAL'}", "temp_store=MEMORY"):
        raw.execute(f"PRAGMA {pragma}")


def _begin(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get("write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


@contextmanager
def transaction(engine: sa.Engine, *, write: bool) -> Iterator[sa.Connection]:
    """One transaction; a writer holds SQLite's write lock from the start, so that it never fails half-way.

    Raises:
        StoreError: The database is locked, full, read-only or gone.
    """
    try:
        with engine.connect().execution_options(write=write) as connection, connection.begin():
            yield connection
    except sa.exc.IntegrityError:
        raise
    except (OperationalError, DBAPIError) as error:
        raise StoreError(
            f"the database answered {str(error.orig).strip()!r}; nothing was changed, try again"
        ) from error


def count_anew(connection: sa.Connection, *tables: sa.Table) -> None:
    """Tell the planner how many rows there are now; without, it takes what was just written for one row.

    PostgreSQL would do so by itself within a minute or two. SQLite plans by its indexes here.
    """
    if connection.dialect.name == "postgresql":
        for table in tables:
            connection.execute(sa.text(f"ANALYZE {table.name}"))


def read_whole(connection: sa.Connection) -> None:
    """To the end of this transaction tables are joined by reading each of them once.

    PostgreSQL would rather walk over a table that it takes for small once for every row of another, and how large it is
    it counted some time ago. SQLite does what the query says.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SET LOCAL enable_nestloop = off"))


def migrate(engine: sa.Engine) -> None:
    """Bring the database to this version's schema, after a copy of it where it is a file with older contents.

    Raises:
        StoreError: It was written by a newer hardfirst.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    scripts = ScriptDirectory.from_config(config)
    with engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    if current == scripts.get_current_head():
        return
    if current is not None and current not in {s.revision for s in scripts.walk_revisions()}:
        raise StoreError(
            f"the database has schema {current!r}, written by a newer hardfirst; this one knows up to "
            f"{scripts.get_current_head()!r}: install the newer one, or restore the copy beside the database"
        )
    if current is not None:
        copy_before_migration(engine)
    with transaction(engine, write=True) as connection:
        _lock(connection)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _lock(connection: sa.Connection) -> None:
    """Two processes that start at once migrate one after the other."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(6841)"))


def copy_before_migration(engine: sa.Engine) -> None:
    """A copy of the database file beside it; PostgreSQL is copied by those who run it."""
    name = engine.url.database
    if engine.dialect.name != "sqlite" or not name or not Path(name).exists():
        return
    target = Path(f"{name}.{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.copy")
    if shutil.disk_usage(target.parent).free < 2 * Path(name).stat().st_size:
        raise StoreError(f"no room for a copy of {name} before its migration: free some disk space and start again")
    with sqlite3.connect(name) as source, sqlite3.connect(target) as copy:
        source.backup(copy)


def upsert(
    connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]], keys: list[str], update: list[str]
) -> None:
    """Insert rows; where ``keys`` exist already, set ``update`` (nothing when empty)."""
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as pg_insert

        statement: Any = pg_insert(table)
    else:
        from sqlalchemy.dialects.sqlite import insert as lite_insert

        statement = lite_insert(table)
    if update:
        statement = statement.on_conflict_do_update(
            index_elements=keys, set_={name: statement.excluded[name] for name in update}
        )
    else:
        statement = statement.on_conflict_do_nothing(index_elements=keys)
    connection.execute(statement, rows)
