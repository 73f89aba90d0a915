"""Which names we answer to: a foreign page whose name leads to loopback (DNS rebinding) is told nothing."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from flask import Request, Response, jsonify

from common.config import Settings

LOOPBACK = ("localhost", ".localhost", "127.0.0.1", "::1")
"""Names that no name server can lead elsewhere; with a dot before it, every name that ends so."""

_BEFORE_PROXIES = "werkzeug.proxy_fix.orig"


def names(settings: Settings) -> frozenset[str] | None:
    """Names and addresses without ports, in lower case; one with a dot before it takes all below it. None = any.

    A password keeps foreign pages out by itself: browsers send it to the names it was given for.
    """
    if settings.authenticated and not settings.hosts:
        return None
    ours = urlsplit(settings.public_url).hostname or ""
    given = [name.strip("[]").lower() for name in (*settings.hosts, settings.host or "")]
    return frozenset({*LOOPBACK, ours, *given} - {"", "0.0.0.0", "::"})  # noqa: S104 - no names


def refused(request: Request, ours: Collection[str] | None) -> Response | None:
    """One sentence for who came by another name; None = welcome.

    What a proxy tells is not enough: to a page whose own name leads here that is a header like any other.
    """
    told = (request.host, request.environ.get(_BEFORE_PROXIES, {}).get("HTTP_HOST") or request.host)
    foreign = next((host for host in told if ours is not None and not known(host, ours)), None)
    if foreign is None:
        return None
    answer = jsonify(
        error=f"hardfirst does not answer to the name {bare(foreign)[:100]!r}: add it to HARDFIRST_HOSTS and start it "
        "again if people or a platform reach it by that name, or set BASIC_AUTH_USER and BASIC_AUTH_PASS, which "
        "protect it under any name"
    )
    answer.status_code = 400
    return answer


def known(host: str, ours: Collection[str]) -> bool:
    """Whether a Host header, with or without a port, is one of the names."""
    name = bare(host)
    return bool(name) and (name in ours or any(o.startswith(".") and name.endswith(o) for o in ours))


def bare(host: str) -> str:
    """The name in a Host header, '' where it is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
