"""The web process beside the platforms' routes: the queue, metrics, errors, open ports, the resident model."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from flask import Blueprint
from flask.testing import FlaskClient

from common.config import Settings
from common.domain import Prediction
from common.errors import PlatformUnreachableError, SettingError, StoreError
from common.ports import Model
from common.resident import SLICE, ResidentModel
from common.store.projects import ProjectRow
from common.store.publications import Place
from common.web.app import MAX_LIMIT, create_app
from common.web.backend import Backend
from common.web.ports import KEPT, OpenPorts
from tests.fakes import FakePlatform, World, make_world, settle
from tests.unit.scripted_models import MODEL, Scripted

KEY = "fake:1"


class Plain:
    """A platform whose routes only fail, each in its way."""

    name = "plain"

    def blueprint(self, _backend: Any) -> Blueprint:
        routes = Blueprint("plain", __name__)
        routes.add_url_rule("/locked", "locked", lambda: _raise(StoreError("the database is locked")))
        routes.add_url_rule("/down", "down", lambda: _raise(PlatformUnreachableError("no answer")))
        routes.add_url_rule("/bug", "bug", lambda: _raise(KeyError("hunter2")))
        return routes


def _raise(error: Exception) -> Any:
    raise error


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = make_world(tmp_path)
    yield made
    made.tools.store.close()


def client_of(world: World) -> FlaskClient:
    plugins: Any = [Plain()]
    backend = Backend(world.tools, lambda _model, paths, _imgsz: ["no model"] * len(paths))
    return create_app(backend, plugins).test_client()


@pytest.fixture
def client(world: World) -> FlaskClient:
    return client_of(world)


# --- the queue -------------------------------------------------------------------------------------------


def test_the_queue_is_the_order_the_platform_serves_with_all_that_was_promised(
    world: World, client: FlaskClient
) -> None:
    settle(world)
    answer = client.get(f"/api/queue?project={KEY}")
    assert answer.status_code == 200
    assert list(answer.json) == ["project", "version", "total", "items"]
    assert (answer.json["project"], answer.json["version"]) == (KEY, world.platform.active)
    assert answer.json["total"] == 12
    assert [str(i["id"]) for i in answer.json["items"]] == world.platform.order()
    assert [i["rank"] for i in answer.json["items"]] == list(range(1, 13))
    first = answer.json["items"][0]
    assert list(first) == ["id", "rank", "utility", "parts", "version", "link"]
    assert isinstance(first["id"], int)
    assert isinstance(first["parts"], dict)
    assert first["link"] == f"http://platform/tasks/{first['id']}"


def test_a_limit_shortens_the_list_and_not_the_total(world: World, client: FlaskClient) -> None:
    settle(world)
    for limit, length in ((0, 0), (1, 1), (5, 5), (100, 12)):
        answer = client.get(f"/api/queue?project={KEY}&limit={limit}").json
        assert (len(answer["items"]), answer["total"]) == (length, 12)


def test_before_the_first_order_the_queue_is_empty(client: FlaskClient) -> None:
    assert client.get(f"/api/queue?project={KEY}").json == {"project": KEY, "version": "", "total": 0, "items": []}


@pytest.mark.parametrize("limit", ["-1", "1.5", "ten", "", "²", "٣", "9" * 30, "9" * 5000, str(MAX_LIMIT + 1), "1;2"])
def test_a_limit_that_is_none_is_said_in_one_sentence(client: FlaskClient, limit: str) -> None:
    answer = client.get("/api/queue", query_string={"project": KEY, "limit": limit})
    assert answer.status_code == 400
    assert answer.json["error"].endswith(f"give a whole number from 0 to {MAX_LIMIT}")


def test_an_unknown_project_names_those_there_are(client: FlaskClient) -> None:
    answer = client.get("/api/queue?project=fake:2")
    assert (answer.status_code, answer.json) == (404, {"error": "no project 'fake:2'; there are ['fake:1']"})
    assert client.get("/api/queue?project=%ff:%00").status_code == 404


@pytest.mark.parametrize("query", ["", "?project=", "?project=12"])
def test_a_project_without_its_platform_is_said(client: FlaskClient, query: str) -> None:
    answer = client.get(f"/api/queue{query}")
    assert answer.status_code == 400
    assert "give it as platform:id" in answer.json["error"]


def test_a_queue_without_the_platforms_settings_is_shown_without_links(world: World) -> None:
    settle(world)
    world.tools.open = lambda _row: _raise(SettingError("LABEL_STUDIO_URL is not set"))
    answer = client_of(world).get(f"/api/queue?project={KEY}&limit=2")
    assert [i["link"] for i in answer.json["items"]] == ["", ""]


def test_the_top_of_ten_thousand_is_answered_at_once(world: World) -> None:
    publish(world, 10_000)
    client = client_of(world)
    client.get(f"/api/queue?project={KEY}&limit=100")
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        answer = client.get(f"/api/queue?project={KEY}&limit=100")
        seconds.append(time.perf_counter() - started)
        assert (len(answer.json["items"]), answer.json["total"]) == (100, 10_000)
    assert min(seconds) < 0.25, f"{min(seconds):.3f} s; it takes .02 s on an idle machine"


def publish(world: World, count: int) -> None:
    """A queue of ``count`` samples, active."""
    world.platform.tasks = {str(i): f"{i}.png" for i in range(count)}
    world.tools.store.samples.replace(KEY, world.platform.samples())
    places = [Place(i + 1, str(i), i / count, 1 - i / count, {"uncertainty": 0.5}) for i in range(count)]
    row = world.tools.store.publications.create(
        KEY, name="hardfirst", round_number=0, checkpoint=None, sha8="0" * 8, places=places, seconds={}
    )
    world.tools.store.publications.activate(row)


# --- errors, metrics -------------------------------------------------------------------------------------


def test_a_store_or_platform_that_is_down_is_a_503(client: FlaskClient) -> None:
    for path, said in (("/locked", "the database is locked"), ("/down", "no answer")):
        answer = client.get(path)
        trace = answer.headers["X-Request-ID"]
        assert (answer.status_code, answer.json) == (503, {"error": said, "trace": trace})


def test_a_bug_is_a_500_with_a_trace_to_find_in_the_log_and_nothing_of_its_inside(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    answer = client.get("/bug")
    assert answer.status_code == 500
    assert "hunter2" not in answer.text
    assert answer.json["error"].split()[-1] == answer.headers["X-Request-ID"]
    assert "unexpected KeyError" in caplog.text


def test_what_is_not_there_is_json_too(client: FlaskClient) -> None:
    assert client.get("/nowhere").status_code == 404
    assert "error" in client.post("/metrics").json


def test_metrics_count_requests_and_tell_each_project_also_to_ten_readers_at_once(
    world: World, client: FlaskClient
) -> None:
    settle(world)
    client.get(f"/api/queue?project={KEY}")
    application = client.application
    with ThreadPoolExecutor(10) as pool:
        texts = [r.text for r in pool.map(lambda _: application.test_client().get("/metrics"), range(10))]
    for text in texts:
        assert 'hardfirst_samples{project="fake:1"} 12.0' in text
        assert 'hardfirst_project_active{project="fake:1"} 1.0' in text
    assert 'hardfirst_http_requests_total{endpoint="queue",status="200"}' in texts[-1]


# --- open ports ------------------------------------------------------------------------------------------


class Port(FakePlatform):
    """Knows whether it was closed and whether two threads were in it at once."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False
        self.users = 0

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def made() -> list[Port]:
    return []


@pytest.fixture
def ports(made: list[Port]) -> OpenPorts:
    def open_(_row: ProjectRow) -> Port:
        made.append(Port())
        return made[-1]

    return OpenPorts(open_)


@pytest.fixture
def row(world: World) -> ProjectRow:
    found = world.tools.store.projects.get(KEY)
    assert found is not None
    return found


def test_a_port_is_opened_once_and_lent_again(ports: OpenPorts, made: list[Port], row: ProjectRow) -> None:
    for _ in range(3):
        with ports.lend(row) as port:
            assert port is made[0]
    assert len(made) == 1


def test_a_port_is_used_by_one_thread_at_a_time_and_few_are_kept(
    ports: OpenPorts, made: list[Port], row: ProjectRow
) -> None:
    together = threading.Barrier(6)

    def use(_: int) -> int:
        with ports.lend(row) as port:
            assert isinstance(port, Port)
            port.users += 1
            together.wait(10)
            return port.users

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(use, range(6))) == [1] * 6
    assert sum(not p.closed for p in made) == KEPT


def test_a_port_that_failed_is_closed_and_not_lent_again(ports: OpenPorts, made: list[Port], row: ProjectRow) -> None:
    with pytest.raises(PlatformUnreachableError), ports.lend(row):
        raise PlatformUnreachableError("no answer")
    with ports.lend(row) as port:
        assert port is made[1]
    assert [p.closed for p in made] == [True, False]


def test_ports_of_a_project_that_went_are_closed(ports: OpenPorts, made: list[Port], row: ProjectRow) -> None:
    with ports.lend(row):
        pass
    ports.drop(KEY)
    ports.drop("never:seen")
    assert made[0].closed


def test_a_disconnected_project_holds_no_connection(world: World, made: list[Port]) -> None:
    settle(world)
    world.tools.open = lambda _row: made.append(Port()) or made[-1]  # type: ignore[func-returns-value]
    client = client_of(world)
    client.get(f"/api/queue?project={KEY}")
    assert [p.closed for p in made] == [False]
    world.tools.store.projects.update(KEY, state="archived", publication=None)
    client.get(f"/api/queue?project={KEY}")
    assert [p.closed for p in made] == [True]


def test_warming_opens_what_is_connected_and_says_what_cannot_be(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    opened: list[str] = []

    def open_(row: ProjectRow) -> FakePlatform:
        opened.append(row.key)
        if row.key == "fake:3":
            raise SettingError("FAKE_URL is not set")
        return world.platform

    world.tools.open = open_
    for number in ("2", "3"):
        world.tools.store.projects.ask("fake", number)
    world.tools.store.projects.update("fake:2", state="archived")
    Backend(world.tools, lambda _model, _paths, _imgsz: []).warm()
    assert opened == [KEY, "fake:3"]
    assert "fake:3: FAKE_URL is not set" in caplog.text


# --- the resident model ----------------------------------------------------------------------------------


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, home=tmp_path)


@pytest.fixture
def resident(settings: Settings) -> Iterator[ResidentModel]:
    made_ = ResidentModel(settings, Scripted, limit_s=20)  # type: ignore[arg-type]
    yield made_
    made_.close()


def calls(settings: Settings) -> list[list[Any]]:
    path = settings.folder / "calls"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def changes(said: Sequence[Prediction | str]) -> list[Any]:
    return [s if isinstance(s, str) else float(s.model_change[0]) for s in said]


def test_answers_come_in_order_one_per_path(resident: ResidentModel) -> None:
    assert changes(resident(MODEL, ["3", "broken", "1"])) == [3.0, "broken: not an image", 1.0]
    assert resident(MODEL, []) == []


def test_requests_at_the_same_time_share_a_forward_pass_and_get_their_own_answers(
    resident: ResidentModel, settings: Settings
) -> None:
    resident(MODEL, ["0"])
    before = len(calls(settings))
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda i: changes(resident(MODEL, [str(i), str(i + 100)])), range(12)))
    assert answers == [[float(i), float(i + 100)] for i in range(12)]
    assert len(calls(settings)) - before < 12


def test_models_do_not_mix_in_a_forward_pass(resident: ResidentModel, settings: Settings) -> None:
    other = Model(Path("n.pt"), "b" * 64, ("cat",))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda m: resident(m, ["1" if m is MODEL else "2"]), [MODEL, other]))
    assert {tuple(names) for _, *names in calls(settings)} == {("1",), ("2",)}


def test_a_request_for_many_images_lets_others_in_between(resident: ResidentModel, settings: Settings) -> None:
    assert changes(resident(MODEL, [str(i) for i in range(2 * SLICE + 1)])) == list(range(2 * SLICE + 1))
    assert [len(names) for _, *names in calls(settings)] == [SLICE, SLICE, 1]


def test_after_a_killed_child_there_is_a_sentence_and_the_next_request_works(
    resident: ResidentModel, settings: Settings
) -> None:
    (said,) = resident(MODEL, ["kill"])
    assert said == "the model's process was killed, perhaps for lack of memory; ask again"
    assert changes(resident(MODEL, ["5"])) == [5.0]
    assert len({pid for pid, *_ in calls(settings)}) == 2


def test_a_model_that_raises_answers_in_a_sentence_and_stays(resident: ResidentModel, settings: Settings) -> None:
    assert resident(MODEL, ["raise"]) == ["the model failed: no such layer"]
    assert changes(resident(MODEL, ["5"])) == [5.0]
    assert len({pid for pid, *_ in calls(settings)}) == 1


def test_a_request_that_fails_does_not_fail_its_neighbours(resident: ResidentModel) -> None:
    resident(MODEL, ["0"])
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda n: changes(resident(MODEL, [n])), ["1", "raise", "2", "3"]))
    assert answers == [[1.0], ["the model failed: no such layer"], [2.0], [3.0]]


def test_a_model_that_hangs_is_stopped_and_the_next_request_works(settings: Settings) -> None:
    resident = ResidentModel(settings, Scripted, limit_s=20)  # type: ignore[arg-type]
    resident(MODEL, ["0"])
    resident._limit_s = 0.3
    assert resident(MODEL, ["hang"]) == ["the model gave no answer within 0.3 s and was stopped; ask again"]
    resident._limit_s = 20
    assert changes(resident(MODEL, ["5"])) == [5.0]
    resident.close()


def test_closing_ends_the_child_and_a_later_call_starts_another(settings: Settings) -> None:
    resident = ResidentModel(settings, Scripted)  # type: ignore[arg-type]
    resident.close()
    resident(MODEL, ["1"])
    resident.close()
    (pid, *_), = calls(settings)  # fmt: skip
    assert not psutil.pid_exists(pid)
    assert changes(resident(MODEL, ["2"])) == [2.0]
    resident.close()


PARENT = """
import sys, time
from pathlib import Path
from common.config import Settings
from common.resident import ResidentModel
from tests.unit.scripted_models import MODEL, Scripted

if __name__ == "__main__":
    ResidentModel(Settings(_env_file=None, home=Path(sys.argv[1])), Scripted)(MODEL, ["1"])
    time.sleep(600)
"""


def test_the_child_dies_with_a_parent_that_was_killed(settings: Settings, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    root = Path(__file__).resolve().parents[2]
    parent = subprocess.Popen([sys.executable, script, tmp_path], env={**os.environ, "PYTHONPATH": str(root)})
    wait(lambda: len(calls(settings)) == 1)
    ((pid, *_),) = calls(settings)
    parent.kill()
    parent.wait()
    wait(lambda: gone(pid))


def test_a_child_whose_parent_is_gone_already_ends_at_once() -> None:
    code = "import os, time; from common.lifeline import die_with; die_with(os.getppid() + 1); time.sleep(600)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 1


def gone(pid: int) -> bool:
    """Ended; in a container nobody may be there to collect it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait(done: Any, limit_s: float = 60) -> None:
    until = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.05)


def test_a_slow_request_is_logged(client: FlaskClient, caplog: pytest.LogCaptureFixture, world: World) -> None:
    caplog.set_level(logging.WARNING)
    world.tools.store.projects.all = lambda: time.sleep(1.1) or []  # type: ignore[method-assign,func-returns-value]
    client.get("/metrics")
    assert "metrics took 1." in caplog.text
