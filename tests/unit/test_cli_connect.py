"""Connecting, disconnecting and forgetting a project, and asking for a round, on the command line."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from common import connection
from common.cli import main
from common.domain import Event
from common.errors import AccessDeniedError, PlatformError, PlatformUnreachableError, SettingError
from common.ports import Change
from common.store import Store
from common.store.publications import Place
from common.worker import identity
from tests.unit.cli_runs import KEY, FakePlugin, plugin_fixture, run, sentence  # noqa: F401 - a fixture


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
