"""The store: all state that must survive. The only package that knows SQLAlchemy."""

from common.store.store import Store, open_store

__all__ = ["Store", "open_store"]
