"""The stand-in CVAT keeps the rules of annotations that surprise."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest
from cvat_sdk import make_client
from cvat_sdk import models as sdk
from cvat_sdk.core.proxies.annotations import AnnotationUpdateAction

from tests.contract.cvat_place import BOX, IMAGES, Place, ann_fixture, place_fixture  # noqa: F401 - fixtures
from tests.cvat_server.annotation_rules import Rules, create
from tests.cvat_server.people import Annotator


def test_created_shapes_come_back_with_ids_and_defaults(place: Place) -> None:
    (made,) = place.create(place.box(frame=3, source="auto", score=0.4))

    assert made["id"] == 1
    assert (made["source"], made["score"], made["rotation"]) == ("auto", 0.4, 0)
    assert place.shapes(place.of(1)) == place.shapes()


def test_the_same_create_twice_makes_two_shapes(place: Place) -> None:
    place.create(place.box())
    place.create(place.box())

    assert len(place.shapes()) == 2


def test_updating_a_shape_that_is_gone_brings_it_back(place: Place) -> None:
    (made,) = place.create(place.box())
    place.patch("delete", made)
    assert place.shapes() == []

    assert place.patch("update", made).status_code == 200
    assert [shape["id"] for shape in place.shapes()] == [made["id"]]


def test_deleting_a_shape_that_is_gone_is_no_error(place: Place) -> None:
    (made,) = place.create(place.box())
    place.patch("delete", made)

    answer = place.patch("delete", made)

    assert (answer.status_code, len(answer.json()["shapes"])) == (200, 1)


def test_a_frame_outside_the_task_is_dropped_and_nobody_is_told(place: Place) -> None:
    made = place.create(place.box(frame=99), place.box(frame=5))

    assert [shape["frame"] for shape in made] == [5]


def test_the_answer_for_a_task_goes_by_job_and_not_by_the_request(place: Place) -> None:
    made = place.create(place.box(frame=5), place.box(frame=0))

    assert [shape["frame"] for shape in made] == [0, 5]


def test_a_job_takes_a_shape_on_a_frame_of_another_job(place: Place) -> None:
    place.create(place.box(frame=5), of=place.of(0))

    assert [shape["frame"] for shape in place.shapes(place.of(0))] == [5]
    assert place.shapes(place.of(2)) == []


def test_put_wipes_what_people_made(place: Place) -> None:
    place.create(place.box(source="manual"), place.box(frame=4))

    place.http.put(f"/api/tasks/{place.task.id}/annotations/", json={}).raise_for_status()

    assert place.shapes() == []


def test_wrong_types_and_points_outside_the_image_are_taken(place: Place) -> None:
    polygon = place.box(type="polygon", points=[1, 1, 2, 2, 3, 1])
    outside = place.box(points=[-50, -20, 1000, 900])

    assert len(place.create(polygon, outside)) == 2


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"label_id": 999}, ["label_id `999` is invalid"]),
        ({"attributes": [{"spec_id": 7, "value": "x"}]}, ["spec_id `7` is invalid"]),
        ({"points": [1, 2, 3]}, {"shapes": [{}, {"points": ["invalid length for shape type 'rectangle'"]}]}),
        ({"score": 1.7}, {"shapes": [{}, {"score": ["Ensure this value is less than or equal to 1."]}]}),
        ({"score": -0.1}, {"shapes": [{}, {"score": ["Ensure this value is greater than or equal to 0."]}]}),
    ],
)
def test_one_wrong_shape_refuses_them_all(place: Place, wrong: dict[str, Any], error: Any) -> None:
    answer = place.patch("create", place.box(), place.box(frame=5, **wrong))

    assert (answer.status_code, answer.json()) == (400, error)
    assert place.shapes() == []


def test_tags_and_tracks_are_kept(place: Place) -> None:
    track = {"label_id": place.car, "frame": 2, "shapes": [{"type": "rectangle", "frame": 2, "points": BOX}]}
    body = {"tags": [{"label_id": place.car, "frame": 3}], "tracks": [track]}
    place.http.patch(f"/api/{place.of(1)}/annotations/?action=create", json=body).raise_for_status()

    found = place.http.get(f"/api/{place.of(1)}/annotations/").json()

    assert [tag["frame"] for tag in found["tags"]] == [3]
    assert [track["shapes"][0]["points"] for track in found["tracks"]] == [BOX]


def test_annotations_on_deleted_frames_still_come(place: Place) -> None:
    place.create(place.box(frame=4))
    place.http.patch(f"/api/tasks/{place.task.id}/data/meta", json={"deleted_frames": [4]}).raise_for_status()

    assert [shape["frame"] for shape in place.shapes()] == [4]


def test_a_frame_that_two_jobs_share_is_read_once(place: Place) -> None:
    task = place.cvat.add_task(place.project, "overlap", IMAGES[:3], segment_size=2, overlap=1)
    place.create(place.box(frame=1), of=f"tasks/{task.id}")

    assert [len(job.shapes) for job in place.cvat.jobs(task)] == [1, 1]
    assert len(place.shapes(f"tasks/{task.id}")) == 1


def test_a_save_moves_the_dates_of_job_task_and_project_and_leaves_the_state(place: Place) -> None:
    things = (place.jobs[0], place.task, place.project)
    before = [thing.updated_date for thing in (*things, place.jobs[1])]

    place.create(place.box(), of=place.of(0))

    assert [new > old for new, old in zip([t.updated_date for t in things], before, strict=False)] == [True] * 3
    assert place.jobs[1].updated_date == before[3]
    assert place.jobs[0].state == "new"


def test_an_empty_save_moves_no_date(place: Place) -> None:
    before = place.task.updated_date

    place.create()
    place.http.delete(f"/api/{place.of(0)}/annotations/").raise_for_status()

    assert place.task.updated_date == before


def test_a_worker_reads_and_writes_his_own_jobs_only(place: Place, ann: Annotator) -> None:
    place.jobs[0].assignee_id = place.ann.id
    ann.call("GET", f"/api/{place.of(0)}/annotations")

    for path in (f"/api/{place.of(1)}/annotations", f"/api/tasks/{place.task.id}/annotations"):
        with pytest.raises(httpx.HTTPStatusError, match="403"):
            ann.call("GET", path)


def test_the_sdk_writes_and_reads_annotations(place: Place) -> None:
    with make_client(place.cvat.url, access_token=place.token) as client:
        client.organization_slug = "lab"
        shape = sdk.LabeledShapeRequest(type="rectangle", frame=3, label_id=place.car, points=BOX, source="auto")
        task = client.tasks.retrieve(place.task.id)
        task.update_annotations(sdk.PatchedLabeledDataRequest(shapes=[shape]), action=AnnotationUpdateAction.CREATE)
        read = client.jobs.retrieve(place.jobs[1].id).get_annotations()

    assert [(one.id, one.source, one.score) for one in read.shapes] == [(1, "auto", 1.0)]


def test_ten_thousand_frames_with_shapes_are_read_at_once(place: Place) -> None:
    images = [(f"{number:05}.jpg", IMAGES[0][1]) for number in range(10_000)]
    task = place.cvat.add_task(place.project, "big", images, segment_size=10)
    rules = Rules({place.car: {}}, place.world.next_id)
    for job in place.cvat.jobs(task):
        create(job, {"tags": [], "tracks": [], "shapes": [place.box(frame) for frame in job.frame_numbers]}, rules)

    start = time.perf_counter()
    answer = place.http.get(f"/api/tasks/{task.id}/annotations")

    assert len(answer.content) > 2_000_000
    assert time.perf_counter() - start < 5
