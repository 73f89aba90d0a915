"""CVAT's HTTP interface through the real SDK, against the stand-in server."""

from __future__ import annotations

import http.server
import io
import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import SecretStr

from common.config import Settings
from common.errors import (
    AccessDeniedError,
    PlatformError,
    PlatformUnreachableError,
    ProjectGoneError,
    SettingError,
)
from cvat_adapter import client, uploads
from cvat_adapter.client import Api, open_api
from cvat_adapter.refusals import FailedError
from tests.cvat_server.faults import faults_of
from tests.cvat_server.server import FakeCvat
from tests.serving import in_a_thread

SECRET = "pa$$w0rd"


@pytest.fixture
def cvat() -> Iterator[FakeCvat]:
    with FakeCvat() as server:
        server.add_user("ada", SECRET)
        yield server
        assert server.world.crashes == []


@contextmanager
def by_token(cvat: FakeCvat, *, read_only: bool = False) -> Iterator[Api]:
    api = Api(cvat.url, token=cvat.add_token(cvat.world.users[1], read_only=read_only))
    try:
        yield api
    finally:
        api.close()


@contextmanager
def by_password(url: str, username: str = "ada", password: str = SECRET) -> Iterator[Api]:
    api = Api(url, username=username, password=password)
    try:
        yield api
    finally:
        api.close()


@contextmanager
def answering(answer: bytes, *, close: bool = True) -> Iterator[str]:
    """A server that gives the same bytes to everybody."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            self.rfile.readline()
            self.wfile.write(answer)
            self.close_connection = close

    with in_a_thread(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        yield url


def logins(cvat: FakeCvat) -> int:
    return len(cvat.log.matching("POST", "/api/auth/login"))


def png(color: str = "red") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 6), color).save(out, "PNG")
    return out.getvalue()


# --- logging in ------------------------------------------------------------------------------------------


def test_nothing_is_sent_before_the_first_request(cvat: FakeCvat) -> None:
    with by_password(cvat.url):
        assert cvat.log == []


def test_a_password_is_exchanged_once_for_a_session(cvat: FakeCvat) -> None:
    with by_password(cvat.url) as api:
        for _ in range(3):
            assert api.get("api/users/self", what="say who we are")["username"] == "ada"
        api.send("POST", "api/projects", {"name": "p"}, what="make a project")
    assert logins(cvat) == 1
    assert cvat.log.matching("GET", "/api/server/about") == []


def test_a_session_that_ran_out_is_renewed_and_the_write_happens_once(cvat: FakeCvat) -> None:
    with by_password(cvat.url) as api:
        api.get("api/users/self", what="say who we are")
        cvat.world.sessions.clear()
        api.send("POST", "api/projects", {"name": "p"}, what="make a project")
    assert logins(cvat) == 2
    assert len(cvat.world.projects) == 1


def test_a_wrong_password_is_said_without_showing_it(cvat: FakeCvat) -> None:
    with by_password(cvat.url, password="not-this-one") as api, pytest.raises(AccessDeniedError) as caught:
        api.get("api/users/self", what="say who we are")
    assert "CVAT_USERNAME 'ada'" in str(caught.value)
    assert "not-this-one" not in str(caught.value)
    assert logins(cvat) == 1


def test_a_wrong_token_is_said_without_showing_it(cvat: FakeCvat) -> None:
    api = Api(cvat.url, token="wrong.token")
    with pytest.raises(AccessDeniedError, match="CVAT_ACCESS_TOKEN") as caught:
        api.get("api/users/self", what="say who we are")
    api.close()
    assert "wrong.token" not in str(caught.value)
    assert len(cvat.log) == 1


def test_a_read_only_token_is_told_from_a_missing_right(cvat: FakeCvat) -> None:
    with by_token(cvat, read_only=True) as api, pytest.raises(AccessDeniedError, match="read-only"):
        api.send("POST", "api/projects", {"name": "p"}, what="make a project")
    cvat.add_project("theirs", ["car"], owner=cvat.add_user("bob"))
    with by_token(cvat) as api, pytest.raises(AccessDeniedError, match="does not let this user rename it"):
        api.send("PATCH", "api/projects/1", {"name": "mine"}, what="rename it")


def test_an_access_token_goes_before_a_password() -> None:
    settings = Settings(
        cvat_url="http://127.0.0.1:1/",
        cvat_access_token=SecretStr("abc"),
        cvat_username="ada",
        cvat_password=SecretStr(SECRET),
    )
    api = open_api(settings)
    assert (api.base, api.has_token) == ("http://127.0.0.1:1", True)
    assert api.media_headers() == {"Authorization": "Bearer abc"}
    api.close()


def test_images_are_fetched_with_the_session_and_in_the_organization(cvat: FakeCvat) -> None:
    with by_password(cvat.url) as api:
        api.organization = "lab"
        headers = api.media_headers()
    assert sorted(headers) == ["Cookie", "X-Organization"]
    assert "sessionid=" in headers["Cookie"]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, "CVAT_URL is not set"),
        ({"cvat_url": "localhost:8080"}, "CVAT_URL is 'localhost:8080': it must start with http"),
        ({"cvat_url": "http://host:port"}, "CVAT_URL is 'http://host:port'"),
        ({"cvat_url": "http://host:8080"}, "CVAT_ACCESS_TOKEN is not set"),
        ({"cvat_url": "http://host:8080", "cvat_username": "ada"}, "CVAT_PASSWORD is not set"),
        ({"cvat_url": "http://host", "cvat_access_token": SecretStr("a\nb")}, "holds characters that no access token"),
    ],
)
def test_settings_that_cannot_work_are_said(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingError, match=sentence):
        open_api(Settings(**values, _env_file=None))


def test_a_password_in_the_address_is_refused_without_showing_it() -> None:
    with pytest.raises(SettingError) as caught:
        open_api(Settings(cvat_url=f"http://ada:{SECRET}@host:8080"))
    assert SECRET not in str(caught.value)


# --- reading ---------------------------------------------------------------------------------------------


def test_a_list_is_read_in_pages_of_100(cvat: FakeCvat) -> None:
    for number in range(205):
        cvat.add_project(f"p{number}", [], owner=cvat.world.users[1])
    with by_token(cvat) as api:
        assert len({row["id"] for row in api.pages("api/projects", what="list projects")}) == 205
    assert len(cvat.log) == 3


def test_a_list_may_be_filtered(cvat: FakeCvat) -> None:
    for name in ("a", "b"):
        cvat.add_project(name, [], owner=cvat.world.users[1])
    wanted = json.dumps({"==": [{"var": "name"}, "b"]})
    with by_token(cvat) as api:
        assert [row["name"] for row in api.pages("api/projects", {"filter": wanted}, what="list projects")] == ["b"]


def test_a_read_survives_two_answers_of_502(cvat: FakeCvat) -> None:
    faults_of(cvat.world).down(times=2)
    with by_token(cvat) as api:
        assert api.get("api/users/self", what="say who we are")["username"] == "ada"
    assert len(cvat.log) == 3


def test_a_write_is_sent_once_whatever_happens(cvat: FakeCvat) -> None:
    faults_of(cvat.world).down(503)
    with by_token(cvat) as api, pytest.raises(PlatformUnreachableError, match="failed to make a project"):
        api.send("PUT", "api/projects/1", {"name": "p"}, what="make a project")
    assert len(cvat.log) == 1


def test_a_short_retry_after_is_waited_for(cvat: FakeCvat) -> None:
    faults_of(cvat.world).rate_limit(times=1, retry_after=1)
    begun = time.monotonic()
    with by_token(cvat) as api:
        api.get("api/users/self", what="say who we are")
    assert 1 <= time.monotonic() - begun < 5


def test_a_long_retry_after_is_said_at_once(cvat: FakeCvat) -> None:
    faults_of(cvat.world).rate_limit(retry_after=59)
    begun = time.monotonic()
    with by_token(cvat) as api, pytest.raises(PlatformUnreachableError, match="try again in 59 s"):
        api.get("api/users/self", what="say who we are")
    assert time.monotonic() - begun < 2
    assert len(cvat.log) == 1


def test_a_chunk_over_which_cvat_breaks_down_costs_one_more_try_and_no_waiting(cvat: FakeCvat) -> None:
    faults_of(cvat.world).add("/data", status=500)
    begun = time.monotonic()
    with by_token(cvat) as api:
        for number in range(5):
            with pytest.raises(FailedError, match="failed to fetch a chunk"):
                api.bytes("api/tasks/1/data/", {"number": number}, what="fetch a chunk")
    assert len(cvat.log) == 10
    assert time.monotonic() - begun < 5


def test_a_chunk_that_is_being_built_is_waited_for(cvat: FakeCvat) -> None:
    project = cvat.add_project("p", ["car"], owner=cvat.world.users[1])
    cvat.add_task(project, "t", [("a.png", png())])
    faults_of(cvat.world).rate_limit("/data", times=4, retry_after=0)
    with by_token(cvat) as api:
        params = {"type": "chunk", "number": 0, "quality": "original"}
        assert api.bytes("api/tasks/1/data/", params, what="fetch a chunk").startswith(b"PK")


def test_a_server_that_hangs_is_left_within_the_limit(cvat: FakeCvat) -> None:
    faults_of(cvat.world).add("/projects", delay=2.0)
    begun = time.monotonic()
    with by_token(cvat) as api, pytest.raises(PlatformUnreachableError, match="did not answer in time"):
        api.send("POST", "api/projects", {"name": "p"}, what="make a project", limit_s=0.3)
    assert time.monotonic() - begun < 1.5


def test_a_restart_is_survived(cvat: FakeCvat) -> None:
    with by_token(cvat) as api:
        api.get("api/users/self", what="say who we are")
        cvat.restart(0.1)
        assert api.get("api/users/self", what="say who we are")["username"] == "ada"


def test_nobody_there_is_one_sentence() -> None:
    with by_password("http://127.0.0.1:1") as api, pytest.raises(PlatformUnreachableError) as caught:
        api.send("POST", "api/projects", {}, what="make a project")
    assert "http://127.0.0.1:1 cannot be reached" in str(caught.value)
    assert "Connection refused" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_an_unknown_organization_and_a_foreign_one_are_told_apart(cvat: FakeCvat) -> None:
    cvat.add_organization("others", cvat.add_user("bob"))
    with by_token(cvat) as api:
        api.organization = "nope"
        with pytest.raises(PlatformError, match="has no organization 'nope'"):
            api.get("api/tasks", what="list the tasks")
        api.organization = "others"
        with pytest.raises(AccessDeniedError, match="organization 'others'"):
            api.get("api/tasks", what="list the tasks")
        api.organization = None
        assert api.get("api/tasks", what="list the tasks")["count"] == 0


def test_a_project_that_is_gone_is_said_as_such(cvat: FakeCvat) -> None:
    with by_token(cvat) as api, pytest.raises(ProjectGoneError, match="no project 7"):
        api.get("api/projects/7", what="read project 7", gone="7")


def test_a_list_that_becomes_shorter_while_it_is_read_is_no_project_that_is_gone(cvat: FakeCvat) -> None:
    project = cvat.add_project("cars", [f"label {n}" for n in range(101)], owner=cvat.world.users[1])
    labels = cvat.world.labels_of(project)

    def shorter() -> None:
        del cvat.world.labels[labels[0].id]

    faults_of(cvat.world).after("GET", "/api/labels", 1, shorter)
    with by_token(cvat) as api, pytest.raises(PlatformError, match="Invalid page") as told:
        list(api.pages("api/labels", {"project_id": project.id}, what="read the labels", gone=str(project.id)))
    assert not isinstance(told.value, ProjectGoneError)


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"results": 7}', b"null"])
def test_json_that_is_no_list_of_cvat_is_said(body: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with answering(answer) as url, closing(Api(url, token="t")) as api, pytest.raises(PlatformError, match="like CVAT"):
        api.page("api/jobs", {}, what="list jobs")


def test_the_caller_may_read_a_refusal(cvat: FakeCvat) -> None:
    with by_token(cvat) as api:
        status, body = api.try_send("POST", "api/projects", {}, what="make a project")
    assert (status, body) == (400, {"name": ["This field is required."]})


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\n<!doctype html><title>Shop</title>", "does not answer like CVAT"),
        (b"HTTP/1.0 404 Not Found\r\n\r\n<h1>Not Found</h1>", "does not answer like CVAT"),
        (b"HTTP/1.0 301 Moved\r\nLocation: https://cvat.example/\r\n\r\n", "set CVAT_URL to https://127.0.0.1"),
        (b"HTTP/1.0 400 Bad\r\n\r\nThe plain HTTP request was sent to HTTPS port", "set CVAT_URL to https://"),
    ],
)
def test_what_is_no_cvat_is_said(answer: bytes, sentence: str) -> None:
    with answering(answer) as url:
        api = Api(url, token="abc")
        with pytest.raises(PlatformError, match=sentence):
            api.get("api/server/about", what="say its version")
        api.close()


def test_a_login_page_of_something_else_is_no_cvat() -> None:
    with (
        answering(b"HTTP/1.0 200 OK\r\n\r\n{}") as url,
        by_password(url) as api,
        pytest.raises(PlatformError, match="does not answer like CVAT"),
    ):
        api.get("api/server/about", what="say its version")


def test_https_to_a_server_without_it_is_said() -> None:
    with answering(b"HTTP/1.0 400 Bad\r\n\r\n") as url:
        api = Api(url.replace("http", "https"), token="abc")
        with pytest.raises(PlatformError, match="set CVAT_URL to http://127"):
            api.send("POST", "api/projects", {}, what="make a project")
        api.close()


# --- uploading -------------------------------------------------------------------------------------------


def new_task(cvat: FakeCvat, api: Api) -> int:
    project = cvat.add_project("p", ["car"], owner=cvat.world.users[1])
    return int(api.send("POST", "api/tasks", {"name": "t", "project_id": project.id}, what="make a task")["id"])


def images(folder: Path, *contents: bytes) -> list[tuple[str, Path]]:
    found = []
    for number, content in enumerate(contents):
        (path := folder / f"{number}").write_bytes(content)
        found.append((f"{'abc'[number]}.png", path))
    return found


def test_images_are_uploaded_in_the_order_of_the_jobs(cvat: FakeCvat, tmp_path: Path) -> None:
    with by_token(cvat) as api:
        task, files = new_task(cvat, api), images(tmp_path, png("red"), png("green"), png("blue"))
        api.upload(task, files, job_file_mapping=[["c.png", "a.png"], ["b.png"]], what="fill a task")
        meta = api.get(f"api/tasks/{task}/data/meta", what="read the frames")
    assert [frame["name"] for frame in meta["frames"]] == ["c.png", "a.png", "b.png"]
    assert [(job.start_frame, job.stop_frame) for job in cvat.jobs(cvat.world.tasks[task])] == [(0, 1), (2, 2)]


def test_an_image_that_cvat_cannot_read_is_said_in_its_words(cvat: FakeCvat, tmp_path: Path) -> None:
    with by_token(cvat) as api:
        task, files = new_task(cvat, api), images(tmp_path, png(), b"no image")
        with pytest.raises(PlatformError, match=r"could not fill a task: .*cannot identify image"):
            api.upload(task, files, job_file_mapping=[["a.png", "b.png"]], what="fill a task")


def test_taking_in_is_waited_for_only_so_long(cvat: FakeCvat, tmp_path: Path) -> None:
    cvat.world.work_takes, cvat.world.polls = 60.0, 1000
    with by_token(cvat) as api:
        task, files = new_task(cvat, api), images(tmp_path, png())
        with pytest.raises(PlatformUnreachableError, match="still busy after 0 s"):
            api.upload(task, files, job_file_mapping=[["a.png"]], what="fill a task", limit_s=0.3)


def test_uploads_are_cut_into_requests_by_bytes(tmp_path: Path) -> None:
    files = images(tmp_path, b"1234", b"12", b"123456")
    assert [[name for name, _ in group] for group in uploads.batches(files, 6)] == [["a.png", "b.png"], ["c.png"]]
    assert [len(group) for group in uploads.batches(files, 1)] == [1, 1, 1]


def test_the_project_is_a_number() -> None:
    with pytest.raises(SettingError, match="project is 'x'"):
        client.open_platform("x", Settings(), {}, lambda _: None, None)  # type: ignore[arg-type]
