"""How every command behaves: JSON, exit codes, errors, suggestions; nothing moves where nobody looks."""

from __future__ import annotations

import errno
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import click
import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from common.cli import main
from common.commands import Commands
from common.errors import RefusedError, SettingError
from common.store import Store

ROOT = Path(__file__).resolve().parents[2]
KEY = "fake:1"
NO_ANSWER = {"serve", "completion"}
"""They run, or print a script: there is no answer to give as JSON."""
SHOWN = {name: command for name, command in main.commands.items() if not command.hidden}


@pytest.fixture
def store(home_store: Store) -> Store:
    home_store.projects.ask("fake", "1")
    home_store.projects.update(KEY, state="active")
    return home_store


def run(*arguments: str, code: int = 0, given: str | None = None) -> Result:
    found = CliRunner().invoke(main, list(arguments), input=given)
    assert found.exit_code == code, found.output
    assert "Traceback" not in found.output
    return found


# --- help and JSON ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(SHOWN))
def test_the_documentation_has_every_command_with_its_line_and_its_example(name: str) -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    help_ = " ".join((SHOWN[name].help or "").split())
    first = re.split(r"[.?] (?=[A-Z-])", help_)[0].rstrip(". ")
    example = re.search(r"Example: (hardfirst .*)$", help_)
    assert example, name
    assert f"| `{name}` | {first}" in text.replace("\\|", "|")
    assert example[1] in text


def test_the_documentation_has_no_command_that_is_not_there() -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    assert set(re.findall(r"^\| `([a-z]+)` \|", text, re.MULTILINE)) == set(SHOWN)


@pytest.mark.parametrize("name", sorted(set(SHOWN) - NO_ANSWER))
def test_every_command_that_answers_can_answer_as_json(name: str) -> None:
    command = SHOWN[name]
    several = command.list_commands(click.Context(command)) if isinstance(command, click.Group) else []
    for one in [command.get_command(click.Context(command), n) for n in several] or [command]:
        assert one is not None
        assert any("--json" in parameter.opts for parameter in one.params), name


@pytest.mark.parametrize(
    "arguments",
    [
        *(("status",), ("settings",), ("forget", "--yes", "--project", KEY), ("set", "--project", KEY)),
        *((name, "--project", KEY) for name in ("rounds", "curve", "review", "kpi", "train")),
    ],
)
def test_with_json_standard_output_is_json_and_nothing_else(arguments: tuple[str, ...], store: Store) -> None:
    if "forget" in arguments:
        store.projects.update(KEY, state="archived")
    done = run(*arguments, "--json")
    json.loads(done.stdout)
    assert done.stderr == ""


def test_the_question_of_forget_is_no_part_of_its_answer(store: Store) -> None:
    store.projects.update(KEY, state="archived")
    done = run("forget", "--project", KEY, "--json", given="y\n")
    assert json.loads(done.stdout) == {"project": KEY, "forgotten": True}
    assert run("forget", "--project", KEY, code=2, given="y\n").stdout == ""


# --- errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["stauts"], "status"),
        (["status", "--projet", "x"], "--project"),
        (["connect", "cvat", "--quee", "x"], "--queue"),
    ],
)
def test_what_is_mistyped_is_answered_with_what_was_meant(typed: list[str], meant: str) -> None:
    assert f"Did you mean '{meant}'" in run(*typed, code=2).stderr


def broken(error: BaseException) -> click.Group:
    """A command line like ours with one command, which fails."""

    @click.group(cls=Commands)
    @click.option("--traceback", is_flag=True)
    def program(traceback: bool) -> None: ...

    @program.command()
    def it() -> None:
        raise error

    return program


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (SettingError("X is 'y'"), 2, "Error: X is 'y'"),
        (RefusedError("no"), 1, "Error: no"),
        (RefusedError("http://ann:secret@h/x does not answer"), 1, "Error: http://***@h/x does not answer"),
        (KeyboardInterrupt(), 130, "stopped by Ctrl-C"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/a/b.csv"),
            1,
            "Error: the disk that holds /a/b.csv is full:",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "Error: a disk is full: free some space"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/a/b"),
            1,
            "Error: /a/b cannot be written (Permission den",
        ),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/a"), 1, "Error: /a: No such file or directory"),
        (ZeroDivisionError("by zero"), 1, "Error: unexpected ZeroDivisionError: by zero; this is a fault of hardfirst"),
        (MemoryError(), 1, "Error: unexpected MemoryError: no message"),
        (click.UsageError("wrong"), 2, "Usage: "),
        (click.Abort(), 1, "Aborted!"),
    ],
)
def test_every_failure_is_a_sentence_and_a_code(error: BaseException, code: int, said: str) -> None:
    done = CliRunner().invoke(broken(error), ["it"])
    assert done.exit_code == code
    assert done.stderr.startswith(said)
    assert done.stdout == ""
    assert "Traceback" not in done.output


def test_who_looks_for_the_fault_gets_the_traceback() -> None:
    done = CliRunner().invoke(broken(ZeroDivisionError("by zero")), ["--traceback", "it"])
    assert isinstance(done.exception, ZeroDivisionError)


def test_a_database_of_a_newer_version_is_said_in_one_sentence(store: Store) -> None:
    with store.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    for command in (("status",), ("rounds", "--project", KEY), ("train", "--project", KEY)):
        (line,) = run(*command, code=1).stderr.splitlines()
        assert line.startswith("Error: the database has schema '9999', written by a newer hardfirst")


@pytest.mark.usefixtures("store")
def test_weights_that_are_none_are_said_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"x")
    (tmp_path / "wrong.pt").write_text("these are no weights")
    done = run("rank", "images", "--model", "wrong.pt", "--out", "order.csv", "--device", "cpu", code=1)
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("Error: ")
    assert "wrong.pt" in done.stderr


def test_a_reader_that_closes_the_pipe_hears_nothing() -> None:
    bash = shutil.which("bash") or pytest.skip("there is no bash here")
    code = f"{sys.executable} -m common.cli settings | head -n 1"
    done = subprocess.run([bash, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


# --- progress --------------------------------------------------------------------------------------------

BAR = """
from common.terminal import busy, note, progress, say
with progress("images") as tell:
    for done in range(3):
        tell(done, 3)
with busy("looking"):
    pass
say("done", style="bold")
note("read this", style="yellow")
"""


def on_a_terminal(**environment: str) -> str:
    """What a person sees."""
    controller, terminal = pty.openpty()
    clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "TERM")}
    command = [sys.executable, "-c", BAR]
    told = {**clean, "TERM": "xterm", **environment}
    process = subprocess.Popen(command, stdout=terminal, stderr=terminal, stdin=terminal, env=told, cwd=ROOT)
    os.close(terminal)
    seen = b""
    try:
        while part := os.read(controller, 4096):
            seen += part
    except OSError:
        pass  # Linux says so at the end
    finally:
        os.close(controller)
    assert process.wait() == 0, seen
    return seen.decode()


def test_a_terminal_shows_a_bar() -> None:
    assert "\x1b[" in on_a_terminal()


@pytest.mark.parametrize("name", ["NO_COLOR", "TERM"])
def test_without_colours_there_is_no_control_character(name: str) -> None:
    seen = on_a_terminal(**{name: "1" if name == "NO_COLOR" else "dumb"})
    assert seen.split() == ["done", "read", "this"]


def test_without_a_terminal_there_is_none_either() -> None:
    done = subprocess.run([sys.executable, "-c", BAR], capture_output=True, text=True, check=True, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("done\n", "read this\n")


# --- train --wait ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "code"), [("failed", 1), ("cancelled", 1)])
def test_waiting_for_a_round_ends_with_it_and_says_how_it_went(store: Store, state: str, code: int) -> None:
    play = threading.Thread(target=a_round, args=(store, state))
    play.start()
    done = run("train", "--project", KEY, "--wait", code=code)
    play.join()
    assert done.stderr.splitlines()[-1] == f"Error: round 1 of {KEY} {state}: the disk is full"


def test_a_wish_that_is_taken_back_is_not_waited_for(store: Store) -> None:
    play = threading.Thread(target=lambda: (asked(store), store.projects.update(KEY, training_asked=None)))
    play.start()
    assert "was taken back" in run("train", "--project", KEY, "--wait", code=1).stderr
    play.join()


def asked(store: Store) -> float:
    for _ in range(400):
        row = store.projects.get(KEY)
        if row is not None and row.training_asked is not None:
            return row.training_asked
        time.sleep(0.02)
    raise AssertionError("nobody asked for a round")


def a_round(store: Store, state: str) -> None:
    """What the worker does."""
    values: dict[str, Any] = {"revision": 0, "labels": 3, "reason": "asked", "folder": "rounds", "token": 1}
    opened = store.rounds.start(KEY, **values, asked=asked(store))
    assert opened is not None
    time.sleep(1.2)
    store.rounds.end(opened.id, state, "the disk is full")
