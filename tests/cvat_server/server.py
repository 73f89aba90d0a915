"""The stand-in CVAT on a port of localhost, with helpers to fill it.

`with FakeCvat() as cvat:` serves until the end of the block. It answers as CVAT 2.73 did on record, and is driven
by the real cvat-sdk. What it does not do:

- video, point clouds, audio, cloud storages, remote files, guides, consensus, quality, honeypots and random ground
  truth frames; backups; moving tasks between projects or organisations; storages; issues and comments;
- the contents of exports and the import of annotation files: an export is a zip with a note and the images;
- `search` of lists, unknown choices in plain filters (CVAT says 400), TUS expiry, throttling of known users;
- a chunk of a job holds those of the task's chunk that are in the job; CVAT cuts segments into chunks of their own;
- background work goes on when it is asked for or at the next call after `world.work_takes` seconds, not by itself;
- passwords have no rules, sessions and CSRF tokens no end, e-mail is not sent, invitations are accepted at once;
- policies beyond: owner and maintainer see and change all of their organisation, others what they own or are
  assigned to, a worker sees only jobs assigned to him; supervisors may also create projects and tasks.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

from tests.cvat_server.announcements import courier_of
from tests.cvat_server.app import create_app
from tests.cvat_server.courier import Courier
from tests.cvat_server.faults import Faults, faults_of
from tests.cvat_server.jobs import make_task
from tests.cvat_server.logins import make_token
from tests.cvat_server.media import attach, read_frames
from tests.cvat_server.organizations import make_membership, make_organization
from tests.cvat_server.resources import make_project
from tests.cvat_server.world import Job, Json, Membership, Organization, Project, Task, User, World

_BAD_GATEWAY = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>502 Bad Gateway</body>\r\n</html>\r\n"


class RequestLog(list[tuple[str, str]]):
    """(method, path with query) of every request since the start or the last `clear`; safe between threads."""

    def matching(self, method: str | None = None, start: str = "") -> list[tuple[str, str]]:
        """The requests of a method whose path begins so."""
        return [one for one in list(self) if method in (None, one[0]) and one[1].startswith(start)]


class _Quiet(WSGIRequestHandler):
    """No log lines; and small answers go out at once, which a kept connection would hold back for 40 ms."""

    disable_nagle_algorithm = True
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - werkzeug's signature
        """Says nothing."""


class _Server(ThreadedWSGIServer):
    """Knows its open connections, so that a restart cuts them as a real one does."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, app: Any) -> None:
        super().__init__("127.0.0.1", port, app, handler=_Quiet)
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""

    def cut(self) -> None:
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class FakeCvat:
    """A CVAT of one's own; `url`, `world` and `log` (see `RequestLog`) are for tests to use.

    Args:
        share: the folder of `server_files`; None for a server without a share.
        version: what /api/server/about says.
    """

    def __init__(self, share: Path | None = None, version: str = "2.73.0") -> None:
        self.world = World(share=share)
        self.world.version = version
        self.log = RequestLog()
        self._app = create_app(self.world).wsgi_app
        self._gateway_down = False
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        courier_of(self.world).close()

    @property
    def courier(self) -> Courier:
        """The webhook worker: loses, doubles, holds back; `settle` waits for it."""
        return courier_of(self.world)

    @property
    def faults(self) -> Faults:
        """Switches for errors, delays, hang-ups, and actions between two requests."""
        return faults_of(self.world)

    def start(self) -> None:
        """Listens; the first time on any free port, later on the same one."""
        self._server = _Server(self.port, self._answer)
        self.port = self._server.server_port
        self.world.base_url = self.url
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="cvat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Refuses connections and cuts the open ones; what is in the world stays."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.cut()
        self._server = self._thread = None

    def restart(self, seconds: float = 0.2) -> None:
        """Is away for a moment: connections are refused; logins, tokens and all data are kept."""
        self.stop()
        time.sleep(seconds)
        self.start()

    @contextmanager
    def bad_gateway(self) -> Iterator[None]:
        """Within the block every request gets 502 as HTML, from the proxy in front of a server that restarts."""
        self._gateway_down = True
        try:
            yield
        finally:
            self._gateway_down = False

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        self.log.append((environ["REQUEST_METHOD"], environ.get("REQUEST_URI") or environ["PATH_INFO"]))
        if self._gateway_down:
            headers = [("Content-Type", "text/html"), ("Content-Length", str(len(_BAD_GATEWAY)))]
            start_response("502 Bad Gateway", headers)
            return [_BAD_GATEWAY]
        return self._app(environ, start_response)

    def add_user(self, name: str, password: str = "pass") -> User:  # noqa: S107
        """A person who can log in; the e-mail is name@example.com."""
        with self.world.lock:
            number = self.world.next_id("user")
            user = User(number, name, password, self.world.now(), email=f"{name}@example.com")
            self.world.users[number] = user
        return user

    def add_organization(self, slug: str, owner: User) -> Organization:
        return make_organization(self.world, slug, owner, slug)

    def add_member(self, organization: Organization, user: User, role: str = "worker") -> Membership:
        """Role is owner, maintainer, supervisor or worker."""
        with self.world.lock:
            return make_membership(self.world, organization, user, role)

    def add_token(self, user: User, *, read_only: bool = False) -> str:
        """A personal access token, to be used as `access_token`."""
        return make_token(self.world, user, "test", read_only=read_only).value

    def add_project(
        self, name: str, labels: Sequence[str | Json], *, owner: User, org: Organization | None = None
    ) -> Project:
        """A project; a label is a name (of a rectangle) or a specification as in the REST call."""
        specs = [{"name": one, "type": "rectangle"} if isinstance(one, str) else one for one in labels]
        return make_project(self.world, owner, org, {"name": name, "labels": specs})

    def add_task(
        self,
        project: Project,
        name: str,
        images: Sequence[tuple[str, bytes]],
        *,
        segment_size: int = 0,
        overlap: int = 0,
        job_file_mapping: Sequence[Sequence[str]] | None = None,
    ) -> Task:
        """A task with data: (name, bytes) in the order of the frames, or in that of the mapping.

        Raises:
            ImportFailedError: an image cannot be read, or there would be more than 5,000 jobs.
        """
        if job_file_mapping is not None:
            by_name = dict(images)
            images = [(one, by_name[one]) for names in job_file_mapping for one in names]
        world, owner = self.world, self.world.users[project.owner_id]
        with world.lock:
            body = {"name": name, "segment_size": segment_size, "overlap": overlap}
            task = make_task(world, owner, None, project, body)
            if images:
                task.data_id = world.next_id("data")
                attach(world, task, read_frames(task, images), {"job_file_mapping": job_file_mapping}, owner)
        return task

    def jobs(self, task: Task) -> list[Job]:
        """The task's jobs, lowest id first."""
        return self.world.jobs_of(task)
