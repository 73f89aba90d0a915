"""What Label Studio asks before it asks for predictions: health, setup, versions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from common.domain import Event
from tests.contract.ls_app_service import (
    CONFIG,
    KEY,
    Service,
    guarded_fixture,  # noqa: F401 - fixtures are found by name
    recorded_fixture,  # noqa: F401
    replay,
    service_fixture,  # noqa: F401
    shape,
)


def test_health_answers_as_recorded(guarded: Service, recorded: Callable[[str], Any]) -> None:
    answer, wanted = replay(guarded, recorded("health.request")), recorded("health.response")
    assert (answer.status_code, shape(answer.json)) == (wanted["status"], shape(wanted["body"]))
    assert answer.json["status"] == "UP"


def test_health_without_the_password_is_refused_as_recorded(guarded: Service, recorded: Callable[[str], Any]) -> None:
    answer, wanted = replay(guarded, recorded("health.unauthorized.request")), recorded("health.unauthorized.response")
    assert (answer.status_code, shape(answer.json)) == (wanted["status"], shape(wanted["body"]))


def test_setup_answers_as_recorded(guarded: Service, recorded: Callable[[str], Any]) -> None:
    answer, wanted = replay(guarded, recorded("setup.request")), recorded("setup.response")
    assert (answer.status_code, shape(answer.json)) == (wanted["status"], shape(wanted["body"]))


def test_setup_says_the_version_annotators_are_served_by(guarded: Service, recorded: Callable[[str], Any]) -> None:
    guarded.settle()
    answer = replay(guarded, recorded("setup.request"))
    assert answer.json == {"model_version": guarded.world.platform.active}


def test_setup_of_a_project_a_person_connected_there_only_leaves_a_hint(service: Service) -> None:
    service.post("/setup", {"project": "77.1795196587", "schema": CONFIG, "access_token": "t0ken"})
    assert service.hints("77") == [Event("label-studio", "77", "connect")]
    assert [p.key for p in service.store.projects.all()] == [KEY]


def test_setup_of_a_known_project_writes_nothing(service: Service) -> None:
    for _ in range(3):
        service.post("/setup", {"project": "2.1", "schema": CONFIG})
    assert service.hints() == []


def test_versions_lists_what_is_on_the_platform_newest_first(guarded: Service, recorded: Callable[[str], Any]) -> None:
    guarded.settle()
    first = guarded.world.platform.active
    guarded.store.projects.update(KEY, order_asked=guarded.world.clock[0])
    guarded.settle()
    answer, wanted = replay(guarded, recorded("versions.request")), recorded("versions.response")
    assert (answer.status_code, shape(answer.json)) == (wanted["status"], shape(wanted["body"]))
    assert shape(answer.json) == shape(recorded("api.ml_versions")["response"]["body"]), "handed to its page as it is"
    assert answer.json["versions"] == [guarded.world.platform.active, first]


def test_neither_hello_nor_hint_touches_the_platform_or_a_model(service: Service) -> None:
    service.settle()
    service.opened.clear()
    calls, seen = len(service.world.platform.calls), len(service.world.models.seen)
    service.client.get("/")
    service.client.get("/health")
    service.client.get("/versions")
    service.client.get("/metrics")
    service.post("/setup", {"project": "2.1"})
    service.post("/webhook", {"action": "START_TRAINING", "project": {"id": 2}})
    assert service.opened == []
    assert len(service.world.platform.calls) == calls
    assert (len(service.world.models.seen), service.model.asked) == (seen, [])
