"""The Platform port of one CVAT project: puts the parts together, and keeps the places of each version."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from common.config import Settings
from common.domain import Annotation, ProjectSpec, QueueItem, RemoteSample
from common.errors import PlatformError, UnsupportedProjectError
from common.ports import TOLD, Change, Drift, Memory
from cvat_adapter import wire
from cvat_adapter.connection import Connection
from cvat_adapter.inbox import Inbox
from cvat_adapter.job_rows import JOB
from cvat_adapter.keeper import WRITTEN, Keeper
from cvat_adapter.ledger import Ledger
from cvat_adapter.listening import Saver
from cvat_adapter.nouns import Job, done, place_of
from cvat_adapter.places import PLACE, row_of
from cvat_adapter.preannotations import Preannotations
from cvat_adapter.queue_task import QueueTasks
from cvat_adapter.reading import Reader

if TYPE_CHECKING:
    from cvat_adapter.client import Api

LINKS_S = 10.0
"""How long the map from frames to jobs behind ``link`` is used."""


class CvatPlatform:
    """One CVAT project. See ``common.ports.Platform`` for the contract.

    ``state`` holds, besides what ``Connection`` keeps there, ``active``: the version that annotators are served by; and
    ``names``: label id -> name, as the answers that were read have them.
    """

    def __init__(
        self,
        project: str,
        api: Api,
        settings: Settings,
        state: dict[str, Any],
        save: Saver,
        memory: Memory,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Sends nothing. ``clock`` gives seconds since the epoch."""
        self.state, self._project, self._api, self._settings = state, project, api, settings
        self._save, self._memory, self._clock = save, memory, clock
        self._reader = Reader(api, project, settings, memory, state)
        self._connection = Connection(project, api, self._reader, settings, state, save, memory, clock=clock)
        self._ledger = Ledger(memory)
        self._pre = Preannotations(api, self._ledger, self._reader.deleted)
        self._queue = QueueTasks(project, api, self._reader, memory, settings, state, save, clock=clock)
        inbox = Inbox(api, memory, settings, state, self._pre.untouched, clock=clock)
        self._keeper = Keeper(
            self._reader, memory, settings, state, inbox, self._ledger, self._pre, self._queue, clock=clock
        )
        self._names: dict[str, str] | None = None
        self._ours: list[Job] | None = None
        self._links: tuple[float, dict[int, list[tuple[int, int, int]]]] = (float("-inf"), {})

    def close(self) -> None:
        """Close the connections; also done when the port is forgotten."""
        self._api.close()

    def spec(self) -> ProjectSpec:
        """The project as it is now; without classes only where ``connect`` is about to create some."""
        what = f"read project {self._project}"
        raw = self._api.get(f"api/projects/{self._project}", what=what, gone=self._project)
        labels = self._reader.labels()
        self._names = {str(number): name for number, name in labels.names.items()}
        if not labels.ids and not (self.state.get("options") or {}).get("create_labels"):
            has = f"its labels {', '.join(labels.others)} hold other shapes" if labels.others else "it has no labels"
            raise UnsupportedProjectError(
                f"no label of project {self._project} can have boxes ({has}): add labels of type rectangle in CVAT, or "
                "connect with --create-labels"
            )
        return wire.project_spec(str(raw.get("name") or ""), labels, self._settings.model_score_threshold)

    # --- the connection ----------------------------------------------------------------------------------

    def connect(self, *, dry_run: bool, replace: bool, listed: bool = False) -> list[Change]:
        """Check rights and labels, and have CVAT tell us what changes; see ``Connection.connect``."""
        return self._connection.connect(dry_run=dry_run, replace=replace, listed=listed)

    def advice(self) -> list[str]:
        """What is worth knowing about server, token, people, webhook and jobs."""
        return self._connection.advice()

    def disconnect(self) -> list[Change]:
        """Webhook and assignments nobody began are undone; shapes stay until ``retire`` removes them."""
        if self.state.pop("active", None) is not None:
            self._save(self.state)
        changes = self._connection.disconnect()
        self._ours = self._with_shapes()  # while it is known which project holds queue tasks
        changes += self._queue.remove()
        for kind in (JOB, WRITTEN, TOLD):
            self._memory.drop(kind)
        return changes

    def drift(self, version: str | None) -> list[Drift]:
        """What differs from what ``connect`` left, in the project and in that of its queue tasks."""
        found = self._connection.drift(version)
        return found if "before" not in self.state or self.state.get("leaving") else [*found, *self._queue.drift()]

    # --- reading -----------------------------------------------------------------------------------------

    def samples(self) -> Iterator[RemoteSample]:
        """Every frame that is not deleted; the keeper then knows which those are."""
        found: set[str] = set()
        for sample in self._reader.samples():
            found.add(sample.id)
            yield sample
        self._keeper.there = found

    def annotations(
        self, *, since: datetime | None = None, samples: Sequence[str] = ()
    ) -> Iterator[tuple[str, list[Annotation]]]:
        """(sample id, its answers): one for each done job that shows it.

        With ``since`` all of them come where ``spec`` found a label that was renamed or deleted: that moves no time.
        """
        names, known = self._names, self.state.get("names")
        if since is not None and names is not None and known and not known.items() <= names.items():
            yield from self._reader.annotations()
        yield from self._reader.annotations(since=since, samples=samples)
        if not samples and names is not None and names != known:
            self.state["names"] = names
            self._save(self.state)

    # --- versions ----------------------------------------------------------------------------------------

    def publish(self, version: str, items: Sequence[QueueItem]) -> int:
        """Keep the places and boxes of a version; ``tend`` brings those of the active one to CVAT."""
        rows = {item.sample: row_of(item) for item in items}
        self._memory.put(PLACE + version, rows)
        self._keeper.places_came(version, {item.sample: item.order for item in items})
        return len(rows)

    def activate(self, version: str) -> None:
        """Rank, pre-annotate and hand out by this version from now on; it takes ``tend`` to get there.

        Raises:
            PlatformError: No places of ``version`` were published.
        """
        if not self._memory.counts(PLACE + version).get(PLACE + version):
            raise PlatformError(f"no places of {version!r} are kept for project {self._project}: publish it first")
        self.state["active"] = version
        self._save(self.state)

    def published(self) -> dict[str, int]:
        """Version -> number of places. No request."""
        return {kind.removeprefix(PLACE): count for kind, count in self._memory.counts(PLACE).items()}

    def retire(self, version: str, limit: int) -> int:
        """Forget up to ``limit`` places of a version; after ``disconnect`` also take our shapes out of as many jobs.

        Only out of jobs that are new and unassigned: in any other somebody may be at work.
        """
        gone = self._memory.drop(PLACE + version, limit=limit)
        return gone or (self._remove_shapes(limit) if self.state.get("leaving") else 0)

    def _remove_shapes(self, limit: int) -> int:
        """Of the next jobs, each tried once; returns how many were tried, 0 = all have been."""
        if self._ours is None:
            self._ours = self._with_shapes()
        some, self._ours = self._ours[:limit], self._ours[limit:]
        for job in some:
            self._pre.remove(job)
        return len(some)

    def _with_shapes(self) -> list[Job]:
        """Jobs that may be written to, and where a shape of ours is or may be."""
        held = set(self._ledger.jobs())
        return [job for job in self._reader.jobs() if job.id in held and job.writable] if held else []

    def tend(self, *, news: bool) -> bool:
        """See ``Keeper``."""
        return self._keeper.tend(news=news)

    # --- addresses ---------------------------------------------------------------------------------------

    def link(self, sample: str) -> str:
        """The job that holds the frame, open at it; its task where the job is not known yet. No request."""
        task, frame = place_of(sample)
        held = (job for start, stop, job in self._jobs_of(task) if start <= frame <= stop)
        job = next(held, None)
        at_task = f"{self._settings.cvat_links or self._api.base}/tasks/{task}"
        return at_task if job is None else f"{at_task}/jobs/{job}?frame={frame}"

    def _jobs_of(self, task: int) -> list[tuple[int, int, int]]:
        """(first frame, last frame, id) of each job of a task, those that are not done first."""
        now = self._clock()
        if not 0 <= now - self._links[0] < LINKS_S:
            by_task: dict[int, list[tuple[int, int, int]]] = {}
            rows, stage = self._memory.all(JOB).items(), self._settings.done_stage
            for key, row in sorted(
                rows, key=lambda item: (done(item[1]["state"], item[1]["stage"], stage), int(item[0]))
            ):
                by_task.setdefault(int(row["task"]), []).append((int(row["start"]), int(row["stop"]), int(key)))
            self._links = (now, by_task)
        return self._links[1].get(task, [])

    def media_origin(self) -> str:
        """Scheme, host and port of CVAT_URL."""
        parts = urlsplit(self._api.base)
        return f"{parts.scheme}://{parts.netloc}"

    def media_headers(self) -> Mapping[str, str]:
        """Authorisation for images, and the organization they are in."""
        return self._api.media_headers()

    def media_url(self, sample: str, uri: str) -> str:
        """The address of one frame at its original quality."""
        return self._reader.media_url(sample, uri)

    def media_bulk(self, urls: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Frames by the chunk; neighbours come along."""
        return self._reader.media_bulk(urls)
