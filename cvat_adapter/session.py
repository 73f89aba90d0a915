"""One logged-in conversation with CVAT through cvat-sdk. With function.py the only file that knows the SDK."""

from __future__ import annotations

import json
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import urllib3
from cvat_sdk.api_client import exceptions, rest
from cvat_sdk.core.client import AccessTokenCredentials, Client
from cvat_sdk.core.helpers import make_request_headers

from cvat_adapter import refusals

READ_S, CONNECT_S = 60.0, 10.0
"""Time limits of one request, unless it says otherwise."""
JSON_TYPE = "application/vnd.cvat+json"


class Text(str):
    """The beginning of a body that is no JSON."""

    __slots__ = ()


@dataclass(frozen=True)
class Answer:
    """What came back for one request."""

    status: int
    raw: bytes
    headers: Mapping[str, str]

    @property
    def good(self) -> bool:
        """Whether CVAT did what it was asked."""
        return 200 <= self.status < 300

    @cached_property
    def body(self) -> Any:
        """JSON, ``Text`` where it is none, None where there is no body at all."""
        try:
            return json.loads(self.raw) if self.raw else None
        except ValueError:  # also what is no UTF-8
            return Text(self.raw[:4096].decode(errors="replace"))


class Session:
    """Requests that carry our credentials; what CVAT refuses is an ``Answer``, no answer a PlatformError."""

    def __init__(self, base: str, *, token: str = "", username: str = "", password: str = "") -> None:
        """Nothing is sent yet.

        Args:
            base: Address with scheme, without a trailing slash.
            token: Access token; user name and password are not used then.
            username: At CVAT.
            password: Exchanged for a session at the first request, and again when that has run out.
        """
        self.base, self.has_token = base, bool(token)
        self._sdk = Client(base, check_server_version=False)
        # The SDK's own retries sleep as long as the server likes, unseen.
        self._sdk.api_client.configuration.retries = urllib3.Retry(
            total=0, raise_on_redirect=False, raise_on_status=False, respect_retry_after_header=False
        )
        self._sdk.api_client.rest_client = rest.RESTClientObject(self._sdk.api_client.configuration)
        self.close = weakref.finalize(self, self._sdk.api_client.rest_client.pool_manager.clear)
        self._username, self._password = username, password
        if token:
            self._sdk.login(AccessTokenCredentials(token))

    @property
    def organization(self) -> str | None:
        """Short name of the organization that requests are made in; None = whatever the user may see."""
        slug: str | None = self._sdk.organization_slug
        return slug

    @organization.setter
    def organization(self, slug: str | None) -> None:
        self._sdk.organization_slug = slug

    def headers(self) -> dict[str, str]:
        """What every request carries, logged in where need be. Secret."""
        if not self._sdk.has_credentials():
            self._log_in()
        made: dict[str, str] = make_request_headers(self._sdk.api_client)
        return made

    def ask(
        self, method: str, path: str, params: Mapping[str, Any] | None = None, *, what: str, **request: Any
    ) -> Answer:
        """One request, sent once more after a new login where the session had run out: CVAT did nothing then.

        Args:
            method: Of HTTP.
            path: Below ``base``, without a leading slash.
            params: Of the query.
            what: In words, for messages.
            **request: As ``_once`` takes it.

        Raises:
            PlatformError: No answer, or the login was refused.
        """
        answer = self._once(method, path, params, what=what, headers=self.headers(), **request)
        over = answer.status in (401, 403) and refusals.session_is_over(answer.status, answer.body)
        if over and not self.has_token:
            self._log_in()
            answer = self._once(method, path, params, what=what, headers=self.headers(), **request)
        return answer

    def _once(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None = None,
        *,
        what: str,
        headers: Mapping[str, str],
        more_headers: Mapping[str, str] | None = None,
        body: Any = None,
        fields: Mapping[str, Any] | None = None,
        limit_s: float = READ_S,
    ) -> Answer:
        """One request as it is: ``body`` as JSON, or ``fields`` as a form; an image needs no Accept of JSON."""
        wanted = {"Accept": JSON_TYPE} if more_headers is None else more_headers
        try:
            response = self._sdk.api_client.rest_client.request(
                method,
                f"{self.base}/{path}",
                list(params.items()) if params else None,
                headers={**headers, **wanted},
                body=body,
                post_params=fields,
                _request_timeout=(CONNECT_S, limit_s),
                _check_status=False,
            )
        except (urllib3.exceptions.HTTPError, exceptions.ApiException) as error:
            # 'from None': the SDK's error shows headers, and with them cookies.
            raise refusals.unreachable(self.base, what, error) from None
        return Answer(response.status, response.data or b"", response.headers)

    def _log_in(self) -> None:
        """Exchange the password for a session. CVAT allows 100 anonymous calls a minute: never once per request."""
        client = self._sdk.api_client
        client.cookies.clear()
        client.configuration.api_key.pop("csrfHeaderAuth", None)
        body = {"username": self._username, "password": self._password}
        bare = {"User-Agent": client.user_agent}
        answer = self._once("POST", "api/auth/login", what="log in", headers=bare, body=body)
        if answer.status == 400 and isinstance(answer.body, Mapping):
            raise refusals.wrong_password(self.base, self._username, answer.body)
        if not answer.good:
            raise refusals.refusal(
                answer.status, answer.body, base=self.base, what="log in", token=False, headers=answer.headers
            )
        for line in answer.headers.getlist("Set-Cookie"):  # type: ignore[attr-defined]
            client.cookies.load(line)
        if not {"sessionid", "csrftoken"} <= set(client.cookies):
            client.cookies.clear()
            raise refusals.not_cvat(self.base, answer.status)
        client.configuration.api_key["csrfHeaderAuth"] = client.cookies["csrftoken"].value
