"""Fixtures of the end-to-end suite: people with a browser, where failures leave a picture, and a project to look at."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from annotator import BrowserAnnotator
from pages_desk import run_the_loop
from playwright.sync_api import Browser

from ls_backend.local_server import LocalLabelStudio
from tests.fakes import World

PASSWORD = "a-long-enough-word"
PICTURES = Path(__file__).resolve().parents[2] / ".cache/e2e"
_numbers = itertools.count(1)


@pytest.fixture
def annotator(
    browser: Browser, label_studio: LocalLabelStudio, request: pytest.FixtureRequest
) -> Iterator[Callable[[], BrowserAnnotator]]:
    """Call it for one more annotator: a new Label Studio user, logged in, with a browser window of their own."""
    people: list[BrowserAnnotator] = []

    def arrive() -> BrowserAnnotator:
        email = f"annotator-{next(_numbers)}@example.com"
        label_studio.add_user(email, PASSWORD)
        people.append(BrowserAnnotator(browser, label_studio, email, PASSWORD))
        return people[-1]

    failed = request.session.testsfailed
    yield arrive
    for number, person in enumerate(people, 1):
        if request.session.testsfailed > failed:
            person.picture(PICTURES / f"{request.node.name}-{number}.png")
        person.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Iterator[World]:
    """One for all tests of a module: the test that changes something leaves a project as good as before."""
    made = run_the_loop(tmp_path_factory.mktemp("pages"), shared)
    yield made
    made.tools.store.close()
