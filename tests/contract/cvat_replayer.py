"""Sends recorded requests to a stand-in CVAT that is in the state their step was recorded in."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.contract.cvat_recorded import Exchange, names
from tests.contract.cvat_story import Story, picture, share
from tests.cvat_server import background
from tests.cvat_server.access import Caller
from tests.cvat_server.announcements import courier_of, payload
from tests.cvat_server.app import create_app
from tests.cvat_server.courier import Parcel
from tests.cvat_server.world import World, snapshot

# The lowest task id that is not there yet when the step begins.
UNTIL = {
    "create_task_multijob": 4,
    "upload_data_local": 4,
    "queue_task_jobfilemapping_local": 5,
    "queue_task_predefined_local": 6,
    "queue_task_share_mapping": 7,
    "queue_task_share_predefined": 8,
    "queue_task_share_duplicate_in_mapping": 9,
    "task_no_data_state": 10,
}

# Steps that come first.
EARLIER: dict[str, tuple[str, ...]] = {
    "gt_job_second": ("gt_job_create",),
    "gt_job_meta": ("gt_job_create",),
    "gt_job_delete": ("gt_job_create",),
    "annotations_update_missing_id": ("annotations_patch_delete",),
    "annotations_delete_missing_id": ("annotations_patch_delete",),
}

STATES = {
    "hook_job_assign": ("annotation", "new"),
    "hook_job_state_in_progress": ("annotation", "new"),
    "hook_job_state_completed": ("annotation", "in progress"),
    "hook_job_same_state_again": ("annotation", "completed"),
    "hook_job_stage_validation": ("annotation", "completed"),
    "hook_job_state_rejected": ("validation", "new"),
    "hook_job_stage_back_annotation": ("validation", "rejected"),
    "hook_job_stage_acceptance_completed": ("annotation", "new"),
}


def _given_an_annotator(story: Story) -> None:
    for number in (10, 13):
        story.job(number).assignee_id = 3
        story.job(number).assignee_updated_date = story.world.now()


def _given_a_job_of_task_5(story: Story) -> None:
    story.job(14).assignee_id = 3


def _given_a_task_without_data(story: Story) -> None:
    story.add_task("pool A", [], segment_size=4, subset="Train")


def _given_no_webhook(story: Story) -> None:
    story.world.webhooks.clear()


def _given_few_anonymous_calls(story: Story) -> None:
    story.world.anonymous_limit = 1
    story.world.anonymous_calls["127.0.0.1"] = [time.monotonic()]


def _given_an_assigned_job(story: Story) -> None:
    _given_an_annotator(story)
    story.job(13).state = "completed"


def _given_a_delivery(story: Story) -> None:
    """Numbers 27 and 56 went to webhook 5, others to the others; nobody listens."""
    story.skip_to("delivery", 27)
    job, user = story.job(11), story.user("plugin")
    before = snapshot(job)
    job.state, job.updated_date = "in progress", story.world.now()
    for number in (5, 2, 2, 2, 2, 4, 6, 7, 8, 9, 5):
        if number == 9:
            story.skip_to("delivery", 55)
        hook = story.world.webhooks[number]
        body = payload(story.world, hook, "job", "update:job", before, snapshot(job), user)
        courier_of(story.world).deliver(Parcel(number, body))


def _given_failed_requests(story: Story) -> None:
    caller = Caller(story.world, story.user("plugin"))
    place = {"project_id": 4, "organization_id": 1, "format": "COCO 1.0"}
    for task_id in (4, 5, 6, 7):
        made = background.start(story.world, caller, f"of-{task_id}", "export:dataset", _fail, task_id=task_id, **place)
        for _ in range(story.world.polls + 1):
            background.advance(story.world, made)


def _fail() -> None:
    raise ValueError("no such image\n")


def _given_the_first_name_of_task_4(story: Story) -> None:
    story.task(4).name, story.task(4).bug_tracker = "pool A", ""


def _given_an_upload_that_just_began(story: Story) -> None:
    story.task(11).data_id, story.task(11).updated_date = 10, story.world.now()


GIVEN: dict[str, Callable[[Story], None]] = {
    "annotator": _given_an_annotator,
    "annotator_job_frame": _given_a_job_of_task_5,
    "annotator_job_labels": _given_a_job_of_task_5,
    "upload_data_local": _given_a_task_without_data,
    "webhook_create": _given_no_webhook,
    "webhook_list": _given_a_delivery,
    "webhook_retrieve_failing": _given_a_delivery,
    "webhook_update_events": _given_a_delivery,
    "unassign": _given_an_assigned_job,
    "requests_list": _given_failed_requests,
    "requests_filter_failed": _given_failed_requests,
    "hook_task_update": _given_the_first_name_of_task_4,
    "task_delete": _given_an_upload_that_just_began,
    "tasks_filter_updated": _given_an_upload_that_just_began,
    "webhook_deliveries": _given_a_delivery,
    "webhook_redelivery": _given_a_delivery,
    "throttled_429": _given_few_anonymous_calls,
}


@cache
def steps() -> dict[str, list[Exchange]]:
    """The exchanges of each step in the order they were made."""
    found: dict[str, list[Exchange]] = {}
    for name in names("http"):
        exchange = Exchange.read(name)
        found.setdefault(exchange.step, []).append(exchange)
    return {step: sorted(parts, key=_number) for step, parts in found.items()}


def _number(exchange: Exchange) -> int:
    return int(exchange.place.removeprefix(exchange.step).strip("_") or 1)


class Replay:
    """A client that sends recorded requests to the story of their step."""

    def __init__(self, folder: Path) -> None:
        self._share = share(folder)
        self.world = World()
        self._client: FlaskClient = create_app(self.world).test_client(use_cookies=False)
        self.story = Story(self.world)
        self.courier = courier_of(self.world)

    def begin(self, step: str) -> None:
        """The world as new: making a new application too would take ten times as long."""
        listeners = self.world.listeners
        World.__init__(self.world, share=self._share)
        self.world.listeners = listeners
        self.story = Story(self.world, UNTIL.get(step, 12))
        self.courier.hold()
        self.courier.take()
        if step in STATES:
            job = self.story.job(10)
            job.stage, job.state = STATES[step]
            if step != "hook_job_assign":
                job.assignee_id, job.assignee_updated_date = 3, self.world.now()
        for given in [one for one in GIVEN if step.startswith(one)]:
            GIVEN[given](self.story)
        for earlier in EARLIER.get(step, ()):
            for exchange in steps()[earlier]:
                self.send(exchange)

    def until(self, exchange: Exchange) -> TestResponse:
        """The answer to the last exchange of its step up to this one."""
        self.begin(exchange.step)
        parts = steps()[exchange.step]
        return self.follow(parts[: parts.index(exchange) + 1])

    def follow(self, exchanges: list[Exchange]) -> TestResponse:
        """Sends some exchanges, asking for background requests until they have ended; the last answer."""
        for one in exchanges:
            answer = self.send(one)
            while one.awaits and json.loads(answer.data)["status"] in ("queued", "started"):
                answer = self.send(one)
        return answer

    def send(self, exchange: Exchange) -> TestResponse:
        kept = ("x-organization", "accept", "upload-start", "upload-multiple", "upload-finish", "content-type")
        headers = {name: value for name, value in exchange.headers.items() if name in kept}
        body: dict[str, Any] = {}
        if "multipart" in headers.get("content-type", ""):
            body["data"] = self._files(exchange)
            del headers["content-type"]
        elif exchange.body is not None:
            body["data"] = json.dumps(self._with_password(exchange))
        headers |= self.story.credentials(exchange)
        query = [(key, value) for key, value in exchange.query]
        return self._client.open(exchange.path, method=exchange.method, query_string=query, headers=headers, **body)

    def _with_password(self, exchange: Exchange) -> Any:
        if exchange.path != "/api/auth/login":
            return exchange.body
        return exchange.body | {"password": "wrong" if exchange.status == 400 else "a-password"}

    def _files(self, exchange: Exchange) -> dict[str, Any]:
        """The files that the step's Upload-Finish names, or one that is no image."""
        if "corrupt" in exchange.step:
            return {"client_files[0]": (io.BytesIO(b"not an image"), "bad.jpg")}
        files = [f"img_{number:03}.jpg" for number in range(16)]
        return {f"client_files[{n}]": (io.BytesIO(picture()), name) for n, name in enumerate(files)}
