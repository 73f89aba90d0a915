"""Who we are in CVAT, and whether that is enough: version, user, token, project, organization, role. Only reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from common.errors import AccessDeniedError, PlatformError
from cvat_adapter import refusals
from cvat_adapter.nouns import moment

if TYPE_CHECKING:
    from cvat_adapter.client import Api

OLDEST, NEWEST = (2, 65), (2, 80)
"""First version whose webhooks are tried again when they get lost, and the last that hardfirst was tried with."""
BOSSES, SUPERVISOR, WORKER = ("owner", "maintainer"), "supervisor", "worker"
"""Roles in an organization."""
PAGE_OF_ROLES = "have an owner or maintainer change the role in CVAT (the organization's page), or use the login of one"


@dataclass(frozen=True)
class Member:
    """One active member of the organization."""

    id: int
    name: str
    role: str


@dataclass(frozen=True)
class Standing:
    """What CVAT says of us and of the project.

    Attributes:
        version: (major, minor) of the server.
        user: Our id.
        name: Our user name.
        expires: When our access token ends, None = never, or a password is used.
        organization: Short name of the project's organization, None = a personal project.
        members: Of that organization.
    """

    version: tuple[int, int]
    user: int
    name: str
    expires: datetime | None
    organization: str | None
    members: tuple[Member, ...] = ()

    @property
    def workers(self) -> tuple[Member, ...]:
        """The annotators."""
        return tuple(m for m in self.members if m.role == WORKER)


def look(api: Api, project: str, organization: str | None) -> Standing:
    """Check everything that a connection takes.

    Args:
        api: Of CVAT; its organization is left as it is.
        project: CVAT's id.
        organization: Short name that a person gave; None = the project's own.

    Raises:
        AccessDeniedError: Token, membership or role are not enough; the message says which and what would be.
        ProjectGoneError: No such project.
        PlatformError: It is no CVAT, or the project is of another organization.
    """
    # CVAT refuses an organization in the query beside another one in the header.
    before, api.organization = api.organization, None
    try:
        return _look(api, project, organization)
    finally:
        api.organization = before


def _look(api: Api, project: str, organization: str | None) -> Standing:
    version = server(api)
    me = api.get("api/users/self", what="say who we are")
    expires = token(api)
    found = _project(api, project, me)
    slug = _organization(api, project, found, organization)
    people = members(api, slug) if slug else ()
    if not me.get("is_superuser"):
        _check_role(api.base, me, found, slug, people)
    return Standing(version, int(me["id"]), str(me["username"]), expires, slug, people)


def server(api: Api) -> tuple[int, int]:
    """(major, minor) of the server's version. Raises PlatformError where it is no CVAT."""
    about = api.get("api/server/about", what="say its version")
    said = str(about.get("version", "")) if isinstance(about, Mapping) else ""
    parts = re.match(r"(\d+)\.(\d+)", said)
    if parts is None:
        raise refusals.not_cvat(api.base, 200)
    return int(parts[1]), int(parts[2])


def token(api: Api) -> datetime | None:
    """When our access token ends; None = never, or there is none. Raises AccessDeniedError where it is read-only."""
    if not api.has_token:
        return None
    status, row = api.try_send("GET", "api/auth/access_tokens/self", what="look at our access token")
    if status == 200 and isinstance(row, Mapping):
        if row.get("read_only"):
            raise refusals.read_only_token()
        return moment(row.get("expiry_date"))
    raise refusals.refusal(status, row, base=api.base, what="look at our access token")


def _project(api: Api, project: str, me: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = api.get(f"api/projects/{project}", what=f"read project {project}", gone=project)
    except AccessDeniedError:
        rows = api.pages("api/memberships", what="list our roles")
        roles = sorted({str(row["role"]) for row in rows if (row.get("user") or {}).get("id") == me["id"]})
        is_now = f"its role is {' and '.join(roles)}" if roles else "it is in no organization"
        raise AccessDeniedError(
            f"CVAT at {api.base} does not show project {project} to user {me['username']!r}: {is_now}; it takes a "
            f"maintainer of the project's organization: {PAGE_OF_ROLES}"
        ) from None
    return found


def _organization(api: Api, project: str, found: Mapping[str, Any], wanted: str | None) -> str | None:
    number = found.get("organization_id", found.get("organization"))
    rows = {row["id"]: str(row["slug"]) for row in api.pages("api/organizations", what="list our organizations")}
    slug = rows.get(number)
    if wanted is None or wanted == slug:
        if number is not None and slug is None:
            raise refusals.not_a_member(api.base, f"number {number}")
        return slug
    if wanted not in rows.values():
        members(api, wanted)  # says whether there is no such organization, or whether we are no member
    whose = f"organization {slug!r}" if slug else "no organization, it is a personal one"
    fix = f"--org {slug}" if slug else "no --org, or move it there in CVAT"
    raise PlatformError(f"project {project} of CVAT at {api.base} is of {whose}, not of {wanted!r}: give {fix}")


def members(api: Api, slug: str) -> tuple[Member, ...]:
    """The active members of an organization. Raises AccessDeniedError where we are none of them."""
    try:
        rows = list(api.pages("api/memberships", {"org": slug}, what=f"list the members of organization {slug!r}"))
    except AccessDeniedError:
        raise refusals.not_a_member(api.base, slug) from None
    active = (row for row in rows if row.get("user") and row.get("is_active", True))
    return tuple(Member(int(r["user"]["id"]), str(r["user"]["username"]), str(r["role"])) for r in active)


def _check_role(
    base: str, me: Mapping[str, Any], project: Mapping[str, Any], slug: str | None, members: tuple[Member, ...]
) -> None:
    owns, who = (project.get("owner") or {}).get("id") == me["id"], f"user {me['username']!r}"
    if slug is None:
        if not owns:
            raise AccessDeniedError(
                f"{who} does not own project {project['id']} of CVAT at {base}, which is in no organization: use the "
                "credentials of its owner"
            )
        return
    role = next((m.role for m in members if m.id == me["id"]), "")
    if not role:
        raise refusals.not_a_member(base, slug)
    if role in BOSSES:
        return
    may = (
        "may make webhooks for its own project but not assign jobs" if owns and role == SUPERVISOR else "may not do it"
    )
    raise AccessDeniedError(
        f"{who} is a {role} of organization {slug!r} of CVAT at {base} and {may}: hardfirst needs a maintainer; "
        f"{PAGE_OF_ROLES}"
    )
