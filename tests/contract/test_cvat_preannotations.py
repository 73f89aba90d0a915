"""Our shapes in CVAT's jobs beside people's: over the stand-in CVAT, with people and accidents at every request."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from PIL import Image

from common.errors import AccessDeniedError, PlatformError, PlatformUnreachableError
from cvat_adapter.client import Api
from cvat_adapter.ledger import KIND, Ledger, bare
from cvat_adapter.nouns import Job, moment
from cvat_adapter.preannotations import Preannotations
from tests.cvat_server.faults import faults_of
from tests.cvat_server.people import Manager, OpenJob
from tests.cvat_server.server import FakeCvat
from tests.unit.cvat_memory import DictMemory

Json = dict[str, Any]
SIZE = 4
"""Frames of a job."""


class CutError(Exception):
    """The process ends here."""


class Steps:
    """Counts requests and rows, and ends the process right before or after the one a test names."""

    def __init__(self, cut: int | None = None) -> None:
        self.cut, self.done = cut, 0

    def __call__(self) -> None:
        self.done += 1
        if self.done == self.cut:
            raise CutError

    def around(self, act: Callable[[], Any]) -> Any:
        self()
        found = act()
        self()
        return found


class CutApi:
    """The real client between two points where the process may end."""

    def __init__(self, api: Api, steps: Steps) -> None:
        self._api, self._steps = api, steps

    def get(self, path: str, params: Mapping[str, Any] | None = None, **more: Any) -> Any:
        return self._steps.around(lambda: self._api.get(path, params, **more))

    def send(self, method: str, path: str, body: Any = None, params: Any = None, **more: Any) -> Any:
        return self._steps.around(lambda: self._api.send(method, path, body, params, **more))


class CutMemory(DictMemory):
    """The same for rows; both see what is on the disk."""

    def __init__(self, disk: DictMemory, steps: Steps) -> None:
        self.rows, self._steps = disk.rows, steps

    def put(self, kind: str, rows: Mapping[str, Any]) -> None:
        self._steps()
        self.rows.update({(kind, key): json.dumps(value) for key, value in rows.items()})
        self._steps()

    def drop(self, kind: str, keys: Iterable[str] | None = None, limit: int | None = None) -> int:
        self._steps()
        gone = super().drop(kind, keys, limit)
        self._steps()
        return gone


class LateApi:
    """The real client whose next create gets no answer and arrives when the test says so."""

    def __init__(self, api: Api) -> None:
        self._api, self.late = api, list[Callable[[], Any]]()
        self.get = api.get

    def send(self, method: str, path: str, body: Any = None, params: Any = None, **more: Any) -> Any:
        if params == {"action": "create"} and not self.late:
            self.late.append(lambda: self._api.send(method, path, body, params, **more))
            raise PlatformUnreachableError("no answer in time")
        return self._api.send(method, path, body, params, **more)


class Lab:
    """One project with one task of small jobs, our account, a manager, and the disk."""

    def __init__(self, cvat: FakeCvat, api: Api, manager: Manager, labels: list[int]) -> None:
        self.cvat, self.api, self.manager, self.labels = cvat, api, manager, labels
        self.disk, self.now = DictMemory(), datetime(2026, 11, 1, tzinfo=UTC)
        self.job_id = 0

    # --- us ----------------------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        return f"/api/jobs/{self.job_id}"

    def ours(self, api: Any = None, memory: DictMemory | None = None) -> Preannotations:
        """What a process that has just started has."""
        return Preannotations(api or self.api, Ledger(memory or self.disk), self.deleted, clock=lambda: self.now)

    def deleted(self, job: Job) -> set[int]:
        return self.cvat.world.tasks[job.task].deleted_frames

    def listed(self) -> Job:
        raw = self.manager.call("GET", self.path)
        who = (raw["assignee"] or {}).get("id")
        updated = moment(raw["updated_date"])
        assert updated is not None
        return Job(
            raw["id"], raw["task_id"], raw["start_frame"], raw["stop_frame"], raw["state"], raw["stage"], who, updated
        )

    def write(self, version: str, **with_: Any) -> bool:
        return self.ours(**with_).write(self.listed(), self.wanted(version), version)

    def remove(self, **with_: Any) -> bool:
        return self.ours(**with_).remove(self.listed())

    def box(self, frame: int, x: float, *, source: str = "auto", label: int = 0) -> Json:
        """10 by 10 pixels at x on a frame of the job, from 0."""
        points = [x, 0.0, x + 10, 10.0]
        body = {"type": "rectangle", "frame": self.frame(frame), "label_id": self.labels[label], "points": points}
        return {**body, "source": source, "attributes": [], **({"score": 0.7} if source == "auto" else {})}

    def frame(self, frame: int) -> int:
        return self.cvat.world.jobs[self.job_id].start_frame + frame

    def wanted(self, version: str) -> dict[int, list[Json]]:
        """v1 and v2 share a box of frame 0; frame 1 changes, frame 2 loses its boxes, frame 3 gets one."""
        told = {
            "v1": {0: [0, 20], 1: [0], 2: [0, 20]},
            "v2": {0: [0, 40], 1: [5], 3: [0]},
            "one": {1: [0]},
            "": {},
        }
        return {self.frame(f): [self.box(f, x) for x in xs] for f, xs in told[version].items()}

    # --- what is there -----------------------------------------------------------------------------------

    def stored(self) -> list[Json]:
        return list(self.cvat.world.jobs[self.job_id].shapes)

    def at(self, frame: int) -> list[Json]:
        return [s for s in self.stored() if s["frame"] == self.frame(frame)]

    def autos(self) -> Counter[Any]:
        return Counter((s["frame"] - self.frame(0), bare(s)[3]) for s in self.stored() if s["source"] == "auto")

    def expected(self, version: str) -> Counter[Any]:
        shapes = [s for some in self.wanted(version).values() for s in some]
        return Counter((s["frame"] - self.frame(0), bare(s)[3]) for s in shapes)

    def checksum(self) -> str:
        """Over everything in the job that is not the model's, ids and all."""
        job = self.cvat.world.jobs[self.job_id]
        human = [[s for s in job.shapes if s["source"] != "auto"], job.tags, job.tracks]
        return hashlib.sha256(json.dumps(human, sort_keys=True).encode()).hexdigest()

    def patches(self) -> list[str]:
        """Actions of the writes of shapes since the log was cleared."""
        found = [path.partition("action=")[2] for _, path in self.cvat.log.matching("PATCH", self.path)]
        return [action for action in found if action]

    # --- people ------------------------------------------------------------------------------------------

    def person(self, action: str, *shapes: Json) -> list[Json]:
        """What a script or an open tab of a manager sends; the job stays new and unassigned."""
        body = {"version": 0, "tags": [], "shapes": list(shapes), "tracks": []}
        made: list[Json] = self.manager.call("PATCH", f"{self.path}/annotations", params={"action": action}, json=body)[
            "shapes"
        ]
        return made

    def draw(self, frame: int, x: float = 70) -> Json:
        return self.person("create", self.box(frame, x, source="manual"))[0]

    def moved(self, shape: Json) -> Json:
        x = shape["points"][0] + 1.5
        return {**shape, "points": [x, 1.0, x + 11, 12.0], "source": "semi-auto"}


def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (120, 40)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def shop() -> Iterator[tuple[FakeCvat, Api, Manager, Any]]:
    with FakeCvat() as cvat:
        boss, chief = cvat.add_user("boss"), cvat.add_user("chief")
        org = cvat.add_organization("lab", boss)
        cvat.add_member(org, chief, "maintainer")
        labels = [
            {"name": "car", "type": "rectangle", "attributes": [_attribute("occluded by", ["nothing", "tree"])]},
            {"name": "tree", "type": "rectangle"},
        ]
        project = cvat.add_project("demo", labels, owner=boss, org=org)
        api = Api(cvat.url, token=cvat.add_token(boss))
        api.organization = "lab"
        with Manager(cvat.url, "chief", "pass", "lab") as manager:
            yield cvat, api, manager, project
        api.close()
        assert cvat.world.crashes == []


def _attribute(name: str, values: list[str]) -> Json:
    return {"name": name, "mutable": False, "input_type": "select", "values": values, "default_value": values[0]}


@pytest.fixture
def fresh(shop: tuple[FakeCvat, Api, Manager, Any]) -> Iterator[Callable[[], Lab]]:
    """A new job whose frames do not begin with 0, as often as wanted."""
    cvat, api, manager, project = shop
    labels = sorted(label.id for label in cvat.world.labels_of(project))

    def make() -> Lab:
        images = [(f"{n}.png", picture()) for n in range(2 * SIZE)]
        lab = Lab(cvat, api, manager, labels)
        lab.job_id = cvat.jobs(cvat.add_task(project, "pool", images, segment_size=SIZE))[1].id
        cvat.log.clear()
        return lab

    yield make
    faults_of(cvat.world).clear()


@pytest.fixture
def lab(fresh: Callable[[], Lab]) -> Lab:
    return fresh()


def requests(lab: Lab) -> list[str]:
    """'METHOD rest-of-path' of our requests since the log was cleared; the manager's listing is not ours."""
    return [f"{method} {path.removeprefix(lab.path)}" for method, path in lab.cvat.log]


LOOK, SHAPES = ["GET ", "GET /annotations/"], "PATCH /annotations/?action="


# --- writing -----------------------------------------------------------------------------------------------


def test_a_first_write_is_one_patch_and_is_read_again(lab: Lab) -> None:
    job, ours, wanted = lab.listed(), lab.ours(), lab.wanted("v1")
    lab.cvat.log.clear()
    assert ours.write(job, wanted, "v1")
    assert requests(lab) == [*LOOK, f"{SHAPES}create", *LOOK]
    assert lab.autos() == lab.expected("v1")
    assert {s["score"] for s in lab.stored()} == {0.7}


def test_the_same_again_is_no_request_at_all_also_by_a_new_process(lab: Lab) -> None:
    lab.write("v1")
    job = lab.listed()
    lab.cvat.log.clear()
    assert not lab.ours().write(job, lab.wanted("v1"), "v1")
    assert requests(lab) == []


def test_the_same_content_in_a_newer_version_is_noted_without_a_request(lab: Lab) -> None:
    lab.write("v1")
    job = lab.listed()
    lab.cvat.log.clear()
    assert not lab.ours().write(job, lab.wanted("v1"), "v1b")
    assert requests(lab) == []
    row = Ledger(lab.disk).row(lab.job_id)
    assert (row.version, bool(row.goal)) == ("v1b", True)


def test_a_job_that_gets_no_boxes_and_has_none_is_no_request(lab: Lab) -> None:
    job = lab.listed()
    lab.cvat.log.clear()
    assert not lab.ours().write(job, {}, "v1")
    assert requests(lab) == []
    row = Ledger(lab.disk).row(lab.job_id)
    assert (row.version, bool(row.goal)) == ("v1", True)


def test_a_job_that_moved_is_read_and_not_written_where_all_is_as_wanted(lab: Lab) -> None:
    lab.write("v1")
    lab.manager.assign(lab.job_id, lab.manager.id)
    lab.manager.assign(lab.job_id, None)
    job = lab.listed()
    lab.cvat.log.clear()
    assert not lab.ours().write(job, lab.wanted("v1"), "v1")
    assert requests(lab) == LOOK
    assert not lab.write("v1")
    assert lab.patches() == []


def test_a_newer_version_replaces_what_differs_by_one_delete_and_one_create(lab: Lab) -> None:
    lab.write("v1")
    kept = [s["id"] for s in lab.at(0) if s["points"][0] == 0]
    job = lab.listed()
    lab.cvat.log.clear()
    assert lab.ours().write(job, lab.wanted("v2"), "v2")
    assert requests(lab) == [
        *LOOK,
        *LOOK,
        f"{SHAPES}delete",
        *LOOK,
        f"{SHAPES}create",
        *LOOK,
    ]
    assert lab.autos() == lab.expected("v2")
    assert [s["id"] for s in lab.at(0) if s["points"][0] == 0] == kept


def test_boxes_that_only_go_are_one_delete(lab: Lab) -> None:
    lab.write("v1")
    lab.cvat.log.clear()
    assert lab.write("")
    assert (lab.stored(), lab.patches()) == ([], ["delete"])


def test_remove_takes_ours_away_and_leaves_the_rest(lab: Lab) -> None:
    lab.write("v1")
    lab.draw(0)
    before = lab.checksum()
    assert lab.remove()
    assert ([s["source"] for s in lab.stored()], lab.checksum()) == (["manual"], before)
    assert lab.disk.counts() == {}
    lab.cvat.log.clear()
    assert not lab.remove()
    assert lab.patches() == []


@pytest.mark.parametrize("state", ["in progress", "completed", "rejected"])
def test_a_job_that_somebody_began_is_not_touched(lab: Lab, state: str) -> None:
    lab.write("v1")
    lab.manager.set_state(lab.job_id, state)
    lab.cvat.log.clear()
    assert not lab.write("v2")
    assert not lab.remove()
    assert (lab.patches(), lab.autos()) == ([], lab.expected("v1"))


def test_an_assigned_job_is_not_touched_also_where_the_listing_is_older(lab: Lab) -> None:
    job = lab.listed()
    lab.manager.assign(lab.job_id, lab.manager.id)
    lab.cvat.log.clear()
    assert not lab.ours().write(job, lab.wanted("v1"), "v1")
    assert not lab.write("v1")
    assert (lab.patches(), lab.stored()) == ([], [])


def test_frames_of_other_jobs_and_deleted_frames_get_nothing(lab: Lab) -> None:
    task = lab.cvat.world.jobs[lab.job_id].task_id
    lab.manager.call("PATCH", f"/api/tasks/{task}/data/meta", json={"deleted_frames": [lab.frame(1)]})
    other = {0: [{**lab.box(0, 0), "frame": 0}], 999: [{**lab.box(0, 0), "frame": 999}]}
    lab.ours().write(lab.listed(), {**lab.wanted("v1"), **other}, "v1")
    assert lab.autos() == lab.expected("v1") - Counter({(1, (0.0, 0.0, 10.0, 10.0)): 1})
    assert Ledger(lab.disk).row(lab.job_id).goal


def test_what_cvat_drops_in_silence_is_said_and_made_the_next_time(
    lab: Lab, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = lab.api.send

    def dropping(method: str, path: str, body: Any = None, params: Any = None, **more: Any) -> Any:
        return send(method, path, {**body, "shapes": body["shapes"][:-1]}, params, **more)

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(lab.api, "send", dropping)
        assert lab.write("v1")
    assert "CVAT made 4 of 5 boxes" in caplog.text
    assert "1 boxes of ours are missing" in caplog.text
    assert not Ledger(lab.disk).row(lab.job_id).goal
    assert lab.write("v1")
    assert lab.autos() == lab.expected("v1")


# --- beside people -------------------------------------------------------------------------------------------


def test_frames_with_a_shape_a_tag_or_a_track_of_a_person_get_nothing(lab: Lab) -> None:
    lab.draw(0)
    spec = {"label_id": lab.labels[0], "source": "manual", "attributes": []}
    drawn = {"type": "rectangle", "frame": lab.frame(2), "points": [0, 0, 9, 9], "attributes": []}
    track = {**spec, "frame": lab.frame(2), "shapes": [drawn]}
    body = {"version": 0, "shapes": [], "tags": [{**spec, "frame": lab.frame(1)}], "tracks": [track]}
    lab.manager.call("PATCH", f"{lab.path}/annotations", params={"action": "create"}, json=body)
    before = lab.checksum()
    lab.write("v1")
    assert (lab.autos(), lab.checksum()) == (Counter(), before)


def test_a_box_of_ours_that_a_person_moved_is_theirs_and_its_frame_is_left(lab: Lab) -> None:
    lab.write("v1")
    lab.person("update", lab.moved(lab.at(0)[0]))
    before, there = lab.checksum(), lab.at(0)
    lab.write("v2")
    assert (lab.at(0), lab.checksum()) == (there, before)
    assert lab.autos() - Counter({(0, (20.0, 0.0, 30.0, 10.0)): 1}) == lab.expected("v2") - frame_of(lab, "v2", 0)
    lab.write("v1")
    assert (lab.at(0), lab.checksum()) == (there, before)


def frame_of(lab: Lab, version: str, frame: int) -> Counter[Any]:
    return Counter({key: n for key, n in lab.expected(version).items() if key[0] == frame})


def test_a_label_changed_by_an_older_editor_that_keeps_auto_is_a_persons_too(lab: Lab) -> None:
    lab.write("v1")
    shape = {**lab.at(1)[0], "label_id": lab.labels[1], "attributes": []}
    lab.person("update", shape)
    lab.write("v2")
    assert [(s["label_id"], s["points"]) for s in lab.at(1)] == [(lab.labels[1], shape["points"])]


def test_a_box_of_ours_that_a_person_deleted_is_not_made_again(lab: Lab) -> None:
    lab.write("v1")
    lab.person("delete", lab.at(1)[0])
    lab.write("v1")
    assert lab.at(1) == []
    lab.write("v2")
    assert lab.at(1) == []
    assert lab.autos() == lab.expected("v2") - frame_of(lab, "v2", 1)


def test_a_shape_that_a_stale_tab_brings_back_is_a_persons(lab: Lab) -> None:
    lab.write("v1")
    tab = lab.manager.open(lab.job_id)
    lab.write("v2")
    old = tab.on_frame(lab.frame(2))[0]
    tab.move(old["id"], [1.0, 1.0, 9.0, 9.0])
    tab.save()
    lab.manager.set_state(lab.job_id, "new")
    before = lab.checksum()
    lab.write("v1")
    assert [(s["id"], s["source"]) for s in lab.at(2)] == [(old["id"], "semi-auto")]
    assert lab.checksum() == before


def test_boxes_of_somebody_elses_model_are_not_ours(lab: Lab) -> None:
    lab.person("create", lab.box(0, 0))
    lab.write("v1")
    assert len(lab.at(0)) == 1
    lab.remove()
    assert len(lab.at(0)) == 1


def test_untouched_means_exactly_what_the_ledger_says(lab: Lab) -> None:
    def untouched() -> bool:
        return lab.ours().untouched(lab.listed(), lab.api.get(f"{lab.path[1:]}/annotations/", what="look"))

    assert untouched()
    lab.write("v1")
    lab.manager.assign(lab.job_id, lab.manager.id)
    assert untouched()
    mine = lab.draw(3)
    assert not untouched()
    lab.person("delete", mine)
    assert untouched()
    lab.person("update", lab.moved(lab.at(0)[0]))
    assert not untouched()


# --- requests without an answer ------------------------------------------------------------------------------


@pytest.mark.parametrize("arrived", [True, False])
@pytest.mark.parametrize("action", ["create", "delete"])
def test_a_write_whose_answer_is_lost_is_finished_once(lab: Lab, action: str, arrived: bool) -> None:
    lab.write("v1")
    faults = faults_of(lab.cvat.world)
    # Of a replacement the first PATCH is the delete, the second the create.
    hook = faults.before if action == "delete" else faults.after
    hook("PATCH", "annotations", 1, lambda: faults.add("annotations", "PATCH", hang_up=True, late=arrived, times=1))
    with pytest.raises(PlatformUnreachableError):
        lab.write("v2")
    faults.clear()
    lab.write("v2")
    assert lab.autos() == lab.expected("v2")


def test_the_ids_of_a_create_are_on_the_disk_before_anything_else_is_asked(lab: Lab) -> None:
    faults = faults_of(lab.cvat.world)
    faults.after("PATCH", "annotations", 1, lambda: faults.add(lab.path, "GET", status=403))
    with pytest.raises(AccessDeniedError):
        lab.write("one")
    faults.clear()
    lab.person("delete", *lab.stored())
    lab.write("one")
    assert lab.stored() == []  # known to be a person's doing, not a create that never came


def test_a_create_that_comes_after_its_repetition_is_taken_back(lab: Lab) -> None:
    slow = LateApi(lab.api)
    with pytest.raises(PlatformUnreachableError):
        lab.write("v1", api=slow)
    lab.write("v1")
    assert not Ledger(lab.disk).row(lab.job_id).goal  # somebody may not get this job yet
    slow.late[0]()
    assert lab.autos() == lab.expected("v1") + lab.expected("v1")
    lab.write("v1")
    assert lab.autos() == lab.expected("v1")
    assert not lab.write("v1")


def test_a_create_that_comes_after_a_newer_version_is_taken_back(lab: Lab) -> None:
    slow = LateApi(lab.api)
    with pytest.raises(PlatformUnreachableError):
        lab.write("v1", api=slow)
    lab.write("v2")
    slow.late[0]()
    lab.write("v2")
    assert lab.autos() == lab.expected("v2")


def test_a_create_that_never_comes_is_forgotten_after_an_hour(lab: Lab) -> None:
    with pytest.raises(PlatformUnreachableError):
        lab.write("v1", api=LateApi(lab.api))
    lab.write("v1")
    lab.now += timedelta(minutes=61)
    assert not lab.write("v1")
    assert not Ledger(lab.disk).row(lab.job_id).writing
    assert Ledger(lab.disk).row(lab.job_id).goal


def test_after_three_creates_without_an_answer_the_job_waits_for_an_hour(lab: Lab) -> None:
    for _ in range(3):
        with pytest.raises(PlatformUnreachableError):
            lab.write("v1", api=LateApi(lab.api))
    lab.cvat.log.clear()
    assert not lab.write("v1")
    assert lab.patches() == []
    lab.now += timedelta(minutes=61)
    assert lab.write("v1")
    assert lab.autos() == lab.expected("v1")


def test_a_refusal_leaves_everything_as_it_was(lab: Lab) -> None:
    lab.write("v1")
    weak = Api(lab.cvat.url, token=lab.cvat.add_token(lab.cvat.world.users[1], read_only=True))
    weak.organization = "lab"
    with pytest.raises(AccessDeniedError, match="read-only"):
        lab.write("v2", api=weak)
    weak.close()
    assert lab.autos() == lab.expected("v1")
    lab.write("v2")
    assert lab.autos() == lab.expected("v2")


def test_a_job_that_is_gone_is_an_error_and_no_crash(lab: Lab) -> None:
    job, ours, wanted = lab.listed(), lab.ours(), lab.wanted("v1")
    lab.manager.call("DELETE", f"/api/tasks/{job.task}")
    with pytest.raises(PlatformError):
        ours.write(job, wanted, "v1")


# --- the process ends anywhere ---------------------------------------------------------------------------------


Act = Callable[..., bool]
ACTS: dict[str, tuple[Sequence[str], Act]] = {
    "write": ((), lambda lab, **with_: lab.write("v1", **with_)),
    "replace": (("v1",), lambda lab, **with_: lab.write("v2", **with_)),
    "remove": (("v1",), lambda lab, **with_: lab.remove(**with_)),
}


def _end_state(lab: Lab) -> Json:
    """What must not depend on accidents: ids and times do."""
    row = lab.disk.get(KIND, [str(lab.job_id)]).get(str(lab.job_id))
    known = row and {f: sorted(json.dumps(c) for _, c in some) for f, some in row["frames"].items()}
    rest = row and [row[k] for k in ("version", "goal", "fresh", "deleting", "sent", "closed")]
    return {"autos": lab.autos(), "people": lab.checksum(), "known": _from_zero(known, lab), "rest": _no_goal(rest)}


def _from_zero(known: Any, lab: Lab) -> Any:
    return known and {int(f) - lab.frame(0): len(some) for f, some in known.items()}


def _no_goal(rest: Any) -> Any:
    return rest and [rest[0], bool(rest[1]), *rest[2:]]


@pytest.mark.parametrize("name", ACTS)
def test_a_process_that_ends_anywhere_changes_nothing_about_the_end(name: str, fresh: Callable[[], Lab]) -> None:
    before, act = ACTS[name]

    def run(cut: int | None) -> tuple[Json, int, bool]:
        lab, steps, ended = fresh(), Steps(cut), False
        for version in before:
            lab.write(version)
        people = lab.checksum()
        try:
            act(lab, api=CutApi(lab.api, steps), memory=CutMemory(lab.disk, steps))
        except CutError:
            ended = True
        for _ in range(2):
            act(lab)
            lab.now += timedelta(minutes=61)  # what was never sent is not waited for any longer
        act(lab)
        assert lab.checksum() == people
        return {**_end_state(lab), "people": ""}, steps.done, ended

    undisturbed, steps, _ = run(None)
    assert steps > 10
    for cut in range(1, steps + 1):
        found, _, ended = run(cut)
        assert ended
        assert found == undisturbed, f"{name}, ended at step {cut} of {steps}"


@pytest.mark.parametrize("name", ACTS)
def test_right_after_an_end_anywhere_one_more_call_puts_all_in_order(name: str, fresh: Callable[[], Lab]) -> None:
    before, act = ACTS[name]
    wanted = {"write": "v1", "replace": "v2", "remove": ""}[name]
    for cut in count(1):
        lab, steps = fresh(), Steps(cut)
        for version in before:
            lab.write(version)
        try:
            act(lab, api=CutApi(lab.api, steps), memory=CutMemory(lab.disk, steps))
        except CutError:
            act(lab)
            assert lab.autos() == lab.expected(wanted), f"{name}, ended at step {cut}"
        else:
            assert cut > 10
            return


# --- a person at every request ---------------------------------------------------------------------------------


def _add(lab: Lab) -> None:
    for frame in range(SIZE):
        lab.draw(frame)


def _move_own(lab: Lab) -> None:
    for shape in [s for s in lab.stored() if s["source"] == "manual"]:
        lab.person("update", {**shape, "points": [80.0, 3.0, 95.0, 14.0]})


def _delete_own(lab: Lab) -> None:
    for shape in [s for s in lab.stored() if s["source"] == "manual"]:
        lab.person("delete", shape)


def _move_ours(lab: Lab) -> None:
    for shape in [s for s in lab.stored() if s["source"] == "auto"]:
        lab.person("update", lab.moved(shape))


def _relabel_one_of_ours(lab: Lab) -> None:
    for shape in [s for s in lab.stored() if s["source"] == "auto"][:1]:
        lab.person("update", {**shape, "label_id": lab.labels[1], "attributes": [], "source": "semi-auto"})


def _delete_ours(lab: Lab) -> None:
    lab.person("delete", *[s for s in lab.stored() if s["source"] == "auto"])


def _through_the_editor(lab: Lab) -> None:
    tab = OpenJob.load(lab.manager, lab.job_id)
    tab.draw(lab.frame(1), lab.labels[0], [60.0, 1.0, 75.0, 16.0])
    for shape in tab.on_frame(lab.frame(0)):
        if shape["source"] == "auto":
            tab.move(shape["id"], lab.moved(shape)["points"])
    tab.save()


PEOPLE = {
    "adds": _add,
    "moves their own": _move_own,
    "deletes their own": _delete_own,
    "moves ours": _move_ours,
    "relabels one of ours": _relabel_one_of_ours,
    "deletes ours": _delete_ours,
    "works in the editor": _through_the_editor,
}


def _replace_with(lab: Lab, n: int, when: str, act: Callable[[Lab], None]) -> tuple[list[Json], list[tuple[str, str]]]:
    """Replace v1 by v2 while a person acts at our n-th request: (their shapes right then, all requests)."""
    lab.write("v1")
    lab.draw(0, 100)
    job = lab.listed()
    theirs: list[Json] = []

    def acting() -> None:
        act(lab)
        theirs.extend(s for s in lab.stored() if s["source"] != "auto")

    getattr(faults_of(lab.cvat.world), when)(None, f"{lab.path}(/|$)", n, acting)
    lab.cvat.log.clear()
    lab.ours().write(job, lab.wanted("v2"), "v2")
    log = list(lab.cvat.log)
    faults_of(lab.cvat.world).clear()
    return theirs, log


def _requests_of_a_replacement(fresh: Callable[[], Lab]) -> list[tuple[str, str]]:
    """Undisturbed: nobody gets to the 99th."""
    _, log = _replace_with(fresh(), 99, "before", _add)
    return log


def _exactly(shapes: Iterable[Json]) -> list[str]:
    return sorted(json.dumps(s, sort_keys=True) for s in shapes)


@pytest.mark.parametrize("what", PEOPLE)
def test_what_a_person_does_at_any_request_survives_and_appears_once(what: str, fresh: Callable[[], Lab]) -> None:
    plain = _requests_of_a_replacement(fresh)
    delete = next(n for n, (_, path) in enumerate(plain, start=1) if "action=delete" in path)
    window = {(delete, "before"), (delete - 1, "after")}
    lost = set()
    for n in range(1, len(plain) + 1):
        for when in ("before", "after"):
            lab = fresh()
            theirs, _ = _replace_with(lab, n, when, PEOPLE[what])
            for _ in range(2):
                lab.write("v2")
            now = [s for s in lab.stored() if s["source"] != "auto"]
            if _exactly(now) != _exactly(theirs):
                lost.add((n, when))
            _assert_ours_are_not_doubled(lab, f"{what} {when} request {n}")
    # The one window: see the docstring of Preannotations.
    touches_ours = what in ("moves ours", "relabels one of ours", "works in the editor")
    assert lost <= (window if touches_ours else set())
    assert what != "moves ours" or lost == window


def _assert_ours_are_not_doubled(lab: Lab, when: str) -> None:
    """On no frame more of ours than one version has; a frame that a person touched may have an older one's."""
    found = lab.autos()
    for frame in range(SIZE):
        here = Counter({key: n for key, n in found.items() if key[0] == frame})
        assert any(here <= frame_of(lab, version, frame) for version in ("v1", "v2")), f"{when}, frame {frame}: {here}"


def test_a_person_who_adds_before_the_last_read_keeps_their_frames_to_themselves(fresh: Callable[[], Lab]) -> None:
    plain = _requests_of_a_replacement(fresh)
    create = next(n for n, (_, path) in enumerate(plain, start=1) if "action=create" in path)
    lab = fresh()
    _, log = _replace_with(lab, create - 1, "before", _add)
    assert sum("action=create" in path for _, path in log) == SIZE  # all of them the person's
    assert lab.autos() <= lab.expected("v1")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_job_assigned_at_any_request_gets_at_most_the_write_under_way(when: str, fresh: Callable[[], Lab]) -> None:
    plain = _requests_of_a_replacement(fresh)
    for n in range(1, len(plain) + 1):
        seen: list[int] = []
        lab = fresh()

        def assign(lab: Lab) -> None:
            seen.append(len(lab.cvat.log))  # noqa: B023
            lab.manager.assign(lab.job_id, lab.manager.id)

        _, log = _replace_with(lab, n, when, assign)
        after = log[seen[0] :]
        looks = [k for k, one in enumerate(after) if one == ("GET", lab.path)]
        allowed = after[: looks[0]] if looks else after
        writes = [one for one in after if "action=" in one[1]]
        assert len(writes) <= 1
        assert all(one in allowed for one in writes)


# --- two processes at one job ----------------------------------------------------------------------------------


class AsleepApi:
    """The real client of a process that sleeps right before or after its n-th request, while others go on."""

    def __init__(self, api: Api, at: int, meanwhile: Callable[[], object], *, after: bool) -> None:
        self._api, self._left, self._meanwhile, self._after = api, at, meanwhile, after

    def get(self, path: str, params: Mapping[str, Any] | None = None, **more: Any) -> Any:
        return self._around(lambda: self._api.get(path, params, **more))

    def send(self, method: str, path: str, body: Any = None, params: Any = None, **more: Any) -> Any:
        return self._around(lambda: self._api.send(method, path, body, params, **more))

    def _around(self, act: Callable[[], Any]) -> Any:
        self._left -= 1
        if self._left == 0 and not self._after:
            self._meanwhile()
        found = act()
        if self._left == 0 and self._after:
            self._meanwhile()
        return found

    @property
    def slept(self) -> bool:
        return self._left <= 0


def test_a_process_that_finds_anothers_row_says_so_and_sends_nothing(lab: Lab) -> None:
    api = AsleepApi(lab.api, 2, lambda: lab.write("v1"), after=True)
    with pytest.raises(PlatformError, match=r"another process of hardfirst has written to job \d+ meanwhile"):
        lab.write("v1", api=api)
    assert lab.patches() == ["create"]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("before", "late", "new"), [("", "v1", "v1"), ("", "v1", "v2"), ("v1", "one", "v2")])
def test_a_process_that_slept_while_another_wrote_leaves_what_that_one_made(
    fresh: Callable[[], Lab], before: str, late: str, new: str, after: bool
) -> None:
    for at in count(1):
        lab = fresh()
        lab.write(before)
        people = lab.checksum()
        api = AsleepApi(lab.api, at, lambda lab=lab: lab.write(new), after=after)  # type: ignore[misc]
        with suppress(PlatformError):
            lab.write(late, api=api)
        if not api.slept:
            assert at > 5
            return
        assert lab.autos() == lab.expected(new), f"slept at request {at}"
        lab.write(new)
        assert lab.autos() == lab.expected(new)
        assert lab.checksum() == people
