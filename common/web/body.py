"""What a request brings: a bounded JSON object, a limit in the query, or one sentence why not."""

from __future__ import annotations

import json
from typing import Any

from flask import request

from common.errors import HardfirstError

MAX_LIMIT = 1_000_000
"""Items of one answer; more are never asked for in earnest."""


class BadRequestError(HardfirstError):
    """A request that is not what the route takes; one sentence says what was wanted. Answered with 400."""


def json_object() -> dict[str, Any]:
    """The request's JSON object; depth and size are bounded.

    The content type must be JSON: a form or a script of a foreign web page cannot send that without asking us first
    (a CORS preflight, which is never granted), so that the password a browser remembers cannot be made to act.

    Raises:
        BadRequestError: It is not a JSON object.
    """
    if not request.is_json:
        raise BadRequestError(f"the content type is {request.mimetype!r}; send application/json")
    try:
        found = json.loads(request.get_data(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"the body is not JSON: {error}; send an object") from error
    if not isinstance(found, dict):
        raise BadRequestError(f"the body is a JSON {type(found).__name__}; send an object")
    return found


def limit() -> int | None:
    """``?limit=`` of the request, None where it has none. Raises BadRequestError."""
    text = request.args.get("limit")
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_LIMIT)) and int(text) <= MAX_LIMIT):
        raise BadRequestError(f"limit is {text!r}; give a whole number from 0 to {MAX_LIMIT}")
    return int(text)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")
