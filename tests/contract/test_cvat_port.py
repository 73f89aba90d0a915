"""The whole port over the stand-in CVAT: publish, activate, tend, go back, retire, disconnect; requests are counted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.domain import QueueItem
from common.errors import PlatformError, PlatformUnreachableError, UnsupportedProjectError
from common.ports import TOLD
from tests.contract.cvat_pool import Pool, pool
from tests.contract.cvat_story import picture

BEST_FIRST = [6, 1, 10, 8, 3, 4]
"""Frames whose jobs are 3, 0, 5, 4, 1, 2."""
FIRST, SECOND = "v@0.1-aaaaaaaa", "v@1.2-bbbbbbbb"


@pytest.fixture(name="it")
def it_fixture(tmp_path: Path) -> Iterator[Pool]:
    with pool(tmp_path) as made:
        yield made


def written(it: Pool) -> dict[int, list[float]]:
    """Job -> lower edges of its boxes, which tell the place of a frame in its order: 40 is the first."""
    return {n: [s["points"][3] for s in job.shapes] for n, job in enumerate(it.jobs) if job.shapes}


def human(it: Pool) -> str:
    """Checksum of everything people drew."""
    drawn = [s for job in it.jobs for s in [*job.shapes, *job.tags, *job.tracks] if s.get("source") != "auto"]
    return hashlib.sha256(json.dumps(drawn, sort_keys=True, default=str).encode()).hexdigest()


# --- versions ------------------------------------------------------------------------------------------------


def test_the_project_has_its_name_and_its_labels_as_classes(it: Pool) -> None:
    spec = it.port.spec()
    assert (spec.title, spec.names) == ("cars", ("car", "van"))


def test_a_project_without_labels_for_boxes_is_refused_unless_some_are_to_be_made(it: Pool) -> None:
    for label in it.world.labels_of(it.project):
        label.type = "polygon"
    with pytest.raises(UnsupportedProjectError, match="its labels car, van hold other shapes"):
        it.port.spec()
    it.port.state["options"]["create_labels"] = ["cat"]
    assert it.port.spec().names == ()


def test_publishing_sends_nothing_and_counts_places(it: Pool) -> None:
    it.cvat.log.clear()
    assert it.port.publish(FIRST, [it.item(n, n, 12) for n in range(8)]) == 8
    assert it.port.publish(FIRST, [it.item(n, n, 12) for n in range(7, 12)]) == 5
    assert it.port.publish(SECOND, [it.item(0, 0, 1)]) == 1
    assert it.port.published() == {FIRST: 12, SECOND: 1}
    assert it.cvat.log == []


def test_a_version_without_places_cannot_be_activated(it: Pool) -> None:
    with pytest.raises(PlatformError, match=r"no places of 'v@0\.1-aaaaaaaa' are kept for project 1: publish it first"):
        it.port.activate(FIRST)
    assert "active" not in it.port.state


def test_nothing_is_done_before_a_version_is_active(it: Pool) -> None:
    it.port.publish(FIRST, [it.item(0, 0, 1)])
    it.cvat.log.clear()
    assert it.tend() == 0
    assert it.cvat.log == []


def test_jobs_are_pre_annotated_best_first_and_handed_out(it: Pool) -> None:
    it.publish(BEST_FIRST)
    it.cvat.log.clear()
    it.tend()
    order = [int(path.split("/")[3]) for _, path in it.cvat.log.matching("PATCH") if "annotations" in path]
    assert order == [it.jobs[n].id for n in (3, 0, 5, 4, 1, 2)]
    assert written(it) == {3: [40], 0: [41], 5: [42], 4: [43], 1: [44], 2: [45]}
    assert len(it.inbox("ann")) == len(it.inbox("bob")) == 2


def test_a_job_is_written_before_it_is_assigned(it: Pool) -> None:
    it.publish(BEST_FIRST)
    it.cvat.log.clear()
    it.tend()
    seen = [(path.split("/")[3].split("?")[0], "annotations" in path) for _, path in it.cvat.log.matching("PATCH")]
    for number in {number for number, _ in seen}:
        assert [shapes for job, shapes in seen if job == number] in ([True, False], [True])


def test_places_that_come_later_are_written_too(it: Pool) -> None:
    it.publish([6, 1])
    it.port.state["options"]["annotators"] = "nobody"
    it.tend()
    assert sorted(written(it)) == [0, 3]
    it.port.publish(FIRST, [it.item(7, 2, 3), it.item(9, 3, 3)])
    it.later(6)
    it.tend()
    assert {n: len(tops) for n, tops in written(it).items()} == {0: 1, 3: 2, 4: 1}


def test_a_new_version_replaces_the_shapes_in_jobs_that_nobody_has(it: Pool) -> None:
    it.publish(BEST_FIRST)
    it.tend()
    it.publish([4, 2, 6, 1, 10, 8], SECOND)
    it.tend()
    assert written(it) == {2: [40], 1: [41], 3: [40], 0: [41], 5: [42], 4: [43]}


def test_an_older_version_serves_again(it: Pool) -> None:
    it.port.state["options"]["annotators"] = "nobody"
    it.publish(BEST_FIRST)
    it.tend()
    first = written(it)
    it.publish([4, 2, 6, 1, 10, 8], SECOND)
    it.tend()
    assert written(it) != first
    it.port.activate(FIRST)
    it.tend()
    assert written(it) == first
    assert [row["rank"] for row in jobs_shown(it)] == [2, 5, 6, 1, 4, 3]


def test_what_people_drew_is_never_touched(it: Pool) -> None:
    with it.manager() as manager:
        tab = manager.open(it.jobs[3].id)
        tab.draw(7, 1, [1, 1, 9, 9])
        tab.save()
        manager.set_state(it.jobs[3].id, "new")
    before = human(it)
    it.publish(BEST_FIRST)
    it.tend()
    with it.person("ann") as ann:
        tab = ann.open(it.jobs[3].id)
        [ours] = tab.on_frame(6)
        tab.move(ours["id"], [5, 5, 50, 50])
        tab.finish()
    changed = human(it)
    assert changed != before
    for version in (SECOND, FIRST, SECOND):
        it.publish([4, 2, 6, 1, 10, 8], version)
        it.later(61)
        it.tend()
    assert human(it) == changed


# --- what people see -----------------------------------------------------------------------------------------


def jobs_shown(it: Pool) -> list[dict[str, Any]]:
    rows = it.memory.all("job")
    return [rows[str(job.id)] for job in it.jobs]


def test_people_are_told_how_many_jobs_are_done_in_hands_and_free(it: Pool) -> None:
    it.publish(BEST_FIRST)
    it.tend()
    it.finish("ann", 3)
    it.tend()
    assert it.memory.all(TOLD) == {"jobs": "1 done, 4 in somebody's hands, 1 free"}
    with it.manager() as manager:
        manager.set_state(it.jobs[3].id, "new", stage="validation")
    it.tend()
    assert it.memory.all(TOLD) == {"jobs": "1 done, 4 in somebody's hands, 1 free"}
    it.port.disconnect()
    assert it.memory.all(TOLD) == {}


def test_the_rows_of_jobs_say_rank_reason_and_assignee(it: Pool) -> None:
    it.publish(BEST_FIRST)
    it.tend()
    it.finish("ann", 3)
    it.tend()
    shown = jobs_shown(it)
    assert [row["rank"] for row in shown] == [1, 4, 5, None, 3, 2]
    assert shown[0] == {
        "rank": 1,
        "value": pytest.approx(5 / 7, abs=1e-6),
        "reason": "best frame 1 has rank 2 of 6",
        "sample": f"{it.task.id}:1",
        "task": it.task.id,
        "start": 0,
        "stop": 1,
        "state": "new",
        "stage": "annotation",
        "assignee": it.users["bob"].id,
        "assignee_name": "bob",
        "mode": "inbox",
    }
    assert (shown[3]["value"], shown[3]["reason"], shown[3]["state"]) == (None, "", "completed")


def test_links_open_the_job_at_the_frame_without_a_request(it: Pool) -> None:
    sample = f"{it.task.id}:5"
    assert it.port.link(sample) == f"{it.cvat.url}/tasks/{it.task.id}"
    it.publish(BEST_FIRST)
    it.tend()
    it.later(11)
    it.cvat.log.clear()
    assert it.port.link(sample) == f"{it.cvat.url}/tasks/{it.task.id}/jobs/{it.jobs[2].id}?frame=5"
    assert it.port.link("77:5") == f"{it.cvat.url}/tasks/77"
    assert it.cvat.log == []


def test_media_come_from_where_cvat_is_with_our_token(it: Pool) -> None:
    assert it.port.media_origin() == it.cvat.url
    token = it.settings.cvat_access_token
    assert token is not None
    assert it.port.media_headers()["Authorization"] == f"Bearer {token.get_secret_value()}"
    sample = next(iter(it.port.samples()))
    assert it.port.media_url(sample.id, sample.uri).startswith(f"{it.cvat.url}/api/tasks/{it.task.id}/data/")


def test_deleted_frames_do_not_speak_for_their_job(it: Pool) -> None:
    it.task.deleted_frames = {6}
    it.publish(BEST_FIRST)
    assert sum(1 for _ in it.port.samples()) == 11
    it.tend()
    assert [row["rank"] for row in jobs_shown(it)] == [1, 4, 5, 6, 3, 2]


def test_frames_answered_in_an_overlapping_job_do_not_speak_for_the_other(tmp_path: Path) -> None:
    with pool(tmp_path, frames=4, segment=4) as it:
        it.port.state["options"]["annotators"] = "nobody"
        pictures = [(f"{n}.jpg", picture()) for n in range(4)]
        both = it.cvat.add_task(it.project, "overlap", pictures, segment_size=3)
        first, second = it.cvat.jobs(both)
        second.start_frame = 2  # shared with the first
        first.state = "completed"
        it.port.publish(FIRST, [QueueItem(f"{both.id}:2", 0.1), QueueItem(f"{it.task.id}:0", 0.2)])
        it.port.activate(FIRST)
        it.tend()
        rows = it.memory.all("job")
        ranks = [rows[str(job.id)]["rank"] for job in (first, it.jobs[0], second)]
        assert ranks == [None, 1, 2]


def test_a_job_may_be_worth_the_mean_of_its_three_best_frames(tmp_path: Path) -> None:
    with pool(tmp_path, frames=6, segment=3) as it:
        it.publish([0, 3, 4, 5, 1, 2])
        it.tend()
        assert [row["rank"] for row in jobs_shown(it)] == [1, 2]
        it.port.state["options"]["job_value"] = "top3"
        it.later(61)
        it.tend()
        assert [row["rank"] for row in jobs_shown(it)] == [2, 1]


# --- queue tasks ---------------------------------------------------------------------------------------------


def test_long_jobs_are_handed_out_as_queue_tasks_in_exact_order(tmp_path: Path) -> None:
    with pool(tmp_path, frames=30, segment=30) as it:
        it.port.state["options"]["queue"] = "task"
        order = [29, 3, 17, 0, 8, *(n for n in range(30) if n not in (29, 3, 17, 0, 8))]
        it.publish(order)
        it.tend()
        [queue] = [t for t in it.world.tasks.values() if t.project_id != it.project.id]
        assert [int(f.name.split("-")[1]) for f in queue.frames] == order
        jobs = it.cvat.jobs(queue)
        assert [[s["points"][3] for s in job.shapes][:3] for job in jobs] == [[40, 41, 42], [50, 51, 52], [60, 61, 62]]
        ann, bob = (it.users[name].id for name in ("ann", "bob"))
        assert [job.assignee_id for job in jobs] == [ann, bob, ann]
        assert it.jobs[0].assignee_id is None
        rows = it.memory.all("job")
        assert [(rows[str(j.id)]["rank"], rows[str(j.id)]["mode"]) for j in jobs] == [(n, "task") for n in (1, 2, 3)]
        assert rows[str(jobs[0].id)]["sample"] == f"{it.task.id}:29"
        assert rows[str(it.jobs[0].id)]["rank"] is None
        with it.person("ann") as person:
            tab = person.open(jobs[0].id)
            tab.finish()
        it.later(6)
        it.tend()
        assert sorted(s["frame"] for s in it.jobs[0].shapes) == sorted(order[:10])
        assert dict(it.port.annotations(samples=[f"{it.task.id}:29"]))[f"{it.task.id}:29"] != []


def test_after_a_time_with_queue_tasks_their_jobs_are_not_handed_out_any_more(tmp_path: Path) -> None:
    with pool(tmp_path, frames=24, segment=24) as it:
        it.port.state["options"]["queue"] = "task"
        it.publish(range(24))
        it.tend()
        [queue] = [t for t in it.world.tasks.values() if t.project_id != it.project.id]
        *held, free = it.cvat.jobs(queue)
        it.port.state["options"]["queue"] = "inbox"
        for job in held:
            job.state = "completed"
            it.world.touch(job)
        free.assignee_id = None
        it.world.touch(free)
        it.memory.drop("taken")
        it.memory.drop("slot")
        it.later(61)
        it.tend()
        assert it.jobs[0].assignee_id is not None
        assert free.assignee_id is None
        assert it.memory.all("job")[str(free.id)]["rank"] is None


# --- requests ------------------------------------------------------------------------------------------------


def test_tending_without_news_costs_no_request_for_a_minute(it: Pool) -> None:
    it.publish(BEST_FIRST)
    it.tend()
    it.cvat.log.clear()
    for _ in range(59):
        it.later(1)
        assert it.tend(news=False) == 0
    assert it.cvat.log == []
    it.later(2)
    assert it.tend(news=False) == 0
    assert [path.partition("?")[0] for _, path in it.cvat.log] == ["/api/jobs", "/api/memberships"]


def test_much_news_costs_one_listing_each_five_seconds(it: Pool) -> None:
    it.publish(BEST_FIRST)
    it.tend()
    it.cvat.log.clear()
    for _ in range(600):
        it.later(0.5)
        it.tend(news=True)
    assert len(it.cvat.log.matching("GET", "/api/jobs?")) <= 300 / 5 + 10


def test_writes_are_one_patch_for_each_job_that_changes(it: Pool) -> None:
    it.port.state["options"]["annotators"] = "nobody"
    it.publish(BEST_FIRST)
    it.cvat.log.clear()
    it.tend()
    assert len(it.cvat.log.matching("PATCH")) == 6
    it.cvat.log.clear()
    it.publish(BEST_FIRST, SECOND)  # the same boxes
    it.tend()
    assert it.cvat.log.matching("PATCH") == []
    assert it.cvat.log.matching("GET", "/api/jobs/") == []


def test_after_a_restart_nothing_is_written_twice(it: Pool) -> None:
    it.publish(BEST_FIRST)
    it.tend()
    before = written(it), it.inbox("ann"), it.inbox("bob")
    it.cvat.log.clear()
    it.tend(it.open())
    assert (written(it), it.inbox("ann"), it.inbox("bob")) == before
    assert it.cvat.log.matching("PATCH") == []


def test_five_thousand_jobs_are_ranked_and_later_only_what_changed_is_listed(tmp_path: Path) -> None:
    with pool(tmp_path, frames=5000, segment=1) as it:
        it.later(61)
        it.publish(range(4999, -1, -1), boxes=0)
        it.cvat.log.clear()
        it.tend()
        assert len(it.cvat.log.matching("GET", "/api/jobs?")) <= 51 + 1
        assert it.inbox("ann") + it.inbox("bob") == [4997, 4999, 4996, 4998]
        ranks = it.memory.all("job")
        assert (len(ranks), ranks[str(it.jobs[0].id)]["rank"]) == (5000, 5000)
        it.finish("ann", 4999)
        it.cvat.log.clear()
        it.tend()
        assert it.inbox("ann") == [4995, 4997]
        assert len(it.cvat.log) < 12


# --- trouble -------------------------------------------------------------------------------------------------


def test_a_restart_of_cvat_is_an_error_and_the_work_goes_on_afterwards(it: Pool) -> None:
    it.publish(BEST_FIRST)
    it.cvat.faults.add(r"/annotations", "PATCH", status=502, times=1)
    with pytest.raises(PlatformUnreachableError):
        it.tend()
    it.tend(it.open())
    assert written(it) == {3: [40], 0: [41], 5: [42], 4: [43], 1: [44], 2: [45]}


def test_one_job_that_cannot_be_written_does_not_stop_the_others(it: Pool) -> None:
    it.cvat.faults.add(rf"/jobs/{it.jobs[3].id}/annotations", "PATCH", status=400)
    it.publish(BEST_FIRST)
    it.tend()
    assert sorted(written(it)) == [0, 1, 2, 4, 5]
    assert 3 not in it.inbox("ann") + it.inbox("bob")


def test_a_task_that_is_broken_does_not_stop_the_others(it: Pool) -> None:
    broken = it.cvat.add_task(it.project, "broken", [(f"{n}.jpg", picture()) for n in range(5)], segment_size=1)
    jobs = it.cvat.jobs(broken)
    fault = it.cvat.faults.add(rf"/jobs/({'|'.join(str(j.id) for j in jobs)})/annotations", status=500)
    best = [QueueItem(f"{broken.id}:{n}", 0.01 * (n + 1), it.item(0, 0, 1).boxes, 100, 100) for n in range(5)]
    it.port.publish(FIRST, best)
    it.publish(BEST_FIRST)
    it.tend()
    assert sorted(written(it)) == [0, 1, 2, 3, 4, 5]
    assert len(it.inbox("ann")) == len(it.inbox("bob")) == 2
    assert fault.met <= 2 * 3 * 3  # in each of two looks three jobs, and of each the reading three times


def test_places_that_come_are_not_all_read_again(it: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    it.publish([6, 1])
    it.tend()
    seen: list[str] = []
    everything = it.memory.all
    monkeypatch.setattr(it.memory, "all", lambda kind: [seen.append(kind), everything(kind)][1])
    it.port.publish(FIRST, [it.item(9, 3, 3)])
    it.later(6)
    it.tend()
    assert sorted(written(it)) == [0, 3, 4]
    assert f"place:{FIRST}" not in seen


def test_where_no_job_can_be_written_the_reason_is_raised(it: Pool) -> None:
    it.cvat.faults.add(r"/annotations", "PATCH", status=400)
    it.publish(BEST_FIRST)
    with pytest.raises(PlatformError, match="400"):
        it.tend()


def test_a_task_that_is_deleted_takes_its_rows_along(it: Pool) -> None:
    it.publish(BEST_FIRST)
    it.tend()
    with it.manager() as manager:
        manager.call("DELETE", f"/api/tasks/{it.task.id}")
    it.later(61)
    it.tend()
    assert it.memory.all("job") == it.memory.all("taken") == it.memory.all("written") == {}


# --- the end -------------------------------------------------------------------------------------------------


def test_disconnecting_undoes_what_was_made_and_leaves_what_people_did(it: Pool) -> None:
    it.port.connect(dry_run=False, replace=False)
    it.publish(BEST_FIRST)
    it.tend()
    with it.person("ann") as ann:
        tab = ann.open(it.jobs[5].id)
        tab.draw(11, 1, [1, 1, 9, 9])
        tab.save()
    before = human(it)
    it.later(1900)
    port = it.open()
    port.disconnect()
    assert it.world.webhooks == {}
    assert "active" not in it.state
    assert [n for n, job in enumerate(it.jobs) if job.assignee_id] == [5]
    retired = sum(iter(lambda: port.retire(FIRST, 4), 0))
    assert retired == 6 + 5
    assert sorted(written(it)) == [5]
    assert human(it) == before
    kinds = {kind for kind in it.memory.counts() if kind != "shapes"}
    assert kinds <= {"turn"}
    it.cvat.log.clear()
    assert it.tend(port) == 0
    assert it.cvat.log == []


def test_places_of_an_old_version_are_retired_in_slices_without_a_request(it: Pool) -> None:
    it.publish(BEST_FIRST)
    it.publish(BEST_FIRST, SECOND)
    it.cvat.log.clear()
    assert [it.port.retire(FIRST, 4) for _ in range(3)] == [4, 2, 0]
    assert it.port.published() == {SECOND: 6}
    assert it.cvat.log == []
