"""What one project has at one moment, compared with what hardfirst wants there. Pure: JSON in, JSON out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from common.config import SECRET_HEADER
from common.ports import Change

TITLE = "hardfirst"
TAB = "Hardest first"
SAMPLING = "Uncertainty sampling"
ACTIONS = (
    "ANNOTATION_CREATED",
    "ANNOTATIONS_CREATED",
    "ANNOTATION_UPDATED",
    "ANNOTATIONS_DELETED",
    "TASKS_CREATED",
    "TASKS_DELETED",
)
"""Without PROJECT_UPDATED: our own settings would call us in a circle."""
OWN = ("sampling", "model_version", "show_collab_predictions")
"""Project settings that are hardfirst's while it is connected."""
HOOK = ("url", "send_payload", "send_for_all_actions", "headers", "is_active", "actions")
"""A webhook is always sent whole: a PATCH that does not name ``actions`` empties them."""
VIEW: dict[str, Any] = {
    "title": TAB,
    "type": "list",
    "target": "tasks",
    "ordering": ["tasks:predictions_score"],
    "hiddenColumns": {"explore": [], "labeling": []},
    "filters": {
        "conjunction": "and",
        "items": [{"filter": "filter:tasks:total_annotations", "operator": "equal", "type": "Number", "value": 0}],
    },
}


@dataclass(frozen=True)
class Snapshot:
    """JSON as Label Studio gives it.

    Attributes:
        url: Where Label Studio reaches us.
        secret: What our webhook must carry.
    """

    project: dict[str, Any]
    backends: list[dict[str, Any]]
    webhooks: list[dict[str, Any]]
    views: list[dict[str, Any]]
    url: str
    secret: str

    @property
    def backend(self) -> dict[str, Any] | None:
        """Our row among the ML backends."""
        return next((b for b in self.backends if same(b["url"], self.url)), None)

    @property
    def others(self) -> list[dict[str, Any]]:
        """ML backends that are not ours."""
        return [b for b in self.backends if not same(b["url"], self.url)]

    @property
    def hook_url(self) -> str:
        """Where Label Studio posts events to: beside the backend, as it registers by itself."""
        return str(self.backend["url"] if self.backend else self.url).rstrip("/") + "/webhook"

    @property
    def hook(self) -> dict[str, Any] | None:
        """Our webhook."""
        return next((h for h in self.webhooks if same(h["url"], self.hook_url)), None)

    @property
    def wanted_hook(self) -> dict[str, Any]:
        """Our webhook as it should be; headers and events that a person added to it stay."""
        hook = self.hook or {}
        kept = [] if hook.get("send_for_all_actions") else hook.get("actions") or []
        return {
            "url": hook.get("url") or self.hook_url,
            "send_payload": True,
            "send_for_all_actions": False,
            "headers": {**(hook.get("headers") or {}), SECRET_HEADER: self.secret},
            "is_active": True,
            "actions": [*ACTIONS, *(a for a in kept if a not in ACTIONS)],
        }

    @property
    def hook_is_right(self) -> bool:
        """Whether our webhook is there and as it should be."""
        return self.hook is not None and not differs(self.hook, self.wanted_hook)

    @property
    def tabs(self) -> list[dict[str, Any]]:
        """Data Manager tabs with our title."""
        return [v for v in self.views if (v.get("data") or {}).get("title") == TAB]

    def remembered(self) -> dict[str, Any]:
        """What ``disconnect`` needs to know of the time before us, JSON-able."""
        return {
            "project": {key: self.project.get(key) for key in OWN},
            "backends": [b["id"] for b in self.backends],
            "webhooks": [h["id"] for h in self.webhooks],
            "views": [v["id"] for v in self.views],
            "hook": {key: self.hook[key] for key in ("id", *HOOK)} if self.hook else None,
        }

    def to_register(self) -> list[Change]:
        """What ``connect`` would do now."""
        changes = []
        if self.backend is None:
            changes.append(Change("ML backend", "none", f"{TITLE!r} at {self.url}"))
        if not self.hook_is_right:
            changes.append(Change("webhook", told(self.hook), told(self.wanted_hook)))
        if not self.tabs:
            changes.append(Change("Data Manager tab", "none", repr(TAB)))
        return changes

    def to_activate(self) -> list[Change]:
        """What the first ``activate`` will change."""
        now, wanted = self.project, {"sampling": SAMPLING, "show_collab_predictions": True}
        changes = [
            Change(key, repr(now.get(key)), f"{value!r} (with the first queue)")
            for key, value in wanted.items()
            if now.get(key) != value
        ]
        return [*changes, Change("model_version", repr(now.get("model_version")), "the version of the first queue")]


def same(one: str, other: str) -> bool:
    """Whether two addresses are one; a machine's own names are one machine."""
    return _place(one) == _place(other)


def _place(url: str) -> tuple[str, str, int | None, str]:
    parts = urlsplit(url.strip())
    host = parts.hostname or ""
    default = {"http": 80, "https": 443}.get(parts.scheme)
    local = host in ("localhost", "127.0.0.1", "::1")
    return parts.scheme, "localhost" if local else host, parts.port or default, parts.path.rstrip("/")


def differs(hook: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a webhook is not as wanted; the order of its events does not matter."""
    return any(set(hook[k] or ()) != set(wanted[k]) if k == "actions" else hook[k] != wanted[k] for k in HOOK)


def told(hook: Mapping[str, Any] | None) -> str:
    """A webhook in words; header values and a password in the address are secret, so only names."""
    if hook is None:
        return "none"
    events = "all events" if hook["send_for_all_actions"] else f"{len(hook['actions'] or [])} events"
    headers = ", ".join(sorted(hook["headers"] or {})) or "no header"
    parts = urlsplit(hook["url"])
    address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return f"{'' if hook['is_active'] else 'inactive, '}{address} ({events}, {headers})"
