"""Status and settings on the command line, as text and as JSON, without a secret."""

from __future__ import annotations

import json

import pytest

from common import config
from common.config import Settings
from common.ports import TOLD
from common.store import Store
from tests.unit.cli_runs import KEY, SECRETS, FakePlugin, plugin_fixture, run, sentence  # noqa: F401 - a fixture


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
