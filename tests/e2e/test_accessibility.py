"""axe-core over every page, light and dark, at a desk and on a telephone: nothing is found, however slight."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from pages_desk import KEY, Watched, served
from playwright.sync_api import Browser, Page

from common.web.pages.routes import TABS
from tests.fakes import World, make_world
from tests.thorough import THOROUGH
from tests.unit.test_loop import KEY as NEW

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

OPTIONS = {"resultTypes": ["violations"], "rules": {"target-size": {"enabled": True}}}
LOOKS: list[tuple[Literal["light", "dark"], int]] = [("light", 1280), ("dark", 390), ("dark", 1280), ("light", 390)]
"""Colours and width of a window; the first two have every rule of both."""
PAGES = {
    "home": "/",
    **{view: f"/projects/{KEY}/{view}" for view in TABS},
    "filtered": f"/projects/{KEY}/queue?show=duplicates",
    "nothing found": f"/projects/{KEY}/queue?reason=no+such+reason",
    "dismissed": f"/projects/{KEY}/review?state=dismissed",
    "confirm": f"/projects/{KEY}/confirm/rollback",
    "done": f"/projects/{KEY}/rounds?did=train",
    "error": "/projects/nobody:9/queue",
}


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A project that has nothing yet but its first round, which is training."""
    made = make_world(tmp_path_factory.mktemp("new"), 1)
    made.tools.store.rounds.start(NEW, revision=1, labels=20, reason="20 new labels", folder="/f", token=1)
    yield made
    made.tools.store.close()


def found(page: Page, name: str) -> list[str]:
    """What axe holds against a page: 'page: rule (impact): where'."""
    violations: list[dict[str, Any]] = Axe().run(page, options=OPTIONS).response["violations"]
    return [
        f"{name}: {v['id']} ({v['impact']}): {n['target']} {n['html'][:160]}" for v in violations for n in v["nodes"]
    ]


@pytest.mark.parametrize(("scheme", "width"), LOOKS if THOROUGH else LOOKS[:2])
def test_axe_finds_nothing_on_any_page(
    browser: Browser, world: World, new: World, scheme: Literal["light", "dark"], width: int
) -> None:
    findings: list[str] = []
    # The pages allow no script but their own; axe comes in from outside.
    with (
        served(world) as url,
        served(new) as empty,
        Watched(browser, width, color_scheme=scheme, bypass_csp=True) as window,
    ):
        for name, path in PAGES.items():
            window.open(url + path)
            findings += found(window.page, name)
        for view in TABS:
            window.open(f"{empty}/projects/{NEW}/{view}")
            findings += found(window.page, f"empty {view}")
    assert findings == []


def test_axe_finds_what_is_planted(browser: Browser, world: World) -> None:
    with served(world) as url, Watched(browser, bypass_csp=True) as window:
        window.open(f"{url}/projects/{KEY}/queue")
        window.page.locator(".card img").first.evaluate("image => image.removeAttribute('alt')")
        (finding,) = found(window.page, "queue")
    assert finding.startswith("queue: image-alt (critical)")
