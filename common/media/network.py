"""Connections: each name is resolved once, its addresses are checked, and the checked address is connected to."""

from __future__ import annotations

import math
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

from common.errors import MediaError, SettingError
from common.media.addresses import Reach, literal, permitted
from common.media.guard import shown

Resolve = Callable[[str, int], Sequence[str]]
"""(host, port) -> its addresses; raises OSError when there are none."""
Dial = Callable[[str, int, float | None], httpcore.NetworkStream]
"""(address, port, timeout in seconds) -> a connection; raises httpcore.ConnectError."""


def resolve(host: str, port: int) -> list[str]:
    """Every address of ``host`` the system knows, in its order of preference."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


def dial(address: str, port: int, timeout: float | None) -> httpcore.NetworkStream:
    """Connect to ``address``, which is never a name."""
    return httpcore.SyncBackend().connect_tcp(address, port, timeout)


class Deadline(threading.local):
    """The moment by which this thread's request must be over: timeouts per read cannot stop a slow drip."""

    at = math.inf

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Set it for the duration of a request."""
        self.at = time.monotonic() + seconds
        try:
            yield
        finally:
            self.at = math.inf

    def left(self) -> float:
        """Seconds, below 0 when it is over."""
        return self.at - time.monotonic()

    def cut(self, timeout: float | None) -> float | None:
        """``timeout``, shortened to what is left."""
        left = self.left()
        if left <= 0:
            raise httpcore.ReadTimeout("the deadline of the whole request is over")
        if math.isinf(left):
            return timeout
        return left if timeout is None else min(left, timeout)


class _TimedStream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.cut(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.cut(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        inner = self._stream.start_tls(ssl_context, server_hostname, self._deadline.cut(timeout))
        return _TimedStream(inner, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class CheckedBackend(httpcore.NetworkBackend):
    """Connects by name for one reach; a name that changes its address between check and use gains nothing."""

    def __init__(self, reach: Reach, deadline: Deadline, resolve: Resolve, dial: Dial) -> None:
        self._reach = reach
        self._deadline = deadline
        self._resolve = resolve
        self._dial = dial

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        """Connect to the first of the host's permitted addresses that answers."""
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in permitted(host, self._addresses(host, port), self._reach):
            try:
                return _TimedStream(self._dial(address, port, self._deadline.cut(timeout)), self._deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    def _addresses(self, host: str, port: int) -> Sequence[str]:
        if literal(host) is not None:
            return [host]
        try:
            found = self._resolve(host, port)
        except OSError as error:
            raise httpcore.ConnectError(f"the name {host} is not known") from error
        if not found:
            raise httpcore.ConnectError(f"{host} has no address")
        return found


class _Body(httpx.SyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        yield from self._response.iter_stream()

    def close(self) -> None:
        self._response.close()


class Transport(httpx.BaseTransport):
    """One connection pool per reach and per proxy: a connection to a private address never serves a public request.

    With a proxy the proxy resolves the names: then the rules on names and literal addresses remain.
    """

    def __init__(self, deadline: Deadline, resolve: Resolve, dial: Dial) -> None:
        self._tls = tls_context()
        self._backends = {reach: CheckedBackend(reach, deadline, resolve, dial) for reach in Reach}
        self._pools: dict[Reach | str, httpcore.ConnectionPool] = {}
        self._lock = threading.Lock()
        self._proxies = getproxies()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request as far as its extension ``reach`` says; follows nothing."""
        inner = httpcore.Request(
            request.method,
            httpcore.URL(
                scheme=request.url.raw_scheme,
                host=request.url.raw_host,
                port=request.url.port,
                target=request.url.raw_path,
            ),
            headers=request.headers.raw,
            extensions=request.extensions,
        )
        response = self._pool(request.url, request.extensions["reach"]).handle_request(inner)
        return httpx.Response(response.status, headers=response.headers, stream=_Body(response))

    def close(self) -> None:
        """Close every connection."""
        for pool in self._pools.values():
            pool.close()

    def _pool(self, url: httpx.URL, reach: Reach) -> httpcore.ConnectionPool:
        key = self._proxy(url) or reach
        with self._lock:
            if key not in self._pools:
                self._pools[key] = self._open(key)
            return self._pools[key]

    def _open(self, key: Reach | str) -> httpcore.ConnectionPool:
        limits: dict[str, Any] = {"max_connections": 64, "max_keepalive_connections": 16, "keepalive_expiry": 30}
        if isinstance(key, Reach):
            return httpcore.ConnectionPool(self._tls, network_backend=self._backends[key], **limits)
        proxy = httpx.Proxy(key)
        return httpcore.HTTPProxy(
            str(proxy.url),
            proxy_auth=proxy.raw_auth,
            ssl_context=self._tls,
            network_backend=self._backends[Reach.CONFIGURED],
            **limits,
        )

    def _proxy(self, url: httpx.URL) -> str | None:
        proxy = self._proxies.get(url.scheme) or self._proxies.get("all")
        host = f"[{url.host}]" if ":" in url.host else url.host
        if not proxy or _is_loopback(url.host) or proxy_bypass(host if url.port is None else f"{host}:{url.port}"):
            return None
        proxy = proxy if "://" in proxy else f"http://{proxy}"
        if not proxy.startswith(("http://", "https://")):
            raise MediaError(
                f"the proxy {shown(proxy)} cannot be used: HTTPS_PROXY takes http:// or https:// addresses"
            )
        return proxy


def client(transport: Transport, timeout_s: float) -> httpx.Client:
    """A client without cookies, netrc or redirects: what one platform says is never told to another."""
    return httpx.Client(
        transport=transport,
        trust_env=False,
        follow_redirects=False,
        timeout=httpx.Timeout(timeout_s, connect=min(10.0, timeout_s)),
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        # Some platforms negotiate by Accept and answer 406 to image/*; images gain nothing from compression.
        headers={"accept": "*/*", "accept-encoding": "identity", "user-agent": "hardfirst"},
    )


def tls_context() -> ssl.SSLContext:
    """The usual authorities, or those of SSL_CERT_FILE, REQUESTS_CA_BUNDLE or SSL_CERT_DIR.

    Raises:
        SettingError: The file or folder is not there or holds no certificate.
    """
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR"):
        value = os.environ.get(name)
        if not value:
            continue
        path = Path(value)
        try:
            folder = path.is_dir()
            return ssl.create_default_context(cafile=None if folder else value, capath=value if folder else None)
        except (OSError, ssl.SSLError) as error:
            raise SettingError(f"{name} is {value!r}: it must be a file of PEM certificates ({error})") from error
    return httpx.create_ssl_context(trust_env=False)


def _is_loopback(host: str) -> bool:
    address = literal(host)
    return host == "localhost" or (address is not None and address.is_loopback)
