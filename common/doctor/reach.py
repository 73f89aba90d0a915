"""Whether an address answers from here, and what that means. Adapters ask this of their platform first."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from common.doctor.findings import nothing, ok, problem, warning
from common.media import shown
from common.media.addresses import is_public, literal
from common.ports import Finding

LIMIT_S = 4.0
SKEW_S = 60.0
"""Clocks that differ by less do no harm."""
INSIDE = ("/.dockerenv", "/run/.containerenv")
"""Files by which a container knows itself."""


@dataclass(frozen=True)
class Reached:
    """What came back for one GET.

    Attributes:
        status: Of HTTP, 0 = no answer.
        body: The first 2,000 characters.
        ahead_s: Their clock minus ours, None where they do not say.
        error: Why there was no answer.
    """

    status: int = 0
    body: str = ""
    ahead_s: float | None = None
    error: str = ""


def reach(
    url: str, auth: tuple[str, str] | None = None, *, transport: httpx.BaseTransport | None = None, direct: bool = False
) -> Reached:
    """One GET, not repeated, not redirected; ``direct`` = past any proxy."""
    try:
        with httpx.Client(timeout=LIMIT_S, auth=auth, transport=transport, trust_env=not direct) as client:
            answer = client.get(url)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Reached(error=str(error) or type(error).__name__)
    return Reached(answer.status_code, answer.text[:2000], _ahead(answer.headers.get("Date", "")))


def _ahead(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() - time.time()
    except (TypeError, ValueError):
        return None


def in_container() -> bool:
    """Whether this process runs in a container."""
    return any(Path(path).exists() for path in INSIDE)


def is_loopback(host: str) -> bool:
    """Whether a host is only the machine that uses it."""
    address = literal(host)
    return address.is_loopback if address else host == "localhost" or host.endswith(".localhost")


def is_private(host: str) -> bool:
    """Whether a host has an address that only its own network reaches, as far as can be found out from here."""
    if is_loopback(host):
        return True
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError:
        return "." not in host  # a name of a container network
    return any(address is not None and not is_public(address) for address in map(literal, found))


def address(title: str, variable: str, base: str, got: Reached, *, good: bool, container: bool) -> Finding:
    """Whether the platform answers from here.

    Args:
        title: Of the platform.
        variable: That holds its address.
        base: The address.
        got: What came back.
        good: Whether that is how the platform answers.
        container: Whether we run in one.
    """
    at = f"{title} at {shown(base)}"
    if good:
        return ok("address", f"{at} answers")
    if got.error and container and is_loopback(urlsplit(base).hostname or ""):
        return problem(
            "address",
            f"{at} cannot be reached ({got.error}), and in a container that address is the container itself",
            f"start it if it runs in this very container; else set {variable} to its service's name, such as "
            "http://SERVICE:8080, or to http://host.docker.internal:PORT when it runs on the machine around",
        )
    if got.error:
        return problem("address", f"{at} cannot be reached ({got.error})", f"start it, or correct {variable}")
    if got.status >= 500:
        return problem("address", f"{at} answers with status {got.status}", "look at its log, or try again later")
    return problem(
        "address",
        f"{shown(base)} does not answer like {title} (status {got.status})",
        f"set {variable} to the address that the browser shows, with http or https, and with the path before "
        "'/projects' if it has one",
    )


def clock(got: Reached) -> Finding:
    """Whether both clocks agree: times of changes and ends of tokens are compared."""
    if got.ahead_s is None:
        return nothing("clock", "the platform does not tell its time")
    if abs(got.ahead_s) <= SKEW_S:
        return ok("clock", f"the platform's clock is within {SKEW_S:g} s of ours")
    how = "ahead of" if got.ahead_s > 0 else "behind"
    return warning(
        "clock",
        f"the platform's clock is {abs(got.ahead_s):.0f} s {how} ours",
        "set both machines' clocks by NTP: changes are asked for by their time",
    )
