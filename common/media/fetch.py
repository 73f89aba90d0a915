"""One image over HTTP: redirects by hand, a cap on bytes, a deadline on the whole, one sentence per failure."""

from __future__ import annotations

import random
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

import httpcore
import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception_type

from common.errors import MediaError, RefusedAddressError, UnreadableImageError
from common.media.guard import Guard, Source, Target, shown
from common.media.network import Deadline, Dial, Resolve, Transport, client

_TRIES = 3
_MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_BUSY = (408, 425, 429)
_TIMEOUTS = (httpcore.TimeoutException, httpx.TimeoutException)
_FAILURES = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpx.TransportError,
    httpx.DecodingError,
)


class MediaUnavailableError(MediaError):
    """No answer, or a server-side failure: the image may be fine, worth another try later.

    Attributes:
        retry_after: Seconds the server asked to wait, 0 when it did not say.
    """

    def __init__(self, message: str, retry_after: float = 0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True)
class Answer:
    """What the server sent.

    Attributes:
        data: The whole body, at most the cap.
        etag: Of the body, '' where the server gives none.
        modified: Last-Modified as the server wrote it, '' where it gives none.
        unchanged: The server says that what was asked about has not changed; then there is no body.
    """

    data: bytes = b""
    etag: str = ""
    modified: str = ""
    unchanged: bool = False


class Fetcher:
    """Fetches what the guard allows, over one set of reused connections; safe to share between threads."""

    def __init__(
        self, guard: Guard, *, max_bytes: int, timeout_s: float, retry_s: float, resolve: Resolve, dial: Dial
    ) -> None:
        self._guard = guard
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._retry_s = retry_s
        self._deadline = Deadline()
        self._client = client(Transport(self._deadline, resolve, dial), timeout_s)

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    def fetch(self, target: Target, source: Source, known: Mapping[str, str] | None = None) -> Answer:
        """The body behind ``target``, or ``unchanged`` when the server says so about what ``known`` describes.

        Args:
            target: From ``Guard.start``.
            source: Whose headers go to the platform.
            known: Conditional request headers (If-None-Match, If-Modified-Since).

        Raises:
            MediaError: One sentence with the fix; MediaUnavailableError after three tries.
        """
        retrying = Retrying(
            retry=retry_if_exception_type(MediaUnavailableError), stop=self._enough, wait=self._pause, reraise=True
        )
        with self._deadline.within(self._timeout_s):
            return retrying(self._try, target, source, known or {})

    def _try(self, target: Target, source: Source, known: Mapping[str, str]) -> Answer:
        for _ in range(_MOST_REDIRECTS + 1):
            try:
                outcome = self._ask(target, source, known)
            except _TIMEOUTS as error:
                raise MediaUnavailableError(
                    f"{shown(target.url)}: no complete answer within {self._timeout_s:g} s: is the server overloaded?"
                ) from error
            except _FAILURES as error:
                raise _no_connection(target, error) from error
            if isinstance(outcome, Answer):
                return outcome
            target = outcome
        raise MediaError(
            f"{shown(target.url)}: redirected more than {_MOST_REDIRECTS} times: check the platform's address"
        )

    def _ask(self, target: Target, source: Source, known: Mapping[str, str]) -> Answer | Target:
        headers = {**known, **(source.headers if target.authorised else {})}
        with self._client.stream("GET", target.url, headers=headers, extensions={"reach": target.reach}) as response:
            if response.status_code in _REDIRECTS and "location" in response.headers:
                return self._guard.follow(target, response.headers["location"], source)
            if response.status_code == 304 and known:
                return Answer(unchanged=True)
            if response.status_code != 200:
                raise _refusal(target, response)
            return self._read(target, response)

    def _read(self, target: Target, response: httpx.Response) -> Answer:
        coding = response.headers.get("content-encoding", "identity").lower()
        if coding not in ("identity", "gzip", ""):
            raise MediaError(
                f"{shown(target.url)}: sent with content-encoding {coding!r}: serve images without compression"
            )
        if int(_digits(response.headers.get("content-length", ""))) > self._max_bytes:
            raise self._too_large(target)
        data = bytearray()
        for chunk in response.iter_bytes():
            data += chunk
            if len(data) > self._max_bytes:
                raise self._too_large(target)
            self._deadline.cut(None)
        headers = response.headers
        return Answer(bytes(data), headers.get("etag", ""), headers.get("last-modified", ""))

    def _too_large(self, target: Target) -> UnreadableImageError:
        return UnreadableImageError(
            f"{shown(target.url)}: larger than {self._max_bytes / 1e6:g} MB: "
            "make the image smaller or raise HARDFIRST_MAX_IMAGE_MB"
        )

    def _enough(self, state: RetryCallState) -> bool:
        return state.attempt_number >= _TRIES or self._pause(state) >= self._deadline.left()

    def _pause(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, MediaUnavailableError) else 0.0
        spread = self._retry_s * 2.0 ** (state.attempt_number - 1) * random.uniform(0.75, 1)  # noqa: S311
        return max(asked, float(spread))


def _no_connection(target: Target, error: Exception) -> MediaError:
    # httpcore clears the cause on its way out of the pool and keeps the original as the argument.
    reason = error.args[0] if error.args else None
    if isinstance(reason, ssl.SSLCertVerificationError):
        return MediaError(
            f"{shown(target.url)}: the certificate of {target.url.host} is not trusted "
            f"({reason.verify_message}): set SSL_CERT_FILE to your authority's certificate"
        )
    return MediaUnavailableError(
        f"{shown(target.url)}: the connection failed ({str(error) or type(error).__name__}): "
        f"is {target.url.host} up and reachable from here?"
    )


def _refusal(target: Target, response: httpx.Response) -> MediaError:
    """One sentence for an answer that is not 200."""
    label, status = shown(target.url), response.status_code
    if status >= 500 or status in _BUSY:
        wait = float(_digits(response.headers.get("retry-after", "")))
        return MediaUnavailableError(f"{label}: the server failed or is busy ({status}): see its log", wait)
    if status == 401 and target.authorised:
        return MediaError(
            f"{label}: the platform wants a login (401): the token is wrong, expired or of the wrong kind"
        )
    if status in (401, 403) and not target.authorised:
        return MediaError(
            f"{label}: refused ({status}): off the platform images are fetched without a token, "
            "so the link must be public, or presigned and not expired"
        )
    if status == 403:
        return MediaError(f"{label}: the platform refuses (403): the token's user lacks the right to read it")
    if status in (404, 410):
        return MediaError(
            f"{label}: not there ({status}): was it deleted, or is its storage not connected to the project?"
        )
    if status in _REDIRECTS:
        return RefusedAddressError(f"{label}: a redirect ({status}) to nowhere: check the server")
    return MediaError(
        f"{label}: the server answered {status} and not an image: open the address in a browser to see why"
    )


def _digits(text: str) -> str:
    """``text`` when it is a plain number, else '0'."""
    return text if text.isascii() and text.isdigit() and len(text) < 16 else "0"
