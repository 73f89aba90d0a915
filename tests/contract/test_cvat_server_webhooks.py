"""The stand-in CVAT calls webhooks as CVAT does: late, signed, again after failures, or as a test wants it."""

from __future__ import annotations

import json
import threading
import time

import httpx
import pytest

from tests.contract.cvat_place import (
    Place,
    ann_fixture,  # noqa: F401 - fixtures are found by name
    place_fixture,  # noqa: F401
    receiver_fixture,  # noqa: F401
)
from tests.cvat_server.courier import AGENT, Courier, signature
from tests.cvat_server.people import Annotator
from tests.cvat_server.receiver import Receiver

SAVE = ("update:job", "update:task", "update:project")


def test_a_save_is_announced_three_times_with_only_the_date(place: Place, receiver: Receiver) -> None:
    place.hook(receiver.url, *SAVE, secret="s3")

    place.create(place.box())
    place.courier.settle()

    assert receiver.events == list(SAVE)
    assert [set(call.json["before_update"]) for call in receiver.calls] == [{"updated_date"}] * 3
    assert [set(call.json["changes"]) for call in receiver.calls] == [{"updated_date"}] * 3
    assert receiver.calls[0].json["sender"]["username"] == "manager"


def test_a_call_is_signed_over_its_bytes(place: Place, receiver: Receiver) -> None:
    place.hook(receiver.url, "update:job", secret="s3")

    place.set_state("completed")
    place.courier.settle()

    (call,) = receiver.calls
    assert call.headers["x-signature-256"] == signature("s3", call.body)
    assert (call.headers["user-agent"], call.headers["content-type"]) == (AGENT, "application/json")
    assert call.json["changes"]["state"] == {"from": "new", "to": "completed"}


def test_a_webhook_hears_only_of_what_it_asked_for(place: Place, receiver: Receiver) -> None:
    place.hook(receiver.url, "update:task")

    place.set_state("completed")
    place.create(place.box())
    place.courier.settle()

    assert receiver.events == ["update:task"]


@pytest.mark.parametrize("status", [500, 503, 408, 429])
def test_a_failed_call_is_made_again_with_the_same_bytes(place: Place, receiver: Receiver, status: int) -> None:
    hook = place.hook(receiver.url, "update:job")
    receiver.answers = [status, status]

    place.set_state("completed")
    place.courier.settle()

    assert len({call.body for call in receiver.calls}) == 1
    assert [(one["attempt"], one["status_code"]) for one in place.deliveries(hook)] == [
        (3, 200),
        (2, status),
        (1, status),
    ]


def test_after_eight_retries_cvat_gives_up(place: Place, receiver: Receiver) -> None:
    hook = place.hook(receiver.url, "update:job")
    receiver.answers = [500] * 20
    place.world.webhooks_time_scale = 1e-9

    place.set_state("completed")
    place.courier.settle()

    assert place.deliveries(hook)[0]["attempt"] == 9


@pytest.mark.parametrize("status", [404, 401, 400])
def test_other_refusals_are_not_made_again(place: Place, receiver: Receiver, status: int) -> None:
    hook = place.hook(receiver.url, "update:job")
    receiver.answers = [status]

    place.set_state("completed")
    place.courier.settle()

    assert [one["status_code"] for one in place.deliveries(hook)] == [status]


def test_a_redirect_is_followed_without_the_body_and_counts_as_success(place: Place, receiver: Receiver) -> None:
    hook = place.hook(receiver.url, "update:job")
    receiver.answers = [302]

    place.set_state("completed")
    place.courier.settle()

    assert [(call.method, call.path, bool(call.body)) for call in receiver.calls] == [
        ("POST", "/hook", True),
        ("GET", "/elsewhere", False),
    ]
    assert [one["status_code"] for one in place.deliveries(hook)] == [200]


def test_nobody_listening_is_502_and_no_answer_in_time_504(place: Place, receiver: Receiver) -> None:
    dead, slow = place.hook("http://127.0.0.1:9/hook", "update:job"), place.hook(receiver.url, "update:job")
    receiver.delay, place.courier.read_timeout = 0.3, 0.05
    place.world.webhooks_time_scale = 1.0

    place.set_state("completed")
    until = time.monotonic() + 5
    while not (place.deliveries(dead) and place.deliveries(slow)) and time.monotonic() < until:
        time.sleep(0.01)

    assert [one["status_code"] for one in (*place.deliveries(dead), *place.deliveries(slow))] == [502, 504]
    assert place.courier.waiting >= 2


def test_retries_arrive_after_newer_events(place: Place, receiver: Receiver) -> None:
    place.hook(receiver.url, "update:job")
    receiver.answers = [500]
    place.world.webhooks_time_scale = 0.01

    place.courier.pause()
    place.set_state("in progress")
    place.set_state("completed")
    place.courier.resume()
    place.courier.settle()

    assert [call.json["job"]["state"] for call in receiver.calls] == ["in progress", "completed", "in progress"]


def test_a_redelivery_is_the_same_json_in_other_bytes(place: Place, receiver: Receiver) -> None:
    hook = place.hook(receiver.url, "update:job", secret="s3")
    receiver.answers = [404]
    place.set_state("completed")
    place.courier.settle()
    number = place.deliveries(hook)[0]["id"]

    place.http.post(f"/api/webhooks/{hook}/deliveries/{number}/redelivery").raise_for_status()
    place.courier.settle()

    first, second = receiver.calls
    assert json.loads(first.body) == json.loads(second.body)
    assert first.body != second.body
    assert second.headers["x-signature-256"] == signature("s3", second.body)
    assert [one["redelivery"] for one in place.deliveries(hook)] == [True, False]


def test_a_webhook_that_is_switched_off_gets_no_retries(place: Place, receiver: Receiver) -> None:
    hook = place.hook(receiver.url, "update:job")
    place.courier.pause()
    place.set_state("completed")

    place.http.patch(f"/api/webhooks/{hook}", json={"is_active": False}).raise_for_status()
    place.courier.resume()
    place.courier.settle()

    assert receiver.calls == []


def test_calls_can_be_lost_doubled_and_turned_around(place: Place, receiver: Receiver) -> None:
    place.hook(receiver.url, "update:job")
    place.courier.lose(1)
    place.set_state("in progress")
    place.courier.duplicate(1)
    place.set_state("completed")
    place.courier.settle()
    place.courier.hold()
    place.set_state("rejected")
    place.set_state("new")
    place.courier.release()
    place.courier.settle()

    assert [call.json["job"]["state"] for call in receiver.calls] == ["completed", "completed", "new", "rejected"]


def test_a_ping_comes_at_once(place: Place, receiver: Receiver) -> None:
    hook = place.hook(receiver.url, "update:job")

    answer = place.http.post(f"/api/webhooks/{hook}/ping").raise_for_status().json()

    assert (answer["status_code"], receiver.calls[0].json["event"]) == (200, "ping")


def test_a_project_webhook_without_a_project_breaks_the_server(place: Place) -> None:
    body = {"target_url": "http://adapter.example/hook", "type": "project", "events": ["update:job"]}

    answer = place.http.post("/api/webhooks", json=body)

    assert (answer.status_code, answer.headers["content-type"]) == (500, "text/html; charset=utf-8")


def test_a_worker_makes_no_webhooks(place: Place, ann: Annotator) -> None:
    body = {
        "target_url": "http://a.example/",
        "type": "project",
        "project_id": place.project.id,
        "events": ["update:job"],
    }

    with pytest.raises(httpx.HTTPStatusError, match="403"):
        ann.call("POST", "/api/webhooks", json=body)


def test_closing_the_courier_leaves_no_thread(place: Place, receiver: Receiver) -> None:
    place.hook(receiver.url, "update:job")
    place.set_state("completed")
    place.courier.settle()

    place.courier.close()

    assert "webhooks" not in {thread.name for thread in threading.enumerate()}
    assert Courier(place.world).waiting == 0
