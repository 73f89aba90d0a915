"""Connect, disconnect, forget: what people ask for on the command line."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace as replace_
from pathlib import Path
from typing import Any

from common import compose
from common.compose import media, open_platform, plugin
from common.config import Settings
from common.errors import HardfirstError, ProjectGoneError, SettingError, UnknownNameError
from common.loop import project_settings
from common.loop.publishing import highest_number
from common.loop.tools import Tools
from common.media import Source, hosts_to_allow
from common.opening import opened
from common.ports import Change, ConnectOption, Platform, PlatformPlugin
from common.store import Store
from common.store.projects import ProjectRow
from common.worker import identity, take

RETIRE_SLICE = 100
HELD_S = 120.0
"""How long the worker keeps its hands off a project that is being connected here."""
AWAITED_S = 60.0
"""How long a disconnect waits for the worker to end its step: seconds, unless it sends a large block of an order."""


def connect_project(
    settings: Settings,
    platform: str,
    project: str,
    *,
    dry_run: bool,
    replace: bool,
    options: Mapping[str, Any] | None = None,
) -> tuple[list[Change], list[str]]:
    """Connect a project; returns (changes, warnings for people). With ``dry_run`` nothing changes, here neither.

    Args:
        settings: Of the service.
        platform: Its name.
        project: Its id there.
        dry_run: Only say what would change.
        replace: Take the place of another connected backend.
        options: Of this platform (see ``ConnectOption``), by name with underscores; a text that is not given stays as
            it was at the last ``connect``, a flag True or False.
    """
    found = plugin(platform)
    with opened(settings) as store:
        key = f"{platform}:{project}"
        known = store.projects.get(key)
        state = dict(known.platform_state) if known else {}
        if found.options:
            state["options"] = _options(settings, found, state.get("options", {}), options or {})
        if dry_run:
            port = found.open(project, settings, state, lambda _state: None, store.memories.of(key))
            return port.connect(dry_run=True, replace=replace), _warnings(settings, port)
        if known is None or known.state == "archived":
            store.projects.ask(platform, project)
            # Held back from the worker while we are at it: it would connect the same project at the same time.
            store.projects.update(key, retry_at=time.time() + HELD_S)
        try:
            row = replace_(_known(store, key), platform_state=state)
            return _connect(settings, store, row, replace=replace)
        except HardfirstError:
            _as_before(store, key, known)
            raise


def _options(
    settings: Settings, found: PlatformPlugin, before: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """What ``state["options"]`` is for this ``connect``."""
    values: dict[str, Any] = {}
    for option in found.options:
        name = _key_of(option)
        if option.kind == "classes":
            values |= {name: _classes(settings, option)} if given.get(name) else {}
            continue
        value = before.get(name) if given.get(name) is None else given[name]
        values |= {} if value is None else {name: value}
    return values


def _key_of(option: ConnectOption) -> str:
    return option.name.replace("-", "_")


def _classes(settings: Settings, option: ConnectOption) -> list[str]:
    names = list(compose.first_classes(settings))
    if not names:
        raise SettingError(
            f"--{option.name} takes the class names of the first model, and HARDFIRST_MODEL is {settings.model!r}, "
            "which tells none: name weights that can be had"
        )
    return names


def _lasting(found: PlatformPlugin, state: dict[str, Any]) -> dict[str, Any]:
    """``state`` without the options that held for one ``connect`` only."""
    once = {_key_of(o) for o in found.options if o.kind == "classes"}
    if not once or "options" not in state:
        return state
    return {**state, "options": {n: v for n, v in state["options"].items() if n not in once}}


def _connect(settings: Settings, store: Store, row: ProjectRow, *, replace: bool) -> tuple[list[Change], list[str]]:
    port = open_platform(settings, store, row, _known(store, row.key).platform_state)
    changes = port.connect(dry_run=False, replace=replace)
    spec = port.spec()
    numbered = highest_number(port.published())
    fresh = {"reconciled": None, "retry_at": None, "order_asked": time.time(), "numbered": numbered}
    state = _lasting(plugin(row.platform), port.state)
    store.projects.update(row.key, state="active", reason="", spec=spec, platform_state=state, **fresh)
    for change in changes:
        store.journal.write(row.key, str(change))
    return changes, _warnings(settings, port)


def _as_before(store: Store, key: str, known: ProjectRow | None) -> None:
    """What a person was told did not work must not be tried again by the worker behind their back."""
    row = _known(store, key)
    if row.state != "asked" or (known is not None and known.state == "asked"):
        return
    if known is None and not row.platform_state:
        store.forget(key)
    else:  # what is to be undone on the platform is kept
        store.projects.update(key, state="archived", reason="connecting failed", retry_at=None)


def _warnings(settings: Settings, port: Platform) -> list[str]:
    return [*port.advice(), *_hosts(settings, port)]


def _hosts(settings: Settings, port: Platform) -> list[str]:
    """Hosts of the images that are not allowed, with the fix."""
    source = Source(port.media_origin(), {})
    urls = (port.media_url(s.id, s.uri) for s in port.samples() if s.uri)
    found = hosts_to_allow(urls, source, settings.allow_hosts)
    return [
        f"{count} images are on {host}, which is not allowed: set HARDFIRST_ALLOW_HOSTS={host} to fetch from it"
        for host, count in found.items()
    ]


def disconnect_project(
    settings: Settings, platform: str, project: str, *, keep_predictions: bool, progress: Callable[[int], None]
) -> list[Change]:
    """Put back what was there before; remove what we made, predictions included unless they are to stay."""
    plugin(platform)
    with opened(settings) as store:
        row = _known(store, f"{platform}:{project}")
        open_platform(settings, store, row)  # what is missing is said while nothing has changed
        gone: dict[str, Any] = {"state": "archived", "publication": None, "way_back": {}, "training_asked": None}
        store.projects.update(row.key, reason="disconnected by a person", **gone)
        _stop_round(store, row)
        with _without_worker(store, row.key):
            changes = _put_back(settings, store, row.key, keep_predictions, progress)
        store.journal.write(row.key, "disconnected by a person")
        return changes


def _put_back(
    settings: Settings, store: Store, key: str, keep_predictions: bool, progress: Callable[[int], None]
) -> list[Change]:
    row = _known(store, key)  # as the worker left it
    port = open_platform(settings, store, row)
    try:
        changes = port.disconnect()
        if not keep_predictions:
            _remove(store, row, port, progress)
    except ProjectGoneError:
        changes = []
    store.projects.update(key, platform_state=port.state)
    return changes


@contextmanager
def _without_worker(store: Store, key: str) -> Iterator[None]:
    """Inside, no worker is at this archived project: what one writes on the platform meanwhile would stay there."""
    me, end = identity(), time.monotonic() + AWAITED_S
    while not take(store, key, me) and time.monotonic() < end:
        time.sleep(0.1)
    try:
        yield
    finally:
        store.projects.release(me, key)


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
    """Delete our rows and round folders of a project that is disconnected or gone.

    Raises:
        HardfirstError: It is still connected.
    """
    with opened(settings) as store:
        row = _known(store, key)
        if row.state in ("active", "stopped"):
            raise HardfirstError(
                f"{key} is still connected; run `hardfirst disconnect {row.platform} --project {row.external}` first"
            )
        shutil.rmtree(settings.folder / "rounds" / key.replace(":", "-"), ignore_errors=True)
        others = (p.key for p in store.projects.all() if p.key != key)
        shared = {c.path for other in others for c in store.rounds.checkpoints(other)}
        for checkpoint in store.rounds.checkpoints(key):
            if checkpoint.path not in shared:
                Path(checkpoint.path).unlink(missing_ok=True)
        store.forget(key)
        _evict(settings, store)


def _evict(settings: Settings, store: Store) -> None:
    """Images that no project has any more go; a library without a limit would keep them."""
    keep = {s.sha256 for p in store.projects.all() for s in store.samples.all(p.key) if s.sha256}
    with media(settings.model_copy(update={"media_cache_gb": 1e-9})) as library:
        library.evict(keep)


@contextmanager
def project_tools(settings: Settings, key: str) -> Iterator[tuple[Tools, ProjectRow]]:
    """(what the loop works with, the project), for a command that asks something of it.

    Raises:
        UnknownNameError: No such project; the message lists those there are.
    """
    with opened(settings) as store:
        yield compose.tools(settings, store), _known(store, key)


def set_project(
    settings: Settings, key: str, assign: Sequence[str] = (), unset: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Change settings of one project; returns all of them as they are then (see ``project_settings.rows``).

    What makes another order asks for one, so that annotators see it.

    Raises:
        UnknownNameError: No such project, setting, strategy ...; the message lists the right ones.
        SettingError: A value that is not allowed.
    """
    with opened(settings) as store:
        row = _known(store, key)
        own = row.settings
        if assign or unset:
            own = project_settings.changed(settings, row.settings, assign, unset)
        if own != row.settings:
            again = any(own.get(n) != row.settings.get(n) for n in project_settings.ORDERING)
            store.projects.update(key, settings=own, **({"order_asked": time.time()} if again else {}))
            text = project_settings.differing(own)
            store.journal.write(key, f"settings of this project: {text}" if text else "settings: all as the service's")
        return project_settings.rows(settings, own)


def _known(store: Store, key: str) -> ProjectRow:
    row = store.projects.get(key)
    if row is None:
        raise unknown(key, store)
    return row


def unknown(key: str, store: Store) -> UnknownNameError:
    """The error for a project that is not there."""
    known = [p.key for p in store.projects.all()]
    first = "none is connected yet: run `hardfirst connect PLATFORM --project ID`"
    return UnknownNameError(f"no project {key!r}; " + (f"there are {known}" if known else first))
