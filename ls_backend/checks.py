"""What `hardfirst doctor` looks at in Label Studio. Only reads; what may be put right is in ``Finding.mend``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import httpx

from common.config import SECRET_HEADER, Settings
from common.doctor.findings import nothing, of_error, ok, parted, problem, warning
from common.doctor.reach import address, clock, in_container, is_private, reach
from common.errors import AccessDeniedError, HardfirstError, PlatformError, UnsupportedProjectError
from common.ports import Finding, Patient
from ls_backend import label_config, refusals, tokens
from ls_backend.client import Api, open_platform
from ls_backend.connection import Connection
from ls_backend.snapshot import SAMPLING, Snapshot, same, told

NAME = "label-studio"


@dataclass(frozen=True)
class Case:
    """One project under examination.

    Attributes:
        now: The project as Label Studio has it.
        patient: As the doctor knows it.
        private: Whether HARDFIRST_URL is an address that Label Studio refuses by default.
        delete: Deletes webhooks by their ids, over a connection of its own.
    """

    now: Snapshot
    patient: Patient
    settings: Settings
    private: bool
    delete: Callable[[Sequence[int]], None]

    @property
    def id(self) -> str:
        """The project's."""
        return self.patient.project

    @property
    def connect(self) -> str:
        """The command that connects it."""
        return f"`hardfirst connect {NAME} --project {self.id}`"


def examine(
    settings: Settings, patients: Sequence[Patient], *, transport: httpx.BaseTransport | None = None
) -> list[Finding]:
    """See ``common.ports.CheckedPlugin.checks``; ``transport`` instead of the network, for tests."""
    try:
        open_platform("1", settings, {}, transport=transport).close()
    except AccessDeniedError as error:
        return [of_error("token", error)]
    base = str(settings.label_studio_url).strip().rstrip("/")
    got = reach(f"{base}/health", transport=transport)
    good = got.status == 200 and '"UP"' in got.body
    found = [
        address("Label Studio", "LABEL_STUDIO_URL", base, got, good=good, container=in_container()),
        clock(got),
    ]
    if not good:
        return found
    with _opened(settings, transport) as api:
        token = _token(api, settings)
        found.append(token)
        if token.state == "problem":
            return found
        return found + [f for p in patients for f in _project(api, settings, p, transport)]


@contextmanager
def _opened(settings: Settings, transport: httpx.BaseTransport | None) -> Iterator[Api]:
    base, key = str(settings.label_studio_url).strip().rstrip("/"), settings.label_studio_api_key
    api = Api(base, tokens.checked(key.get_secret_value() if key else ""), transport=transport)
    try:
        yield api
    finally:
        api.close()


def _token(api: Api, settings: Settings) -> Finding:
    """The token is of a kind that lasts, and Label Studio takes it."""
    key = settings.label_studio_api_key
    kind = "personal access token" if key and tokens.is_personal(key.get_secret_value().strip()) else "legacy token"
    try:
        api.get("api/current-user/whoami", {}, what="say who we are", right="")
    except HardfirstError as error:
        return of_error("token", error)
    return ok("token", f"Label Studio takes the {kind}")


def _project(api: Api, settings: Settings, p: Patient, transport: httpx.BaseTransport | None) -> Iterator[Finding]:
    def delete(ids: Sequence[int]) -> None:
        with _opened(settings, transport) as fresh:
            for row in ids:
                fresh.delete("webhooks", row, right="webhooks.change")

    if not p.project.isdecimal():
        fix = "give the number in Label Studio's address, as in label-studio:5"
        yield problem("rights", f"project {p.project!r} is no number", fix, p.project)
        return
    connection = Connection(p.project, api, settings, dict(p.state), lambda _state: None)
    try:
        now = connection.look()
    except PlatformError as error:
        yield of_error("rights", error, p.project)
        return
    yield ok("rights", f"the token reads {now.project.get('title')!r}, its backends, webhooks and tabs", p.project)
    case = Case(now, p, settings, is_private(urlsplit(now.url).hostname or ""), delete)
    for check in CHECKS.values():
        yield replace(check(case), about=p.project)


def _config(case: Case) -> Finding:
    """The label config is of a kind that is served."""
    try:
        spec = label_config.parse(case.now.project.get("label_config") or "")
    except UnsupportedProjectError as error:
        return of_error("label config", error)
    return ok("label config", f"boxes of {len(spec.classes)} classes on one image")


def _backend(case: Case) -> Finding:
    """Label Studio lists us and reaches us: the way from the platform to hardfirst."""
    row, url = case.now.backend, case.now.url
    if row is None:
        if not case.patient.connected:
            return nothing("backend", "the project is not connected")
        others = ", ".join(f"{b['title']!r} at {b['url']}" for b in case.now.others)
        evidence = f"no ML backend has the address {url}" + (f"; there is {others}" if others else "")
        return problem("backend", evidence, f"{case.connect}, or correct HARDFIRST_URL")
    if row.get("state") in ("CO", "TR", "PR"):
        return ok("backend", f"Label Studio reaches hardfirst at {url}")
    said = refusals.words(row.get("error_message") or row.get("readable_state") or row.get("state") or "")
    evidence = f"Label Studio does not reach hardfirst at {url} ({said})"
    if not case.patient.answers:
        return problem("backend", evidence, "start `hardfirst serve`")
    user = case.settings.basic_auth_user or ""
    if case.settings.authenticated and (row.get("auth_method") != "BASIC_AUTH" or row.get("basic_auth_user") != user):
        fix = "give the backend BASIC_AUTH_USER and BASIC_AUTH_PASS in the project's settings, under Model"
        return problem("backend", f"{evidence}: it does not send user name and password", fix)
    return problem(
        "backend",
        evidence,
        "see 'private addresses'; else set HARDFIRST_URL to an address that Label Studio's machine reaches: in one "
        "compose network the service's name, such as http://hardfirst:9090, from a container to the machine around "
        f"it http://host.docker.internal:{case.settings.port}; then {case.connect}",
    )


def _private(case: Case) -> Finding:
    """Label Studio calls private addresses only when both of its settings allow it."""
    row, url = case.now.backend, case.now.url
    if not case.private:
        return ok("private addresses", f"{url} is a public address")
    evidence, fix = parted(str(refusals.refused_address(url)))
    if row is None:
        said = f"{url} is a private address, which Label Studio refuses by default; it shows once connected"
        return warning("private addresses", said, fix)
    if row.get("state") in ("CO", "TR", "PR") and case.now.hook is None:
        told = f"Label Studio reaches {url}, a private address, but has no webhook there, which it may have refused"
        return warning("private addresses", told, fix)
    if row.get("state") in ("CO", "TR", "PR"):
        return ok("private addresses", f"Label Studio calls {url}, a private address (webhooks: see 'events')")
    if refusals.is_reserved_address(403, row.get("error_message") or ""):
        return problem("private addresses", evidence, fix)
    if case.patient.answers:  # Label Studio keeps no reason
        told = (
            f"Label Studio does not reach {url}, a private address, which it refuses by default; from here it answers"
        )
        return problem("private addresses", told, fix)
    return nothing("private addresses", "nothing can be said while hardfirst does not answer")


def _webhook(case: Case) -> Finding:
    """Label Studio tells us what changes, with our secret."""
    now, hook = case.now, case.now.hook
    if not case.patient.connected:
        return nothing("webhook", "the project is not connected")
    if now.hook_is_right:
        return ok("webhook", told(hook))
    if hook is None:
        evidence = f"no webhook has the address {now.hook_url}"
    elif (hook.get("headers") or {}).get(SECRET_HEADER) != now.secret:
        evidence = f"the webhook carries no secret, or another one: {told(hook)}"
    else:
        evidence = f"the webhook is {told(hook)}; it must be {told(now.wanted_hook)}"
    return problem("webhook", evidence, case.connect, mend=_healing(case))


def _orphans(case: Case) -> Finding:
    """No webhook is left of a hardfirst, or a backend, that is no longer there."""
    now, current = case.now, case.now.hook
    if current is not None and now.backend is None and not case.patient.connected:
        current = None
    rest = [h for h in now.webhooks if current is None or h["id"] != current["id"]]
    secrets = case.settings.secrets()
    ours = [h for h in rest if (h.get("headers") or {}).get(SECRET_HEADER) in secrets or same(h["url"], now.hook_url)]
    if ours:
        ids = [h["id"] for h in ours]

        def mend() -> str:
            case.delete(ids)
            return f"deleted {len(ids)} webhooks that were ours: {', '.join(map(str, ids))}"

        listed = "; ".join(told(h) for h in ours)
        fix = "delete them in the project's settings, under Webhooks"
        return problem("orphan webhooks", f"ours, and no longer used: {listed}", fix, mend=mend)
    homes = [b["url"].rstrip("/") + "/webhook" for b in now.backends]
    left = [h for h in rest if h["url"].rstrip("/").endswith("/webhook") and not any(same(h["url"], u) for u in homes)]
    if left:
        listed = "; ".join(told(h) for h in left)
        fix = "if nothing needs them, delete them in the project's settings, under Webhooks: each answer waits for them"
        return warning("orphan webhooks", f"of ML backends that are not listed: {listed}", fix)
    return ok("orphan webhooks", "none")


def _version(case: Case) -> Finding:
    """The project's model version is the active publication; the backend's title would make the order random."""
    value, wanted = case.now.project.get("model_version") or "", case.patient.version
    title = (case.now.backend or {}).get("title")
    if not case.patient.connected:
        return nothing("model version", "the project is not connected")
    if value and value == title and value != wanted:
        evidence = f"model_version is {value!r}, the title of the backend: the order is random, and nothing says so"
        fix = f"choose {wanted!r} in the project's settings" if wanted else "choose no model version there"
        return problem("model version", evidence, fix, mend=_healing(case))
    if wanted is None:
        return nothing("model version", "no queue was published yet")
    if value == wanted:
        return ok("model version", value)
    if value and value == case.patient.coming:
        return ok("model version", f"{value}, which takes over from {wanted} at this moment")
    evidence, fix = f"model_version is {value!r}, hardfirst left {wanted!r}", f"choose {wanted!r} in its settings"
    return problem("model version", evidence, fix, mend=None if value else _healing(case))


def _sampling(case: Case) -> Finding:
    """Tasks are served by our order, with our boxes."""
    if not case.patient.connected or case.patient.version is None:
        return nothing("sampling", "it is set with the first queue")
    sampling = case.now.project.get("sampling")
    if sampling != SAMPLING:
        evidence = f"sampling is {sampling!r}: annotators do not get hardfirst's order"
        return problem("sampling", evidence, "choose 'Uncertainty sampling' in the project's settings, or disconnect")
    if not case.now.project.get("show_collab_predictions"):
        fix = "switch 'Use predictions to prelabel' on in the project's settings, under Annotation, or disconnect"
        return problem("sampling", "predictions are not shown to annotators", fix)
    return ok("sampling", f"{sampling}, with predictions shown")


def _healing(case: Case) -> Callable[[], str]:
    """What the worker does at its next comparison, done now."""

    def heal() -> str:
        with case.patient.port() as port:
            drifts = port.drift(case.patient.version)
        healed = [d.what for d in drifts if d.healed]
        return "; ".join(healed) or "it was right again already"

    return heal


CHECKS: dict[str, Callable[[Case], Finding]] = {
    "label config": _config,
    "backend": _backend,
    "private addresses": _private,
    "webhook": _webhook,
    "orphan webhooks": _orphans,
    "model version": _version,
    "sampling": _sampling,
}
"""Every check of one project, in the order of the report; before them come ``FIRST``."""
FIRST = ("address", "clock", "token", "rights")
"""Checks of Label Studio itself, and whether the project may be read."""
