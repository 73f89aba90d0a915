"""`hardfirst connect PLATFORM`: the options that only one platform has, and what stays of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from common import compose, serving_checks
from common.cli import main
from common.config import Settings
from common.errors import ModelError, PlatformError
from common.ports import Change, ConnectOption, Memory
from common.store import Store
from cvat_adapter import PLATFORM as CVAT
from tests.fakes import FakePlatform

KEY = "jobs:4"


class JobsPlatform(FakePlatform):
    """Says each option that is new to it; ``disconnect`` forgets all but the options, as a platform may."""

    save: Any = None

    def connect(self, *, dry_run: bool, replace: bool, listed: bool = False) -> list[Change]:
        changes = super().connect(dry_run=dry_run, replace=replace, listed=listed)
        if not dry_run:
            self.save(self.state)
        said = self.state.get("options", {})
        return [*changes, *(Change(f"option {n}", "none", str(v)) for n, v in said.items())]

    def disconnect(self) -> list[Change]:
        kept = self.state["options"]
        changes = super().disconnect()
        self.state["options"] = kept
        return changes


class JobsPlugin:
    """A platform with options of its own."""

    name = "jobs"
    options = (
        ConnectOption("org", "Short name of the organisation.", metavar="SLUG"),
        ConnectOption("queue", "How annotators get their order.", metavar="inbox|task"),
        ConnectOption("create-labels", "Create a label for each class of the model.", "classes"),
    )

    def __init__(self) -> None:
        self.platform = JobsPlatform()

    def open(
        self, _project: str, _settings: Settings, state: dict[str, Any], save: Any, _memory: Memory
    ) -> JobsPlatform:
        self.platform.state, self.platform.save = state, save
        return self.platform


class PlainPlugin:
    """A platform without any."""

    name = "plain"
    options: tuple[ConnectOption, ...] = ()

    def open(
        self, _project: str, _settings: Settings, state: dict[str, Any], _save: Any, _memory: Memory
    ) -> FakePlatform:
        return FakePlatform(state=state)


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> JobsPlugin:
    made = JobsPlugin()
    for module in (compose, serving_checks):
        monkeypatch.setattr(module, "plugins", lambda: {"jobs": made, "plain": PlainPlugin()})
    return made


@pytest.fixture
def classes(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """What the first model knows."""
    monkeypatch.setattr(compose, "first_classes", lambda _settings: ("cat", "dog"))
    return ("cat", "dog")


def run(*arguments: str, code: int = 0) -> Result:
    found = CliRunner().invoke(main, list(arguments))
    assert found.exit_code == code, found.output
    assert "Traceback" not in found.output
    return found


def connect(*options: str, code: int = 0) -> Result:
    return run("connect", "jobs", "--project", "4", *options, code=code)


def sentence(found: Result) -> str:
    """The one line a failing command leaves on stderr, below the usage where click shows it."""
    assert found.stdout == ""
    (line,) = [text for text in found.stderr.splitlines() if text.startswith("Error: ")]
    return line.removeprefix("Error: ")


def options_of(store: Store) -> Any:
    (row,) = store.projects.all()
    return row.platform_state["options"]


# --- what stays of an option -----------------------------------------------------------------------------


def test_options_given_while_the_worker_is_at_work_are_not_overwritten_by_what_it_saves(
    home_store: Store, plugin: JobsPlugin, clean_home: Path
) -> None:
    """Given the worker's port; when somebody connects with another queue before it saves; I expect both to be kept."""
    connect("--org", "lab")
    (row,) = home_store.projects.all()
    compose.open_platform(Settings(_env_file=None, home=clean_home), home_store, row)
    worker, save = plugin.platform.state, plugin.platform.save
    connect("--queue", "task")
    worker["active"] = "v1"
    save(worker)
    (row,) = home_store.projects.all()
    assert row.platform_state == {"options": {"org": "lab", "queue": "task"}, "connected": True, "active": "v1"}
    del worker["active"]
    save(worker)
    assert "active" not in home_store.projects.all()[0].platform_state


@pytest.mark.usefixtures("plugin")
def test_an_option_reaches_the_platform_and_is_kept(home_store: Store) -> None:
    assert connect("--org", "lab").stdout.splitlines()[-1] == "changed option org: none -> lab"
    assert options_of(home_store) == {"org": "lab"}


@pytest.mark.usefixtures("plugin")
def test_a_text_that_is_not_given_stays_as_at_the_last_connect(home_store: Store) -> None:
    connect("--org", "lab", "--queue", "task")
    connect()
    assert options_of(home_store) == {"org": "lab", "queue": "task"}
    connect("--queue", "inbox")
    assert options_of(home_store) == {"org": "lab", "queue": "inbox"}


@pytest.mark.usefixtures("plugin")
def test_a_text_that_is_given_empty_is_no_text_that_is_not_given(home_store: Store) -> None:
    connect("--org", "lab")
    connect("--org", "")
    assert options_of(home_store) == {"org": ""}


@pytest.mark.usefixtures("plugin")
def test_options_outlive_a_disconnect_where_the_platform_keeps_them(home_store: Store) -> None:
    connect("--org", "lab")
    run("disconnect", "jobs", "--project", "4")
    connect()
    assert options_of(home_store) == {"org": "lab"}


@pytest.mark.usefixtures("classes")
def test_the_classes_of_the_model_are_given_to_this_connect_and_to_no_later_one(
    home_store: Store, plugin: JobsPlugin
) -> None:
    found = connect("--create-labels", "--org", "lab")
    assert "changed option create_labels: none -> ['cat', 'dog']" in found.stdout.splitlines()
    assert options_of(home_store) == {"org": "lab"}
    connect()
    assert plugin.platform.state["options"] == {"org": "lab"}


@pytest.mark.usefixtures("plugin", "clean_home")
def test_classes_are_asked_of_the_model_only_where_they_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_settings: Settings) -> tuple[str, ...]:
        raise ModelError("weights yolo11n.pt are broken: download them again")

    monkeypatch.setattr(compose, "first_classes", broken)
    connect()
    assert sentence(connect("--create-labels", code=1)).startswith("weights yolo11n.pt are broken")


def test_a_model_that_tells_no_classes_is_said_and_nothing_is_connected(
    home_store: Store, plugin: JobsPlugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compose, "first_classes", lambda _settings: ())
    said = sentence(connect("--create-labels", code=2))
    assert said.startswith("--create-labels takes the class names of the first model, and HARDFIRST_MODEL is 'yolo11n")
    assert (home_store.projects.all(), plugin.platform.calls) == ([], [])


@pytest.mark.usefixtures("classes")
def test_a_dry_run_uses_the_options_and_keeps_none(home_store: Store, plugin: JobsPlugin) -> None:
    found = connect("--org", "lab", "--create-labels", "--dry-run", "--json")
    assert [c["what"] for c in json.loads(found.stdout)["changes"]] == [
        "sampling",
        "option org",
        "option create_labels",
    ]
    assert home_store.projects.all() == []
    assert home_store.memories.of(KEY).counts() == {}
    connect("--org", "lab")
    before = home_store.projects.all()
    connect("--org", "other", "--queue", "task", "--create-labels", "--dry-run")
    assert home_store.projects.all() == before
    assert home_store.inbox.projects() == set()


def test_a_connect_that_broke_half_way_keeps_the_options_of_what_is_to_be_undone(
    home_store: Store, plugin: JobsPlugin
) -> None:
    def break_(**_: Any) -> list[Change]:
        plugin.platform.save({**plugin.platform.state, "webhook": 7})
        raise PlatformError("the role of the account is worker: give it maintainer")

    plugin.platform.connect = break_  # type: ignore[method-assign]
    assert sentence(connect("--org", "lab", code=1)).endswith("give it maintainer")
    (row,) = home_store.projects.all()
    assert (row.state, row.platform_state) == ("archived", {"options": {"org": "lab"}, "webhook": 7})


def test_options_alone_are_nothing_to_undo(home_store: Store, plugin: JobsPlugin) -> None:
    def refuse(**_: Any) -> list[Change]:
        raise PlatformError("no organisation 'lab'")

    plugin.platform.connect = refuse  # type: ignore[method-assign]
    connect("--org", "lab", code=1)
    assert home_store.projects.all() == []


@pytest.mark.usefixtures("plugin")
def test_a_platform_without_options_keeps_no_word_of_them(home_store: Store) -> None:
    run("connect", "plain", "--project", "4")
    (row,) = home_store.projects.all()
    assert row.platform_state == {"connected": True}


# --- what a person sees ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("plugin", "clean_home")
def test_an_option_nobody_knows_and_one_of_another_platform_are_one_sentence_each() -> None:
    assert sentence(connect("--colour", "red", code=2)).startswith("No such option")
    assert "--org" in sentence(run("connect", "plain", "--project", "4", "--org", "lab", code=2))
    assert "--project" in sentence(run("connect", "jobs", "--org", "lab", code=2))
    assert "--org" in sentence(connect("--org", code=2))


@pytest.mark.usefixtures("plugin", "clean_home")
def test_a_platform_nobody_knows_is_one_sentence_with_those_there_are() -> None:
    for arguments in (["connect"], ["disconnect"]):
        found = run(*arguments, "labelbox", "--project", "1", code=2)
        assert sentence(found) == "no platform 'labelbox'; there are ['jobs', 'plain']"
        assert len(found.stderr.splitlines()) == 1


@pytest.mark.usefixtures("plugin")
def test_the_help_of_a_platform_has_its_options_and_an_example_that_parses() -> None:
    told = run("connect", "jobs", "--help").stdout
    for text in ("--org SLUG", "--queue inbox|task", "--create-labels", "--dry-run", "--replace", "--json"):
        assert text in told
    assert "--org" not in run("connect", "plain", "--help").stdout
    example = re.search(r"Example:\s+hardfirst connect jobs ([^\n]*)", told)
    assert example
    command = main.commands["connect"].get_command(None, "jobs")  # type: ignore[attr-defined]
    assert command.make_context("jobs", example[1].split()).params["project"] == "12"


@pytest.mark.usefixtures("plugin")
def test_the_help_of_connect_lists_the_platforms_with_an_example() -> None:
    told = run("connect", "--help").stdout
    assert re.search(r"^  jobs +Connect a project", told, re.M)
    assert re.search(r"^  plain +Connect a project", told, re.M)
    assert "Example: hardfirst connect label-studio --project 12 --dry-run" in told


def test_cvats_options_are_those_people_were_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose, "plugins", lambda: {"cvat": CVAT})
    told = run("connect", "cvat", "--help").stdout
    for option in CVAT.options:
        assert f"--{option.name}" in told
    assert [o.name for o in CVAT.options if o.kind == "classes"] == ["create-labels"]


@pytest.mark.usefixtures("home_store")
def test_a_project_is_disconnected_and_its_standing_told(plugin: JobsPlugin) -> None:
    connect("--org", "lab")
    assert run("status", "--project", KEY).stdout.splitlines()[0] == f"{KEY}  Pets"
    assert "state     active" in run("status").stdout
    found = run("disconnect", "jobs", "--project", "4")
    assert found.stdout.splitlines() == ["changed sampling: by priority -> sequential"]
    (row,) = json.loads(run("status", "--json").stdout)
    assert row["state"] == "archived: disconnected by a person"
    assert plugin.platform.calls[-1] == "disconnect"


@pytest.mark.usefixtures("home_store")
def test_cvats_address_and_credentials_are_asked_for_before_anything_is_stored(
    home_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (compose, serving_checks):
        monkeypatch.setattr(module, "plugins", lambda: {"cvat": CVAT})
    said = sentence(run("connect", "cvat", "--project", "4", "--org", "lab", code=2))
    assert said.startswith("CVAT_URL is not set")
    assert home_store.projects.all() == []
