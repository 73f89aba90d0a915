"""The sibling project of the queue tasks: same organization, same labels, so that no export counts an image twice."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from common.errors import PlatformError, PlatformUnreachableError
from cvat_adapter import webhook, wire
from cvat_adapter.label_twins import Twins, missing, pairs, renames, specification
from cvat_adapter.listening import Listening, Saver
from cvat_adapter.nouns import Labels

if TYPE_CHECKING:
    from common.config import Settings
    from cvat_adapter.client import Api

SUFFIX = " (hardfirst queue)"
HOOK, LABELS = "sibling_hook", "sibling_labels"
"""In ``state``."""
_MOST_OF_TITLE = 200  # names of CVAT end at 256 characters

Json = dict[str, Any]

log = logging.getLogger(__name__)


class QueueProject:
    """The project that holds the queue tasks of another one.

    ``state`` holds: ``sibling`` (its id), ``sibling_hook`` (see ``Listening``), ``sibling_labels`` (see ``pairs``).
    """

    def __init__(self, project: str, api: Api, settings: Settings, state: dict[str, Any], save: Saver) -> None:
        """Sends nothing. ``project`` is the id of the project that the frames come from."""
        self._project, self._api, self._settings = project, api, settings
        self._state, self._save = state, save

    @property
    def id(self) -> int | None:
        """CVAT's, None while there is none."""
        found = self._state.get("sibling")
        return int(found) if found else None

    def title(self) -> str:
        """Name of the project that the frames come from."""
        return str(self._raw(self._project)["name"])

    def ensure(self) -> int:
        """The id of the project, made where there is none, with every label the source has now."""
        source = self._raw(self._project)
        if self.id is None or self._is_gone():
            # By name and address: what a crash kept us from writing down, or an earlier connection left.
            name, link = source["name"][:_MOST_OF_TITLE] + SUFFIX, f"{self._api.base}/projects/{self._project}"
            self._keep("sibling", self._found(name, link) or self._made(name, link))
        self._match_labels()
        self._listen()
        return int(self._state["sibling"])

    def tasks(self) -> list[Json]:
        """Its tasks as CVAT lists them."""
        what = f"list the tasks of project {self.id}"
        return list(self._api.pages("api/tasks", {"project_id": self.id}, what=what)) if self.id else []

    def labels(self) -> Labels:
        """Its labels that boxes can have: the ids that shapes in queue jobs need."""
        return wire.labels(list(self._labels(str(self.id))))

    def twins(self) -> Twins:
        """Its labels -> those of the source."""
        here, source, _ = self._match_labels()
        return Twins.of(here, source)

    def mend(self) -> list[str]:
        """Put back what is no longer as we left it: names of labels, and the webhook where we had one; in words."""
        if self.id is None or self._is_gone():
            return []
        told = self._match_labels()[2]
        return told + (self._listen() if HOOK in self._state else [])

    def delete(self) -> None:
        """Delete it with all of its tasks; harmless when it is gone."""
        if self.id is not None and not self._is_gone():
            self._api.send("DELETE", f"api/projects/{self.id}", what=f"delete project {self.id}")
        self.forget()

    def unlisten(self) -> None:
        """Delete the webhook; harmless when it is gone."""
        hook = self._state.pop(HOOK, None)
        if hook:
            self._api.try_send("DELETE", f"api/webhooks/{hook['id']}", what=f"delete webhook {hook['id']}")
            self._save(self._state)

    def forget(self) -> None:
        """Its ids; it stays where it is."""
        for key in ("sibling", HOOK, LABELS):
            self._state.pop(key, None)
        self._save(self._state)

    def _keep(self, key: str, value: Any) -> None:
        self._state[key] = value
        self._save(self._state)

    def _raw(self, project: str) -> Json:
        found: Json = self._api.get(f"api/projects/{project}", what=f"read project {project}", gone=project)
        return found

    def _labels(self, project: str) -> Iterator[Json]:
        return self._api.pages("api/labels", {"project_id": project}, what=f"read the labels of project {project}")

    def _is_gone(self) -> bool:
        status, _ = self._api.try_send("GET", f"api/projects/{self.id}", what=f"look at project {self.id}")
        if status == 404:
            self.forget()
        return status == 404

    def _found(self, name: str, link: str) -> int | None:
        wanted = json.dumps({"==": [{"var": "name"}, name]})
        rows = self._api.pages("api/projects", {"filter": wanted}, what=f"look for project {name!r}")
        return next((int(r["id"]) for r in rows if r["name"] == name and r["bug_tracker"] == link), None)

    def _made(self, name: str, link: str) -> int:
        labels = [specification(raw) for raw in self._labels(self._project)]
        body = {"name": name, "bug_tracker": link, "labels": labels}
        return int(self._api.send("POST", "api/projects", body, what=f"create project {name!r}")["id"])

    def _match_labels(self) -> tuple[list[Json], list[Json], list[str]]:
        """Give it each label of the source by its name of today; a renamed one is known by its id.

        Returns:
            Its labels, those of the source, and what was changed, in words.
        """
        source, here = list(self._labels(self._project)), list(self._labels(str(self.id)))
        steps = renames(source, here, self._state.get(LABELS) or {})
        for number, name in steps:
            what = f"rename label {number} of project {self.id} to {name!r}"
            self._api.send("PATCH", f"api/labels/{number}", {"name": name}, what=what)
        named = dict(steps)
        lacking = missing(source, [{**raw, "name": named.get(raw["id"], raw["name"])} for raw in here])
        if lacking:
            what = f"give project {self.id} the labels of project {self._project}"
            self._api.send("PATCH", f"api/projects/{self.id}", {"labels": lacking}, what=what)
        if steps or lacking:
            here = list(self._labels(str(self.id)))
        if (found := pairs(source, here)) != self._state.get(LABELS):
            self._keep(LABELS, found)
        told = [f"labels of project {self.id} were named as those of project {self._project}"] if steps else []
        return here, source, told

    def _listen(self) -> list[str]:
        """Where CVAT allows us no webhook, answers are seen at the next comparison: slower, nothing is lost."""
        about = "told what changes in the queue tasks"
        ours = Listening(str(self.id), self._api, self._settings, self._state, self._save, key=HOOK, about=about)
        known = self._state.get("events") or [e for e in webhook.WANTED if not e.startswith("completed")]
        try:
            healed = ours.heal(known)
        except PlatformUnreachableError:
            raise
        except PlatformError as error:
            log.warning("no webhook for the queue tasks, answers are seen later: %s", error)
            return []
        return [healed] if healed else []
