"""CVAT's HTTP interface, JSON in and JSON out: paging, patience, and refusals as errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from tenacity import RetryCallState, Retrying, retry_if_exception

from common.config import Settings
from common.errors import PlatformError, PlatformUnreachableError, SettingError
from cvat_adapter import refusals, uploads
from cvat_adapter.session import Answer, Session, Text

if TYPE_CHECKING:
    from common.ports import Memory
    from cvat_adapter.listening import Saver
    from cvat_adapter.project import CvatPlatform

WRITE_S, UPLOAD_S, IMPORT_S = 60.0, 300.0, 900.0
"""Time limits: of one write, of one upload request, of taking in the data of a new task."""
PATIENCE_S = 15.0
"""A longer Retry-After is not waited for: the loop has better things to do."""
PAGE = 100
"""Rows of one page; CVAT gives 10 unless asked."""

T = TypeVar("T")


class Api:
    """CVAT's HTTP interface; every failure is a PlatformError. One thread at a time."""

    def __init__(self, base: str, *, token: str = "", username: str = "", password: str = "") -> None:
        """Nothing is sent yet; for the arguments see ``Session``."""
        self.base = base
        self._session = Session(base, token=token, username=username, password=password)
        self.close = self._session.close

    @property
    def organization(self) -> str | None:
        """Short name of the organization that every request is made in; None = whatever the user may see."""
        return self._session.organization

    @organization.setter
    def organization(self, slug: str | None) -> None:
        self._session.organization = slug

    @property
    def has_token(self) -> bool:
        """Whether an access token is used, not a password."""
        return self._session.has_token

    def media_headers(self) -> dict[str, str]:
        """Authorisation of image downloads, logged in where need be. Secret."""
        wanted = ("Authorization", "Cookie", "X-Organization")
        return {name: value for name, value in self._session.headers().items() if name in wanted}

    # --- reading -----------------------------------------------------------------------------------------

    def get(self, path: str, params: Mapping[str, Any] | None = None, *, what: str, gone: str = "") -> Any:
        """JSON of a GET, tried three times where another try may help.

        Args:
            path: Below ``base``, without a leading slash.
            params: Of the query.
            what: In words, for messages: 'list the jobs of project 5'.
            gone: The project that is gone when the answer is 404.
        """
        return _patiently(lambda: self._json(self._session.ask("GET", path, params, what=what), what, gone), tries=3)

    def pages(
        self, path: str, params: Mapping[str, Any] | None = None, *, what: str, gone: str = ""
    ) -> Iterator[dict[str, Any]]:
        """Every row of a list, 100 per request; ``params`` may hold ``filter``, a JsonLogic text."""
        number = 1
        while True:
            # A later page that is not there means a list that became shorter, not a project that is gone.
            some, more = self.page(path, {**(params or {}), "page": number}, what=what, gone="" if number > 1 else gone)
            yield from some
            if not more:
                return
            number += 1

    def page(
        self, path: str, params: Mapping[str, Any], *, what: str, gone: str = ""
    ) -> tuple[list[dict[str, Any]], bool]:
        """(at most 100 rows of a list, whether there are more)."""
        page = self.get(path, {"page_size": PAGE, **params}, what=what, gone=gone)
        if not isinstance(page, Mapping) or not isinstance(page.get("results"), list):
            raise refusals.not_cvat(self.base, 200)
        return page["results"], bool(page.get("next"))

    def bytes(self, path: str, params: Mapping[str, Any] | None = None, *, what: str) -> bytes:
        """The body of a GET as it is; a chunk that CVAT is still building is waited for, about a minute.

        Where CVAT breaks down or hangs over it one more try is all: a hundred broken chunks must not hold up the rest.
        """

        def once() -> bytes:
            answer = self._session.ask("GET", path, params, what=what, more_headers={})
            if not answer.good:
                raise self._refusal(answer, what)
            return answer.raw

        return _patiently(once, tries=2, busy=6)

    # --- writing -----------------------------------------------------------------------------------------

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        params: Mapping[str, Any] | None = None,
        *,
        what: str,
        gone: str = "",
        limit_s: float = WRITE_S,
    ) -> Any:
        """JSON of a write, None where CVAT says nothing; never repeated. Arguments as of ``get``."""
        answer = self._session.ask(method, path, params, what=what, body=body, limit_s=limit_s)
        return self._json(answer, what, gone, writing=True)

    def try_send(
        self, method: str, path: str, body: Any = None, params: Mapping[str, Any] | None = None, *, what: str
    ) -> tuple[int, Any]:
        """(status, JSON or text) of a request whose refusal the caller reads; never repeated."""
        answer = self._session.ask(method, path, params, what=what, body=body, limit_s=WRITE_S)
        return answer.status, answer.body

    def upload(
        self,
        task: int,
        files: Sequence[uploads.File],
        *,
        job_file_mapping: Sequence[Sequence[str]],
        what: str,
        limit_s: float = IMPORT_S,
    ) -> None:
        """Give a new task its images, and wait until CVAT has taken them in.

        Args:
            task: One without data.
            files: (name in the task, image); CVAT drops folders from names, so these are plain and unique.
            job_file_mapping: Names of each job in order; together all of ``files``, each once.
            what: In words, for messages.
            limit_s: Seconds that taking in may last.

        Raises:
            PlatformError: CVAT could not read an image; the task stays, without data.
        """

        def post(headers: Mapping[str, str], **body: Any) -> Any:
            path = f"api/tasks/{task}/data/"
            answer = self._session.ask("POST", path, what=what, more_headers=headers, limit_s=UPLOAD_S, **body)
            return self._json(answer, what, writing=True)

        request = uploads.send(post, files, job_file_mapping)
        uploads.follow(lambda path: self.get(path, what=what), request, base=self.base, what=what, limit_s=limit_s)

    # --- answers -----------------------------------------------------------------------------------------

    def _json(self, answer: Answer, what: str, gone: str = "", *, writing: bool = False) -> Any:
        if not answer.good:
            raise self._refusal(answer, what, gone, writing=writing)
        if isinstance(answer.body, Text):
            raise refusals.not_cvat(self.base, answer.status)
        return answer.body

    def _refusal(self, answer: Answer, what: str, gone: str = "", *, writing: bool = False) -> PlatformError:
        return refusals.refusal(
            answer.status,
            answer.body,
            base=self.base,
            what=what,
            project=gone,
            organization=self.organization or "",
            token=self.has_token,
            read_only=answer.status == 403 and writing and self._is_read_only(),
            headers=answer.headers,
        )

    def _is_read_only(self) -> bool:
        # CVAT's refusal of a read-only token is word for word the one for a missing right.
        if not self.has_token:
            return False
        answer = self._session.ask("GET", "api/auth/access_tokens/self", what="look at its access token")
        return isinstance(answer.body, Mapping) and bool(answer.body.get("read_only"))


def open_platform(project: str, settings: Settings, state: dict[str, Any], save: Saver, memory: Memory) -> CvatPlatform:
    """The port of one project; sends nothing yet.

    Raises:
        SettingError: Address or credentials are missing or malformed, or ``project`` is not a number.
    """
    if not project.isdecimal():
        raise SettingError(f"project is {project!r}: give the number in CVAT's address, as in /projects/5")
    from cvat_adapter.project import CvatPlatform

    return CvatPlatform(project, open_api(settings), settings, state, save, memory)


def open_api(settings: Settings) -> Api:
    """CVAT as the settings say; an access token goes before a password. Sends nothing yet.

    Raises:
        SettingError: Address or credentials are missing or malformed.
    """
    base, username, password = address(settings.cvat_url), settings.cvat_username, settings.cvat_password
    if settings.cvat_access_token and (token := settings.cvat_access_token.get_secret_value().strip()):
        if not token.isascii() or not token.isprintable() or " " in token:
            raise SettingError("CVAT_ACCESS_TOKEN holds characters that no access token has: copy it from CVAT again")
        return Api(base, token=token)
    if username and password:
        return Api(base, username=username, password=password.get_secret_value())
    if username or password:
        missing = "CVAT_PASSWORD" if username else "CVAT_USERNAME"
        raise SettingError(f"{missing} is not set but its other half is: set both, or CVAT_ACCESS_TOKEN")
    raise SettingError(
        "CVAT_ACCESS_TOKEN is not set: make an access token that is not read-only in CVAT (profile > Security) and "
        "give it there, or give CVAT_USERNAME and CVAT_PASSWORD"
    )


def address(url: str | None) -> str:
    """CVAT_URL without a trailing slash. Raises SettingError."""
    base = (url or "").strip().rstrip("/")
    if not base:
        raise SettingError("CVAT_URL is not set: give the address that the browser shows, such as http://host:8080")
    if "@" in base:
        raise SettingError("CVAT_URL holds a user name or password: give them as CVAT_USERNAME and CVAT_PASSWORD")
    try:
        parts = urlsplit(base)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        good = False
    if not good or parts.query or parts.fragment:
        raise SettingError(
            f"CVAT_URL is {base!r}: it must start with http:// or https:// and look like http://host:8080"
        )
    return base


def _patiently(call: Callable[[], T], *, tries: int, busy: int = 0) -> T:
    """What ``call`` returns, tried again where CVAT did not answer, or (``busy`` times) said when to come again."""

    def enough(state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        return state.attempt_number >= (max(tries, busy) if isinstance(error, refusals.BusyError) else tries)

    for attempt in Retrying(retry=retry_if_exception(_may_pass), stop=enough, wait=_pause, reraise=True):
        with attempt:
            return call()
    raise AssertionError("unreachable")


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, PlatformUnreachableError) and refusals.again_in_s(error) <= PATIENCE_S


def _pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = refusals.again_in_s(error) if error else 0.0
    return float(max(asked, min(3.0, 0.3 * 2 ** (state.attempt_number - 1))))
