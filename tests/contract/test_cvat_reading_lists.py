"""Tasks, jobs, frames and samples as they are read from CVAT, with the requests counted."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from common.config import Settings
from common.errors import PlatformError
from cvat_adapter.client import Api
from cvat_adapter.frames import FRAMES_S, FRESH_S, frames_of
from cvat_adapter.nouns import Frame, Task, sample_id
from cvat_adapter.reading import Reader
from tests.contract.cvat_site import EARLY, Site, answers_of, read, site_fixture  # noqa: F401 - a fixture
from tests.cvat_server.faults import faults_of
from tests.unit.cvat_memory import DictMemory

# --- lists and samples -----------------------------------------------------------------------------------


def test_every_frame_of_every_job_is_a_sample_and_counts_its_answers(site: Site) -> None:
    task = site.task(6, segment_size=2)
    job = site.cvat.jobs(task)[1]
    site.done(job, 2)
    found = list(site.reader.samples())
    assert [one.id for one in found] == [sample_id(task.id, n) for n in range(6)]
    assert [one.answers for one in found] == [0, 0, 1, 1, 0, 0]
    assert found[2].uri == "00002.png"
    assert found[2].updated == job.updated_date


def test_tasks_without_data_and_deleted_frames_have_no_samples(site: Site) -> None:
    site.task(0)
    task = site.task(3)
    with site.manager() as boss:
        boss.call("PATCH", f"/api/tasks/{task.id}/data/meta", json={"deleted_frames": [1]})
    assert list(answers_of(site.reader)) == [sample_id(task.id, 0), sample_id(task.id, 2)]


def test_ground_truth_jobs_and_replicas_are_nobodys_answers(site: Site) -> None:
    task = site.task(2)
    with site.manager() as boss:
        truth = {"type": "ground_truth", "task_id": task.id, "frame_selection_method": "manual", "frames": [0]}
        site.cvat.world.jobs[boss.call("POST", "/api/jobs", json=truth)["id"]].state = "completed"
    (job,) = [one for one in site.cvat.jobs(task) if one.type == "annotation"]
    job.type, job.state = "consensus_replica", "completed"
    assert site.reader.jobs() == []
    assert answers_of(site.reader) == {}
    assert read(site.reader.annotations()) == {}


def test_another_projects_tasks_are_not_ours(site: Site) -> None:
    boss = site.cvat.world.users[site.project.owner_id]
    site.task(2, site.cvat.add_project("other", ["bird"], owner=boss, org=site.cvat.world.organizations[1]))
    assert (site.reader.tasks(), site.reader.jobs()) == ({}, [])


def test_a_task_deleted_between_the_listings_is_simply_gone(site: Site) -> None:
    kept, gone = site.task(1), site.task(1)
    site.done(site.cvat.jobs(gone)[0], 0)

    def delete() -> None:
        with site.manager() as boss:
            boss.call("DELETE", f"/api/tasks/{gone.id}")

    faults_of(site.cvat.world).after("GET", "/api/jobs$", 1, delete)
    assert list(answers_of(site.reader)) == [sample_id(kept.id, 0)]


def test_a_job_deleted_before_its_annotations_are_read_has_none(site: Site) -> None:
    task = site.task(1)
    site.done(site.cvat.jobs(task)[0], 0)

    def delete() -> None:
        with site.manager() as boss:
            boss.call("DELETE", f"/api/tasks/{task.id}")

    faults_of(site.cvat.world).before("GET", "/api/jobs/.*/annotations", 1, delete)
    assert read(site.reader.annotations(since=EARLY)) == {sample_id(task.id, 0): []}


def test_five_thousand_jobs_are_read_a_hundred_at_a_time(site: Site) -> None:
    site.task(5000, segment_size=1)
    site.cvat.log.clear()
    assert len(site.reader.jobs()) == 5000
    assert site.asked() == {"GET api/jobs": 50}


def test_jobs_that_change_while_the_pages_are_read_hide_no_others(site: Site) -> None:
    task = site.task(250, segment_size=1)
    jobs = site.cvat.jobs(task)

    def save() -> None:
        for job in jobs[:60]:
            site.cvat.world.touch(job)

    faults_of(site.cvat.world).after("GET", "/api/jobs$", 1, save)
    found = site.reader.jobs()
    assert [job.id for job in found] == [job.id for job in jobs]
    assert [job.updated for job in found] == [job.updated_date for job in jobs]


def test_the_project_as_a_whole_gone_is_said(site: Site) -> None:
    site.api.organization = "nowhere"
    with pytest.raises(PlatformError, match="no organization 'nowhere'"):
        site.reader.jobs()


def test_frames_that_were_deleted_without_a_trace_are_noticed_after_a_while(site: Site) -> None:
    task, now = site.task(2), [0.0]
    settings = Settings(_env_file=None)
    reader = Reader(site.api, str(site.project.id), settings, site.memory, site.state, clock=lambda: now[0])
    assert len(answers_of(reader)) == 2
    task.deleted_frames = {1}
    assert len(answers_of(reader)) == 2
    now[0] = FRAMES_S + 1
    assert len(answers_of(reader)) == 1


def meta_reads(site: Site) -> int:
    return site.asked()["GET api/tasks/N/data/meta"]


def test_which_frames_are_deleted_costs_no_request_where_they_were_read_since(site: Site) -> None:
    task, reader = site.task(6, segment_size=2), site.reader
    task.deleted_frames = {3}
    list(reader.samples())
    site.cvat.log.clear()
    assert [sorted(reader.deleted(job)) for job in reader.jobs()] == [[3]] * 3
    assert meta_reads(site) == 0


def test_a_frame_deleted_since_the_frames_were_read_is_known_by_the_time_of_its_job(site: Site) -> None:
    task, reader = site.task(6, segment_size=2), site.reader
    list(reader.samples())
    with site.manager() as boss:
        boss.call("PATCH", f"/api/tasks/{task.id}/data/meta", json={"deleted_frames": [3]})
    site.cvat.log.clear()
    first, second, third = reader.jobs()
    assert reader.deleted(first) == set(), "nothing of it has changed"
    assert [reader.deleted(job) for job in (second, third)] == [{3}, {3}]
    assert meta_reads(site) == 1


def test_a_frame_deleted_without_a_trace_is_not_written_to_after_a_minute(site: Site) -> None:
    task, now = site.task(2), [0.0]
    settings = Settings(_env_file=None)
    reader = Reader(site.api, str(site.project.id), settings, site.memory, site.state, clock=lambda: now[0])
    list(reader.samples())
    (job,) = reader.jobs()
    task.deleted_frames = {1}
    assert reader.deleted(job) == set()
    now[0] = FRESH_S + 1
    assert reader.deleted(job) == {1}


def test_a_task_that_got_its_frames_after_it_was_listed_is_listed_again(site: Site) -> None:
    reader = site.reader
    reader.tasks()
    task = site.task(2)
    task.deleted_frames = {0}
    (job,) = reader.jobs()
    assert reader.deleted(job) == {0}


def test_a_video_is_described_once_for_all_of_its_frames() -> None:
    task = Task(4, "clip", 1, 3, 0, 36, "video", EARLY)
    meta = {"frames": [{"name": "clip.mp4", "width": 640, "height": 360}], "deleted_frames": [2]}
    assert frames_of(task, meta) == [Frame(n, "clip.mp4", 640, 360, n == 2) for n in range(3)]


def test_a_task_of_point_clouds_has_no_frames_for_us(site: Site) -> None:
    site.task(2).dimension = "3d"
    assert list(site.reader.samples()) == []


# --- answers that are not as we know them ----------------------------------------------------------------

JOB = {"id": 9, "task_id": 4, "start_frame": 0, "stop_frame": 3, "state": "new", "stage": "annotation"}


@dataclass
class PageApi:
    """Gives the same rows on every page of every list."""

    rows: list[dict[str, Any]]
    base: str = "http://cvat"

    def page(self, _path: str, _params: Any, **_what: Any) -> tuple[list[dict[str, Any]], bool]:
        return self.rows, True


def listing(row: dict[str, Any]) -> Reader:
    return Reader(cast("Api", PageApi([row])), "1", Settings(_env_file=None), DictMemory())


@pytest.mark.parametrize("change", [{"start_frame": None}, {"updated_date": "yesterday"}, {"assignee": "ann"}])
def test_a_job_that_is_not_as_we_know_it_is_one_sentence(change: dict[str, Any]) -> None:
    with pytest.raises(PlatformError, match="CVAT gives a job in a form that hardfirst does not know"):
        listing({**JOB, "updated_date": "2026-11-20T18:00:00Z", **change}).jobs()


def test_a_list_that_never_ends_is_left() -> None:
    with pytest.raises(PlatformError, match="the same rows again and again"):
        listing({**JOB, "updated_date": "2026-11-20T18:00:00Z", "assignee": None}).jobs()


# --- what the filters say --------------------------------------------------------------------------------


def test_the_filters_are_those_the_sdk_would_send(site: Site) -> None:
    from cvat_sdk.core.filters import F, all_

    site.task(1)
    site.cvat.log.clear()
    since = datetime(2026, 11, 20, 18, 0, 0, 5, tzinfo=UTC)
    site.reader.jobs(since)
    (_, address) = site.cvat.log[0]
    sent = json.loads(parse_qs(unquote(urlsplit(address).query))["filter"][0])
    text = "2026-11-20T18:00:00.000005Z"
    wanted = all_(F.project_id.one_of([site.project.id]), F.type == "annotation", F.updated_date > text)
    assert sent == wanted.to_json_logic()


def test_nothing_is_sent_before_it_is_asked_for(site: Site) -> None:
    site.cvat.log.clear()
    with closing(site.reader.samples()):
        assert list(site.cvat.log) == []
