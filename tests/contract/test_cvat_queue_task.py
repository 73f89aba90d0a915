"""Queue tasks against the stand-in CVAT: exact order, answers on their way back, clearing, being cut off anywhere."""

from __future__ import annotations

import copy
import io
import logging
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import SecretStr

from common.config import Settings
from common.domain import QueueItem, ShownBox
from common.errors import PlatformError
from common.store import open_store
from cvat_adapter import wire
from cvat_adapter.client import open_api
from cvat_adapter.inbox import Inbox
from cvat_adapter.ledger import Ledger
from cvat_adapter.nouns import sample_id
from cvat_adapter.preannotations import Preannotations
from cvat_adapter.queue_plan import sample_of
from cvat_adapter.queue_task import QueueTasks
from cvat_adapter.reading import Reader
from tests.cvat_server import world as stored
from tests.cvat_server.faults import faults_of
from tests.cvat_server.people import Annotator, Manager
from tests.cvat_server.server import FakeCvat

FIRST, SECOND = "hardfirst@1.1-abcd", "hardfirst@1.2-ef01"
BOX = [10.0, 8.0, 40.0, 30.0]
TAIL = {"name": "tail", "mutable": False, "input_type": "select", "values": ["no", "yes"], "default_value": "no"}
LABELS: list[Any] = [{"name": "cat", "type": "rectangle", "color": "#112233", "attributes": [TAIL]}, "dog"]


@cache
def photo(seed: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 48), (seed % 256, 37 * seed % 256, 11)).save(out, "PNG")
    return out.getvalue()


class Desk:
    """A project of two tasks with jobs of 35 frames, two annotators, and the queue tasks with all they work with."""

    def __init__(self, cvat: FakeCvat, folder: Path, images: int = 70) -> None:
        self.cvat, self.folder, self.world = cvat, folder, cvat.world
        owner = cvat.add_user("plugin")
        lab = cvat.add_organization("lab", owner)
        for name in ("anna", "ben"):
            cvat.add_member(lab, cvat.add_user(name), "worker")
        self.project = cvat.add_project("Birds", LABELS, owner=owner, org=lab)
        photos = [(f"night/{i:03}.png", photo(i)) for i in range(2 * images)]
        halves = (photos[:images], photos[images:])
        self.sources = [
            cvat.add_task(self.project, f"pool {n}", half, segment_size=35) for n, half in enumerate(halves)
        ]
        self.settings = Settings(
            home=folder / "home",
            cvat_url=cvat.url,
            cvat_access_token=SecretStr(cvat.add_token(owner)),
            url="http://127.0.0.1:9",
            _env_file=None,
        )
        self.settings.folder.mkdir(parents=True, exist_ok=True)
        self.store = open_store(self.settings.database, self.settings.folder)
        self.memory = self.store.memories.of(f"cvat:{self.project.id}")
        self.saved: dict[str, Any] = {}
        self.clock = [1_900_000_000.0]
        self.api = open_api(self.settings)
        self.api.organization = "lab"
        self.people: dict[str, Annotator | Manager] = {}
        self.orders = {FIRST: self.shuffled(1), SECOND: self.shuffled(2)}
        self.version = FIRST
        self.start()

    def shuffled(self, seed: int) -> dict[str, dict[str, float]]:
        """Every frame of the source at a place of its own."""
        samples = [sample_id(t.id, n) for t in self.sources for n in range(t.size)]
        shuffled = np.random.default_rng(seed).permutation(samples).tolist()
        return {s: {"order": i / len(samples)} for i, s in enumerate(shuffled)}

    def best(self, count: int, *, out: set[str] = frozenset()) -> list[str]:  # type: ignore[assignment]
        places = self.orders[self.version]
        return sorted((s for s in places if s not in out), key=lambda s: places[s]["order"])[:count]

    def start(self) -> None:
        """A new process: what it knows is on the disk."""
        self.state = copy.deepcopy(self.saved)
        self.state["active"] = self.version
        project = str(self.project.id)

        def save(state: dict[str, Any]) -> None:
            self.saved = copy.deepcopy(state)

        def clock() -> float:
            return self.clock[0]

        self.reader = Reader(self.api, project, self.settings, self.memory, self.state)
        self.queue = QueueTasks(
            project, self.api, self.reader, self.memory, self.settings, self.state, save, clock=clock
        )
        self.pre = Preannotations(self.api, Ledger(self.memory), self.reader.deleted)
        self.inbox = Inbox(self.api, self.memory, self.settings, self.state, self.pre.untouched, clock=clock)

    def close(self) -> None:
        for person in self.people.values():
            person.close()
        self.api.close()
        self.store.close()

    def person(self, name: str) -> Any:
        if name not in self.people:
            kind = Manager if name == "plugin" else Annotator
            self.people[name] = kind(self.cvat.url, name, "pass", "lab")
        return self.people[name]

    # --- what the keeper does ----------------------------------------------------------------------------

    def step(self) -> bool:
        return self.queue.step(self.version, self.orders[self.version], self.reader.jobs(), annotators=2)

    def settle(self) -> int:
        """Steps until there is nothing to do; returns how many did something."""
        for count in range(100):
            if not self.step():
                return count
        raise AssertionError("the queue tasks never come to rest")

    def hand_out(self) -> None:
        jobs = self.reader.jobs()
        self.inbox.refill([o for o in self.queue.offers(jobs) if o.job.writable], jobs)

    def preannotate(self) -> None:
        labels = self.queue.labels()
        for offer in self.queue.offers(self.reader.jobs()):
            boxes = (ShownBox("cat", (1.0, 2.0, 30.0, 40.0), 0.75),)
            wanted = {
                n: wire.shapes(QueueItem(s, 0.0, boxes, 64, 48), n, labels)
                for n, s in self.queue.wanted(offer.job).items()
            }
            self.pre.write(offer.job, wanted, self.version)

    # --- what is there -----------------------------------------------------------------------------------

    @property
    def tasks(self) -> list[stored.Task]:
        """The queue tasks, oldest first."""
        return [t for t in self.world.tasks.values() if t.project_id != self.project.id]

    def samples(self, task: stored.Task) -> list[str | None]:
        return [sample_of(f.name) for f in task.frames]

    def jobs(self, task: stored.Task) -> list[stored.Job]:
        return self.world.jobs_of(task)

    def held(self, name: str) -> list[stored.Job]:
        mine = self.person(name).id
        return [j for j in self.world.jobs.values() if j.assignee_id == mine and j.state != "completed"]

    def label(self, name: str) -> int:
        """Id of a label in the project of the queue tasks."""
        return self.queue.labels().ids[name]

    def source(self, sample: str) -> stored.Job:
        task, _, frame = sample.partition(":")
        return next(j for j in self.world.jobs.values() if j.task_id == int(task) and j.has_frame(int(frame)))

    def shapes(self, sample: str) -> list[dict[str, Any]]:
        """What is on a frame of the source."""
        frame = int(sample.partition(":")[2])
        return [s for s in self.source(sample).shapes if s["frame"] == frame]

    def assign(self, job: stored.Job, name: str) -> None:
        self.person("plugin").assign(job.id, self.person(name).id)

    def answer(self, job: stored.Job, *frames: int, name: str = "anna") -> None:
        """The person draws a dog on these frames of the job and finishes it."""
        self.assign(job, name)
        self.person(name).annotate(job.id, [(n, self.label("dog"), BOX) for n in frames])

    def writes(self, method: str | None = None, start: str = "") -> list[tuple[str, str]]:
        return [r for r in self.cvat.log.matching(method, start) if r[0] != "GET"]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with FakeCvat() as cvat:
        made = Desk(cvat, tmp_path)
        yield made
        made.close()
        assert made.world.crashes == []


# --- making ----------------------------------------------------------------------------------------------


def test_the_jobs_of_a_queue_task_hold_the_best_frames_in_exact_order(desk: Desk) -> None:
    desk.settle()
    (task,) = desk.tasks
    assert task.name == "hardfirst queue: Birds, order 1"
    assert desk.samples(task) == desk.best(100)
    assert [len(j.frame_numbers) for j in desk.jobs(task)] == [10] * 10
    offers = desk.queue.offers(desk.reader.jobs())
    assert [o.job.id for o in offers] == [j.id for j in desk.jobs(task)]
    assert [o.value for o in offers] == sorted({o.value for o in offers}, reverse=True)
    assert offers[0].value == 1
    assert offers[0].sample == desk.best(1)[0]


def test_a_queue_task_shows_the_very_images_of_the_source(desk: Desk) -> None:
    desk.settle()
    (task,) = desk.tasks
    frames = {sample_id(t.id, n): f.data for t in desk.sources for n, f in enumerate(t.frames)}
    assert [f.data for f in task.frames] == [frames[s] for s in desk.best(100)]
    assert not (desk.settings.folder / "queue-tasks" / str(desk.project.id)).exists()


def test_queue_tasks_are_in_a_project_of_their_own_with_the_same_labels(desk: Desk) -> None:
    desk.settle()
    (task,) = desk.tasks
    sibling = desk.world.projects[task.project_id or 0]
    assert sibling.name == "Birds (hardfirst queue)"
    assert sibling.organization_id == desk.project.organization_id
    assert desk.saved["sibling"] == sibling.id

    def of(project: stored.Project) -> list[Any]:
        labels = desk.world.labels_of(project)
        return [(one.name, one.type, one.color, [(a.name, a.values) for a in one.attributes]) for one in labels]

    assert of(sibling) == of(desk.project)
    assert {t.id for t in desk.world.tasks.values() if t.project_id == desk.project.id} == {t.id for t in desk.sources}


def test_cvat_tells_us_of_the_queue_tasks_as_of_the_project(desk: Desk) -> None:
    desk.settle()
    (hook,) = desk.world.webhooks.values()
    assert (hook.project_id, hook.target_url) == (desk.saved["sibling"], "http://127.0.0.1:9/webhooks")
    assert hook.secret == desk.settings.secrets()[0]


@pytest.mark.parametrize("how", ["deleted", "elsewhere", "fewer events"])
def test_a_webhook_that_no_longer_tells_of_the_queue_tasks_is_put_right(desk: Desk, how: str) -> None:
    desk.settle()
    (hook,) = desk.world.webhooks.values()
    if how == "deleted":
        desk.world.webhooks.clear()
    elif how == "elsewhere":
        hook.target_url = "http://elsewhere.example/webhooks"
    else:
        hook.events = ["update:job"]
    (drift,) = desk.queue.drift()
    assert drift.healed
    (hook,) = desk.world.webhooks.values()
    assert hook.target_url == "http://127.0.0.1:9/webhooks"
    assert {"update:job", "create:task"} <= set(hook.events)
    assert desk.saved["sibling_hook"]["id"] == hook.id
    assert desk.queue.drift() == []


def test_a_new_address_of_ours_reaches_the_queue_tasks_with_the_next_one(desk: Desk) -> None:
    desk.settle()
    desk.settings = desk.settings.model_copy(update={"url": "http://127.0.0.1:10"})
    desk.version = SECOND
    desk.start()
    desk.settle()
    (hook,) = desk.world.webhooks.values()
    assert hook.target_url == "http://127.0.0.1:10/webhooks"


def test_a_webhook_of_the_queue_tasks_that_a_person_switched_off_stays_off(desk: Desk) -> None:
    desk.settle()
    (hook,) = desk.world.webhooks.values()
    hook.is_active, hook.events = False, []
    assert desk.queue.drift() == []
    assert not hook.is_active


def test_a_project_of_queue_tasks_that_is_gone_is_no_drift(desk: Desk) -> None:
    desk.settle()
    desk.person("plugin").call("DELETE", f"/api/projects/{desk.saved['sibling']}")
    assert desk.queue.drift() == []
    assert "sibling" not in desk.saved


def rename(desk: Desk, **names: str) -> None:
    """Labels of the source, old name -> new name, as a person does it."""
    ids = {one.name: one.id for one in desk.world.labels_of(desk.project)}
    for old in names:  # CVAT takes no name twice
        desk.world.labels[ids[old]].name = f"{old} for a moment"
    for old, new in names.items():
        desk.person("plugin").call("PATCH", f"/api/labels/{ids[old]}", json={"name": new})


def answered(desk: Desk) -> set[str]:
    return {b.name for _, found in desk.reader.annotations() for a in found for b in a.boxes}


@pytest.mark.parametrize("names", [{"dog": "hound"}, {"dog": "cat", "cat": "dog"}], ids=["renamed", "swapped"])
def test_a_renamed_label_is_renamed_in_the_queue_and_its_answers_count(desk: Desk, names: dict[str, str]) -> None:
    desk.settle()
    job, sibling = desk.jobs(desk.tasks[0])[0], desk.queue.labels().ids
    desk.answer(job, 0)
    rename(desk, **names)
    (drift,) = desk.queue.drift()
    assert drift.healed
    assert desk.queue.labels().ids == {names.get(name, name): number for name, number in sibling.items()}
    assert answered(desk) == {names["dog"]}
    assert desk.queue.drift() == []
    desk.settle()
    (copy_,) = desk.shapes(desk.best(1)[0])
    assert desk.world.labels[copy_["label_id"]].name == names["dog"]


def test_answers_under_a_label_renamed_a_moment_ago_are_copied_under_its_new_name(desk: Desk) -> None:
    desk.settle()
    desk.answer(desk.jobs(desk.tasks[0])[0], 0)
    rename(desk, dog="hound")
    desk.settle()
    (copy_,) = desk.shapes(desk.best(1)[0])
    assert desk.world.labels[copy_["label_id"]].name == "hound"
    assert set(desk.queue.labels().ids) == {"cat", "hound"}


def test_a_label_that_came_later_is_in_the_next_queue_task(desk: Desk) -> None:
    desk.settle()
    path = f"/api/projects/{desk.project.id}"
    desk.person("plugin").call("PATCH", path, json={"labels": [{"name": "owl", "type": "rectangle"}]})
    desk.version = SECOND
    desk.settle()
    assert list(desk.queue.labels().ids) == ["cat", "dog", "owl"]


def test_nothing_is_sent_when_there_is_nothing_to_do(desk: Desk) -> None:
    desk.settle()
    jobs = desk.reader.jobs()
    desk.cvat.log.clear()
    assert not desk.queue.step(desk.version, desk.orders[desk.version], jobs, annotators=2)
    assert desk.cvat.log == []


def test_a_queue_task_costs_a_request_a_chunk_and_a_few_more(desk: Desk) -> None:
    desk.cvat.log.clear()
    desk.settle()
    reads = desk.cvat.log.matching("GET")
    assert len([r for r in reads if "type=chunk" in r[1]]) == 2
    assert [r for r in reads if "type=frame" in r[1]] == []
    assert len([r for r in reads if r[1].endswith("/data/meta")]) == 3
    assert Counter(path.partition("?")[0] for _, path in desk.writes()) == {
        "/api/projects": 1,
        "/api/webhooks": 1,
        "/api/tasks": 1,
        f"/api/tasks/{desk.tasks[0].id}/data/": 3,
    }


def test_few_frames_of_a_chunk_come_one_by_one(desk: Desk) -> None:
    desk.orders[FIRST] = {s: {"order": n} for n, s in enumerate(desk.best(3))}
    desk.cvat.log.clear()
    desk.settle()
    assert [r for r in desk.cvat.log if "type=chunk" in r[1]] == []
    assert desk.samples(desk.tasks[0]) == list(desk.orders[FIRST])


def test_a_corrupt_image_is_left_out_and_said(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    bad = desk.best(3)[1]
    task, _, frame = bad.partition(":")
    desk.world.tasks[int(task)].frames[int(frame)].data = b"no image"
    with caplog.at_level(logging.WARNING):
        desk.settle()
    assert desk.samples(desk.tasks[0]) == [s for s in desk.best(100) if s != bad]
    assert f"frame {frame} of task {task}" in caplog.text
    desk.version = SECOND
    desk.settle()
    assert bad not in desk.samples(desk.tasks[-1])


def test_a_frame_that_cvat_does_not_give_is_left_out_of_this_task(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    one, other = desk.sources
    desk.orders[FIRST] = {s: {"order": n} for n, s in enumerate([f"{one.id}:3", f"{other.id}:0", f"{one.id}:1"])}
    fault = faults_of(desk.world).add(rf"/api/tasks/{other.id}/data/$", "GET", status=500)
    with caplog.at_level(logging.WARNING):
        desk.settle()
    assert desk.samples(desk.tasks[0]) == [f"{one.id}:3", f"{one.id}:1"]
    assert f"fetch frame 0 of task {other.id}" in caplog.text
    faults_of(desk.world).clear(fault)
    assert desk.settle() == 0
    desk.clock[0] += 4_000
    desk.settle()
    assert desk.samples(desk.tasks[1]) == [f"{other.id}:0"]


def test_a_frame_that_was_deleted_at_the_source_is_not_queued(desk: Desk) -> None:
    task, _, frame = desk.best(1)[0].partition(":")
    desk.person("plugin").call("PATCH", f"/api/tasks/{task}/data/meta", json={"deleted_frames": [int(frame)]})
    desk.settle()
    assert desk.samples(desk.tasks[0]) == desk.best(100)[1:]


# --- handing out -----------------------------------------------------------------------------------------


def test_both_annotators_get_the_first_blocks(desk: Desk) -> None:
    desk.settle()
    desk.hand_out()
    (task,) = desk.tasks
    first = [j.id for j in desk.jobs(task)[:4]]
    assert sorted(j.id for name in ("anna", "ben") for j in desk.held(name)) == first
    assert [len(desk.held(name)) for name in ("anna", "ben")] == [2, 2]


def test_queue_jobs_are_pre_annotated_with_the_labels_of_their_own_project(desk: Desk) -> None:
    desk.settle()
    desk.preannotate()
    shapes = [s for j in desk.jobs(desk.tasks[0]) for s in j.shapes]
    assert {s["label_id"] for s in shapes} == {desk.label("cat")}
    assert sorted(s["frame"] for s in shapes) == list(range(100))
    assert {s["source"] for s in shapes} == {"auto"}


def test_only_queue_jobs_show_source_frames(desk: Desk) -> None:
    desk.settle()
    jobs = desk.reader.jobs()
    (task,) = desk.tasks
    third = next(j for j in jobs if j.id == desk.jobs(task)[2].id)
    source = next(j for j in jobs if j.task == desk.sources[0].id)
    assert desk.queue.wanted(third) == dict(zip(range(20, 30), desk.best(30)[20:], strict=True))
    assert desk.queue.wanted(source) == {}


def test_the_next_part_of_an_order_comes_before_annotators_run_dry(desk: Desk) -> None:
    desk.settle()
    (task,) = desk.tasks
    for job in desk.jobs(task)[:6]:
        desk.assign(job, "anna")
    assert desk.settle() == 0  # four are free, for two people with two each
    desk.assign(desk.jobs(task)[6], "anna")
    desk.settle()
    parts = desk.tasks
    assert [t.name for t in parts] == ["hardfirst queue: Birds, order 1", "hardfirst queue: Birds, order 1, part 2"]
    assert [s for t in parts for s in desk.samples(t)] == desk.best(140)


# --- answers ---------------------------------------------------------------------------------------------


def test_a_finished_queue_job_answers_its_source_frames(desk: Desk) -> None:
    desk.settle()
    job = desk.jobs(desk.tasks[0])[0]
    desk.answer(job, 0, 3)
    answers = {s: [b.name for a in found for b in a.boxes] for s, found in desk.reader.annotations() if found}
    best = desk.best(10)
    assert answers == {s: ["dog"] if s in (best[0], best[3]) else [] for s in best}
    assert {s.id for s in desk.reader.samples() if s.answers} == set(best)


def test_its_shapes_are_copied_to_the_source_once_with_their_source_kept(desk: Desk) -> None:
    desk.settle()
    desk.preannotate()
    job, best = desk.jobs(desk.tasks[0])[0], desk.best(10)
    desk.assign(job, "ben")
    editor = desk.person("ben").open(job.id)
    moved, relabelled = editor.on_frame(0)[0]["id"], editor.on_frame(1)[0]["id"]
    editor.move(moved, BOX)
    editor.relabel(relabelled, desk.label("dog"))
    editor.delete(editor.on_frame(2)[0]["id"])
    editor.draw(3, desk.label("dog"), BOX)
    editor.finish()
    desk.settle()
    names = {one.id: one.name for one in desk.world.labels_of(desk.project)}
    found = [sorted((names[s["label_id"]], s["source"]) for s in desk.shapes(sample)) for sample in best[:5]]
    assert found == [
        [("cat", "semi-auto")],
        [("dog", "semi-auto")],
        [],
        [("cat", "auto"), ("dog", "manual")],
        [("cat", "auto")],
    ]
    tail = desk.world.labels_of(desk.project)[0].attributes[0].id
    assert desk.shapes(best[0])[0]["attributes"] == [{"spec_id": tail, "value": "no"}]
    assert desk.shapes(best[0])[0]["points"] == BOX
    desk.start()
    assert desk.settle() == 0
    assert [len(desk.shapes(sample)) for sample in best[:5]] == [1, 1, 0, 2, 1]


def test_answers_go_back_in_one_write_per_source_job(desk: Desk) -> None:
    desk.settle()
    desk.answer(desk.jobs(desk.tasks[0])[0], *range(10))
    targets = {desk.source(s).id for s in desk.best(10)}
    desk.cvat.log.clear()
    desk.settle()
    sent = [path for method, path in desk.writes("PATCH", "/api/jobs/") if "action=create" in path]
    assert sorted(sent) == sorted(f"/api/jobs/{n}/annotations/?action=create" for n in targets)


def test_source_jobs_that_somebody_has_are_not_written_to(desk: Desk) -> None:
    desk.settle()
    sample = desk.best(1)[0]
    desk.assign(desk.source(sample), "ben")
    desk.answer(desk.jobs(desk.tasks[0])[0], *range(10))
    desk.settle()
    assert desk.source(sample).shapes == []
    assert all(desk.shapes(s) for s in desk.best(10) if desk.source(s) is not desk.source(sample))


def test_a_persons_shape_at_the_source_is_never_touched_or_doubled(desk: Desk) -> None:
    desk.settle()
    first, second = desk.best(2)
    source = desk.source(first)
    theirs = {"type": "rectangle", "label_id": desk.world.labels_of(desk.project)[0].id, "points": [1, 1, 9, 9]}
    body = {"shapes": [{**theirs, "frame": int(first.partition(":")[2]), "source": "manual"}]}
    path = f"/api/jobs/{source.id}/annotations"
    desk.person("plugin").call("PATCH", path, params={"action": "create"}, json=body)
    before = copy.deepcopy(desk.shapes(first))
    desk.answer(desk.jobs(desk.tasks[0])[0], 0, 1)
    desk.settle()
    assert desk.shapes(first) == before
    assert [s["points"] for s in desk.shapes(second)] == [BOX]


def test_our_own_boxes_at_the_source_make_room_for_the_answer(desk: Desk) -> None:
    desk.settle()
    sample = desk.best(1)[0]
    source = next(j for j in desk.reader.jobs() if j.id == desk.source(sample).id)
    boxes = (ShownBox("cat", (1.0, 2.0, 30.0, 40.0), 0.75),)
    frame = int(sample.partition(":")[2])
    shapes = wire.shapes(QueueItem(sample, 0.0, boxes, 64, 48), frame, desk.reader.labels())
    desk.pre.write(source, {frame: shapes}, FIRST)
    assert len(desk.shapes(sample)) == 1
    desk.answer(desk.jobs(desk.tasks[0])[0], 0)
    desk.settle()
    assert [(s["source"], s["points"]) for s in desk.shapes(sample)] == [("manual", BOX)]


def test_a_refused_copy_is_said_and_holds_up_nothing(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.settle()
    desk.answer(desk.jobs(desk.tasks[0])[0], 0)
    faults_of(desk.world).add(r"/api/jobs/\d+/annotations", "PATCH", status=400, times=1)
    with caplog.at_level(logging.INFO):
        desk.settle()
    assert "stays in the queue task alone" in caplog.text
    assert desk.shapes(desk.best(1)[0]) == []
    assert {s.id for s in desk.reader.samples() if s.answers} == set(desk.best(10))


def test_a_deleted_frame_of_a_queue_task_answers_nothing(desk: Desk) -> None:
    desk.settle()
    (task,) = desk.tasks
    desk.person("plugin").call("PATCH", f"/api/tasks/{task.id}/data/meta", json={"deleted_frames": [0]})
    desk.answer(desk.jobs(task)[0], 0, 1)
    desk.settle()
    assert [len(desk.shapes(s)) for s in desk.best(2)] == [0, 1]


def drawn_track(desk: Desk, kind: str, points: list[float]) -> dict[str, Any]:
    """On frames 1 to 3 of the first queue job: it moves 20 pixels to the right, and is gone on frame 4."""
    moved = [v + 20 * (i % 2 == 0) for i, v in enumerate(points)]
    keys = [(1, points, False), (3, moved, False), (4, moved, True)]
    shapes = [
        {"type": kind, "frame": n, "points": at, "outside": gone, "occluded": False, "attributes": []}
        for n, at, gone in keys
    ]
    return {
        "frame": 1,
        "label_id": desk.label("dog"),
        "group": 0,
        "source": "manual",
        "attributes": [],
        "shapes": shapes,
    }


def draw_track(desk: Desk, job: stored.Job, track: dict[str, Any]) -> None:
    body = {"version": 0, "tags": [], "shapes": [], "tracks": [track]}
    path = f"/api/jobs/{job.id}/annotations"
    desk.person("plugin").call("PATCH", path, params={"action": "create"}, json=body)


def test_a_track_comes_back_as_a_rectangle_on_each_frame_where_it_is_seen(desk: Desk) -> None:
    desk.settle()
    job = desk.jobs(desk.tasks[0])[0]
    draw_track(desk, job, drawn_track(desk, "rectangle", [10.0, 8.0, 30.0, 30.0]))
    desk.answer(job, 0)
    desk.settle()
    found = [[(s["points"], s["source"]) for s in desk.shapes(sample)] for sample in desk.best(5)]
    assert found == [
        [(BOX, "manual")],
        [([10.0, 8.0, 30.0, 30.0], "manual")],
        [([20.0, 8.0, 40.0, 30.0], "manual")],
        [([30.0, 8.0, 50.0, 30.0], "manual")],
        [],
    ]


def test_a_track_that_cannot_be_copied_is_said_and_keeps_its_task(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.settle()
    (task,) = desk.tasks
    job = desk.jobs(task)[0]
    draw_track(desk, job, drawn_track(desk, "polygon", [10.0, 8.0, 30.0, 8.0, 20.0, 30.0]))
    with caplog.at_level(logging.WARNING):
        desk.answer(job, 0)
        desk.settle()
    assert f"queue job {job.id} has 1 tracks that are no rectangles" in caplog.text
    assert [len(desk.shapes(s)) for s in desk.best(3)] == [1, 0, 0]
    desk.version = SECOND
    desk.settle()
    desk.queue.remove()
    assert task in desk.tasks
    assert len(job.tracks) == 1


def test_a_reopened_queue_job_deletes_nothing_and_is_said(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.settle()
    job = desk.jobs(desk.tasks[0])[0]
    desk.answer(job, 0)
    desk.settle()
    desk.person("plugin").reopen(job.id)
    with caplog.at_level(logging.WARNING):
        desk.settle()
        desk.settle()
    assert caplog.text.count(f"queue job {job.id} was reopened") == 1
    desk.person("anna").annotate(job.id, [(1, desk.label("dog"), BOX)])
    desk.settle()
    assert [len(desk.shapes(s)) for s in desk.best(2)] == [1, 0]
    said = {s: len(a[0].boxes) for s, a in desk.reader.annotations() if a}
    assert [said[s] for s in desk.best(2)] == [1, 1]


# --- a new order -----------------------------------------------------------------------------------------


def everywhere(desk: Desk) -> Counter[str | None]:
    """Source sample -> queue jobs where it is offered, or held, or answered."""
    offered = {o.job.id for o in desk.queue.offers(desk.reader.jobs())}
    found: Counter[str | None] = Counter()
    for task in desk.tasks:
        samples = desk.samples(task)
        for job in desk.jobs(task):
            if job.id in offered or job.assignee_id or job.state != "new":
                found.update(samples[n] for n in job.frame_numbers)
    return found


def test_a_new_order_replaces_a_task_that_nobody_has_begun(desk: Desk) -> None:
    desk.settle()
    old = desk.tasks[0].id
    desk.version = SECOND
    desk.settle()
    assert [t.name for t in desk.tasks] == ["hardfirst queue: Birds, order 2"]
    assert desk.samples(desk.tasks[0]) == desk.best(100)
    rows = desk.memory.all("mapped")
    assert len(rows) == 100
    assert not any(key.startswith(f"{old}:") for key in rows)
    assert [row["state"] for row in desk.memory.all("round_task").values()] == ["open"]


def test_untouched_jobs_of_the_old_order_are_withdrawn_and_no_frame_is_there_twice(desk: Desk) -> None:
    desk.settle()
    desk.preannotate()
    desk.hand_out()
    old = desk.tasks[0]
    begun, done = desk.held("anna")[0], desk.held("ben")[0]
    editor = desk.person("anna").open(begun.id)
    editor.draw(begun.start_frame, desk.label("dog"), BOX)
    editor.save()
    desk.answer(done, done.start_frame, name="ben")
    desk.version = desk.state["active"] = SECOND
    desk.settle()
    desk.hand_out()
    assert [t.name[-7:] for t in desk.tasks] == ["order 1", "order 2"]
    assert {o.job.task for o in desk.queue.offers(desk.reader.jobs())} == {desk.tasks[1].id}
    assert set(everywhere(desk).values()) == {1}
    kept = {s for j in desk.jobs(old)[:4] for s in desk.samples(old)[j.start_frame : j.stop_frame + 1]}
    assert desk.samples(desk.tasks[1]) == desk.best(100, out=kept)  # type: ignore[arg-type]


def test_an_old_task_with_work_stays_and_is_renamed_when_it_is_over(desk: Desk) -> None:
    desk.settle()
    old = desk.tasks[0]
    desk.answer(desk.jobs(old)[0], 0)
    desk.version = SECOND
    desk.settle()
    assert old.name == "hardfirst queue: Birds, order 1 (done)"
    assert len(desk.tasks) == 2
    assert [len(desk.shapes(desk.samples(old)[0] or ""))] == [1]
    desk.start()
    jobs = desk.reader.jobs()
    desk.cvat.log.clear()
    assert not desk.queue.step(desk.version, desk.orders[desk.version], jobs, annotators=2)
    assert desk.cvat.log == []


def test_what_annotators_hold_unbegun_is_taken_back_by_the_inbox_and_then_goes(desk: Desk) -> None:
    desk.settle()
    desk.preannotate()
    desk.hand_out()
    old = desk.tasks[0]
    desk.version = desk.state["active"] = SECOND
    desk.settle()
    assert old in desk.tasks
    desk.clock[0] += 4_000
    for _ in range(4):
        desk.inbox.take_back(desk.reader.jobs())
        desk.hand_out()
    desk.settle()
    assert old not in desk.tasks


def test_an_order_that_begins_the_same_keeps_its_task(desk: Desk) -> None:
    desk.settle()
    desk.orders[SECOND] = dict(desk.orders[FIRST])
    desk.version = SECOND
    desk.cvat.log.clear()
    desk.settle()
    assert desk.writes() == []
    assert [row["version"] for row in desk.memory.all("round_task").values()] == [SECOND]


def test_somebodys_shape_in_an_unassigned_job_saves_a_closed_task(desk: Desk) -> None:
    desk.settle()
    old = desk.tasks[0]
    job = desk.jobs(old)[5]
    desk.person("plugin").call(
        "PATCH",
        f"/api/jobs/{job.id}/annotations",
        params={"action": "create"},
        json={"shapes": [{"type": "rectangle", "frame": 50, "label_id": desk.label("dog"), "points": BOX}]},
    )
    desk.version = SECOND
    desk.settle()
    assert old in desk.tasks
    assert len(job.shapes) == 1


def test_a_box_of_ours_that_somebody_deleted_is_work_too(desk: Desk) -> None:
    desk.settle()
    desk.preannotate()
    old = desk.tasks[0]
    desk.jobs(old)[0].shapes.pop(0)
    desk.version = SECOND
    desk.settle()
    assert old in desk.tasks


def test_an_order_that_changes_while_the_task_is_made_leaves_nothing_behind(desk: Desk) -> None:
    assert desk.step()
    assert desk.step()
    desk.version = SECOND
    desk.settle()
    assert [t.name for t in desk.tasks] == ["hardfirst queue: Birds, order 2"]
    assert desk.samples(desk.tasks[0]) == desk.best(100)


def test_a_queue_task_that_a_person_deleted_gives_its_frames_back(desk: Desk) -> None:
    desk.settle()
    desk.person("plugin").call("DELETE", f"/api/tasks/{desk.tasks[0].id}")
    desk.settle()
    assert desk.samples(desk.tasks[0]) == desk.best(100)
    assert len(desk.memory.all("round_task")) == 1


def test_a_deleted_project_of_queue_tasks_is_made_anew(desk: Desk) -> None:
    desk.settle()
    desk.person("plugin").call("DELETE", f"/api/projects/{desk.saved['sibling']}")
    desk.settle()
    assert desk.samples(desk.tasks[0]) == desk.best(100)


# --- being cut off ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [False, True], ids=["before it is done", "after it is done"])
@pytest.mark.parametrize("number", range(1, 7))
def test_a_write_that_is_cut_off_while_a_task_is_made_is_made_good(desk: Desk, number: int, *, late: bool) -> None:
    """Writes: project, webhook, task, and three of the upload."""
    faults = faults_of(desk.world)
    faults.before("POST", "", number, lambda: faults.add("", "POST", hang_up=True, late=late, times=1))
    crashes = 0
    for _ in range(20):
        try:
            desk.settle()
            break
        except PlatformError:
            crashes += 1
            desk.start()
    assert crashes <= 1
    assert len(desk.tasks) == 1
    assert desk.samples(desk.tasks[0]) == desk.best(100)
    assert [row["state"] for row in desk.memory.all("round_task").values()] == ["open"]
    assert len(desk.memory.all("mapped")) == 100
    assert len(desk.world.projects) == 2
    assert len(desk.world.webhooks) == 1


class PulledPlugError(Exception):
    """The process ends here."""


class Plug:
    """A memory that ends the process after so many writes."""

    def __init__(self, memory: Any, left: int) -> None:
        self._memory, self._left = memory, left

    def __getattr__(self, name: str) -> Any:
        if name in ("put", "add", "drop"):
            self._left -= 1
            if self._left < 0:
                raise PulledPlugError
        return getattr(self._memory, name)


@pytest.mark.parametrize("writes", range(7))
def test_a_process_that_ends_between_two_writes_on_the_disk_makes_one_task(desk: Desk, writes: int) -> None:
    whole, desk.memory = desk.memory, Plug(desk.memory, writes)  # type: ignore[assignment]
    desk.start()
    try:
        desk.settle()
    except PulledPlugError:
        desk.memory = whole
        desk.start()
        desk.settle()
    desk.memory = whole
    assert [desk.samples(t) for t in desk.tasks] == [desk.best(100)]
    assert whole.all("round_plan") == {}
    assert len(whole.all("mapped")) == 100


@pytest.mark.parametrize("writes", range(10))
def test_a_process_that_ends_while_answers_are_copied_copies_each_once(desk: Desk, writes: int) -> None:
    desk.settle()
    desk.answer(desk.jobs(desk.tasks[0])[0], *range(10))
    whole, desk.memory = desk.memory, Plug(desk.memory, writes)  # type: ignore[assignment]
    desk.start()
    try:
        desk.settle()
    except PulledPlugError:
        desk.memory = whole
        desk.start()
        desk.settle()
    desk.memory = whole
    assert [len(desk.shapes(s)) for s in desk.best(10)] == [1] * 10


@pytest.mark.parametrize("late", [False, True], ids=["before it is done", "after it is done"])
def test_a_copy_that_is_cut_off_is_finished_and_not_doubled(desk: Desk, *, late: bool) -> None:
    desk.settle()
    desk.answer(desk.jobs(desk.tasks[0])[0], *range(10))
    faults = faults_of(desk.world)
    faults.add(r"/api/jobs/\d+/annotations", "PATCH", hang_up=True, late=late, times=1)
    with pytest.raises(PlatformError):
        desk.settle()
    desk.start()
    desk.settle()
    assert [len(desk.shapes(s)) for s in desk.best(10)] == [1] * 10


@pytest.mark.parametrize("late", [False, True], ids=["before it is done", "after it is done"])
def test_a_deletion_that_is_cut_off_is_finished(desk: Desk, *, late: bool) -> None:
    desk.settle()
    desk.version = SECOND
    faults_of(desk.world).add(r"/api/tasks/\d+$", "DELETE", hang_up=True, late=late, times=1)
    with pytest.raises(PlatformError):
        desk.settle()
    desk.start()
    desk.settle()
    assert [desk.samples(t) for t in desk.tasks] == [desk.best(100)]
    assert len(desk.memory.all("mapped")) == 100


# --- back to the inbox -----------------------------------------------------------------------------------


def wind_down(desk: Desk) -> None:
    while desk.queue.wind_down(desk.reader.jobs()):
        pass


def test_going_back_to_the_inbox_clears_what_nobody_has_worked_in(desk: Desk) -> None:
    desk.settle()
    assert desk.queue.left
    wind_down(desk)
    assert (desk.tasks, desk.memory.all("round_task"), desk.queue.left) == ([], {}, False)
    desk.cvat.log.clear()
    assert not desk.queue.wind_down(desk.reader.jobs())
    assert desk.writes() == []


def test_going_back_to_the_inbox_while_a_task_is_made_leaves_nothing_behind(desk: Desk) -> None:
    assert desk.step()
    assert desk.step()
    wind_down(desk)
    assert desk.tasks == []
    assert not desk.queue.left


def test_going_back_to_the_inbox_lets_people_finish_and_copies_what_they_did(desk: Desk) -> None:
    desk.settle()
    (task,) = desk.tasks
    first, second = desk.jobs(task)[:2]
    desk.assign(second, "ben")
    desk.answer(first, 0)
    wind_down(desk)
    assert len(desk.shapes(desk.best(1)[0])) == 1
    assert desk.queue.offers(desk.reader.jobs()) == []
    assert task in desk.tasks
    desk.answer(second, 10, name="ben")
    wind_down(desk)
    assert len(desk.shapes(desk.best(11)[10])) == 1
    assert task.name.endswith("(done)")
    assert not desk.queue.left


@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_a_process_that_slept_while_another_copied_copies_nothing_twice(desk: Desk, method: str) -> None:
    desk.settle()
    desk.answer(desk.jobs(desk.tasks[0])[0], *range(10))
    sources = "|".join(str(j.id) for t in desk.sources for j in desk.jobs(t))
    asleep = desk.queue
    jobs = desk.reader.jobs()

    def others() -> None:
        desk.start()
        desk.settle()

    faults_of(desk.world).before(method, rf"/api/jobs/({sources})/annotations/$", 1, others)
    asleep.step(desk.version, desk.orders[desk.version], jobs, annotators=2)
    desk.settle()
    assert [len(desk.shapes(s)) for s in desk.best(10)] == [1] * 10


# --- disconnect ------------------------------------------------------------------------------------------


def test_removing_deletes_what_nobody_has_worked_in(desk: Desk) -> None:
    desk.settle()
    desk.preannotate()
    sibling = desk.saved["sibling"]
    (change,) = desk.queue.remove()
    assert str(change) == f"project {sibling} of the queue tasks: {desk.cvat.url}/projects/{sibling} -> deleted"
    assert list(desk.world.projects) == [desk.project.id]
    assert desk.world.webhooks == {}
    assert "sibling" not in desk.saved
    assert desk.queue.remove() == []
    assert desk.memory.all("mapped") == {}


def test_removing_leaves_what_people_did(desk: Desk) -> None:
    desk.settle()
    desk.answer(desk.jobs(desk.tasks[0])[0], 0)
    desk.settle()
    (change,) = desk.queue.remove()
    assert "stays: people work or worked in 1 of its tasks" in str(change)
    assert len(desk.tasks) == 1
    assert desk.world.webhooks == {}


def test_what_was_finished_a_moment_before_a_removal_is_copied_first(desk: Desk) -> None:
    desk.settle()
    desk.answer(desk.jobs(desk.tasks[0])[0], 0)
    desk.queue.remove()
    assert len(desk.shapes(desk.best(1)[0])) == 1


def test_answers_from_before_a_removal_are_found_again(desk: Desk) -> None:
    desk.settle()
    desk.answer(desk.jobs(desk.tasks[0])[0], 0)
    best = desk.best(10)
    desk.queue.remove()
    for kind in desk.memory.counts():
        desk.memory.drop(kind)
    desk.start()
    desk.settle()
    assert {s.id for s in desk.reader.samples() if s.answers} == set(best)
    assert set(everywhere(desk).values()) == {1}
    assert len(desk.world.projects) == 2
