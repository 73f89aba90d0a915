"""Every page in a real Chromium: nothing in the console, no request to another host, keyboard, phone, forms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pages_desk import KEY, MANY, Watched, many_images, served, settle
from playwright.sync_api import Browser, ViewportSize, expect

from common.web.pages.routes import TABS
from tests.fakes import World
from tests.unit.test_loop import KEY as LARGE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

PATHS = {"projects": "/", **{view: f"/projects/{KEY}/{view}" for view in TABS}}
LARGE_PATHS = [
    *("/", *(f"/projects/{LARGE}/{view}" for view in TABS)),
    *(f"/projects/{LARGE}/queue?{query}" for query in ("start=4980", "class=cat", "show=random", "show=unreadable")),
    *(f"/projects/{LARGE}/confirm/train", f"/projects/{LARGE}/review?start=60"),
]
BROKEN_PICTURES = """() => [...document.images]
    .filter(i => i.loading !== 'lazy' || i.getBoundingClientRect().top < innerHeight)
    .filter(i => !i.complete || i.naturalWidth === 0 || !i.hasAttribute('alt')).map(i => i.src)"""
FOCUSED = """() => { const e = document.activeElement, s = getComputedStyle(e);
    return s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2 && e.matches(':focus-visible') }"""
MOVES = """() => [...document.querySelectorAll('*')].filter(e => { const s = getComputedStyle(e);
    return parseFloat(s.transitionDuration) > 0 || s.animationName !== 'none' }).length"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Iterator[World]:
    made = many_images(tmp_path_factory.mktemp("large"), shared)
    yield made
    made.tools.store.close()


def test_every_page_opens_without_an_error_and_asks_nobody_else(browser: Browser, world: World) -> None:
    with served(world) as url:
        for scheme in ("light", "dark"):
            with Watched(browser, color_scheme=scheme) as window:
                for name, path in PATHS.items():
                    window.open(url + path)
                    expect(window.page.locator("h1")).to_be_visible()
                    window.picture(name if scheme == "light" else f"{name}-dark")
                assert window.errors == []
                assert window.hosts == {urlsplit(url).netloc}


def test_every_page_opens_the_same_with_five_thousand_images(browser: Browser, large: World) -> None:
    assert large.tools.store.samples.counts(LARGE)["samples"] == MANY
    with served(large) as url, Watched(browser) as window:
        for path in LARGE_PATHS:
            window.open(url + path)
            expect(window.page.locator("h1")).to_be_visible()
            assert window.page.evaluate(BROKEN_PICTURES) == [], path
            assert window.page.locator(".picture img:not([alt^='Image '])").count() == 0, path
            assert window.page.title().endswith(" · hardfirst")
        assert window.errors == []
        assert window.hosts == {urlsplit(url).netloc}


@pytest.mark.parametrize("width", [390, 640], ids=["a telephone", "200 % of 1280 pixels"])
def test_no_page_scrolls_sideways(browser: Browser, world: World, large: World, width: int) -> None:
    with served(world) as url, served(large) as other, Watched(browser, width, 844) as window:
        for name, path in PATHS.items():
            window.open(url + path)
            window.picture(f"{name}-{width}")
            assert window.page.evaluate("document.documentElement.scrollWidth") <= width, name
        for path in LARGE_PATHS:
            window.open(other + path)
            assert window.page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert window.errors == []


def test_the_queue_is_walked_through_by_keyboard_and_the_focus_is_seen(browser: Browser, large: World) -> None:
    with served(large) as url, Watched(browser) as window:
        page = window.page
        window.open(f"{url}/projects/{LARGE}/queue")
        page.keyboard.press("Tab")
        skip = page.get_by_role("link", name="Skip to content")
        expect(skip).to_be_focused()
        expect(skip).to_be_in_viewport()
        page.keyboard.press("Enter")
        expected = [
            *("100 images cannot be read", *TABS.values(), "Predicted class", "Show", "Reason holds", "Filter", "Next"),
            "fake 0",
        ]
        names = []
        for _ in expected:
            page.keyboard.press("Tab")
            names.append(page.evaluate("(e => e.labels?.[0]?.innerText ?? e.innerText)(document.activeElement)"))
            assert page.evaluate(FOCUSED), names
        assert names[:-1] == expected[:-1]

        page.get_by_label("Show").focus()
        page.keyboard.type("random")
        page.keyboard.press("Tab")
        page.keyboard.type("chance")
        page.keyboard.press("Enter")
        page.wait_for_url("**show=random**")
        expect(page.locator("#what")).to_contain_text("500 images of the 5,000 that wait")
        page.get_by_role("link", name="Next").first.focus()
        page.keyboard.press("Enter")
        page.wait_for_url("**start=60**")
        expect(page.locator(".rank").first).to_have_text("Place 610")
        expect(page.get_by_label("Show")).to_have_value("random")
        assert window.errors == []


def test_a_person_goes_back_to_a_former_queue_by_keyboard(browser: Browser, world: World) -> None:
    before = world.platform.active
    with served(world) as url, Watched(browser) as window:
        page = window.page
        window.open(f"{url}/projects/{KEY}/rounds")
        page.get_by_label("Go back to").focus()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Go back to queue")).to_be_visible()
        window.picture("confirm")
        assert page.title().startswith("Go back to queue hardfirst@")
        assert world.platform.active == before
        page.get_by_role("button", name="Go back").focus()
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="No, leave it")).to_be_focused()
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_contain_text("The way back was asked for")
        settle(world)
        assert world.platform.active != before
        assert window.errors == []


def test_a_button_that_is_clicked_twice_is_sent_once_and_back_asks_again(browser: Browser, large: World) -> None:
    store = large.tools.store
    with served(large) as url, Watched(browser) as window:
        page, sent = window.page, []
        page.on("request", lambda r: sent.append(r.url) if r.method == "POST" else None)
        window.open(f"{url}/projects/{LARGE}/confirm/train")
        page.get_by_role("button", name="Train now").dblclick()
        expect(page.get_by_role("status")).to_contain_text("A round was asked for")
        assert len(sent) == 1
        expect(page).to_have_url(f"{url}/projects/{LARGE}/rounds")
        page.reload()
        expect(page.get_by_text("A round was asked for")).to_have_count(0)

        store.projects.update(LARGE, training_asked=None)
        page.go_back()
        expect(page.get_by_role("heading", name="Start a training round now?")).to_be_visible()
        assert len(sent) == 1
        page.get_by_role("button", name="Train now").click()
        expect(page.get_by_role("status")).to_contain_text("A round was asked for")
        assert len(sent) == 2
        store.projects.update(LARGE, training_asked=None)
        assert window.errors == []


def test_a_form_that_is_too_old_says_so_and_shows_the_way_on(browser: Browser, large: World) -> None:
    store = large.tools.store
    with served(large) as url, Watched(browser) as window:
        page = window.page
        window.open(f"{url}/projects/{LARGE}/confirm/train")
        page.locator("input[name=token]").evaluate("field => { field.value = 'of yesterday' }")
        page.get_by_role("button", name="Train now").click()
        expect(page.get_by_role("alert")).to_contain_text("too old")
        expect(page.get_by_text("Nothing was changed.")).to_be_visible()
        page.get_by_role("link", name="Ask me again").click()
        page.get_by_role("button", name="Train now").click()
        expect(page.get_by_role("status")).to_contain_text("A round was asked for")
        store.projects.update(LARGE, training_asked=None)


def test_the_running_round_is_told_politely_and_its_end_is_seen(browser: Browser, large: World) -> None:
    store = large.tools.store
    row = store.rounds.start(LARGE, revision=9, labels=80, reason="20 new labels", folder="/f", token=9)
    assert row is not None
    store.rounds.update(row.id, progress={"message": "epoch 3 of 10", "epoch": 3, "epochs": 10})
    with served(large) as url, Watched(browser) as window:
        page = window.page
        page.clock.install()
        window.open(f"{url}/projects/{LARGE}/rounds")
        message = page.get_by_role("status")
        expect(message).to_have_text("epoch 3 of 10")
        expect(page.get_by_role("progressbar", name="Epochs done")).to_have_attribute("value", "3")
        store.rounds.update(row.id, progress={"message": "epoch 4 of 10", "epoch": 4, "epochs": 10})
        page.clock.run_for(5_000)
        expect(message).to_have_text("epoch 4 of 10")
        store.rounds.end(row.id, "cancelled", "cancelled by a person")
        page.clock.run_for(5_000)
        expect(page.get_by_role("heading", name="No round is training")).to_be_visible()
        assert window.errors == []


def test_nothing_moves_for_those_who_asked_for_less_motion(browser: Browser, world: World) -> None:
    moving = {}
    with served(world) as url:
        for wish in ("reduce", "no-preference"):
            with Watched(browser, reduced_motion=wish) as window:
                window.open(f"{url}/projects/{KEY}/queue")
                moving[wish] = window.page.evaluate(MOVES)
    assert moving["reduce"] == 0
    assert moving["no-preference"] > 0


def test_times_are_those_of_the_reader(browser: Browser, world: World) -> None:
    with served(world) as url:
        shown = {}
        for zone in ("UTC", "Asia/Tokyo"):
            with Watched(browser, timezone_id=zone) as window:
                window.open(f"{url}/projects/{KEY}/events")
                shown[zone] = window.page.locator("time").first.inner_text()
    assert shown["UTC"].endswith(" UTC")
    assert shown["Asia/Tokyo"].endswith(" GMT+9") or shown["Asia/Tokyo"].endswith(" JST")
    assert shown["UTC"][:16] != shown["Asia/Tokyo"][:16]


def test_a_card_leads_to_the_image_on_the_platform(browser: Browser, world: World) -> None:
    first = world.platform.order()[0]
    with served(world) as url, Watched(browser) as window:
        window.open(f"{url}/projects/{KEY}/queue")
        card = window.page.locator(".card").first
        assert card.get_by_role("link").get_attribute("href") == world.platform.link(first)
        picture = card.get_by_role("img")
        assert picture.evaluate("image => [image.complete, image.naturalWidth]") == [True, 320]
        assert "predicted boxes" in str(picture.get_attribute("alt"))
        assert window.errors == []


def test_the_pages_work_without_scripts(browser: Browser, world: World) -> None:
    with served(world) as url, Watched(browser, java_script_enabled=False) as window:
        page = window.page
        page.set_viewport_size(ViewportSize(width=1280, height=900))
        window.open(f"{url}/projects/{KEY}/rounds")
        expect(page.locator("time").first).to_contain_text(" UTC")
        page.get_by_role("button", name="Go back").click()
        page.get_by_role("link", name="No, leave it").click()
        expect(page.get_by_role("heading", name="No round is training")).to_be_visible()
        assert window.errors == []
