"""Behind reverse proxies and below a path: what of a request is believed, and where our own links begin."""

from __future__ import annotations

from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from common.config import Settings
from common.errors import SettingError


class BasePath:
    """Every link begins with ``base``; a request may, too, or have lost it on the way.

    So it does not matter whether the proxy strips the path, and platforms may still call us directly without it.
    """

    def __init__(self, app: WSGIApplication, base: str) -> None:
        self._app = app
        self._base = base

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """As WSGI wants it."""
        path = environ.get("PATH_INFO", "")
        if path == self._base or path.startswith(f"{self._base}/"):
            path = path[len(self._base) :]
        return self._app({**environ, "SCRIPT_NAME": self._base, "PATH_INFO": path or "/"}, start_response)


def settle(app: Flask, settings: Settings) -> None:
    """Make an application, all of whose routes are there, take its place behind the proxies.

    Raises:
        SettingError: The path is the beginning of a route.
    """
    base, count = settings.base, settings.proxies
    if base and any(f"{rule.rule}/".startswith(f"{base}/") for rule in app.url_map.iter_rules()):
        raise SettingError(f"HARDFIRST_BASE_PATH is {base!r}, where pages of our own begin: take another path")
    if base:
        app.wsgi_app = BasePath(app.wsgi_app, base)  # type: ignore[method-assign]
    if count:
        fixed = ProxyFix(app.wsgi_app, x_for=count, x_proto=count, x_host=count, x_prefix=count)
        app.wsgi_app = fixed  # type: ignore[method-assign]
