"""Who may call: Basic auth or a token where they are set; webhooks with the secret, Basic auth or their own check."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flask import Request, Response, current_app, request

from common.config import SECRET_HEADER, Settings


@dataclass(frozen=True)
class ChecksItself:
    """A view that finds out by itself who calls, by a signature over the body for example: ``guard`` lets it be."""

    view: Callable[..., Any]

    def __call__(self, **arguments: Any) -> Any:
        """What the view answers."""
        return self.view(**arguments)


def basic_ok(settings: Settings, incoming: Request) -> bool:
    """Whether the request carries the configured user name and password, compared in constant time."""
    given = incoming.authorization
    if given is None or given.type != "basic" or settings.basic_auth_pass is None:
        return False
    user = hmac.compare_digest((given.username or "").encode(), (settings.basic_auth_user or "").encode())
    password = settings.basic_auth_pass.get_secret_value().encode()
    return hmac.compare_digest((given.password or "").encode(), password) and user


def token_ok(settings: Settings, incoming: Request) -> bool:
    """Whether the request carries the configured token, compared in constant time."""
    given = incoming.authorization
    if given is None or given.type != "bearer" or settings.api_token is None:
        return False
    token = settings.api_token.get_secret_value()
    return bool(token) and hmac.compare_digest((given.token or "").encode(), token.encode())


def secret_ok(secrets: Sequence[str], incoming: Request) -> bool:
    """Whether the request carries one of the webhook secrets, compared in constant time."""
    given = incoming.headers.get(SECRET_HEADER, "").encode()
    matches = [hmac.compare_digest(given, s.encode()) for s in secrets]  # all of them: constant time
    return bool(given) and any(matches)


def refuse() -> Response:
    """401, and nothing of the body was parsed."""
    realm = {"WWW-Authenticate": 'Basic realm="hardfirst", charset="UTF-8"'}
    return Response(
        '{"error": "user name, password, token or webhook secret is missing or wrong"}',
        401,
        realm,
        mimetype="application/json",
    )


def guard(settings: Settings, secrets: Sequence[str]) -> Response | None:
    """The check before every request; webhooks pass with a secret, everything else with Basic auth or the token."""
    if isinstance(current_app.view_functions.get(request.endpoint or ""), ChecksItself):
        return None
    endpoint = (request.endpoint or "").rpartition(".")[2]
    if endpoint.startswith("webhook"):
        return None if _webhook_ok(settings, secrets) else refuse()
    if settings.authenticated and not (basic_ok(settings, request) or token_ok(settings, request)):
        return refuse()
    return None


def _webhook_ok(settings: Settings, secrets: Sequence[str]) -> bool:
    """The secret or Basic auth, either will do: a platform's "Start training" carries no secret."""
    if secret_ok(secrets, request) or (settings.authenticated and basic_ok(settings, request)):
        return True
    if settings.authenticated or settings.webhook_secret:
        return False
    # Nothing is configured, so only this machine reaches us; a secret that is given must be right all the same.
    return SECRET_HEADER not in request.headers
