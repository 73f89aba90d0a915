"""Connect, disconnect, forget: what people ask for on the command line."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from common.compose import media, open_platform, plugin
from common.config import Settings
from common.errors import ProjectGoneError, UnknownNameError
from common.media import Source, hosts_to_allow
from common.ports import Change, Platform
from common.store import Store, open_store
from common.store.projects import ProjectRow

RETIRE_SLICE = 100


def connect_project(
    settings: Settings, platform: str, project: str, *, dry_run: bool, replace: bool
) -> tuple[list[Change], list[str]]:
    """Connect a project; returns (changes, warnings for people)."""
    plugin(platform)
    store = open_store(settings.database, settings.folder)
    key = f"{platform}:{project}"
    known = store.projects.get(key)
    if dry_run and known is None:
        port = plugin(platform).open(project, settings, {}, lambda _state: None)
        port.spec()
        return port.connect(dry_run=True, replace=replace), _hosts(settings, port)
    if known is None or known.state == "archived":
        store.projects.ask(platform, project)
        # Held back from the worker while we are at it: it would connect the same project at the same time.
        store.projects.update(key, retry_at=time.time() + 120)
    row = _known(store, key)
    port = open_platform(settings, store, row)
    spec = port.spec()
    changes = port.connect(dry_run=dry_run, replace=replace)
    if not dry_run:
        fresh = {"reconciled": None, "retry_at": None, "order_asked": time.time()}
        store.projects.update(key, state="active", reason="", spec=spec, platform_state=port.state, **fresh)
        for change in changes:
            store.journal.write(key, str(change))
    return changes, _hosts(settings, port)


def _hosts(settings: Settings, port: Platform) -> list[str]:
    """Hosts of the images that are not allowed, with the fix."""
    source = Source(port.media_origin(), {})
    urls = (port.media_url(s.id, s.uri) for s in port.samples() if s.uri)
    found = hosts_to_allow(urls, source, settings.allow_hosts)
    return [
        f"{count} images are on {host}, which hardfirst does not fetch from: set HARDFIRST_ALLOW_HOSTS={host} to allow it"
        for host, count in found.items()
    ]


def disconnect_project(
    settings: Settings, platform: str, project: str, *, keep_predictions: bool, progress: Callable[[int], None]
) -> list[Change]:
    """Put back what was there before; remove what we made, predictions included unless they are to stay."""
    store = open_store(settings.database, settings.folder)
    row = _known(store, f"{platform}:{project}")
    store.projects.update(row.key, state="archived", reason="disconnected by a person", publication=None)
    _stop_round(store, row)
    port = open_platform(settings, store, row)
    try:
        changes = port.disconnect()
        if not keep_predictions:
            _remove(store, row, port, progress)
    except ProjectGoneError:
        changes = []
    store.projects.update(row.key, platform_state=port.state)
    store.journal.write(row.key, "disconnected by a person")
    return changes


def _stop_round(store: Store, row: ProjectRow) -> None:
    running = store.rounds.running(row.key)
    if running is not None:
        store.rounds.end(running.id, "cancelled", "the project was disconnected")


def _remove(store: Store, row: ProjectRow, port: Platform, progress: Callable[[int], None]) -> None:
    removed = 0
    for p in store.publications.all(row.key):
        if p.state == "gone":
            continue
        while went := port.retire(p.version, RETIRE_SLICE):
            removed += went
            progress(removed)
        store.publications.update(p.id, state="gone")


def forget_project(settings: Settings, key: str) -> None:
    """Delete our rows and round folders of a project that is disconnected or gone."""
    store = open_store(settings.database, settings.folder)
    row = _known(store, key)
    if row.state == "active":
        raise UnknownNameError(f"{key} is still connected; run `hardfirst disconnect` first, then `forget`")
    import shutil

    shutil.rmtree(settings.folder / "rounds" / key.replace(":", "-"), ignore_errors=True)
    for checkpoint in store.rounds.checkpoints(key):
        Path(checkpoint.path).unlink(missing_ok=True)
    store.forget(key)
    _evict(settings, store)


def _evict(settings: Settings, store: Store) -> None:
    """Images that no project has any more go; a library without a limit would keep them."""
    keep = {s.sha256 for p in store.projects.all() for s in store.samples.all(p.key) if s.sha256}
    with media(settings.model_copy(update={"media_cache_gb": 1e-9})) as library:
        library.evict(keep)


def ask_training(settings: Settings, key: str) -> None:
    """A person wants a round now."""
    store = open_store(settings.database, settings.folder)
    _known(store, key)
    store.projects.update(key, training_asked=time.time())


def _known(store: Store, key: str) -> ProjectRow:
    row = store.projects.get(key)
    if row is None:
        raise UnknownNameError(f"no project {key!r}; there are {[p.key for p in store.projects.all()]}")
    return row
