"""Examine and mend: gathers the facts, runs every check, and does what is safe when asked to."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from common import compose
from common.config import Settings
from common.doctor import facts as gathering
from common.doctor import project_checks, service_checks
from common.doctor.facts import Facts, ProjectFacts, is_ours
from common.doctor.findings import nothing, of_error, problem
from common.doctor.patients import patients_of
from common.doctor.together import LateError, together
from common.errors import HardfirstError, SettingError, StoreError, UnknownNameError
from common.ports import CheckedPlugin, Finding, Patient
from common.store import Store
from common.store.look import Seen, look
from common.yolo.look import Machine


@dataclass(frozen=True)
class Wanted:
    """What to look at; '' = everything. Raises UnknownNameError and SettingError at birth."""

    platform: str = ""
    project: str = ""

    def __post_init__(self) -> None:
        known = sorted(compose.plugins())
        if self.platform and self.platform not in known:
            raise UnknownNameError(f"no platform {self.platform!r}; there are {known}")
        platform, colon, external = self.project.partition(":")
        if self.project and not (colon and external and platform in known):
            raise SettingError(f"--project is {self.project!r}: give platform:id, such as label-studio:12")
        if self.project and self.platform not in ("", platform):
            raise SettingError(f"--project {self.project} is not of {self.platform}: leave one of them out")

    @property
    def platforms(self) -> list[str]:
        """Names of the platforms to look at."""
        named = self.platform or self.project.partition(":")[0]
        return [named] if named else sorted(compose.plugins())

    def includes(self, key: str) -> bool:
        """Whether a project is to be looked at."""
        return key == self.project if self.project else key.partition(":")[0] in self.platforms


def examine(settings: Settings, wanted: Wanted) -> list[Finding]:
    """Every finding, the service's first; nothing is changed and no secret is named."""
    with look(settings.database, settings.folder) as seen:
        here, outside = gathering.service(settings)
        seen, projects = _projects(settings, seen, wanted)
        base = gathering.base_of(settings)
        answers = is_ours(outside)
        looks = _looks(settings, wanted, seen, projects, answers=answers)
        both: dict[str, Callable[[], Any]] = {
            "machine": lambda: gathering.machine(settings, projects, base),
            "others": lambda: together(looks, gathering.LIMIT_S),
        }
        found = together(both, gathering.TORCH_S + 5)
        machine, others = found["machine"], found["others"]
        facts = Facts(
            settings,
            gathering.home_of(settings),
            seen,
            here,
            outside,
            _machine(machine),
            time.time(),
            complaint=gathering.complaint(settings),
            base=base,
            projects=tuple(_with_images(p, others.get(f"images {p.row.key}")) for p in projects),
        )
    said = [check(facts) for check in service_checks.CHECKS.values()]
    for name in wanted.platforms:
        said += _of_platform(name, others[f"platform {name}"], facts, wanted)
        for p in facts.projects:
            if p.row.platform == name:
                said += project_checks.of_project(facts, p)
    return _with_a_platform(said, wanted)


def _projects(settings: Settings, seen: Seen, wanted: Wanted) -> tuple[Seen, tuple[ProjectFacts, ...]]:
    try:
        return seen, gathering.known(settings, seen, wanted.includes)
    except StoreError as error:
        return Seen("locked" if "locked" in str(error) else "broken", str(error)), ()


def _machine(found: Any) -> Machine:
    return found if isinstance(found, Machine) else Machine(error=str(found))


def _with_images(p: ProjectFacts, found: Any) -> ProjectFacts:
    return replace(p, hosts=found[0], image=found[1]) if isinstance(found, tuple) else p


def _looks(
    settings: Settings, wanted: Wanted, seen: Seen, projects: Sequence[ProjectFacts], *, answers: bool
) -> dict[str, Callable[[], Any]]:
    """What other programs are asked."""
    calm, calls = gathering.quiet(settings), {}
    for name in wanted.platforms:
        patients = patients_of(settings, name, wanted.project, seen, projects, answers=answers)
        calls[f"platform {name}"] = _examination(calm, name, patients)
    for p in projects:
        if seen.store is not None:
            calls[f"images {p.row.key}"] = _image_trial(calm, seen.store, p)
    return calls


def _examination(settings: Settings, name: str, patients: list[Patient]) -> Callable[[], list[Finding]]:
    plugin = compose.plugin(name)
    if not isinstance(plugin, CheckedPlugin):
        return lambda: [nothing("platform", f"{name} has no checks of its own")]
    return lambda: plugin.checks(settings, patients)


def _image_trial(settings: Settings, store: Store, p: ProjectFacts) -> Callable[[], Any]:
    return lambda: gathering.try_images(settings, store, p.row)


def _of_platform(name: str, found: Any, facts: Facts, wanted: Wanted) -> list[Finding]:
    if isinstance(found, list):
        return [replace(f, about=f"{name}:{f.about}" if f.about else name) for f in found]
    if isinstance(found, SettingError):
        needed = name in (wanted.platform, wanted.project.partition(":")[0])
        used = any(p.row.platform == name for p in facts.projects)
        return [of_error("address", found, name) if needed or used else nothing("address", str(found), name)]
    if isinstance(found, HardfirstError):
        return [of_error("address", found, name)]
    # What nobody foresaw may quote a request, and with it a token.
    why = str(found) if isinstance(found, LateError) else f"unexpected {type(found).__name__}"
    fix = "look whether the platform's machine is overloaded, then run this again"
    return [problem("address", f"it could not be looked at: {why}", fix, name)]


def _with_a_platform(said: list[Finding], wanted: Wanted) -> list[Finding]:
    """Without any platform hardfirst has nothing to do."""
    seen = [f for f in said if f.about in wanted.platforms and f.name == "address"]
    if seen and len(seen) == len(wanted.platforms) and all(f.state == "not applicable" for f in seen):
        fix = "set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY, or CVAT_URL and CVAT_ACCESS_TOKEN"
        said.append(problem("platforms", "no platform's address is set", fix))
    return sorted(said, key=lambda f: f.about != "")


def mend(findings: Sequence[Finding]) -> list[str]:
    """Do what is safe; returns what was done, or why it could not be, one sentence each."""
    done = []
    for f in findings:
        if f.mend is None or f.state in ("ok", "not applicable"):
            continue
        where = f"{f.about + ', ' if f.about else ''}{f.name}"
        try:
            done.append(f"{where}: {f.mend()}")
        except (HardfirstError, OSError) as error:
            done.append(f"{where}: could not be mended: {error}")
    return done
