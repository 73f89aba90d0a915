"""Completion in a shell: commands, options, names and project keys; quick, and silent where there is nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from common import completion
from common.acquisition import ACQUISITIONS
from common.cli import main
from common.ports import VIEWS
from common.store import Store
from common.strategies import REGISTRY

GOAL_S = 0.4
"""A person waits no longer for a Tab; seconds of this process, on one core."""
ROOT = Path(__file__).resolve().parents[2]
HARDFIRST = Path(sys.executable).with_name("hardfirst")


@pytest.fixture
def store(home_store: Store) -> Store:
    for platform, project in (("label-studio", "12"), ("label-studio", "7"), ("cvat", "4")):
        home_store.projects.ask(platform, project)
    home_store.projects.update("label-studio:7", state="archived")
    return home_store


def offered(*words: str) -> list[str]:
    """What a shell offers for the last of these words."""
    found = ShellComplete(main, {}, completion.PROGRAM, completion.VARIABLE).get_completions(
        list(words[:-1]), words[-1]
    )
    return [item.value for item in found]


def test_the_names_are_those_of_the_registries() -> None:
    assert list(completion.STRATEGIES) == sorted(REGISTRY)
    assert list(completion.ACQUISITIONS) == sorted(ACQUISITIONS)
    assert set(completion.VIEWS) == set(VIEWS)
    assert completion.platforms() == ["cvat", "label-studio"]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("st",), ["status"]),
        (("rollback", "--t"), ["--to"]),
        (("rank", "photos", "--strategy", "top"), ["top_utility"]),
        (("select", "--strategy", "co"), ["core_set"]),
        (("watch", "in", "--acquisition", "mar"), ["margin"]),
        (("rank", "photos", "--committee", "flip,ha"), ["flip,half"]),
        (("rank", "photos", "--device", "m"), ["mps"]),
        (("connect", "la"), ["label-studio"]),
        (("connect", "cvat", "--ann"), ["--annotators"]),
        (("disconnect", "cv"), ["cvat"]),
        (("doctor", "lab"), ["label-studio"]),
        (("completion", "z"), ["zsh"]),
        (("review", "--state", "dis"), ["dismissed"]),
    ],
)
def test_what_is_offered(words: tuple[str, ...], wanted: list[str]) -> None:
    assert offered(*words) == wanted


@pytest.mark.usefixtures("store")
def test_project_keys_come_from_the_store() -> None:
    assert offered("status", "--project", "") == ["label-studio:12", "cvat:4"]
    assert offered("rounds", "--project", "cv") == ["cvat:4"]
    assert offered("disconnect", "label-studio", "--project", "") == ["12"]
    assert offered("connect", "cvat", "--project", "") == ["4"]


def test_the_store_may_be_named_in_a_file(store: Store, clean_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARDFIRST_HOME")
    Path(".env").write_text(f'HARDFIRST_PORT=9090\nHARDFIRST_HOME="{clean_home}"\n')
    assert offered("status", "--project", "cv") == ["cvat:4"]


@pytest.mark.usefixtures("store")
def test_an_env_file_with_a_line_nobody_understands_says_nothing() -> None:
    Path(".env").write_text("this is 'no line\n")
    code = "from common.store import keys; print([key for key, _ in keys.project_keys()])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.stdout, done.stderr) == ("['label-studio:12', 'cvat:4']\n", "")


@pytest.mark.parametrize("what", ["nothing", "no database", "another server"])
def test_without_a_store_nothing_is_offered_and_nothing_is_made(
    what: str, clean_home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    if what == "no database":
        clean_home.mkdir()
        (clean_home / "hardfirst.db").write_text("this is no database, but a text that somebody has put here " * 10)
    if what == "another server":
        monkeypatch.setenv("HARDFIRST_DATABASE_URL", "postgresql+psycopg://u:p@127.0.0.1:9/x")
    assert offered("status", "--project", "") == []
    assert clean_home.exists() == (what == "no database")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_the_script_of_each_shell_calls_the_command(shell: str) -> None:
    done = CliRunner().invoke(main, ["completion", shell])
    assert done.exit_code == 0
    assert f"_HARDFIRST_COMPLETE={shell}_complete" in done.stdout.replace('"', "")
    assert completion.ADVICE[shell].split("   #")[0].split(" >")[0].removeprefix('eval "$(').removesuffix(')"') == (
        f"hardfirst completion {shell}"
    )


def test_a_shell_nobody_knows_is_misuse() -> None:
    done = CliRunner().invoke(main, ["completion", "tcsh"])
    assert (done.exit_code, "'bash', 'zsh', 'fish'" in done.stderr) == (2, True)


@pytest.mark.skipif(shutil.which("bash") is None or not HARDFIRST.exists(), reason="bash and the command are not here")
@pytest.mark.usefixtures("store")
def test_it_works_in_a_real_bash() -> None:
    asked = {"hardfirst sta": "status", "hardfirst status --project la": "label-studio:12", "hardfirst zzz": ""}
    for line, wanted in asked.items():
        assert in_bash(line) == wanted


def in_bash(line: str) -> str:
    """What bash would put there; the script is taken as a person's ~/.bashrc takes it."""
    words = line.split(" ")
    code = f"""
    eval "$(hardfirst completion bash)"
    COMP_WORDS=({line}) COMP_CWORD={len(words) - 1}
    _hardfirst_completion hardfirst "{words[-1]}" "{words[-2]}"
    echo "${{COMPREPLY[*]}}"
    """
    paths = f"{HARDFIRST.parent}{os.pathsep}{os.environ['PATH']}"
    command = [shutil.which("bash") or "bash", "--norc", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PATH": paths})
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("words", ["status --project ", "rank --strategy ", "connect cvat --", "st"])
def test_a_tab_imports_nothing_heavy_and_is_quick(words: str) -> None:
    heavy = ("torch", "ultralytics", "sqlalchemy", "flask", "pydantic", "label_studio_sdk", "cvat_sdk", "rich")
    code = (
        "import atexit, sys, time; "
        f"said = lambda: print([m for m in {heavy} if m in sys.modules], time.process_time(), file=sys.stderr); "
        "atexit.register(said); "
        "from common.cli import main; main(prog_name='hardfirst')"
    )
    line = f"hardfirst {words}"
    told = {"_HARDFIRST_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, **told}
    )
    assert done.stdout
    loaded, seconds = done.stderr.rsplit(" ", 1)
    assert loaded == "[]"
    assert float(seconds) < 5 * GOAL_S  # as every test of time: a busy machine is no fault


def test_every_option_that_names_a_project_completes_it() -> None:
    for name, command in main.commands.items():
        context = click.Context(command)
        for parameter in command.get_params(context):
            if "--project" in parameter.opts and not command.hidden:
                own = parameter._custom_shell_complete
                assert own in (completion.project_keys, completion.project_ids), name


def test_a_locked_database_is_not_waited_for(store: Store, clean_home: Path) -> None:
    import sqlite3

    with sqlite3.connect(clean_home / "hardfirst.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        offered("status", "--project", "")
        assert time.monotonic() - began < 2
        other.execute("ROLLBACK")
    other.close()
