"""The command line: every command's help, exit codes, one-sentence errors, and no secret anywhere."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from common import compose, config, connection, serving_checks
from common.cli import main
from common.config import Settings
from common.domain import Event
from common.errors import AccessDeniedError, PlatformError, PlatformUnreachableError, SettingError
from common.ports import TOLD, Change
from common.store import Store
from common.store.publications import Place
from common.worker import identity
from tests.fakes import FakePlatform

KEY = "fake:1"
SECRETS = {
    "LABEL_STUDIO_API_KEY": "tok3n-of-label-studio",
    "BASIC_AUTH_PASS": "b4sic-password",
    "HARDFIRST_WEBHOOK_SECRET": "we8hook-secret,olde8-secret",
}


class FakePlugin:
    """The platform 'fake'; needs FAKE_URL as a real one needs its address."""

    name = "fake"
    options = ()

    def __init__(self) -> None:
        self.platform = FakePlatform()
        self.error: Exception | None = None

    def open(self, _project: str, _settings: Settings, state: dict[str, Any], save: Any, memory: Any) -> FakePlatform:
        if self.error:
            raise self.error
        self.platform.state = state
        return self.platform


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> FakePlugin:
    made = FakePlugin()
    for module in (compose, serving_checks):
        monkeypatch.setattr(module, "plugins", lambda: {"fake": made})
    return made


def run(*arguments: str, code: int = 0) -> Result:
    found = CliRunner().invoke(main, list(arguments))
    assert found.exit_code == code, found.output
    assert "Traceback" not in found.output
    return found


def sentence(*arguments: str, code: int) -> str:
    """The one line a failing command leaves on stderr."""
    found = run(*arguments, code=code)
    assert found.stdout == ""
    (line,) = found.stderr.splitlines()
    assert line.startswith("Error: ")
    return line.removeprefix("Error: ")


# --- help ------------------------------------------------------------------------------------------------


def test_every_command_explains_itself_with_an_example_that_parses() -> None:
    for name, command in main.commands.items():
        text = run(name, "--help").output
        if command.hidden and name != "worker":
            continue
        example = re.search(rf"Example:\s+hardfirst ({name}[^\n]*)", text)
        assert example, name
        command.make_context(name, example[1].split()[1:], resilient_parsing=True)


def test_the_list_of_commands_is_what_people_need() -> None:
    shown = {n for n, c in main.commands.items() if not c.hidden}
    people = {"serve", "connect", "disconnect", "forget", "status", "train", "set", "settings", "watch", "doctor"}
    rounds = {"rounds", "curve", "cancel", "rollback", "promote", "export", "review", "kpi"}
    assert shown == people | rounds | {"rank", "select", "backtest", "completion"}


@pytest.mark.parametrize("arguments", [["nonsense"], ["connect"], ["status", "--wrong"], ["train"]])
def test_a_mistyped_command_is_code_two(arguments: list[str]) -> None:
    assert "Error: " in run(*arguments, code=2).stderr


# --- errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("HARDFIRST_PORT", "abc", "HARDFIRST_PORT is 'abc'"),
        ("HARDFIRST_PORT", "70000", "HARDFIRST_PORT is '70000'"),
        ("HARDFIRST_IMGSZ", "100", "HARDFIRST_IMGSZ is '100'"),
        ("HARDFIRST_MIN_NEW_LABELS", "-1", "HARDFIRST_MIN_NEW_LABELS is '-1'"),
        ("MODEL_SCORE_THRESHOLD", "2", "MODEL_SCORE_THRESHOLD is '2'"),
        ("HARDFIRST_STRATEGY", "best", "HARDFIRST_STRATEGY is 'best'; there are ["),
        ("HARDFIRST_ACQUISITION", "x", "HARDFIRST_ACQUISITION is 'x'; there are ["),
        (
            "HARDFIRST_ACQUISITION",
            "consistency",
            "HARDFIRST_ACQUISITION is 'consistency', which compares with the mirr",
        ),
        ("HARDFIRST_COMMITTEE", "flop", "HARDFIRST_COMMITTEE names 'flop'; there are ['flip', 'half', 'heads', 'check"),
        (
            "HARDFIRST_STRATEGY_OPTIONS",
            "x=1",
            "HARDFIRST_STRATEGY_OPTIONS names 'x', but strategy 'hybrid' has the opt",
        ),
        ("HARDFIRST_HOST", "0.0.0.0", "HARDFIRST_HOST is '0.0.0.0' but nothing protects the service"),  # noqa: S104
        ("BASIC_AUTH_USER", "ann", "BASIC_AUTH_PASS is not set but its other half is"),
        ("BASIC_AUTH_PASS", "x", "BASIC_AUTH_USER is not set but its other half is"),
    ],
)
@pytest.mark.usefixtures("clean_home", "plugin")
def test_serving_with_a_broken_setting_fails_at_once_in_one_sentence(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert sentence("serve", code=2).startswith(said)


@pytest.mark.usefixtures("clean_home", "plugin")
def test_a_host_that_is_not_this_machines_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"HARDFIRST_HOST": "192.0.2.1", "BASIC_AUTH_USER": "a", "BASIC_AUTH_PASS": "b"}.items():
        monkeypatch.setenv(name, value)
    assert sentence("serve", code=2).startswith("HARDFIRST_HOST is '192.0.2.1' and HARDFIRST_PORT 9090, where nothing")


@pytest.mark.usefixtures("clean_home", "plugin")
def test_a_port_that_is_taken_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("HARDFIRST_PORT", str(port))
        assert sentence("serve", code=2).startswith(f"HARDFIRST_PORT is {port}, where something listens already")


@pytest.mark.usefixtures("clean_home")
def test_serving_without_any_platforms_settings_is_said(plugin: FakePlugin, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin.error = SettingError("FAKE_URL is not set: give the platform's address")
    monkeypatch.setenv("HARDFIRST_PORT", str(free_port()))
    assert sentence("serve", code=2) == "FAKE_URL is not set: give the platform's address"


@pytest.mark.usefixtures("clean_home")
def test_label_studios_address_and_key_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = ("connect", "label-studio", "--project", "1")
    assert sentence(*connect, code=2).startswith("LABEL_STUDIO_URL is not set")
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://127.0.0.1:9")
    assert sentence(*connect, code=2).startswith("LABEL_STUDIO_API_KEY is not set")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "k" * 40)
    assert "127.0.0.1:9 cannot be reached" in sentence(*connect, code=1)
    assert sentence("connect", "label-studio", "--project", "x", code=2).startswith("project is 'x'")


@pytest.mark.usefixtures("clean_home", "plugin")
def test_names_nobody_knows_are_code_two_and_list_the_right_ones() -> None:
    assert sentence("connect", "labelbox", "--project", "1", code=2) == "no platform 'labelbox'; there are ['fake']"
    none = "no project 'fake:9'; none is connected yet: run `hardfirst connect PLATFORM --project ID`"
    for command in (["status"], ["train"], ["forget", "--yes"]):
        assert sentence(*command, "--project", "fake:9", code=2) == none
    assert sentence("disconnect", "fake", "--project", "9", code=2) == none


@pytest.mark.parametrize("home_is", ["file/home", "file"])
@pytest.mark.usefixtures("plugin")
def test_a_home_that_cannot_be_written_is_said(clean_home: Path, monkeypatch: pytest.MonkeyPatch, home_is: str) -> None:
    (clean_home.parent / "file").write_text("")
    monkeypatch.setenv("HARDFIRST_HOME", home_is)
    monkeypatch.setenv("HARDFIRST_PORT", str(free_port()))
    for command in (["serve"], ["status"], ["connect", "fake", "--project", "1"]):
        said = sentence(*command, code=2)
        assert said.startswith(f"HARDFIRST_HOME is {home_is!r}, which cannot be written (")


@pytest.mark.parametrize(
    "url",
    ["nonsense", "sqlite:////proc/none/x.db", "oracle://u:s3sam@h/x", "postgresql+psycopg://u:s3sam@127.0.0.1:9/x"],
)
@pytest.mark.usefixtures("clean_home")
def test_a_database_that_cannot_be_opened_is_said_without_its_password(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARDFIRST_DATABASE_URL", url)
    said = sentence("status", code=1)
    assert said.startswith("HARDFIRST_DATABASE_URL cannot be opened: ")
    assert "s3sam" not in said


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


# --- connect, disconnect, forget, train ------------------------------------------------------------------


def test_a_dry_run_prints_every_change_and_makes_none(home_store: Store, plugin: FakePlugin) -> None:
    found = run("connect", "fake", "--project", "1", "--dry-run")
    assert found.stdout.splitlines() == ["would change sampling: sequential -> by priority"]
    assert home_store.projects.all() == []
    assert plugin.platform.state == {}


def test_a_dry_run_of_a_disconnected_project_does_not_wake_the_worker(home_store: Store, plugin: FakePlugin) -> None:
    run("connect", "fake", "--project", "1")
    run("disconnect", "fake", "--project", "1")
    run("connect", "fake", "--project", "1", "--dry-run")
    assert [p.state for p in home_store.projects.all()] == ["archived"]


def test_connecting_stores_the_project_and_says_each_change_once(home_store: Store, plugin: FakePlugin) -> None:
    first = run("connect", "fake", "--project", "1")
    assert first.stdout.splitlines() == ["changed sampling: sequential -> by priority"]
    (row,) = home_store.projects.all()
    assert (row.key, row.state, row.title, row.platform_state) == (KEY, "active", "Pets", {"connected": True})
    again = run("connect", "fake", "--project", "1")
    assert again.stdout.splitlines() == ["nothing to change: the project is connected"]


@pytest.mark.usefixtures("home_store")
def test_changes_come_as_json_for_scripts(plugin: FakePlugin) -> None:
    plugin.platform.tasks = {"1": "https://images.example.org/a.jpg", "2": "https://images.example.org/b.jpg"}
    found = json.loads(run("connect", "fake", "--project", "1", "--dry-run", "--json").stdout)
    assert found["dry_run"] is True
    assert found["changes"] == [{"what": "sampling", "before": "sequential", "after": "by priority"}]
    assert "HARDFIRST_ALLOW_HOSTS=images.example.org" in found["warnings"][0]


@pytest.mark.usefixtures("home_store")
def test_long_lines_are_not_wrapped(plugin: FakePlugin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    change = Change("webhook", "none", "x" * 300)
    plugin.platform._connected = lambda _dry_run: [change]  # type: ignore[method-assign]
    assert run("connect", "fake", "--project", "1").stdout.splitlines() == [f"changed {change}"]


def test_a_connection_that_was_refused_is_not_tried_again_behind_the_persons_back(
    home_store: Store, plugin: FakePlugin
) -> None:
    def refuse(**_: Any) -> list[Change]:
        raise PlatformError("project 1 already has an ML backend: give --replace")

    plugin.platform.connect = refuse  # type: ignore[method-assign]
    assert sentence("connect", "fake", "--project", "1", code=1).endswith("give --replace")
    assert home_store.projects.all() == []


def test_a_connection_that_broke_half_way_keeps_what_is_to_be_undone(home_store: Store, plugin: FakePlugin) -> None:
    def break_(**_: Any) -> list[Change]:
        home_store.projects.update(KEY, platform_state={"before": {"sampling": "sequential"}})
        raise PlatformUnreachableError("no answer")

    plugin.platform.connect = break_  # type: ignore[method-assign]
    sentence("connect", "fake", "--project", "1", code=1)
    (row,) = home_store.projects.all()
    assert (row.state, row.platform_state) == ("archived", {"before": {"sampling": "sequential"}})


def test_a_project_that_works_survives_a_failing_second_connect(home_store: Store, plugin: FakePlugin) -> None:
    run("connect", "fake", "--project", "1")
    plugin.error = AccessDeniedError("the token has expired")
    sentence("connect", "fake", "--project", "1", code=1)
    assert [p.state for p in home_store.projects.all()] == ["active"]


def test_disconnecting_puts_back_removes_our_rows_and_is_harmless_twice(home_store: Store, plugin: FakePlugin) -> None:
    run("connect", "fake", "--project", "1")
    version = published(home_store, plugin)
    home_store.projects.update(KEY, way_back={"to": version, "asked": 1.0}, training_asked=1.0)
    found = run("disconnect", "fake", "--project", "1")
    assert found.stdout.splitlines() == ["changed sampling: by priority -> sequential"]
    assert version not in plugin.platform.rows
    assert "theirs" in plugin.platform.rows
    (row,) = home_store.projects.all()
    assert (row.state, row.publication, row.way_back, row.training_asked) == ("archived", None, {}, None)


def test_disconnecting_waits_until_the_worker_has_ended_its_step(home_store: Store, plugin: FakePlugin) -> None:
    run("connect", "fake", "--project", "1")
    worker, left = identity(os.getppid()), []
    home_store.projects.lease(KEY, worker, 600)

    def leave() -> None:
        left.append([*plugin.platform.calls])
        home_store.projects.release(worker, KEY)

    threading.Timer(0.3, leave).start()
    run("disconnect", "fake", "--project", "1")
    (before,) = left
    assert plugin.platform.calls[len(before) :] == ["disconnect"]
    assert home_store.projects.lease(KEY, worker, 600) is not None


def test_disconnecting_does_not_wait_for_a_machine_that_is_gone(
    home_store: Store, plugin: FakePlugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "AWAITED_S", 0.2)
    run("connect", "fake", "--project", "1")
    home_store.projects.lease(KEY, "elsewhere:1:1", 600)
    assert "sequential" in run("disconnect", "fake", "--project", "1").stdout


def test_predictions_stay_where_they_are_wanted(home_store: Store, plugin: FakePlugin) -> None:
    run("connect", "fake", "--project", "1")
    version = published(home_store, plugin)
    run("disconnect", "fake", "--project", "1", "--keep-predictions")
    assert version in plugin.platform.rows


def published(store: Store, plugin: FakePlugin) -> str:
    """One publication of ours, one row of somebody else's."""
    row = store.publications.create(
        KEY,
        name="hardfirst",
        round_number=0,
        checkpoint=None,
        sha8="0" * 8,
        places=[Place(1, "1", 0.0, 1.0, {})],
        seconds={},
    )
    store.publications.activate(row)
    plugin.platform.rows = {row.version: {"1": None}, "theirs": {"1": None}}  # type: ignore[dict-item]
    return row.version


def test_a_project_whose_platform_cannot_be_opened_stays_connected(home_store: Store, plugin: FakePlugin) -> None:
    run("connect", "fake", "--project", "1")
    plugin.error = SettingError("FAKE_URL is not set")
    sentence("disconnect", "fake", "--project", "1", code=2)
    assert [p.state for p in home_store.projects.all()] == ["active"]


@pytest.mark.parametrize("state", ["active", "stopped"])
def test_a_connected_project_is_not_forgotten(home_store: Store, plugin: FakePlugin, state: str) -> None:
    run("connect", "fake", "--project", "1")
    home_store.projects.update(KEY, state=state)
    assert sentence("forget", "--yes", "--project", KEY, code=1) == (
        "fake:1 is still connected; run `hardfirst disconnect fake --project 1` first"
    )


def test_forgetting_asks_first_and_deletes_rows_rounds_and_weights(
    home_store: Store, plugin: FakePlugin, clean_home: Path
) -> None:
    run("connect", "fake", "--project", "1")
    run("disconnect", "fake", "--project", "1")
    folder = clean_home / "rounds" / "fake-1" / "1"
    folder.mkdir(parents=True)
    home_store.inbox.add(Event("fake", "1", "labels"))
    assert CliRunner().invoke(main, ["forget", "--project", KEY], input="n\n").exit_code == 1
    assert [p.key for p in home_store.projects.all()] == [KEY]
    assert run("forget", "--yes", "--project", KEY).stdout == "forgot fake:1\n"
    assert home_store.projects.all() == []
    assert not folder.exists()
    assert home_store.inbox.projects() == set()


def test_a_round_is_asked_for_only_where_it_can_run(home_store: Store, plugin: FakePlugin) -> None:
    run("connect", "fake", "--project", "1")
    assert "hardfirst status --project fake:1" in run("train", "--project", KEY).stdout
    row = home_store.projects.get(KEY)
    assert row is not None
    assert row.training_asked is not None
    run("disconnect", "fake", "--project", "1")
    assert sentence("train", "--project", KEY, code=1).startswith("fake:1 is not connected: run `hardfirst connect")


# --- status, settings ------------------------------------------------------------------------------------


def test_status_says_where_each_project_stands_one_line_each(home_store: Store, plugin: FakePlugin) -> None:
    assert run("status").stdout.startswith("no project is connected; run `hardfirst connect")
    run("connect", "fake", "--project", "1")
    home_store.journal.write(KEY, "a long line " * 30)
    lines = run("status").stdout.splitlines()
    assert lines[0] == "fake:1  Pets"
    assert [line.split()[0] for line in lines[1:8]] == [
        *("state", "images", "labels", "training", "queue", "model", "classes")
    ]
    assert ("a long line " * 30).strip() in "\n".join(lines)


def test_status_shows_what_the_platform_has_to_tell(home_store: Store, plugin: FakePlugin) -> None:
    run("connect", "fake", "--project", "1")
    home_store.memories.of("fake:1").put(TOLD, {"jobs": "1 done, 2 free"})
    assert "  jobs      1 done, 2 free" in run("status").stdout.splitlines()


def test_status_as_json_has_the_same_and_picks_one_project(home_store: Store, plugin: FakePlugin) -> None:
    for number in ("1", "2"):
        run("connect", "fake", "--project", number)
    both = json.loads(run("status", "--json").stdout)
    assert [p["key"] for p in both] == [KEY, "fake:2"]
    (one,) = json.loads(run("status", "--json", "--project", "fake:2").stdout)
    assert one["key"] == "fake:2"
    assert set(one) == {
        *("key", "title", "state", "images", "labels", "training", "verdict", "advice", "queue", "model", "classes"),
        *("trace", "settings", "platform", "warnings", "journal"),
    }


def test_a_project_gets_settings_of_its_own_and_loses_them_again(home_store: Store, plugin: FakePlugin) -> None:
    run("connect", "fake", "--project", "1")
    home_store.projects.update(KEY, order_asked=None)
    shown = run("set", "--project", KEY, "strategy=uniform", "imgsz=320", "committee=flip,heads").stdout.splitlines()
    assert [line.split()[:2] for line in shown if "its own" in line] == [
        *(["strategy", "uniform"], ["committee", "flip,heads"], ["imgsz", "320"])
    ]
    row = home_store.projects.get(KEY)
    assert row is not None
    assert row.settings == {"strategy": "uniform", "committee": ["flip", "heads"], "imgsz": 320}
    assert row.order_asked is not None
    assert "settings  strategy=uniform committee=flip,heads imgsz=320" in run("status").stdout
    run("set", "--project", KEY, "--unset", "strategy", "--unset", "committee", "--unset", "imgsz")
    again = home_store.projects.get(KEY)
    assert again is not None
    assert again.settings == {}
    assert "settings of this project" not in run("status").stdout.splitlines()[8]


def test_settings_that_do_not_change_the_order_ask_for_none(home_store: Store, plugin: FakePlugin) -> None:
    run("connect", "fake", "--project", "1")
    home_store.projects.update(KEY, order_asked=None)
    run("set", "--project", KEY, "pause_s=5", "updates=60")
    row = home_store.projects.get(KEY)
    assert row is not None
    assert (row.settings, row.order_asked) == ({"pause_s": 5.0, "updates": 60}, None)
    listed = json.loads(run("set", "--project", KEY, "--json").stdout)
    assert listed["project"] == KEY
    by_name = {s["name"]: s for s in listed["settings"]}
    assert by_name["pause_s"] == {"name": "pause_s", "value": 5.0, "default": 60.0, "own": True}
    assert by_name["option.spread"]["own"] is False


def test_a_wrong_setting_of_a_project_changes_nothing_and_lists_the_right_ones(
    home_store: Store, plugin: FakePlugin
) -> None:
    run("connect", "fake", "--project", "1")
    said = sentence("set", "--project", KEY, "imgsz=320", "strategy=best", code=2)
    assert said.startswith("strategy is 'best'; there are ['additive', 'core_set', 'hybrid'")
    assert sentence("set", "--project", KEY, "colour=red", code=2).startswith(
        "a project has no setting 'colour'; there"
    )
    assert sentence("set", "--project", "fake:9", "imgsz=320", code=2) == "no project 'fake:9'; there are ['fake:1']"
    row = home_store.projects.get(KEY)
    assert row is not None
    assert row.settings == {}


@pytest.mark.usefixtures("clean_home")
def test_settings_are_listed_with_their_meaning_and_never_with_their_values(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    for found in (run("settings").stdout, run("settings", "--markdown").stdout):
        for field in Settings.model_fields:
            assert config.variable(field) in found
        assert not any(s in found for value in SECRETS.values() for s in value.split(","))


# --- a real process --------------------------------------------------------------------------------------


def test_the_service_answers_stops_on_ctrl_c_and_tells_no_secret(clean_home: Path, tmp_path: Path) -> None:
    port = free_port()
    plain = {
        "LABEL_STUDIO_URL": "http://127.0.0.1:9",
        "BASIC_AUTH_USER": "ann",
        "HARDFIRST_HOST": "127.0.0.1",
        "HARDFIRST_PORT": str(port),
        "HARDFIRST_HOME": str(clean_home),
        "HARDFIRST_LOG_JSON": "1",
    }
    log = tmp_path / "log"
    environment = {**os.environ, **plain, **SECRETS, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    with log.open("wb") as out:
        service = subprocess.Popen(
            [sys.executable, "-m", "common.cli", "serve"], env=environment, stdout=out, stderr=out, cwd=tmp_path
        )
    try:
        answer = first_answer(f"http://127.0.0.1:{port}/health", service, log)
    finally:
        service.send_signal(signal.SIGINT)
        assert service.wait(60) == 0
    assert answer == 401
    text = log.read_text()
    assert f"hardfirst answers on http://127.0.0.1:{port}" in text
    assert "Traceback" not in text
    assert not any(s in text for value in SECRETS.values() for s in value.split(","))
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)


def first_answer(url: str, service: subprocess.Popen[bytes], log: Path) -> int:
    until = time.monotonic() + 90
    while time.monotonic() < until:
        assert service.poll() is None, log.read_text()
        try:
            return int(urllib.request.urlopen(url, timeout=5).status)  # noqa: S310
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        except OSError:
            time.sleep(0.2)
    raise AssertionError(log.read_text())


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        ("common.cli", {"torch", "ultralytics", "label_studio_sdk", "sqlalchemy", "flask"}),
        ("common.status, common.opening", {"torch", "ultralytics", "scipy", "sklearn", "matplotlib"}),
    ],
    ids=["the command line", "a command over the store"],
)
def test_what_is_imported_is_quick_and_does_nothing(modules: str, heavy: set[str]) -> None:
    code = f"import sys, {modules}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert isinstance(main, click.Group)
