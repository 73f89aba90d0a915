"""A reverse proxy in a few lines, set up in either way: it strips a path or passes it on."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.serving import in_a_thread

NOT_PASSED_ON = {"connection", "transfer-encoding", "keep-alive", "content-length", "host"}


@contextmanager
def proxy(backend: int, base: str, *, strips: bool) -> Iterator[str]:
    """The address, without the path, of a proxy that sends what is below ``base`` to a port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def _pass(self) -> None:
            if not (self.path == base or self.path.startswith(f"{base}/")):
                self.send_error(404, "not below the path")
                return
            sent = (self.path[len(base) :] or "/") if strips else self.path
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer, content = _ask(backend, self.command, sent, self._headers(), body)
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in NOT_PASSED_ON | {"server", "date"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_HEAD = _pass  # noqa: N815 - http.server calls them so

        def _headers(self) -> dict[str, str]:
            kept = {k: v for k, v in self.headers.items() if k.lower() not in NOT_PASSED_ON}
            told = {"X-Forwarded-For": self.client_address[0], "X-Forwarded-Host": self.headers.get("Host", "")}
            return {**kept, **told, "X-Forwarded-Proto": "https"}

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with in_a_thread(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        yield url


def _ask(
    port: int, method: str, path: str, headers: dict[str, str], body: bytes
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body or None, headers)
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()
