"""What is wrong with settings, addresses, names and files is said in one sentence, with its exit code."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from common.errors import SettingError
from tests.unit.cli_runs import FakePlugin, free_port, plugin_fixture, sentence  # noqa: F401 - a fixture


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
