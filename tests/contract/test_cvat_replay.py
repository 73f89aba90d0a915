"""Every recorded request to CVAT 2.73, sent to the stand-in: same status, same kind of body, same errors."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.contract.cvat_recorded import Exchange, event, names, other_words, unlike
from tests.contract.cvat_replayer import Replay, steps
from tests.cvat_server.webhooks import EVENTS

# What the stand-in does not do, and why. Steps, not single exchanges.
NOT_DONE: dict[str, str] = {
    "import_annotations_coco_like_cvatxml": "an import replaces people's work, so the product never imports",
    "honeypot_task_gt_pool": "a pool of honeypots needs frames in random order: of no use to a queue",
    "validation_layout": "belongs to honeypots",
    "export2_YOLO_3": "the recorded server failed for want of a library, the stand-in does not",
    "issue_create": "the product neither writes nor reads issues",
    "issue_resolve": "the product neither writes nor reads issues",
}

NUMBER = re.compile(r"\d+(?= seconds)")

# Webhook calls that were recorded: the step that makes the stand-in send one like it.
CAUSES = {
    "completed_request_create_task__failed": "task_corrupt_image",
    "completed_request_create_task__finished": "queue_task_jobfilemapping_local",
    "completed_request_export_annotations__finished": "export_CVAT",
    "completed_request_export_dataset__finished": "export2_YOLO",
    "create_job": "queue_task_jobfilemapping_local",
    "create_task": "queue_task_jobfilemapping_local",
    "delete_job": "gt_job_delete",
    "delete_task": "task_delete",
    "update_job__annotations_or_touch_only": "hook_annotation_change_job",
    "update_job__assignee_id+assignee_updated_date_cleared": "unassign",
    "update_job__assignee_id+assignee_updated_date_set": "hook_job_assign",
    "update_job__stage+state+status_acceptance_completed": "hook_job_stage_acceptance_completed",
    "update_job__stage+state+status_annotation_new": "hook_job_stage_back_annotation",
    "update_job__stage+state+status_validation_new": "hook_job_stage_validation",
    "update_job__state_completed": "hook_job_state_completed",
    "update_job__state_in-progress": "hook_job_state_in_progress",
    "update_job__state_rejected": "hook_job_state_rejected",
    "update_project__annotations_or_touch_only": "hook_annotation_change_task",
    "update_task__annotations_or_touch_only": "hook_annotation_change_task",
    "update_task__bug_tracker+name": "hook_task_update",
    "update_task__data_id": "queue_task_jobfilemapping_local",
    "update_task__dimension+media_type+mode": "queue_task_share_predefined",
    "update_task__dimension+media_type+mode+overlap": "queue_task_jobfilemapping_local",
}
EVENTS_NOT_DONE = {
    "completed_request_export_annotations__failed": "the recorded server failed for want of a library",
    "completed_request_export_dataset__failed": "the recorded server failed for want of a library",
    "create_comment": "the product neither writes nor reads issues",
    "create_issue": "the product neither writes nor reads issues",
    "update_issue__resolved": "the product neither writes nor reads issues",
    "update_task__dimension+media_type+mode+overlap+segment_size": "came with honeypots",
}


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replay]:
    made = Replay(tmp_path_factory.mktemp("share"))
    yield made
    made.courier.close()


def _difference(answer: TestResponse, exchange: Exchange) -> list[str]:
    """How an answer differs from the recorded one; [] when it does not."""
    if answer.status_code != exchange.status:
        return [f"status {answer.status_code}, recorded {exchange.status}: {answer.text[:300]}"]
    if exchange.kind and answer.mimetype != exchange.kind:
        return [f"content type {answer.mimetype}, recorded {exchange.kind}"]
    recorded = exchange.answer
    if recorded is None or (isinstance(recorded, dict) and "_binary" in recorded):
        return [] if bool(answer.data) == (recorded is not None) else ["one has a body, the other has none"]
    if isinstance(recorded, dict) and "_text" in recorded:
        return [] if answer.text == recorded["_text"] else [f"text {answer.text!r}, recorded {recorded['_text']!r}"]
    ours = json.loads(answer.data)
    if exchange.status >= 500:
        return unlike(ours, recorded)
    if exchange.status >= 400:
        ours, recorded = (NUMBER.sub("N", json.dumps(one)) for one in (ours, recorded))
        return [] if ours == recorded else [f"error {ours}, recorded {recorded}"]
    return unlike(ours, recorded) + (other_words(ours, recorded) if exchange.is_write else [])


@pytest.mark.parametrize("name", names("http"))
def test_the_stand_in_answers_as_cvat_did(name: str, shared: Path, replay: Replay) -> None:
    exchange = Exchange.read(name)
    if reason := NOT_DONE.get(exchange.step) or NOT_DONE.get(exchange.place):
        pytest.skip(reason)

    answer = replay.until(exchange)

    assert _difference(answer, exchange) == []
    assert replay.world.crashes == []


@pytest.mark.parametrize("name", names("webhook_events"))
def test_the_stand_in_announces_what_cvat_announced(name: str, shared: Path, replay: Replay) -> None:
    if name in EVENTS_NOT_DONE:
        pytest.skip(EVENTS_NOT_DONE[name])
    recorded = event(name)["body"]
    if name == "ping":
        replay.until(Exchange.read("webhooks/webhook_ping__POST_200"))
        sent = [one.request for one in replay.world.deliveries.values()]
    else:
        replay.begin(CAUSES[name])
        replay.story.hook(2, tuple(EVENTS["project"]))
        replay.courier.take()
        replay.follow(steps()[CAUSES[name]])
        sent = [one.payload for one in replay.courier.take() if one.webhook_id == 2]

    ours = [one for one in sent if _kind_of_event(one) == _kind_of_event(recorded)]
    assert len(ours) >= 1, [_kind_of_event(one) for one in sent]
    assert unlike(ours[0], recorded) + other_words(ours[0], recorded) == []
    assert name == "ping" or list(ours[0]) == list(recorded)


def _kind_of_event(body: dict[str, Any]) -> tuple[str, str, frozenset[str]]:
    return body["event"], body.get("request", {}).get("status", ""), frozenset(body.get("before_update", {}))
