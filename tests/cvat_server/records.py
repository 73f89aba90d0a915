"""What the stand-in CVAT stores: small mutable records with the names CVAT gives their fields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Json = dict[str, Any]


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
    chunks_updated_date: datetime | None = None
    validation_mode: str | None = None
    uploads: dict[str, bytes] = field(default_factory=dict)
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
