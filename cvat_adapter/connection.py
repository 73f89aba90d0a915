"""Connect, disconnect, drift: what hardfirst sets in one CVAT project, and how it is put back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from common.config import Settings
from common.errors import NotListedError, SettingError, UnsupportedProjectError
from common.ports import Change, Drift, Memory
from cvat_adapter import advice, rights, webhook
from cvat_adapter.claims import QUIET_S, busy, only_assigned
from cvat_adapter.listening import Listening, Saver
from cvat_adapter.nouns import NEW, Job, Labels
from cvat_adapter.queue_book import ROUND
from cvat_adapter.ranking import AGGREGATES

if TYPE_CHECKING:
    from cvat_adapter.client import Api
    from cvat_adapter.reading import Reader

CHOICES = {"queue": ("inbox", "task"), "job_value": tuple(AGGREGATES)}
"""Option -> what it may be; the first is what it is unless told otherwise."""
USUAL = {"annotators": "every worker", **{name: allowed[0] for name, allowed in CHOICES.items()}}
"""What decides who gets which job, as it is where nobody chose."""


class Connection:
    """What is hardfirst's in one project while it is connected: the webhook, labels it created, jobs it assigned.

    ``state`` holds: ``options`` (of ``connect``), ``before`` (ids of the webhooks that existed, and ours if it did),
    ``hook`` (number and secret's fingerprint of ours), ``events`` (that ours tells), ``labels`` (names we created),
    ``mode`` (how jobs are handed out), ``organization``, ``user`` (our id and name), ``leaving`` (True from
    ``disconnect`` on). What we made is what is ours by address and was not there before: so a crash between a write
    and its record loses nothing.
    """

    def __init__(
        self,
        project: str,
        api: Api,
        reader: Reader,
        settings: Settings,
        state: dict[str, Any],
        save: Saver,
        memory: Memory | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.id, self.state, self.save = project, state, save
        self._api, self._reader, self._settings, self._memory, self._clock = api, reader, settings, memory, clock
        self._standing: rights.Standing | None = None
        self._listening = Listening(project, api, settings, state, save)
        self._api.organization = state.get("organization")

    # --- connect -----------------------------------------------------------------------------------------

    def connect(self, *, dry_run: bool, replace: bool, listed: bool = False) -> list[Change]:
        """Check rights, create missing labels where asked to, and have CVAT tell us what changes.

        A webhook that a person made with our address is adopted. ``replace`` is of no use here: webhooks stand side
        by side.

        Raises:
            NotListedError: ``listed`` and no webhook of the project has our address.
            SettingError: An option has a value that is not allowed.
            UnsupportedProjectError: No label can have boxes.
            PlatformError: CVAT does not let us; the message says what is missing.
        """
        del replace
        if listed and self._listening.ours(self._listening.rows()) is None:
            raise NotListedError(
                f"no webhook of project {self.id} has the address {self._listening.url}: add it there, or run "
                f"`hardfirst connect cvat --project {self.id}`"
            )
        options = self._options()
        standing = rights.look(self._api, self.id, options.get("org"))
        self._check_annotators(options, standing)
        self._standing, self._api.organization = standing, standing.organization
        missing = self._missing_labels(options.get("create_labels") or [])
        events = webhook.known(self._api.get("api/webhooks/events", {"type": "project"}, what="list webhook events"))
        hooks, wanted = self._listening.rows(), webhook.wanted(events)
        ours = self._listening.ours(hooks)
        changes = [
            *self._mode_changes(options),
            *self._first_work(options, standing),
            *_label_changes(missing),
            *self._listening.changes(ours, wanted),
        ]
        if not dry_run:
            self._remember(hooks, ours, standing, wanted, missing)
            self._create_labels(missing)
            self._listening.put(ours, wanted)
        return changes

    def _options(self) -> Mapping[str, Any]:
        options: Mapping[str, Any] = self.state.get("options") or {}
        for name, allowed in CHOICES.items():
            if (given := options.get(name, allowed[0])) not in allowed:
                raise SettingError(f"--{name.replace('_', '-')} is {given!r}: it must be {' or '.join(allowed)}")
        if (org := options.get("org")) is not None and not (str(org).isascii() and str(org).isprintable() and org):
            raise SettingError(f"--org is {org!r}: give the organization's short name, as CVAT shows it")
        return options

    def _check_annotators(self, options: Mapping[str, Any], standing: rights.Standing) -> None:
        names = [name.strip() for name in str(options.get("annotators") or "").split(",") if name.strip()]
        there = sorted(m.name for m in standing.members)
        for name in names:
            if standing.organization and name not in there:
                raise SettingError(
                    f"--annotators names {name!r}, who is no member of organization {standing.organization!r}; there "
                    f"are {', '.join(there)}"
                )

    def _missing_labels(self, names: list[str]) -> list[str]:
        labels: Labels = self._reader.labels()
        missing = [n for n in dict.fromkeys(names) if n not in labels.ids and n not in labels.others]
        if not labels.ids and not missing:
            has = f"its labels {', '.join(labels.others)} hold other shapes" if labels.others else "it has no labels"
            raise UnsupportedProjectError(
                f"no label of project {self.id} can have boxes ({has}): add labels of type rectangle in CVAT, or "
                "connect with --create-labels"
            )
        return missing

    def _first_work(self, options: Mapping[str, Any], standing: rights.Standing) -> list[Change]:
        """What will happen to jobs, said at the first ``connect``."""
        what = advice.of_work(standing, options, self._settings.wip)
        return [] if "before" in self.state else [Change("jobs", "as they are", what)]

    def _mode_changes(self, options: Mapping[str, Any]) -> list[Change]:
        """What a person chose otherwise than at the last ``connect``."""
        was, now = {**USUAL, **self.state.get("mode", {})}, _mode(options)
        return [Change(n.replace("_", " "), was[n], now[n]) for n in USUAL if was[n] != now[n]]

    def _remember(
        self,
        hooks: list[dict[str, Any]],
        ours: webhook.Hook | None,
        standing: rights.Standing,
        events: list[str],
        missing: list[str],
    ) -> None:
        kept = {"id": ours["id"], **{k: ours.get(k) for k in webhook.KEPT}} if ours else None
        self.state.setdefault("before", {"webhooks": [row["id"] for row in hooks], "hook": kept})
        self.state["labels"] = sorted({*self.state.get("labels", []), *missing})
        self.state |= {"organization": standing.organization, "events": events, "mode": _mode(self._options())}
        self.state["user"] = {"id": standing.user, "name": standing.name}
        if self.state.pop("leaving", False):
            self.state.pop("active", None)  # the worker's last word of the former connection
        self.save(self.state)

    def _create_labels(self, names: list[str]) -> None:
        if names:
            labels = [{"name": name, "type": "rectangle", "attributes": []} for name in names]
            what = f"create labels in project {self.id}"
            self._api.send("PATCH", f"api/projects/{self.id}", {"labels": labels}, what=what, gone=self.id)

    # --- drift and advice --------------------------------------------------------------------------------

    def drift(self, _version: str | None) -> list[Drift]:
        """Put the webhook back where it is gone or tells too little; one that is switched off is a person's choice.

        Two requests while all is well.

        Raises:
            AccessDeniedError: The token has become read-only, or our role is no longer enough.
        """
        if "before" not in self.state or self.state.get("leaving"):
            return []
        rights.token(self._api)
        healed = self._listening.heal(self.state["events"])
        return [Drift(healed, healed=True)] if healed else []

    def advice(self) -> list[str]:
        """What the person who connects should know."""
        standing = self._standing or rights.look(self._api, self.id, self._options().get("org"))
        ours = self._listening.ours(self._listening.rows())
        return [
            *advice.of_server(standing, self._api.base),
            *advice.of_people(standing),
            *advice.of_webhook(ours, self._listening.url, self._api.base),
            *advice.of_project(
                self._reader.labels(), self._reader.tasks().values(), self._reader.jobs(), self._options()
            ),
        ]

    # --- disconnect --------------------------------------------------------------------------------------

    def disconnect(self) -> list[Change]:
        """Our webhook gone, or as it was before; jobs that we assigned and nobody began are free again.

        Those of people who may have them open with unsaved edits stay theirs: CVAT would refuse what they save. Labels
        stay: shapes may use them.
        """
        before = self.state.get("before")
        if before is None:
            return []
        self.state["leaving"] = True
        self.save(self.state)
        changes = [*self._free_jobs(), *self._listening.restore(before), *self._labels_left()]
        for key in ("before", "hook", "events", "labels", "mode"):
            self.state.pop(key, None)
        self.save(self.state)
        return changes

    def _labels_left(self) -> list[Change]:
        names = ", ".join(self.state.get("labels", []))
        after = "stay, as shapes may use them; delete them in CVAT if you do not need them"
        return [Change("labels", f"{names}, created by hardfirst", after)] if names else []

    def _free_jobs(self) -> list[Change]:
        memory = self._memory
        if memory is None or not (taken := memory.all("taken")):
            return []
        jobs = {str(job.id): job for job in self._reader.jobs()}
        held = [key for key, row in taken.items() if key in jobs and jobs[key].assignee == row["user"]]
        idle = [key for key in held if _untouched(jobs[key], taken[key])]
        open_ = {key for key in idle if self._may_be_open(jobs[key], taken, jobs.values())}
        freed = [key for key in idle if key not in open_ and self._unassign(jobs[key])]
        memory.drop("slot", [key for key, row in memory.all("slot").items() if str(row.get("job")) in taken])
        memory.drop("taken", taken)
        changes = []
        if freed:
            changes.append(Change("jobs", f"{len(freed)} assigned by hardfirst and not begun", "unassigned"))
        if open_:
            stay = f"{len(open_)} assigned by hardfirst, of annotators who were at work in the last half hour"
            after = "stay with their annotators, as an open tab may hold edits; take them back in CVAT if need be"
            changes.append(Change("jobs", stay, after))
        if begun := len(held) - len(freed) - len(open_):
            stay = f"{begun} assigned by hardfirst and begun or done"
            changes.append(Change("jobs", stay, "stay with their annotators"))
        return changes

    def _may_be_open(self, job: Job, taken: Mapping[str, Any], jobs: Iterable[Job]) -> bool:
        """Whether a browser tab may hold edits of it; queue tasks would be deleted with them, so those wait longer."""
        claim, now = taken[str(job.id)], self._clock()
        ours = {int(key): str(row.get("updated") or "") for key, row in taken.items()}
        queued = self._memory is not None and str(job.task) in self._memory.all(ROUND)
        return claim["user"] in busy(jobs, ours, now) or (queued and now - float(claim["at"]) < QUIET_S)

    def _unassign(self, job: Job) -> bool:
        path, what = f"api/jobs/{job.id}", f"unassign job {job.id}"
        status, now = self._api.try_send("PATCH", path, {"assignee": None}, what=what)
        if status < 300 and now["state"] != NEW:  # begun since it was listed: it stays theirs
            self._api.try_send("PATCH", path, {"assignee": job.assignee}, what=f"leave job {job.id} with its annotator")
            return False
        return status < 300


def _mode(options: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(options.get(name) or usual) for name, usual in USUAL.items()}


def _label_changes(names: list[str]) -> list[Change]:
    return [Change("labels", f"no {', '.join(names)}", "created, of type rectangle")] if names else []


def _untouched(job: Job, claim: Mapping[str, Any]) -> bool:
    """Whether nothing happened to it since we assigned it."""
    if claim.get("updated"):  # as CVAT said it right after the assignment
        return bool(job.state == NEW and job.updated.isoformat() == claim["updated"])
    return only_assigned(job)
