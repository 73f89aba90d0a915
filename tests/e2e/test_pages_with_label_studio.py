"""From the queue page into a real Label Studio and back, and the way back by clicks: the order changes there.

The model and its training are stand-ins, see ``test_recovery``.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from annotator import READY, BrowserAnnotator
from PIL import Image
from playwright.sync_api import Page, expect
from test_recovery import Desk, desk  # noqa: F401 - desk is a fixture
from test_rollback import KeptModels, served, shown

pytestmark = pytest.mark.e2e

SHOWN = "() => Htx.annotationStore.selected.objects.find(o => o.type === 'image').parsedValue"


def two_queues(here: Desk, folder: Path) -> tuple[list[str], list[str]]:
    """Connected, labelled, trained once: the open tasks of the first and the second queue, in their orders."""
    here.tools.models = KeptModels(folder)
    here.connect()
    first = shown(here)
    here.round()
    here.later()
    second = shown(here)
    answered = {task for task, _, _ in here.known()}
    orders = [sorted((t for t in q if t not in answered), key=lambda t, q=q: q[t][0]) for q in (first, second)]
    return orders[0], orders[1]


def first_card(page: Page, here: Desk) -> str:
    """Opens the queue; the name of the sample at its head."""
    page.goto(f"{here.settings.url}/projects/{here.key}/queue")
    return page.locator(".card").first.get_by_role("link").inner_text().split()[2]


def picture_on(page: Page) -> str:
    """The address of the first card's picture."""
    return str(page.locator(".card").first.get_by_role("img").get_attribute("src"))


def alike(*pictures: bytes) -> bool:
    """Whether these show the same, looked at from far away."""
    small = [np.asarray(Image.open(BytesIO(p)).convert("RGB").resize((8, 8)), float) for p in pictures]
    return bool(np.abs(small[0] - small[1]).mean() < 6)


def test_a_card_opens_its_task_and_a_click_brings_the_former_order_back(
    desk: Callable[..., Desk],  # noqa: F811
    annotator: Callable[[], BrowserAnnotator],
    tmp_path: Path,
) -> None:
    here = desk(tasks=12)
    before, now = two_queues(here, tmp_path)
    assert before[0] != now[0]
    page = annotator().page

    assert first_card(page, here) == now[0]
    thumbnail = page.request.get(here.settings.url + picture_on(page)).body()
    page.locator(".card").first.get_by_role("link").click()
    page.wait_for_function(READY, arg=int(now[0]))
    expect(page.locator(".lsf-current-task__task-id")).to_contain_text(now[0])
    image = here.json("GET", f"/api/tasks/{now[0]}")["data"]["image"]
    assert page.evaluate(SHOWN).endswith(image)
    assert alike(thumbnail, (here.folder / Path(image).name).read_bytes())
    page.go_back()
    expect(page.locator(".card").first).to_be_visible()

    page.get_by_role("link", name="Rounds", exact=True).click()
    page.get_by_role("button", name="Go back").click()
    expect(page.get_by_role("heading", name="Go back to queue hardfirst@0.1-")).to_be_visible()
    assert here.row.way_back == {}
    page.get_by_role("button", name="Go back").click()
    expect(page.get_by_role("status")).to_contain_text("The way back was asked for")
    here.settle()

    assert here.version.startswith("hardfirst@0.1-")
    assert first_card(page, here) == before[0]
    assert served(here, 3) == before[:3]
