"""The data folder of a Label Studio on this machine: who owns it, its empty database, one user at a time."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO

from common.errors import SettingError
from ls_backend.local_process import LOG, LabelStudioProcess, installed_version

DATABASE = "label_studio.sqlite3"
LOGIN = "login.json"


@dataclass(frozen=True)
class Login:
    """Who may enter: e-mail address, password, and a legacy token of 40 hexadecimal digits."""

    username: str
    password: str = field(repr=False)
    token: str = field(repr=False)


class DataFolder:
    """A data folder, its login kept beside the database: Label Studio applies one only when it makes the user."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[str] | None = None

    def take(self) -> None:
        """Reserve it for this process: two Label Studios would share one SQLite file.

        Raises:
            SettingError: Another one runs over it.
        """
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (self.path / ".lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise SettingError(
                f"another Label Studio already runs over {self.path}: stop it, or use another folder"
            ) from error
        self._lock = lock

    def release(self) -> None:
        """Let others have it."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def login(self, wanted: Mapping[str, str | None], empty: Callable[[], Path]) -> Login:
        """The owner's login, after putting the empty database there where it is missing.

        Args:
            wanted: username, password and token, or None for the folder's own or a new one.
            empty: Gives a folder that holds an empty, migrated database.

        Raises:
            SettingError: The folder was made with another login than the one wanted.
        """
        stored = self._stored()
        if not stored and (self.path / DATABASE).is_file():
            return self._foreign(wanted)
        given = {name: value for name, value in wanted.items() if value is not None}
        if stored.pop("ready", False) and (self.path / DATABASE).is_file():
            self._refuse_others(given, stored)
            return Login(**stored)
        login = replace(Login("admin@example.com", secrets.token_urlsafe(12), secrets.token_hex(20)), **given)
        self._copy(empty())
        self.remember(login, ready=False)
        return login

    def remember(self, login: Login, *, ready: bool) -> None:
        """Keep the login; ``ready`` once Label Studio has made the user, else the next start begins anew."""
        fresh = self.path / f"{LOGIN}.{os.getpid()}"
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps({**asdict(login), "ready": ready}))
        fresh.replace(self.path / LOGIN)

    def _stored(self) -> dict[str, str]:
        note = self.path / LOGIN
        return dict(json.loads(note.read_text())) if note.is_file() else {}

    def _foreign(self, wanted: Mapping[str, str | None]) -> Login:
        username, password, token = (wanted[name] for name in ("username", "password", "token"))
        if not (username and password and token):
            raise SettingError(
                f"{self.path} holds the data of a Label Studio that was not started from here: give its "
                "username, password and token, or use another folder"
            )
        return Login(username, password, token)

    def _refuse_others(self, given: Mapping[str, str], stored: Mapping[str, str]) -> None:
        for name, value in given.items():
            if value != stored[name]:
                raise SettingError(
                    f"{self.path} was made with another {name}, and Label Studio keeps the first: leave it out, "
                    "or use another folder"
                )

    def _copy(self, source: Path) -> None:
        for leftover in self.path.glob(f"{DATABASE}*"):
            leftover.unlink()
        # The database last: a folder with a database but no login is somebody else's.
        shutil.copytree(source, self.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns(DATABASE))
        self.remember(Login("", "", ""), ready=False)
        shutil.copy2(source / DATABASE, self.path / DATABASE)


def empty_folder(environment: Path, cache: Path, limit_s: float, progress: Callable[[str], None]) -> Path:
    """An empty, migrated data folder of this version; migrations take a minute, so they run once per machine.

    Raises:
        PlatformUnreachableError: Label Studio could not make it; the message ends with its log.
    """
    version = installed_version(environment)
    folder = cache / f"label-studio-{version}"
    if (folder / DATABASE).is_file():
        return folder
    progress(f"Label Studio {version} makes its empty database: once, about a minute")
    cache.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=cache))
    try:
        _migrate(environment, fresh, limit_s)
        fresh.rename(folder)
    except OSError:
        # Another process was faster; what it made is as good as ours.
        if not (folder / DATABASE).is_file():
            raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def _migrate(environment: Path, folder: Path, limit_s: float) -> None:
    # This command migrates and makes no user, so that each copy can have its own.
    process = LabelStudioProcess(environment, folder, ["version"], {})
    try:
        if not process.wait(limit_s):
            raise process.failure(f"took longer than {limit_s:.0f} s to make its database")
        if process.exit_status or not (folder / DATABASE).is_file():
            raise process.failure(f"could not make its database (exit status {process.exit_status})")
    finally:
        process.end()
    # The key signs sessions and tokens: Label Studio gives each copy its own at the first start.
    (folder / ".env").unlink(missing_ok=True)
    (folder / LOG).unlink()
