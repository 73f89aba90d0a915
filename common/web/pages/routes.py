"""/ and /projects/KEY/...: every view, its headers, its errors. Reads through the loop and the store like /api does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from flask import Blueprint, Response, make_response, redirect, render_template, request, url_for
from werkzeug.exceptions import HTTPException

from common.errors import HardfirstError, MediaError, RefusedError, UnknownNameError
from common.loop import asking, way_back
from common.loop.tools import Tools
from common.media.thumbnails import LONG_SIDE, Thumbnails
from common.store.gallery import SHOW
from common.store.projects import ProjectRow
from common.store.reviews import STATES
from common.store.samples import SampleRow
from common.web.backend import Backend
from common.web.body import BadRequestError
from common.web.kept import Kept
from common.web.pages import actions, queue
from common.web.pages.facts import VERDICTS, Facts, facts
from common.web.pages.figures import tables
from common.web.pages.forms import FIELD, ForeignFormError, Forms, ReadOnlyError
from common.web.pages.plots import Plots, let_draw
from common.web.pages.review import findings
from common.web.pages.versions import keep_static, name_version
from common.web.pages.words import FILTERS

TABS = {
    "queue": "Queue",
    "rounds": "Rounds",
    "curve": "Curve",
    "map": "Map",
    "review": "Review",
    "kpi": "Figures",
    "events": "Events",
}
"""View -> what its tab is called."""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
KEPT_S = 2.0
"""What is counted for the head of a page is as old at most, while no label comes."""
FIGURES_S = 30.0
"""So are the figures, which read every answer."""
EVENTS = 200
"""Lines of the journal on its page."""
_STATUS: dict[type[HardfirstError], int] = {
    BadRequestError: 400,
    ForeignFormError: 403,
    ReadOnlyError: 403,
    UnknownNameError: 404,
    RefusedError: 409,
}


def wants_page() -> bool:
    """Whether a browser asks, which says that it takes HTML; scripts and platforms take anything, or JSON."""
    return any(kind == "text/html" and quality > 0 for kind, quality in request.accept_mimetypes)


def blueprint(backend: Backend) -> Blueprint:
    """The routes of the pages, and of what belongs to them."""
    pages = _Pages(backend)
    routes = Blueprint("pages", __name__, template_folder="../templates", static_folder="../static")
    for name, words in FILTERS.items():
        routes.add_app_template_filter(words, name)
    routes.before_app_request(lambda: pages.home() if request.path == "/" and _shows() else None)
    routes.add_url_rule("/", "home", pages.home)
    routes.add_url_rule("/favicon.ico", "favicon", lambda: redirect(url_for("pages.static", filename="icon.svg")))
    routes.add_url_rule("/projects/<key>", "project", pages.project)
    for view in TABS:
        routes.add_url_rule(f"/projects/<key>/{view}", view, pages.view(view))
    routes.add_url_rule("/projects/<key>/progress", "progress", pages.progress)
    pages.plots.add_to(routes)
    routes.add_url_rule("/projects/<key>/thumbnails/<sample>", "thumbnail", pages.thumbnail)
    routes.add_url_rule("/projects/<key>/confirm/<action>", "confirm", pages.confirm)
    routes.add_url_rule("/projects/<key>/actions/<action>", "act", pages.act, methods=["POST"])
    routes.register_error_handler(HardfirstError, _refused)
    routes.register_error_handler(HTTPException, _missing)
    routes.after_request(_with_headers)
    routes.after_request(keep_static)
    routes.url_defaults(name_version)
    return routes


def _shows() -> bool:
    return request.method in ("GET", "HEAD") and wants_page()


def _with_headers(response: Response) -> Response:
    for name, value in {**HEADERS, "Cache-Control": "no-cache"}.items():
        response.headers.setdefault(name, value)
    return response


def _page(template: str, code: int = 200, **values: Any) -> Response:
    response = make_response(render_template(template, **values), code)
    response.vary.add("Accept")
    return _with_headers(response)


def problem(text: str, status: int) -> Response:
    """A page that says one sentence."""
    return _page("problem.html", status, text=text, code_shown=status)


def _refused(error: HardfirstError) -> Response:
    status = next((s for kind, s in _STATUS.items() if isinstance(error, kind)), 503)
    return problem(str(error), status)


def _missing(error: HTTPException) -> Response:
    return problem(error.description or error.name, error.code or 500)


class _Pages:
    """The views; holds nothing but what it reads with."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._forms = Forms(backend.settings)
        self._kept = Kept(KEPT_S)
        self._figures = Kept(FIGURES_S)
        self.plots = Plots(backend, self._row)
        self._thumbnails = Thumbnails(backend.settings.folder / "thumbnails")
        self._contents: dict[str, Callable[[Tools, ProjectRow, Facts], dict[str, Any]]] = {
            "queue": self._queue,
            "rounds": self._rounds,
            "curve": self.plots.curve,
            "map": self.plots.map,
            "review": self._review,
            "kpi": self._kpi,
            "events": lambda tools, row, _: {"events": tools.store.journal.newest(row.key, EVENTS)},
        }

    # --- views -------------------------------------------------------------------------------------------

    def home(self) -> Response:
        """Every project."""
        rows = self._backend.store.projects.all()
        return _page("projects.html", projects=[facts(self._tools(), row, self._kept) for row in rows])

    def project(self, key: str) -> Any:
        """The first tab."""
        return redirect(url_for("pages.queue", key=key))

    def view(self, name: str) -> Callable[[str], Response]:
        """The view of one tab."""

        def show(key: str) -> Response:
            row, tools = self._row(key), self._tools()
            frame = self._frame(tools, row, name)
            contents = self._contents[name](tools, row, frame["facts"])
            shown = _page(f"{name}.html", **frame, **contents)
            return let_draw(shown) if "library" in contents else shown

        return show

    def progress(self, key: str) -> dict[str, Any]:
        """What the script of the rounds page asks for every few seconds."""
        row = self._row(key)
        running = self._backend.store.rounds.running(row.key)
        if running is None:
            return {"running": 0, "message": "", "epoch": 0, "epochs": 0}
        told = running.progress
        counted = {name: told.get(name) or 0 for name in ("epoch", "epochs")}
        return {"running": running.number, "message": told.get("message") or "starting", **counted}

    def thumbnail(self, key: str, sample: str) -> Response:
        """A small picture, or a drawing that says why there is none."""
        row = self._row(key)
        found = self._backend.store.samples.some(row.key, [sample]).get(sample)
        if found is None:
            raise UnknownNameError(f"{row.key} has no image {sample[:60]!r}")
        tag = f"{found.sha256}-{LONG_SIDE}"
        if found.sha256 and request.if_none_match.contains(tag):
            return make_response(b"", 304)
        body = self._small(found)
        if body is None:
            text = found.problem or "This image is no longer kept on disk."
            drawn = make_response(render_template("no-picture.svg", text=text))
            drawn.content_type, drawn.headers["Cache-Control"] = "image/svg+xml; charset=utf-8", "no-store"
            return drawn
        picture = make_response(body)
        picture.content_type, picture.headers["Cache-Control"] = "image/jpeg", "private, max-age=86400"
        picture.set_etag(tag)
        return picture

    def _small(self, sample: SampleRow) -> bytes | None:
        original = self._backend.tools.media.path(sample.sha256) if sample.sha256 and not sample.problem else None
        try:
            return self._thumbnails.of(sample.sha256 or "", original) if original else None
        except MediaError:
            return None

    def confirm(self, key: str, action: str) -> Response:
        """Asks back."""
        row, wanted = self._row(key), actions.named(action)
        if self._backend.settings.read_only:
            raise ReadOnlyError("HARDFIRST_READ_ONLY is set: nothing can be changed here; commands still can")
        asked_back, fields = actions.question(wanted, request.args)
        frame = self._frame(self._tools(), row, wanted.back)
        return _page("confirm.html", **frame, name=action, action=wanted, question=asked_back, fields=fields)

    def act(self, key: str, action: str) -> Any:
        """Does it, when the form is ours."""
        self._forms.check()
        row, wanted = self._row(key), actions.named(action)
        wanted.do(self._tools(), row, request.form)
        return redirect(url_for(f"pages.{wanted.back}", key=row.key, did=action), 303)

    # --- contents of the tabs ----------------------------------------------------------------------------

    def _queue(self, _: Tools, row: ProjectRow, known: Facts) -> dict[str, Any]:
        form = queue.asked(request.args)
        active = self._backend.store.publications.get(row.publication) if row.publication else None
        page = queue.page(self._backend, row, active, form, known.open) if active else None
        given = {k: v for k, v in request.args.items() if k in ("show", "reason", "class") and v}
        return {"form": form, "active": active, "page": page, "given": given, "kinds": list(SHOW)}

    def _rounds(self, tools: Tools, row: ProjectRow, _: Facts) -> dict[str, Any]:
        history = asking.ANSWERS["rounds"](tools, row)["rounds"]
        running = next((r for r in history if r["state"] == "running"), None)
        back = [] if self._backend.settings.read_only else way_back.restorable(tools, row)
        return {"rounds": history[::-1], "running": running, "back": back[::-1], "verdicts": VERDICTS}

    def _kpi(self, tools: Tools, row: ProjectRow, _: Facts) -> dict[str, Any]:
        state = (row.created, row.revision, row.checkpoint, row.publication)
        return {"tables": self._figures.of(row.key, state, lambda: tables(asking.ANSWERS["kpi"](tools, row)))}

    def _review(self, tools: Tools, row: ProjectRow, _: Facts) -> dict[str, Any]:
        state = request.args.get("state") or "open"
        start = queue.asked({"start": request.args.get("start", "")}).start
        found = asking.review(tools, row, state, start=start, limit=queue.PAGE, links=self._backend.links)["review"]
        total = tools.store.reviews.count(row.key, state)
        after = start + queue.PAGE if start + queue.PAGE < total else None
        return {
            **{"findings": findings(self._backend, row, found), "total": total, "start": start, "after": after},
            **{"state": state, "states": STATES},
        }

    # --- what every view needs ---------------------------------------------------------------------------

    def _frame(self, tools: Tools, row: ProjectRow, view: str) -> dict[str, Any]:
        did = actions.ACTIONS.get(request.args.get("did", ""))
        return {
            "row": row,
            "facts": facts(tools, row, self._kept),
            "tabs": TABS,
            "view": view,
            "did": did.done if did else "",
            "page_size": queue.PAGE,
            "read_only": self._backend.settings.read_only,
            "field": FIELD,
            "token": self._forms.token(),
        }

    def _row(self, key: str) -> ProjectRow:
        row = self._backend.store.projects.get(key)
        if row is None:
            raise UnknownNameError(f"no project {key[:60]!r}")
        return row

    def _tools(self) -> Tools:
        """With a memory of labels of its own: requests come in many threads."""
        return replace(self._backend.tools, labels={}, seconds={})
