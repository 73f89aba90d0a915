"""What the doctor finds in CVAT, against the stand-in server with one thing wrong at a time."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from common.config import Settings
from common.errors import SettingError
from common.ports import Finding, Patient
from cvat_adapter.checks import CHECKS, FIRST, examine
from cvat_adapter.client import open_platform
from cvat_adapter.project import CvatPlatform
from tests.contract.cvat_place import Place, place_fixture, receiver_fixture  # noqa: F401 - fixtures
from tests.cvat_server.receiver import Receiver
from tests.cvat_server.world import User
from tests.unit.cvat_memory import DictMemory

SECRET = "hush"


class Surgery:
    """The project of a ``Place``, connected and well."""

    def __init__(self, place: Place, url: str) -> None:
        self.place, self.url = place, url
        self.state: dict[str, Any] = {}
        self.memory = DictMemory()
        self.token = place.token
        self.connected = True
        with self.port() as port:
            port.connect(dry_run=False, replace=False)
        self.place.cvat.log.clear()

    def settings(self, **changes: Any) -> Settings:
        known: dict[str, Any] = {"cvat_url": self.place.cvat.url, "cvat_access_token": SecretStr(self.token)}
        return Settings(_env_file=None, **known | {"url": self.url, "webhook_secret": (SECRET,)} | changes)

    @contextmanager
    def port(self) -> Iterator[CvatPlatform]:
        number = str(self.place.project.id)
        port = open_platform(number, self.settings(), self.state, lambda _state: None, self.memory)
        yield port
        port.close()

    def look(self, **changes: Any) -> dict[str, Finding]:
        number, state = str(self.place.project.id), dict(self.state)
        patient = Patient(number, self.connected, True, None, state, self.memory, self.port)
        self.place.cvat.log.clear()
        found = examine(self.settings(**changes), [patient])
        assert not any(secret in str(f) for f in found for secret in (self.token, SECRET))
        assert [one for one in self.place.cvat.log if one[0] not in ("GET", "HEAD")] == []
        return {f.name: f for f in found}

    def mend(self, name: str) -> str:
        found = self.look()[name]
        assert found.mend is not None
        return found.mend()

    @property
    def hook(self) -> Any:
        (hook,) = self.place.world.webhooks.values()
        return hook

    def as_user(self, user: User, **how: Any) -> None:
        self.token = self.place.cvat.add_token(user, **how)


@pytest.fixture(name="surgery")
def surgery_fixture(place: Place, receiver: Receiver) -> Surgery:
    return Surgery(place, receiver.url)


def bad(found: dict[str, Finding]) -> list[str]:
    return [name for name, f in found.items() if f.state in ("problem", "warning")]


def test_a_healthy_project_has_every_check_and_nothing_to_say(surgery: Surgery) -> None:
    found = surgery.look()
    assert list(found) == [*FIRST, *CHECKS]
    assert bad(found) == []
    assert {f.about for n, f in found.items() if n in CHECKS} == {str(surgery.place.project.id)}


# --- CVAT itself -----------------------------------------------------------------------------------------


def test_a_refused_connection_is_a_finding_with_its_fix(surgery: Surgery) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    found = {f.name: f for f in examine(surgery.settings(cvat_url=f"http://127.0.0.1:{port}"), [])}
    assert list(found) == ["address", "clock"]
    assert found["address"].state == "problem"
    assert "CVAT_URL" in found["address"].fix


def test_a_proxy_whose_cvat_is_down_is_said(surgery: Surgery) -> None:
    with surgery.place.cvat.bad_gateway():
        assert "status 502" in surgery.look()["address"].evidence


def test_settings_that_are_missing_are_the_callers_to_tell() -> None:
    with pytest.raises(SettingError, match="CVAT_URL is not set"):
        examine(Settings(_env_file=None), [])


def test_a_token_that_cvat_does_not_know_or_that_may_only_read_is_said(surgery: Surgery) -> None:
    unknown = surgery.look(cvat_access_token=SecretStr("nonsense"))
    assert list(unknown) == ["address", "clock", "token"]
    assert "CVAT_ACCESS_TOKEN" in unknown["token"].evidence
    surgery.as_user(surgery.place.manager, read_only=True)
    assert "read-only" in surgery.look()["token"].evidence


def test_a_role_that_is_not_enough_is_said(surgery: Surgery) -> None:
    surgery.as_user(surgery.place.ann)
    found = surgery.look()
    assert bad(found) == ["rights"]
    assert "maintainer" in found["rights"].evidence + found["rights"].fix


# --- the project -----------------------------------------------------------------------------------------


def test_an_old_server_is_a_warning(surgery: Surgery) -> None:
    surgery.place.world.version = "2.40.0"
    assert bad(surgery.look()) == ["server"]


def test_an_organization_without_workers_gives_nobody_jobs(surgery: Surgery) -> None:
    for member in surgery.place.world.memberships.values():
        member.role = "maintainer"
    assert bad(surgery.look()) == ["people"]


def test_a_webhook_that_is_gone_is_found_and_mended(surgery: Surgery) -> None:
    surgery.place.world.webhooks.clear()
    assert bad(surgery.look()) == ["webhook"]
    assert "it is there again" in surgery.mend("webhook")
    assert bad(surgery.look()) == []


def test_a_webhook_that_tells_too_little_is_found_and_mended(surgery: Surgery) -> None:
    surgery.hook.events = ["update:task"]
    assert "events are not as hardfirst left them" in surgery.look()["webhook"].evidence
    surgery.mend("webhook")
    assert bad(surgery.look()) == []


def test_a_webhook_with_another_secret_is_found_and_mended(surgery: Surgery) -> None:
    surgery.state["hook"] = surgery.state["hook"] | {"secret": "0ther"}
    assert "secret are not as" in surgery.look()["webhook"].evidence
    surgery.mend("webhook")
    assert bad(surgery.look()) == []


def test_a_webhook_that_a_person_switched_off_is_said_and_left(surgery: Surgery) -> None:
    surgery.hook.is_active = False
    found = surgery.look()["webhook"]
    assert (found.state, found.mend, found.fix) == ("problem", None, "switch it on in CVAT")


def test_a_webhook_of_a_hardfirst_elsewhere_is_said(surgery: Surgery) -> None:
    told = "hardfirst: told what changes"
    surgery.place.hook("http://10.0.0.9:9090/webhooks", "update:job", description=told)
    found = surgery.look()
    assert bad(found) == ["orphan webhooks"]
    assert "http://10.0.0.9:9090/webhooks" in found["orphan webhooks"].evidence


def test_events_that_do_not_arrive_are_said(surgery: Surgery, receiver: Receiver) -> None:
    surgery.place.set_state("in progress")
    surgery.place.courier.settle()
    assert surgery.look()["deliveries"].evidence.endswith("events arrived")
    receiver.answers.append(401)
    surgery.place.set_state("completed")
    surgery.place.courier.settle()
    found = surgery.look()["deliveries"]
    assert (found.state, "the secret is wrong" in found.evidence) == ("problem", True)


def test_an_address_that_cvat_cannot_call_is_said(surgery: Surgery) -> None:
    surgery.url = "http://10.1.2.3:9090"
    found = surgery.look()["network"]
    assert (found.state, "SMOKESCREEN_OPTS" in found.fix) == ("warning", True)


def test_labels_without_boxes_are_said(surgery: Surgery) -> None:
    for label in surgery.place.world.labels_of(surgery.place.project):
        label.type = "mask"
    found = surgery.look()["jobs"]
    assert (found.state, "--create-labels" in found.fix) == ("problem", True)
