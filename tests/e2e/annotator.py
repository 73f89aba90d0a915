"""A person who labels in Label Studio's own web page, by mouse. Selectors are those of 1.23.2."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, Response, ViewportSize, expect

from ls_backend.local_server import LocalLabelStudio

WAIT_MS = 60_000
WINDOW = ViewportSize(width=1400, height=900)

READY = """task => window.Htx?.task?.id == task && window.Konva?.stages.length > 0
    && Htx.annotationStore.selected?.objects.every(o => o.type !== 'image' || o.imageIsLoaded !== false)"""
STORED = """() => Htx.annotationStore.selected.regionStore.regions.map(r =>
    [r.labels.join(), r.x, r.y, r.width, r.height])"""
# Every box is one named rectangle on the stage; the others (image, selection, grid) have no such name.
DRAWN = """() => Konva.stages.flatMap(s => s.find('Rect')).filter(r =>
    r.name().includes('_transformable') && r.isVisible() && r.width() > 0 && r.stroke()).length"""
IMAGE = """() => { const image = Htx.annotationStore.selected.objects.find(o => o.type === 'image');
    return [image.stageWidth, image.stageHeight] }"""


@dataclass(frozen=True)
class Box:
    """A box on the screen, in percent of the image."""

    label: str
    x: float
    y: float
    width: float
    height: float


class BrowserAnnotator:
    """One browser window, logged in as one user."""

    def __init__(self, browser: Browser, label_studio: LocalLabelStudio, email: str, password: str) -> None:
        self.email = email
        self.url = label_studio.url
        self.queue = ""
        """What Label Studio called the queue of the last task, e.g. "Task lock"."""
        self._context = browser.new_context(viewport=WINDOW)
        self._context.set_default_timeout(WAIT_MS)
        self.page: Page = self._context.new_page()
        self._log_in(password)

    @property
    def task(self) -> int | None:
        """The task on the screen; None when there is none."""
        shown = self.page.locator(".lsf-current-task__task-id")
        if self._finished.is_visible() or shown.count() == 0:
            return None
        return int(re.findall(r"\d+", shown.first.inner_text())[0])

    def open(self, project: int) -> None:
        """Open the Data Manager of a project."""
        self.page.goto(f"{self.url}/projects/{project}/data")
        expect(self.page.get_by_role("button", name="Label All Tasks")).to_be_enabled(timeout=WAIT_MS)

    def label_all(self, project: int | None = None) -> int | None:
        """Click "Label All Tasks", in the Data Manager of this project or the one that is open.

        Returns:
            The task now on the screen; None when the queue is empty.
        """
        if project is not None:
            self.open(project)
        return self._next_after(self.page.get_by_role("button", name="Label All Tasks").click)

    def submit(self) -> int | None:
        """Submit what is drawn, pre-annotations as they are included; returns the next task."""
        return self._next_after(self.page.get_by_role("button", name="Submit current annotation").click)

    def skip(self) -> int | None:
        """Skip the task; returns the next one."""
        return self._next_after(self.page.get_by_role("button", name="skip-task").click)

    def boxes(self) -> list[Box]:
        """The boxes on the screen, once as many are painted as the page means to show."""
        self.page.wait_for_function(f"() => ({DRAWN})() === ({STORED})().length")
        return [Box(str(label), *map(float, place)) for label, *place in self.page.evaluate(STORED)]

    def listed(self) -> list[str]:
        """The labels in the list of regions beside the image, top first."""
        titles = self.page.locator(".lsf-outliner-item .lsf-outliner-item__title")
        return [title.strip() for title in titles.all_inner_texts()]

    def draw(self, label: str, x: float, y: float, width: float, height: float) -> None:
        """Choose a label and drag a new box; in percent of the image, over other boxes too."""
        before = len(self.boxes())
        self.page.locator(".lsf-label").filter(has_text=re.compile(rf"^\s*{re.escape(label)}\s*\d*\s*$")).click()
        left, top, wide, high = self._image()
        mouse, keyboard = self.page.mouse, self.page.keyboard
        # With the key held a drag that begins inside a box draws a new one; else it would move the old one.
        keyboard.down("ControlOrMeta")
        mouse.move(left + wide * x / 100, top + high * y / 100)
        mouse.down()
        mouse.move(left + wide * (x + width) / 100, top + high * (y + height) / 100, steps=8)
        mouse.up()
        keyboard.up("ControlOrMeta")
        self.page.wait_for_function(f"() => ({STORED})().length === {before + 1}")
        self.page.keyboard.press("Escape")

    def delete(self, position: int = 0) -> None:
        """Delete the box at this position of the list beside the image."""
        before = len(self.boxes())
        self.page.locator(".lsf-outliner-item").nth(position).click()
        self.page.keyboard.press("Backspace")
        self.page.wait_for_function(f"() => ({STORED})().length === {before - 1}")

    def picture(self, path: Path) -> None:
        """Save what is on the screen."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path)

    def close(self) -> None:
        """Close the window."""
        self._context.close()

    def _log_in(self, password: str) -> None:
        self.page.goto(f"{self.url}/user/login/")
        self.page.fill("#email", self.email)
        self.page.fill("#password", password)
        self.page.get_by_role("button", name="Log In").click()
        self.page.wait_for_url(lambda url: "/user/login" not in url)

    @property
    def _finished(self) -> Locator:
        return self.page.get_by_text("No More Tasks Left in Queue")

    def _next_after(self, click: Callable[[], None]) -> int | None:
        with self.page.expect_response(_is_next_task) as answered:
            click()
        answer = answered.value
        if answer.status == 404:
            self._finished.wait_for()
            return None
        if not answer.ok:
            raise AssertionError(f"Label Studio answered {answer.status} to the next task: {answer.text()[:300]}")
        body = answer.json()
        self.queue = str(body.get("queue"))
        self.page.wait_for_function(READY, arg=body["id"])
        expect(self.page.locator(".lsf-current-task__task-id")).to_contain_text(str(body["id"]), timeout=WAIT_MS)
        expect(self.page.get_by_role("button", name="Submit current annotation")).to_be_enabled(timeout=WAIT_MS)
        return self.task

    def _image(self) -> tuple[float, float, float, float]:
        place = self.page.locator(".konvajs-content").first.bounding_box()
        assert place is not None
        wide, high = self.page.evaluate(IMAGE)
        return place["x"], place["y"], float(wide), float(high)


def _is_next_task(response: Response) -> bool:
    return "/api/dm/actions" in response.url and "id=next_task" in response.url
