"""The stand-in CVAT as a Flask application over one `World`."""

from __future__ import annotations

import traceback

from flask import Flask, Response
from werkzeug.exceptions import HTTPException

from tests.cvat_server import annotations as shapes
from tests.cvat_server import background, data, logins, resources, webhooks
from tests.cvat_server.faults import faults_of, guard
from tests.cvat_server.replies import RefusalError, not_a_page, server_error
from tests.cvat_server.world import World


def create_app(world: World) -> Flask:
    """All routes over `world`, both with and without a trailing slash.

    An error of the stand-in itself is answered as CVAT answers its own, and kept in `world.crashes`.
    """
    app = Flask(__name__)
    app.url_map.strict_slashes = False
    for module in (resources, logins, data, background, shapes, webhooks):
        app.register_blueprint(module.blueprint(world))
    _guard(app, world)

    @app.errorhandler(RefusalError)
    def refuse(error: RefusalError) -> Response:
        return error.response()

    @app.errorhandler(Exception)
    def crash(error: Exception) -> Response:
        if isinstance(error, HTTPException):
            return not_a_page().response() if error.code == 404 else Response(error.get_body(), error.code or 500)
        world.crashes.append(traceback.format_exc())
        return server_error().response()

    return app


def _guard(app: Flask, world: World) -> None:
    @app.before_request
    def before() -> Response | None:
        found = guard(world)
        if found is None:
            background.settle(world)
        return found

    @app.after_request
    def after(response: Response) -> Response:
        return faults_of(world).on_response(response)
