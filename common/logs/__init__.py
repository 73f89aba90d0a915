"""Logs: lines for people or for machines, one trace id from an event to the published order, and no secret in any."""

from common.logs.context import REQUEST_ID, begin, bound, current, end, fresh, of_error, taken
from common.logs.lines import environment, inherited, is_quiet, set_up
from common.logs.redaction import Redactor, known_secrets

__all__ = [
    "REQUEST_ID",
    "Redactor",
    "begin",
    "bound",
    "current",
    "end",
    "environment",
    "fresh",
    "inherited",
    "is_quiet",
    "known_secrets",
    "of_error",
    "set_up",
    "taken",
]
