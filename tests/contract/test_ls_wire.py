"""Label Studio JSON to domain and back, over the recorded exchanges."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from math import cos, nan, radians, sin
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_studio_sdk.label_interface import LabelInterface

from common.domain import ProjectSpec, QueueItem, ShownBox
from ls_backend import label_config, wire

CONFIG = (
    '<View><Image name="image" value="$image"/>'
    '<RectangleLabels name="label" toName="image"><Label value="Car"/><Label value="Dog"/></RectangleLabels>'
    '<RectangleLabels name="rect" toName="image"><Label value="Dog"/></RectangleLabels>'
    '<Choices name="cls" toName="image"><Choice value="Day"/></Choices>'
    '<RectangleLabels name="theirs" toName="image" model_skip="true"><Label value="Hand"/></RectangleLabels></View>'
)
SPEC = label_config.parse(CONFIG)
JUDGE = LabelInterface(CONFIG)
NOW = datetime(2026, 11, 20, 18, 0, tzinfo=UTC)


def region(**changes: Any) -> dict[str, Any]:
    value = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0, "rectanglelabels": ["Car"]}
    value |= {key: changes.pop(key) for key in list(changes) if key in value}
    base = {"id": "r1", "from_name": "label", "to_name": "image", "type": "rectanglelabels", "value": value}
    return base | {"original_width": 200, "original_height": 100} | changes


def raw(**changes: Any) -> dict[str, Any]:
    base = {"id": 7, "task": 3, "result": [region()], "updated_at": "2026-11-20T18:00:00.5Z", "lead_time": 2.5}
    return base | {"completed_by": 4, "updated_by": 4, "was_cancelled": False, "ground_truth": False} | changes


class Recorded:
    """The recorded exchanges by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "contracts/label-studio"

    def __call__(self, name: str) -> Any:
        return json.loads((self.folder / f"{name}.json").read_text())

    def spec(self, config: str) -> ProjectSpec:
        return label_config.parse(config)


@pytest.fixture
def recorded(shared: Path) -> Recorded:
    return Recorded(shared)


# --- regions ---


def test_a_region_is_percent_and_a_box_is_a_fraction() -> None:
    (box,), dropped = wire.boxes([region()], SPEC)
    assert (box.name, box.origin, dropped) == ("Car", "manual", [])
    assert box.xyxy == pytest.approx((0.1, 0.2, 0.4, 0.6))


def test_a_quarter_turn_is_about_the_top_left_corner_in_pixels() -> None:
    # 60 x 40 pixels at (100, 20) of 200 x 100, turned clockwise: it now reaches 40 left and 60 down.
    (box,), _ = wire.boxes([region(x=50, y=20, width=30, height=40, rotation=90)], SPEC)
    assert box.xyxy == pytest.approx((0.3, 0.2, 0.5, 0.8))


@given(st.floats(0, 60), st.floats(0, 60), st.floats(1, 40), st.floats(1, 40), st.floats(-720, 720))
def test_a_turned_box_becomes_its_enclosing_box_clipped_to_the_image(
    x: float, y: float, width: float, height: float, turn: float
) -> None:
    px, py, w, h, c, s = x * 2, y, width * 2, height, cos(radians(turn)), sin(radians(turn))
    xs = [px + dx * c - dy * s for dx in (0, w) for dy in (0, h)]
    ys = [py + dx * s + dy * c for dx in (0, w) for dy in (0, h)]
    wanted = [max(0, min(xs)) / 200, max(0, min(ys)) / 100, min(200, max(xs)) / 200, min(100, max(ys)) / 100]

    kept, dropped = wire.boxes([region(x=x, y=y, width=width, height=height, rotation=turn)], SPEC)

    if kept:
        assert kept[0].xyxy == pytest.approx(wanted, abs=1e-6)
    else:
        assert dropped == ["region 'r1' lies outside the image"]
        assert wanted[0] >= wanted[2] - 1e-6 or wanted[1] >= wanted[3] - 1e-6


def test_the_recorded_turned_box_is_enclosed(recorded: Recorded) -> None:
    # 12.8 x 4.8 pixels at (38.4, 7.2), 30 degrees clockwise, image 64 x 48.
    (box,), dropped = wire.boxes([recorded("region.rectanglelabels_rotated")], SPEC)
    c, s = cos(radians(30)), sin(radians(30))
    wanted = ((38.4 - 4.8 * s) / 64, 7.2 / 48, (38.4 + 12.8 * c) / 64, (7.2 + 12.8 * s + 4.8 * c) / 48)
    assert (box.name, dropped) == ("Dog", [])
    assert box.xyxy == pytest.approx(wanted)


def test_several_labels_on_one_region_are_one_box_each() -> None:
    kept, _ = wire.boxes([region(rectanglelabels=["Car", "Dog", "Car"])], SPEC)
    assert [b.name for b in kept] == ["Car", "Dog"]


@pytest.mark.parametrize("origin", ["manual", "prediction", "prediction-changed"])
def test_the_origin_of_a_box_is_kept(origin: str) -> None:
    assert wire.boxes([region(origin=origin)], SPEC)[0][0].origin == origin


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (region(width=0), "has no area"),
        (region(height=-3), "has no area"),
        (region(x=nan), "not a finite number"),
        (region(y="12"), "not a finite number"),
        (region(width=True), "not a finite number"),
        (region(x=120), "lies outside the image"),
        (region(rectanglelabels=["Cat"]), "has the label 'Cat', which the label config does not"),
        (region(rectanglelabels=[]), "has no label"),
        (region(from_name="gone"), "belongs to control 'gone'"),
        (region(type="polygonlabels"), "has type 'polygonlabels'"),
        (region(value=None), "without a value"),
        (region(rotation=5, original_width=None), "original_width and original_height"),
        ("text", "without a value"),
    ],
)
def test_a_region_that_cannot_be_used_is_dropped_with_a_sentence(bad: Any, says: str) -> None:
    kept, (sentence,) = wire.boxes([bad, region()], SPEC)
    assert len(kept) == 1
    assert says in sentence


def test_regions_of_other_controls_and_relations_are_ignored_in_silence(recorded: Recorded) -> None:
    theirs = region(from_name="theirs", rectanglelabels=["Hand"])
    link = {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"}
    assert wire.boxes([recorded("region.choices"), theirs, link], SPEC) == ([], [])


# --- annotations ---


def test_an_annotation_of_the_browser(recorded: Recorded) -> None:
    body = recorded("webhook.annotation_created")["body"]
    spec = recorded.spec(body["project"]["label_config"])

    found = wire.annotation(body["annotation"], spec)

    assert (found.id, found.sample, found.person, found.lead_time) == ("1", "1", "1", 4.2)
    assert (found.skipped, found.ground_truth, found.converted, found.dropped) == (False, False, False, ())
    assert found.boxes[0].xyxy == pytest.approx((0.1, 0.1, 0.3, 0.3))
    assert found.updated == datetime(2026, 11, 20, 17, 44, 37, 154458, UTC)


def test_a_person_is_the_same_as_id_and_as_object(recorded: Recorded) -> None:
    answer = recorded("api.task_with_annotations")["response"]["body"]
    spec = recorded.spec(recorded("api.project_create")["request"]["body"]["label_config"])
    people = {wire.annotation(a, spec, answer).person for a in answer["annotations"]}
    assert people == {"1"} == {wire.annotation(raw(completed_by=1), SPEC).person}
    assert wire.annotation(raw(completed_by=None), SPEC).person == ""


def test_a_skip_is_a_skip(recorded: Recorded) -> None:
    body = recorded("webhook.annotation_created_skipped")["body"]
    assert wire.annotation(body["annotation"], SPEC).skipped
    task = recorded("api.task_skipped")["response"]["body"]
    assert [wire.annotation(a, SPEC, task).skipped for a in task["annotations"]] == [True]
    assert (wire.sample(task, SPEC).answers, wire.sample(task, SPEC).skips) == (0, 1)


def test_ground_truth_is_kept(recorded: Recorded) -> None:
    body = recorded("webhook.annotation_updated_ground_truth")["body"]
    assert wire.annotation(body["annotation"], SPEC).ground_truth


def test_a_bulk_conversion_is_known_from_its_webhook(recorded: Recorded) -> None:
    (made,) = recorded("webhook.annotations_created")["body"]["annotation"]
    assert wire.annotation(made, SPEC).converted


UNTOUCHED = {"lead_time": None, "updated_by": None, "created_at": "2026-11-20T18:00:00Z"}


@pytest.mark.parametrize(
    ("changes", "converted"),
    [
        ({}, False),
        ({"parent_prediction": 6}, False),
        ({"lead_time": None}, False),
        ({**UNTOUCHED, "parent_prediction": 6}, True),
        ({**UNTOUCHED, "parent_prediction": 6, "updated_by": 4}, False),
        ({**UNTOUCHED, "parent_prediction": 6, "lead_time": 0.0}, False),
        ({**UNTOUCHED, "ground_truth": True}, False),
        ({**UNTOUCHED}, False),
        ({**UNTOUCHED, "result": [region(score=0.9)]}, True),
        ({**UNTOUCHED, "result": [region(id="hf-0123456789")]}, True),
        ({**UNTOUCHED, "result": [region(score=0.9, origin="prediction")]}, False),
        ({**UNTOUCHED, "created_at": "2026-11-20T19:00:00Z", "result": []}, True),
        ({**UNTOUCHED, "created_at": "2026-11-20T19:00:00Z", "parent_annotation": 5}, False),
        ({"bulk_created": True}, True),
    ],
)
def test_only_annotations_nobody_looked_at_are_converted(changes: dict[str, Any], converted: bool) -> None:
    task = {"id": 3, "created_at": "2026-11-20T18:00:00Z"}
    assert wire.annotation(raw(**changes), SPEC, task).converted is converted


def test_every_annotation_of_the_export_is_read(recorded: Recorded) -> None:
    spec = recorded.spec(recorded("api.project_create")["request"]["body"]["label_config"])
    exported = recorded("api.export_json")["response"]["body"]
    found = [wire.annotation(a, spec, task) for task in exported for a in task["annotations"]]
    assert found
    assert {a.sample for a in found} <= {str(task["id"]) for task in exported}
    assert all(not a.dropped for a in found)


# --- tasks ---


def test_tasks_of_the_slim_listing(recorded: Recorded) -> None:
    listing = recorded("api.tasks_list_slim")["response"]["body"]["tasks"]
    found = [wire.sample(task, SPEC) for task in listing]
    assert found[0].id == "10540"
    assert found[0].uri == "/data/local-files/?d=imgs/img001.png"
    assert found[0].updated == datetime(2026, 11, 20, 18, 13, 31, 544194, UTC)


@pytest.mark.parametrize(
    ("data", "uri"),
    [
        ({"image": " /a.png "}, "/a.png"),
        ({"photo": "/a.png"}, ""),
        ({"image": None}, ""),
        ({"image": ["/a.png"]}, ""),
        (None, ""),
    ],
)
def test_a_task_without_its_image_has_no_uri(data: Any, uri: str) -> None:
    assert wire.sample({"id": 1, "data": data}, SPEC).uri == uri


def test_a_nested_image_is_found() -> None:
    assert wire.image_uri({"photo": {"url": "/a.png"}}, "photo.url") == "/a.png"
    assert wire.image_uri({"photo.url": "/b.png"}, "photo.url") == "/b.png"


# --- predictions ---

BOX = ShownBox("Car", (20.0, 10.0, 80.0, 60.0), 0.87)


def item(order: float = 0.25, *boxes: ShownBox) -> QueueItem:
    return QueueItem("3", order, boxes, 200, 100)


def test_a_row_carries_the_order_as_score_and_the_confidence_on_the_region() -> None:
    row = wire.prediction(item(0.25, BOX), "v@1.1-aaaaaaaa", SPEC)
    (made,) = row["result"]
    assert (row["task"], row["model_version"], row["score"]) == (3, "v@1.1-aaaaaaaa", 0.25)
    assert (made["from_name"], made["to_name"], made["type"], made["score"]) == (
        "label",
        "image",
        "rectanglelabels",
        0.87,
    )
    assert made["value"] == {
        "x": 10.0,
        "y": 10.0,
        "width": 30.0,
        "height": 50.0,
        "rotation": 0,
        "rectanglelabels": ["Car"],
    }
    assert (made["original_width"], made["original_height"]) == (200, 100)


@given(st.floats(-1, 2), st.lists(st.tuples(*[st.floats(-50, 250)] * 4, st.floats(0.5, 1)), max_size=4))
def test_label_studio_stores_every_row_we_write(order: float, numbers: list[tuple[float, ...]]) -> None:
    row = wire.prediction(item(order, *(ShownBox("Dog", n[:4], n[4]) for n in numbers)), "v", SPEC)  # type: ignore[arg-type]
    assert wire.problems(row, SPEC) == []
    assert JUDGE.validate_prediction(row)
    assert 0 <= row["score"] <= 1
    for made in row["result"]:
        value = made["value"]
        assert 0 <= value["x"] < value["x"] + value["width"] <= 100 + 1e-9
        assert 0 <= value["y"] < value["y"] + value["height"] <= 100 + 1e-9


@given(st.tuples(st.floats(0, 90), st.floats(0, 40)), st.tuples(st.floats(5, 100), st.floats(5, 50)))
def test_a_box_survives_the_way_there_and_back(corner: tuple[float, float], size: tuple[float, float]) -> None:
    box = ShownBox("Car", (corner[0], corner[1], corner[0] + size[0], corner[1] + size[1]), 0.9)
    kept, dropped = wire.boxes(wire.regions("3", [box], 200, 100, SPEC), SPEC)
    wanted = (box.xyxy[0] / 200, box.xyxy[1] / 100, box.xyxy[2] / 200, box.xyxy[3] / 100)
    assert dropped == []
    assert kept[0].xyxy == pytest.approx(wanted, abs=1e-9)


def test_region_ids_are_the_same_for_the_same_box_and_differ_otherwise() -> None:
    once, again = (wire.regions("3", [BOX, BOX], 200, 100, SPEC) for _ in range(2))
    assert once == again
    assert len({r["id"] for r in once} | {r["id"] for r in wire.regions("4", [BOX], 200, 100, SPEC)}) == 3


def test_boxes_of_removed_classes_and_under_their_own_threshold_are_left_out() -> None:
    high = {"Car": 0.9, "Dog": 0.1}
    strict = replace(SPEC, details={**SPEC.details, "show_from": high})
    gone, dog = ShownBox("Cat", BOX.xyxy, 0.9), ShownBox("Dog", BOX.xyxy, 0.2)
    assert [r["value"]["rectanglelabels"] for r in wire.regions("3", [gone, BOX, dog], 200, 100, strict)] == [["Dog"]]


def test_an_image_of_unknown_size_has_no_regions() -> None:
    assert wire.prediction(replace(item(0.5, BOX), width=0, height=0), "v", SPEC)["result"] == []


def row(**changes: Any) -> dict[str, Any]:
    return {"task": 1, "model_version": "v", "score": 0.5, "result": [region()]} | changes


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (row(score=1.0000001), "score is 1.0000001"),
        (row(score=-1e-9), "score is -1e-09"),
        (row(score=nan), "score is nan"),
        (row(score="high"), "score is 'high'"),
        (row(result=None), "result is NoneType"),
        (row(result=[region(from_name="gone")]), "from_name is 'gone'"),
        (row(result=[region(to_name="text")]), "to_name is 'text'"),
        (row(result=[region(type="polygonlabels")]), "type 'polygonlabels'"),
        (row(result=[region(rectanglelabels=["Cat"])]), "label is 'Cat'"),
        (row(result=[region(x=110)]), "must be numbers up to 100"),
        (row(result=[region(x=None)]), "must be numbers up to 100"),
    ],
)
def test_what_label_studio_would_drop_in_silence_is_known_before(bad: dict[str, Any], says: str) -> None:
    assert not JUDGE.validate_prediction(bad)
    (sentence,) = wire.problems(bad, SPEC)
    assert says in sentence
    assert JUDGE.validate_prediction(row())
    assert wire.problems(row(), SPEC) == []


def test_the_recorded_silent_drop_is_found(recorded: Recorded) -> None:
    exchange = recorded("api.import_predictions_dropped_silently")
    spec = recorded.spec(recorded("api.project_create")["request"]["body"]["label_config"])
    sent = exchange["request"]["body"]
    assert sum(not wire.problems(row, spec) for row in sent) == exchange["response"]["body"]["created"] == 1
