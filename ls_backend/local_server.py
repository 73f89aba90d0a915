"""A Label Studio of our own on this machine: made, started, watched, stopped. Speaks HTTP, never the SDK."""

from __future__ import annotations

import atexit
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from common.errors import AccessDeniedError, SettingError
from ls_backend.local_folder import DataFolder, Login, empty_folder
from ls_backend.local_process import LabelStudioProcess, free_port, installed_version, port_is_free

ROOT = Path(__file__).resolve().parents[1]
TELL_EVERY_S = 15.0


def _silent(_: str) -> None:
    """Progress that nobody wants to see."""


class LocalLabelStudio:
    """One Label Studio over one data folder; started again over the same folder it resumes.

    User, password and token are kept in the folder, because Label Studio applies them only when it first makes
    the user: on a later start they may be left out. With ``port=None`` any free port is taken.

    Example:
        >>> with LocalLabelStudio(Path("ls-data"), port=8080) as server:  # doctest: +SKIP
        ...     server.client().get("/api/projects").json()["count"]
        0
    """

    def __init__(
        self,
        data: Path,
        *,
        environment: Path | None = None,
        port: int | None = None,
        document_root: Path | None = None,
        username: str | None = None,
        password: str | None = None,
        token: str | None = None,
        cache: Path | None = None,
        limit_s: float = 300,
        progress: Callable[[str], None] = _silent,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Nothing starts yet.

        Args:
            data: Label Studio's data folder; made when absent.
            environment: Virtual environment that holds label-studio; default ``.venv-label-studio`` of the checkout.
            port: Loopback port; must be free at ``start``. None: any.
            document_root: Folder under which Label Studio may serve local files; None: it serves none.
            username: E-mail address of the owner; default admin@example.com.
            password: Its password; default: a random one.
            token: Its legacy token, 40 hexadecimal digits; default: a random one.
            cache: Where the empty data folder of each version is kept; default ``.cache`` of the checkout.
            limit_s: Seconds after which a start counts as failed.
            progress: Called with one sentence at a time.
            settings: More of Label Studio's own environment variables.
        """
        self.data = data.expanduser().resolve()
        self.environment = (environment or ROOT / ".venv-label-studio").absolute()
        self.document_root = document_root.expanduser().resolve() if document_root else None
        self.cache = (cache or ROOT / ".cache").expanduser().resolve()
        self.limit_s = limit_s
        self._wanted = {"username": username, "password": password, "token": token}
        self._port = port
        self._progress = progress
        self._settings = dict(settings or {})
        self._folder = DataFolder(self.data)
        self._login: Login | None = None
        self._process: LabelStudioProcess | None = None

    @property
    def version(self) -> str:
        """The version that the environment holds."""
        return installed_version(self.environment)

    @property
    def login(self) -> Login:
        """The owner of this Label Studio; known once started."""
        if self._login is None:
            raise SettingError(f"Label Studio over {self.data} was not started yet: call start() first")
        return self._login

    @property
    def username(self) -> str:
        """The owner's e-mail address."""
        return self.login.username

    @property
    def password(self) -> str:
        """The owner's password."""
        return self.login.password

    @property
    def token(self) -> str:
        """The owner's legacy token."""
        return self.login.token

    @property
    def url(self) -> str:
        """Where it answers, without a trailing slash; known once started."""
        if self._port is None:
            raise SettingError(f"Label Studio over {self.data} was not started yet: call start() first")
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int | None:
        """Its process, None while it does not run."""
        running = self._process is not None and self._process.exit_status is None
        return self._process.pid if self._process and running else None

    def client(self, token: str | None = None) -> httpx.Client:
        """An HTTP client that speaks as the owner, or as whoever holds this token."""
        return self._http({"Authorization": f"Token {token or self.token}"})

    def start(self) -> Self:
        """Start, or resume, and return when it answers; does nothing while it runs.

        Raises:
            SettingError: No Label Studio here, a busy port, a folder in use or made with another login.
            PlatformUnreachableError: It died or took too long; the message ends with its log.
            AccessDeniedError: It runs, but our token is not the one of the data folder.
        """
        if self.pid is not None:
            return self
        began = time.monotonic()
        version = self.version
        if self._port is not None and not port_is_free(self._port):
            raise SettingError(f"port {self._port} is in use: stop what listens there, or choose another port")
        self._folder.take()
        try:
            self._login = self._folder.login(self._wanted, self._empty)
            self._port = self._port or free_port()
            self._progress(f"Label Studio {version} starts at {self.url}")
            self._process = self._spawn(self._login, self._port)
            self._await_health(self._process)
            self._check_owner()
            self._folder.remember(self._login, ready=True)
        except BaseException:
            self.stop()
            raise
        self._progress(f"Label Studio answers at {self.url} after {time.monotonic() - began:.0f} s")
        return self

    def stop(self) -> None:
        """Stop politely, then by force; the data folder stays as it is."""
        process, self._process = self._process, None
        if process is not None:
            process.end()
        self._folder.release()
        atexit.unregister(self.stop)

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    def add_user(self, email: str, password: str) -> str:
        """One more annotator, by the invite link as a person would; a known one is only logged in.

        Returns:
            The user's legacy token.

        Raises:
            AccessDeniedError: Label Studio refuses the address or the password.
        """
        with self.client() as owner:
            link = str(owner.get("/api/invite").raise_for_status().json()["invite_url"])
        for page in (link, "/user/login/"):
            with self._http() as person:
                if _fill_form(person, page, {"email": email, "password": password}):
                    return str(person.get("/api/current-user/token").raise_for_status().json()["token"])
        raise AccessDeniedError(
            f"Label Studio refuses the user {email!r}: a password has at least 8 characters, and a user who "
            "exists keeps the first one"
        )

    def serve_folder(self, project: int, folder: Path) -> str:
        """Let a project show the images of a folder below ``document_root``; again changes nothing.

        Returns:
            What goes before a path relative to the folder: ``/data/local-files/?d=...``.

        Raises:
            SettingError: The folder is not below ``document_root``.
        """
        root, folder = self.document_root, folder.expanduser().resolve()
        if root is None or root not in folder.parents:
            raise SettingError(f"{folder} is not below the document root {root}: choose a document root above it")
        storage = {"project": project, "path": str(folder), "title": folder.name, "use_blob_urls": True}
        with self.client() as owner:
            listed = owner.get("/api/storages/localfiles", params={"project": project}).raise_for_status().json()
            if all(known["path"] != str(folder) for known in listed):
                owner.post("/api/storages/localfiles", json=storage).raise_for_status()
        return f"/data/local-files/?d={folder.relative_to(root).as_posix()}/"

    def _http(self, headers: Mapping[str, str] | None = None) -> httpx.Client:
        # A proxy of the environment must not come between us and our own loopback.
        return httpx.Client(base_url=self.url, headers=headers, timeout=120, trust_env=False)

    def _empty(self) -> Path:
        return empty_folder(self.environment, self.cache, self.limit_s, self._progress)

    def _spawn(self, login: Login, port: int) -> LabelStudioProcess:
        arguments = ["start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)]
        variables = {
            "LABEL_STUDIO_USERNAME": login.username,
            "LABEL_STUDIO_PASSWORD": login.password,
            "LABEL_STUDIO_USER_TOKEN": login.token,
        }
        if self.document_root:
            variables["LOCAL_FILES_SERVING_ENABLED"] = "true"
            variables["LOCAL_FILES_DOCUMENT_ROOT"] = str(self.document_root)
        atexit.register(self.stop)
        return LabelStudioProcess(
            self.environment, self.data, [*arguments, "--enable-legacy-api-token"], variables | self._settings
        )

    def _await_health(self, process: LabelStudioProcess) -> None:
        began = told = time.monotonic()
        hide = (self.password, self.token)
        with self._http() as http:
            while not _healthy(http):
                now = time.monotonic()
                if process.exit_status is not None:
                    raise process.failure(f"ended while starting (exit status {process.exit_status})", hide)
                # Label Studio moves to the next port by itself, where nobody would look for it.
                if "Trying to start at" in process.said():
                    raise SettingError(f"{self.url} was taken while Label Studio started: start it again")
                if now - began > self.limit_s:
                    raise process.failure(f"did not answer within {self.limit_s:.0f} s", hide)
                if now - told >= TELL_EVERY_S:
                    told = now
                    self._progress(f"Label Studio is still starting ({now - began:.0f} s)")
                time.sleep(0.3)

    def _check_owner(self) -> None:
        with self.client() as http:
            answer = http.get("/api/current-user/whoami")
        if answer.status_code != 200 or answer.json().get("email") != self.username:
            raise AccessDeniedError(
                f"Label Studio at {self.url} does not know the token of {self.username}: {self.data} was made "
                "with another one, or something else answers on this port"
            )


def _healthy(http: httpx.Client) -> bool:
    try:
        answer = http.get("/health", timeout=10)
        return bool(answer.status_code == 200 and answer.json().get("status") == "UP")
    except (httpx.HTTPError, ValueError, AttributeError):
        return False


def _fill_form(person: httpx.Client, page: str, fields: Mapping[str, str]) -> bool:
    """Whether Label Studio took the form, which it shows by leading elsewhere."""
    shown = person.get(page).raise_for_status().text
    hidden = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', shown)
    secret = hidden.group(1) if hidden else ""
    return person.post(page, data={**fields, "csrfmiddlewaretoken": secret}).is_redirect
