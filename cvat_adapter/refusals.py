"""What CVAT answered when it said no, as one sentence with the fix. Pure: status and body in, error out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from common.errors import AccessDeniedError, PlatformError, PlatformUnreachableError, ProjectGoneError

LONGEST = 300
"""Characters of CVAT's own words that a message repeats."""
FRESH = "make an access token that is not read-only in CVAT (profile > Security) and set CVAT_ACCESS_TOKEN to it"


class FailedError(PlatformUnreachableError):
    """CVAT is there and broke down over this one thing; over another it need not."""


class BusyError(PlatformUnreachableError):
    """CVAT said when to come again."""

    def __init__(self, message: str, after_s: float) -> None:
        super().__init__(message)
        self.after_s = after_s


def again_in_s(error: BaseException) -> float:
    """Seconds that CVAT asked to wait; 0 where it did not."""
    return error.after_s if isinstance(error, BusyError) else 0.0


def refusal(
    status: int,
    body: Any,
    *,
    base: str,
    what: str,
    project: str = "",
    organization: str = "",
    token: bool = True,
    read_only: bool = False,
    headers: Mapping[str, str] | None = None,
) -> PlatformError:
    """The error for an answer that is not a success.

    Args:
        status: HTTP status.
        body: Parsed JSON, or text.
        base: CVAT's address, for the message.
        what: What was being done: 'list the jobs of project 5'.
        project: Project id, where a 404 means that the project is gone.
        organization: Short name of the organization it was done in.
        token: Whether an access token was used, not a password.
        read_only: Whether that token is known to be read-only.
        headers: Of the answer.
    """
    said = headers or {}
    if status == 401:
        return _unknown(base, token)
    if status == 403:
        return _forbidden(base, what, organization, read_only)
    if status == 404 and isinstance(body, Mapping):
        return _missing(body, base, what, project)
    if status in (429, 502, 503) or status >= 500:
        return _failing(status, base, what, said)
    if _wants_https(base, body, said):
        return wrong_scheme(base)
    if 300 <= status < 400 or status in (404, 405):
        return not_cvat(base, status)
    return PlatformError(f"CVAT at {base} refused to {what} (status {status}): {words(body)}")


def _wants_https(base: str, body: Any, said: Mapping[str, str]) -> bool:
    if not base.startswith("http://"):
        return False
    return str(said.get("Location", "")).startswith("https://") or "HTTP request" in words(body)


def _unknown(base: str, token: bool) -> PlatformError:
    if token:
        return AccessDeniedError(
            f"CVAT at {base} does not accept the token in CVAT_ACCESS_TOKEN (wrong, revoked or expired): {FRESH}"
        )
    return AccessDeniedError(
        f"CVAT at {base} does not keep the session of CVAT_USERNAME: check that user in CVAT, or {FRESH}"
    )


def wrong_password(base: str, username: str, body: Any) -> PlatformError:
    """The login was refused: CVAT answers 400, not 401."""
    return AccessDeniedError(
        f"CVAT at {base} does not accept CVAT_USERNAME {username!r} with the password in CVAT_PASSWORD "
        f"(CVAT says: {words(body)}): correct them, or set CVAT_ACCESS_TOKEN"
    )


def read_only_token() -> PlatformError:
    """A token that may read only, which is CVAT's default."""
    return AccessDeniedError(f"the token in CVAT_ACCESS_TOKEN is read-only, so CVAT takes no writes: {FRESH}")


def _forbidden(base: str, what: str, organization: str, read_only: bool) -> PlatformError:
    if read_only:
        return read_only_token()
    where = f"a maintainer of organization {organization!r}" if organization else "the project's owner"
    return AccessDeniedError(
        f"CVAT at {base} does not let this user {what}: it takes {where}; use such a user's credentials"
    )


def not_a_member(base: str, organization: str) -> PlatformError:
    """The organization exists, without this user."""
    return AccessDeniedError(
        f"the user is no member of organization {organization!r} of CVAT at {base}: have it invited as maintainer, or "
        "use the credentials of one"
    )


def no_organization(base: str, organization: str) -> PlatformError:
    """CVAT has no such organization."""
    return PlatformError(
        f"CVAT at {base} has no organization {organization!r}: give --org its short name, as CVAT shows it in the menu "
        "of the user"
    )


def _missing(body: Mapping[str, Any], base: str, what: str, project: str) -> PlatformError:
    if words(body).endswith("organization does not exist."):
        return no_organization(base, words(body).partition(" ")[0])
    if project:
        return ProjectGoneError(f"CVAT at {base} has no project {project}: it was deleted, or CVAT_URL is another CVAT")
    return PlatformError(f"CVAT at {base} cannot {what} (status 404): {words(body)}")


def _failing(status: int, base: str, what: str, said: Mapping[str, str]) -> PlatformError:
    wait = str(said.get("Retry-After", ""))
    if wait.isdecimal():
        return BusyError(
            f"CVAT at {base} is too busy to {what} (status {status}): try again in {wait} s",
            float(wait),
        )
    kind = FailedError if status == 500 else PlatformUnreachableError
    return kind(f"CVAT at {base} failed to {what} (status {status}): try again later, or look at its log")


def failed_request(base: str, what: str, message: Any) -> PlatformError:
    """A background request that ended badly; CVAT's message may be a whole traceback, its last line says it."""
    lines = [line.strip() for line in str(message or "").splitlines() if line.strip()]
    return PlatformError(f"CVAT at {base} could not {what}: {words(lines[-1] if lines else 'it gives no reason')}")


def not_cvat(base: str, status: int) -> PlatformError:
    """Something answers there, but not CVAT's interface."""
    return PlatformError(
        f"{base} does not answer like CVAT (status {status}): set CVAT_URL to the address that the browser shows "
        "before '/projects', with http or https"
    )


def wrong_scheme(base: str) -> PlatformError:
    """Encrypted where it must not be, or the other way round."""
    scheme, _, rest = base.partition("://")
    other = "http" if scheme == "https" else "https"
    return PlatformError(f"{base} does not answer by {scheme}: set CVAT_URL to {other}://{rest}")


def session_is_over(status: int, body: Any) -> bool:
    """Whether a session must be renewed: it ran out, or its CSRF token is another's."""
    return status == 401 or (status == 403 and "CSRF" in words(body))


def unreachable(base: str, what: str, error: Exception) -> PlatformError:
    """No answer at all: ``error`` is of urllib3 or the SDK, told by its kind, as it quotes whole requests."""
    cause = getattr(error, "reason", None)
    kind, text = type(cause if isinstance(cause, Exception) else error).__name__, str(cause or error)
    if kind == "ProtocolError":
        text = "it closed the connection"
    if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER_FAILURE" in text:
        return wrong_scheme(base)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return PlatformError(
            f"the certificate of CVAT at {base} is not trusted: set SSL_CERT_FILE to that of its authority"
        )
    if "Timeout" in kind:
        return PlatformUnreachableError(f"CVAT at {base} did not answer in time when asked to {what}: try again later")
    said = re.sub(r"^\[Errno -?\d+\] ", "", text.rpartition(": ")[2]) or kind
    why = "its name is not known" if kind == "NameResolutionError" else said
    return PlatformUnreachableError(f"CVAT at {base} cannot be reached ({why}): start it, or correct CVAT_URL")


def words(body: Any) -> str:
    """CVAT's own words in an error body, without markup, cut to a readable length."""
    found = " ".join(_texts(body)) or str(body)
    plain = " ".join(re.sub(r"<[^>]*>", " ", found).split())
    return plain if len(plain) <= LONGEST else f"{plain[:LONGEST]}..."


def _texts(body: Any) -> list[str]:
    if isinstance(body, str):
        return [body]
    if isinstance(body, Mapping):
        return [text for part in body.values() for text in _texts(part)]
    if isinstance(body, list):
        return [text for part in body for text in _texts(part)]
    return []
