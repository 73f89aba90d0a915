"""Connect, activate, disconnect: what hardfirst sets in one Label Studio project, and how it is put back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from common.config import Settings
from common.errors import AccessDeniedError, NotListedError, PlatformError, PlatformUnreachableError
from common.ports import Change
from ls_backend import refusals
from ls_backend.snapshot import HOOK, OWN, SAMPLING, TAB, TITLE, VIEW, Snapshot, same, told

if TYPE_CHECKING:
    from ls_backend.client import Api

Saver = Callable[[dict[str, Any]], None]
"""Keeps the state; called before each write that must be undoable."""


class Connection:
    """The settings of one project that are hardfirst's while it is connected.

    ``state`` holds: ``before`` (settings, ids of what existed, and our webhook if it did), ``beside`` (other
    backends that ``replace`` accepted), ``set`` (what ``activate`` left). What we made is what is ours by address or
    title and was not there before: so a crash between a write and its record loses nothing.
    """

    def __init__(self, project: str, api: Api, settings: Settings, state: dict[str, Any], save: Saver) -> None:
        self.id, self.state, self.save = project, state, save
        self._api, self._settings = api, settings

    # --- reading -----------------------------------------------------------------------------------------

    def project(self) -> dict[str, Any]:
        """The project as Label Studio has it."""
        found: dict[str, Any] = self._get(f"api/projects/{self.id}/", {}, "read", "projects.view")
        return found

    def _get(self, path: str, params: Mapping[str, Any], what: str, right: str) -> Any:
        return self._api.get(path, params, what=f"{what} project {self.id}", right=right, gone=self.id)

    def _backends(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._get("api/ml", self._of, "list the ML backends of", "projects.view")
        return found

    @property
    def _of(self) -> dict[str, str]:
        return {"project": self.id}

    def look(self) -> Snapshot:
        """Everything that ``connect`` touches, as it is now."""
        return Snapshot(
            project=self.project(),
            backends=self._backends(),
            webhooks=self._get("api/webhooks", self._of, "list the webhooks of", "webhooks.view"),
            views=self._get("api/dm/views", self._of, "list the Data Manager tabs of", "projects.view"),
            url=self._settings.public_url,
            secret=self._settings.secrets()[0],
        )

    # --- connect -----------------------------------------------------------------------------------------

    def connect(self, *, dry_run: bool, replace: bool, listed: bool = False) -> list[Change]:
        """Register backend, webhook and tab; sampling and model version wait for the first ``activate``.

        A backend that a person added in Label Studio's form under our address is adopted. Other backends stay
        listed as they are: with ``replace`` hardfirst takes over the order and the predictions shown, so that
        ``disconnect`` can give both back.

        Raises:
            NotListedError: ``listed`` and no backend of the project has our address.
            PlatformError: Another backend is connected and ``replace`` is false; or Label Studio cannot, or may
                not, call HARDFIRST_URL.
        """
        now = self.look()
        if listed and now.backend is None:
            raise NotListedError(
                f"no ML backend of project {self.id} has the address {self._settings.public_url}: add it there, or "
                f"run `hardfirst connect label-studio --project {self.id}`"
            )
        others = self._others(now, replace)
        changes = now.to_register()
        if "before" not in self.state:
            changes += now.to_activate()
        if dry_run:
            return changes
        self.state.setdefault("before", now.remembered())
        self.state["beside"] = others
        self.save(self.state)
        if now.backend is None:
            self._register(now)
            now = self.look()
        self._leave_version(now)
        self.repair_hook(now)
        if not now.tabs:
            self._write(lambda sdk: sdk.views.create(project=int(self.id), data=VIEW), "add a tab to")
        return changes

    def _others(self, now: Snapshot, replace: bool) -> list[int]:
        new = [b for b in now.others if b["id"] not in self.state.get("beside", [])]
        if new and not replace:
            raise PlatformError(
                f"project {self.id} already has the ML backend {new[0]['title']!r} at {new[0]['url']}: give --replace "
                "to let hardfirst take over the order and the predictions shown, or, if that is this hardfirst, set "
                "HARDFIRST_URL to that address"
            )
        return [int(b["id"]) for b in now.others]

    def _register(self, before: Snapshot) -> None:
        body: dict[str, Any] = {"project": int(self.id), "url": before.url, "title": TITLE, "is_interactive": False}
        if self._settings.basic_auth_user and self._settings.basic_auth_pass:
            body["auth_method"] = "BASIC_AUTH"
            body["basic_auth_user"] = self._settings.basic_auth_user
            body["basic_auth_pass"] = self._settings.basic_auth_pass.get_secret_value()
        what = f"add an ML backend to project {self.id}"
        try:
            status, answer = self._api.try_post("api/ml", body, what=what)
        except PlatformUnreachableError:
            self._withdraw(before)
            raise
        if status >= 300:
            self._withdraw(before)
            raise self._refused(status, answer, what)

    def _leave_version(self, now: Snapshot) -> None:
        # Label Studio makes the backend's title the model version: one without predictions, so a random order.
        then, title = self.state["before"]["project"]["model_version"] or "", (now.backend or {}).get("title")
        if "set" not in self.state and now.project.get("model_version") == title != then:
            self.set_project({"model_version": then})

    def _withdraw(self, before: Snapshot) -> None:
        """Label Studio keeps the row of a backend that it then refuses to call."""
        known = {b["id"] for b in before.backends}
        for row in self._backends():
            if row["id"] not in known and same(row["url"], before.url):
                self._api.delete("ml", row["id"], right="projects.change")

    def _refused(self, status: int, answer: Any, what: str) -> PlatformError:
        url = self._settings.public_url
        if refusals.is_reserved_address(status, answer):
            return refusals.refused_address(url)
        if status == 400:
            return refusals.unreachable_backend(url, answer)
        return refusals.refusal(status, answer, base=self._api.base, what=what, right="projects.change")

    def repair_hook(self, now: Snapshot) -> None:
        """Make our webhook as it should be."""
        hook, wanted = now.hook, now.wanted_hook
        if hook is None:
            what = "add a webhook to"
            self._write(lambda sdk: sdk.webhooks.create(project=int(self.id), **wanted), what, "webhooks.change")
        elif not now.hook_is_right:
            self._change_hook(hook["id"], wanted)

    def _change_hook(self, row: int, values: Mapping[str, Any]) -> None:
        self._write(lambda sdk: sdk.webhooks.update(row, **values), "change a webhook of", "webhooks.change")

    # --- activate ----------------------------------------------------------------------------------------

    def activate(self, version: str) -> None:
        """One PATCH: sampling, version, predictions shown.

        Raises:
            PlatformError: The project has no prediction of ``version``.
        """
        wanted = {"sampling": SAMPLING, "model_version": version, "show_collab_predictions": True}
        last = self.state.get("set") or {}
        earlier = last.get("earlier") if last.get("model_version") == version else last.get("model_version")
        self.state["set"] = {**wanted, "earlier": earlier}
        self.save(self.state)
        self.set_project(wanted)

    def set_project(self, values: Mapping[str, Any]) -> None:
        """Change settings of the project in one PATCH."""
        self._write(lambda sdk: sdk.projects.update(int(self.id), **values), "change", gone=self.id)

    def _write(self, call: Callable[[Any], Any], what: str, right: str = "projects.change", *, gone: str = "") -> None:
        self._api.write(call, what=f"{what} project {self.id}", right=right, gone=gone)

    # --- disconnect --------------------------------------------------------------------------------------

    def disconnect(self) -> list[Change]:
        """Settings back, our rows gone; a setting that a person changed since stays as it is, and is said."""
        before = self.state.get("before")
        if before is None:
            return []
        now = self.look()
        changes = self._restore_project(now, before["project"])
        changes += self._restore_hook(now, before)
        if now.backend and now.backend["id"] not in before["backends"]:
            self._api.delete("ml", now.backend["id"], right="projects.change")
            changes.append(Change("ML backend", f"{now.backend['title']!r} at {now.backend['url']}", "none"))
        for view in now.tabs:
            if view["id"] not in before["views"]:
                self._api.delete("views", view["id"], right="projects.change")
                changes.append(Change("Data Manager tab", repr(TAB), "none"))
        for key in ("before", "beside", "set"):
            self.state.pop(key, None)
        self.save(self.state)
        return changes

    def _restore_project(self, now: Snapshot, before: Mapping[str, Any]) -> list[Change]:
        ours = self.state.get("set") or {}
        mine = {key: [ours.get(key)] for key in OWN}
        mine["model_version"] += [ours.get("earlier"), (now.backend or {}).get("title"), "", None]
        changes, wanted = [], {}
        for key in OWN:
            value, then = now.project.get(key), before[key]
            if (value or "") == (then or ""):
                continue
            if value in mine[key]:
                wanted[key] = then
                changes.append(Change(key, repr(value), repr(then)))
            else:
                changes.append(Change(key, repr(value), f"{value!r}, as a person set it"))
        return self._put_back(wanted, changes)

    def _put_back(self, wanted: dict[str, Any], changes: list[Change]) -> list[Change]:
        if not wanted:
            return changes
        lost = wanted.get("model_version")
        try:
            self.set_project({**wanted, "model_version": lost or ""} if "model_version" in wanted else wanted)
        except (AccessDeniedError, PlatformUnreachableError):
            raise
        except PlatformError:
            if not lost:
                raise
            self.set_project({**wanted, "model_version": ""})
            after = f"'' (Label Studio no longer has {lost!r})"
            return [Change(c.what, c.before, after) if c.what == "model_version" else c for c in changes]
        return changes

    def _restore_hook(self, now: Snapshot, before: Mapping[str, Any]) -> list[Change]:
        changes, old = [], before["hook"]
        for hook in now.webhooks:
            if old and hook["id"] == old["id"]:
                then = {key: old[key] for key in HOOK}
                if any(hook[key] != then[key] for key in HOOK):
                    self._change_hook(hook["id"], then)
                    changes.append(Change("webhook", told(hook), told(then)))
            elif same(hook["url"], now.hook_url) and hook["id"] not in before["webhooks"]:
                self._api.delete("webhooks", hook["id"], right="webhooks.change")
                changes.append(Change("webhook", told(hook), "none"))
        return changes
