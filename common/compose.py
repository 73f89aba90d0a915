"""The composition root: settings in, working parts out. The only place where ports meet their implementations."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from importlib.metadata import entry_points
from typing import Any

from common.config import Settings
from common.errors import UnknownNameError
from common.jobs import LocalRunner
from common.loop import ActiveLearningLoop, Tools
from common.media import MediaLibrary
from common.ports import Platform, PlatformPlugin
from common.resident import ResidentModel
from common.store import Store, open_store
from common.store.projects import ProjectRow
from common.web.backend import Backend
from common.yolo.models import YoloModels, YoloTrainer

GROUP = "hardfirst.platforms"


def plugins() -> dict[str, PlatformPlugin]:
    """Every installed platform, by name."""
    return {e.name: e.load() for e in entry_points(group=GROUP)}


def plugin(name: str) -> PlatformPlugin:
    """One platform. Raises UnknownNameError."""
    found = plugins()
    if name not in found:
        raise UnknownNameError(f"no platform {name!r}; there are {sorted(found)}")
    return found[name]


def open_platform(
    settings: Settings, store: Store, row: ProjectRow, stored: Mapping[str, Any] | None = None
) -> Platform:
    """The platform port of a project; what it must remember is kept in the store as it happens.

    ``stored`` is the platform state in the store where the row's is another one. Another port of the project may save
    at the same time: of each word the last change counts.
    """
    last = deepcopy(dict(row.platform_state if stored is None else stored))

    def save(state: dict[str, Any]) -> None:
        nonlocal last
        store.projects.keep_state(row.key, last, state)
        last = deepcopy(state)

    return plugin(row.platform).open(row.external, settings, dict(row.platform_state), save, store.memories.of(row.key))


def tools(settings: Settings, store: Store | None = None) -> Tools:
    """Everything the loop works with, on this machine."""
    settings.folder.mkdir(parents=True, exist_ok=True)
    opened = store or open_store(settings.database, settings.folder)
    return Tools(
        store=opened,
        settings=settings,
        media=media(settings),
        models=YoloModels(settings),
        trainer=YoloTrainer(LocalRunner(settings.folder)),
        open=lambda row: open_platform(settings, opened, row),
    )


def first_classes(settings: Settings) -> tuple[str, ...]:
    """Class names of the weights that a project begins with; none where there are no weights. Raises ModelError."""
    return YoloModels(settings).base("").names


def media(settings: Settings) -> MediaLibrary:
    """The image library in HOME."""
    return MediaLibrary(
        settings.folder / "images",
        allow_hosts=settings.allow_hosts,
        max_bytes=int(settings.max_image_mb * 2**20),
        max_pixels=settings.max_image_pixels,
        cache_bytes=int(settings.media_cache_gb * 2**30),
    )


def loop(settings: Settings) -> ActiveLearningLoop:
    """The loop of a worker."""
    return ActiveLearningLoop(tools(settings))


def backend(settings: Settings) -> Backend:
    """What a web process answers with."""
    return Backend(tools(settings), ResidentModel(settings))
