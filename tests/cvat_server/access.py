"""Who is calling the stand-in CVAT, in which organisation, and what that person may do."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass, field
from urllib.parse import unquote

from flask import g, request

from tests.cvat_server.replies import RefusalError, forbidden, invalid
from tests.cvat_server.world import Job, Organization, Project, Task, Token, User, World

SAFE = ("GET", "HEAD", "OPTIONS")
BOSSES = ("owner", "maintainer")


@dataclass(frozen=True)
class Caller:
    """A known user in a context: an organisation, the personal workspace (""), or no context at all.

    `role` is the user's in `organization`; `token` is set where an access token was used.
    """

    world: World
    user: User
    organization: Organization | None = None
    role: str | None = None
    token: Token | None = None
    personal: bool = False
    roles: dict[int, str] = field(default_factory=dict)

    def manages(self, thing: Project | Task | Job) -> bool:
        """May see and change it whole: owner or maintainer of its organisation, or it is (in) theirs."""
        organization_id = self.world.organization_id_of(thing)
        if self.user.is_superuser or self.roles.get(organization_id or 0) in BOSSES:
            return True
        if organization_id is not None and organization_id not in self.roles:
            return False
        return self.user.id in self._people_above(thing)

    def views(self, thing: Project | Task | Job) -> bool:
        """May read it; for a job also save its annotations and set its state."""
        return self._is_own_job(thing) or self.manages(thing)

    def in_context(self, thing: Project | Task | Job) -> bool:
        """Whether lists in this context may hold it."""
        if self.organization is not None:
            return self.world.organization_id_of(thing) == self.organization.id
        return not self.personal or self.world.organization_id_of(thing) is None

    def lists(self, thing: Project | Task | Job) -> bool:
        return self.in_context(thing) and self.views(thing)

    def _is_own_job(self, thing: Project | Task | Job) -> bool:
        if not isinstance(thing, Job) or thing.assignee_id != self.user.id:
            return False
        organization_id = self.world.organization_id_of(thing)
        return organization_id is None or organization_id in self.roles

    def _people_above(self, thing: Project | Task | Job) -> set[int | None]:
        if isinstance(thing, Job):
            thing = self.world.task_of(thing)
        people = {thing.owner_id, thing.assignee_id}
        project = self.world.project_of(thing) if isinstance(thing, Task) else None
        return people | {project.owner_id, project.assignee_id} if project else people


def current(world: World) -> Caller:
    """The caller of the request in hand, found once a request.

    Raises:
        RefusalError: 401 wrong or no credentials, 403 read-only token, no CSRF token or foreign
            organisation, 404 unknown organisation, 429 too many anonymous calls.
    """
    if "caller" not in g:
        with world.lock:
            g.caller = _find_caller(world)
    caller: Caller = g.caller
    return caller


def require_view(caller: Caller, thing: Project | Task | Job) -> None:
    if not caller.views(thing):
        raise forbidden()


def require_manager(caller: Caller, thing: Project | Task | Job) -> None:
    if not caller.manages(thing):
        raise forbidden()


def require_creator(caller: Caller) -> None:
    """Raises 403 for workers: they create no projects and no tasks."""
    if caller.organization is not None and caller.role not in (*BOSSES, "supervisor"):
        raise forbidden()


def throttle_anonymous(world: World) -> None:
    """Counts an anonymous call.

    Raises:
        RefusalError: 429 with Retry-After, where `world.anonymous_limit` calls a minute are used up.
    """
    if world.anonymous_limit is None or _has_credentials():
        return
    now, who = time.monotonic(), request.remote_addr or ""
    with world.lock:
        calls = [at for at in world.anonymous_calls.get(who, []) if now - at < 60]
        world.anonymous_calls[who] = calls
        if len(calls) >= world.anonymous_limit:
            wait = max(1, int(60 - (now - calls[0])))
            detail = f"Request was throttled. Expected available in {wait} seconds."
            raise RefusalError(429, {"detail": detail}, headers={"Retry-After": str(wait)})
        calls.append(now)


def _has_credentials() -> bool:
    return "Authorization" in request.headers or "sessionid" in request.cookies


def _find_caller(world: World) -> Caller:
    throttle_anonymous(world)
    user, token = _user_of_request(world)
    roles = {one.organization_id: one.role for one in world.memberships.values() if one.user_id == user.id}
    organization, personal = _context(world)
    role = roles.get(organization.id) if organization else None
    if organization and role is None and not user.is_superuser:
        raise forbidden()
    return Caller(world, user, organization, role, token, personal, roles)


def _user_of_request(world: World) -> tuple[User, Token | None]:
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme == "Bearer":
        token = _token(world, value)
        return world.users[token.user_id], token
    if scheme == "Basic":
        name, _, password = base64.b64decode(value).decode().partition(":")
        found = user_with(world, name, password)
        if found is None:
            raise RefusalError(401, {"detail": "Invalid username/password."})
        return found, None
    session = world.sessions.get(request.cookies.get("sessionid", ""))
    if session is None:
        raise RefusalError(401, {"detail": "Authentication credentials were not provided."})
    if request.method not in SAFE and request.headers.get("X-CSRFToken") != session.csrf:
        raise forbidden("CSRF Failed: CSRF token missing.")
    return world.users[session.user_id], None


def _token(world: World, value: str) -> Token:
    now = world.now()
    token = next((one for one in world.tokens.values() if one.value == value), None)
    if token is None or (token.expiry_date is not None and token.expiry_date <= now):
        raise RefusalError(401, {"detail": "Invalid token."})
    token.last_used_date = now
    if token.read_only and request.method not in SAFE:
        raise forbidden()
    return token


def _context(world: World) -> tuple[Organization | None, bool]:
    slug = request.args.get("org", request.headers.get("X-Organization"))
    org_id = request.args.get("org_id")
    if org_id is not None and slug is not None:
        raise invalid(['You cannot specify "org_id" together with "org" or "X-Organization".'])
    if org_id is not None:
        found = next((one for one in world.organizations.values() if str(one.id) == org_id), None)
    elif slug:
        found = next((one for one in world.organizations.values() if one.slug == unquote(slug)), None)
    else:
        return None, slug == "" or org_id == ""
    if found is None and (org_id or slug):
        raise RefusalError(404, {"detail": f"{slug or org_id} organization does not exist."})
    return found, False


def user_with(world: World, username: str, password: str) -> User | None:
    """The user with this name (or e-mail) and password."""
    for user in world.users.values():
        if username in (user.username, user.email) and user.password == password:
            return user
    return None
