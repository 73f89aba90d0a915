"""What the plots of the curve and of the map need: their library, points, and a policy that lets them be drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, make_response, render_template, request, url_for

from common.loop import asking
from common.loop.tools import Tools
from common.store.projects import ProjectRow
from common.web.backend import Backend
from common.web.kept import Kept
from common.web.pages import map as map_page
from common.web.pages.facts import PLATFORMS, Facts
from common.web.pages.library import STYLES, Library
from common.web.pages.plot import drawn, plot

POINTS_S = 30.0
"""The points of a map are as old at most, while no label comes: they are read from every image."""
POLICY = "Content-Security-Policy"


class Plots:
    """Contents of two tabs and the routes behind them.

    Args:
        backend: Of the web process.
        row: The project of a key. Raises UnknownNameError.
    """

    def __init__(self, backend: Backend, row: Callable[[str], ProjectRow]) -> None:
        self._backend = backend
        self._row = row
        self._library = Library()
        self._points = Kept(POINTS_S)

    def add_to(self, routes: Blueprint) -> None:
        """The routes that scripts of the two pages ask for."""
        routes.add_url_rule("/projects/<key>/map/points", "map_points", self.points)
        routes.add_url_rule("/projects/<key>/map/image", "map_image", self.image)
        routes.add_url_rule("/library/plotly-<wanted>.js", "library", self._library.respond)

    def curve(self, tools: Tools, row: ProjectRow, _: Facts) -> dict[str, Any]:
        """Of the tab."""
        found = asking.ANSWERS["curve"](tools, row)
        points = found["points"]
        return {"curve": found, "plot": plot(points), "drawn": drawn(points, row.spec.names), "library": self._url()}

    def map(self, _: Tools, row: ProjectRow, known: Facts) -> dict[str, Any]:
        """Of the tab."""
        return {"library": self._url(), **map_page.contents(self._backend, row, known)}

    def points(self, key: str) -> dict[str, Any]:
        """What the script of the map draws."""
        row = self._row(key)
        state = (row.created, row.revision, row.publication, self._backend.store.maps.publication(row.key))
        found: dict[str, Any] = self._points.of(row.key, state, lambda: map_page.points(self._backend, row))
        return found

    def image(self, key: str) -> Response:
        """What the map tells of one image, as a piece of a page."""
        row = self._row(key)
        found = map_page.image(self._backend, row, request.args.get("sample", ""))
        platform = PLATFORMS.get(row.platform, row.platform)
        return make_response(render_template("map-image.html", row=row, platform=platform, **found))

    def _url(self) -> str:
        return url_for("pages.library", wanted=self._library.version)


def let_draw(page: Response) -> Response:
    """Allow the page the library's own style elements and no others."""
    page.headers[POLICY] = page.headers[POLICY].replace("style-src 'self'", f"style-src 'self' {STYLES}")
    return page
