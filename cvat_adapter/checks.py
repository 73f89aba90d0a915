"""What `hardfirst doctor` looks at in CVAT. Only reads; what may be put right is in ``Finding.mend``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from common.config import Settings
from common.doctor.findings import nothing, of_error, ok, parted, problem, warning
from common.doctor.reach import address, clock, in_container, is_loopback, reach
from common.errors import HardfirstError, PlatformError
from common.ports import Finding, Patient
from cvat_adapter import advice, rights, webhook
from cvat_adapter import client as cvat
from cvat_adapter.reading import Reader
from cvat_adapter.rights import Standing

RECENT = 20
"""Deliveries of the webhook that are looked at, the newest."""


@dataclass(frozen=True)
class Case:
    """One project under examination.

    Attributes:
        api: CVAT, in the project's organization.
        reader: Of the project.
        standing: Who we are there.
        hooks: The project's webhooks, as CVAT gives them.
        patient: As the doctor knows it.
    """

    api: cvat.Api
    reader: Reader
    standing: Standing
    hooks: list[dict[str, Any]]
    patient: Patient
    settings: Settings

    @property
    def url(self) -> str:
        """Where CVAT calls us."""
        return webhook.target(self.settings.public_url)

    @property
    def hook(self) -> webhook.Hook | None:
        """Our webhook."""
        return webhook.find(self.hooks, self.url, (self.patient.state.get("hook") or {}).get("id"))

    @property
    def connect(self) -> str:
        """The command that connects it."""
        return f"`hardfirst connect cvat --project {self.patient.project}`"


def examine(settings: Settings, patients: Sequence[Patient]) -> list[Finding]:
    """See ``common.ports.CheckedPlugin.checks``."""
    api = cvat.open_api(settings)
    try:
        got = reach(f"{api.base}/api/server/about")
        good = got.status == 200 and '"version"' in got.body
        found = [address("CVAT", "CVAT_URL", api.base, got, good=good, container=in_container()), clock(got)]
        if not good:
            return found
        found.append(_token(api))
        if found[-1].state == "problem":
            return found
        return found + [f for p in patients for f in _project(api, settings, p)]
    finally:
        api.close()


def _token(api: cvat.Api) -> Finding:
    """CVAT takes the token, and it may write."""
    try:
        ends = rights.token(api)
        me = api.get("api/users/self", what="say who we are")
    except HardfirstError as error:
        return of_error("token", error)
    how = "the access token" if api.has_token else "user name and password"
    until = f", until {ends:%Y-%m-%d}" if ends else ""
    return ok("token", f"CVAT takes {how} of {me['username']!r}{until}")


def _project(api: cvat.Api, settings: Settings, p: Patient) -> Iterator[Finding]:
    if not p.project.isdecimal():
        fix = "give the number in CVAT's address, as in cvat:5"
        yield problem("rights", f"project {p.project!r} is no number", fix, p.project)
        return
    try:
        standing = rights.look(api, p.project, (p.state.get("options") or {}).get("org"))
        api.organization = standing.organization
        rows = api.pages("api/webhooks", {"project_id": p.project}, what=f"list the webhooks of project {p.project}")
        hooks = [row for row in rows if str(row.get("project_id")) == p.project]
    except PlatformError as error:
        yield of_error("rights", error, p.project)
        return
    finally:
        api.organization = None
    where = f"organization {standing.organization!r}" if standing.organization else "no organization"
    yield ok("rights", f"{standing.name!r} may do what it takes, in {where}", p.project)
    api.organization = standing.organization
    case = Case(api, Reader(api, p.project, settings, p.memory, p.state), standing, hooks, p, settings)
    for name, check in CHECKS.items():
        try:
            made = check(case)
        except PlatformError as error:
            made = of_error(name, error)
        yield replace(made, about=p.project)
    api.organization = None


def _advised(name: str, said: list[str], well: str) -> Finding:
    """Sentences of ``advice`` as one finding: each ends with its fix, behind the last colon."""
    if not said:
        return ok(name, well)
    both = [parted(sentence) for sentence in said]
    return warning(name, "; ".join(e for e, _ in both), "; ".join(f for _, f in both))


def _server(case: Case) -> Finding:
    """CVAT's version is one that was tried, and our token does not end soon."""
    version = "{}.{}".format(*case.standing.version)
    return _advised("server", advice.of_server(case.standing, case.api.base), f"CVAT {version}")


def _people(case: Case) -> Finding:
    """There is somebody to give jobs to."""
    count = len(case.standing.workers)
    return _advised("people", advice.of_people(case.standing), f"{count} members are workers and get jobs")


def _jobs(case: Case) -> Finding:
    """Jobs are small enough to be ranked, do not overlap, and some label can have boxes."""
    labels = case.reader.labels()
    if not labels.ids:
        has = f"its labels {', '.join(labels.others)} hold other shapes" if labels.others else "it has no labels"
        fix = f"add labels of type rectangle in CVAT, or {case.connect[:-1]} --create-labels`"
        return problem("jobs", f"no label can have boxes: {has}", fix)
    jobs, options = case.reader.jobs(), case.patient.state.get("options") or {}
    said = advice.of_project(labels, case.reader.tasks().values(), jobs, options)
    return _advised("jobs", said, f"{len(jobs)} jobs, {len(labels.ids)} labels")


def _network(case: Case) -> Finding:
    """CVAT's news can reach us: the way from the platform to hardfirst."""
    ours, theirs = urlsplit(case.url).hostname or "", urlsplit(case.api.base).hostname or ""
    if is_loopback(ours) and is_loopback(theirs):
        return ok("network", f"{case.url}: both on this machine; whether events arrive shows 'deliveries'")
    said = advice.of_webhook(None, case.url, case.api.base)
    if case.patient.answers and not said:
        return ok("network", f"{case.url} is no address of a private network")
    return _advised("network", said, f"{case.url}; hardfirst does not answer there now")


def _webhook(case: Case) -> Finding:
    """CVAT tells us what changes, with our secret."""
    hook, state = case.hook, case.patient.state
    if not case.patient.connected:
        return nothing("webhook", "the project is not connected")
    if hook is None:
        evidence = f"no webhook of the project has the address {case.url}"
        return problem("webhook", evidence, case.connect, mend=_healing(case))
    if not hook.get("is_active", True):
        return problem("webhook", "it is switched off: changes are found only by comparing", "switch it on in CVAT")
    kept = state.get("hook") or {}
    wrong = sorted(webhook.fixes(hook, case.url, list(state.get("events") or ())))
    if kept.get("id") != hook["id"] or kept.get("secret") != webhook.fingerprint(case.settings.secrets()[0]):
        wrong.append("secret")
    if wrong:
        evidence = f"{', '.join(wrong)} are not as hardfirst left them: {webhook.told(hook)}"
        return problem("webhook", evidence, case.connect, mend=_healing(case))
    return ok("webhook", webhook.told(hook))


def _orphans(case: Case) -> Finding:
    """No webhook is left of a hardfirst at another address."""
    ours = case.hook["id"] if case.hook and case.patient.connected else None
    left = [h for h in case.hooks if h["id"] != ours and _made_by_us(h)]
    if not left:
        return ok("orphan webhooks", "none")
    listed = "; ".join(f"number {h['id']}: {webhook.told(h)}" for h in left)
    fix = "if no hardfirst answers there, delete them in CVAT (the project's page, Actions, Setup webhooks)"
    return warning("orphan webhooks", f"of a hardfirst elsewhere: {listed}", fix)


def _made_by_us(hook: webhook.Hook) -> bool:
    return str(hook.get("description") or "").startswith("hardfirst:")


def _deliveries(case: Case) -> Finding:
    """What CVAT sent lately has arrived."""
    if case.hook is None or not case.patient.connected:
        return nothing("deliveries", "there is no webhook of ours")
    path, what = f"api/webhooks/{case.hook['id']}/deliveries", "list what the webhook delivered"
    rows = list(case.api.get(path, {"page_size": RECENT}, what=what).get("results") or [])
    if not rows:
        return nothing("deliveries", "nothing was sent yet")
    bad = [row for row in rows if not 200 <= int(row.get("status_code") or 0) < 300]
    if not bad:
        return ok("deliveries", f"the last {len(rows)} events arrived")
    code = int(bad[0].get("status_code") or 0)
    evidence = f"{len(bad)} of the last {len(rows)} events did not arrive, the newest with status {code}"
    made = problem if bad[0] is rows[0] else warning
    if code == 401:
        return made("deliveries", f"{evidence}: the secret is wrong", case.connect)
    return made(
        "deliveries",
        evidence,
        "start `hardfirst serve`, set HARDFIRST_URL to an address that CVAT's containers reach, and allow private "
        f"addresses in CVAT's SMOKESCREEN_OPTS; then {case.connect}",
    )


def _healing(case: Case) -> Callable[[], str]:
    """What the worker does at its next comparison, done now."""

    def heal() -> str:
        with case.patient.port() as port:
            drifts = port.drift(case.patient.version)
        return "; ".join(d.what for d in drifts if d.healed) or "it was right again already"

    return heal


CHECKS: dict[str, Callable[[Case], Finding]] = {
    "server": _server,
    "people": _people,
    "jobs": _jobs,
    "network": _network,
    "webhook": _webhook,
    "orphan webhooks": _orphans,
    "deliveries": _deliveries,
}
"""Every check of one project, in the order of the report; before them come ``FIRST``."""
FIRST = ("address", "clock", "token", "rights")
"""Checks of CVAT itself, and whether the project may be read and written."""
