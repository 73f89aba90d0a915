"""Everything the checks look at, gathered once, side by side, changing nothing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from common import compose
from common.config import Settings
from common.doctor.reach import Reached, reach
from common.doctor.together import together
from common.errors import HardfirstError, SettingError
from common.loop import project_settings
from common.media import MediaLibrary, Source, hosts_to_allow
from common.ports import Platform
from common.serving_checks import check_login
from common.store import Store
from common.store.look import Pulse, Seen, images, pulse
from common.store.projects import ProjectRow
from common.store.rounds import RoundRow
from common.worker import is_gone
from common.yolo.look import Machine
from common.yolo.look import look as look_at_machine
from common.yolo.weights import inside, located

LIMIT_S = 20.0
"""Seconds for everything that another program answers."""
TORCH_S = 90.0
"""Seconds until torch must be ready: a cold disk takes long."""
IMAGES = 2000
"""Images whose hosts are looked at."""


@dataclass(frozen=True)
class Home:
    """The folder of all state; ``problem`` is '' or why it cannot be written, ``free`` bytes, ``secret`` file mode."""

    there: bool
    problem: str
    free: int
    secret: int | None


@dataclass(frozen=True)
class ProjectFacts:
    """What is known of one project.

    Attributes:
        row: As in the store.
        pulse: Lease and events.
        holder_gone: Whether who holds the lease has died on this machine.
        round: The newest one.
        counts: Of its samples, see ``Samples.counts``.
        unreadable: The first images that could not be had, one sentence each.
        weights: Path of what serves, None = not there yet.
        names: Its class names where the store knows them.
        hosts: Host that may not be fetched from -> images there.
        image: Why one image taken now could not be had; '' = it could, None = there was none to try.
    """

    row: ProjectRow
    pulse: Pulse
    holder_gone: bool = False
    round: RoundRow | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()
    weights: Path | None = None
    names: tuple[str, ...] = ()
    hosts: Mapping[str, int] = field(default_factory=dict)
    image: str | None = None


@dataclass(frozen=True)
class Facts:
    """What was seen; times are seconds since the epoch.

    Attributes:
        settings: Of the service.
        complaint: What is wrong with them, '' = nothing.
        here: What answers at our own port.
        outside: What answers at HARDFIRST_URL, from here.
        base: Weights that a project begins with, None = not there yet.
    """

    settings: Settings
    home: Home
    database: Seen
    here: Reached
    outside: Reached
    machine: Machine
    now: float
    complaint: str = ""
    base: Path | None = None
    projects: tuple[ProjectFacts, ...] = ()


def home_of(settings: Settings) -> Home:
    """Look at HARDFIRST_HOME."""
    folder = settings.folder
    above = next(p for p in (folder, *folder.parents) if p.exists())
    problem = "" if above.is_dir() else f"{above} is a file"
    if not problem:
        try:
            with tempfile.TemporaryFile(dir=above):
                pass
        except OSError as error:
            problem = error.strerror or str(error)
    secret = folder / "webhook-secret"
    mode = secret.stat().st_mode & 0o777 if secret.is_file() else None
    free = shutil.disk_usage(above if above.is_dir() else above.parent).free
    return Home(folder.is_dir(), problem, free, mode)


def complaint(settings: Settings) -> str:
    """What would stop `hardfirst serve`, one sentence; '' = nothing."""
    try:
        check_login(settings)
        project_settings.check(settings)
        _ = settings.bind
        compose.media(settings).close()
    except HardfirstError as error:
        return str(error)
    return ""


def service(settings: Settings) -> tuple[Reached, Reached]:
    """(what answers at our own port, what answers at HARDFIRST_URL)."""
    user, secret = settings.basic_auth_user, settings.basic_auth_pass
    auth = (user, secret.get_secret_value()) if user and secret else None
    try:
        host = settings.bind
    except SettingError:
        host = "127.0.0.1"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - every address is none to call
    near = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}/health"
    calls: dict[str, Callable[[], Reached]] = {
        "here": lambda: reach(near, auth, direct=True),
        "outside": lambda: reach(f"{settings.public_url}/health", auth),
    }
    found = together(calls, LIMIT_S)
    return tuple(r if isinstance(r, Reached) else Reached(error=str(r)) for r in found.values())  # type: ignore[return-value]


def is_ours(got: Reached) -> bool:
    """Whether hardfirst answered a /health."""
    return got.status == 200 and '"model_class"' in got.body and '"hardfirst"' in got.body


def known(settings: Settings, seen: Seen, keys: Callable[[str], bool]) -> tuple[ProjectFacts, ...]:
    """Facts of the projects whose key is wanted. Raises StoreError."""
    if seen.store is None:
        return ()
    rows = [row for row in seen.store.projects.all() if keys(row.key) and row.state != "archived"]
    return tuple(_project(settings, seen.store, row) for row in rows)


def _project(settings: Settings, store: Store, row: ProjectRow) -> ProjectFacts:
    beat = pulse(store, row.key)
    path, names = _serving(settings, store, row)
    return ProjectFacts(
        row,
        beat,
        holder_gone=bool(beat.owner) and is_gone(beat.owner),
        round=store.rounds.newest(row.key),
        counts=store.samples.counts(row.key),
        unreadable=tuple(f"{s.external}: {s.problem}" for s in store.samples.problems(row.key, 3)),
        weights=path,
        names=names,
    )


def _serving(settings: Settings, store: Store, row: ProjectRow) -> tuple[Path | None, tuple[str, ...]]:
    if row.checkpoint is not None:
        made = store.rounds.checkpoint(row.checkpoint)
        return Path(made.path), tuple(made.names)
    return base_of(settings, row.spec.model_path), ()


def base_of(settings: Settings, model_path: str = "") -> Path | None:
    """The weights a project begins with, None where there are none yet."""
    try:
        return inside(settings.models, model_path) if model_path else located(settings.model, settings.models)
    except HardfirstError:
        return None


def try_images(settings: Settings, store: Store, row: ProjectRow) -> tuple[dict[str, int], str | None]:
    """(hosts that are not allowed -> images there, why one image could not be had or None); nothing is kept."""
    found = images(store, row.key, IMAGES)
    with opened(settings, store, row) as port:
        urls = [port.media_url(sample, uri) for sample, uri in found]
        hosts = hosts_to_allow(urls, Source(port.media_origin()), settings.allow_hosts)
        if not urls:
            return hosts, None
        try:
            source = Source(port.media_origin(), port.media_headers())
            with tempfile.TemporaryDirectory() as folder, _library(settings, Path(folder)) as library:
                library.get(urls[0], source)
        except HardfirstError as error:
            return hosts, f"{found[0][0]}: {error}"
    return hosts, ""


def _library(settings: Settings, folder: Path) -> MediaLibrary:
    return MediaLibrary(
        folder,
        allow_hosts=settings.allow_hosts,
        max_bytes=int(settings.max_image_mb * 2**20),
        max_pixels=settings.max_image_pixels,
        cache_bytes=2**30,
        timeout_s=8,
    )


@contextmanager
def opened(settings: Settings, store: Store, row: ProjectRow) -> Iterator[Platform]:
    """A port that keeps nothing, closed at the end."""
    plugin, state = compose.plugin(row.platform), dict(row.platform_state)
    port = plugin.open(row.external, settings, state, lambda _state: None, store.memories.of(row.key))
    try:
        yield port
    finally:
        getattr(port, "close", lambda: None)()


def quiet(settings: Settings) -> Settings:
    """The same settings, with which nothing makes a webhook secret where there is none yet."""
    if settings.webhook_secret or (settings.folder / "webhook-secret").is_file():
        return settings
    return settings.model_copy(update={"webhook_secret": ("none was made yet",)})


def machine(settings: Settings, facts: tuple[ProjectFacts, ...], base: Path | None) -> Machine:
    """Torch, the device, and every weights file that serves."""
    paths = {p for p in (base, *(f.weights for f in facts)) if p is not None and p.suffix == ".pt"}
    return look_at_machine(settings.device, sorted(paths), TORCH_S)
