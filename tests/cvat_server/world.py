"""Everything the stand-in CVAT knows: its `records`, ids and time. No HTTP in here."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.cvat_server.records import (
    Attribute,
    Delivery,
    Frame,
    Job,
    Json,
    Label,
    Membership,
    Organization,
    Project,
    Request,
    Session,
    Task,
    Token,
    User,
    Webhook,
)

Listener = Callable[[str, str, Json, Json, User | None], None]
__all__ = [
    "Attribute",
    "Delivery",
    "Frame",
    "Job",
    "Json",
    "Label",
    "Listener",
    "Membership",
    "Organization",
    "Project",
    "Request",
    "Session",
    "Task",
    "Token",
    "User",
    "Webhook",
    "World",
    "snapshot",
    "stamp",
]  # fmt: skip


def stamp(when: datetime | None) -> str | None:
    """A time as CVAT writes it: UTC, microseconds, Z."""
    return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ") if when else None


class World:
    """All state of one server. Take `lock` around every read-and-write.

    `listeners` get (kind, event, before, after, sender) for each change; see `changed`.
    """

    def __init__(self, clock: Callable[[], datetime] | None = None, share: Path | None = None) -> None:
        self.lock = threading.RLock()
        self.clock = clock or (lambda: datetime.now(UTC))
        self.share = share
        self.version = "2.73.0"
        self.base_url = "http://localhost"
        self.listeners: list[Listener] = []
        self.users: dict[int, User] = {}
        self.organizations: dict[int, Organization] = {}
        self.memberships: dict[int, Membership] = {}
        self.tokens: dict[int, Token] = {}
        self.sessions: dict[str, Session] = {}
        self.projects: dict[int, Project] = {}
        self.labels: dict[int, Label] = {}
        self.tasks: dict[int, Task] = {}
        self.jobs: dict[int, Job] = {}
        self.webhooks: dict[int, Webhook] = {}
        self.deliveries: dict[int, Delivery] = {}
        self.requests: dict[str, Request] = {}
        self.uploads: dict[str, Json] = {}
        self.anonymous_limit: int | None = None
        self.anonymous_calls: dict[str, list[float]] = {}
        self.work_takes = 1.0
        self.polls = 1
        self.webhooks_time_scale = 1e-5
        self.crashes: list[str] = []
        self._ids: dict[str, int] = defaultdict(int)
        self._last = datetime.min.replace(tzinfo=UTC)

    def now(self) -> datetime:
        """The time, UTC; every call is at least one microsecond after the one before."""
        with self.lock:
            self._last = max(self.clock(), self._last + timedelta(microseconds=1))
            return self._last

    def next_id(self, kind: str) -> int:
        """The next id of a kind: "job", "task", "shape", "label" ...; counts from 1."""
        with self.lock:
            self._ids[kind] += 1
            return self._ids[kind]

    def jobs_of(self, task: Task) -> list[Job]:
        """The task's jobs, lowest id first."""
        return [self.jobs[number] for number in task.job_ids]

    def task_of(self, job: Job) -> Task:
        return self.tasks[job.task_id]

    def project_of(self, task: Task) -> Project | None:
        return self.projects.get(task.project_id) if task.project_id else None

    def tasks_of(self, project: Project) -> list[Task]:
        return [task for task in list(self.tasks.values()) if task.project_id == project.id]

    def labels_of(self, owner: Project | Task | Job) -> list[Label]:
        """The labels (not the sublabels) that count for a project, task or job, lowest id first."""
        if isinstance(owner, Job):
            owner = self.task_of(owner)
        if isinstance(owner, Task) and owner.project_id:
            owner = self.projects[owner.project_id]
        key = "task_id" if isinstance(owner, Task) else "project_id"
        return [one for one in list(self.labels.values()) if getattr(one, key) == owner.id and one.parent_id is None]

    def organization_id_of(self, thing: Project | Task | Job) -> int | None:
        return self.task_of(thing).organization_id if isinstance(thing, Job) else thing.organization_id

    def touch(self, job: Job) -> None:
        """Moves updated_date of the job, its task and its project; tells nobody (see `saving`)."""
        task = self.task_of(job)
        for thing in (job, task, self.project_of(task)):
            if thing is not None:
                thing.updated_date = self.now()

    def changed(self, kind: str, event: str, before: Json, after: Json, sender: User | None) -> None:
        """Tells the listeners. Called with the lock held, while the object is in the world.

        Args:
            kind: "job", "task", "project", "request", "organization" ...
            event: CVAT's name, "update:job", "create:task", "completed:request" ...
            before: `snapshot` before an update; {} for other events.
            after: `snapshot` after it (always with "id"); for a request its REST body.
            sender: who did it.
        """
        for listener in list(self.listeners):
            listener(kind, event, before, after, sender)

    @contextmanager
    def saving(self, sender: User | None, *things: Job | Task | Project) -> Iterator[None]:
        """Holds the lock around a write, then announces update:<kind> for each thing that changed.

        `with world.saving(user, *world.chain(job)): ...; world.touch(job)` is an annotation save.
        """
        with self.lock:
            before = [(thing, snapshot(thing)) for thing in things]
            yield
            for thing, old in before:
                new = snapshot(thing)
                if new != old:
                    kind = type(thing).__name__.lower()
                    self.changed(kind, f"update:{kind}", old, new, sender)

    def chain(self, job: Job) -> list[Job | Task | Project]:
        """The job, its task and its project if it has one: the order of the events of one save."""
        task = self.task_of(job)
        project = self.project_of(task)
        return [job, task, project] if project else [job, task]


_FIELDS = {
    Job: ("id", "updated_date", "state", "stage", "status", "assignee_id", "assignee_updated_date"),
    Task: (
        "id", "updated_date", "name", "bug_tracker", "subset", "status", "assignee_id", "assignee_updated_date",
        "overlap", "segment_size", "dimension", "mode", "media_type", "data_id", "project_id",
    ),
    Project: ("id", "updated_date", "name", "bug_tracker", "status", "assignee_id", "assignee_updated_date"),
}  # fmt: skip


def snapshot(thing: Job | Task | Project) -> Json:
    """The stored fields whose changes CVAT announces, times as text: what before_update is made of."""
    values = {name: getattr(thing, name) for name in _FIELDS[type(thing)]}
    return {name: stamp(value) if isinstance(value, datetime) else value for name, value in values.items()}
