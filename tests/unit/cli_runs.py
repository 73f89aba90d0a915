"""The command line run in this process, over a platform that is made up."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from click.testing import CliRunner, Result

from common import compose, serving_checks
from common.cli import main
from common.config import Settings
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


@pytest.fixture(name="plugin")
def plugin_fixture(monkeypatch: pytest.MonkeyPatch) -> FakePlugin:
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


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
