"""Our shapes in CVAT's jobs: which requests write, replace and remove them, and which jobs are left alone."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import pytest

from cvat_adapter.ledger import Ledger
from tests.contract.cvat_preannotation_lab import Lab, fresh_fixture, lab_fixture, shop_fixture  # noqa: F401 - fixtures


def requests(lab: Lab) -> list[str]:
    """'METHOD rest-of-path' of our requests since the log was cleared; the manager's listing is not ours."""
    return [f"{method} {path.removeprefix(lab.path)}" for method, path in lab.cvat.log]


LOOK, SHAPES = ["GET ", "GET /annotations/"], "PATCH /annotations/?action="


def test_a_first_write_is_one_patch_and_is_read_again(lab: Lab) -> None:
    job, ours, wanted = lab.listed(), lab.ours(), lab.wanted("v1")
    lab.cvat.log.clear()
    assert ours.write(job, wanted, "v1")
    assert requests(lab) == [*LOOK, f"{SHAPES}create", *LOOK]
    assert lab.autos() == lab.expected("v1")
    assert {s["score"] for s in lab.stored()} == {0.7}


def test_the_same_again_is_no_request_at_all_also_by_a_new_process(lab: Lab) -> None:
    lab.write("v1")
    job = lab.listed()
    lab.cvat.log.clear()
    assert not lab.ours().write(job, lab.wanted("v1"), "v1")
    assert requests(lab) == []


def test_the_same_content_in_a_newer_version_is_noted_without_a_request(lab: Lab) -> None:
    lab.write("v1")
    job = lab.listed()
    lab.cvat.log.clear()
    assert not lab.ours().write(job, lab.wanted("v1"), "v1b")
    assert requests(lab) == []
    row = Ledger(lab.disk).row(lab.job_id)
    assert (row.version, bool(row.goal)) == ("v1b", True)


def test_a_job_that_gets_no_boxes_and_has_none_is_no_request(lab: Lab) -> None:
    job = lab.listed()
    lab.cvat.log.clear()
    assert not lab.ours().write(job, {}, "v1")
    assert requests(lab) == []
    row = Ledger(lab.disk).row(lab.job_id)
    assert (row.version, bool(row.goal)) == ("v1", True)


def test_a_job_that_moved_is_read_and_not_written_where_all_is_as_wanted(lab: Lab) -> None:
    lab.write("v1")
    lab.manager.assign(lab.job_id, lab.manager.id)
    lab.manager.assign(lab.job_id, None)
    job = lab.listed()
    lab.cvat.log.clear()
    assert not lab.ours().write(job, lab.wanted("v1"), "v1")
    assert requests(lab) == LOOK
    assert not lab.write("v1")
    assert lab.patches() == []


def test_a_newer_version_replaces_what_differs_by_one_delete_and_one_create(lab: Lab) -> None:
    lab.write("v1")
    kept = [s["id"] for s in lab.at(0) if s["points"][0] == 0]
    job = lab.listed()
    lab.cvat.log.clear()
    assert lab.ours().write(job, lab.wanted("v2"), "v2")
    assert requests(lab) == [
        *LOOK,
        *LOOK,
        f"{SHAPES}delete",
        *LOOK,
        f"{SHAPES}create",
        *LOOK,
    ]
    assert lab.autos() == lab.expected("v2")
    assert [s["id"] for s in lab.at(0) if s["points"][0] == 0] == kept


def test_boxes_that_only_go_are_one_delete(lab: Lab) -> None:
    lab.write("v1")
    lab.cvat.log.clear()
    assert lab.write("")
    assert (lab.stored(), lab.patches()) == ([], ["delete"])


def test_remove_takes_ours_away_and_leaves_the_rest(lab: Lab) -> None:
    lab.write("v1")
    lab.draw(0)
    before = lab.checksum()
    assert lab.remove()
    assert ([s["source"] for s in lab.stored()], lab.checksum()) == (["manual"], before)
    assert lab.disk.counts() == {}
    lab.cvat.log.clear()
    assert not lab.remove()
    assert lab.patches() == []


@pytest.mark.parametrize("state", ["in progress", "completed", "rejected"])
def test_a_job_that_somebody_began_is_not_touched(lab: Lab, state: str) -> None:
    lab.write("v1")
    lab.manager.set_state(lab.job_id, state)
    lab.cvat.log.clear()
    assert not lab.write("v2")
    assert not lab.remove()
    assert (lab.patches(), lab.autos()) == ([], lab.expected("v1"))


def test_an_assigned_job_is_not_touched_also_where_the_listing_is_older(lab: Lab) -> None:
    job = lab.listed()
    lab.manager.assign(lab.job_id, lab.manager.id)
    lab.cvat.log.clear()
    assert not lab.ours().write(job, lab.wanted("v1"), "v1")
    assert not lab.write("v1")
    assert (lab.patches(), lab.stored()) == ([], [])


def test_frames_of_other_jobs_and_deleted_frames_get_nothing(lab: Lab) -> None:
    task = lab.cvat.world.jobs[lab.job_id].task_id
    lab.manager.call("PATCH", f"/api/tasks/{task}/data/meta", json={"deleted_frames": [lab.frame(1)]})
    other = {0: [{**lab.box(0, 0), "frame": 0}], 999: [{**lab.box(0, 0), "frame": 999}]}
    lab.ours().write(lab.listed(), {**lab.wanted("v1"), **other}, "v1")
    assert lab.autos() == lab.expected("v1") - Counter({(1, (0.0, 0.0, 10.0, 10.0)): 1})
    assert Ledger(lab.disk).row(lab.job_id).goal


def test_what_cvat_drops_in_silence_is_said_and_made_the_next_time(
    lab: Lab, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = lab.api.send

    def dropping(method: str, path: str, body: Any = None, params: Any = None, **more: Any) -> Any:
        return send(method, path, {**body, "shapes": body["shapes"][:-1]}, params, **more)

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(lab.api, "send", dropping)
        assert lab.write("v1")
    assert "CVAT made 4 of 5 boxes" in caplog.text
    assert "1 boxes of ours are missing" in caplog.text
    assert not Ledger(lab.disk).row(lab.job_id).goal
    assert lab.write("v1")
    assert lab.autos() == lab.expected("v1")
