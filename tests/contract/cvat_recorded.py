"""The recorded exchanges with CVAT 2.73: finding them, reading them, and how an answer differs from one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = "contracts/cvat"
# Fields whose value is one of a few words; an answer to a write must have the recorded word.
WORDS = frozenset({"state", "stage", "status", "type", "source", "role", "mode", "dimension", "media_type", "event"})
# Fields that are null in some objects of a list and not in others, whatever was recorded.
NULLABLE = frozenset({"format"})


def folder() -> Path | None:
    """Where the recordings are; None where this machine has none."""
    shared = os.environ.get("HARDFIRST_SHARED", str(Path(__file__).resolve().parents[3] / "shared"))
    found = Path(shared) / FOLDER
    return found if found.is_dir() else None


def names(kind: str) -> list[str]:
    """The recordings of "http" (as area/step) or "webhook_events"; one word where there are none, for a skip."""
    root = folder()
    if root is None:
        return ["not-here"]
    files = sorted((root / kind).rglob("*.json"))
    return [str(file.relative_to(root / kind).with_suffix("")) for file in files]


@dataclass(frozen=True)
class Exchange:
    """One request as it was sent and what CVAT answered; header names in lower case."""

    name: str
    step: str
    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: Any
    status: int
    answer: Any
    kind: str
    answer_headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, name: str) -> Exchange:
        """By its area/step name; AssertionError where the recordings are not here."""
        root = folder()
        assert root is not None, "the recorded exchanges are not here"
        found = json.loads((root / "http" / f"{name}.json").read_text())
        query = [(key, value) for key, value in found["query"]]
        headers = found["response_headers"]
        return cls(
            name=name,
            step=found["step"],
            method=found["method"],
            path=found.get("raw_path", found["path"]),
            query=query,
            headers=found["request_headers"],
            body=found["request_body"],
            status=found["status"],
            answer=found["response_body"],
            kind=headers.get("content-type", "").partition(";")[0],
            answer_headers=headers,
        )

    @property
    def place(self) -> str:
        """The step and its number in it: "upload_data_local_3"."""
        return Path(self.name).name.partition("__")[0]

    @property
    def awaits(self) -> bool:
        """Whether the client asked a background request until it had ended."""
        return self.path.startswith("/api/requests/") and self.answer.get("status") in ("finished", "failed")

    @property
    def is_write(self) -> bool:
        return self.method not in ("GET", "HEAD")


def event(name: str) -> dict[str, Any]:
    """A recorded webhook call: request_headers, raw_body, body."""
    root = folder()
    assert root is not None, "the recorded webhook calls are not here"
    found: dict[str, Any] = json.loads((root / "webhook_events" / f"{name}.json").read_text())
    return found


def unlike(ours: Any, recorded: Any, at: str = "body") -> list[str]:
    """How the shape of JSON differs: '+key' only ours, '-key' only recorded, '~key' of another type.

    Each element of our list must be like one of the recorded elements; an empty list is like any list.
    """
    if isinstance(ours, dict) and isinstance(recorded, dict):
        only = [f"+{at}.{key}" for key in sorted(ours.keys() - recorded.keys())]
        only += [f"-{at}.{key}" for key in sorted(recorded.keys() - ours.keys())]
        both = sorted(ours.keys() & recorded.keys() - NULLABLE)
        return only + [one for key in both for one in unlike(ours[key], recorded[key], f"{at}.{key}")]
    if isinstance(ours, list) and isinstance(recorded, list):
        if not recorded:
            return []
        best = [min((unlike(one, other, f"{at}[]") for other in recorded), key=len) for one in ours]
        return sorted({one for differences in best for one in differences})
    return [] if _type(ours) == _type(recorded) else [f"~{at}: {_type(ours)}, recorded {_type(recorded)}"]


def _type(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return type(value).__name__
    return "number" if isinstance(value, int | float) else type(value).__name__


def other_words(ours: Any, recorded: Any, at: str = "body") -> list[str]:
    """Fields of WORDS whose value is not the recorded one."""
    if isinstance(ours, list) and isinstance(recorded, list):
        pairs = enumerate(zip(ours, recorded, strict=False))
        return [one for n, (left, right) in pairs for one in other_words(left, right, f"{at}[{n}]")]
    if not (isinstance(ours, dict) and isinstance(recorded, dict)):
        return []
    return [one for key in sorted(ours.keys() & recorded.keys()) for one in _words(key, ours, recorded, at)]


def _words(key: str, ours: dict[str, Any], recorded: dict[str, Any], at: str) -> Iterator[str]:
    left, right = ours[key], recorded[key]
    if isinstance(left, str) and key in WORDS and left != right:
        yield f"{at}.{key}: {left!r}, recorded {right!r}"
    yield from other_words(left, right, f"{at}.{key}")
