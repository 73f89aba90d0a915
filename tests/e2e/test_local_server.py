"""Label Studio of our own, and people who label in it with a real browser."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from annotator import BrowserAnnotator
from PIL import Image, ImageDraw

from common.errors import AccessDeniedError, PlatformUnreachableError, SettingError
from ls_backend.local_process import free_port
from ls_backend.local_server import LocalLabelStudio

pytestmark = pytest.mark.e2e

CONFIG = """<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">
<Label value="Part"/><Label value="Scratch"/></RectangleLabels></View>"""
SCORES = (0.5, 0.1, 0.9, 0.3, 0.7)
HARDEST_FIRST = (1, 3, 0, 4, 2)
BOX = {"x": 18.75, "y": 20.0, "width": 31.25, "height": 37.5, "rotation": 0, "rectanglelabels": ["Part"]}

Arrive = Callable[[], BrowserAnnotator]


def draw_images(folder: Path) -> list[str]:
    """Five pictures of one part each, exactly where BOX is."""
    folder.mkdir()
    for number in range(5):
        image = Image.new("RGB", (320, 240), (40 * number, 90, 120))
        ImageDraw.Draw(image).rectangle((60, 48, 160, 138), fill=(250, 200, 0))
        image.save(folder / f"{number}.png")
    return sorted(path.name for path in folder.iterdir())


def prediction(task: int, score: float) -> dict[str, object]:
    region = {"id": f"r{task}", "from_name": "label", "to_name": "image", "type": "rectanglelabels", "score": 0.8}
    size = {"original_width": 320, "original_height": 240}
    return {"task": task, "model_version": "m@0", "score": score, "result": [{**region, **size, "value": BOX}]}


@pytest.fixture
def project(label_studio: LocalLabelStudio, tmp_path: Path) -> tuple[int, list[int]]:
    """A project of five tasks with known scores, hardest first; its id and its tasks in that order."""
    names = draw_images(tmp_path / "images")
    with label_studio.client() as http:
        made = http.post("/api/projects", json={"title": "Five parts", "label_config": CONFIG})
        number = int(made.raise_for_status().json()["id"])
        before = label_studio.serve_folder(number, tmp_path / "images")
        tasks = [{"image": before + name} for name in names]
        answer = http.post(f"/api/projects/{number}/import", params={"return_task_ids": 1}, json=tasks)
        ids = [int(task) for task in answer.raise_for_status().json()["task_ids"]]
        rows = [prediction(task, score) for task, score in zip(ids, SCORES, strict=True)]
        answer = http.post(f"/api/projects/{number}/import/predictions", json=rows)
        assert answer.json() == {"created": 5}
        order = {"sampling": "Uncertainty sampling", "model_version": "m@0"}
        http.patch(f"/api/projects/{number}", json=order).raise_for_status()
    return number, [ids[place] for place in HARDEST_FIRST]


def stored(label_studio: LocalLabelStudio, task: int) -> list[dict[str, Any]]:
    with label_studio.client() as http:
        found: list[dict[str, Any]] = http.get(f"/api/tasks/{task}").raise_for_status().json()["annotations"]
        return found


def test_label_all_tasks_serves_the_lowest_score_first_until_nothing_is_left(
    project: tuple[int, list[int]], annotator: Arrive
) -> None:
    number, order = project
    person = annotator()
    served = [person.label_all(number)]
    while served[-1] is not None:
        assert person.task == served[-1]
        served.append(person.submit())
    assert served == [*order, None]
    assert person.task is None


def test_boxes_are_drawn_before_anybody_touched_the_image(project: tuple[int, list[int]], annotator: Arrive) -> None:
    person = annotator()
    person.label_all(project[0])
    (box,) = person.boxes()
    assert (box.label, box.x, box.y, box.width, box.height) == ("Part", 18.75, 20.0, 31.25, 37.5)
    assert person.listed() == ["Part"]


def test_a_pre_annotation_submitted_as_it_is_says_where_it_came_from(
    project: tuple[int, list[int]], annotator: Arrive, label_studio: LocalLabelStudio
) -> None:
    person = annotator()
    task = person.label_all(project[0])
    assert task is not None
    person.submit()
    (annotation,) = stored(label_studio, task)
    (region,) = annotation["result"]
    assert region["value"] == BOX
    assert region["origin"] == "prediction"
    assert annotation["parent_prediction"] is not None


def test_two_people_never_get_the_same_task(project: tuple[int, list[int]], annotator: Arrive) -> None:
    number, order = project
    first, second = annotator(), annotator()
    served = [first.label_all(number), second.label_all(number), first.submit(), second.submit()]
    assert served == order[:4]


def test_an_open_task_stays_with_the_person_after_the_page_is_opened_again(
    project: tuple[int, list[int]], annotator: Arrive
) -> None:
    person = annotator()
    assert person.label_all(project[0]) == person.label_all(project[0])
    assert person.queue == "Task lock"


def test_a_skipped_task_is_stored_as_skipped_and_the_next_one_comes(
    project: tuple[int, list[int]], annotator: Arrive, label_studio: LocalLabelStudio
) -> None:
    number, order = project
    person = annotator()
    person.label_all(number)
    assert person.skip() == order[1]
    (annotation,) = stored(label_studio, order[0])
    assert annotation["was_cancelled"] is True


def test_boxes_drawn_and_deleted_by_mouse_are_what_is_stored(
    project: tuple[int, list[int]], annotator: Arrive, label_studio: LocalLabelStudio
) -> None:
    number, order = project
    person = annotator()
    person.label_all(number)
    person.draw("Scratch", 60, 10, 20, 30)
    person.draw("Part", 22, 25, 10, 10)
    person.delete(person.listed().index("Part"))
    person.submit()
    (annotation,) = stored(label_studio, order[0])
    values = [region["value"] for region in annotation["result"]]
    assert sorted(value["rectanglelabels"][0] for value in values) == ["Part", "Scratch"]
    (scratch,) = [value for value in values if value["rectanglelabels"] == ["Scratch"]]
    assert [scratch[side] for side in ("x", "y", "width", "height")] == pytest.approx([60, 10, 20, 30], abs=0.5)
    (part,) = [value for value in values if value["rectanglelabels"] == ["Part"]]
    assert [part[side] for side in ("x", "y", "width", "height")] == pytest.approx([22, 25, 10, 10], abs=0.5)


def test_a_second_user_has_a_token_of_their_own(label_studio: LocalLabelStudio) -> None:
    token = label_studio.add_user("second@example.com", "a-long-enough-word")
    with label_studio.client(token) as http:
        assert http.get("/api/current-user/whoami").json()["email"] == "second@example.com"
    assert label_studio.add_user("second@example.com", "a-long-enough-word") == token
    with pytest.raises(AccessDeniedError, match=r"second@example\.com"):
        label_studio.add_user("second@example.com", "another-long-word")


def test_each_data_folder_has_its_own_login_and_key_and_resumes(
    label_studio: LocalLabelStudio, label_studio_environment: Path, tmp_path: Path
) -> None:
    def server(**more: str) -> LocalLabelStudio:
        return LocalLabelStudio(tmp_path / "data", environment=label_studio_environment, **more)  # type: ignore[arg-type]

    with server(username="owner@example.com", password="first-password") as first:
        token, pid = first.token, first.pid
        assert token != label_studio.token
        with first.client() as http:
            assert http.get("/api/current-user/whoami").json()["email"] == "owner@example.com"
            http.post("/api/projects", json={"title": "Kept", "label_config": CONFIG}).raise_for_status()
        with pytest.raises(SettingError, match="already runs over"):
            server().start()
    assert pid is not None
    assert not psutil.pid_exists(pid)
    keys = {(folder / ".env").read_text() for folder in (tmp_path / "data", label_studio.data)}
    assert len(keys) == 2
    with pytest.raises(SettingError, match="made with another password"):
        server(password="second-password").start()
    with server() as again, again.client() as http:
        assert again.token == token
        assert [known["title"] for known in http.get("/api/projects").json()["results"]] == ["Kept"]


STARTER = """
import sys, time
from pathlib import Path
from typing import Any
from ls_backend.local_server import LocalLabelStudio
server = LocalLabelStudio(Path(sys.argv[1]), environment=Path(sys.argv[2])).start()
sys.stdout.write(f"{server.pid}\\n")
sys.stdout.flush()
time.sleep(600)
"""


def test_label_studio_dies_with_a_process_that_was_killed(label_studio_environment: Path, tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", STARTER, str(tmp_path / "data"), str(label_studio_environment)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        server = psutil.Process(int(parent.stdout.readline()))
        os.kill(parent.pid, signal.SIGKILL)
    gone, alive = psutil.wait_procs([server], timeout=10)
    assert (len(gone), alive) == (1, [])


def test_a_busy_port_is_refused_before_label_studio_would_move_away(
    label_studio: LocalLabelStudio, label_studio_environment: Path, tmp_path: Path
) -> None:
    port = httpx.URL(label_studio.url).port
    server = LocalLabelStudio(tmp_path, environment=label_studio_environment, port=port)
    with pytest.raises(SettingError, match=f"port {port} is in use"):
        server.start()
    assert free_port(port or 0) != port


def test_a_folder_that_is_not_below_the_document_root_is_refused(
    label_studio_environment: Path, tmp_path: Path
) -> None:
    server = LocalLabelStudio(tmp_path, environment=label_studio_environment, document_root=tmp_path / "root")
    with pytest.raises(SettingError, match="not below the document root"):
        server.serve_folder(1, tmp_path)


def fake_environment(folder: Path, program: str) -> Path:
    """A virtual environment whose Label Studio is a few lines of shell."""
    (folder / "bin").mkdir(parents=True)
    (folder / "lib/python3.11/site-packages/label_studio-9.9.9.dist-info").mkdir(parents=True)
    python = folder / "bin/python"
    python.write_text(f"#!/bin/sh\n{program}\n")
    python.chmod(0o755)
    return folder


def made_before(folder: Path) -> Path:
    """A data folder that only needs to be started."""
    folder.mkdir()
    (folder / "label_studio.sqlite3").touch()
    login = {"username": "a@example.com", "password": "secret-word", "token": "f" * 40, "ready": True}
    (folder / "login.json").write_text(json.dumps(login))
    return folder


def test_a_server_that_dies_is_reported_with_the_end_of_its_log_and_without_secrets(tmp_path: Path) -> None:
    environment = fake_environment(tmp_path / "venv", "echo disk full; env | grep PASSWORD; exit 3")
    server = LocalLabelStudio(made_before(tmp_path / "data"), environment=environment)
    with pytest.raises(PlatformUnreachableError, match=r"(?s)exit status 3.*disk full") as error:
        server.start()
    assert "LABEL_STUDIO_PASSWORD=***" in str(error.value)
    assert server.pid is None


def test_a_server_that_never_answers_is_stopped_at_the_limit(tmp_path: Path) -> None:
    environment = fake_environment(tmp_path / "venv", "echo still busy; exec sleep 60")
    server = LocalLabelStudio(made_before(tmp_path / "data"), environment=environment, limit_s=1)
    began = time.monotonic()
    with pytest.raises(PlatformUnreachableError, match=r"(?s)did not answer within 1 s.*still busy"):
        server.start()
    assert time.monotonic() - began < 10
    assert server.pid is None


def test_a_port_taken_at_the_last_moment_is_an_error_and_not_another_address(tmp_path: Path) -> None:
    environment = fake_environment(tmp_path / "venv", "echo '* Trying to start at 8081'; exec sleep 60")
    server = LocalLabelStudio(made_before(tmp_path / "data"), environment=environment)
    with pytest.raises(SettingError, match="was taken while Label Studio started"):
        server.start()
    assert server.pid is None


def test_migrations_that_fail_leave_no_half_made_template(tmp_path: Path) -> None:
    environment = fake_environment(tmp_path / "venv", "echo no such table; exit 1")
    server = LocalLabelStudio(tmp_path / "data", environment=environment, cache=tmp_path / "cache")
    with pytest.raises(PlatformUnreachableError, match=r"(?s)could not make its database.*no such table"):
        server.start()
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_environment_without_label_studio_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"make \.venv-label-studio"):
        LocalLabelStudio(tmp_path / "data", environment=tmp_path).start()
    assert not (tmp_path / "data").exists()


def test_a_foreign_data_folder_needs_its_login(tmp_path: Path) -> None:
    environment = fake_environment(tmp_path / "venv", "exit 1")
    (tmp_path / "label_studio.sqlite3").touch()
    with pytest.raises(SettingError, match="not started from here"):
        LocalLabelStudio(tmp_path, environment=environment).start()
