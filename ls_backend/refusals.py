"""What Label Studio answered when it said no, as one sentence with the fix. Pure: status and body in, error out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from common.errors import AccessDeniedError, PlatformError, PlatformUnreachableError, ProjectGoneError

LONGEST = 300
"""Characters of Label Studio's own words that a message repeats; it likes to quote whole requests."""


def refusal(status: int, body: Any, *, base: str, what: str, right: str = "", project: str = "") -> PlatformError:
    """The error for an answer that is not a success.

    Args:
        status: HTTP status.
        body: Parsed JSON, or text.
        base: Label Studio's address, for the message.
        what: What was being done: 'read project 5'.
        right: Label Studio's name of the right it takes: 'projects.view'.
        project: Project id, where a 404 means that the project is gone.
    """
    if status == 401:
        return _unknown_token(body, base)
    if status == 403:
        return AccessDeniedError(
            f"Label Studio at {base} does not let this token {what}: it lacks the right {right!r}; "
            "use the token of a person who manages the project"
        )
    if status == 404 and isinstance(body, Mapping) and project:
        return ProjectGoneError(
            f"Label Studio at {base} has no project {project} for this token: it was deleted, or the token is of a "
            "person of another organization"
        )
    if status == 429 or status >= 500:
        return PlatformUnreachableError(
            f"Label Studio at {base} failed to {what} (status {status}): try again later, or look at its log"
        )
    if 300 <= status < 400 or (status == 404 and not isinstance(body, Mapping)):
        return not_label_studio(base, status)
    return PlatformError(f"Label Studio at {base} refused to {what} (status {status}): {words(body)}")


def _unknown_token(body: Any, base: str) -> PlatformError:
    if "legacy token authentication has been disabled" in words(body):
        return AccessDeniedError(
            f"Label Studio at {base} no longer takes legacy tokens: set LABEL_STUDIO_API_KEY to a personal access "
            "token (Account & Settings > Personal Access Token), or allow legacy tokens in the organization's settings"
        )
    return AccessDeniedError(
        f"Label Studio at {base} does not accept the token in LABEL_STUDIO_API_KEY: copy a personal access token or a "
        "legacy token from Account & Settings again"
    )


def not_label_studio(base: str, status: int) -> PlatformError:
    """Something answers there, but not Label Studio's interface."""
    return PlatformError(
        f"{base} does not answer like Label Studio (status {status}): set LABEL_STUDIO_URL to the address that the "
        "browser shows, with http or https, and with the path before '/projects' if it has one"
    )


def refused_address(url: str) -> PlatformError:
    """Label Studio refuses to call private addresses, unless told otherwise."""
    return PlatformError(
        f"Label Studio refuses to call HARDFIRST_URL {url}, a private address: start Label Studio with "
        "ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false, or set HARDFIRST_URL to a public address"
    )


def is_reserved_address(status: int, body: Any) -> bool:
    """Whether an answer is Label Studio's refusal of a private address."""
    return status in (400, 403) and "reserved network address" in words(body)


def unreachable_backend(url: str, body: Any) -> PlatformError:
    """Label Studio could not reach, or not log in to, the backend it was told to connect."""
    said = words(body)
    if "authentication parameters" in said:
        return PlatformError(
            f"what answers at HARDFIRST_URL {url} does not accept BASIC_AUTH_USER and BASIC_AUTH_PASS of this process: "
            "start 'hardfirst serve' with the same settings"
        )
    return PlatformError(
        f"Label Studio cannot use hardfirst at HARDFIRST_URL {url}: start 'hardfirst serve', and set HARDFIRST_URL to "
        f"an address that Label Studio's machine reaches (Label Studio says: {said})"
    )


def words(body: Any) -> str:
    """Label Studio's own words in an error body, without markup, cut to a readable length."""
    plain = full_words(body)
    return plain if len(plain) <= LONGEST else f"{plain[:LONGEST]}..."


def full_words(body: Any) -> str:
    """The same, however long."""
    found = " ".join(_texts(body)) or str(body)
    return " ".join(re.sub(r"<[^>]*>", " ", found).split())


def _texts(body: Any) -> list[str]:
    if isinstance(body, str):
        return [body]
    if isinstance(body, list):
        return [text for part in body for text in _texts(part)]
    if not isinstance(body, Mapping):
        return []
    inner = _texts(body.get("validation_errors"))
    return inner or [
        text for key, part in body.items() if key not in ("id", "version", "exc_info") for text in _texts(part)
    ]
