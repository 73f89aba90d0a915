"""Logging in to the stand-in CVAT: passwords, sessions and personal access tokens."""

from __future__ import annotations

import secrets

from flask import Blueprint, Response, request

from tests.cvat_server.access import current, throttle_anonymous, user_with
from tests.cvat_server.bodies import token_json
from tests.cvat_server.lists import Kind, page
from tests.cvat_server.replies import invalid, missing, reply, sent
from tests.cvat_server.world import Session, Token, User, World

_TOKENS: Kind[Token] = Kind(
    fields={"id": lambda one: one.id, "name": lambda one: one.name, "read_only": lambda one: one.read_only},
    queries=("name", "read_only"),
)


def blueprint(world: World) -> Blueprint:
    """Routes of /api/auth."""
    routes = Blueprint("auth", __name__, url_prefix="/api/auth")
    _add_login(routes, world)
    _add_tokens(routes, world)
    return routes


def _add_login(routes: Blueprint, world: World) -> None:
    @routes.post("/login")
    def login() -> Response:
        throttle_anonymous(world)
        body = sent()
        with world.lock:
            user = user_with(world, str(body.get("username") or body.get("email")), str(body.get("password")))
            if user is None:
                raise invalid({"non_field_errors": ["Unable to log in with provided credentials."]})
            user.last_login = world.now()
            session = Session(secrets.token_hex(16), secrets.token_hex(32), user.id)
            world.sessions[session.key] = session
        answer = reply({"key": secrets.token_hex(20)})
        answer.set_cookie("sessionid", session.key, httponly=True)
        answer.set_cookie("csrftoken", session.csrf)
        return answer

    @routes.post("/logout")
    def logout() -> Response:
        with world.lock:
            world.sessions.pop(request.cookies.get("sessionid", ""), None)
        answer = reply({"detail": "Successfully logged out."})
        answer.delete_cookie("sessionid")
        answer.delete_cookie("csrftoken")
        return answer


def _add_tokens(routes: Blueprint, world: World) -> None:
    @routes.get("/access_tokens")
    def list_tokens() -> Response:
        caller = current(world)
        own = [one for one in world.tokens.values() if one.user_id == caller.user.id]
        return page(own, _TOKENS, lambda one: token_json(world, one))

    @routes.post("/access_tokens")
    def create_token() -> Response:
        caller, body = current(world), sent()
        if "name" not in body:
            raise invalid({"name": ["This field is required."]})
        token = make_token(world, caller.user, str(body["name"]), read_only=bool(body.get("read_only", True)))
        return reply(token_json(world, token) | {"value": token.value}, 201)

    @routes.get("/access_tokens/self")
    def own_token() -> Response:
        token = current(world).token
        if token is None:
            raise missing("AccessToken")
        return reply(token_json(world, token))

    @routes.route("/access_tokens/<int:number>", methods=["GET", "PATCH", "DELETE"])
    def one_token(number: int) -> Response:
        return _one_token(world, number)


def _one_token(world: World, number: int) -> Response:
    caller, token = current(world), world.tokens.get(number)
    if token is None or token.user_id != caller.user.id:
        raise missing("AccessToken")
    if request.method == "DELETE":
        del world.tokens[number]
        return reply(status=204)
    if request.method == "PATCH":
        token.name, token.read_only = sent().get("name", token.name), sent().get("read_only", token.read_only)
        token.updated_date = world.now()
    return reply(token_json(world, token))


def make_token(world: World, user: User, name: str, *, read_only: bool) -> Token:
    """A new personal access token of a user."""
    with world.lock:
        number, created = world.next_id("token"), world.now()
        value = f"{secrets.token_hex(4)}.{secrets.token_hex(16)}"
        token = Token(number, user.id, name, value, read_only, created, world.now())
        world.tokens[number] = token
    return token
