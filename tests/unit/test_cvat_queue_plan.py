"""What the next queue task holds: order, names, blocks, and which frames are spoken for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvat_adapter.copy_back import missing
from cvat_adapter.label_twins import Twins, pairs, renames, specification
from cvat_adapter.label_twins import missing as missing_labels
from cvat_adapter.nouns import COMPLETED, IN_PROGRESS, Job
from cvat_adapter.queue_plan import (
    CLOSED,
    MAKING,
    OPEN,
    Plan,
    blocks,
    file_name,
    next_samples,
    sample_of,
    samples_of,
    spoken_for,
    task_name,
    task_size,
)

SOURCE, QUEUE = 4, 9


def job(number: int, task: int, start: int, stop: int, *, state: str = "new", assignee: int | None = None) -> Job:
    return Job(number, task, start, stop, state, "annotation", assignee, datetime(2026, 11, 21, tzinfo=UTC))


def places(**orders: float) -> dict[str, dict[str, float]]:
    return {f"4:{name[1:]}": {"order": order} for name, order in orders.items()}


# --- order -----------------------------------------------------------------------------------------------


def test_the_lowest_order_comes_first():
    assert next_samples(places(f0=0.9, f1=0.1, f2=0.5), (), 2) == ["4:1", "4:2"]


def test_what_is_spoken_for_is_passed_over():
    assert next_samples(places(f0=0.9, f1=0.1, f2=0.5), {"4:1"}, 2) == ["4:2", "4:0"]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30, unique=True), st.integers(1, 7))
def test_blocks_in_turn_are_the_order_itself(orders: list[float], size: int):
    rows = {f"4:{i}": {"order": order} for i, order in enumerate(orders)}
    chosen = next_samples(rows, (), len(orders))
    assert [rows[s]["order"] for s in chosen] == sorted(orders)
    assert [s for block in blocks(chosen, size) for s in block] == chosen


def test_blocks_hold_ten_frames_and_the_last_one_the_rest():
    assert [len(b) for b in blocks([str(i) for i in range(23)])] == [10, 10, 3]


@pytest.mark.parametrize(("annotators", "wip", "frames"), [(1, 2, 100), (5, 2, 200), (500, 2, 1000)])
def test_a_task_holds_everybodys_open_jobs_twice_within_bounds(annotators: int, wip: int, frames: int):
    assert task_size(annotators, wip) == frames


# --- spoken for ------------------------------------------------------------------------------------------

MAPPED = {"9:0": "4:7", "9:1": "4:3", "9:2": "4:5"}
FIRST, SECOND = job(20, QUEUE, 0, 1), job(21, QUEUE, 2, 2)


def test_frames_of_an_open_queue_task_are_spoken_for_whoever_has_its_jobs():
    assert spoken_for([FIRST, SECOND], {QUEUE: OPEN}, MAPPED) == {"4:7", "4:3", "4:5"}


def test_frames_of_a_task_that_is_being_made_are_spoken_for():
    assert spoken_for([SECOND], {QUEUE: MAKING}, MAPPED) == {"4:5"}


def test_a_closed_task_gives_its_free_frames_back():
    assert spoken_for([FIRST, SECOND], {QUEUE: CLOSED}, MAPPED) == set()


@pytest.mark.parametrize("change", [{"assignee": 5}, {"state": IN_PROGRESS}, {"state": COMPLETED}])
def test_a_closed_task_keeps_the_frames_somebody_has_or_had(change: dict[str, object]):
    assert spoken_for([replace(FIRST, **change), SECOND], {QUEUE: CLOSED}, MAPPED) == {"4:7", "4:3"}


def test_a_promised_job_keeps_its_frames_before_cvat_knows_of_the_promise():
    assert spoken_for([FIRST, SECOND], {QUEUE: CLOSED}, MAPPED, {SECOND.id}) == {"4:5"}


def test_frames_of_a_source_job_that_somebody_has_are_not_copied():
    assert spoken_for([job(1, SOURCE, 0, 2, assignee=5), job(2, SOURCE, 3, 5)], {}, {}) == {"4:0", "4:1", "4:2"}


def test_samples_of_queue_jobs_come_in_the_order_of_their_frames():
    assert samples_of([FIRST, SECOND], MAPPED) == ["4:7", "4:3", "4:5"]


# --- names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "part", "name"),
    [
        ("hardfirst@12.3-ab12", 1, "hardfirst queue: Birds, order 3"),
        ("hardfirst@12.3-ab12", 2, "hardfirst queue: Birds, order 3, part 2"),
        ("other", 1, "hardfirst queue: Birds, order other"),
    ],
)
def test_a_task_is_named_after_its_project_and_order(version: str, part: int, name: str):
    assert task_name("Birds", version, part) == name


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("cat.jpeg", "4-000012-cat.png"),
        ("night/cats & dogs.jpg", "4-000012-cats_dogs.png"),
        (r"c:\night\кот.bmp", "4-000012-_.png"),
        ("frame_000012", "4-000012-frame_000012.png"),
        ("", "4-000012-.png"),
    ],
)
def test_a_file_name_is_plain_and_has_the_suffix_of_its_bytes(name: str, made: str):
    assert file_name("4:12", name, ".png") == made


@given(st.integers(1, 10**9), st.integers(0, 10**7), st.text(max_size=80))
def test_a_file_name_gives_its_sample_back(task: int, frame: int, name: str):
    made = file_name(f"{task}:{frame}", name, ".jpg")
    assert sample_of(made) == f"{task}:{frame}"
    assert made.isascii()
    assert "/" not in made
    assert len(made) < 120


@pytest.mark.parametrize("name", ["cat.jpg", "000001.png", "a-1-b.png", ""])
def test_a_name_that_is_not_ours_gives_no_sample(name: str):
    assert sample_of(name) is None


def test_a_plan_survives_the_disk():
    plan = Plan("v", "task", ("4:1", "4:2"), {"4:1": "broken"}, (7,))
    row = {**plan.as_json(), "samples": ["4:1", "4:2"], "before": [7]}  # as JSON gives tuples back
    assert Plan.of(row) == plan
    assert plan.kept == ["4:2"]


# --- labels ----------------------------------------------------------------------------------------------

CAT = {
    "id": 25,
    "name": "cat",
    "color": "#ff0000",
    "type": "rectangle",
    "attributes": [
        {"id": 4, "name": "tail", "mutable": False, "input_type": "select", "default_value": "no", "values": ["no"]}
    ],
    "sublabels": [],
    "project_id": 4,
}
MAN = {
    "id": 30,
    "name": "man",
    "color": "#00ff00",
    "type": "skeleton",
    "attributes": [],
    "sublabels": [{"id": 31, "name": "head", "color": "#0000ff", "type": "points", "attributes": []}],
    "svg": '<circle data-label-id="31"></circle>',
}
COPIES = [
    {**CAT, "id": 125, "attributes": [{**CAT["attributes"][0], "id": 104}]},
    {**MAN, "id": 130, "sublabels": [{**MAN["sublabels"][0], "id": 131}]},
]


def test_a_copy_of_a_label_has_everything_but_its_ids():
    made = specification(CAT)
    assert made == {
        "name": "cat",
        "color": "#ff0000",
        "type": "rectangle",
        "attributes": [
            {"name": "tail", "mutable": False, "input_type": "select", "default_value": "no", "values": ["no"]}
        ],
    }


def test_the_drawing_of_a_skeleton_names_its_parts_by_name():
    made = specification(MAN)
    assert made["svg"] == '<circle data-label-name="head"></circle>'
    assert [one["name"] for one in made["sublabels"]] == ["head"]


def test_only_labels_that_lack_are_created():
    assert [one["name"] for one in missing_labels([CAT, MAN], [COPIES[0]])] == ["man"]


def test_a_shape_goes_over_with_its_source_and_the_other_projects_ids():
    twins = Twins.of(COPIES, [CAT, MAN])
    shape = {
        "id": 900,
        "type": "rectangle",
        "label_id": 125,
        "frame": 0,
        "points": [1.0, 2.0, 3.0, 4.0],
        "source": "semi-auto",
        "score": 0.5,
        "attributes": [{"spec_id": 104, "value": "no"}],
        "elements": [],
    }
    assert twins.translated(shape, 7) == {
        "type": "rectangle",
        "label_id": 25,
        "frame": 7,
        "points": [1.0, 2.0, 3.0, 4.0],
        "source": "semi-auto",
        "score": 0.5,
        "attributes": [{"spec_id": 4, "value": "no"}],
    }


def test_the_parts_of_a_skeleton_go_over_with_it():
    part = {"type": "points", "label_id": 131, "frame": 0, "points": [5.0, 6.0], "attributes": []}
    whole = {"type": "skeleton", "label_id": 130, "frame": 0, "points": [], "attributes": [], "elements": [part]}
    made = Twins.of(COPIES, [CAT, MAN]).translated(whole, 3)
    assert made is not None
    assert [(e["label_id"], e["frame"]) for e in made["elements"]] == [(31, 3)]


def test_a_label_without_a_twin_gives_nothing():
    assert Twins.of(COPIES, [MAN]).translated({"label_id": 125, "frame": 0}, 1) is None


# --- what is copied --------------------------------------------------------------------------------------


def box(frame: int, left: float = 1.0, **more: object) -> dict[str, object]:
    points = [left, 2.0, 30.0, 40.0]
    return {"type": "rectangle", "label_id": 25, "frame": frame, "points": points, "source": "manual"} | more


def intent(*shapes: dict[str, object]) -> dict[str, object]:
    return {"shapes": list(shapes), "tags": []}


def labels(**ids: int) -> list[dict[str, object]]:
    return [{"id": number, "name": name} for name, number in ids.items()]


@pytest.mark.parametrize(
    ("now", "steps"),
    [
        (labels(cat=1, dog=2), []),
        (labels(cat=1, hound=2), [(12, "hound")]),
        (labels(dog=1, hound=2), [(12, "hound"), (11, "dog")]),
        (labels(dog=1, cat=2), [(11, "cat (11)"), (12, "cat"), (11, "dog")]),
        (labels(owl=1, dog=2), []),
        (labels(dog=2), []),
        (labels(cat=1, dog=3), []),
    ],
    ids=["as it was", "renamed", "in a row", "swapped", "a name that another has", "deleted", "deleted and made again"],
)
def test_copies_of_labels_are_renamed_in_an_order_that_cvat_can_take(
    now: list[dict[str, object]], steps: list[tuple[int, str]]
) -> None:
    there = labels(cat=11, dog=12, owl=13)
    known = pairs(labels(cat=1, dog=2), there)
    assert known == {"1": 11, "2": 12}
    assert renames(now, there, known) == steps


def test_all_is_missing_in_an_empty_job():
    assert missing(intent(box(1), box(2)), {"shapes": []}) == (intent(box(1), box(2)), set())


def test_what_an_attempt_that_was_cut_off_wrote_is_not_written_again():
    there = {"shapes": [box(1, id=70, score=1.0, attributes=[{"spec_id": 4, "value": "no"}])]}
    assert missing(intent(box(1), box(2)), there) == (intent(box(2)), set())


def test_two_equal_boxes_are_two():
    assert missing(intent(box(1), box(1)), {"shapes": [box(1, id=70)]}) == (intent(box(1)), set())


def test_a_frame_with_somebodys_own_box_is_left_alone():
    there = {"shapes": [box(1, left=9.0, id=70)]}
    assert missing(intent(box(1), box(2)), there) == (intent(box(2)), {1})


def test_a_track_keeps_us_from_every_frame_it_may_reach():
    there = {"shapes": [], "tracks": [{"frame": 2, "shapes": [{"frame": 2}]}]}
    assert missing(intent(box(1), box(3)), there) == (intent(box(1)), {3})
