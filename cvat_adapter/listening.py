"""The webhook through which CVAT tells what changes in one project: made, kept right, put back as it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from common.errors import ProjectGoneError
from common.ports import Change
from cvat_adapter import webhook
from cvat_adapter.webhook import Hook

if TYPE_CHECKING:
    from common.config import Settings
    from cvat_adapter.client import Api

Saver = Callable[[dict[str, Any]], None]
"""Keeps the state; called before each write that must be undoable."""


class Listening:
    """The one webhook of a project that is ours: the one we know by its number, else the one with our address."""

    def __init__(
        self,
        project: str,
        api: Api,
        settings: Settings,
        state: dict[str, Any],
        save: Saver,
        *,
        key: str = "hook",
        about: str = "told what changes, so that it need not ask",
    ) -> None:
        """Sends nothing.

        Args:
            project: CVAT's id.
            api: In the project's organization.
            settings: Our address and secret.
            state: Of the port; ``state[key]`` is the webhook's number and its secret's fingerprint.
            save: Keeps the state.
            key: Under which this webhook is kept.
            about: What people read in CVAT.
        """
        self.id, self._api, self._settings = project, api, settings
        self._state, self._save, self._key, self._about = state, save, key, about

    @property
    def url(self) -> str:
        """Where CVAT calls us."""
        return webhook.target(self._settings.public_url)

    @property
    def _known(self) -> Mapping[str, Any]:
        return self._state.get(self._key) or {}

    def rows(self) -> list[dict[str, Any]]:
        """Every webhook of the project."""
        what = f"list the webhooks of project {self.id}"
        rows = self._api.pages("api/webhooks", {"project_id": self.id}, what=what)
        return [row for row in rows if str(row.get("project_id")) == self.id]

    def ours(self, rows: Sequence[Hook]) -> Hook | None:
        """The one that is ours."""
        return webhook.find(rows, self.url, self._known.get("id"))

    def fixes(self, ours: Hook, events: Sequence[str]) -> dict[str, Any]:
        """Fields that make ``ours`` right and switch it on; {} = none."""
        found = webhook.fixes(ours, self.url, events)
        if not ours.get("is_active", True):
            found["is_active"] = True
        secret = self._settings.secrets()[0]
        if self._known.get("id") != ours["id"] or self._known.get("secret") != webhook.fingerprint(secret):
            found["secret"] = secret
        return found

    def changes(self, ours: Hook | None, events: Sequence[str]) -> list[Change]:
        """What ``put`` would do."""
        if ours is None:
            return [Change("webhook", "none", webhook.told({"target_url": self.url, "events": events}))]
        fixes = self.fixes(ours, events)
        if not fixes:
            return []
        secret = ", with our secret" if "secret" in fixes else ""
        return [Change("webhook", webhook.told(ours), webhook.told({**ours, **fixes}) + secret)]

    def put(self, ours: Hook | None, events: Sequence[str]) -> None:
        """Make it, or make it right and switch it on: whoever connects wants that."""
        if ours is None:
            self._make(events)
        elif fixes := self.fixes(ours, events):
            self._change(ours["id"], fixes)

    def heal(self, events: Sequence[str]) -> str:
        """Put it back where it is gone or tells too little; one that is switched off is a person's choice.

        Returns:
            What was wrong and has been put right, '' = nothing. One request then.
        """
        ours = self.ours(self.rows())
        if ours is None:
            self._make(events)
            return f"the webhook of project {self.id} was gone; it is there again"
        if not ours.get("is_active", True) or not (fixes := self.fixes(ours, events)):
            return ""
        self._change(ours["id"], fixes)
        names = ", ".join(sorted(fixes))
        return f"{names} of project {self.id}'s webhook were not as hardfirst left them; put back"

    def restore(self, before: Mapping[str, Any]) -> list[Change]:
        """As it was before ``connect``: gone, or with the fields it had.

        Args:
            before: ``webhooks``, the numbers of those that were there; ``hook``, ours if it was among them.
        """
        ours, old = self.ours(self.rows()), before["hook"]
        if ours is None:
            return []
        if old is not None and ours["id"] == old["id"]:
            then = {key: old[key] for key in webhook.KEPT if ours.get(key) != old[key]}
            if not then:
                return []
            self._change(ours["id"], then)
            return [Change("webhook", webhook.told(ours), f"{webhook.told({**ours, **then})}, with hardfirst's secret")]
        if ours["id"] in before["webhooks"]:
            return []
        path, what = f"api/webhooks/{ours['id']}", f"delete a webhook of project {self.id}"
        with suppress(ProjectGoneError):  # 404: somebody was quicker
            self._api.send("DELETE", path, what=what, gone=self.id)
        return [Change("webhook", webhook.told(ours), "none")]

    def _make(self, events: Sequence[str]) -> None:
        secret = self._settings.secrets()[0]
        body = {
            "target_url": self.url,
            "description": f"hardfirst: {self._about}",
            "type": "project",
            "project_id": int(self.id),
            "content_type": "application/json",
            "secret": secret,
            "is_active": True,
            "enable_ssl": True,
            "events": list(events),
        }
        made = self._api.send("POST", "api/webhooks", body, what=f"add a webhook to project {self.id}")
        self._know(int(made["id"]), secret)

    def _change(self, number: int, fields: Mapping[str, Any]) -> None:
        what = f"change a webhook of project {self.id}"
        self._api.send("PATCH", f"api/webhooks/{number}", dict(fields), what=what)
        if "secret" in fields:
            self._know(number, fields["secret"])

    def _know(self, number: int, secret: str) -> None:
        self._state[self._key] = {"id": number, "secret": webhook.fingerprint(secret)}
        self._save(self._state)
