"""Label Studio's two kinds of token, and the header that each becomes."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Generator

import httpx

from common.errors import AccessDeniedError, SettingError

LIFE_S = 300.0
"""Seconds an access token lives on the server."""
EARLY_S = 90.0
"""Refreshed this long before, so that a batch of downloads begun now still finishes."""


def checked(token: str) -> str:
    """The token, trimmed.

    Raises:
        SettingError: It cannot be a token at all.
        AccessDeniedError: It is an access token: those live five minutes.
    """
    token = token.strip()
    if not token or not token.isascii() or any(c.isspace() for c in token):
        raise SettingError(
            "LABEL_STUDIO_API_KEY is empty or has characters that no token has: copy a personal access token or a "
            "legacy token from Label Studio's Account & Settings"
        )
    if _claims(token).get("token_type") == "access":
        raise AccessDeniedError(
            "LABEL_STUDIO_API_KEY is an access token, which lives five minutes: set the personal access token it was "
            "made from"
        )
    return token


def is_personal(token: str) -> bool:
    """Whether this is a personal access token (a JWT that is exchanged for short access tokens)."""
    return _claims(token).get("token_type") == "refresh"


def _claims(token: str) -> dict[str, object]:
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        found = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


class Credentials(httpx.Auth):
    """The authorisation of every request: a legacy token as it is, a personal one exchanged and renewed early."""

    def __init__(self, token: str, exchange: Callable[[str], str], clock: Callable[[], float] = time.monotonic) -> None:
        """``exchange`` turns a personal access token into a fresh access token."""
        self._token, self._exchange, self._clock = token, exchange, clock
        self._access, self._until = "", 0.0

    def headers(self) -> dict[str, str]:
        """Good for at least ``EARLY_S`` seconds, by our own clock: the server's may differ. Secret."""
        if not is_personal(self._token):
            return {"Authorization": f"Token {self._token}"}
        now = self._clock()
        if not self._access or now >= self._until:
            self._access, self._until = self._exchange(self._token), now + LIFE_S - EARLY_S
        return {"Authorization": f"Bearer {self._access}"}

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign; once more with a fresh access token when the server no longer takes this one."""
        request.headers.update(self.headers())
        answer = yield request
        if answer.status_code == 401 and is_personal(self._token):
            self._access = ""
            request.headers.update(self.headers())
            yield request
