"""CVAT JSON to domain and back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.domain import LabelledBox, QueueItem, ShownBox
from cvat_adapter import wire
from cvat_adapter.nouns import Frame, Labels

LABELS = Labels({"car": 25, "any": 29}, ("cell",))
Json = dict[str, Any]


def frames(*numbers: int, width: int = 200, height: int = 100, deleted: tuple[int, ...] = ()) -> dict[int, Frame]:
    return {n: Frame(n, f"{n}.jpg", width, height, n in deleted) for n in numbers}


def rectangle(*points: float, frame: int = 0, label: int = 25, **more: Any) -> Json:
    return {"id": 7, "type": "rectangle", "frame": frame, "label_id": label, "points": list(points), **more}


def key(frame: int, *points: float, outside: bool = False, **more: Any) -> Json:
    return {"type": "rectangle", "frame": frame, "points": list(points), "outside": outside, **more}


def track(*keys: Json, source: str = "manual", label: int = 25) -> Json:
    return {"id": 3, "label_id": label, "frame": keys[0]["frame"], "source": source, "shapes": list(keys)}


def read(*shapes: Json, frame: Frame | None = None) -> tuple[list[LabelledBox], list[str]]:
    return wire.answers({"shapes": shapes}, {0: frame or frames(0)[0]}, LABELS)[0]


def pixels(box: LabelledBox, width: int = 200, height: int = 100) -> list[float]:
    x1, y1, x2, y2 = box.xyxy
    return [round(v, 3) for v in (x1 * width, y1 * height, x2 * width, y2 * height)]


def seen(found: dict[int, tuple[list[LabelledBox], list[str]]]) -> dict[int, list[float]]:
    """Frame -> pixels of its only box; frames without one are left out."""
    return {n: pixels(boxes[0]) for n, (boxes, _) in found.items() if boxes}


# --- labels ----------------------------------------------------------------------------------------------


def test_labels_that_hold_boxes_come_in_the_order_they_were_made() -> None:
    raw = [
        {"id": 30, "name": "person", "type": "skeleton"},
        {"id": 29, "name": "any", "type": "any"},
        {"id": 26, "name": "cell", "type": "polygon"},
        {"id": 25, "name": "car", "type": "rectangle"},
        {"id": 31, "name": "head", "type": "points", "parent_id": 30},
    ]
    found = wire.labels(raw)
    assert list(found.ids.items()) == [("car", 25), ("any", 29)]
    assert found.others == ("cell", "person")


def test_a_project_without_a_label_for_boxes_has_no_classes() -> None:
    assert wire.project_spec("Cells", Labels({}, ("cell",)), 0.5).names == ()


def test_the_spec_keeps_label_ids_as_details() -> None:
    spec = wire.project_spec("Cars", LABELS, 0.3)
    assert (spec.names, spec.show_from, spec.details) == (("car", "any"), 0.3, {"labels": {"car": 25, "any": 29}})


# --- shapes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "origin"),
    [
        ("auto", "prediction"),
        ("semi-auto", "prediction-changed"),
        ("manual", "manual"),
        ("file", "manual"),
        ("consensus", "manual"),
    ],
)
def test_the_source_tells_what_the_person_did(source: str, origin: str) -> None:
    assert read(rectangle(20, 10, 40, 30, source=source))[0][0].origin == origin


def test_a_rectangle_is_a_box_in_fractions_of_its_frame() -> None:
    assert read(rectangle(20, 10, 40, 30)) == ([LabelledBox("car", (0.1, 0.1, 0.2, 0.3))], [])


def test_corners_may_come_in_any_order() -> None:
    assert read(rectangle(40, 30, 20, 10)) == read(rectangle(20, 10, 40, 30))


def test_a_turned_rectangle_counts_as_the_box_around_it() -> None:
    boxes, _ = read(rectangle(80, 40, 120, 60, rotation=90.0))
    assert pixels(boxes[0]) == [90, 30, 110, 70]


def test_a_full_turn_is_none() -> None:
    assert read(rectangle(80, 40, 120, 60, rotation=360.0)) == read(rectangle(80, 40, 120, 60))


def test_what_lies_outside_the_image_is_cut_off() -> None:
    boxes, dropped = read(rectangle(-50, -20, 1000, 50))
    assert (pixels(boxes[0]), dropped) == ([0, 0, 200, 50], [])


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        (rectangle(-50, -20, -1, 50), "no area inside the image"),
        (rectangle(20, 10, 20, 50), "no area inside the image"),
        (rectangle(20, 10, float("nan"), 50), "not finite numbers"),
        (rectangle(20, 10, 40), "not finite numbers"),
        (rectangle(20, 10, 40, 30, label=26), "has the label 26"),
        (rectangle(1, 1, 50, 1, 50, 50) | {"type": "polygon"}, "is a polygon, only rectangles train"),
        (rectangle() | {"type": "skeleton", "elements": []}, "is a skeleton, only rectangles train"),
    ],
)
def test_what_cannot_train_is_dropped_with_a_sentence(shape: Json, why: str) -> None:
    boxes, dropped = read(shape)
    assert boxes == []
    assert len(dropped) == 1
    assert dropped[0].startswith("shape 7 ")
    assert why in dropped[0]


def test_a_frame_of_unknown_size_has_no_fractions() -> None:
    boxes, dropped = read(rectangle(20, 10, 40, 30), frame=Frame(0, "a.jpg", 0, 0))
    assert (boxes, dropped) == ([], ["shape 7 is on frame 0, whose size CVAT does not know"])


def test_tags_are_no_boxes() -> None:
    found = wire.answers(
        {"tags": [{"id": 1, "frame": 0, "label_id": 28}], "shapes": [], "tracks": []}, frames(0), LABELS
    )
    assert found == {0: ([], [])}


def test_deleted_frames_have_no_answer_and_other_frames_are_not_ours() -> None:
    shapes = [rectangle(20, 10, 40, 30, frame=n) for n in range(4)]
    assert list(wire.answers({"shapes": shapes}, frames(1, 2, deleted=(2,)), LABELS)) == [1]


# --- tracks ----------------------------------------------------------------------------------------------


def test_a_track_moves_in_a_straight_line_and_stays_to_the_end_of_the_job() -> None:
    raw = {"tracks": [track(key(1, 0, 0, 20, 20), key(3, 40, 20, 60, 60))]}
    assert seen(wire.answers(raw, frames(*range(5)), LABELS)) == {
        1: [0, 0, 20, 20],
        2: [20, 10, 40, 40],
        3: [40, 20, 60, 60],
        4: [40, 20, 60, 60],
    }


def test_a_track_is_not_seen_from_where_it_goes_outside() -> None:
    keys = key(0, 0, 0, 20, 20), key(2, 20, 0, 40, 20, outside=True), key(4, 0, 0, 20, 20)
    found = seen(wire.answers({"tracks": [track(*keys)]}, frames(*range(6)), LABELS))
    assert found == {0: [0, 0, 20, 20], 1: [10, 0, 30, 20], 4: [0, 0, 20, 20], 5: [0, 0, 20, 20]}


def test_a_track_that_began_before_the_frames_is_seen_on_them() -> None:
    raw = {"tracks": [track(key(0, 0, 0, 20, 20), key(10, 100, 0, 120, 20))]}
    assert seen(wire.answers(raw, frames(5, 6), LABELS)) == {5: [50, 0, 70, 20], 6: [60, 0, 80, 20]}


def test_key_frames_on_deleted_frames_do_not_count() -> None:
    keys = key(0, 0, 0, 20, 20), key(1, 90, 50, 99, 99), key(2, 20, 0, 40, 20)
    found = seen(wire.answers({"tracks": [track(*keys)]}, frames(0, 1, 2, deleted=(1,)), LABELS))
    assert found == {0: [0, 0, 20, 20], 2: [20, 0, 40, 20]}


def test_a_track_turns_the_shorter_way() -> None:
    keys = key(0, 80, 40, 120, 60, rotation=350.0), key(2, 80, 40, 120, 60, rotation=10.0)
    positions = dict(wire.positions(track(*keys), frames(0, 1, 2)))
    assert positions[1]["rotation"] == pytest.approx(0, abs=1e-9) or positions[1]["rotation"] == pytest.approx(360)


def test_a_track_has_the_origin_of_its_source_and_one_sentence_per_frame_where_it_is_no_rectangle() -> None:
    lines = track(*({**key(n, 0, 0, 9, 9), "type": "polyline"} for n in (0, 2)))
    found = wire.answers({"tracks": [track(key(0, 0, 0, 9, 9), source="semi-auto"), lines]}, frames(0, 1), LABELS)
    assert [b.origin for boxes, _ in found.values() for b in boxes] == ["prediction-changed"] * 2
    assert [dropped for _, dropped in found.values()] == [["track 3 is a polyline, only rectangles train"]] * 2


points = st.tuples(*[st.floats(-300, 500)] * 4)


@given(first=points, last=points, length=st.integers(2, 9), data=st.data())
def test_interpolation_is_between_its_key_frames_and_exact_on_them(
    first: tuple[float, ...], last: tuple[float, ...], length: int, data: st.DataObject
) -> None:
    found = dict(wire.positions(track(key(0, *first), key(length, *last)), frames(*range(length + 1))))
    n = data.draw(st.integers(0, length))
    assert found[0]["points"] == list(first)
    assert found[length]["points"] == list(last)
    for low, high, value in zip(map(min, first, last), map(max, first, last), found[n]["points"], strict=True):
        assert low - 1e-9 <= value <= high + 1e-9


@given(shape=points, turn=st.floats(0, 360))
def test_every_box_that_is_read_lies_inside_the_image(shape: tuple[float, ...], turn: float) -> None:
    boxes, dropped = read(rectangle(*shape, rotation=turn))
    assert len(boxes) + len(dropped) == 1  # LabelledBox itself checks its fractions


# --- what we draw ----------------------------------------------------------------------------------------


def item(*boxes: ShownBox, width: int = 200, height: int = 100) -> QueueItem:
    return QueueItem("4:3", 0.1, boxes, width, height)


def as_cvat_gives_it_back(shape: Json) -> Json:
    """With an id, and the default of the label's attribute filled in."""
    back: Json = json.loads(json.dumps(shape))
    return {**back, "id": 16, "attributes": [{"spec_id": 4, "value": "no"}], "elements": []}


def test_a_predicted_box_is_an_automatic_rectangle_with_its_confidence() -> None:
    (shape,) = wire.shapes(item(ShownBox("car", (20, 10, 40, 30), 0.875)), 3, LABELS)
    wanted = {"type": "rectangle", "frame": 3, "label_id": 25, "points": [20, 10, 40, 30], "source": "auto"}
    assert shape == shape | wanted | {"score": 0.875}


@pytest.mark.parametrize(
    "box",
    [
        ShownBox("bus", (20, 10, 40, 30), 0.9),
        ShownBox("car", (20, 10, 20.001, 30), 0.9),
        ShownBox("car", (250, 10, 300, 30), 0.9),
        ShownBox("car", (20, 10, float("nan"), 30), 0.9),
    ],
)
def test_boxes_that_cvat_could_not_use_are_not_sent(box: ShownBox) -> None:
    assert wire.shapes(item(box), 3, LABELS) == []


def test_an_image_of_unknown_size_gets_no_boxes() -> None:
    assert wire.shapes(item(ShownBox("car", (20, 10, 40, 30), 0.9), width=0), 3, LABELS) == []


shown = st.builds(
    lambda x1, y1, w, h, score: ShownBox("car", (x1, y1, x1 + w, y1 + h), score),
    *[st.floats(-50, 190), st.floats(-50, 90), st.floats(0.1, 300), st.floats(0.1, 300), st.floats(0, 1)],
)


@given(boxes=st.lists(shown, max_size=4))
def test_what_we_send_is_inside_the_image_and_comes_back_as_the_same_boxes(boxes: list[ShownBox]) -> None:
    sent = wire.shapes(item(*boxes), 0, LABELS)
    for shape in sent:
        x1, y1, x2, y2 = shape["points"]
        assert 0 <= x1 < x2 <= 200
        assert 0 <= y1 < y2 <= 100
    back, dropped = read(*map(as_cvat_gives_it_back, sent))
    assert dropped == []
    assert [b.origin for b in back] == ["prediction"] * len(sent)
    assert [pixels(b) for b in back] == [shape["points"] for shape in sent]
    clipped = [(max(0, b.xyxy[0]), max(0, b.xyxy[1]), min(200, b.xyxy[2]), min(100, b.xyxy[3])) for b in boxes]
    kept = [c for c in clipped if c[2] - c[0] > 0.01 and c[3] - c[1] > 0.01]
    assert len(kept) <= len(sent) <= len(boxes)


@given(box=shown)
def test_content_is_the_same_when_it_comes_back_and_when_it_was_kept_as_json(box: ShownBox) -> None:
    for shape in wire.shapes(item(box), 3, LABELS):
        back = as_cvat_gives_it_back(shape)
        assert wire.content({**back, "attributes": []}) == wire.content(shape)
        assert json.loads(json.dumps(wire.content(back))) == json.loads(json.dumps(wire.content(back | {"score": 0.1})))


@pytest.mark.parametrize(
    "change",
    [
        {"points": [20, 10, 40, 31]},
        {"label_id": 29},
        {"rotation": 12.0},
        {"occluded": True},
        {"z_order": 1},
        {"group": 2},
        {"attributes": [{"spec_id": 4, "value": "yes"}]},
        {"source": "semi-auto"},
        {"elements": [rectangle(1, 1, label=31) | {"type": "points"}]},
    ],
)
def test_content_shows_whatever_a_person_can_change(change: Json) -> None:
    before = rectangle(20, 10, 40, 30, source="auto", attributes=[{"spec_id": 4, "value": "no"}])
    assert wire.content(before | change) != wire.content(before)


@pytest.mark.parametrize(
    ("source", "is_human"), [("auto", False), ("semi-auto", True), ("manual", True), ("file", True)]
)
def test_only_automatic_shapes_are_nobodys(source: str, is_human: bool) -> None:
    assert wire.human({"source": source}) is is_human


def test_a_shape_without_a_source_is_a_persons() -> None:
    assert wire.human({})
