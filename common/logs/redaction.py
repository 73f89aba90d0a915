"""Secrets out of texts: the values this process knows, and whatever looks like one. Pure but for ``known_secrets``."""

from __future__ import annotations

import base64
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, unquote, urlsplit

if TYPE_CHECKING:
    from common.config import Settings

HIDDEN = "***"
SHORTEST = 4
"""Characters of a secret that is looked for by its value: a shorter one is in every other word."""
SHORTEST_VARIABLE = 8
"""The same for environment variables that are only named like secrets."""

_NAMED = re.compile(r"(?i)(secret|token|password|passwd|credential|api_?key|access_?key|private_?key|_pass$)")
_WORDS = r"token|secret|password|passwd|pwd|signature|credential|api[_-]?key|access[_-]?key|private[_-]?key"
_QUERY = re.compile(
    rf"(?i)([?&;](?:amp;)?(?:[\w.%-]*(?:{_WORDS})[\w.%-]*|key|sig|auth|jwt|x-(?:amz|goog)-[\w-]+)=)[^&\s'\"<>#;,)\]]+"
)
_SEPARATOR = r"['\"]\s*[:,]\s*b?['\"]|\s*[:=]\s*"
_HEADER = re.compile(
    rf"(?i)\b((?:proxy-)?authorization|x-hardfirst-secret|x-signature-256|x-csrftoken|x-api-key)({_SEPARATOR})"
    r"(?:(basic|bearer|token|digest)\s+)?[^\s'\",;)\]}]+"
)
_COOKIE = re.compile(rf"(?i)\b((?:set-)?cookie)({_SEPARATOR})[^'\"\r\n]+")
_CREDENTIALS = re.compile(r"\b(Basic|Bearer|Token)\s+(?=\S*[a-z])(?=\S*[A-Z\d])[\w+/.~=-]{8,}")
_USERINFO = re.compile(r"(://)[^/\s@'\"<>?#]+@")
_QUOTED = re.compile(
    r"(?i)(['\"](?:[\w-]*(?:token|secret|password|passwd|api_?key|access_?key|private_?key))['\"]\s*"
    r"[:=]\s*)(['\"])(?:(?!\2).)+\2"
)
_ASSIGNED = re.compile(
    r"(?i)\b([\w-]*(?:password|passwd|pwd|secret|token|api_?key|access_?key)=)(?!\*)([^\s&;,'\"`)\]]{4,})"
)
_JWT = re.compile(r"\beyJ[\w-]{5,}\.[\w-]+(?:\.[\w-]*)?")


class Redactor:
    """A function: text in, the same text without secrets out.

    Args:
        secrets: Values that must never be seen, in whatever coding; those under ``SHORTEST`` characters are left out.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        coded = {form for s in secrets if len(s) >= SHORTEST for form in _forms(s)}
        longest_first = sorted(coded, key=lambda form: (-len(form), form))
        self._values = re.compile("|".join(map(re.escape, longest_first))) if coded else None

    def __call__(self, text: str) -> str:
        """The text without secrets."""
        if self._values is not None:
            text = self._values.sub(HIDDEN, text)
        text = _USERINFO.sub(rf"\1{HIDDEN}@", text)
        text = _HEADER.sub(lambda m: f"{m[1]}{m[2]}{m[3] + ' ' if m[3] else ''}{HIDDEN}", text)
        text = _COOKIE.sub(rf"\1\2{HIDDEN}", text)
        text = _QUERY.sub(rf"\1{HIDDEN}", text)
        text = _CREDENTIALS.sub(rf"\1 {HIDDEN}", text)
        text = _QUOTED.sub(rf"\1\2{HIDDEN}\2", text)
        text = _ASSIGNED.sub(rf"\1{HIDDEN}", text)
        return _JWT.sub(HIDDEN, text)


class RedactingFilter(logging.Filter):
    """Takes the secrets out of a record before any handler writes it: message, traceback, stack and extra fields."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self.redact = redact

    def filter(self, record: logging.LogRecord) -> bool:
        """Always True: the line is written, without its secrets."""
        record.msg, record.args = self.redact(_message(record)), None
        if record.exc_info and not record.exc_text:
            record.exc_text = _PLAIN.formatException(record.exc_info)
        for name, value in vars(record).items():
            if name != "msg" and isinstance(value, str):
                setattr(record, name, self.redact(value))
        return True


_PLAIN = logging.Formatter()


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 - a line that cannot be formatted must not end what wrote it
        return f"{record.msg} (cannot be formatted: {type(error).__name__})"


def _forms(secret: str) -> Iterator[str]:
    """The same secret as headers, addresses, JSON and Python show it."""
    yield secret
    yield quote(secret, safe="")
    yield quote_plus(secret)
    yield json.dumps(secret)[1:-1]
    yield repr(secret)[1:-1]
    if len(secret) >= SHORTEST_VARIABLE:
        yield base64.b64encode(secret.encode()).decode().rstrip("=")


def known_secrets(settings: Settings | None, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Every secret this process knows.

    Args:
        settings: Of the service; None where they cannot be read.
        environment: Variables that are named like a secret count, whoever they are for.
    """
    named = [v for n, v in environment.items() if _NAMED.search(n) and len(v) >= SHORTEST_VARIABLE]
    return [*named, *(_configured(settings) if settings is not None else ())]


def _configured(settings: Settings) -> Iterator[str]:
    for value in vars(settings).values():
        if hasattr(value, "get_secret_value"):
            yield value.get_secret_value()
    yield from settings.webhook_secret
    made = settings.folder / "webhook-secret"
    with suppress(OSError):  # not made yet, or not for us to read: then it cannot be logged either
        yield made.read_text().strip()
    for url in (settings.database_url, settings.label_studio_url, settings.cvat_url, settings.url):
        yield from _in_url(url or "")
    for user, password in (
        (settings.basic_auth_user, settings.basic_auth_pass),
        (settings.cvat_username, settings.cvat_password),
    ):
        if user and password is not None:
            pair = base64.b64encode(f"{user}:{password.get_secret_value()}".encode()).decode()
            yield from (pair, pair.rstrip("="))


def _in_url(url: str) -> Iterator[str]:
    """The password of an address, as it is written and as it is meant."""
    try:
        password = urlsplit(url).password or ""
    except ValueError:
        return
    yield from (password, unquote(password))
