"""Regions, annotations, tasks and predictions in every form that was recorded."""

from __future__ import annotations

from typing import Any

import pytest

from common.domain import QueueItem, ShownBox
from ls_backend import label_config, wire
from tests.contract.ls_app_service import CONFIG, recorded_fixture  # noqa: F401 - a fixture


@pytest.mark.parametrize("kind", ["polygonlabels", "keypointlabels", "ellipselabels", "brushlabels", "videorectangle"])
def test_a_region_of_another_kind_trains_as_nothing_and_is_said(kind: str, recorded: Any) -> None:
    region = {
        "polygonlabels": "region.polygonlabels",
        "keypointlabels": "region.keypointlabels",
        "ellipselabels": "region.ellipselabels",
        "brushlabels": "region.brushlabels",
        "videorectangle": "region.videorectangle",
    }[kind]
    kept, dropped = wire.boxes(_regions(recorded(region)), label_config.parse(CONFIG))
    assert kept == []
    assert len(dropped) == 1


def _regions(found: Any) -> list[Any]:
    region = found.get("region", found) if isinstance(found, dict) else found
    return region if isinstance(region, list) else [region]


def test_a_recorded_rectangle_trains_as_itself(recorded: Any) -> None:
    (region,) = _regions(recorded("region.rectanglelabels"))
    name = region["value"]["rectanglelabels"][0]
    config = CONFIG.replace('"Dog"', f'"{name}"') if name != "Car" else CONFIG
    config = config.replace('name="label"', f'name="{region["from_name"]}"')
    config = config.replace('name="image"', f'name="{region["to_name"]}"').replace(
        'toName="image"', f'toName="{region["to_name"]}"'
    )
    (box,), dropped = wire.boxes([region], label_config.parse(config))
    assert (box.name, dropped) == (name, [])
    assert box.xyxy[0] == pytest.approx(region["value"]["x"] / 100)


def test_a_prediction_submitted_untouched_is_known_as_such(recorded: Any) -> None:
    sent = recorded("ui.submit_annotation_from_prediction")["request"]["body"]
    (box,), _ = wire.boxes(sent["result"], label_config.parse(CONFIG))
    assert box.origin == "prediction"


@pytest.mark.parametrize("name", ["api.annotation_create", "api.export_json_all_tasks", "api.task_with_draft"])
def test_annotations_in_every_recorded_form_are_read(name: str, recorded: Any) -> None:
    spec = label_config.parse(CONFIG)
    body = recorded(name)["response"]["body"]
    for task in body if isinstance(body, list) else [body]:
        for raw in task.get("annotations", [task] if "result" in task else []):
            assert wire.annotation(raw, spec, task).id == str(raw["id"])
    if name == "api.task_with_draft":
        assert body["drafts"]
        assert body["annotations"] == [], "a draft is no answer"


@pytest.mark.parametrize("name", ["api.tasks_list_fields_all", "api.tasks_list_completed_since"])
def test_every_recorded_listing_of_tasks_is_read(name: str, recorded: Any) -> None:
    listed = recorded(name)["response"]["body"]["tasks"]
    found = [wire.sample(t, label_config.parse(CONFIG)) for t in listed]
    assert [s.id for s in found] == [str(t["id"]) for t in listed]


def test_our_rows_have_the_fields_of_a_recorded_import(recorded: Any) -> None:
    sent = recorded("api.import_predictions")["request"]["body"]
    stored = recorded("api.predictions_of_task")["response"]["body"]
    row = wire.prediction(
        QueueItem("1", 0.5, (ShownBox("Car", (1, 2, 30, 40), 0.9),), 64, 48), "v", label_config.parse(CONFIG)
    )
    assert set(row) <= set(sent[0])
    assert set(row) <= set(stored[0])
