"""Names the service answers to: a foreign page's own name is refused, those that lead here are not; and the token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from common.config import SECRET_HEADER, Settings
from common.errors import SettingError
from common.serving_checks import check_login
from common.web import hosts
from common.web.app import create_app
from common.web.backend import Backend
from tests.fakes import World, make_world
from tests.unit.test_loop import KEY

LOGIN = {"basic_auth_user": "ann", "basic_auth_pass": "pässword"}
INSIDE = "http://hardfirst.internal:9090/labels"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = make_world(tmp_path, 1)
    yield made
    made.tools.store.close()


def client_of(world: World, **settings: Any) -> FlaskClient:
    world.tools.settings = Settings(_env_file=None, home=world.tools.settings.home, **settings)
    return create_app(Backend(world.tools, lambda _model, _paths, _imgsz: []), []).test_client()


def status(client: FlaskClient, host: str, path: str = f"/api/status?project={KEY}", **options: Any) -> int:
    return client.get(path, headers={"Host": host, **options.pop("headers", {})}, **options).status_code


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:9090", "127.0.0.1:9090", "[::1]:9090", "a.localhost", "hardfirst.internal"],
)
def test_names_that_lead_here_are_answered_without_a_password(world: World, host: str) -> None:
    assert status(client_of(world, url=INSIDE), host) == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:9090", "localhost.evil.example", "127.0.0.1.evil.example", "notlocalhost"),
        *("hardfirst.internal.evil.example", "10.0.0.7", "0.0.0.0:9090", "[::2]:9090", "a b", "[", ""),
    ],
)
@pytest.mark.parametrize("path", [f"/api/status?project={KEY}", "/", "/static/pages.css", "/metrics", "/nowhere"])
def test_any_other_name_is_refused_wherever_it_asks(world: World, host: str, path: str) -> None:
    answer = client_of(world, url=INSIDE).get(path, headers={"Host": host, "Accept": "text/html"})
    assert answer.status_code == 400
    assert answer.json is not None
    assert answer.json["error"].startswith("hardfirst does not answer to the name ")
    assert "HARDFIRST_HOSTS" in answer.json["error"]


def test_a_refused_name_changes_nothing_by_a_webhook_or_a_wish(world: World) -> None:
    client, headers = client_of(world), {"Host": "evil.example"}
    assert client.post("/api/train", json={"project": KEY}, headers=headers).status_code == 400
    row = world.tools.store.projects.get(KEY)
    assert row is not None
    assert row.training_asked is None


def test_more_names_are_given_by_setting_also_all_below_one(world: World) -> None:
    client = client_of(world, hosts="Labels.example.org, .lab.example, [fd00::7]")
    for host in ("labels.example.org", "a.lab.example:443", "[fd00::7]:9090", "localhost"):
        assert status(client, host) == 200
    for host in ("example.org", "a.labels.example.org", "lab.example.evil", "badlab.example"):
        assert status(client, host) == 400


def test_a_password_protects_under_any_name_unless_names_are_given(world: World) -> None:
    client = client_of(world, **LOGIN)
    assert status(client, "anything.example", auth=("ann", "pässword")) == 200
    assert status(client, "anything.example") == 401
    named = client_of(world, **LOGIN, hosts="labels.example.org", host="10.1.2.3")
    assert status(named, "anything.example", auth=("ann", "pässword")) == 400
    for host in ("labels.example.org", "127.0.0.1:9090", "10.1.2.3:9090"):  # the last is where the doctor looks
        assert status(named, host, auth=("ann", "pässword")) == 200


def test_an_address_that_is_every_address_is_no_name() -> None:
    found = hosts.names(Settings(_env_file=None, host="0.0.0.0", hosts="x.example", **LOGIN))  # noqa: S104
    assert found == {"localhost", ".localhost", "127.0.0.1", "::1", "x.example"}


# --- the token -------------------------------------------------------------------------------------------


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("path", [f"/api/status?project={KEY}", "/metrics", f"/projects/{KEY}/events"])
def test_a_script_may_send_the_token_instead_of_the_password(world: World, path: str) -> None:
    client = client_of(world, **LOGIN, api_token="s3cret-token")
    assert client.get(path, headers=bearer("s3cret-token")).status_code == 200
    assert client.get(path, auth=("ann", "pässword")).status_code == 200
    for wrong in ("", "s3cret-toke", "s3cret-token2", "S3CRET-TOKEN", "pässword"):
        assert client.get(path, headers=bearer(wrong)).status_code == 401
    assert client.get(f"{path}{'&' if '?' in path else '?'}token=s3cret-token").status_code == 401
    assert client.get(path, auth=("s3cret-token", "")).status_code == 401


def test_a_wish_may_be_sent_with_the_token_and_no_webhook(world: World) -> None:
    client = client_of(world, **LOGIN, api_token="s3cret-token")
    assert client.post("/api/train", json={"project": KEY}, headers=bearer("s3cret-token")).status_code == 200
    assert client.post("/api/train", json={"project": KEY}, headers={SECRET_HEADER: "s3cret-token"}).status_code == 401


@pytest.mark.parametrize("token", [None, ""])
def test_without_a_token_of_ours_none_is_right(world: World, token: str | None) -> None:
    client = client_of(world, **LOGIN, api_token=token)
    for given in ("", " ", "None", "s3cret-token"):
        assert client.get("/metrics", headers=bearer(given)).status_code == 401


def test_a_token_needs_a_password_beside_it() -> None:
    with pytest.raises(SettingError, match="HARDFIRST_API_TOKEN protects nothing alone"):
        check_login(Settings(_env_file=None, api_token="s3cret-token"))
    check_login(Settings(_env_file=None, api_token="s3cret-token", **LOGIN))


def test_browsers_are_asked_for_a_name_and_a_password(world: World) -> None:
    answer = client_of(world, **LOGIN).get("/", headers={"Accept": "text/html"})
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Basic realm="hardfirst", charset="UTF-8"')
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
