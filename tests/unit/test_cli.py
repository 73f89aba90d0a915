"""The command line as a whole: every command's help, a mistyped one, quick imports, a service that starts and stops."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import click
import pytest

from common.cli import main
from tests.unit.cli_runs import SECRETS, free_port, run

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
