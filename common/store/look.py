"""The database as it is: opened without a migration, without making a file, without waiting for writers."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from common.store.engine import transaction
from common.store.schema import annotation, event, project, sample
from common.store.store import Store

WAIT_S = 2.0
"""Seconds that a writer is waited for."""
State = Literal["none", "ok", "old", "new", "locked", "broken"]
"""'none' = no database was made yet; 'locked' = somebody holds the write lock, reading may still work."""


@dataclass(frozen=True)
class Seen:
    """What became of the look.

    Attributes:
        state: See ``State``.
        said: The database's own words, or its schema and ours; '' when there is nothing to say. May name its user.
        store: To be read only; None where the tables cannot be relied on.
    """

    state: State
    said: str = ""
    store: Store | None = None


@contextmanager
def look(url: str, folder: Path) -> Iterator[Seen]:
    """Look at the database; its connections are closed at the end of the block.

    Args:
        url: SQLAlchemy URL of the main database.
        folder: Where SQLite's inbox file lies.
    """
    engines: list[sa.Engine] = []
    try:
        yield _look(url, folder, engines)
    finally:
        for engine in engines:
            engine.dispose()


def _look(url: str, folder: Path, engines: list[sa.Engine]) -> Seen:
    try:
        parsed = sa.make_url(url)
        if parsed.get_backend_name() != "sqlite":
            engines.append(sa.create_engine(parsed, connect_args={"connect_timeout": 3}))
            return _seen(engines[0], engines[0], "")
        main, inbox = Path(parsed.database or ""), folder / "inbox.db"
        if not main.is_file() or main.stat().st_size == 0:
            return Seen("none", str(main))
        lock = next((said for path in (main, inbox) if path.is_file() and (said := _lock(path))), "")
        engines += [_reading(main), _reading(inbox)]
        return _seen(engines[0], engines[1] if inbox.is_file() else engines[0], lock)
    except Exception as error:  # noqa: BLE001 - a driver that is missing, a file that is no database ...
        original = getattr(error, "orig", None) or error
        first = (str(original).strip().splitlines() or [type(error).__name__])[0]
        return Seen("locked" if "locked" in first else "broken", first)


def _reading(path: Path) -> sa.Engine:
    # Readers of a WAL database write its index: 'ro' would refuse them where that is missing.
    name, how = f"file:{quote(str(path.absolute()))}", {"mode": "rw", "uri": "true"}
    address = sa.URL.create("sqlite", database=name, query=how)
    return sa.create_engine(address, connect_args={"timeout": WAIT_S}, poolclass=sa.pool.NullPool)


def _lock(path: Path) -> str:
    """Why nobody else can write now; '' when one can."""
    address = f"file:{quote(str(path.absolute()))}?mode=rw"
    with closing(sqlite3.connect(address, uri=True, timeout=WAIT_S, isolation_level=None)) as raw:
        try:
            raw.execute("BEGIN IMMEDIATE")
            raw.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            return f"{path.name}: {error}"
    return ""


def _seen(engine: sa.Engine, inbox: sa.Engine, lock: str) -> Seen:
    scripts = ScriptDirectory(str(Path(__file__).parent / "migrations"))
    with engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    if current is None:
        return Seen("none", "no tables yet")
    head = scripts.get_current_head()
    if current != head:
        known = {s.revision for s in scripts.walk_revisions()}
        return Seen("old" if current in known else "new", f"its schema is {current!r}, this hardfirst's {head!r}")
    store = Store(engine, inbox)
    return Seen("locked", lock, store) if lock else Seen("ok", f"schema {current!r}", store)


@dataclass(frozen=True)
class Pulse:
    """How lively one project is; times are seconds since the epoch, None = never.

    Attributes:
        owner: Who holds its lease, '' = nobody.
        until: When that lease ends.
        waiting: Events nobody has acted on.
        oldest: When the oldest of them came.
        event: When the newest event of the last day came.
        answer: When a person last changed an answer, by the platform's clock.
        recorded: When we learnt of it.
    """

    owner: str = ""
    until: float | None = None
    waiting: int = 0
    oldest: float | None = None
    event: float | None = None
    answer: float | None = None
    recorded: float | None = None


def pulse(store: Store, key: str) -> Pulse:
    """The pulse of one project. Raises StoreError."""
    c = project.c
    with transaction(store.engine, write=False) as connection:
        lease = connection.execute(sa.select(c.lease_owner, c.lease_until).where(c.key == key)).one()
        times = sa.select(annotation.c.updated, annotation.c.recorded).where(annotation.c.project == key)
        newest = connection.execute(times.order_by(annotation.c.updated.desc()).limit(1)).first()
    answer, recorded = newest or (None, None)
    owner = str(lease[0] or "") if lease[1] is not None else ""
    return Pulse(owner, lease[1], **_inbox(store, key), answer=answer, recorded=recorded)


def _inbox(store: Store, key: str) -> dict[str, Any]:
    platform, _, external = key.partition(":")
    c = event.c
    mine, due = (c.platform == platform) & (c.project == external), c.done.is_(None) & (c.at <= time.time())
    with transaction(store._inbox_engine, write=False) as connection:
        if not sa.inspect(connection).has_table(event.name):
            return {}
        waiting = sa.select(sa.func.count(), sa.func.min(c.at)).where(mine, due)
        count, oldest = connection.execute(waiting).one()
        newest = connection.scalar(sa.select(sa.func.max(c.at)).where(mine))
    return {"waiting": count, "oldest": oldest, "event": newest}


def images(store: Store, key: str, limit: int) -> list[tuple[str, str]]:
    """(platform id, URI) of the newest samples that are still there. Raises StoreError."""
    c = sample.c
    there = (c.project == key) & ~c.gone & (c.uri != "")
    query = sa.select(c.external, c.uri).where(there).order_by(c.id.desc()).limit(limit)
    with transaction(store.engine, write=False) as connection:
        return [(row[0], row[1]) for row in connection.execute(query)]
