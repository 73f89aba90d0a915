"""The Platform port against a real Label Studio."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from common.config import SECRET_HEADER, Settings
from common.domain import QueueItem, ShownBox
from common.errors import AccessDeniedError, PlatformError, ProjectGoneError, PublishError
from ls_backend.client import open_platform
from ls_backend.local_server import LocalLabelStudio
from ls_backend.project import LabelStudioPlatform
from ls_backend.snapshot import ACTIONS
from tests.serving import in_a_thread

pytestmark = pytest.mark.e2e

CONFIG = (
    '<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">'
    '<Label value="Car"/><Label value="Dog"/></RectangleLabels></View>'
)
REGION = {
    **{"id": "r1", "from_name": "label", "to_name": "image", "type": "rectanglelabels"},
    **{"original_width": 64, "original_height": 48, "image_rotation": 0},
    "value": {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0, "rectanglelabels": ["Car"]},
}
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c63f8cfc0f01f0005000"
    "1ff5607e8170000000049454e44ae426082"
)


class Receiver(ThreadingHTTPServer):
    """Answers the ML-backend protocol and keeps what was posted."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, dict[str, str], Any]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def events(self) -> list[str]:
        return [body["action"] for path, _, body in self.posts if path == "/webhook"]


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_GET(self) -> None:
        self._answer({"status": "UP"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.posts.append((self.path, dict(self.headers), body))
        self._answer({"model_version": "floor@1.1-aaaaaaaa", "results": []})

    def _answer(self, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    with in_a_thread(server):
        yield server


class Bench:
    """One project, its port, and a person with the same rights."""

    def __init__(self, server: LocalLabelStudio, receiver: Receiver, home: Path, tasks: int = 6) -> None:
        self.http = server.client()
        self.settings = Settings(
            _env_file=None,
            label_studio_url=server.url,
            label_studio_api_key=server.token,
            home=home,
            url=receiver.url,
        )
        self.project = self.json("POST", "/api/projects", {"title": "live", "label_config": CONFIG})["id"]
        rows = [{"image": f"/data/upload/0/{i}.png"} for i in range(tasks)]
        made = self.json("POST", f"/api/projects/{self.project}/import?return_task_ids=1", rows)
        self.tasks = [str(i) for i in made["task_ids"]]
        self.state: dict[str, Any] = {}
        self.saved: list[str] = []
        self.port = self.open()

    def open(self, **changes: Any) -> LabelStudioPlatform:
        settings = self.settings.model_copy(update=changes)
        return open_platform(str(self.project), settings, self.state, lambda s: self.saved.append(json.dumps(s)))

    def json(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        answer = self.http.request(method, path, json=body, params=params or None)
        assert answer.is_success, (answer.status_code, answer.text[:500])
        return answer.json() if answer.content else None

    def settings_now(self) -> dict[str, Any]:
        found = self.json("GET", f"/api/projects/{self.project}/")
        return {key: found[key] for key in ("sampling", "model_version", "show_collab_predictions")}

    def rows(self, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.json("GET", f"/api/{kind}", project=self.project)
        return found

    def everything(self) -> Any:
        hooks = [{k: v for k, v in hook.items() if k != "updated_at"} for hook in self.rows("webhooks")]
        return self.settings_now(), [b["id"] for b in self.rows("ml")], hooks, self.rows("dm/views")

    def next_task(self) -> str:
        return str(self.json("GET", f"/api/projects/{self.project}/next")["id"])

    def submit(self, task: str, **fields: Any) -> int:
        body = {"result": [REGION], "lead_time": 3.5, **fields}
        return int(self.json("POST", f"/api/tasks/{task}/annotations", body)["id"])

    def predictions(self, version: str) -> list[dict[str, Any]]:
        return [row for row in self.rows("predictions/") if row["model_version"] == version]


@pytest.fixture
def bench(label_studio: LocalLabelStudio, receiver: Receiver, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(label_studio, receiver, tmp_path)
    yield made
    made.port.close()
    made.http.close()


def queue(bench: Bench, order: list[int]) -> list[QueueItem]:
    box = ShownBox("Car", (6.4, 4.8, 32.0, 24.0), 0.87)
    return [QueueItem(bench.tasks[t], place / 10, (box,), 64, 48) for place, t in enumerate(order)]


def test_a_dry_run_tells_every_change_and_writes_nothing(bench: Bench) -> None:
    before = bench.everything()

    told = [change.what for change in bench.port.connect(dry_run=True, replace=False)]

    assert told == ["ML backend", "webhook", "Data Manager tab", "sampling", "model_version"]
    assert bench.everything() == before
    assert bench.state == {}
    assert bench.saved == []


def test_connecting_sets_backend_secret_and_tab_and_leaves_the_model_version(bench: Bench, receiver: Receiver) -> None:
    bench.port.connect(dry_run=False, replace=False)

    (backend,), (hook,), (view,) = bench.rows("ml"), bench.rows("webhooks"), bench.rows("dm/views")
    assert (backend["title"], backend["url"], backend["state"]) == ("hardfirst", receiver.url, "CO")
    assert hook["url"] == receiver.url + "/webhook"
    assert hook["headers"] == {SECRET_HEADER: bench.settings.secrets()[0]}
    assert (hook["send_for_all_actions"], sorted(hook["actions"])) == (False, sorted(ACTIONS))
    assert (view["data"]["title"], view["data"]["ordering"]) == ("Hardest first", ["tasks:predictions_score"])
    assert bench.settings_now()["model_version"] in ("", None)
    assert json.loads(bench.saved[0])["before"]["project"]["sampling"] == "Sequential sampling"

    bench.submit(bench.tasks[0])
    path, headers, body = receiver.posts[-1]
    assert (path, body["action"]) == ("/webhook", "ANNOTATION_CREATED")
    assert headers[SECRET_HEADER] == bench.settings.secrets()[0]


def test_connecting_twice_changes_nothing_the_second_time(bench: Bench) -> None:
    bench.port.connect(dry_run=False, replace=False)
    once = bench.everything()

    assert bench.open().connect(dry_run=False, replace=False) == []
    assert bench.everything() == once


def test_disconnect_puts_back_what_was_there(bench: Bench) -> None:
    bench.json(
        "PATCH", f"/api/projects/{bench.project}/", {"sampling": "Uniform sampling", "show_collab_predictions": False}
    )
    bench.json(
        "POST",
        "/api/webhooks",
        {
            "url": "http://127.0.0.1:9/other",
            "project": bench.project,
            "actions": ["TASKS_CREATED"],
            "send_for_all_actions": False,
            "headers": {"A": "b"},
        },
    )
    before = bench.everything()
    bench.port.connect(dry_run=False, replace=False)
    bench.port.publish("v@1.1-aaaaaaaa", queue(bench, [0]))
    bench.port.activate("v@1.1-aaaaaaaa")
    assert bench.everything() != before

    told = [change.what for change in bench.open().disconnect()]

    assert told == ["sampling", "model_version", "show_collab_predictions", "webhook", "ML backend", "Data Manager tab"]
    assert bench.everything() == before
    assert bench.state == {}
    assert bench.open().disconnect() == []


def test_a_backend_added_by_a_person_in_the_form_is_adopted(bench: Bench, receiver: Receiver) -> None:
    url = receiver.url.replace("127.0.0.1", "localhost")
    bench.json("POST", "/api/ml", {"url": url, "project": bench.project, "title": "by hand"})
    before = bench.everything()
    assert before[0]["model_version"] == "by hand"

    bench.port.connect(dry_run=False, replace=False)

    (backend,), (hook,) = bench.rows("ml"), bench.rows("webhooks")
    assert backend["title"] == "by hand"
    assert hook["headers"] == {SECRET_HEADER: bench.settings.secrets()[0]}
    bench.port.publish("v@1.1-aaaaaaaa", queue(bench, [0]))
    bench.port.activate("v@1.1-aaaaaaaa")
    bench.port.disconnect()
    assert bench.everything() == before


def test_another_backend_is_never_replaced_without_being_told(bench: Bench) -> None:
    with in_a_thread(Receiver()) as url:
        bench.json("POST", "/api/ml", {"url": url, "project": bench.project, "title": "theirs"})
        before = bench.everything()
        with pytest.raises(PlatformError, match=f"'theirs' at {url}: give --replace"):
            bench.port.connect(dry_run=False, replace=False)
        assert bench.everything() == before

        bench.port.connect(dry_run=False, replace=True)
        assert bench.open().connect(dry_run=False, replace=False) == []
        bench.port.disconnect()
        assert bench.everything() == before


def test_annotators_get_the_published_order(bench: Bench) -> None:
    bench.port.connect(dry_run=False, replace=False)
    assert bench.port.publish("v@1.1-aaaaaaaa", queue(bench, [4, 2, 5, 0, 1, 3])) == 6
    bench.port.activate("v@1.1-aaaaaaaa")

    served = []
    for _ in range(3):
        served.append(bench.next_task())
        bench.submit(served[-1])

    assert served == [bench.tasks[i] for i in (4, 2, 5)]
    assert bench.port.published() == {"v@1.1-aaaaaaaa": 6}
    (row,) = [r for r in bench.predictions("v@1.1-aaaaaaaa") if str(r["task"]) == bench.tasks[2]]
    assert (row["score"], row["result"][0]["score"]) == (0.1, 0.87)
    assert row["result"][0]["value"]["x"] == pytest.approx(10)


def test_what_label_studio_resets_heals_and_what_a_person_chose_is_said(bench: Bench) -> None:
    here = f"/api/projects/{bench.project}/"
    bench.port.connect(dry_run=False, replace=False)
    assert bench.port.drift(None) == []
    bench.port.publish("v@1.1-aaaaaaaa", queue(bench, [0, 1]))
    bench.port.activate("v@1.1-aaaaaaaa")
    assert bench.port.drift("v@1.1-aaaaaaaa") == []

    for trap in ("hardfirst", ""):
        bench.json("PATCH", here, {"model_version": trap})
        assert [d.healed for d in bench.port.drift("v@1.1-aaaaaaaa")] == [True]
        assert bench.settings_now()["model_version"] == "v@1.1-aaaaaaaa"

    (hook,) = bench.rows("webhooks")
    bench.json("PATCH", f"/api/webhooks/{hook['id']}", {"headers": {}})
    assert [d.healed for d in bench.port.drift("v@1.1-aaaaaaaa")] == [True]
    assert sorted(bench.rows("webhooks")[0]["actions"]) == sorted(ACTIONS)
    bench.json("DELETE", f"/api/webhooks/{hook['id']}")
    assert [d.healed for d in bench.port.drift("v@1.1-aaaaaaaa")] == [True]
    assert bench.rows("webhooks")[0]["headers"] == {SECRET_HEADER: bench.settings.secrets()[0]}

    bench.json("PATCH", here, {"sampling": "Uniform sampling"})
    (chosen,) = bench.port.drift("v@1.1-aaaaaaaa")
    assert (chosen.healed, bench.settings_now()["sampling"]) == (False, "Uniform sampling")
    assert "'Uniform sampling'" in chosen.what
    assert "hardfirst disconnect" in chosen.fix

    (backend,) = bench.rows("ml")
    bench.json("DELETE", f"/api/ml/{backend['id']}")
    (gone,) = bench.port.drift("v@1.1-aaaaaaaa")
    assert (gone.healed, bench.rows("ml")) == (False, [])


def test_a_model_version_that_a_person_chose_stays(bench: Bench) -> None:
    bench.port.connect(dry_run=False, replace=False)
    bench.port.publish("theirs", queue(bench, [0]))
    bench.port.publish("v@1.1-aaaaaaaa", queue(bench, [0]))
    bench.port.activate("v@1.1-aaaaaaaa")
    bench.json("PATCH", f"/api/projects/{bench.project}/", {"model_version": "theirs"})

    (drift,) = bench.port.drift("v@1.1-aaaaaaaa")
    assert not drift.healed

    (kept,) = [c for c in bench.port.disconnect() if c.what == "model_version"]
    assert kept.after == "'theirs', as a person set it"
    assert bench.settings_now()["model_version"] == "theirs"


def test_samples_are_every_task_with_its_image_and_counts(bench: Bench) -> None:
    bench.submit(bench.tasks[1])
    bench.submit(bench.tasks[2], was_cancelled=True, result=[])

    found = list(bench.port.samples())

    assert [s.id for s in found] == bench.tasks
    assert found[3].uri == "/data/upload/0/3.png"
    assert [(s.answers, s.skips) for s in found[:3]] == [(0, 0), (1, 0), (0, 1)]
    assert found[0].updated is not None
    assert found[0].updated.tzinfo is UTC


def test_annotations_come_since_a_time_with_edits_and_deletions(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ls_backend.project.OVERLAP", timedelta(0))
    first = bench.submit(bench.tasks[0])
    skipped = bench.submit(bench.tasks[1], was_cancelled=True, result=[])
    known = dict(bench.port.annotations())
    assert list(known) == [bench.tasks[0], bench.tasks[1]]
    (one,) = known[bench.tasks[0]]
    assert (one.id, one.lead_time, one.converted, one.skipped) == (str(first), 3.5, False, False)
    assert one.boxes[0].xyxy == pytest.approx((0.1, 0.2, 0.4, 0.6))
    assert known[bench.tasks[1]][0].skipped

    since = max(a.updated for found in known.values() for a in found) + timedelta(seconds=0.2)
    wait_until(since)
    assert list(bench.port.annotations(since=since)) == []
    bench.json("PATCH", f"/api/annotations/{first}", {"result": []})
    bench.json("DELETE", f"/api/annotations/{skipped}")
    changed = dict(bench.port.annotations(since=since))
    assert list(changed) == [bench.tasks[1], bench.tasks[0]]
    assert changed[bench.tasks[1]] == []
    assert changed[bench.tasks[0]][0].boxes == ()
    assert dict(bench.port.annotations(samples=[bench.tasks[0], bench.tasks[3]])) == {
        **{bench.tasks[0]: changed[bench.tasks[0]], bench.tasks[3]: []}
    }


def wait_until(moment: datetime) -> None:
    threading.Event().wait(max(0.0, (moment - datetime.now(UTC)).total_seconds()))


def test_converted_predictions_are_told_from_submissions_and_imports(bench: Bench) -> None:
    bench.port.publish("v@1.1-aaaaaaaa", queue(bench, [0, 1]))
    action = {"selectedItems": {"all": False, "included": [int(bench.tasks[0])]}, "model_version": "v@1.1-aaaaaaaa"}
    bench.json("POST", "/api/dm/actions", action, id="predictions_to_annotations", project=bench.project)
    bench.submit(bench.tasks[1], lead_time=None)
    imported = [
        {"data": {"image": "/a.png"}, "annotations": [{"result": [REGION], "ground_truth": truth}]}
        for truth in (True, False)
    ]
    made = bench.json("POST", f"/api/projects/{bench.project}/import?return_task_ids=1", imported)

    found = dict(bench.port.annotations())
    assert [found[t][0].converted for t in (*bench.tasks[:2], *map(str, made["task_ids"]))] == [
        True,
        False,
        False,
        False,
    ]

    annotation = found[bench.tasks[0]][0].id
    (row,) = [r for r in bench.predictions("v@1.1-aaaaaaaa") if str(r["task"]) == bench.tasks[0]]
    bench.json("DELETE", f"/api/predictions/{row['id']}")
    assert bench.json("GET", f"/api/annotations/{annotation}")["parent_prediction"] is None
    assert dict(bench.port.annotations())[bench.tasks[0]][0].converted

    bench.json("PATCH", f"/api/annotations/{annotation}", {"result": [REGION], "lead_time": 2})
    assert not dict(bench.port.annotations())[bench.tasks[0]][0].converted


def test_retiring_a_version_touches_no_other_version_and_no_annotation(bench: Bench) -> None:
    for version in ("v@1.1-aaaaaaaa", "v@1.1-aaaaaaaa-more", "theirs"):
        bench.port.publish(version, queue(bench, [0, 1, 2, 3]))
    parent = bench.predictions("v@1.1-aaaaaaaa")[1]["id"]
    annotation = bench.submit(bench.tasks[1], parent_prediction=parent)
    others = [bench.predictions(v) for v in ("v@1.1-aaaaaaaa-more", "theirs")]
    human = bench.json("GET", f"/api/annotations/{annotation}")

    assert bench.port.retire("v@1.1-aaaaaaaa", 2) == 2
    assert bench.port.published() == {"v@1.1-aaaaaaaa": 2, "v@1.1-aaaaaaaa-more": 4, "theirs": 4}
    assert bench.port.retire("v@1.1-aaaaaaaa", 10) == 1
    assert bench.port.retire("v@1.1-aaaaaaaa", 10) == 0

    assert [r["id"] for r in bench.predictions("v@1.1-aaaaaaaa")] == [parent]
    assert [bench.predictions(v) for v in ("v@1.1-aaaaaaaa-more", "theirs")] == others
    assert bench.json("GET", f"/api/annotations/{annotation}") == human


def test_a_task_deleted_meanwhile_stops_the_import_in_one_sentence(bench: Bench) -> None:
    bench.json("DELETE", f"/api/tasks/{bench.tasks[0]}")

    with pytest.raises(PublishError, match="a task of the queue was deleted"):
        bench.port.publish("v@1.1-aaaaaaaa", queue(bench, [0, 1]))
    assert bench.port.published() == {}


def test_a_version_without_predictions_is_not_activated(bench: Bench) -> None:
    with pytest.raises(PlatformError, match="Model version doesn't exist"):
        bench.port.activate("v@9.9-ffffffff")
    assert bench.settings_now()["sampling"] == "Sequential sampling"


def test_images_are_fetched_with_either_kind_of_token(bench: Bench) -> None:
    answer = bench.http.post(f"/api/projects/{bench.project}/import", files={"file": ("a.png", PNG, "image/png")})
    assert answer.status_code == 201
    *_, sample = bench.port.samples()
    personal = bench.json("POST", "/api/token/")["token"]
    for port in (bench.port, bench.open(label_studio_api_key=SecretStr(personal))):
        assert [s.id for s in port.samples()][-1] == sample.id
        url = port.media_url(sample.id, sample.uri)
        assert url.startswith(port.media_origin())
        assert httpx.get(url, headers=dict(port.media_headers()), trust_env=False).content == PNG
        port.close()


def test_the_link_opens_the_task(bench: Bench) -> None:
    assert bench.port.link(bench.tasks[0]).endswith(f"/projects/{bench.project}/data?task={bench.tasks[0]}")


def test_a_deleted_project_is_gone(bench: Bench) -> None:
    bench.json("DELETE", f"/api/projects/{bench.project}/")

    for call in gone_calls(bench.port):
        with pytest.raises(ProjectGoneError, match=f"has no project {bench.project}"):
            call()


def gone_calls(port: LabelStudioPlatform) -> list[Callable[[], Any]]:
    return [
        port.spec,
        lambda: list(port.samples()),
        lambda: list(port.annotations()),
        port.published,
        lambda: port.drift("v"),
        lambda: port.connect(dry_run=False, replace=False),
        lambda: port.activate("v"),
        lambda: port.retire("v", 1),
    ]


@pytest.fixture(scope="module")
def guarded(label_studio_environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalLabelStudio]:
    """A Label Studio with half of the switches: it takes private addresses of backends, but not of webhooks."""
    data = tmp_path_factory.mktemp("guarded") / "data"
    with LocalLabelStudio(
        data, environment=label_studio_environment, settings={"SSRF_PROTECTION_ENABLED": "true"}
    ) as server:
        yield server


def test_private_addresses_refused_by_label_studio_are_one_sentence_and_leave_nothing(
    guarded: LocalLabelStudio, receiver: Receiver, tmp_path: Path
) -> None:
    bench = Bench(guarded, receiver, tmp_path)

    with pytest.raises(PlatformError, match="ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false"):
        bench.port.connect(dry_run=False, replace=False)

    assert bench.rows("ml") == []
    assert bench.settings_now()["model_version"] in ("", None)
    bench.port.close()
    bench.http.close()


def test_disabled_legacy_tokens_are_one_sentence(guarded: LocalLabelStudio, receiver: Receiver, tmp_path: Path) -> None:
    bench = Bench(guarded, receiver, tmp_path)
    personal = bench.open(label_studio_api_key=SecretStr(bench.json("POST", "/api/token/")["token"]))
    bench.json("POST", "/api/jwt/settings", {"api_tokens_enabled": True, "legacy_api_tokens_enabled": False})

    with pytest.raises(
        AccessDeniedError, match="no longer takes legacy tokens: set LABEL_STUDIO_API_KEY to a personal"
    ):
        bench.port.spec()
    assert personal.spec().names == ("Car", "Dog")

    for port in (bench.port, personal):
        port.close()
    bench.http.close()


def test_a_wrong_token_is_one_sentence(bench: Bench) -> None:
    port = bench.open(label_studio_api_key=SecretStr("f" * 40))
    with pytest.raises(AccessDeniedError, match="does not accept the token in LABEL_STUDIO_API_KEY") as caught:
        port.spec()
    assert "f" * 40 not in str(caught.value)
    port.close()
