"""Users, organisations, memberships and invitations of the stand-in CVAT."""

from __future__ import annotations

from flask import Blueprint, Response

from tests.cvat_server.access import BOSSES, Caller, current
from tests.cvat_server.bodies import membership_json, organization_json, self_json, user_json
from tests.cvat_server.lists import Kind, page
from tests.cvat_server.replies import forbidden, invalid, missing, reply, sent
from tests.cvat_server.world import Json, Membership, Organization, User, World, stamp

_USERS: Kind[User] = Kind({"id": lambda one: one.id, "username": lambda one: one.username}, ("username",))


def add_users(routes: Blueprint, world: World) -> None:
    """Routes of users."""

    @routes.get("/users/self")
    def own() -> Response:
        return reply(self_json(world, current(world).user))

    @routes.get("/users")
    def list_users() -> Response:
        seen = _seen_users(world, current(world))
        return page([world.users[one] for one in seen], _USERS, lambda one: user_json(world, one.id) or {})

    @routes.get("/users/<int:number>")
    def one_user(number: int) -> Response:
        caller = current(world)
        if number not in world.users:
            raise missing("User")
        if number not in _seen_users(world, caller):
            raise forbidden()
        return reply(self_json(world, caller.user) if number == caller.user.id else user_json(world, number))


def _seen_users(world: World, caller: Caller) -> set[int]:
    """Members of the organisation in context; without one oneself, or all one shares an organisation with."""
    if caller.user.is_superuser:
        return set(world.users)
    seen = {caller.organization.id} if caller.organization else set() if caller.personal else set(caller.roles)
    return {caller.user.id} | {one.user_id for one in list(world.memberships.values()) if one.organization_id in seen}


_ORGANIZATIONS: Kind[Organization] = Kind(
    {"id": lambda one: one.id, "slug": lambda one: one.slug, "name": lambda one: one.name}, ("slug", "name")
)
_INVITED = ("worker", "supervisor", "maintainer")


def add_organizations(routes: Blueprint, world: World) -> None:
    """Routes of organizations, memberships and invitations."""
    _add_memberships(routes, world)

    @routes.get("/organizations")
    def list_organizations() -> Response:
        own = [world.organizations[number] for number in current(world).roles]
        return page(own, _ORGANIZATIONS, lambda one: organization_json(world, one))

    @routes.post("/organizations")
    def create_organization() -> Response:
        caller, body = current(world), sent()
        if "slug" not in body:
            raise invalid({"slug": ["This field is required."]})
        made = make_organization(world, str(body["slug"]), caller.user, str(body.get("name", body["slug"])))
        return reply(organization_json(world, made), 201)

    @routes.get("/organizations/<int:number>")
    def one_organization(number: int) -> Response:
        caller = current(world)
        if number not in world.organizations:
            raise missing("Organization")
        if number not in caller.roles:
            raise forbidden()
        return reply(organization_json(world, world.organizations[number]))


def _add_memberships(routes: Blueprint, world: World) -> None:
    memberships: Kind[Membership] = Kind(
        {
            "id": lambda one: one.id,
            "role": lambda one: one.role,
            "user": lambda one: world.users[one.user_id].username,
        },
        ("role", "user"),
    )

    @routes.get("/memberships")
    def list_memberships() -> Response:
        caller = current(world)
        seen = {caller.organization.id} if caller.organization else set(caller.roles)
        found = [one for one in list(world.memberships.values()) if one.organization_id in seen]
        return page(found, memberships, lambda one: membership_json(world, one))

    @routes.post("/invitations")
    def invite() -> Response:
        return _invite(world, current(world), sent())


def make_organization(world: World, slug: str, owner: User, name: str) -> Organization:
    """A new organisation with its owner as first member."""
    with world.lock:
        number, created = world.next_id("organization"), world.now()
        made = Organization(number, slug, name, owner.id, created, world.now())
        world.organizations[number] = made
        make_membership(world, made, owner, "owner")
    return made


def make_membership(world: World, organization: Organization, user: User, role: str) -> Membership:
    number = world.next_id("membership")
    made = Membership(number, user.id, organization.id, role, world.now())
    world.memberships[number] = made
    return made


def _invite(world: World, caller: Caller, body: Json) -> Response:
    """Existing people join at once, as in CVAT's default configuration."""
    if caller.organization is None or caller.role not in BOSSES:
        raise forbidden()
    if body.get("role") not in _INVITED:
        raise invalid({"role": [f'"{body.get("role")}" is not a valid choice.']})
    user = next((one for one in world.users.values() if one.email == body.get("email")), None)
    if user is None:
        raise invalid({"email": ["Enter a valid email address."]})
    with world.lock:
        made = make_membership(world, caller.organization, user, body["role"])
        made.invitation = f"invitation-{made.id}"
    answer: Json = {"key": made.invitation, "created_date": stamp(made.joined_date)}
    answer |= {"owner": user_json(world, caller.user.id), "role": made.role, "user": user_json(world, user.id)}
    info = {"id": caller.organization.id, "slug": caller.organization.slug}
    answer |= {"organization": caller.organization.id, "expired": None, "accepted": True, "organization_info": info}
    return reply(answer, 201)
