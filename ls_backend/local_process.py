"""One child process of Label Studio: its variables, its log, its end. Knows no HTTP and no users."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.errors import PlatformUnreachableError, SettingError

LOG = "label-studio.log"
STOP_S = 10.0
LOG_LINES = 12

# It must be allowed to call a backend on its own machine, and calls nobody else.
SETTINGS = {
    "ML_BLOCK_LOCAL_IP": "false",
    "SSRF_PROTECTION_ENABLED": "false",
    "COLLECT_ANALYTICS": "false",
    "LATEST_VERSION_CHECK": "false",
    "SENTRY_DSN": "",
    "FRONTEND_SENTRY_DSN": "",
    "PYTHONUNBUFFERED": "1",
}

# Label Studio reads each setting under three names, so a stray HOST or DATABASE_NAME counts: little is passed on.
INHERITED = (
    *("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE", "TZ"),
    *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"),
)

# The parent holds the other end of standard input: when it is gone, however it died, the read returns.
_CHILD = """
import os, signal, sys, threading
lifeline = os.dup(0)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
def follow():
    os.read(lifeline, 1)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=follow, daemon=True).start()
from label_studio.server import main
sys.exit(main())
"""


def port_is_free(port: int) -> bool:
    """Whether nothing listens on this loopback port."""
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", port)) != 0


def free_port(*preferred: int) -> int:
    """The first preferred loopback port that is free, else any free one."""
    for port in preferred:
        if port_is_free(port):
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def installed_version(environment: Path) -> str:
    """The version of Label Studio in a virtual environment, read without starting it.

    Raises:
        SettingError: There is none.
    """
    found = sorted(environment.glob("lib/python3*/site-packages/label_studio-*.dist-info"))
    if not found or not (environment / "bin/python").exists():
        raise SettingError(
            f"no Label Studio in {environment}: run `make .venv-label-studio`, or name the virtual environment "
            "that holds it"
        )
    return found[-1].name.removeprefix("label_studio-").removesuffix(".dist-info")


class LabelStudioProcess:
    """Runs from the moment it is made; dies when told to, and with the process that made it."""

    def __init__(self, environment: Path, folder: Path, arguments: Sequence[str], variables: Mapping[str, str]) -> None:
        """Start.

        Args:
            environment: Virtual environment that holds label-studio.
            folder: Data folder; the log goes there too.
            arguments: Of the command ``label-studio``.
            variables: Added to a small, clean environment. Secrets belong here: arguments are public.
        """
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        self._log = folder / LOG
        self._began_at = self._log.stat().st_size if self._log.is_file() else 0
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(
                [str(environment / "bin/python"), "-c", _CHILD, *arguments],
                env=inherited | SETTINGS | {"LABEL_STUDIO_BASE_DATA_DIR": str(folder)} | dict(variables),
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    @property
    def exit_status(self) -> int | None:
        """None while it runs."""
        return self._child.poll()

    def wait(self, limit_s: float) -> bool:
        """Whether it ended within so many seconds."""
        try:
            self._child.wait(limit_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self) -> None:
        """Ask it to end, insist after ten seconds."""
        if self.exit_status is None:
            self._child.terminate()
            if not self.wait(STOP_S):
                self._child.kill()
                self._child.wait()
        if self._child.stdin is not None:
            self._child.stdin.close()

    def said(self) -> str:
        """Its log since it began."""
        return self._log.read_bytes()[self._began_at :].decode(errors="replace")

    def failure(self, what: str, hide: Sequence[str] = ()) -> PlatformUnreachableError:
        """The error to raise: what happened, and the last lines of the log without these secrets."""
        said = self.said()
        for secret in hide:
            said = said.replace(secret, "***")
        lines = [line for line in said.splitlines() if line.strip()][-LOG_LINES:]
        return PlatformUnreachableError(f"Label Studio {what}; its log {self._log} ends with:\n  " + "\n  ".join(lines))
