"""Everything the stand-in CVAT knows: small mutable records, ids and time. No HTTP in here."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

Json = dict[str, Any]
Listener = Callable[[str, str, Json, Json, "User | None"], None]


@dataclass
class User:
    id: int
    username: str
    password: str
    date_joined: datetime
    email: str = ""
    first_name: str = ""
    last_name: str = ""
    is_staff: bool = False
    is_superuser: bool = False
    is_active: bool = True
    last_login: datetime | None = None


@dataclass
class Organization:
    id: int
    slug: str
    name: str
    owner_id: int
    created_date: datetime
    updated_date: datetime
    description: str = ""


@dataclass
class Membership:
    """A user in an organisation; role is owner, maintainer, supervisor or worker."""

    id: int
    user_id: int
    organization_id: int
    role: str
    joined_date: datetime
    is_active: bool = True
    invitation: str | None = None


@dataclass
class Token:
    """A personal access token; `value` is what goes after Bearer."""

    id: int
    user_id: int
    name: str
    value: str
    read_only: bool
    created_date: datetime
    updated_date: datetime
    expiry_date: datetime | None = None
    last_used_date: datetime | None = None


@dataclass
class Session:
    """A password login: the cookie sessionid and its CSRF token."""

    key: str
    csrf: str
    user_id: int


@dataclass
class Project:
    id: int
    name: str
    owner_id: int
    organization_id: int | None
    created_date: datetime
    updated_date: datetime
    assignee_id: int | None = None
    assignee_updated_date: datetime | None = None
    bug_tracker: str = ""
    status: str = "annotation"


@dataclass
class Attribute:
    id: int
    name: str
    mutable: bool
    input_type: str
    default_value: str
    values: list[str]


@dataclass
class Label:
    """A label of a project or of a task without one; sublabels only in skeletons."""

    id: int
    name: str
    color: str
    type: str
    project_id: int | None
    task_id: int | None
    attributes: list[Attribute] = field(default_factory=list)
    sublabels: list[Label] = field(default_factory=list)
    parent_id: int | None = None
    svg: str = ""


@dataclass
class Frame:
    """One image of a task: its name in the task, its size in pixels and its original bytes."""

    name: str
    width: int
    height: int
    data: bytes


@dataclass
class Task:
    """A task; `data_id` is None and `frames` empty until data has arrived. Its jobs: `World.jobs_of`."""

    id: int
    name: str
    owner_id: int
    organization_id: int | None
    project_id: int | None
    created_date: datetime
    updated_date: datetime
    assignee_id: int | None = None
    assignee_updated_date: datetime | None = None
    bug_tracker: str = ""
    subset: str = ""
    status: str = "annotation"
    overlap: int | None = None
    segment_size: int = 0
    dimension: str = ""
    mode: str = ""
    media_type: str = ""
    data_id: int | None = None
    frames: list[Frame] = field(default_factory=list)
    deleted_frames: set[int] = field(default_factory=set)
    chunk_size: int = 72
    image_quality: int = 70
    storage: str = "local"
    storage_method: str = "cache"
    sorting_method: str = "lexicographical"
    chunks_updated_date: datetime | None = None
    validation_mode: str | None = None
    uploads: dict[str, bytes] = field(default_factory=dict)
    upload_params: Json = field(default_factory=dict)
    job_ids: list[int] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.frames)


@dataclass
class Job:
    """One segment of a task; `frames` is None for start..stop, else the frame numbers (ground truth).

    `shapes`, `tags` and `tracks` are as in the REST bodies (dicts with id, frame, label_id ...).
    """

    id: int
    task_id: int
    type: str
    start_frame: int
    stop_frame: int
    created_date: datetime
    updated_date: datetime
    frames: tuple[int, ...] | None = None
    stage: str = "annotation"
    state: str = "new"
    assignee_id: int | None = None
    assignee_updated_date: datetime | None = None
    parent_job_id: int | None = None
    shapes: list[Json] = field(default_factory=list)
    tags: list[Json] = field(default_factory=list)
    tracks: list[Json] = field(default_factory=list)

    @property
    def status(self) -> str:
        """The legacy field: acceptance and completed means completed, else the stage."""
        if self.stage == "acceptance":
            return "completed" if self.state == "completed" else "validation"
        return self.stage

    @property
    def frame_numbers(self) -> tuple[int, ...]:
        return self.frames if self.frames is not None else tuple(range(self.start_frame, self.stop_frame + 1))

    def has_frame(self, frame: int) -> bool:
        if self.frames is not None:
            return frame in self.frames
        return self.start_frame <= frame <= self.stop_frame


@dataclass
class Webhook:
    id: int
    target_url: str
    type: str
    owner_id: int
    project_id: int | None
    organization_id: int | None
    events: list[str]
    created_date: datetime
    updated_date: datetime
    secret: str = ""
    description: str = ""
    content_type: str = "application/json"
    is_active: bool = True
    enable_ssl: bool = True


@dataclass
class Delivery:
    """One attempt to call a webhook's target; `body` are the bytes that were sent."""

    id: int
    webhook_id: int
    event: str
    body: bytes
    created_date: datetime
    updated_date: datetime
    status_code: int | None = None
    attempt: int = 1
    redelivery: bool = False
    changed_fields: str = ""
    request_duration: float | None = None
    request: Json = field(default_factory=dict)
    response: str = ""


@dataclass
class Request:
    """A background request (an import or an export): queued, started, then finished or failed."""

    id: str
    type: str
    owner_id: int
    created_date: datetime
    work: Callable[[], None]
    task_id: int | None = None
    job_id: int | None = None
    project_id: int | None = None
    organization_id: int | None = None
    target: str = "task"
    format: str | None = None
    status: str = "queued"
    message: str = ""
    progress: float | None = None
    started_date: datetime | None = None
    finished_date: datetime | None = None
    expiry_date: datetime | None = None
    result_url: str | None = None
    result: bytes = b""
    seen: int = 0
    asked: float = 0.0

    @property
    def is_open(self) -> bool:
        return self.status in ("queued", "started")


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
        return [task for task in self.tasks.values() if task.project_id == project.id]

    def labels_of(self, owner: Project | Task | Job) -> list[Label]:
        """The labels (not the sublabels) that count for a project, task or job, lowest id first."""
        if isinstance(owner, Job):
            owner = self.task_of(owner)
        if isinstance(owner, Task) and owner.project_id:
            owner = self.projects[owner.project_id]
        key = "task_id" if isinstance(owner, Task) else "project_id"
        return [one for one in self.labels.values() if getattr(one, key) == owner.id and one.parent_id is None]

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
