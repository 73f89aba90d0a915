"""What a person who connects a CVAT project should know, one sentence each with what to do. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from cvat_adapter.nouns import Job, Labels, Task
from cvat_adapter.rights import NEWEST, OLDEST, Standing
from cvat_adapter.webhook import Hook

SOON = timedelta(days=14)
"""An access token that ends within is worth a word."""
NAMED = 5
"""Annotators that a sentence names."""
LONG_JOB = 20
"""Frames of a job above which its order says little about its frames."""


def of_server(standing: Standing, base: str, now: datetime | None = None) -> list[str]:
    """Version of the server, and the end of our token."""
    found, version = [], "{}.{}".format(*standing.version)
    if standing.version < OLDEST:
        found.append(
            f"CVAT at {base} is {version}, older than {OLDEST[0]}.{OLDEST[1]}, the first that hardfirst supports: "
            "webhooks that get lost are not sent again, so news may take minutes; update CVAT"
        )
    if standing.version > NEWEST:
        found.append(
            f"CVAT at {base} is {version}, newer than {NEWEST[0]}.{NEWEST[1]}, the last that hardfirst was tried with: "
            "watch the first round, and look for a newer hardfirst"
        )
    if standing.expires is not None and standing.expires - (now or datetime.now(UTC)) < SOON:
        found.append(
            f"the access token of user {standing.name!r} ends on {standing.expires:%Y-%m-%d}: make a new one in CVAT "
            "(profile > Security) and set CVAT_ACCESS_TOKEN before then"
        )
    return found


def of_people(standing: Standing) -> list[str]:
    """Who can be given jobs."""
    if standing.organization is None:
        return [
            "the project is in no organization, where CVAT lets nobody assign jobs to others: jobs are pre-annotated "
            "but not assigned; move the project into an organization and connect again"
        ]
    if not standing.workers:
        return [
            f"organization {standing.organization!r} has no member with the role worker, so nobody gets jobs: invite "
            "annotators with that role"
        ]
    return []


def of_work(standing: Standing, options: Mapping[str, Any], wip: int) -> str:
    """What hardfirst is going to do to jobs, in words."""
    named = {name.strip() for name in str(options.get("annotators") or "").split(",") if name.strip()}
    people = sorted(m.name for m in (standing.members if named else standing.workers) if not named or m.name in named)
    who = ", ".join(people[:NAMED]) + (f" and {len(people) - NAMED} more" if len(people) > NAMED else "")
    given = f"and are assigned to {who}, {wip} at a time" if people else "and are assigned to nobody"
    if options.get("queue") == "task":
        return f"the best frames are copied into queue tasks of a project beside this one; those jobs get boxes {given}"
    return f"those that are new and nobody's get boxes, best first, {given}"


def of_webhook(hook: Hook | None, url: str, base: str) -> list[str]:
    """Whether CVAT's news can reach us."""
    found, host, theirs = [], urlsplit(url).hostname or "", urlsplit(base).hostname or ""
    if is_loopback(host) and not is_loopback(theirs):
        found.append(
            f"CVAT at {base} cannot call {url}, an address of this machine alone: set HARDFIRST_URL to one that CVAT's "
            "machine reaches and connect again; until then news is only looked for every few minutes"
        )
    elif is_private(host):
        found.append(
            f"CVAT does not call private addresses such as {url} unless it is told to: if no news arrives, set "
            "SMOKESCREEN_OPTS in CVAT's deployment, and HARDFIRST_URL to an address that its containers reach"
        )
    if hook is not None and not hook.get("is_active", True):
        found.append("the webhook is switched off, so news is only looked for every few minutes: switch it on in CVAT")
    return found


def of_project(labels: Labels, tasks: Iterable[Task], jobs: Collection[Job], options: Mapping[str, Any]) -> list[str]:
    """How the project is cut, and what it labels."""
    found = []
    if labels.others:
        found.append(
            f"the labels {', '.join(labels.others)} hold no boxes: shapes with them are neither learned nor predicted"
        )
    long = sum(len(job.frames) > LONG_JOB for job in jobs)
    if long and options.get("queue") != "task":
        found.append(
            f"{long} of {len(jobs)} jobs have more than {LONG_JOB} frames, too many for an order by job: connect with "
            "--queue task, or make tasks with a smaller segment size"
        )
    shared = [task.id for task in tasks if task.overlap > 0]
    if shared:
        named = ", ".join(map(str, shared[:5])) + (" and more" if len(shared) > 5 else "")
        found.append(f"jobs of task {named} overlap, so some frames are labelled twice: make tasks with overlap 0")
    return found


def is_loopback(host: str) -> bool:
    """Whether an address is only of the machine that uses it."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_private(host: str) -> bool:
    """Whether an address is of a private network, as far as it shows."""
    if is_loopback(host):
        return True
    try:
        return ip_address(host).is_private
    except ValueError:
        return False
