"""The body of a request: a bounded JSON object, or one sentence why not."""

from __future__ import annotations

import json
from typing import Any

from flask import request

from common.errors import HardfirstError


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


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")
