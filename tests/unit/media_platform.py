"""A real HTTP server that plays the platform (or a bucket), and a small network whose names we choose."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import httpcore
import numpy as np
from PIL import Image

from common.media import MediaLibrary, Source
from tests.serving import in_a_thread

TOKEN = "Token very-secret-1"


def image(
    width: int = 60, height: int = 40, form: str = "PNG", mode: str = "RGB", seed: int = 0, **options: Any
) -> bytes:
    """An image file of noise."""
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


class Server(ThreadingHTTPServer):
    """Answers each path with what ``pages`` holds for it: bytes, (status, headers, body) or a function."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages: dict[str, Any] = {}
        self.seen: list[tuple[str, Mapping[str, str]]] = []

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def source(self) -> Source:
        return Source(self.origin, {"Authorization": TOKEN})

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.seen]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up early is part of these tests."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.server.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
        page = self.server.pages.get(self.path, (404, {}, b"no such page"))
        if callable(page):
            page = page(self)
        if page is None:
            return
        status, headers, body = page if isinstance(page, tuple) else (200, {}, page)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Transfer-Encoding" not in headers and status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    with in_a_thread(server):
        yield server


class Network:
    """Names and addresses of our own; every address that may be dialled leads to one local server."""

    def __init__(self, names: Mapping[str, list[str] | Callable[[], list[str]]], leads_to: int) -> None:
        self._names = names
        self._port = leads_to
        self.dialled: list[str] = []

    def resolve(self, host: str, port: int) -> list[str]:
        if host not in self._names:
            raise OSError("name not known")
        found = self._names[host]
        return found() if callable(found) else found

    def dial(self, address: str, port: int, timeout: float | None) -> httpcore.NetworkStream:
        self.dialled.append(f"{address}:{port}")
        return httpcore.SyncBackend().connect_tcp("127.0.0.1", self._port, timeout)


def library(folder: Path, network: Network | None = None, **changes: Any) -> MediaLibrary:
    """A library with small limits and no waiting between tries."""
    settings: dict[str, Any] = {
        "allow_hosts": (),
        "max_bytes": 1_000_000,
        "max_pixels": 1_000_000,
        "cache_bytes": 10_000_000,
        "timeout_s": 5,
        "retry_s": 0.01,
    }
    if network is not None:
        settings |= {"resolve": network.resolve, "dial": network.dial}
    return MediaLibrary(folder, **{**settings, **changes})


def drip(piece: bytes, every_s: float, times: int) -> Callable[[Handler], None]:
    """A page that never quite ends; ``piece`` is sent again and again."""

    def page(handler: Handler) -> None:
        handler.close_connection = True
        for _ in range(times):
            try:
                handler.wfile.write(piece)
                handler.wfile.flush()
            except OSError:
                return
            time.sleep(every_s)

    return page
