"""One object that holds every repository."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from common.store import schema
from common.store.engine import make_engine, migrate
from common.store.gallery import Gallery
from common.store.inbox import Inbox
from common.store.journal import Journal
from common.store.labels import Labels
from common.store.maps import Maps
from common.store.measurements import Measurements
from common.store.memories import Memories
from common.store.predictions import Predictions
from common.store.projects import Projects
from common.store.publications import Publications
from common.store.reviews import Reviews
from common.store.rounds import Rounds
from common.store.samples import Samples
from common.store.times import Times


class Store:
    """Every repository over one database (and, with SQLite, one more file for the inbox)."""

    def __init__(self, engine: sa.Engine, inbox: sa.Engine) -> None:
        self.engine = engine
        self._inbox_engine = inbox
        self.gallery = Gallery(engine)
        self.inbox = Inbox(inbox)
        self.journal = Journal(engine)
        self.labels = Labels(engine)
        self.maps = Maps(engine)
        self.measurements = Measurements(engine)
        self.memories = Memories(engine)
        self.predictions = Predictions(engine)
        self.projects = Projects(engine)
        self.publications = Publications(engine)
        self.reviews = Reviews(engine)
        self.rounds = Rounds(engine)
        self.samples = Samples(engine)
        self.times = Times(engine)

    def forget(self, key: str) -> None:
        """Delete everything known of one project; the platform is not touched."""
        self.projects.forget(key)
        self.inbox.forget(*key.split(":", 1))

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()
        self._inbox_engine.dispose()


def open_store(url: str, folder: Path) -> Store:
    """Open, and migrate where needed.

    Args:
        url: SQLAlchemy URL of the main database.
        folder: Where SQLite's inbox file lives; with PostgreSQL the inbox is a table of the same database.

    Raises:
        StoreError: The database cannot be opened or is of a newer version.
    """
    engine = make_engine(url, durable=False)
    migrate(engine)
    inbox = make_engine(f"sqlite:///{folder / 'inbox.db'}", durable=True) if engine.dialect.name == "sqlite" else engine
    schema.inbox_metadata.create_all(inbox)
    return Store(engine, inbox)
