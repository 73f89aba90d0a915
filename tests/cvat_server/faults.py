"""Faults a test switches on: answers that are not CVAT's, delays, hang-ups; and actions put between two requests."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from flask import Response, g, request

from tests.cvat_server.world import World

PERSON = "X-Person"
PAGE = "<!doctype html>\n<html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>\n"
TITLES = {500: "Server Error (500)", 502: "502 Bad Gateway", 503: "503 Service Temporarily Unavailable"}


@dataclass
class Fault:
    """What happens to the requests that match, for the next `times` of them or, with None, until cleared.

    Attributes:
        status: answered in place of CVAT; None lets CVAT answer (after `delay`).
        hang_up: closes the connection without an answer: before CVAT acts, or after it with `late`.
        late: CVAT acts first, and only then the fault comes: the write happened, the client does not know.
    """

    path: re.Pattern[str]
    method: str | None = None
    status: int | None = None
    times: int | None = None
    delay: float = 0.0
    retry_after: int | None = None
    hang_up: bool = False
    late: bool = False
    met: int = 0

    def matches(self, method: str, path: str) -> bool:
        return self.method in (None, method) and self.times != 0 and self.path.search(path) is not None

    def meet(self) -> None:
        self.met += 1
        if self.times is not None:
            self.times -= 1

    def answer(self) -> Response | None:
        if self.delay:
            time.sleep(self.delay)
        if self.hang_up:
            return hang_up()
        if self.status is None:
            return None
        headers = {"Retry-After": str(self.retry_after)} if self.retry_after is not None else {}
        if self.status == 429:
            text = f'{{"detail":"Request was throttled. Expected available in {self.retry_after or 0} seconds."}}'
            return Response(text, 429, headers, content_type="application/vnd.cvat+json")
        title = TITLES.get(self.status, f"Error ({self.status})")
        return Response(PAGE.format(title), self.status, headers, content_type="text/html; charset=utf-8")


@dataclass
class Hook:
    """Runs `action` at the n-th matching request (from 1), once."""

    path: re.Pattern[str]
    method: str | None
    left: int
    action: Callable[[], object]

    def matches(self, method: str, path: str) -> bool:
        return self.method in (None, method) and self.path.search(path) is not None


@dataclass
class Faults:
    """The switches of one server; `world.faults`. Paths are searched with regular expressions.

    They are for the product: requests of people (`people.py` marks them) are neither counted nor hit.
    """

    switched_on: list[Fault] = field(default_factory=list)
    _before: list[Hook] = field(default_factory=list)
    _after: list[Hook] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, path: str = "", method: str | None = None, **what: object) -> Fault:
        """Switches a `Fault` on; its fields are the keywords."""
        fault = Fault(re.compile(path), method, **what)  # type: ignore[arg-type]
        with self._lock:
            self.switched_on.append(fault)
        return fault

    def rate_limit(self, path: str = "", *, times: int | None = None, retry_after: int = 1) -> Fault:
        return self.add(path, status=429, retry_after=retry_after, times=times)

    def down(self, status: int = 502, *, times: int | None = None) -> Fault:
        """Every request gets 502 (a restart), 503 or 500, as a page of HTML."""
        return self.add(status=status, times=times)

    def clear(self, fault: Fault | None = None) -> None:
        """Switches one fault off, or all faults and hooks."""
        with self._lock:
            if fault is not None:
                self.switched_on = [one for one in self.switched_on if one is not fault]
            else:
                self.switched_on, self._before, self._after = [], [], []

    def before(self, method: str | None, path: str, n: int, action: Callable[[], object]) -> None:
        """Runs `action` right before the n-th matching request from now is handled."""
        with self._lock:
            self._before.append(Hook(re.compile(path), method, n, action))

    def after(self, method: str | None, path: str, n: int, action: Callable[[], object]) -> None:
        """Runs `action` right after the n-th matching request from now was handled, before its answer is sent."""
        with self._lock:
            self._after.append(Hook(re.compile(path), method, n, action))

    def on_request(self) -> Response | None:
        """Flask's before_request: hooks, then the first fault that matches."""
        self._run(self._before)
        person = PERSON in request.headers
        with self._lock:
            here = [one for one in self.switched_on if not person and one.matches(request.method, request.path)]
            fault = here[0] if here else None
            if fault is not None:
                fault.meet()
        g.fault = fault
        return fault.answer() if fault is not None and not fault.late else None

    def on_response(self, response: Response) -> Response:
        """Flask's after_request: hooks, then a late fault."""
        self._run(self._after)
        fault: Fault | None = g.get("fault")
        late = fault.answer() if fault is not None and fault.late else None
        return late or response

    def _run(self, hooks: list[Hook]) -> None:
        if PERSON in request.headers:
            return
        due = []
        with self._lock:
            for hook in [one for one in hooks if one.matches(request.method, request.path)]:
                hook.left -= 1
                if hook.left == 0:
                    hooks.remove(hook)
                    due.append(hook)
        for hook in due:
            hook.action()


def hang_up() -> Response:
    """Closes the connection under the request; the answer then reaches nobody."""
    connection = request.environ.get("werkzeug.socket")
    if connection is not None:
        connection.shutdown(socket.SHUT_RDWR)
    return Response("", 500)


def faults_of(world: World) -> Faults:
    """The switches of a world, made at the first question."""
    found: Faults | None = getattr(world, "faults", None)
    if found is None:
        found = Faults()
        world.faults = found  # type: ignore[attr-defined]
    return found


def guard(world: World) -> Response | None:
    """Consulted before each request: None lets it through."""
    return faults_of(world).on_request()
