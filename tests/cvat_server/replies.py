"""How the stand-in CVAT answers: bodies and content types of good and bad news, as recorded."""

from __future__ import annotations

import json
from typing import Any

from flask import Response, request

VND = "application/vnd.cvat+json"
_PAGE = """
<!doctype html>
<html lang="en">
<head>
  <title>{title}</title>
</head>
<body>
  <h1>{title}</h1><p>{text}</p>
</body>
</html>
"""


class RefusalError(Exception):
    """A request that is turned down; `body` is JSON (dict, list, str) unless `html`."""

    def __init__(self, status: int, body: Any, *, html: bool = False, headers: dict[str, str] | None = None) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body
        self.html = html
        self.headers = headers or {}

    def response(self) -> Response:
        if not self.html:
            return reply(self.body, self.status, self.headers)
        return Response(self.body, self.status, self.headers, content_type="text/html; charset=utf-8")


def reply(body: Any = None, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer of CVAT's content type; no bytes at all for None."""
    text = "" if body is None else json.dumps(body)
    return Response(text, status, headers, content_type=VND)


def missing(kind: str) -> RefusalError:
    return RefusalError(404, {"detail": f"No {kind} matches the given query."})


def forbidden(detail: str = "You do not have permission to perform this action.") -> RefusalError:
    return RefusalError(403, {"detail": detail})


def invalid(body: Any) -> RefusalError:
    return RefusalError(400, body)


def not_a_page() -> RefusalError:
    """An address that the server does not have: an HTML page."""
    text = "The requested resource was not found on this server."
    return RefusalError(404, _PAGE.format(title="Not Found", text=text), html=True)


def server_error() -> RefusalError:
    """An unhandled error inside CVAT: an HTML page, not JSON."""
    return RefusalError(500, _PAGE.format(title="Server Error (500)", text=""), html=True)


def sent() -> dict[str, Any]:
    """The JSON object in the request's body; {} when there is none.

    Raises:
        RefusalError: 400, the body is no JSON object.
    """
    if not request.get_data():
        return {}
    body = request.get_json(force=True, silent=True)
    if not isinstance(body, dict):
        raise invalid({"detail": "JSON parse error"})
    return body
