"""A Label Studio that answers as recorded, and how a request of ours differs from a recorded one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx

FOLDER = "contracts/label-studio"
TOKEN = "0123456789" * 4


def recorded_answer(shared: Path, name: str) -> httpx.Response:
    found = json.loads((shared / FOLDER / f"{name}.json").read_text())["response"]
    return httpx.Response(found["status"], json=found["body"])


@dataclass(frozen=True)
class Call:
    """One request; the slash at the end of the path is gone, as Label Studio takes both forms."""

    method: str
    path: str
    query: frozenset[tuple[str, str]]
    scheme: str
    """The first word of the Authorization header."""
    kind: str
    """Content type; empty where there is no body."""
    body: Any

    @classmethod
    def read(cls, method: str, address: str, headers: Mapping[str, str], body: Any) -> Call:
        """From a request as sent or as recorded; a flag of the query may be 1 or true."""
        parts = urlsplit(address)
        query = frozenset((key, {"true": "1"}.get(value, value)) for key, value in parse_qsl(parts.query))
        kind = "" if body is None else headers.get("Content-Type", "").partition(";")[0]
        scheme = headers.get("Authorization", "").partition(" ")[0]
        return cls(method, parts.path.rstrip("/"), query, scheme, kind, body)

    @property
    def line(self) -> str:
        return f"{self.method} {self.path}"

    def unlike(self, other: Call) -> list[str]:
        """How this differs from a recorded one; of the values in the body only the kinds count."""
        names = ("method", "path", "query", "scheme", "kind")
        found = [name for name in names if getattr(self, name) != getattr(other, name)]
        return found + unlike(self.body, other.body)


def unlike(sent: Any, recorded: Any, at: str = "body") -> list[str]:
    """How the shape of JSON differs: '+key' only ours, '-key' only recorded, '~key' of another kind.

    Each element of a list is compared with the first recorded one.
    """
    if isinstance(sent, dict) and isinstance(recorded, dict):
        only = [f"+{at}.{k}" for k in sorted(sent.keys() - recorded.keys())]
        only += [f"-{at}.{k}" for k in sorted(recorded.keys() - sent.keys())]
        both = sorted(sent.keys() & recorded.keys())
        return only + [difference for k in both for difference in unlike(sent[k], recorded[k], f"{at}.{k}")]
    if isinstance(sent, list) and isinstance(recorded, list):
        if not sent or not recorded:
            return [] if sent == recorded else [f"~{at}"]
        return sorted({difference for one in sent for difference in unlike(one, recorded[0], at)})
    return [] if _kind(sent) == _kind(recorded) else [f"~{at}"]


def _kind(value: Any) -> str:
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


class RecordedLabelStudio(httpx.BaseTransport):
    """Answers what was recorded to the recorded method, path and query; any other request is an AssertionError."""

    def __init__(self, shared: Path) -> None:
        self.sent: list[Call] = []
        self._folder = shared / FOLDER
        self._answers: dict[tuple[Any, ...], list[tuple[int, Any]]] = {}

    def exchange(self, name: str) -> Any:
        return json.loads((self._folder / f"{name}.json").read_text())

    def body(self, name: str) -> Any:
        """Of the recorded answer."""
        return self.exchange(name)["response"]["body"]

    def call(self, name: str) -> Call:
        """The recorded request."""
        request = self.exchange(name)["request"]
        return Call.read(request["method"], request["path"], request.get("headers", {}), request["body"])

    def plays(self, *names: str) -> None:
        """Let these exchanges happen; after the last answer to one request that answer stays."""
        for name in names:
            call, answer = self.call(name), self.exchange(name)["response"]
            self._add((call.method, call.path, call.query), answer["status"], answer["body"])

    def says(self, line: str, body: Any, status: int = 200) -> None:
        """An answer of our own, where none was recorded; to 'METHOD /path' whatever the query, if it names none."""
        method, address = line.split()
        call = Call.read(method, address, {}, None)
        self._add((method, call.path, call.query) if call.query else (method, call.path), status, body)

    def _add(self, key: tuple[Any, ...], status: int, body: Any) -> None:
        self._answers.setdefault(key, []).append((status, body))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        content = request.read()
        body = json.loads(content) if content else None
        headers = {name.title(): value for name, value in request.headers.items()}
        call = Call.read(request.method, str(request.url), headers, body)
        self.sent.append(call)
        exact = (call.method, call.path, call.query)
        answers = self._answers.get(exact) or self._answers.get(exact[:2])
        assert answers, f"no exchange was recorded for {call.line} {sorted(call.query)}"
        status, found = answers.pop(0) if len(answers) > 1 else answers[0]
        return httpx.Response(status, request=request) if status == 204 else httpx.Response(status, json=found)

    def writes(self) -> list[str]:
        return [call.line for call in self.sent if call.method != "GET"]

    def differences(self, name: str) -> list[str]:
        """How the one request of ours with this recorded method and path differs from it."""
        recorded = self.call(name)
        ours = [call for call in self.sent if call.line == recorded.line]
        assert ours, f"no request {recorded.line} was made"
        assert all(call == ours[0] for call in ours), f"requests {recorded.line} differ among themselves"
        return ours[0].unlike(recorded)
