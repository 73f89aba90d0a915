"""`python -m bench.pictures [URL]`: a picture of each page of a running service, as docs/ has them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from bench import inputs
from tests.live import FLAGS, chromium

VIEWS = ("queue", "rounds", "curve", "map", "review", "kpi", "events")
WIDTH, HEIGHT = 1360, 850
PHOTOGRAPHS: Any = {"type": "jpeg", "quality": 85}
"""A page full of photographs is three times as large as a PNG."""


@click.command()
@click.argument("url", default="http://127.0.0.1:9090")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=inputs.ROOT / "docs")
def main(url: str, out: Path) -> None:
    """Take page-NAME of the first project at URL."""
    executable = chromium()
    if executable is None:
        raise click.ClickException("no Chromium: install chromium, or name it in CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        take(browser, url.rstrip("/"), out)
        browser.close()


def take(browser: Browser, url: str, out: Path) -> None:
    """Each view by day, and the queue by night, too."""
    page = browser.new_page(viewport=ViewportSize(width=WIDTH, height=HEIGHT))
    _picture(page, url + "/", out / "page-projects.png")
    project = url + str(page.locator("a[href*='/projects/']").first.get_attribute("href")).removesuffix("/queue")
    for view in VIEWS:
        _picture(page, f"{project}/{view}", out / f"page-{view}{'.jpg' if view == 'queue' else '.png'}")
    page.emulate_media(color_scheme="dark")
    _picture(page, f"{project}/queue", out / "page-queue-dark.jpg")


def _picture(page: Page, address: str, path: Path) -> None:
    page.goto(address)
    page.wait_for_load_state("networkidle")
    if address.endswith("/map"):
        box = page.locator("#plane .scatterlayer .trace").last.locator("path.point").first.bounding_box()
        if box is not None:
            page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            page.locator("#told img").wait_for()
        page.wait_for_load_state("networkidle")
    page.screenshot(path=path, **PHOTOGRAPHS if path.suffix == ".jpg" else {})
    click.echo(path)


if __name__ == "__main__":
    sys.exit(main())
