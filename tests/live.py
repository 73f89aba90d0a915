"""Fixtures over what the repository does not hold: data, Label Studio, Chromium. They skip without, and fail in CI."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ls_backend.local_server import ROOT, LocalLabelStudio

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def absent(reason: str) -> None:
    """A missing real part skips on a laptop and fails in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def chromium() -> str | None:
    """The browser on this machine: CHROMIUM, or the first known name on PATH."""
    found = (shutil.which(name) for name in (os.environ.get("CHROMIUM", ""), *BROWSERS) if name)
    return next((path for path in found if path), None)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recorded exchanges, real data sets and weights, which the repository does not hold."""
    folder = Path(os.environ.get("HARDFIRST_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        absent(f"recorded exchanges, data sets and weights are not at {folder} (HARDFIRST_SHARED says where)")
    return folder


@pytest.fixture(scope="session")
def label_studio_environment() -> Path:
    """The virtual environment that holds Label Studio."""
    environment = Path(os.environ.get("HARDFIRST_LABEL_STUDIO_VENV", ROOT / ".venv-label-studio"))
    if not (environment / "bin/label-studio").exists():
        absent(f"no Label Studio in {environment}: run `make .venv-label-studio`")
    return environment


@pytest.fixture(scope="session")
def label_studio(
    label_studio_environment: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalLabelStudio]:
    """A running Label Studio of this test session; it may serve any local folder (``serve_folder``)."""
    data = tmp_path_factory.mktemp("label-studio") / "data"
    server = LocalLabelStudio(data, environment=label_studio_environment, document_root=Path("/"))
    with server:
        yield server


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A real, headless Chromium."""
    executable = chromium()
    if executable is None:
        absent(f"no Chromium: CHROMIUM names none, and PATH has none of {', '.join(BROWSERS)}")
    # Here and not above: the fast suites load this file too.
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        yield running
        running.close()
