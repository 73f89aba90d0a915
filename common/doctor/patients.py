"""Projects as platforms examine them, and the port with which one is mended."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from common import compose
from common.config import Settings
from common.doctor.facts import ProjectFacts
from common.errors import SettingError, UnknownNameError
from common.opening import opened
from common.ports import Patient, Platform
from common.store import Store
from common.store.look import Seen

HELD_S = 60.0
"""How long the worker keeps its hands off a project that is being mended."""


def patients_of(
    settings: Settings, name: str, wanted: str, seen: Seen, projects: Sequence[ProjectFacts], *, answers: bool
) -> list[Patient]:
    """The projects of one platform.

    Args:
        settings: Of the service.
        name: Of the platform.
        wanted: The project that was asked for by its key; it is one, connected or not; '' = all that are.
        seen: The database.
        projects: What is known of them.
        answers: See ``Patient.answers``.
    """
    mine = [p for p in projects if p.row.platform == name]
    made = [_patient(settings, seen.store, p, answers=answers) for p in mine if seen.store is not None]
    platform, _, external = wanted.partition(":")
    if platform == name and external not in {p.project for p in made}:
        made.append(Patient(external, False, answers, None, {}, _NoMemory(), _not_connected))
    return made


def _patient(settings: Settings, store: Store, p: ProjectFacts, *, answers: bool) -> Patient:
    row = p.row
    version = store.publications.get(row.publication).version if row.publication else None
    served = row.state in ("active", "stopped")
    memory, state = store.memories.of(row.key), dict(row.platform_state)
    coming = store.publications.unfinished(row.key)
    port = partial(_mending, settings, row.key)
    return Patient(row.external, served, answers, version, state, memory, port, coming.version if coming else None)


def _not_connected() -> Any:
    raise SettingError("the project is not connected: run `hardfirst connect`")


@contextmanager
def _mending(settings: Settings, key: str) -> Iterator[Platform]:
    """A port that keeps its state; the worker takes no step of the project meanwhile, and the next at once after."""
    with opened(settings) as store:
        store.projects.update(key, retry_at=time.time() + HELD_S)
        row = store.projects.get(key)
        if row is None:
            raise UnknownNameError(f"no project {key!r}; it was forgotten meanwhile")
        port = compose.open_platform(settings, store, row)
        try:
            yield port
        finally:
            getattr(port, "close", lambda: None)()
            store.projects.update(key, retry_at=None, reconciled=None)


class _NoMemory:
    """The memory of a project that is not connected: empty, and it keeps nothing."""

    def get(self, kind: str, keys: Any) -> dict[str, Any]:  # noqa: ARG002
        return {}

    def all(self, kind: str) -> dict[str, Any]:  # noqa: ARG002
        return {}

    def counts(self, prefix: str = "") -> dict[str, int]:  # noqa: ARG002
        return {}

    def put(self, kind: str, rows: Any) -> None:
        pass

    def add(self, kind: str, key: str, value: Any) -> bool:  # noqa: ARG002
        return False

    def drop(self, kind: str, keys: Any = None, limit: int | None = None) -> int:  # noqa: ARG002
        return 0
