"""Each way CVAT says no becomes one sentence with the fix."""

from __future__ import annotations

from typing import Any

import pytest
import urllib3

from common.errors import AccessDeniedError, PlatformError, PlatformUnreachableError, ProjectGoneError
from cvat_adapter import refusals
from cvat_adapter.refusals import again_in_s, refusal, unreachable, words

BASE = "http://cvat.example:8080"
NO_RIGHT = {"detail": "You do not have permission to perform this action."}
SERVER_ERROR = "<!doctype html>\n<html><head><title>Server Error (500)</title></head><h1>Server Error (500)</h1></html>"


def said(status: int, body: Any, **more: Any) -> PlatformError:
    return refusal(status, body, base=BASE, what="list the jobs of project 4", **more)


@pytest.mark.parametrize(
    ("status", "body", "more", "kind", "sentence"),
    [
        (401, {"detail": "Invalid token."}, {}, AccessDeniedError, "CVAT_ACCESS_TOKEN (wrong, revoked or expired)"),
        (401, {"detail": "Invalid token."}, {}, AccessDeniedError, "not read-only in CVAT (profile > Security)"),
        (401, {"detail": "x"}, {"token": False}, AccessDeniedError, "the session of CVAT_USERNAME"),
        (403, NO_RIGHT, {"read_only": True}, AccessDeniedError, "is read-only"),
        (403, NO_RIGHT, {"organization": "lab"}, AccessDeniedError, "it takes a maintainer of organization 'lab'"),
        (403, NO_RIGHT, {}, AccessDeniedError, "it takes the project's owner"),
        (404, {"detail": "nope organization does not exist."}, {}, PlatformError, "no organization 'nope': give --org"),
        (404, {"detail": "No Project matches"}, {"project": "4"}, ProjectGoneError, "no project 4: it was deleted"),
        (404, {"detail": "No Job matches the given query."}, {}, PlatformError, "No Job matches the given query."),
        (404, "<h1>Not Found</h1>", {"project": "4"}, PlatformError, "does not answer like CVAT"),
        (302, "", {}, PlatformError, "does not answer like CVAT"),
        (301, "", {"headers": {"Location": "https://cvat.example/"}}, PlatformError, "set CVAT_URL to https://cvat"),
        (400, "The plain HTTP request was sent to HTTPS port", {}, PlatformError, "does not answer by http: set"),
        (500, SERVER_ERROR, {}, PlatformUnreachableError, "failed to list the jobs of project 4 (status 500)"),
        (502, "<h1>502 Bad Gateway</h1>", {}, PlatformUnreachableError, "try again later"),
        (429, {"detail": "Throttled"}, {"headers": {"Retry-After": "59"}}, PlatformUnreachableError, "again in 59 s"),
        (400, {"state": ['"x" is not a valid choice.']}, {}, PlatformError, '(status 400): "x" is not a valid choice.'),
        (400, ["Adding more data is not supported"], {}, PlatformError, "(status 400): Adding more data is not"),
    ],
)
def test_a_refusal_is_told_by_its_kind(
    status: int, body: Any, more: dict[str, Any], kind: type[PlatformError], sentence: str
) -> None:
    error = said(status, body, **more)
    assert type(error) is kind or (kind is PlatformUnreachableError and isinstance(error, kind))
    assert sentence in str(error)
    assert "<" not in str(error)


@pytest.mark.parametrize(("wait", "seconds"), [("10", 10.0), ("", 0.0), ("Fri, 20 Nov 2026 18:00:00 GMT", 0.0)])
def test_a_wait_that_cvat_asks_for_is_known(wait: str, seconds: float) -> None:
    assert again_in_s(said(429, {}, headers={"Retry-After": wait})) == seconds


def test_a_wrong_password_is_told_by_the_login() -> None:
    error = refusals.wrong_password(BASE, "ada", {"non_field_errors": ["Unable to log in with provided credentials."]})
    assert isinstance(error, AccessDeniedError)
    assert "CVAT_USERNAME 'ada'" in str(error)
    assert "Unable to log in" in str(error)


def test_a_traceback_is_cut_to_its_last_line() -> None:
    message = "Traceback (most recent call last):\n  File x\nPIL.UnidentifiedImageError: cannot identify image file\n"
    error = refusals.failed_request(BASE, "make a task", message)
    assert str(error).endswith("could not make a task: PIL.UnidentifiedImageError: cannot identify image file")


@pytest.mark.parametrize("message", [None, "", "\n"])
def test_a_failure_without_words_is_said_as_such(message: str | None) -> None:
    assert "gives no reason" in str(refusals.failed_request(BASE, "make a task", message))


POOL = urllib3.HTTPConnectionPool("cvat.example", 8080)


def tried(cause: Exception) -> urllib3.exceptions.MaxRetryError:
    return urllib3.exceptions.MaxRetryError(POOL, "/api/jobs?secret=1", cause)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (urllib3.exceptions.ReadTimeoutError(POOL, "/", "Read timed out."), "did not answer in time"),
        (tried(urllib3.exceptions.ConnectTimeoutError("slow")), "did not answer in time"),
        (tried(urllib3.exceptions.ProtocolError("Connection aborted.", OSError())), "(it closed the connection)"),
        (urllib3.exceptions.ProtocolError("Connection aborted.", OSError()), "(it closed the connection)"),
        (tried(urllib3.exceptions.SSLError("[SSL: WRONG_VERSION_NUMBER] wrong version")), "does not answer by http"),
        (tried(urllib3.exceptions.SSLError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed")), "set SSL_CERT_FILE"),
        (urllib3.exceptions.LocationParseError("x"), "cannot be reached"),
    ],
)
def test_no_answer_is_told_by_its_cause(error: Exception, sentence: str) -> None:
    found = str(unreachable(BASE, "list the jobs", error))
    assert sentence in found
    assert "secret" not in found


def test_words_are_plain_and_short() -> None:
    assert words({"detail": ["a <b>bold</b>", {"more": "word"}]}) == "a bold word"
    assert words(None) == "None"
    assert len(words("x" * 1000)) == refusals.LONGEST + 3


@pytest.mark.parametrize(
    ("status", "body", "over"),
    [
        (401, {"detail": "Authentication credentials were not provided."}, True),
        (403, {"detail": "CSRF Failed: CSRF token missing."}, True),
        (403, NO_RIGHT, False),
        (500, SERVER_ERROR, False),
    ],
)
def test_a_session_is_renewed_only_when_it_is_over(status: int, body: Any, *, over: bool) -> None:
    assert refusals.session_is_over(status, body) is over
