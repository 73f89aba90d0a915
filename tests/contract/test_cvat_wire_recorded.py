"""Everything a real CVAT 2.73 answered about annotations, labels, tasks, jobs and frames can be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cvat_adapter import wire
from cvat_adapter.frames import frames_of
from cvat_adapter.nouns import Frame, job_of, task_of
from tests.contract.cvat_recorded import FOLDER, Exchange, names

pytestmark = pytest.mark.usefixtures("shared")

ANNOTATIONS = [name for name in names("http") if name.startswith("annotations/") and name.rpartition("_")[2] == "200"]
FRAMES = {n: Frame(n, f"img_{n:03}.jpg", 320, 240) for n in range(16)}


def bodies(shared: Path, kind: str) -> list[dict[str, Any]]:
    """Every recorded good answer of a folder."""
    files = sorted((shared / FOLDER / "http" / kind).glob("*_20[01].json"))
    found = [json.loads(file.read_text())["response_body"] for file in files]
    return [body for body in found if isinstance(body, dict)]


def rows(shared: Path, kind: str) -> list[dict[str, Any]]:
    """The objects in them, one by one or in lists."""
    return [one for body in bodies(shared, kind) for one in body.get("results", [body])]


def project_labels() -> Any:
    return wire.labels(Exchange.read("labels/project_labels__GET_200").answer["results"])


def test_the_labels_of_the_project_are_told_apart_by_what_they_hold() -> None:
    found = project_labels()
    assert found.ids == {"car": 25, "any": 29}
    assert found.others == ("cell", "blob", "empty", "person")


@pytest.mark.parametrize("name", ANNOTATIONS)
def test_every_recorded_annotation_is_a_box_or_a_sentence(name: str) -> None:
    body = Exchange.read(name).answer
    if not isinstance(body, dict) or "shapes" not in body:
        pytest.skip("the answer holds no annotations")
    found = wire.answers(body, FRAMES, project_labels())
    told = [len(boxes) + len(dropped) for boxes, dropped in found.values()]
    assert sum(told) == sum(shape["frame"] in FRAMES for shape in body["shapes"])
    assert all(len(wire.content(shape)) == 12 for shape in body["shapes"])


def test_the_last_recorded_state_has_these_boxes_and_drops_the_rest() -> None:
    found = wire.answers(Exchange.read("annotations/annotations_final__GET_200").answer, FRAMES, project_labels())
    changed, wide = found[0][0]
    assert (changed.origin, changed.name) == ("prediction-changed", "car")
    assert changed.xyxy == pytest.approx((12 / 320, 22 / 240, 112 / 320, 92 / 240))
    assert wide.xyxy == (0, 0, 1, 1)  # it was drawn from -50, -20 to 1000, 900
    assert found[0][1] == ["shape 23 is a polygon, only rectangles train"]
    assert [len(found[n][0]) for n in range(4)] == [2, 3, 0, 0]
    assert [why.split(" is ")[1].split(",")[0] for why in found[2][1]] == ["a skeleton", "a mask"]


def test_what_was_sent_and_what_cvat_gave_back_have_the_same_content() -> None:
    said = Exchange.read("annotations/annotations_patch_create_auto_with_score__PATCH_200")
    sent = {wire.content(shape | {"attributes": []}) for shape in said.body["shapes"] if shape["type"] == "rectangle"}
    back = {wire.content(shape | {"attributes": []}) for shape in said.answer["shapes"] if shape["type"] == "rectangle"}
    assert sent == back != set()


def test_every_recorded_job_is_read(shared: Path) -> None:
    jobs = [job_of(raw) for raw in rows(shared, "jobs") if "start_frame" in raw]
    assert len(jobs) > 50
    assert {job.state for job in jobs} == {"new", "in progress", "completed", "rejected"}
    assert {job.assignee_name for job in jobs} >= {"", "annotator1"}


def test_a_job_whose_replicas_people_answer_in_is_not_ours_to_fill() -> None:
    raw = Exchange.read("jobs/job_after_preannotation__GET_200").answer
    assert job_of(raw).writable
    assert not job_of(raw | {"replicas_count": 2}).writable
    older = {k: v for k, v in raw.items() if k != "replicas_count"} | {"consensus_replicas": 2}
    assert not job_of(older).writable


def test_a_task_of_sound_has_no_frames_for_us() -> None:
    raw = Exchange.read("tasks/upload_data_local_6__GET_200").answer
    assert task_of(raw | {"data_original_chunk_type": "audio_mp3"}).size == 0


def test_every_recorded_task_is_read_also_without_data(shared: Path) -> None:
    tasks = [task_of(raw) for raw in rows(shared, "tasks") if "segment_size" in raw]
    pool = next(task for task in tasks if task.id == 4 and task.size)
    assert (pool.project, pool.size, pool.overlap, pool.chunk_size, pool.original_chunks) == (4, 16, 0, 72, "imageset")
    assert {task.size for task in tasks if task.name == "no data"} == {0}


def test_every_recorded_list_of_frames_is_read(shared: Path) -> None:
    task = task_of(Exchange.read("tasks/upload_data_local_6__GET_200").answer)
    metas = [body for body in bodies(shared, "data") if "deleted_frames" in body and body["size"] == 16]
    assert metas
    for body in metas:
        found = frames_of(task, body)
        assert [(f.number, f.width, f.height) for f in found] == [(n, 320, 240) for n in range(16)]
        assert [f.number for f in found if f.deleted] == body["deleted_frames"]


def test_frames_count_from_0_whatever_part_of_the_files_a_task_took() -> None:
    task = task_of(Exchange.read("tasks/upload_data_local_6__GET_200").answer | {"size": 3})
    some = [{"name": f"img_{n:03}.jpg", "width": 320, "height": 240} for n in (4, 6, 8)]
    body = {"start_frame": 4, "stop_frame": 9, "frame_filter": "step=2", "frames": some, "deleted_frames": [1]}
    assert [(f.number, f.name, f.deleted) for f in frames_of(task, body)] == [
        (0, "img_004.jpg", False),
        (1, "img_006.jpg", True),
        (2, "img_008.jpg", False),
    ]
