"""What every log line carries besides its text: the trace, the project, the round. A context variable; no I/O.

A trace is the id of the event that began something. It follows the work through threads that are told so, rows of the
store and the environment of children.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Any, Protocol

REQUEST_ID = "X-Request-ID"
"""Header in which a caller may name the trace, and in which every answer names it."""

Fields = Mapping[str, Any]

_NOTHING: Fields = {}
_TAKEN_ALONG = "hardfirst_log_fields"
_FIELDS: ContextVar[Fields] = ContextVar("hardfirst_log_fields", default=_NOTHING)
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,63}")


def fresh() -> str:
    """A trace id of our own: 32 hexadecimal digits, as W3C Trace Context, section 3.2.2.3, has them."""
    return secrets.token_hex(16)


class Headers(Protocol):
    """Of a request."""

    def get(self, name: str, default: str, /) -> str | None:
        """The value of one, whatever the case of its name."""


def taken(headers: Headers) -> str:
    """The trace that a request names in a valid ``traceparent`` or ``X-Request-ID``, else a fresh one.

    An id has 8 to 64 letters, digits, dots, underscores and hyphens: it must not be able to forge a log line.
    """
    named = _parent(headers.get("traceparent", "") or "") or _request_id(headers.get(REQUEST_ID, "") or "")
    return named or fresh()


def _parent(text: str) -> str:
    found = _TRACEPARENT.fullmatch(text.strip()) if len(text) < 512 else None
    if found is None or found[1] == "ff" or (found[1] == "00" and found[4]):
        return ""
    return found[2] if int(found[2], 16) and int(found[3], 16) else ""


def _request_id(text: str) -> str:
    return text if _ID.fullmatch(text) else ""


def current() -> str:
    """The trace of what is being done, '' where nobody began one."""
    return str(_FIELDS.get().get("trace", ""))


def fields() -> dict[str, Any]:
    """Everything that lines carry here: 'trace', 'project', 'round', each where it is known."""
    return dict(_FIELDS.get())


def begin(**given: Any) -> Token[Fields]:
    """From here on lines carry these fields too; values of '' and None change nothing. To be ended with ``end``."""
    return _FIELDS.set({**_FIELDS.get(), **{name: value for name, value in given.items() if value not in ("", None)}})


def end(token: Token[Fields]) -> None:
    """What ``begin`` began is over."""
    _FIELDS.reset(token)


def of_error(error: BaseException) -> Fields:
    """What lines carried where an error was raised: for who catches it further out, and says so."""
    found: Fields = vars(error).get(_TAKEN_ALONG, _NOTHING)
    return found


@contextmanager
def bound(**given: Any) -> Iterator[None]:
    """Inside, lines carry these fields too; an error that leaves it takes them along, see ``of_error``."""
    token = begin(**given)
    try:
        yield
    except Exception as error:
        vars(error).setdefault(_TAKEN_ALONG, fields())
        raise
    finally:
        end(token)
