"""Label Studio's HTTP interface through label-studio-sdk. The only file that knows the SDK."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
from label_studio_sdk import LabelStudio
from label_studio_sdk.core.api_error import ApiError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from common.config import Settings
from common.errors import PlatformUnreachableError, SettingError
from ls_backend import refusals, tokens
from ls_backend.connection import Saver
from ls_backend.project import LabelStudioPlatform

READ_S, WRITE_S, CONNECT_S = 120.0, 120.0, 10.0
"""Time limits of one request."""


class Api:
    """Label Studio's HTTP interface through the SDK's authorised client; every failure is a PlatformError."""

    def __init__(self, base: str, token: str, *, transport: httpx.BaseTransport | None = None) -> None:
        """Nothing is sent yet.

        Args:
            base: Address, with the path under which Label Studio lives, without a trailing slash.
            token: Personal access token or legacy token.
            transport: Instead of the network, for tests.
        """
        self.base = base
        timeout = httpx.Timeout(READ_S, connect=CONNECT_S)
        self._credentials = tokens.Credentials(token, self._exchange)
        self._http = httpx.Client(timeout=timeout, transport=transport, auth=self._credentials)
        self.close = weakref.finalize(self, self._http.close)
        # Our credentials sign its requests: its own refresh trusts that both clocks agree. It must not repeat writes.
        self.sdk = LabelStudio(base_url=base, api_key="signed-by-credentials", httpx_client=self._http, max_retries=0)

    @contextmanager
    def _guard(self, what: str, right: str = "", gone: str = "") -> Iterator[None]:
        try:
            yield
        except ApiError as error:
            status, body = error.status_code or 0, error.body
            known = {"base": self.base, "what": what, "right": right, "project": gone}
            raise refusals.refusal(status, body, **known) from None
        except httpx.InvalidURL as error:
            raise SettingError(f"LABEL_STUDIO_URL is {self.base!r}: it must look like http://host:8080") from error
        except httpx.TimeoutException as error:
            raise PlatformUnreachableError(
                f"Label Studio at {self.base} did not answer in time when asked to {what}: try again later"
            ) from error
        except httpx.HTTPError as error:
            raise PlatformUnreachableError(
                f"Label Studio at {self.base} cannot be reached ({error}): start it, or correct LABEL_STUDIO_URL"
            ) from error

    def get(self, path: str, params: Mapping[str, Any], *, what: str, right: str, gone: str = "") -> Any:
        """JSON of a GET, tried three times where another try may help.

        Args:
            path: Below ``base``.
            params: Of the query.
            what: In words, for messages: 'list the tasks of project 5'.
            right: Label Studio's name of the right it takes.
            gone: The project that is gone when the answer is 404.
        """
        for attempt in Retrying(
            retry=retry_if_exception_type(PlatformUnreachableError),
            stop=stop_after_attempt(3),
            wait=wait_exponential(multiplier=0.3, max=3),
            reraise=True,
        ):
            with attempt:
                return self._get(path, params, what, right, gone)
        raise AssertionError("unreachable")

    def _get(self, path: str, params: Mapping[str, Any], what: str, right: str, gone: str) -> Any:
        with self._guard(what, right, gone):
            answer = self._send(path, "GET", READ_S, params=params)
        return self._json(answer, what, right, gone)

    def _send(self, path: str, method: str, limit_s: float, **request: Any) -> httpx.Response:
        client = self.sdk._client_wrapper.httpx_client
        answer: httpx.Response = client.request(
            path, method=method, request_options={"timeout_in_seconds": limit_s, "max_retries": 0}, **request
        )
        return answer

    def _json(self, answer: httpx.Response, what: str, right: str, gone: str = "") -> Any:
        body = _body(answer)
        if not answer.is_success:
            known = {"base": self.base, "what": what, "right": right, "project": gone}
            raise refusals.refusal(answer.status_code, body, **known)
        if isinstance(body, str):
            raise refusals.not_label_studio(self.base, answer.status_code)
        return body

    def write(self, call: Callable[[Any], Any], *, what: str, right: str, gone: str = "") -> None:
        """Let ``call(sdk)`` write; never repeated by itself."""
        with self._guard(what, right, gone):
            call(self.sdk)

    def delete(self, kind: str, row: int, *, right: str) -> bool:
        """Delete one row of 'ml', 'webhooks', 'views' or 'predictions'; False when it was gone already."""
        with self._guard(f"delete {row} from {kind}", right):
            try:
                getattr(self.sdk, kind).delete(str(row) if kind == "views" else row)
            except ApiError as error:
                if error.status_code != 404:
                    raise
                return False
        return True

    def try_post(self, path: str, body: Any, *, what: str, limit_s: float = WRITE_S) -> tuple[int, Any]:
        """(status, JSON or text) of a POST whose refusal the caller reads; the SDK encodes large bodies slowly."""
        with self._guard(what):
            content, kind = json.dumps(body, allow_nan=False).encode(), {"content-type": "application/json"}
            answer = self._send(path, "POST", limit_s, content=content, headers=kind)
        return answer.status_code, _body(answer)

    def _exchange(self, personal: str) -> str:
        with self._guard("log in"):
            address = f"{self.base}/api/token/refresh/"
            answer = self._http.post(address, json={"refresh": personal}, timeout=30, auth=httpx.Auth())
        return str(self._json(answer, "log in", "")["access"])

    def media_headers(self) -> dict[str, str]:
        """Fresh authorisation of image downloads. Secret."""
        with self._guard("log in"):
            return self._credentials.headers()


def open_platform(
    project: str,
    settings: Settings,
    state: dict[str, Any],
    save: Saver | None = None,
    *,
    transport: httpx.BaseTransport | None = None,
) -> LabelStudioPlatform:
    """The port of one project; sends nothing yet.

    Raises:
        SettingError: Address or token are missing or malformed, or ``project`` is not a number.
    """
    if not settings.label_studio_url or not settings.label_studio_api_key:
        missing = "LABEL_STUDIO_API_KEY" if settings.label_studio_url else "LABEL_STUDIO_URL"
        raise SettingError(f"{missing} is not set: give Label Studio's address and a token of Account & Settings")
    base = settings.label_studio_url.strip().rstrip("/")
    if urlsplit(base).scheme not in ("http", "https") or not urlsplit(base).netloc:
        raise SettingError(f"LABEL_STUDIO_URL is {base!r}: it must start with http:// or https://")
    if not project.isdecimal():
        raise SettingError(f"project is {project!r}: give the number in Label Studio's address, as in /projects/5")
    token = tokens.checked(settings.label_studio_api_key.get_secret_value())
    return LabelStudioPlatform(project, Api(base, token, transport=transport), settings, state, save)


def _body(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return answer.text
