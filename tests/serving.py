"""A server at work in a thread, for as long as a block lasts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import HTTPServer

POLL_S = 0.02
"""How often a server looks whether it shall stop. The library's half a second would be waited for in every test."""


@contextmanager
def in_a_thread(server: HTTPServer) -> Iterator[str]:
    """The address of a server, werkzeug's or the library's, that listens on 127.0.0.1; afterwards it is closed."""
    thread = threading.Thread(target=server.serve_forever, args=(POLL_S,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
