"""What must be right before `hardfirst serve` starts: settings, address, database, platforms."""

from __future__ import annotations

import errno
import socket

from common.compose import plugins
from common.config import Settings
from common.errors import SettingError
from common.loop import project_settings
from common.opening import opened
from common.store import Store


def check_serving(settings: Settings) -> None:
    """Fail now, in one sentence, rather than in a child that is started again and again.

    Raises:
        HardfirstError: A setting is wrong, the database cannot be opened, or the port is taken.
    """
    project_settings.check(settings)
    check_login(settings)
    _ = settings.base
    _check_address(settings)
    with opened(settings) as store:
        settings.secrets()
        _check_platforms(settings, store)


def check_login(settings: Settings) -> None:
    """Basic auth takes a name and a password, a token both. Raises SettingError where something is missing."""
    if bool(settings.basic_auth_user) != bool(settings.basic_auth_pass):
        missing = "BASIC_AUTH_PASS" if settings.basic_auth_user else "BASIC_AUTH_USER"
        raise SettingError(f"{missing} is not set but its other half is: set both, or none")
    if settings.api_token and not settings.authenticated:
        raise SettingError("HARDFIRST_API_TOKEN protects nothing alone: set BASIC_AUTH_USER and BASIC_AUTH_PASS, too")


def _check_address(settings: Settings) -> None:
    try:
        family, kind, _, _, address = socket.getaddrinfo(settings.bind, settings.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise SettingError(
                f"HARDFIRST_PORT is {settings.port}, where something listens already: stop it, or name another port"
            ) from error
        raise SettingError(
            f"HARDFIRST_HOST is {settings.bind!r} and HARDFIRST_PORT {settings.port}, where nothing can listen "
            f"({error.strerror}): name an address of this machine"
        ) from error


def _check_platforms(settings: Settings, store: Store) -> None:
    """The platforms of connected projects must have their settings, and at least one must in any case."""
    used = {p.platform for p in store.projects.all() if p.state != "archived"}
    missing: dict[str, SettingError] = {}
    for name, found in plugins().items():
        try:
            found.open("1", settings, {}, lambda _state: None, store.memories.of(f"{name}:1"))
        except SettingError as error:
            missing[name] = error
    for name, problem in missing.items():
        if name in used or len(missing) == len(plugins()):
            raise problem
