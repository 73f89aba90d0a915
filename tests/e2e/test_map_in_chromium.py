"""The map and the curve in a real Chromium: drawn by the library we serve, told under the mouse and by keyboard."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from pages_desk import Watched, answer, go_through_rounds, served, settle
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from common.domain import ClassMapping, Instances, Prediction
from common.ports import Model
from common.sample.oracle import FolderOracle
from tests.fakes import FakeMedia, FakeModels, World, make_world
from tests.unit import gallery_pool as pool
from tests.unit.test_loop import KEY as LARGE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

KEY = "label-studio:14"
FRAMES = 533
MANY = 5_600
TRACES = ("other", "labelled", "uncertain", "queued")
"""Groups in the order in which they are drawn, the last on top."""


class DashCam:
    """A model whose embedding is what the frame looks like, and that is the less sure the darker the frame is."""

    classes = ("plate",)

    def __init__(self, oracle: FolderOracle) -> None:
        self._oracle = oracle

    def predict(self, paths: list[Path]) -> list[Prediction | str]:
        return [self._one(path) for path in paths]

    def _one(self, path: Path) -> Prediction:
        with Image.open(path) as image:
            width, height = image.size
            small = np.asarray(image.convert("RGB").resize((12, 9)), np.float32) / 255
        there = self._oracle.answer(path.name)
        boxes = np.array([b.xyxy for b in there], np.float32).reshape(-1, 4) * (width, height, width, height)
        rng = np.random.default_rng(len(path.name) + int(small.sum() * 1000))
        scores = rng.beta(1 + 6 * small.mean(), 1.2, (len(there), 1)).astype(np.float32)
        none, spread = np.zeros(1, np.float32), np.zeros(len(there), np.float32)
        instances = Instances(boxes.astype(np.float32), scores)
        return Prediction(instances, small.ravel() - small.mean(), none, none + 0.05, spread, width, height)


class DashCams(FakeModels):
    def __init__(self, oracle: FolderOracle) -> None:
        super().__init__(DashCam.classes)
        self._oracle = oracle

    def install(self, trained: Path) -> Model:
        self.installed += 1
        return Model(trained, f"{self.installed}" * 64, self.names)

    def detector(self, *_: Any, **__: Any) -> Any:
        return DashCam(self._oracle)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Iterator[World]:
    """533 frames of a dash-cam, the real loop, order, store and map; 140 frames are labelled, four rounds were made."""
    world = make_world(tmp_path_factory.mktemp("map"), 0, min_new_labels=20, imgsz=320, gate_images=12, first_block=600)
    store, images = world.tools.store, shared / "data/plates/images"
    store.forget("fake:1")
    store.projects.ask("label-studio", "14")
    world.platform.title, world.platform.classes = "Licence plates", (ClassMapping("plate"),)
    files = sorted(p.name for p in images.iterdir())
    world.platform.tasks = {str(1000 + n): name for n, name in enumerate(files)}
    oracle, media = FolderOracle(shared / "data/plates/labels", ["plate"]), FakeMedia(images)
    world.tools.media = media  # type: ignore[assignment]
    world.tools.models, world.clock[0] = DashCams(oracle), time.time()
    go_through_rounds(world, oracle, (0.42, 0.61, 0.57, 0.74), 30)
    answer(world, oracle, 20)
    settle(world)
    yield world
    world.tools.store.close()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """More images than are drawn, on a map made up."""
    world = make_world(tmp_path_factory.mktemp("large"), 1)
    world.models.names = pool.CLASSES
    order = pool.fill(world, MANY)
    ids = np.array([s.id for s in world.tools.store.samples.all(LARGE)], np.int64)
    points = np.random.default_rng(0).uniform(-1, 1, (MANY, 2)).astype(np.float32)
    world.tools.store.maps.put(LARGE, order.id, 1.0, ids, points)
    yield world
    world.tools.store.close()


def group(page: Page, name: str) -> Locator:
    return page.locator("#plane .scatterlayer .trace").nth(TRACES.index(name)).locator("path.point")


def middle(point: Locator) -> tuple[float, float]:
    box = point.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_map_and_curve_are_drawn_without_an_error_and_nobody_else_is_asked(browser: Browser, world: World) -> None:
    with served(world) as url:
        for scheme in ("light", "dark"):
            with Watched(browser, color_scheme=scheme) as window:
                page = window.page
                window.open(f"{url}/projects/{KEY}/map")
                expect(page.locator("#plane path.point")).to_have_count(FRAMES)
                page.mouse.move(*middle(group(page, "queued").nth(3)))
                picture = page.locator("#told img")
                expect(picture).to_be_visible()
                page.wait_for_function("() => document.querySelector('#told img').naturalWidth > 100")
                expect(page.locator("#told .rank")).to_have_text("4")
                expect(page.locator("#told .reason")).to_contain_text("plate")
                window.picture("map" if scheme == "light" else "map-dark")
                window.open(f"{url}/projects/{KEY}/curve")
                expect(page.locator("#curve .errorbar")).to_have_count(4)
                expect(page.locator("#curve-still")).to_be_hidden()
                assert window.errors == []
                assert window.hosts == {urlsplit(url).netloc}


def test_the_map_is_walked_by_keyboard_and_a_click_opens_the_image_on_the_platform(
    browser: Browser, world: World
) -> None:
    first, second, *_ = world.platform.order()
    with served(world) as url, Watched(browser) as window:
        page = window.page
        window.context.route("http://platform/**", lambda route: route.fulfill(body="the platform"))
        window.open(f"{url}/projects/{KEY}/map")
        link = page.locator("#told h3 a")
        page.get_by_role("application", name="Map of images").focus()
        page.keyboard.press("ArrowRight")
        expect(link).to_have_attribute("href", world.platform.link(first))
        page.keyboard.press("ArrowRight")
        expect(link).to_have_attribute("href", world.platform.link(second))
        page.keyboard.press("ArrowUp")
        expect(page.locator("#told .reason")).to_have_text("A person has labelled it.")
        page.keyboard.press("ArrowDown")
        expect(page.locator("#told .rank")).to_have_text("1")
        with window.context.expect_page() as opened:
            page.keyboard.press("Enter")
        assert opened.value.url == world.platform.link(first)
        with window.context.expect_page() as opened:
            page.mouse.click(*middle(group(page, "queued").nth(1)))
        assert opened.value.url == world.platform.link(second)
        assert window.errors == []


def test_groups_are_switched_off_and_the_map_is_looked_at_closer(browser: Browser, world: World) -> None:
    with served(world) as url, Watched(browser) as window:
        page = window.page
        window.open(f"{url}/projects/{KEY}/map")
        expect(page.locator("#plane path.point")).to_have_count(FRAMES)
        labelled = group(page, "labelled").count()
        page.get_by_role("checkbox", name="labelled").uncheck()
        expect(page.locator("#plane path.point")).to_have_count(FRAMES - labelled)
        page.get_by_role("checkbox", name="labelled").check()
        expect(page.locator("#plane path.point")).to_have_count(FRAMES)
        width = "document.getElementById('plane')._fullLayout.xaxis.range.reduce((low, high) => high - low)"
        whole = page.evaluate(width)
        page.get_by_role("button", name="Zoom in").click()
        page.wait_for_function(f"{width} < 0.7 * {whole}")
        page.get_by_role("button", name="Show all").click()
        page.wait_for_function(f"Math.abs({width} - {whole}) < 0.01")
        assert window.errors == []


def test_the_curve_shows_a_class_by_choice_and_tells_its_figures(browser: Browser, world: World) -> None:
    with served(world) as url, Watched(browser) as window:
        page = window.page
        window.open(f"{url}/projects/{KEY}/curve")
        page.mouse.move(*middle(page.locator("#curve path.point").last))
        expect(page.locator("#curve .hoverlayer")).to_contain_text("90 % interval")
        page.get_by_label("Show").select_option(label="AP50 of plate")
        expect(page.locator("#curve-what")).to_have_text("AP50 of plate, over labelled images")
        expect(page.locator("#curve .errorbar")).to_have_count(0)
        expect(page.locator("#curve path.point")).to_have_count(4)
        assert window.errors == []


def test_both_pages_say_the_same_without_scripts(browser: Browser, world: World) -> None:
    with served(world) as url, Watched(browser, java_script_enabled=False) as window:
        window.open(f"{url}/projects/{KEY}/curve")
        expect(window.page.locator("#curve-still circle")).to_have_count(4)
        expect(window.page.get_by_label("Show")).to_be_hidden()
        window.open(f"{url}/projects/{KEY}/map")
        expect(window.page.get_by_text("140 images are labelled")).to_be_visible()
        assert window.errors == []


def test_of_a_large_project_five_thousand_points_are_drawn_in_seconds(browser: Browser, large: World) -> None:
    with served(large) as url, Watched(browser) as window:
        page = window.page
        window.open(f"{url}/projects/{LARGE}/map")
        expect(page.locator("#plane path.point")).to_have_count(5_000, timeout=30_000)
        expect(page.locator("#drawn")).to_contain_text("5,000 of 5,600 images are drawn")
        page.get_by_role("application", name="Map of images").focus()
        page.keyboard.press("ArrowRight")
        expect(page.locator("#told .rank")).to_have_text("1")
        assert window.errors == []
        assert window.hosts == {urlsplit(url).netloc}


@pytest.mark.parametrize("view", ["map", "curve"])
def test_both_pages_fit_a_telephone(browser: Browser, world: World, view: str) -> None:
    with served(world) as url, Watched(browser, 390, 844) as window:
        window.open(f"{url}/projects/{KEY}/{view}")
        expect(window.page.locator("path.point").first).to_be_visible()
        window.picture(f"{view}-390")
        assert window.page.evaluate("document.documentElement.scrollWidth") <= 390
