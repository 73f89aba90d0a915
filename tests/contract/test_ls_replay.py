"""What Label Studio answered on record, through our client; and our requests beside the recorded ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from common.config import Settings
from common.domain import QueueItem, ShownBox
from common.errors import NotListedError, PlatformError
from common.sample.oracle import FolderOracle
from ls_backend.client import open_platform
from ls_backend.demo.annotator import ScriptedAnnotator
from ls_backend.demo.stage import Stage
from ls_backend.project import LabelStudioPlatform
from ls_backend.snapshot import ACTIONS, SAMPLING, VIEW
from tests.contract.ls_recorded import TOKEN, RecordedLabelStudio, unlike
from tests.e2e.annotator import _is_next_task

STUDIO = "http://studio:8080"
VERSION = "yolo-run-7"
"""Of the predictions in the recordings; their project is 31."""

Opened = Callable[..., LabelStudioPlatform]


@pytest.fixture
def server(shared: Path) -> RecordedLabelStudio:
    return RecordedLabelStudio(shared)


@pytest.fixture
def opened(server: RecordedLabelStudio, tmp_path: Path) -> Iterator[Opened]:
    """Opens ports on the recorded project, of a hardfirst with the recorded backend's address and password."""
    ports: list[LabelStudioPlatform] = []

    def open_(**changes: Any) -> LabelStudioPlatform:
        known: dict[str, Any] = {"label_studio_url": STUDIO, "label_studio_api_key": TOKEN, "home": tmp_path}
        known |= {"url": "http://127.0.0.1:9191", "basic_auth_user": "user1", "basic_auth_pass": SecretStr("hidden")}
        settings = Settings(_env_file=None, **known | {"webhook_secret": ("hush",)} | changes)
        ports.append(open_platform("31", settings, {}, transport=server))
        return ports[-1]

    yield open_
    for port in ports:
        port.close()


def project(server: RecordedLabelStudio, **changes: Any) -> None:
    """The project as recorded when it was made, with these settings."""
    server.says("GET /api/projects/31", server.body("api.project_create") | changes)


def connected(server: RecordedLabelStudio, hooks: list[Any] | None = None) -> None:
    """The recorded backend, our webhook in good order unless others are given, and no tab."""
    good = {"send_for_all_actions": False, "actions": list(ACTIONS), "headers": {"X-Hardfirst-Secret": "hush"}}
    (hook,) = server.body("api.webhooks_list_after_connect")
    server.plays("api.ml_list")
    server.says("GET /api/webhooks", [hook | good] if hooks is None else hooks)
    server.says("GET /api/dm/views", [])


# --- connect ---------------------------------------------------------------------------------------------


def test_a_connection_makes_the_recorded_requests_and_reads_the_recorded_answers(
    server: RecordedLabelStudio, opened: Opened
) -> None:
    project(server)
    server.says("GET /api/ml?project=31", [])
    server.says("GET /api/webhooks?project=31", [])
    server.says("GET /api/dm/views?project=31", [])
    server.plays("api.ml_list", "api.webhooks_list_after_connect")
    server.plays("api.ml_connect", "api.webhook_set_secret_header", "api.view_create_ordered")

    changes = opened().connect(dry_run=False, replace=False)

    assert server.writes() == ["POST /api/ml", "PATCH /api/webhooks/10", "POST /api/dm/views"]
    assert [c.what for c in changes][:3] == ["ML backend", "webhook", "Data Manager tab"]
    assert server.differences("api.ml_connect") == []
    assert server.differences("api.ml_list") == []
    assert server.differences("api.webhooks_list_after_connect") == []
    assert server.differences("api.view_create_ordered") == []


def test_the_tab_is_the_recorded_one_but_for_its_title(server: RecordedLabelStudio) -> None:
    recorded = server.call("api.view_create_ordered").body["data"]
    assert {**recorded, "title": ""} == {**VIEW, "title": ""}


def test_a_backend_that_a_person_listed_is_adopted_from_the_recorded_list(
    server: RecordedLabelStudio, opened: Opened
) -> None:
    project(server)
    connected(server)
    server.plays("api.view_create_ordered")

    opened().connect(dry_run=False, replace=False, listed=True)

    assert server.writes() == ["POST /api/dm/views"]


def test_the_recorded_backend_is_another_one_to_a_hardfirst_elsewhere(
    server: RecordedLabelStudio, opened: Opened
) -> None:
    project(server)
    connected(server)
    port = opened(url="http://127.0.0.1:9292")
    with pytest.raises(NotListedError, match=r"no ML backend of project 31 has the address http://127.0.0.1:9292"):
        port.connect(dry_run=False, replace=False, listed=True)
    with pytest.raises(PlatformError, match=r"'al-yolo' at http://127.0.0.1:9191.*--replace"):
        port.connect(dry_run=False, replace=False)
    assert server.writes() == []


# --- the webhook -----------------------------------------------------------------------------------------


def test_an_event_that_label_studio_does_not_know_is_one_sentence(server: RecordedLabelStudio, opened: Opened) -> None:
    project(server)
    connected(server, hooks=[])
    server.plays("api.webhook_unknown_event_error")

    with pytest.raises(PlatformError) as caught:
        opened().drift(None)

    assert str(caught.value) == (
        f"Label Studio at {STUDIO} refused to add a webhook to project 31 (status 400): "
        '"ANNOTATION_DELETED" is not a valid choice.'
    )
    ours = ["+body.headers", "+body.is_active", "+body.send_payload"]
    assert server.differences("api.webhook_unknown_event_error") == ours


def test_every_event_we_ask_for_is_one_of_a_project_on_record(server: RecordedLabelStudio) -> None:
    known = {name for name, of in server.body("api.webhooks_info").items() if not of["organization-only"]}
    assert set(ACTIONS) <= known
    refused = server.call("api.webhook_unknown_event_error").body["actions"]
    assert set(refused).isdisjoint(known)


# --- versions and the queue ------------------------------------------------------------------------------


def test_the_queue_is_switched_on_in_the_recorded_request(server: RecordedLabelStudio, opened: Opened) -> None:
    server.plays("api.project_enable_uncertainty")

    opened().activate(VERSION)

    (sent,) = server.sent
    assert server.differences("api.project_enable_uncertainty") == ["+body.show_collab_predictions"]
    recorded = server.call("api.project_enable_uncertainty").body
    assert recorded == {"sampling": SAMPLING, "model_version": VERSION}
    assert sent.body == {**recorded, "show_collab_predictions": True}
    assert "ordering" not in server.call("ui.label_all_tasks").body, "only so does the sampling decide"
    stored = server.body("api.project_enable_uncertainty")
    assert {key: stored[key] for key in sent.body} == sent.body


def test_a_version_without_predictions_is_one_sentence(server: RecordedLabelStudio, opened: Opened) -> None:
    server.plays("api.project_model_version_unknown_error")

    with pytest.raises(PlatformError) as caught:
        opened().activate("nope")

    assert str(caught.value) == (
        f"Label Studio at {STUDIO} refused to change project 31 (status 400): "
        "Model version doesn't exist either as live model or as static predictions."
    )
    ours = ["+body.sampling", "+body.show_collab_predictions"]
    assert server.differences("api.project_model_version_unknown_error") == ours


def test_a_version_that_label_studio_emptied_is_put_back(server: RecordedLabelStudio, opened: Opened) -> None:
    assert server.body("api.project_after_delete_model_version")["model_version"] is None
    server.plays("api.project_after_delete_model_version", "api.project_enable_uncertainty")
    connected(server)

    (drift,) = opened().drift(VERSION)

    assert drift.healed
    assert f"model_version of project 31 is None, hardfirst left '{VERSION}'" in drift.what
    assert server.differences("api.project_after_delete_model_version") == []
    assert [c.body for c in server.sent if c.method == "PATCH"] == [{"model_version": VERSION}]


def test_a_version_whose_predictions_are_all_gone_is_said_not_healed(
    server: RecordedLabelStudio, opened: Opened
) -> None:
    server.plays("api.project_after_delete_model_version", "api.project_model_version_unknown_error")
    connected(server)

    (drift,) = opened().drift("nope")

    assert server.differences("api.project_model_version_unknown_error") == []
    assert (drift.healed, "none of its predictions is left" in drift.what) == (False, True)
    assert "hardfirst connect label-studio --project 31" in drift.fix


def test_the_versions_are_counted_from_the_recorded_extended_form(server: RecordedLabelStudio, opened: Opened) -> None:
    server.plays("api.model_versions", "api.model_versions_extended")

    found = opened().published()

    assert server.differences("api.model_versions_extended") == []
    assert server.differences("api.model_versions") == ["query"], "the plain form answers to a request we never make"
    assert found == server.body("api.model_versions"), "both forms tell the same"


def test_predictions_are_retired_one_by_one_never_by_the_recorded_deletion(
    server: RecordedLabelStudio, opened: Opened
) -> None:
    listed = server.body("api.tasks_list_fields_all")
    rows = [row["id"] for task in listed["tasks"] for row in task["predictions"] if row["model_version"] == VERSION]
    assert len(rows) > 1
    server.says("GET /api/tasks", listed)
    for row in rows:
        server.says(f"DELETE /api/predictions/{row}", None, status=204)

    assert opened().retire(VERSION, 100) == len(rows)

    assert server.writes() == [f"DELETE /api/predictions/{row}" for row in rows]
    assert server.call("api.delete_model_version").line not in server.writes()


def test_predictions_are_imported_in_the_recorded_request(server: RecordedLabelStudio, opened: Opened) -> None:
    project(server)
    server.plays("api.import_predictions")
    box = ShownBox("Car", (6.4, 4.8, 32.0, 24.0), 0.87)
    tasks = [str(row["task"]) for row in server.call("api.import_predictions").body]

    created = opened().publish(VERSION, [QueueItem(task, 0.5, (box,), 64, 48) for task in tasks])

    assert created == len(tasks) == server.body("api.import_predictions")["created"]
    assert server.differences("api.import_predictions") == ["+body.result.score"]


# --- the demo and its annotator --------------------------------------------------------------------------


def client(server: RecordedLabelStudio) -> httpx.Client:
    return httpx.Client(base_url=STUDIO, transport=server, headers={"Authorization": f"Token {TOKEN}"})


def test_the_demo_imports_its_images_in_the_recorded_form(
    server: RecordedLabelStudio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [task["data"] for task in server.call("api.import_tasks").body]
    names = [data["image"].rpartition("/")[2] for data in wanted]
    config = server.body("api.project_create")["label_config"]
    stage = Stage(tmp_path / "demo", tmp_path / "imgs", {}, lambda _: None)
    monkeypatch.setattr(stage.server, "client", lambda: client(server))
    server.plays("api.project_create")
    server.says("GET /api/storages/localfiles", [])
    server.says("POST /api/storages/localfiles", {}, status=201)
    server.says("POST /api/projects/31/import", server.body("api.import_tasks"), status=201)

    for _ in "twice":
        assert stage.project("Contract project", config, [tmp_path / "imgs" / name for name in names]) == 31

    assert server.differences("api.project_create") == []
    (sent,) = [call for call in server.sent if call.path.endswith("/import")]
    assert sent.body == wanted, "a task may come as its bare data"
    wrapped = [{"data": data} for data in sent.body]
    assert unlike(wrapped, server.call("api.import_tasks").body) == []
    assert stage.memory["imported"] == server.body("api.import_tasks")["task_count"]


def answers(folder: Path, stem: str) -> FolderOracle:
    """An oracle that knows one image with one car on it."""
    folder.mkdir()
    (folder / f"{stem}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    return FolderOracle(folder, ["Car"])


def test_the_scripted_annotator_labels_the_recorded_next_task(server: RecordedLabelStudio, tmp_path: Path) -> None:
    server.plays("api.next_task_uncertainty", "api.annotation_create")
    with client(server) as http:
        labelled = ScriptedAnnotator(http, 31, answers(tmp_path / "labels", "img007")).label_next()

    assert labelled == "img007.png"
    assert server.differences("api.next_task_uncertainty") == []
    left_out = ["id", "image_rotation", "original_height", "original_width"]
    assert server.differences("api.annotation_create") == [f"-body.result.{key}" for key in left_out]


def test_a_task_served_from_a_tab_is_labelled_just_the_same(server: RecordedLabelStudio, tmp_path: Path) -> None:
    served = server.body("api.next_task_as_displayed")
    server.says("GET /api/projects/31/next", served)
    server.says(f"POST /api/tasks/{served['id']}/annotations", server.body("api.annotation_create"), status=201)
    with client(server) as http:
        assert ScriptedAnnotator(http, 31, answers(tmp_path / "labels", "img005")).label_next() == "img005.png"
    assert server.writes() == ["POST /api/tasks/10542/annotations"]


@pytest.mark.parametrize("name", ["ui.label_all_tasks", "ui.label_tasks_as_displayed", "api.next_task_as_displayed"])
def test_the_browser_annotator_knows_the_recorded_request_for_the_next_task(
    name: str, server: RecordedLabelStudio
) -> None:
    path = server.exchange(name)["request"]["path"]
    assert _is_next_task(SimpleNamespace(url=STUDIO + path))  # type: ignore[arg-type]
    assert not _is_next_task(SimpleNamespace(url=STUDIO + path.replace("next_task", "delete_tasks")))  # type: ignore[arg-type]


def test_labelling_our_tab_as_displayed_asks_for_its_order_and_filter(server: RecordedLabelStudio) -> None:
    assert server.call("api.next_task_as_displayed").body["ordering"] == VIEW["ordering"]
    sent = server.call("ui.label_tasks_as_displayed").body
    (item,) = sent["filters"]["items"]
    assert item.pop("child_filter") is None
    assert {key: sent[key] for key in ("ordering", "filters")} == {key: VIEW[key] for key in ("ordering", "filters")}
