"""Connect, disconnect and drift of one CVAT project, against the stand-in server."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from PIL import Image

from common.config import Settings
from common.errors import (
    AccessDeniedError,
    NotListedError,
    PlatformError,
    ProjectGoneError,
    SettingError,
    UnsupportedProjectError,
)
from common.ports import Change, Drift
from cvat_adapter import advice, wire
from cvat_adapter.client import Api
from cvat_adapter.connection import Connection
from cvat_adapter.nouns import Job, Labels, Task, moment
from cvat_adapter.rights import Standing
from cvat_adapter.webhook import WANTED, known, wanted
from tests.cvat_server.faults import faults_of
from tests.cvat_server.people import Annotator, Manager
from tests.cvat_server.server import FakeCvat
from tests.cvat_server.world import Project, User, Webhook

HERE = "http://adapter.example:9000"
HOOK = f"{HERE}/webhooks"
SECRET, OTHER = "first-secret", "second-secret"


class Reader:
    """What the connection asks of the project's reader."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def labels(self) -> Labels:
        return wire.labels(self._api.pages("api/labels", {"project_id": 1}, what="read the labels", gone="1"))

    def tasks(self) -> dict[int, Task]:
        rows = self._api.pages("api/tasks", {"project_id": 1}, what="list the tasks")
        at = datetime.now(UTC)
        return {r["id"]: Task(r["id"], r["name"], 1, r["size"], r["overlap"], 0, "imageset", at) for r in rows}

    def jobs(self) -> list[Job]:
        return [_job(row) for row in self._api.pages("api/jobs", {"project_id": 1}, what="list the jobs")]


def _job(row: dict[str, Any]) -> Job:
    person, updated = row["assignee"] or {}, moment(row["updated_date"])
    assert updated is not None
    place = (row["id"], row["task_id"], row["start_frame"], row["stop_frame"], row["state"], row["stage"])
    assigned = moment(row["assignee_updated_date"])
    return Job(*place, person.get("id"), updated, assigned, person.get("username", ""))


class Memory:
    """Rows in a dict."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}

    def all(self, kind: str) -> dict[str, Any]:
        return dict(self.rows.get(kind, {}))

    def put(self, kind: str, rows: dict[str, Any]) -> None:
        self.rows.setdefault(kind, {}).update(rows)

    def drop(self, kind: str, keys: Any = None) -> int:
        kept = {k: v for k, v in self.all(kind).items() if keys is not None and k not in keys}
        gone = len(self.all(kind)) - len(kept)
        self.rows[kind] = kept
        return gone


@dataclass
class Lab:
    """One CVAT with an organisation, a project, an owner, a maintainer, an annotator, and our connection to it."""

    cvat: FakeCvat
    owner: User
    bot: User
    ann: User
    project: Project
    state: dict[str, Any] = field(default_factory=dict)
    saved: list[dict[str, Any]] = field(default_factory=list)
    memory: Memory = field(default_factory=Memory)
    apis: list[Api] = field(default_factory=list)

    def connection(self, user: User | None = None, **changed: Any) -> Connection:
        token = self.cvat.add_token(user or self.bot, read_only=changed.pop("read_only", False))
        later: float = changed.pop("later", 0.0)
        api = Api(self.cvat.url, token=token)
        self.apis.append(api)
        settings = Settings(**{"url": HERE, "webhook_secret": (SECRET,), **changed}, _env_file=None)
        reader: Any = Reader(api)
        memory: Any = self.memory

        def save(state: dict[str, Any]) -> None:
            self.saved.append(dict(state))

        return Connection("1", api, reader, settings, self.state, save, memory, clock=lambda: time.time() + later)

    def connect(self, user: User | None = None, *, dry_run: bool = False, **changed: Any) -> list[Change]:
        return self.connection(user, **changed).connect(dry_run=dry_run, replace=False)

    @property
    def hooks(self) -> list[Webhook]:
        return list(self.cvat.world.webhooks.values())

    def writes(self) -> list[tuple[str, str]]:
        return [one for one in self.cvat.log if one[0] != "GET"]


@pytest.fixture
def lab() -> Iterator[Lab]:
    with FakeCvat() as cvat:
        owner, bot, ann = (cvat.add_user(name) for name in ("owner", "bot", "ann"))
        org = cvat.add_organization("lab", owner)
        cvat.add_member(org, bot, "maintainer")
        cvat.add_member(org, ann, "worker")
        made = Lab(cvat, owner, bot, ann, cvat.add_project("pool", ["car", "bus"], owner=owner, org=org))
        yield made
        for api in made.apis:
            api.close()
        assert cvat.world.crashes == []


def fill(lab: Lab, count: int, segment_size: int, overlap: int = 0) -> None:
    out = io.BytesIO()
    Image.new("RGB", (8, 6)).save(out, "PNG")
    images = [(f"{n:03}.png", out.getvalue()) for n in range(count)]
    lab.cvat.add_task(lab.project, "t", images, segment_size=segment_size, overlap=overlap)


# --- connect ---------------------------------------------------------------------------------------------


def test_connecting_makes_one_webhook_with_our_secret(lab: Lab) -> None:
    work, change = lab.connect()
    (hook,) = lab.hooks
    assert (change.what, change.before) == ("webhook", "none")
    assert work.after == "those that are new and nobody's get boxes, best first, and are assigned to ann, 2 at a time"
    assert (hook.target_url, hook.type, hook.project_id, hook.is_active) == (HOOK, "project", 1, True)
    assert (hook.secret, hook.enable_ssl, hook.content_type) == (SECRET, True, "application/json")
    assert set(hook.events) == set(WANTED)
    assert hook.organization_id == lab.project.organization_id


def test_connecting_remembers_who_and_where_before_the_first_write(lab: Lab) -> None:
    lab.connect()
    assert lab.saved[0]["before"] == {"webhooks": [], "hook": None}
    assert lab.saved[0]["organization"] == "lab"
    assert lab.saved[0]["user"] == {"id": lab.bot.id, "name": "bot"}
    assert "hook" not in lab.saved[0]
    assert SECRET not in str(lab.saved)


def test_connecting_twice_changes_nothing_the_second_time(lab: Lab) -> None:
    lab.connect()
    lab.cvat.log.clear()
    assert lab.connect() == []
    assert lab.writes() == []


def test_another_way_to_hand_out_jobs_is_told_once(lab: Lab) -> None:
    lab.connect()
    lab.state["options"] = {"queue": "task", "annotators": "ann"}
    told = ["annotators: every worker -> ann", "queue: inbox -> task"]
    assert [str(change) for change in lab.connect(dry_run=True)] == told
    assert [str(change) for change in lab.connect()] == told
    assert lab.connect() == []


def test_a_dry_run_says_everything_and_writes_nothing(lab: Lab) -> None:
    lab.state["options"] = {"create_labels": ["car", "tram"]}
    changes = lab.connect(dry_run=True)
    assert [change.what for change in changes] == ["jobs", "labels", "webhook"]
    assert (lab.writes(), lab.saved) == ([], [])
    assert sorted(lab.state) == ["options"]


def test_labels_are_created_only_when_asked_and_only_those_that_are_missing(lab: Lab) -> None:
    lab.connect()
    assert len(lab.cvat.world.labels) == 2
    lab.state["options"] = {"create_labels": ["car", "tram", "tram"]}
    (change,) = lab.connect()
    assert str(change) == "labels: no tram -> created, of type rectangle"
    assert [(one.name, one.type) for one in lab.cvat.world.labels.values()][2:] == [("tram", "rectangle")]
    assert lab.connect() == []


def test_a_project_without_labels_for_boxes_is_refused_with_the_fix(lab: Lab) -> None:
    for label in list(lab.cvat.world.labels.values()):
        label.type = "polygon"
    with pytest.raises(UnsupportedProjectError, match=r"bus, car|car, bus") as caught:
        lab.connect()
    assert "--create-labels" in str(caught.value)
    assert lab.writes() == []
    lab.state["options"] = {"create_labels": ["tram"]}
    lab.connect()
    assert "tram" in {one.name for one in lab.cvat.world.labels.values()}


def test_a_webhook_that_a_person_made_is_adopted_and_put_right(lab: Lab) -> None:
    with Manager(lab.cvat.url, "owner", "pass", "lab") as owner:
        body = {"target_url": f"{HOOK}/", "type": "project", "project_id": 1, "events": ["update:job"]}
        owner.call("POST", "/api/webhooks", json=body | {"enable_ssl": False})
    changes = lab.connection().connect(dry_run=False, replace=False, listed=True)
    (hook,) = lab.hooks
    assert [change.what for change in changes] == ["jobs", "webhook"]
    assert (set(hook.events), hook.secret, hook.enable_ssl) == (set(WANTED), SECRET, False)
    assert lab.connect() == []


def test_who_only_says_so_is_not_connected(lab: Lab) -> None:
    with pytest.raises(NotListedError, match=HOOK):
        lab.connection().connect(dry_run=False, replace=False, listed=True)
    assert lab.writes() == []
    assert len(lab.cvat.log) == 1


def test_a_crash_after_the_webhook_was_made_leaves_one_webhook_and_one_way_back(lab: Lab) -> None:
    faults_of(lab.cvat.world).add("/webhooks", "POST", hang_up=True, late=True, times=1)
    with pytest.raises(PlatformError):
        lab.connect()
    lab.state.clear()
    lab.state.update(lab.saved[-1])
    lab.connect()
    assert [hook.secret for hook in lab.hooks] == [SECRET]
    lab.connection().disconnect()
    assert lab.hooks == []


def test_an_older_cvat_is_asked_only_for_events_it_knows() -> None:
    names = ["update:job", "create:job", "create:export"]
    assert known({"webhook_type": "project", "events": names}) == names
    assert known({"events": [{"key": "update:job", "group": {"display_name": "Job"}}]}) == ["update:job"]
    assert wanted(names) == ["create:job", "update:job"]


# --- rights ----------------------------------------------------------------------------------------------


def test_a_read_only_token_is_refused_before_anything_is_written(lab: Lab) -> None:
    with pytest.raises(AccessDeniedError, match=r"read-only.*profile > Security"):
        lab.connect(read_only=True)
    assert lab.writes() == []


def test_a_worker_is_told_that_it_takes_a_maintainer(lab: Lab) -> None:
    with pytest.raises(AccessDeniedError, match=r"user 'ann': its role is worker; it takes a maintainer"):
        lab.connect(lab.ann)


def test_a_stranger_is_told_that_it_takes_a_membership(lab: Lab) -> None:
    with pytest.raises(AccessDeniedError, match="it is in no organization"):
        lab.connect(lab.cvat.add_user("eve"))


def test_a_supervisor_may_not_even_with_a_project_of_its_own(lab: Lab) -> None:
    for member in lab.cvat.world.memberships.values():
        member.role = "supervisor" if member.user_id == lab.bot.id else member.role
    lab.project.owner_id = lab.bot.id
    with pytest.raises(AccessDeniedError, match="may make webhooks for its own project but not assign jobs"):
        lab.connect()


@pytest.mark.parametrize(
    ("slug", "sentence"),
    [
        ("nope", "has no organization 'nope': give --org"),
        ("elsewhere", "is no member of organization 'elsewhere'"),
        ("second", "is of organization 'lab', not of 'second': give --org lab"),
    ],
)
def test_a_wrong_organization_is_said(lab: Lab, slug: str, sentence: str) -> None:
    lab.cvat.add_organization("elsewhere", lab.owner)
    lab.cvat.add_organization("second", lab.bot)
    lab.state["options"] = {"org": slug}
    with pytest.raises(PlatformError, match=sentence):
        lab.connect()
    assert lab.writes() == []


def test_the_right_organization_may_be_named(lab: Lab) -> None:
    lab.state["options"] = {"org": "lab"}
    lab.connect()
    assert lab.state["organization"] == "lab"


def test_a_project_that_is_not_there_is_gone(lab: Lab) -> None:
    del lab.cvat.world.projects[1]
    with pytest.raises(ProjectGoneError, match="no project 1"):
        lab.connect()


def test_a_personal_project_is_connected_with_a_warning(lab: Lab) -> None:
    lab.project.organization_id, lab.project.owner_id = None, lab.bot.id
    connection = lab.connection()
    connection.connect(dry_run=False, replace=False)
    assert lab.state["organization"] is None
    assert any("move the project into an organization" in one for one in connection.advice())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"queue": "pool"}, "--queue is 'pool': it must be inbox or task"),
        ({"job_value": "mean"}, "--job-value is 'mean': it must be max or top3"),
        ({"org": "läb"}, "--org is 'läb'"),
        ({"annotators": "ann, bob"}, "--annotators names 'bob', who is no member"),
    ],
)
def test_an_option_that_cannot_be_is_refused(lab: Lab, options: dict[str, str], sentence: str) -> None:
    lab.state["options"] = options
    with pytest.raises(SettingError, match=sentence):
        lab.connect()


# --- advice ----------------------------------------------------------------------------------------------


def test_there_is_no_advice_where_all_is_well(lab: Lab) -> None:
    fill(lab, 4, 2)
    connection = lab.connection(url="https://adapter.example")
    connection.connect(dry_run=False, replace=False)
    assert connection.advice() == []


def test_advice_names_what_is_in_the_way(lab: Lab) -> None:
    fill(lab, 50, 25, overlap=5)
    lab.cvat.world.version = "2.60.1"
    lab.cvat.world.memberships.clear()
    lab.cvat.add_member(lab.cvat.world.organizations[1], lab.bot, "maintainer")
    next(iter(lab.cvat.world.labels.values())).type = "mask"
    connection = lab.connection(url="http://127.0.0.1:9090")
    connection.connect(dry_run=False, replace=False)
    lab.hooks[0].is_active = False
    said = "\n".join(connection.advice())
    for part in (
        "is 2.60, older than 2.65",
        "no member with the role worker",
        "SMOKESCREEN_OPTS",
        "switched off",
        "car hold no boxes",
        "more than 20 frames",
        "task 1 overlap",
    ):
        assert part in said


def test_long_jobs_are_no_matter_with_queue_tasks(lab: Lab) -> None:
    fill(lab, 25, 25)
    lab.state["options"] = {"queue": "task"}
    connection = lab.connection()
    connection.connect(dry_run=False, replace=False)
    assert connection.advice() == []


def test_a_cvat_elsewhere_cannot_call_this_machine() -> None:
    assert "set HARDFIRST_URL" in advice.of_webhook(None, "http://localhost:9090/webhooks", "https://app.cvat.ai")[0]
    assert advice.of_webhook(None, HOOK, "https://app.cvat.ai") == []


@pytest.mark.parametrize(("days", "count"), [(13, 1), (15, 0)])
def test_a_token_that_ends_soon_is_said(days: int, count: int) -> None:
    now = datetime(2026, 11, 21, tzinfo=UTC)
    standing = Standing((2, 73), 1, "bot", now + timedelta(days=days), "lab")
    assert len(advice.of_server(standing, "http://cvat", now)) == count


def test_a_newer_cvat_than_tried_is_said() -> None:
    (said,) = advice.of_server(Standing((3, 1), 1, "bot", None, "lab"), "http://cvat")
    assert "is 3.1, newer than 2.80" in said


# --- drift -----------------------------------------------------------------------------------------------


def test_all_well_costs_two_requests(lab: Lab) -> None:
    lab.connect()
    connection = lab.connection()
    lab.cvat.log.clear()
    assert connection.drift("v1") == []
    assert len(lab.cvat.log) == 2
    assert lab.writes() == []


def test_a_webhook_that_is_gone_is_made_again(lab: Lab) -> None:
    lab.connect()
    lab.cvat.world.webhooks.clear()
    (drift,) = lab.connection().drift(None)
    assert drift == Drift("the webhook of project 1 was gone; it is there again", healed=True)
    assert [hook.target_url for hook in lab.hooks] == [HOOK]
    assert lab.connection().drift(None) == []


def test_another_address_or_fewer_events_are_put_back(lab: Lab) -> None:
    lab.connect()
    (hook,) = lab.hooks
    hook.target_url, hook.events = "http://elsewhere.example/", ["update:job"]
    (drift,) = lab.connection().drift(None)
    assert drift.healed
    assert (hook.target_url, set(hook.events)) == (HOOK, set(WANTED))
    assert len(lab.hooks) == 1


def test_a_webhook_that_a_person_switched_off_stays_off(lab: Lab) -> None:
    lab.connect()
    lab.hooks[0].is_active = False
    assert lab.connection().drift(None) == []
    assert not lab.hooks[0].is_active


def test_a_new_secret_reaches_cvat(lab: Lab) -> None:
    lab.connect()
    lab.connection(webhook_secret=(OTHER, SECRET)).drift(None)
    assert [hook.secret for hook in lab.hooks] == [OTHER]


def test_a_token_that_became_read_only_is_the_error_itself(lab: Lab) -> None:
    lab.connect()
    with pytest.raises(AccessDeniedError, match="read-only"):
        lab.connection(read_only=True).drift(None)


def test_a_lost_role_is_the_error_itself(lab: Lab) -> None:
    lab.connect()
    with pytest.raises(AccessDeniedError, match="takes a maintainer of organization 'lab'"):
        lab.connection(lab.ann).drift(None)


def test_nothing_drifts_before_connect_and_after_disconnect(lab: Lab) -> None:
    assert lab.connection().drift(None) == []
    lab.connect()
    lab.connection().disconnect()
    assert lab.connection().drift(None) == []
    assert lab.hooks == []


# --- disconnect ------------------------------------------------------------------------------------------


def test_disconnecting_deletes_what_we_made_and_nothing_else(lab: Lab) -> None:
    with Manager(lab.cvat.url, "owner", "pass", "lab") as owner:
        body = {"target_url": "http://other.example", "type": "project", "project_id": 1, "events": ["update:job"]}
        owner.call("POST", "/api/webhooks", json=body)
    lab.connect()
    changes = lab.connection().disconnect()
    assert [(change.what, change.after) for change in changes] == [("webhook", "none")]
    assert [hook.target_url for hook in lab.hooks] == ["http://other.example"]
    assert lab.state["leaving"] is True
    assert "before" not in lab.state
    assert lab.connection().disconnect() == []


def test_an_adopted_webhook_is_given_back_as_it_was(lab: Lab) -> None:
    with Manager(lab.cvat.url, "owner", "pass", "lab") as owner:
        body = {"target_url": HOOK, "type": "project", "project_id": 1, "events": ["update:job"], "is_active": False}
        owner.call("POST", "/api/webhooks", json=body)
    lab.connect()
    assert lab.hooks[0].is_active
    (change,) = lab.connection().disconnect()
    (hook,) = lab.hooks
    assert (hook.events, hook.is_active) == (["update:job"], False)
    assert "hardfirst's secret" in change.after


def test_labels_we_created_stay_and_are_said(lab: Lab) -> None:
    lab.state["options"] = {"create_labels": ["tram"]}
    lab.connect()
    changes = lab.connection().disconnect()
    assert "tram, created by hardfirst" in [change.before for change in changes]
    assert len(lab.cvat.world.labels) == 3


def assign(lab: Lab, *numbers: int) -> None:
    """As the inbox does: a claim, then the assignment."""
    with Manager(lab.cvat.url, "bot", "pass", "lab") as bot:
        for number in numbers:
            bot.assign(number, lab.ann.id)
            lab.memory.put("taken", {str(number): {"user": lab.ann.id, "at": 0.0, "slot": f"{lab.ann.id}/{number}"}})
            lab.memory.put("slot", {f"{lab.ann.id}/{number}": {"job": number, "at": 0.0}})


def test_jobs_we_assigned_and_nobody_began_are_free_again(lab: Lab) -> None:
    fill(lab, 4, 1)
    lab.connect()
    assign(lab, 1, 2)
    with Manager(lab.cvat.url, "owner", "pass", "lab") as owner:
        owner.assign(3, lab.ann.id)
    with Annotator(lab.cvat.url, "ann", "pass", "lab") as ann:
        ann.set_state(2, "in progress")
    changes = lab.connection(later=1801).disconnect()
    jobs = lab.cvat.world.jobs
    assert [jobs[n].assignee_id for n in (1, 2, 3, 4)] == [None, lab.ann.id, lab.ann.id, None]
    assert [str(c) for c in changes if c.what == "jobs"] == [
        "jobs: 1 assigned by hardfirst and not begun -> unassigned",
        "jobs: 1 assigned by hardfirst and begun or done -> stay with their annotators",
    ]
    assert (lab.memory.all("taken"), lab.memory.all("slot")) == ({}, {})


@pytest.mark.parametrize(("later", "whose"), [(1800, "ann"), (1900, None)])
def test_who_saved_something_in_the_last_half_hour_keeps_what_may_be_open(
    lab: Lab, later: float, whose: str | None
) -> None:
    fill(lab, 3, 1)
    lab.connect()
    assign(lab, 1, 2)
    lab.cvat.world.clock = lambda: datetime.now(UTC) + timedelta(seconds=60)
    with Annotator(lab.cvat.url, "ann", "pass", "lab") as ann:
        ann.annotate(2, [(1, 1, [0.0, 0.0, 4.0, 4.0])])
    changes = [str(c) for c in lab.connection(later=later).disconnect() if c.what == "jobs"]
    job = lab.cvat.world.jobs[1]
    assert (job.assignee_id, "an open tab may hold edits" in str(changes)) == (whose and lab.ann.id, bool(whose))


def test_a_person_without_annotators_is_told_that_jobs_are_assigned_to_nobody(lab: Lab) -> None:
    lab.state["options"] = {"annotators": "bot", "queue": "task"}
    assert lab.connect(dry_run=True)[-2].after.endswith("those jobs get boxes and are assigned to bot, 2 at a time")
    lab.state["options"] = {}
    lab.cvat.world.memberships = {n: m for n, m in lab.cvat.world.memberships.items() if m.role != "worker"}
    assert lab.connect(dry_run=True)[0].after.endswith("and are assigned to nobody")


def test_a_job_that_changed_since_it_was_assigned_stays(lab: Lab) -> None:
    fill(lab, 1, 1)
    lab.connect()
    assign(lab, 1)
    lab.memory.rows["taken"]["1"]["updated"] = "2026-01-01T00:00:00+00:00"
    lab.connection().disconnect()
    assert lab.cvat.world.jobs[1].assignee_id == lab.ann.id


def test_a_project_that_was_disconnected_can_be_connected_again(lab: Lab) -> None:
    lab.connect()
    lab.connection().disconnect()
    assert [change.what for change in lab.connect()] == ["jobs", "webhook"]
    assert len(lab.hooks) == 1
    assert "leaving" not in lab.state


def test_a_webhook_that_cvat_does_not_let_us_delete_is_said(lab: Lab) -> None:
    lab.connect()
    faults_of(lab.cvat.world).add("/webhooks/", "DELETE", status=500)
    with pytest.raises(PlatformError, match="failed to delete a webhook of project 1"):
        lab.connection().disconnect()
    faults_of(lab.cvat.world).clear()
    lab.connection().disconnect()
    assert lab.hooks == []
