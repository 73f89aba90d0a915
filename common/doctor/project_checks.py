"""Checks of one project that need no platform: one function per check, facts in, finding out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from common.doctor.facts import Facts, ProjectFacts
from common.doctor.findings import nothing, ok, parted, problem, warning
from common.loop.publishing import columns
from common.ports import Finding

LATE_S = 600.0
"""Events that wait longer show that nobody works; a round's slowest step is shorter."""
HOURS_S = 20 * 3600.0
"""Events are kept for a day: older answers tell nothing of them."""
SLACK_S = 120.0
"""Clocks may differ, and events may be held back, by so much."""


def state(facts: Facts, p: ProjectFacts) -> Finding:
    """The project is served."""
    row = p.row
    if row.state == "stopped":
        evidence, fix = parted(row.reason)
        return problem("project", f"stopped: {evidence}", fix)
    if row.state == "asked" and facts.now - (row.asked or facts.now) > LATE_S:
        evidence = "asked for, and not connected yet" + (f": {row.reason}" if row.reason else "")
        return problem("project", evidence, f"run `hardfirst connect {row.platform} --project {row.external}`")
    if row.reason:
        evidence, fix = parted(row.reason)
        return warning("project", evidence, fix)
    return ok("project", "is being connected" if row.state == "asked" else f"active, {p.counts['samples']} images")


def worker(facts: Facts, p: ProjectFacts) -> Finding:
    """Somebody works on the project."""
    owner, until = p.pulse.owner, p.pulse.until
    start = "start `hardfirst serve`; its log says why the worker ended"
    if not owner:
        return problem("worker", "nobody works on it", start)
    host, _, pid = owner.rpartition(":")[0].rpartition(":")
    if p.holder_gone:
        return problem("worker", f"its worker (process {pid}) has died", start)
    if until is not None and until < facts.now:
        return problem("worker", f"process {pid} on {host} stopped working on it {facts.now - until:.0f} s ago", start)
    return ok("worker", f"process {pid} on {host} works on it")


def inbox(facts: Facts, p: ProjectFacts) -> Finding:
    """Events are acted on."""
    waiting, oldest = p.pulse.waiting, p.pulse.oldest
    if not waiting or oldest is None or facts.now - oldest < LATE_S:
        return ok("inbox", f"{waiting} events wait" if waiting else "no event waits")
    evidence = f"{waiting} events wait, the oldest for {(facts.now - oldest) / 60:.0f} minutes"
    return problem("inbox", evidence, "see the check 'worker'; where that is well, the journal of `hardfirst status`")


def events(facts: Facts, p: ProjectFacts) -> Finding:
    """The platform's webhook reaches us: whoever answers leaves an event."""
    answer, event, since = p.pulse.answer, p.pulse.event, p.row.first_read
    if answer is None or since is None or answer < since or not SLACK_S < facts.now - answer < HOURS_S:
        return nothing("events", "nobody answered lately, or too lately to tell")
    if event is not None and event >= answer - SLACK_S:
        return ok("events", "the newest answer came with an event")
    return problem(
        "events",
        "the newest answer came without an event: it was only found by comparing",
        "keep `hardfirst serve` running, and let the platform reach HARDFIRST_URL: Label Studio on a private network "
        "needs SSRF_PROTECTION_ENABLED=false besides ML_BLOCK_LOCAL_IP=false, CVAT its SMOKESCREEN_OPTS; see also the "
        "checks 'webhook' and 'backend'",
    )


def last_round(_facts: Facts, p: ProjectFacts) -> Finding:
    """The newest round did not fail."""
    if p.round is None:
        return nothing("last round", "none yet")
    if p.round.state != "failed":
        return ok("last round", f"round {p.round.number} is {p.round.state}")
    return problem(
        "last round",
        f"round {p.round.number} failed: {p.round.message or 'it says nothing'}",
        f"put that right, then `hardfirst train --project {p.row.key}`; its log is in {p.round.folder}",
    )


def serving(facts: Facts, p: ProjectFacts) -> Finding:
    """The weights that serve are there and load."""
    if p.weights is None:
        if p.row.spec.model_path:
            evidence = (
                f"the label config names model_path {p.row.spec.model_path!r}, which {facts.settings.models} lacks"
            )
            return problem("serving model", evidence, "put the .pt file there, or take model_path out")
        return nothing("serving model", "see the check 'model'")
    if not p.weights.is_file():
        evidence, back = f"{p.weights} is gone", f"`hardfirst rollback --project {p.row.key}`"
        return problem("serving model", evidence, f"restore the file, or go back to the model before: {back}")
    said = facts.machine.weights.get(str(p.weights))
    if isinstance(said, str):
        return problem("serving model", said, f"restore the file, or `hardfirst rollback --project {p.row.key}`")
    if said is None:
        return nothing("serving model", f"{p.weights} could not be looked at: torch does not work")
    return ok("serving model", f"{p.weights.name}: a detector of {len(said)} classes")


def labels(facts: Facts, p: ProjectFacts) -> Finding:
    """The model knows the project's labels."""
    seen = facts.machine.weights.get(str(p.weights)) if p.weights else None
    names = seen if isinstance(seen, tuple) else p.names
    if not names or not p.row.spec.classes:
        return nothing("labels", "the classes of the model or of the project are not known yet")
    missing = [name for name in p.row.spec.names if name not in columns(p.row.spec, names)]
    if not missing:
        return ok("labels", f"the model knows all {len(p.row.spec.classes)} labels")
    few = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
    fix = f"label some images with them; the next round learns them (`hardfirst train --project {p.row.key}`)"
    if p.row.platform == "label-studio":
        fix += '; or say which class of the model a Label means: predicted_values="car,truck"'
    return warning("labels", f"the model does not know {len(missing)} of the project's labels: {few}", fix)


def image_hosts(_facts: Facts, p: ProjectFacts) -> Finding:
    """Images are where they may be fetched from."""
    if not p.hosts:
        return ok("image hosts", "all images are on the platform or on allowed hosts")
    named = ", ".join(f"{host} ({count})" for host, count in list(p.hosts.items())[:5])
    fix = f"if they may be fetched, set HARDFIRST_ALLOW_HOSTS={','.join(list(p.hosts)[:5])}"
    return problem("image hosts", f"images are on hosts that are not allowed: {named}", fix)


def images(_facts: Facts, p: ProjectFacts) -> Finding:
    """Images can be had and read."""
    if p.image:
        evidence, fix = parted(p.image)
        return problem("images", f"an image cannot be had now: {evidence}", fix)
    bad, there = p.counts.get("unreadable", 0), p.counts.get("samples", 0)
    if bad:
        evidence = f"{bad} of {there} images cannot be read; first: {p.unreadable[0] if p.unreadable else ''}"
        return warning("images", evidence, "put these files right on the platform; each is tried again by itself")
    if p.image is None:
        return nothing("images", "none could be tried: there are none yet, or the platform does not answer")
    return ok("images", "one was fetched just now, none is known to be unreadable")


CHECKS: dict[str, Callable[[Facts, ProjectFacts], Finding]] = {
    "project": state,
    "worker": worker,
    "inbox": inbox,
    "events": events,
    "last round": last_round,
    "serving model": serving,
    "labels": labels,
    "image hosts": image_hosts,
    "images": images,
}
"""Every check of one project, in the order of the report."""


def of_project(facts: Facts, p: ProjectFacts) -> list[Finding]:
    """Every finding of one project."""
    return [replace(check(facts, p), about=p.row.key) for check in CHECKS.values()]
