"""The one webhook of a project that is hardfirst's: what it must be, and what is to change. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

PATH = "/webhooks"
"""Where we take them, below HARDFIRST_URL."""
WANTED = (
    *("update:job", "create:job", "delete:job", "create:task", "update:task", "delete:task", "update:project"),
    "completed:request[create:task]",
)
"""Events that tell that something changed; the last one only CVAT 2.73 and later know."""
KEPT = ("target_url", "events", "is_active", "content_type")
"""What we set in a webhook that was there before, and give back."""

Hook = Mapping[str, Any]


def target(public_url: str) -> str:
    """The address that CVAT calls."""
    return public_url.rstrip("/") + PATH


def known(body: Any) -> list[str]:
    """Names in CVAT's list of events: texts, since 2.73 objects."""
    rows = body.get("events", []) if isinstance(body, Mapping) else []
    return [str(row["key"]) if isinstance(row, Mapping) else str(row) for row in rows]


def wanted(events: Collection[str]) -> list[str]:
    """Those of ``WANTED`` that this CVAT knows; an unknown one would be refused."""
    return sorted(event for event in WANTED if event in events)


def find(hooks: Iterable[Hook], url: str, ours: int | None) -> Hook | None:
    """The webhook of number ``ours``, else the one that calls ``url``."""
    rows = list(hooks)
    here = [row for row in rows if same(str(row.get("target_url", "")), url)]
    return next((row for row in rows if row["id"] == ours), here[0] if here else None)


def same(one: str, other: str) -> bool:
    """Whether two addresses are one; a slash at the end counts for nothing."""
    return one.rstrip("/") == other.rstrip("/")


def fixes(hook: Hook, url: str, events: Sequence[str]) -> dict[str, Any]:
    """Fields to change so that ``hook`` tells us everything; {} = none. More events than needed may stay."""
    found: dict[str, Any] = {}
    if not same(str(hook.get("target_url", "")), url):
        found["target_url"] = url
    if not set(events) <= set(hook.get("events") or ()):
        found["events"] = list(events)
    if hook.get("content_type") != "application/json":
        found["content_type"] = "application/json"
    return found


def told(hook: Hook) -> str:
    """A webhook in words for people."""
    active = "" if hook.get("is_active", True) else ", switched off"
    return f"{hook.get('target_url')} for {', '.join(sorted(hook.get('events') or ())) or 'nothing'}{active}"


def fingerprint(secret: str) -> str:
    """Enough of a hash to tell whether CVAT still has this secret, which it never shows; too little to find it."""
    return hashlib.sha256(secret.encode()).hexdigest()[:8]
