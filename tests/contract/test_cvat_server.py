"""The stand-in CVAT under the real cvat-sdk: what the adapter relies on, over HTTP on localhost."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import urllib3
from cvat_sdk import Client, Config, make_client, models
from cvat_sdk import auto_annotation as cvataa
from cvat_sdk.api_client import exceptions
from cvat_sdk.core.exceptions import BackgroundRequestException
from cvat_sdk.core.filters import F, all_, any_, not_
from cvat_sdk.core.helpers import get_paginated_collection
from cvat_sdk.core.proxies.tasks import ResourceType
from cvat_sdk.core.uploading import DataUploader
from cvat_sdk.datasets import TaskDataset
from PIL import Image

from tests.cvat_server.server import FakeCvat

Connect = Callable[..., Client]
# get_frame of cvat-sdk 2.80 leaves the temporary file behind that it parses the answer into.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


def picture(shade: int = 0, size: tuple[int, int] = (32, 24), kind: str = "JPEG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, (shade, shade, shade)).save(out, kind)
    return out.getvalue()


def pictures(count: int) -> list[tuple[str, bytes]]:
    return [(f"img_{number:03}.jpg", picture(number * 10)) for number in range(count)]


def files(folder: Path, count: int) -> list[Path]:
    made = []
    for name, data in pictures(count):
        made.append(folder / name)
        made[-1].write_bytes(data)
    return made


@pytest.fixture
def cvat(tmp_path: Path) -> Iterator[FakeCvat]:
    share = tmp_path / "share"
    (share / "pool").mkdir(parents=True)
    files(share / "pool", 4)
    with FakeCvat(share) as server:
        yield server
    assert server.world.crashes == []


@pytest.fixture
def lab(cvat: FakeCvat) -> SimpleNamespace:
    """Organisation `lab`: boss owns it, ann and bob work in it; project `demo`."""
    boss, ann, bob = (cvat.add_user(name) for name in ("boss", "ann", "bob"))
    org = cvat.add_organization("lab", boss)
    for worker in (ann, bob):
        cvat.add_member(org, worker)
    project = cvat.add_project("demo", ["car", "tree"], owner=boss, org=org)
    return SimpleNamespace(boss=boss, ann=ann, bob=bob, org=org, project=project)


@pytest.fixture
def connect(cvat: FakeCvat, tmp_path: Path) -> Iterator[Connect]:
    """Opens clients as the adapter does; closes them at the end."""
    opened = []

    def open_client(user: Any, org: str | None = "lab", *, read_only: bool = False) -> Client:
        client = Client(cvat.url, config=Config(status_check_period=0.01, cache_dir=tmp_path / "cache"))
        client.api_client.configuration.access_token = cvat.add_token(user, read_only=read_only)
        client.organization_slug = org
        opened.append(client)
        return client

    yield open_client
    for client in opened:
        client.close()


@pytest.fixture
def pool(cvat: FakeCvat, lab: SimpleNamespace) -> Any:
    """A task of 6 frames in 3 jobs."""
    return cvat.add_task(lab.project, "pool", pictures(6), segment_size=2)


def test_a_password_and_a_token_both_open_a_client(cvat: FakeCvat, lab: SimpleNamespace) -> None:
    with make_client(cvat.url, credentials=("ann", "pass")) as by_password:
        assert by_password.users.retrieve_current_user().username == "ann"
        assert by_password.api_client.auth_api.list_access_tokens()[0].count == 0
        created = models.AccessTokenWriteRequest(name="mine")
        token, _ = by_password.api_client.auth_api.create_access_tokens(access_token_write_request=created)
    with make_client(cvat.url, access_token=token.value) as by_token:
        assert by_token.users.retrieve_current_user().id == lab.ann.id
        assert by_token.api_client.auth_api.retrieve_access_tokens_self()[0].read_only is True


def test_after_logging_out_a_session_is_worth_nothing(cvat: FakeCvat, lab: SimpleNamespace) -> None:
    with make_client(cvat.url, credentials=("ann", "pass")) as client:
        client.logout()
        with pytest.raises(exceptions.UnauthorizedException):
            client.jobs.list()


def test_a_wrong_password_is_400_and_a_wrong_token_401(cvat: FakeCvat, lab: SimpleNamespace) -> None:
    with pytest.raises(exceptions.ApiException) as wrong:
        make_client(cvat.url, credentials=("ann", "no"))
    assert (wrong.value.status, "non_field_errors" in wrong.value.body) == (400, True)
    with make_client(cvat.url, access_token="no") as client, pytest.raises(exceptions.UnauthorizedException):
        client.jobs.list()


def test_a_read_only_token_reads_but_does_not_write(lab: SimpleNamespace, pool: Any, connect: Connect) -> None:
    client = connect(lab.boss, read_only=True)
    assert len(client.jobs.list()) == 3
    with pytest.raises(exceptions.ForbiddenException):
        client.projects.create({"name": "x"})


def test_unknown_organisations_are_404_and_foreign_ones_403(
    cvat: FakeCvat, lab: SimpleNamespace, connect: Connect
) -> None:
    with pytest.raises(exceptions.NotFoundException):
        connect(lab.boss, "nope").tasks.list()
    with pytest.raises(exceptions.ForbiddenException):
        connect(cvat.add_user("outsider"), "lab").tasks.list()


def test_the_organisation_header_narrows_lists(cvat: FakeCvat, lab: SimpleNamespace, connect: Connect) -> None:
    own = cvat.add_project("own", ["car"], owner=lab.boss)
    found = {org: [one.id for one in connect(lab.boss, org).projects.list()] for org in ("lab", "", None)}
    assert found == {"lab": [lab.project.id], "": [own.id], None: [own.id, lab.project.id]}


def test_a_project_is_created_with_labels_and_gets_more_later(lab: SimpleNamespace, connect: Connect) -> None:
    client = connect(lab.boss)
    point = {"name": "head", "type": "points"}
    svg = '<circle data-label-name="head"></circle>'
    labels = [{"name": "cell", "type": "mask"}, {"name": "man", "type": "skeleton", "sublabels": [point], "svg": svg}]
    project = client.projects.create({"name": "new", "labels": labels})
    project.update({"labels": [models.PatchedLabelRequest(name="box", type="rectangle")]})
    found = {one.name: one for one in project.get_labels()}
    assert list(found) == ["cell", "man", "box"]
    assert f'data-label-id="{found["man"].sublabels[0].id}"' in found["man"].svg
    project.update({"labels": [models.PatchedLabelRequest(id=found["cell"].id, deleted=True)]})
    assert [one.name for one in project.get_labels()] == ["man", "box"]
    project.remove()
    with pytest.raises(exceptions.NotFoundException):
        client.projects.retrieve(project.id)


def test_lists_come_in_pages_newest_first(lab: SimpleNamespace, pool: Any, connect: Connect) -> None:
    client = connect(lab.boss)
    assert [job.id for job in client.jobs.list()] == sorted(pool.job_ids, reverse=True)
    page, _ = client.api_client.jobs_api.list(page_size=2, sort="priority,id")
    assert (page.count, [one.id for one in page.results], "page=2" in page.next) == (3, pool.job_ids[:2], True)
    with pytest.raises(exceptions.NotFoundException):
        client.api_client.jobs_api.list(page=9)
    endpoint = client.api_client.jobs_api.list_endpoint
    assert len(get_paginated_collection(endpoint, page_size=1, task_id=pool.id)) == 3


def test_filters_of_the_sdk_are_understood(cvat: FakeCvat, lab: SimpleNamespace, pool: Any, connect: Connect) -> None:
    jobs = cvat.jobs(pool)
    jobs[0].assignee_id, jobs[1].state = lab.ann.id, "completed"
    client = connect(lab.boss)

    def found(*args: Any, **kwargs: Any) -> list[int]:
        return [jobs.index(cvat.world.jobs[one.id]) for one in client.jobs.list(*args, sort="id", **kwargs)]

    assert found(filter=all_(F.project_id == lab.project.id, F.state == "new", not_(F.assignee.is_set()))) == [2]
    assert found(filter=any_(F.assignee == "ann", F.state != "new")) == [0, 1]
    assert found(filter=F.id.between(jobs[1].id, jobs[2].id)) == [1, 2]
    assert found(state__in=["completed", "rejected"]) == [1]
    assert found(updated_date__gt=jobs[1].updated_date.isoformat()) == [2]
    assert found(project_id=lab.project.id, state="new", assignee="ann") == [0]


def test_an_unknown_plain_filter_is_ignored(cvat: FakeCvat, lab: SimpleNamespace, pool: Any) -> None:
    token = cvat.add_token(lab.boss)
    path = "/api/jobs?updated_date__gt=2999-01-01T00:00:00Z"
    answer = urllib3.request("GET", cvat.url + path, headers={"Authorization": f"Bearer {token}"})
    assert (answer.json()["count"], answer.headers["Content-Type"]) == (3, "application/vnd.cvat+json")


def test_a_worker_sees_his_jobs_and_no_task(cvat: FakeCvat, lab: SimpleNamespace, pool: Any, connect: Connect) -> None:
    first, second, _ = cvat.jobs(pool)
    connect(lab.boss).jobs.retrieve(first.id).update({"assignee": lab.ann.id})
    client = connect(lab.ann)
    (job,) = client.jobs.list()
    assert (job.id, job.task_name, job.project_name) == (first.id, None, None)
    assert client.tasks.list() == []
    assert job.get_frame(0, quality="original").read() == pool.frames[0].data
    assert [one.name for one in job.get_labels()] == ["car", "tree"]
    job.update({"state": "in progress"})
    with pytest.raises(exceptions.ForbiddenException):
        job.update({"stage": "validation"})
    with pytest.raises(exceptions.ForbiddenException):
        job.update({"assignee": None})
    with pytest.raises(exceptions.ForbiddenException):
        client.jobs.retrieve(second.id)
    with pytest.raises(exceptions.ForbiddenException):
        client.tasks.retrieve(pool.id)


def test_the_state_of_a_job_follows_its_stage(
    cvat: FakeCvat, lab: SimpleNamespace, pool: Any, connect: Connect
) -> None:
    job = connect(lab.boss).jobs.retrieve(pool.job_ids[0])
    job.update({"state": "completed"})
    before = job.fetch().updated_date
    job.update({"state": "completed"})
    assert (job.state, job.updated_date > before) == ("completed", True)
    job.update({"stage": "validation"})
    assert (job.stage, job.state, str(job.status)) == ("validation", "new", "validation")
    job.update({"stage": "acceptance", "state": "completed"})
    assert connect(lab.boss).tasks.retrieve(pool.id).jobs.completed == 1


def test_an_assignment_moves_only_the_job(cvat: FakeCvat, lab: SimpleNamespace, pool: Any, connect: Connect) -> None:
    job = connect(lab.boss).jobs.retrieve(pool.job_ids[0])
    task_before = pool.updated_date
    job.update({"assignee": lab.bob.id})
    assert (job.assignee.username, job.assignee_updated_date is not None) == ("bob", True)
    job.update({"assignee": None})
    assert (job.assignee, pool.updated_date) == (None, task_before)


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"assignee": 999}, 500, "<!doctype html>"),
        ({"state": "done"}, 400, '"done\\" is not a valid choice.'),
        ({"priority": 1}, 403, "Attempted to update an unknown field"),
    ],
)
def test_bad_changes_of_a_job_are_refused_as_on_record(
    cvat: FakeCvat, lab: SimpleNamespace, pool: Any, body: dict[str, Any], status: int, text: str
) -> None:
    headers = {"Authorization": f"Bearer {cvat.add_token(lab.boss)}", "Content-Type": "application/json"}
    where = f"{cvat.url}/api/jobs/{pool.job_ids[0]}"
    answer = urllib3.request("PATCH", where, body=json.dumps(body), headers=headers, retries=False)
    assert (answer.status, text in answer.data.decode()) == (status, True)


def test_in_the_personal_workspace_nobody_else_can_be_assigned(
    cvat: FakeCvat, lab: SimpleNamespace, connect: Connect
) -> None:
    own = cvat.add_project("own", ["car"], owner=lab.boss)
    task = cvat.add_task(own, "t", pictures(1))
    job = connect(lab.boss, "").jobs.retrieve(task.job_ids[0])
    with pytest.raises(exceptions.ForbiddenException):
        job.update({"assignee": lab.ann.id})
    job.update({"assignee": lab.boss.id})


def test_one_ground_truth_job_a_task(lab: SimpleNamespace, pool: Any, connect: Connect) -> None:
    client = connect(lab.boss)

    def create(**what: Any) -> Any:
        body = models.JobWriteRequest(task_id=pool.id, frame_selection_method="manual", frames=[1, 3], **what)
        return client.api_client.jobs_api.create(job_write_request=body)[0]

    made = create(type="ground_truth")
    names = [one.name for one in client.jobs.retrieve(made.id).get_frames_info()]
    assert names == ["placeholder.jpg", "img_001.jpg", "placeholder.jpg", "img_003.jpg"] + ["placeholder.jpg"] * 2
    for kind in ("ground_truth", "annotation"):
        with pytest.raises(exceptions.ApiException, match="400"):
            create(type=kind)
    client.api_client.jobs_api.destroy(made.id)
    with pytest.raises(exceptions.ApiException, match="Only ground truth jobs"):
        client.api_client.jobs_api.destroy(pool.job_ids[0])


def test_local_images_become_frames_in_equal_jobs(
    cvat: FakeCvat, lab: SimpleNamespace, connect: Connect, tmp_path: Path
) -> None:
    images = files(tmp_path, 5)
    spec = {"name": "t", "project_id": lab.project.id, "segment_size": 2, "overlap": 0, "subset": "Train"}
    task = connect(lab.boss).tasks.create_from_data(models.TaskWriteRequest(**spec), list(reversed(images)))
    assert [one.name for one in task.get_frames_info()] == [one.name for one in images]
    assert sorted((job.start_frame, job.stop_frame) for job in task.get_jobs()) == [(0, 1), (2, 3), (4, 4)]
    assert (task.size, task.data_chunk_size, task.jobs.count, task.subset) == (5, 72, 3, "Train")
    with pytest.raises(exceptions.ApiException, match="Adding more data is not supported"):
        task.upload_data(images)


def test_a_mapping_gives_exactly_that_order_and_those_jobs(
    lab: SimpleNamespace, connect: Connect, tmp_path: Path
) -> None:
    images = files(tmp_path, 4)
    mapping = [["img_002.jpg"], ["img_003.jpg", "img_000.jpg"], ["img_001.jpg"]]
    task = connect(lab.boss).tasks.create({"name": "queue", "project_id": lab.project.id})
    task.upload_data(images, params={"job_file_mapping": mapping})
    assert [one.name for one in task.get_frames_info()] == [name for job in mapping for name in job]
    spans = sorted((job.id, job.start_frame, job.stop_frame) for job in task.get_jobs())
    assert [span[1:] for span in spans] == [(0, 0), (1, 2), (3, 3)]


def test_files_of_the_share_are_used_in_the_order_given(lab: SimpleNamespace, connect: Connect) -> None:
    client = connect(lab.boss)
    names = ["pool/img_003.jpg", "pool/img_001.jpg", "pool/img_002.jpg"]
    task = client.tasks.create({"name": "queue", "project_id": lab.project.id, "segment_size": 2})
    params = {"sorting_method": "predefined", "use_cache": True, "copy_data": False}
    task.upload_data(names, resource_type=ResourceType.SHARE, params=params)
    assert [one.name for one in task.get_frames_info()] == names
    again = client.tasks.create({"name": "twice", "project_id": lab.project.id})
    with pytest.raises(exceptions.ApiException, match="cannot be used multiple times"):
        again.upload_data(names, resource_type=ResourceType.SHARE, params={"job_file_mapping": [names[:1]] * 2})


def test_a_big_file_comes_by_tus(lab: SimpleNamespace, connect: Connect, tmp_path: Path) -> None:
    client = connect(lab.boss)
    (image,) = files(tmp_path, 1)
    task = client.tasks.create({"name": "t", "project_id": lab.project.id})
    url = client.api_map.make_endpoint_url(task.api.create_data_endpoint.path, kwsub={"id": task.id})
    answer = DataUploader(client, max_request_size=10).upload_files(url, [image], image_quality=70)
    client.wait_for_completion(json.loads(answer.data)["rq_id"])
    assert task.get_frame(0, quality="original").read() == image.read_bytes()


def test_a_corrupt_image_fails_the_request_and_leaves_an_empty_task(
    cvat: FakeCvat, lab: SimpleNamespace, connect: Connect, tmp_path: Path
) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"not an image")
    client = connect(lab.boss)
    task = client.tasks.create({"name": "t", "project_id": lab.project.id})
    with pytest.raises(BackgroundRequestException, match="cannot identify image file"):
        task.upload_data([tmp_path / "bad.jpg"])
    assert (client.tasks.retrieve(task.id).size, client.tasks.retrieve(task.id).get_jobs()) == (0, [])


def test_a_task_without_data_has_no_size(lab: SimpleNamespace, connect: Connect) -> None:
    task = connect(lab.boss).tasks.create({"name": "t", "project_id": lab.project.id})
    with pytest.raises(exceptions.ApiAttributeError):
        task.size  # noqa: B018
    with pytest.raises(exceptions.ApiException, match="400"):
        task.get_annotations()


def test_a_chunk_holds_the_original_bytes_and_frames_come_compressed_too(
    lab: SimpleNamespace, pool: Any, connect: Connect
) -> None:
    task = connect(lab.boss).tasks.retrieve(pool.id)
    out = io.BytesIO()
    task.download_chunk(0, out, quality="original")
    with zipfile.ZipFile(out) as chunk:
        assert chunk.namelist() == [f"{number:06}.jpg" for number in range(6)]
        assert chunk.read("000003.jpg") == pool.frames[3].data
    with Image.open(task.get_frame(3)) as image:
        assert (image.format, image.size) == ("JPEG", (32, 24))
    with pytest.raises(exceptions.ApiException, match=r"\[0, 6\] range"):
        task.get_frame(6)
    with pytest.raises(exceptions.ApiException, match="Incorrect requested frame number: 0"):
        connect(lab.boss).jobs.retrieve(pool.job_ids[2]).get_frame(0, quality="original")


def test_deleted_frames_are_replaced_and_touch_their_jobs_only(
    cvat: FakeCvat, lab: SimpleNamespace, pool: Any, connect: Connect
) -> None:
    task = connect(lab.boss).tasks.retrieve(pool.id)
    before = [job.updated_date for job in cvat.jobs(pool)]
    task.remove_frames_by_ids([5])
    assert [job.updated_date > old for job, old in zip(cvat.jobs(pool), before, strict=True)] == [False, False, True]
    assert connect(lab.boss).jobs.retrieve(pool.job_ids[2]).get_meta().deleted_frames == [5]
    assert task.get_frame(5, quality="original").read() == pool.frames[5].data
    task.remove_frames_by_ids([1])
    assert task.get_meta().deleted_frames == [1]


def test_a_task_dataset_skips_deleted_frames(cvat: FakeCvat, lab: SimpleNamespace, pool: Any, connect: Connect) -> None:
    pool.deleted_frames = {2}
    dataset = TaskDataset(connect(lab.boss), pool.id)
    assert [one.frame_index for one in dataset.samples] == [0, 1, 3, 4, 5]
    assert dataset.samples[2].media.load_image().size == (32, 24)


class OneBox:
    """The smallest auto-annotation function: the same box on every image."""

    spec = cvataa.DetectionFunctionSpec(labels=[cvataa.label_spec("car", 7, type="rectangle")])

    def detect(self, context: Any, image: Image.Image) -> list[Any]:
        return [cvataa.rectangle(7, [1, 2, 10, 12], score=0.25)]


def test_an_auto_annotation_function_of_the_sdk_writes_its_boxes(
    cvat: FakeCvat, lab: SimpleNamespace, pool: Any, connect: Connect
) -> None:
    pool.deleted_frames = {5}
    cvataa.annotate_task(connect(lab.boss), pool.id, OneBox())
    shapes = [shape for job in cvat.jobs(pool) for shape in job.shapes]
    assert [(one["frame"], one["source"], one["score"]) for one in shapes] == [(n, "auto", 0.25) for n in range(5)]


def test_members_and_their_roles_are_listed(cvat: FakeCvat, lab: SimpleNamespace, connect: Connect) -> None:
    client = connect(lab.boss)
    assert sorted(one.username for one in client.users.list()) == ["ann", "bob", "boss"]
    found, _ = client.api_client.memberships_api.list(role="worker")
    assert [(one.user.username, one.role) for one in found.results] == [("bob", "worker"), ("ann", "worker")]


def test_an_export_is_polled_and_the_same_one_is_refused_while_it_runs(
    cvat: FakeCvat, lab: SimpleNamespace, pool: Any, connect: Connect, tmp_path: Path
) -> None:
    client = connect(lab.boss)
    task = client.tasks.retrieve(pool.id)
    task.export_dataset("COCO 1.0", tmp_path / "out.zip", include_images=True)
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert "images/img_000.jpg" in archive.namelist()
    headers = {"Authorization": f"Bearer {cvat.add_token(lab.boss)}"}
    path = f"{cvat.url}/api/tasks/{pool.id}/dataset/export?save_images=True&format="
    answers = [urllib3.request("POST", path + name, headers=headers) for name in ("COCO+1.0", "COCO+1.0", "Nope+1.0")]
    assert [one.status for one in answers] == [202, 409, 400]
    rq_id = f"action=export&target=task&target_id={pool.id}&user_id={lab.boss.id}&format=COCO_1~0&subresource=dataset"
    assert answers[0].json() == answers[1].json() == {"rq_id": rq_id}
    seen = [client.api_client.requests_api.retrieve(rq_id)[0].status.value for _ in range(3)]
    assert seen == ["started", "finished", "finished"]


def test_a_request_nobody_asks_about_ends_by_itself(
    cvat: FakeCvat, lab: SimpleNamespace, connect: Connect, tmp_path: Path
) -> None:
    cvat.world.work_takes = 0.0
    client = connect(lab.boss)
    task = client.tasks.create({"name": "t", "project_id": lab.project.id})
    task.upload_data(files(tmp_path, 1), wait_for_completion=False)
    assert client.tasks.retrieve(task.id).size == 1


def test_what_an_open_source_server_does_not_have(cvat: FakeCvat, lab: SimpleNamespace) -> None:
    headers = {"Authorization": f"Bearer {cvat.add_token(lab.boss)}"}

    def status(method: str, path: str) -> int:
        return urllib3.request(method, cvat.url + path, headers=headers, retries=False).status

    assert [status("GET", "/api/functions"), status("GET", "/api/lambda/functions")] == [404, 503]
    assert [status("GET", "/api/events"), status("POST", "/api/events"), status("GET", "/api/nope")] == [202, 403, 404]


def test_anonymous_calls_are_throttled_where_that_is_switched_on(cvat: FakeCvat) -> None:
    cvat.world.anonymous_limit = 2
    answers = [urllib3.request("GET", f"{cvat.url}/api/server/about", retries=False) for _ in range(3)]
    assert [one.status for one in answers] == [200, 200, 429]
    assert int(answers[2].headers["Retry-After"]) > 50


def test_a_restart_keeps_everything_and_refuses_meanwhile(
    cvat: FakeCvat, lab: SimpleNamespace, pool: Any, connect: Connect
) -> None:
    client = connect(lab.boss)
    assert len(client.jobs.list()) == 3
    cvat.stop()
    with pytest.raises(urllib3.exceptions.HTTPError):
        client.api_client.rest_client.pool_manager.request("GET", cvat.url, retries=False)
    cvat.start()
    assert len(client.jobs.list()) == 3
    with cvat.bad_gateway():
        assert urllib3.request("GET", cvat.url, retries=False).status == 502


def test_every_request_is_in_the_log(cvat: FakeCvat, lab: SimpleNamespace, pool: Any, connect: Connect) -> None:
    client = connect(lab.boss)
    cvat.log.clear()
    client.jobs.list(task_id=pool.id, page_size=100)
    assert cvat.log == [("GET", f"/api/jobs?task_id={pool.id}&page_size=100&page=1")]


def test_ten_thousand_frames_in_a_thousand_jobs_are_listed_in_pages_of_100(
    cvat: FakeCvat, lab: SimpleNamespace, connect: Connect
) -> None:
    image = picture()
    big = cvat.add_task(lab.project, "big", [(f"{number:05}.jpg", image) for number in range(10_000)], segment_size=10)
    jobs = connect(lab.boss).jobs.list(filter=F.task_id == big.id, page_size=100)
    assert len(jobs) == 1000
    assert connect(lab.boss).tasks.retrieve(big.id).get_meta().size == 10_000
