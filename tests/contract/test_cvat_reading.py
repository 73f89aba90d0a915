"""Reading over the stand-in CVAT, with the requests counted."""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from common.config import Settings
from common.domain import Annotation
from common.errors import MediaError, PlatformError, PlatformUnreachableError, UnreadableImageError
from common.media import MediaLibrary, Source, Stored
from cvat_adapter import answers as module
from cvat_adapter.client import Api
from cvat_adapter.frames import FRAMES_S, FRESH_S, frames_of
from cvat_adapter.images import Images
from cvat_adapter.nouns import Frame, Task, sample_id
from cvat_adapter.reading import Reader
from tests.cvat_server import world as records
from tests.cvat_server.faults import faults_of
from tests.cvat_server.people import Annotator, Manager
from tests.cvat_server.server import FakeCvat
from tests.unit.cvat_memory import DictMemory
from tests.unit.media_platform import image

EARLY = datetime(2020, 1, 1, tzinfo=UTC)
BOX = [6.0, 4.0, 30.0, 20.0]
PICTURE = image()


@dataclass
class Site:
    """A project of an organisation on a running stand-in, and a reader of it."""

    cvat: FakeCvat
    project: records.Project
    api: Api
    memory: DictMemory = field(default_factory=DictMemory)
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def reader(self) -> Reader:
        return self.reader_of()

    def reader_of(self, **settings: Any) -> Reader:
        return Reader(self.api, str(self.project.id), Settings(_env_file=None, **settings), self.memory, self.state)

    @property
    def label(self) -> int:
        return self.cvat.world.labels_of(self.project)[0].id

    def task(self, frames: int, project: records.Project | None = None, **how: Any) -> records.Task:
        pictures = [(f"{n:05}.png", PICTURE) for n in range(frames)]
        return self.cvat.add_task(project or self.project, "pool", pictures, **how)

    def manager(self) -> Manager:
        return Manager(self.cvat.url, "boss", "pass", "lab")

    def done(self, job: records.Job, *frames: int, label: int | None = None) -> None:
        """Ann gets the job, draws a box on these frames and finishes."""
        with self.manager() as boss, Annotator(self.cvat.url, "ann", "pass", "lab") as ann:
            boss.assign(job.id, ann.id)
            ann.annotate(job.id, [(n, label or self.label, BOX) for n in frames])
        self.cvat.log.clear()

    def asked(self) -> Counter[str]:
        """'GET /path' -> requests since the log was cleared, numbers as N; 'chunk' for chunks."""
        found: Counter[str] = Counter()
        for method, address in list(self.cvat.log):
            parts = urlsplit(address)
            path = "/".join("N" if part.isdigit() else part for part in parts.path.strip("/").split("/"))
            found["chunk" if parse_qs(parts.query).get("type") == ["chunk"] else f"{method} {path}"] += 1
        return found


@pytest.fixture
def site() -> Iterator[Site]:
    with FakeCvat() as cvat:
        boss, ann = cvat.add_user("boss"), cvat.add_user("ann")
        lab = cvat.add_organization("lab", boss)
        cvat.add_member(lab, ann)
        project = cvat.add_project("birds", ["bird", {"name": "cell", "type": "polygon"}], owner=boss, org=lab)
        api = Api(cvat.url, token=cvat.add_token(boss))
        api.organization = "lab"
        yield Site(cvat, project, api)
        api.close()


def read(found: Iterator[tuple[str, list[Annotation]]]) -> dict[str, list[str]]:
    """Sample -> ids of its answers; each sample comes once."""
    rows = list(found)
    assert len({sample for sample, _ in rows}) == len(rows)
    return {sample: [one.id for one in answers] for sample, answers in rows}


def answers_of(reader: Reader) -> dict[str, int]:
    return {one.id: one.answers for one in reader.samples()}


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


# --- answers ---------------------------------------------------------------------------------------------


def test_an_answer_is_what_a_person_left_on_a_frame_of_a_done_job(site: Site) -> None:
    task = site.task(4, segment_size=2)
    job = site.cvat.jobs(task)[0]
    site.done(job, 1)
    found = dict(site.reader.annotations())
    empty, drawn = found[sample_id(task.id, 0)][0], found[sample_id(task.id, 1)][0]
    assert set(found) == {empty.sample, drawn.sample}
    assert (empty.boxes, empty.skipped) == ((), False)
    assert (drawn.id, drawn.person, drawn.updated) == (f"{job.id}:1", str(job.assignee_id), job.updated_date)
    assert drawn.lead_time is None
    (box,) = drawn.boxes
    assert (box.name, box.origin) == ("bird", "manual")
    assert box.xyxy == pytest.approx((0.1, 0.1, 0.5, 0.5))


def test_a_job_counts_from_the_stage_that_was_asked_for(site: Site) -> None:
    task = site.task(1)
    (job,) = site.cvat.jobs(task)
    site.done(job)
    reader = site.reader_of(done_stage="acceptance")
    assert (read(reader.annotations()), list(answers_of(reader).values())) == ({}, [0])
    with site.manager() as boss:
        boss.accept(job.id)
    assert (list(read(reader.annotations())), list(answers_of(reader).values())) == ([sample_id(task.id, 0)], [1])


@pytest.mark.parametrize(
    ("moves", "counting"),
    [
        ([], ["annotation"]),
        ([("new", "validation")], ["annotation"]),
        ([("new", "validation"), ("in progress", "validation")], ["annotation"]),
        ([("new", "validation"), ("rejected", "validation")], []),
        ([("completed", "validation")], ["annotation", "validation"]),
        ([("completed", "validation"), ("new", "acceptance")], ["annotation", "validation"]),
        ([("completed", "validation"), ("rejected", "acceptance")], []),
        ([("completed", "acceptance")], ["annotation", "validation", "acceptance"]),
        ([("completed", "acceptance"), ("new", "validation")], ["annotation"]),
        ([("completed", "acceptance"), ("new", "annotation")], []),
    ],
    ids=lambda moves: " then ".join(" ".join(one) for one in moves) if moves and isinstance(moves[0], tuple) else None,
)
def test_a_job_that_is_moved_on_keeps_the_labels_of_the_stage_before(
    site: Site, moves: list[tuple[str, str]], counting: list[str]
) -> None:
    task = site.task(1)
    (job,) = site.cvat.jobs(task)
    site.done(job, 0)
    with site.manager() as boss:
        for state, stage in moves:
            boss.set_state(job.id, state, stage=stage)
    sample = sample_id(task.id, 0)
    for stage in ("annotation", "validation", "acceptance"):
        reader, answers = site.reader_of(done_stage=stage), [f"{job.id}:0"] if stage in counting else []
        assert answers_of(reader) == {sample: len(answers)}
        assert read(reader.annotations()) == ({sample: answers} if answers else {})
        assert read(reader.annotations(since=EARLY)) == {sample: answers}
        assert read(reader.annotations(samples=[sample])) == {sample: answers}


def test_a_done_job_over_which_cvat_breaks_down_is_passed_by_and_read_again(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    task = site.task(6, segment_size=2)
    bad, *others = site.cvat.jobs(task)
    for job in (bad, *others):
        site.done(job, job.start_frame)
    reader = site.reader
    faults_of(site.cvat.world).add(rf"/api/jobs/{bad.id}/annotations", status=500)
    good = {sample_id(task.id, n): [f"{others[n // 2 - 1].id}:{n}"] for n in range(2, 6)}
    assert read(reader.annotations()) == good, "what is known of the others' samples stays: they do not come"
    assert f"the answers of job {bad.id} are passed by" in caplog.text
    assert answers_of(reader)[sample_id(task.id, 0)] == 1, "so that the comparison finds it"
    watermark = max(job.updated_date for job in others)
    assert read(reader.annotations(samples=[sample_id(task.id, 0)])) == {}
    faults_of(site.cvat.world).clear()
    found = {sample_id(task.id, n): [f"{bad.id}:{n}"] for n in range(2)}
    assert read(reader.annotations(since=watermark)) == found, "also where it was known in an older state"
    assert read(reader.annotations(since=watermark)) == {}
    assert read(reader.annotations(samples=list(found))) == found


def test_a_cvat_that_breaks_down_over_every_job_is_one_trouble(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 2)
    task = site.task(3, segment_size=1)
    for job in site.cvat.jobs(task):
        site.done(job)
    faults_of(site.cvat.world).add(r"/api/jobs/\d+/annotations", status=500)
    with pytest.raises(PlatformError, match="status 500"):
        list(site.reader.annotations())


def test_only_jobs_that_changed_since_are_read(site: Site) -> None:
    task = site.task(4, segment_size=2)
    first, second = site.cvat.jobs(task)
    site.done(first)
    watermark = first.updated_date
    assert read(site.reader.annotations(since=watermark)) == {}
    assert site.asked() == {"GET api/jobs": 1}
    site.done(second)
    assert list(read(site.reader.annotations(since=watermark))) == [sample_id(task.id, 2), sample_id(task.id, 3)]


@pytest.mark.parametrize("back", [Manager.reject, Manager.reopen])
def test_a_job_that_goes_back_takes_its_answers_along(site: Site, back: Callable[[Manager, int], Any]) -> None:
    task = site.task(2)
    (job,) = site.cvat.jobs(task)
    site.done(job, 0)
    watermark = job.updated_date
    with site.manager() as boss:
        back(boss, job.id)
    samples = [sample_id(task.id, n) for n in range(2)]
    site.cvat.log.clear()
    assert read(site.reader.annotations(since=watermark)) == {s: [] for s in samples}
    assert read(site.reader.annotations(samples=samples[:1])) == {samples[0]: []}
    assert read(site.reader.annotations()) == {}
    assert "GET api/jobs/N/annotations" not in site.asked()


def test_named_samples_are_read_and_no_others(site: Site) -> None:
    task = site.task(6, segment_size=2)
    for job in site.cvat.jobs(task):
        site.done(job)
    asked = [sample_id(task.id, 5), sample_id(task.id, 0), sample_id(task.id, 99), "77:0"]
    found = read(site.reader.annotations(samples=asked))
    assert {sample: len(ids) for sample, ids in found.items()} == {asked[0]: 1, asked[1]: 1, asked[2]: 0, asked[3]: 0}
    assert site.asked()["GET api/jobs/N/annotations"] == 2


def test_a_frame_in_two_overlapping_jobs_is_one_sample_with_two_answers(site: Site) -> None:
    task = site.task(5, segment_size=3, overlap=1)
    first, second = site.cvat.jobs(task)
    site.done(first, 2)
    shared = sample_id(task.id, 2)
    watermark = first.updated_date
    site.done(second, 2)
    assert answers_of(site.reader)[shared] == 2
    wanted = [f"{first.id}:2", f"{second.id}:2"]
    assert read(site.reader.annotations())[shared] == wanted
    assert read(site.reader.annotations(since=watermark))[shared] == wanted  # only the second job changed after it
    assert read(site.reader.annotations(samples=[shared])) == {shared: wanted}
    assert all(len(one.boxes) == 1 for one in dict(site.reader.annotations())[shared])


def test_deleted_frames_have_no_answers(site: Site) -> None:
    task = site.task(2)
    (job,) = site.cvat.jobs(task)
    site.done(job, 0, 1)
    with site.manager() as boss:
        boss.call("PATCH", f"/api/tasks/{task.id}/data/meta", json={"deleted_frames": [0]})
    assert read(site.reader.annotations()) == {sample_id(task.id, 1): [f"{job.id}:1"]}


def test_a_track_ends_with_its_job_also_when_the_whole_task_is_read(site: Site) -> None:
    task = site.task(8, segment_size=2)
    jobs = site.cvat.jobs(task)
    shape = {"type": "rectangle", "frame": 0, "points": BOX, "outside": False}
    body = {"tracks": [{"label_id": site.label, "frame": 0, "shapes": [shape]}]}
    with site.manager() as boss:
        boss.call("PATCH", f"/api/jobs/{jobs[0].id}/annotations/", params={"action": "create"}, json=body)
        for job in jobs:
            boss.set_state(job.id, "completed")
    site.cvat.log.clear()
    found = dict(site.reader.annotations())
    assert [len(found[sample_id(task.id, n)][0].boxes) for n in range(8)] == [1, 1, 0, 0, 0, 0, 0, 0]
    assert site.asked()["GET api/tasks/N/annotations"] == 1


def test_the_first_reading_costs_little(site: Site) -> None:
    tasks = [site.task(20, segment_size=1) for _ in range(12)]
    for task in tasks:
        for job in site.cvat.jobs(task):
            job.state = "completed"
    site.cvat.log.clear()
    reader = site.reader
    assert len(list(reader.samples())) == 240
    assert len(list(reader.annotations())) == 240
    assert site.asked() == {
        "GET api/tasks": 1,
        "GET api/jobs": 2 * 3,
        "GET api/labels": 1,
        "GET api/tasks/N/data/meta": 12,
        "GET api/tasks/N/annotations": 12,
    }


def test_a_second_reading_asks_only_for_what_changed(site: Site) -> None:
    tasks = [site.task(4, segment_size=2) for _ in range(5)]
    reader = site.reader
    newest = max(one.updated for one in reader.samples() if one.updated)
    site.done(site.cvat.jobs(tasks[2])[0], 0)
    list(reader.samples())
    assert len(list(reader.annotations(since=newest))) == 2
    assert site.asked() == {
        "GET api/tasks": 1,
        "GET api/jobs": 2,
        "GET api/labels": 1,
        "GET api/tasks/N/data/meta": 1,
        "GET api/jobs/N/annotations": 1,
    }


# --- queue tasks -----------------------------------------------------------------------------------------


@dataclass
class Queue:
    """A sibling project with a task of two frames: the source's frames 3 and 0."""

    source: records.Task
    task: records.Task
    label: int


@pytest.fixture
def queue(site: Site) -> Queue:
    boss = site.cvat.world.users[site.project.owner_id]
    sibling = site.cvat.add_project("queue", ["bird"], owner=boss, org=site.cvat.world.organizations[1])
    source, task = site.task(4, segment_size=2), site.task(2, sibling)
    site.state["sibling"] = sibling.id
    site.memory.put("mapped", {f"{task.id}:0": f"{source.id}:3", f"{task.id}:1": f"{source.id}:0"})
    return Queue(source, task, site.cvat.world.labels_of(sibling)[0].id)


def test_a_frame_of_a_queue_task_is_an_answer_about_its_source(site: Site, queue: Queue) -> None:
    (job,) = site.cvat.jobs(queue.task)
    site.done(job, 0, label=queue.label)
    last, first = f"{queue.source.id}:3", f"{queue.source.id}:0"
    assert answers_of(site.reader) == {f"{queue.source.id}:{n}": int(n in (0, 3)) for n in range(4)}
    found = dict(site.reader.annotations())
    assert {sample: [a.id for a in answers] for sample, answers in found.items()} == {
        first: [f"{job.id}:1"],
        last: [f"{job.id}:0"],
    }
    assert [box.name for box in found[last][0].boxes] == ["bird"]


def test_both_places_of_a_sample_are_read_whichever_changed(site: Site, queue: Queue) -> None:
    (job,), (source, _) = site.cvat.jobs(queue.task), site.cvat.jobs(queue.source)
    site.done(source)
    watermark = source.updated_date
    site.done(job)
    first = f"{queue.source.id}:0"
    wanted = [f"{source.id}:0", f"{job.id}:1"]
    assert read(site.reader.annotations(since=watermark))[first] == wanted
    assert read(site.reader.annotations(samples=[first])) == {first: wanted}
    assert read(site.reader.annotations())[first] == wanted
    assert answers_of(site.reader)[first] == 2


def test_frames_of_queue_tasks_are_no_samples_and_unknown_ones_no_answers(site: Site, queue: Queue) -> None:
    site.memory.drop("mapped", [f"{queue.task.id}:0"])
    site.done(site.cvat.jobs(queue.task)[0])
    assert {int(s.partition(":")[0]) for s in answers_of(site.reader)} == {queue.source.id}
    assert list(read(site.reader.annotations())) == [f"{queue.source.id}:0"]


def test_jobs_and_tasks_of_both_projects_come_in_one_listing(site: Site, queue: Queue) -> None:
    site.cvat.log.clear()
    assert {task.project for task in site.reader.tasks().values()} == {site.project.id, site.state["sibling"]}
    assert len(site.reader.jobs()) == 3
    assert site.asked() == {"GET api/tasks": 1, "GET api/jobs": 1}


# --- images ----------------------------------------------------------------------------------------------


def library(folder: Path) -> MediaLibrary:
    return MediaLibrary(folder, allow_hosts=(), max_bytes=10**6, max_pixels=10**6, cache_bytes=10**8, retry_s=0.01)


def urls(reader: Reader, task: int, numbers: range) -> list[str]:
    return [reader.media_url(sample_id(task, n)) for n in numbers]


def test_two_hundred_frames_come_in_as_many_requests_as_there_are_chunks(site: Site, tmp_path: Path) -> None:
    pictures = [(f"{n:03}.png", image(8, 8, seed=n)) for n in range(200)]
    task = site.cvat.add_task(site.project, "pool", pictures)
    reader, got = site.reader, list[Stored | MediaError]()
    list(reader.samples())
    site.cvat.log.clear()
    source = Source(site.cvat.url, site.api.media_headers(), reader.media_bulk)
    with library(tmp_path) as media:
        for batch in (range(100), range(100, 200)):
            got += media.get_many(urls(reader, task.id, batch), source)
    assert [cast("Stored", one).path.read_bytes() for one in got] == [data for _, data in pictures]
    assert site.asked() == {"chunk": 3}  # of 72 frames


def test_a_frame_that_is_no_image_is_reported_for_itself_and_costs_its_chunk_once(site: Site, tmp_path: Path) -> None:
    task = site.task(8)
    site.cvat.world.tasks[task.id].frames[3].data = b"no image"
    reader = site.reader
    source = Source(site.cvat.url, site.api.media_headers(), reader.media_bulk)
    with library(tmp_path) as media:
        site.cvat.log.clear()
        got = media.get_many(urls(reader, task.id, range(8)), source)
        again = media.get_many(urls(reader, task.id, range(8)), source)
    assert [type(one) for one in got] == [type(one) for one in again]
    assert [n for n, one in enumerate(got) if isinstance(one, UnreadableImageError)] == [3]
    assert sum(isinstance(one, Stored) for one in got) == 7
    assert site.asked()["chunk"] == 1


def test_neighbours_come_along_and_deleted_frames_do_not(site: Site) -> None:
    task = site.task(4)
    with site.manager() as boss:
        boss.call("PATCH", f"/api/tasks/{task.id}/data/meta", json={"deleted_frames": [2]})
    reader = site.reader
    found = dict(reader.media_bulk(urls(reader, task.id, range(1))))
    assert list(found) == [reader.media_url(sample_id(task.id, n)) for n in (0, 1, 3)]
    assert set(found.values()) == {PICTURE}


def test_a_chunk_that_cannot_be_had_yields_nothing(site: Site) -> None:
    task = site.task(2)
    faults_of(site.cvat.world).add("/data", status=400)
    assert list(site.reader.media_bulk(urls(site.reader, task.id, range(2)))) == []


def test_addresses_that_are_not_ours_and_tasks_that_are_gone_yield_nothing(site: Site) -> None:
    reader = site.reader
    assert list(reader.media_bulk(["http://elsewhere/1.jpg", reader.media_url("77:0"), ""])) == []


@dataclass
class ChunkApi:
    """Gives the same bytes for every chunk, and notes what was asked."""

    data: bytes
    base: str = "http://cvat"
    down: bool = False
    asked: list[dict[str, Any]] = field(default_factory=list)

    def bytes(self, path: str, params: dict[str, Any] | None = None, *, what: str) -> bytes:
        self.asked.append(params or {})
        if self.down:
            raise PlatformUnreachableError("CVAT does not answer")
        return self.data


def chunk(*members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number, data in enumerate(members):
            archive.writestr(f"{number:06}.jpeg", data)
    return file.getvalue()


def images(api: ChunkApi, kind: str = "imageset", size: int = 3, compressed: str = "imageset") -> Images:
    task = Task(4, "pool", 1, size, 0, 72, kind, EARLY, compressed)
    frames = [Frame(n, "", 8, 8) for n in range(size)]
    return Images(cast("Api", api), lambda _: {4: task}, lambda _: frames, max_bytes=10)


@pytest.mark.parametrize(("kind", "quality"), [("imageset", "original"), ("video", "compressed")])
def test_chunks_of_a_video_are_asked_for_as_images(kind: str, quality: str) -> None:
    api = ChunkApi(chunk(b"a", b"b", b"c"))
    found = images(api, kind)
    assert [data for _, data in found.bulk([found.url(4, 1)])] == [b"a", b"b", b"c"]
    assert api.asked == [{"type": "chunk", "number": 0, "quality": quality}]


def test_chunks_of_a_video_that_hold_no_images_are_not_fetched() -> None:
    api = ChunkApi(b"")
    found = images(api, "video", compressed="video")
    assert list(found.bulk([found.url(4, 1)])) == []
    assert api.asked == []


@pytest.mark.parametrize("data", [b"\x00\x00\x00\x18ftypmp42", b"", chunk(b"a", b"b")])
def test_a_chunk_that_is_no_archive_with_one_image_per_frame_yields_nothing(data: bytes) -> None:
    found = images(ChunkApi(data))
    assert list(found.bulk([found.url(4, 0)])) == []


def test_a_server_that_is_away_is_no_missing_chunk() -> None:
    found = images(ChunkApi(b"", down=True))
    with pytest.raises(PlatformUnreachableError):
        list(found.bulk([found.url(4, 0)]))


def test_a_chunk_is_fetched_again_only_for_a_good_part_of_it() -> None:
    api = ChunkApi(chunk(*[b"a"] * 8))
    found = images(api, size=8)
    for wanted in (8, 1, 2):
        list(found.bulk([found.url(4, n) for n in range(wanted)]))
    assert len(api.asked) == 2


def test_a_member_that_is_too_large_or_damaged_is_left_to_its_own_turn() -> None:
    damaged = chunk(b"good", b"x" * 11, b"spoilt").replace(b"spoilt", b"sp0ilt", 1)
    found = images(ChunkApi(damaged))
    assert list(found.bulk([found.url(4, 0)])) == [(found.url(4, 0), b"good")]


def test_a_task_too_large_to_be_read_at_once_is_read_job_by_job(site: Site) -> None:
    task = site.task(6, segment_size=1)
    for job in site.cvat.jobs(task):
        site.done(job, job.start_frame)
    faults_of(site.cvat.world).add(rf"/api/tasks/{task.id}/annotations", status=504)
    found = dict(site.reader.annotations())
    assert [len(answer.boxes) for answers in found.values() for answer in answers] == [1] * 6


# --- answers that are not as we know them -----------------------------------------------------------------

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
