"""Predictions as Label Studio asks for them, and every way that can go wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from common.errors import HardfirstError
from common.store import engine
from common.store.projects import ProjectRow
from tests.contract.ls_app_service import (
    CONFIG,
    KEY,
    Service,
    guarded_fixture,  # noqa: F401 - fixtures are found by name
    names,
    recorded_fixture,  # noqa: F401
    replay,
    service_fixture,  # noqa: F401
    shape,
    still_fixture,  # noqa: F401
)
from tests.fakes import FakePlatform


def test_predictions_have_the_recorded_shape_length_and_order(guarded: Service, shared: Path, recorded: Any) -> None:
    guarded.settle()
    requests = [n for n in names(shared, "predict.") if n.endswith(".request")]
    assert len(requests) >= 6
    for name in requests:
        sent, wanted = recorded(name), recorded("predict.response")
        sent["body"]["label_config"] = CONFIG
        sent["headers"] |= {"Authorization": "Basic REDACTED"}
        for i, task in enumerate(sent["body"]["tasks"]):
            task["data"]["image"] = f"{i}.png"
        sent["body"]["project"] = "2.1795196587"
        answer = replay(guarded, sent)
        assert answer.status_code == wanted["status"], name
        assert len(answer.json["results"]) == len(sent["body"]["tasks"]), name
        ignored = ("cluster", "neighbors", "mislabeling")  # Label Studio drops them
        like = {k: v for k, v in wanted["body"]["results"][0].items() if k not in ignored}
        assert [shape(r) for r in answer.json["results"]] == [shape(like)] * len(sent["body"]["tasks"]), name


def tasks(*ids: Any, image: str | None = None) -> list[dict[str, Any]]:
    return [{"id": i, "data": {"image": image or f"{int(i) - 1}.png"}, "project": 2} for i in ids]


def predict(service: Service, sent: list[Any], **more: Any) -> list[dict[str, Any]]:
    answer = service.post("/predict", {"tasks": sent, "project": "2.1", "label_config": CONFIG, **more})
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json["results"]
    assert len(results) == len(sent)
    return results


def test_what_the_store_knows_is_answered_without_a_model(service: Service) -> None:
    service.settle()
    (one,) = predict(service, tasks(3))
    assert one["result"][0]["value"]["rectanglelabels"] == ["Car"]
    assert service.model.asked == []


def test_an_image_nobody_scored_goes_through_the_resident_model_once(service: Service) -> None:
    service.settle()
    service.store.predictions.forget()
    fresh = tasks(400, 401, image="0.png")
    first, again = predict(service, fresh), predict(service, fresh)
    assert [r["result"][0]["id"] for r in first] == [r["result"][0]["id"] for r in again]
    assert service.model.asked == ["0.png"]


def test_answers_are_in_the_order_of_the_tasks_also_when_a_task_comes_twice(service: Service) -> None:
    service.settle()
    one, two, three, four = predict(service, tasks(5, 2, 5, 9))
    assert one == three
    assert len({r["result"][0]["id"] for r in (one, two, four)}) == 3


def test_an_unreadable_image_gives_an_empty_result_and_a_line_in_the_log(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.settle()
    good, bad = predict(service, [*tasks(1), *tasks(500, image="absent.png")])
    assert good["result"]
    assert (bad["result"], bad["score"]) == ([], 1.0)
    assert "task 500: no boxes: absent.png: there is no such image" in caplog.text


def test_a_failing_model_gives_empty_results_that_stand_last(service: Service) -> None:
    service.settle()
    service.store.predictions.forget()
    service.backend._score = lambda _model, paths, _imgsz: ["the model failed: no memory"] * len(paths)
    assert [(r["result"], type(r["score"])) for r in predict(service, tasks(1, 2))] == [([], float)] * 2


def test_a_task_without_boxes_never_comes_before_the_others(service: Service) -> None:
    """Label Studio serves the lowest score first, and SQLite puts no score at all before the lowest."""
    service.settle()
    assert [r["score"] for r in predict(service, [*tasks(500, image="absent.png"), "odd"])] == [1.0, 1.0]


def test_the_platform_being_down_gives_empty_results(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    service.settle()
    service.store.predictions.forget()

    def closed(_row: ProjectRow) -> FakePlatform:
        raise HardfirstError("LABEL_STUDIO_URL is not set")

    service.backend._ports._open = closed
    service.backend._ports.drop(KEY)
    assert predict(service, tasks(1))[0]["result"] == []
    assert "LABEL_STUDIO_URL is not set" in caplog.text


ODD = [
    {},
    None,
    7,
    "task",
    [],
    {"id": None},
    {"id": True, "data": {"image": "0.png"}},
    {"id": "1; drop table", "data": {"image": "0.png"}},
    {"id": 10**30, "data": {"image": "0.png"}},
    {"id": -1, "data": {"image": "0.png"}},
    {"id": 1.5, "data": {"image": "0.png"}},
    {"id": "\ud800", "data": {"image": "0.png"}},
    {"id": 900, "data": None},
    {"id": 901, "data": []},
    {"id": 902, "data": {"image": ["0.png"]}},
    {"id": 903, "data": {"image": "\ud800.png"}},
    {"id": 904, "data": {"image": ""}},
    {"id": 905, "data": {"image": "0.png"}, "updated_at": "yesterday", "total_annotations": "many"},
    {"id": 906, "data": {"image": "a" * 200}},
]


def test_odd_tasks_get_an_answer_each_and_do_no_harm_to_their_neighbours(service: Service) -> None:
    service.settle()
    results = predict(service, [*tasks(1), *ODD, *tasks(2)])
    assert results[0]["result"]
    assert results[-1]["result"]
    assert all(set(r) == {"result", "score", "model_version"} for r in results)


def test_a_thousand_tasks_at_once_are_answered(service: Service) -> None:
    service.settle()
    assert len(predict(service, tasks(*range(1, 1001), image="0.png"))) == 1000


def test_labels_the_model_does_not_know_get_no_boxes(service: Service) -> None:
    service.settle()
    config = CONFIG.replace('predicted_values="kitty"', "")
    assert [r["result"] for r in predict(service, tasks(1, 2), label_config=config)] == [[], []]


@pytest.mark.parametrize("context", [None, {}, {"result": []}, {"result": [{"type": "rectanglelabels"}]}])
def test_interactive_calls_are_answered_with_and_without_context(service: Service, context: Any) -> None:
    service.settle()
    (one,) = predict(service, tasks(1), params={"login": None, "password": None, "context": context})
    assert one["result"]


@pytest.mark.parametrize("config", ["", None, "<View>", "<View><Video/></View>", 5])
def test_a_label_config_that_is_not_served_gives_empty_results(service: Service, config: Any) -> None:
    service.store.projects.update(KEY, spec={"title": "", "classes": []})
    assert [r["result"] for r in predict(service, tasks(1, 2), label_config=config)] == [[], []]


def test_a_project_nobody_connected_gets_empty_results_and_nothing_is_fetched(still: Service) -> None:
    calls = len(still.world.platform.calls)
    answer = still.post("/predict", {"tasks": tasks(1, 2), "project": "99.1", "label_config": CONFIG})
    assert [r["result"] for r in answer.json["results"]] == [[], []]
    assert still.world.platform.calls[calls:] == []
    assert still.opened == []


@pytest.mark.parametrize("body", [{}, {"tasks": None}, {"tasks": {"id": 1}}, {"tasks": "all"}])
def test_predict_without_a_list_of_tasks_says_so(still: Service, body: Any) -> None:
    answer = still.post("/predict", body)
    assert answer.status_code == 400
    assert answer.json["error"].startswith("tasks is a ")


def test_no_task_at_all_is_answered_with_no_result(still: Service) -> None:
    assert predict(still, []) == []


def test_a_locked_database_is_a_503_so_that_no_empty_answer_is_kept_for_good(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.settle()

    def locked(*_: Any) -> Any:
        raise engine.StoreError("the database answered 'locked'; nothing was changed, try again")

    monkeypatch.setattr(service.store.samples, "some", locked)
    answer = service.post("/predict", {"tasks": tasks(1), "project": "2.1", "label_config": CONFIG})
    assert (answer.status_code, answer.json["error"].startswith("the database")) == (503, True)
