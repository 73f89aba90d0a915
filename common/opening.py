"""HARDFIRST_HOME and the store in it, opened for one command; what is wrong with them in one sentence."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from common.config import Settings
from common.errors import HardfirstError, SettingError, StoreError
from common.store import Store, open_store


def check_home(settings: Settings) -> None:
    """Make HARDFIRST_HOME where it is missing.

    Raises:
        SettingError: It cannot be written.
    """
    try:
        settings.folder.mkdir(parents=True, exist_ok=True)
        probe = settings.folder / f".writable-{time.time_ns()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise SettingError(
            f"HARDFIRST_HOME is {str(settings.home)!r}, which cannot be written ({error.strerror}): name another folder"
        ) from error


@contextmanager
def opened(settings: Settings) -> Iterator[Store]:
    """The store, closed at the end.

    Raises:
        SettingError: HARDFIRST_HOME cannot be written.
        StoreError: The database cannot be opened.
    """
    check_home(settings)
    try:
        store = open_store(settings.database, settings.folder)
    except HardfirstError:
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        name = "HARDFIRST_DATABASE_URL" if settings.database_url else f"the database in {settings.folder}"
        raise StoreError(f"{name} cannot be opened: {_without_password(first, settings)}") from error
    try:
        yield store
    finally:
        store.close()


def _without_password(text: str, settings: Settings) -> str:
    """Drivers and parsers repeat the URL they were given."""
    url = settings.database_url or ""
    login, at, _ = url.partition("://")[2].rpartition("@")
    secret = login.partition(":")[2]
    return text.replace(url, "the URL").replace(secret, "***") if at and secret else text
