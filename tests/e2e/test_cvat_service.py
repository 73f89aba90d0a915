"""hardfirst beside CVAT as its users run it: real processes, real weights, photographs, and commands.

CVAT is the stand-in, in the process of the test; nothing else is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from cells import CELLS

from common.sample.oracle import FolderOracle
from common.store import Store, open_store
from cvat_adapter.nouns import COMPLETED, NEW
from cvat_adapter.places import PLACE
from tests.cvat_server.people import Annotator
from tests.cvat_server.server import FakeCvat
from tests.cvat_server.world import Job, Project, Task
from tests.service import Hardfirst

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

IMAGES, TASKS, JOB = 48, 2, 4
LABELS = 16
"""Labels a round takes: four jobs."""
SETTINGS = {
    "HARDFIRST_IMGSZ": "96",
    "HARDFIRST_UPDATES": "30",
    "HARDFIRST_MIN_NEW_LABELS": str(LABELS),
    "HARDFIRST_RECONCILE_S": "600",  # only webhooks bring news
    "MODEL_SCORE_THRESHOLD": "0.05",  # so short a training is sure of nothing
}
CREATE = r"/api/jobs/\d+/annotations/$"
"""One request creates boxes, another deletes those of an older model; in the first jobs there are none."""


@dataclass
class Desk:
    """A CVAT project with two annotators, and the service beside it."""

    cvat: FakeCvat
    project: Project
    tasks: list[Task]
    people: dict[str, Annotator]
    oracle: FolderOracle
    service: Hardfirst
    store: Store
    said: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        return f"cvat:{self.project.id}"

    @property
    def jobs(self) -> list[Job]:
        return [job for task in self.tasks for job in self.cvat.jobs(task)]

    def run(self, *arguments: str) -> str:
        """A command about this project, kept for whoever reads the output."""
        out = self.service.run(*arguments)
        self.said.append(f"$ hardfirst {' '.join(arguments)}\n{out}")
        return out

    def ask(self, name: str) -> str:
        return self.run(name, "--project", self.key)

    def wait(self, done: Callable[[], bool], what: str, limit_s: float = 60) -> None:
        self.service.wait(done, what, limit_s)

    # --- what people see and do ------------------------------------------------------------------------

    def inbox(self, name: str) -> list[Job]:
        mine = self.people[name].id
        return [job for job in self.jobs if job.assignee_id == mine and job.state != COMPLETED]

    def full(self) -> bool:
        return all(len(self.inbox(name)) == 2 for name in self.people)

    def free(self) -> list[Job]:
        """Jobs nobody has and nobody has begun."""
        return [job for job in self.jobs if job.assignee_id is None and job.state == NEW]

    def truth(self, job: Job) -> list[tuple[int, int, list[float]]]:
        """(frame, label id, xyxy pixels) of what is in the photographs of a job."""
        frames = self.cvat.world.tasks[job.task_id].frames
        numbers = {label.name: label.id for label in self.cvat.world.labels_of(self.project)}
        return [
            (
                n,
                numbers[box.name],
                [v * s for v, s in zip(box.xyxy, (frames[n].width, frames[n].height) * 2, strict=True)],
            )
            for n in job.frame_numbers
            for box in self.oracle.answer(frames[n].name)
        ]

    def answer(self, name: str) -> Job:
        """An annotator empties the first job of the inbox, draws what is there and finishes it."""
        job = self.inbox(name)[0]
        tab = self.people[name].open(job.id)
        for number in list(tab.shapes):
            tab.delete(number)
        for frame, label, points in self.truth(job):
            tab.draw(frame, label, points)
        tab.finish()
        return job

    # --- what hardfirst says and did -------------------------------------------------------------------

    def ranked(self) -> list[dict[str, Any]]:
        """GET /api/jobs."""
        found = httpx.get(f"{self.service.url}/api/jobs", params={"project": self.key}, trust_env=False, timeout=30)
        jobs: list[dict[str, Any]] = found.raise_for_status().json()["jobs"]
        return jobs

    def best_free(self) -> int:
        free = {job.id for job in self.free()}
        return next(row["id"] for row in self.ranked() if row["id"] in free)

    def boxes_of(self, version: str, job: Job) -> Counter[Any]:
        """(frame, points) of every box that a version shows in a job."""
        rows = self.store.memories.of(self.key).get(PLACE + version, [f"{job.task_id}:{n}" for n in job.frame_numbers])
        return Counter(
            (int(sample.split(":")[1]), *(round(v) for v in box[1:5]))
            for sample, row in rows.items()
            for box in row["boxes"]
        )

    def shows(self, version: str) -> bool:
        """Whether every job that nobody has shows exactly the boxes of a version, each once, and there are some."""
        found = [(ours(job), self.boxes_of(version, job)) for job in self.free()]
        return any(shown for shown, _ in found) and all(shown == kept for shown, kept in found)

    def state(self) -> str:
        row = self.store.projects.get(self.key)
        return row.state if row else ""


def ours(job: Job) -> Counter[Any]:
    """(frame, points) of the boxes nobody touched."""
    return Counter((s["frame"], *(round(v) for v in s["points"])) for s in job.shapes if s["source"] == "auto")


def persons(job: Job) -> int:
    return sum(s["source"] != "auto" for s in job.shapes)


@pytest.fixture
def desk(shared: Path, tmp_path: Path) -> Iterator[Desk]:
    photographs = sorted((shared / "data/bccd/images").glob("*.jpg"))[:IMAGES]
    oracle = FolderOracle(shared / "data/bccd/labels", CELLS)
    with FakeCvat() as cvat:
        owner = cvat.add_user("plugin")
        allab = cvat.add_organization("allab", owner)
        for name in ("anna", "ben"):
            cvat.add_member(allab, cvat.add_user(name), "worker")
        project = cvat.add_project("cells", CELLS, owner=owner, org=allab)
        some = IMAGES // TASKS
        tasks = [
            cvat.add_task(
                project,
                f"pool {k}",
                [(p.name, p.read_bytes()) for p in photographs[k * some : (k + 1) * some]],
                segment_size=JOB,
            )
            for k in range(TASKS)
        ]
        access = {"CVAT_URL": cvat.url, "CVAT_ACCESS_TOKEN": cvat.add_token(owner)}
        weights = {"HARDFIRST_MODEL": str(shared / "weights/yolo11n-rebuilt.pt")}
        home = tmp_path / "home"
        with Hardfirst(home, "cvat", access, {**SETTINGS, **weights}) as service:
            store = open_store(f"sqlite:///{home / 'hardfirst.db'}", home)
            people = {name: Annotator(cvat.url, name, "pass", "allab") for name in ("anna", "ben")}
            made = Desk(cvat, project, tasks, people, oracle, service, store)
            yield made
            (tmp_path / "said.txt").write_text("\n".join(made.said))
            for person in people.values():
                person.close()
            store.close()


def test_a_project_from_connect_to_disconnect_with_the_worker_killed_twice(desk: Desk, tmp_path: Path) -> None:
    service, number = desk.service, desk.project.id
    first = connected(desk)
    done = [labelled(desk, name) for name in ("anna", "ben", "anna", "ben")]
    drawn = {job.id: len(desk.truth(job)) for job in done}

    # The worker dies while it trains, and again right after a write that it does not know of.
    desk.wait(lambda: bool(service.processes("common.yolo.train_child")), "the training")
    kill_worker(service)
    desk.cvat.faults.after("PATCH", CREATE, 2, lambda: kill_worker(service))
    second = service.await_version(number, "hardfirst@1.")
    desk.wait(lambda: desk.shows(second), "the boxes of the new model in every free job", 90)
    assert service.log.read_text().count("worker ended (-9)") == 2
    assert {job.id: persons(job) for job in done} == drawn
    assert desk.full()

    done.append(labelled(desk, "anna"))
    drawn[done[-1].id] = len(desk.truth(done[-1]))
    given = max(desk.inbox("anna"), key=lambda job: job.assignee_updated_date)
    assert ours(given) == desk.boxes_of(second, given)
    desk.wait(lambda: desk.store.samples.counts(desk.key)["answered"] == 20, "the fifth job to be read", 20)
    questioned(desk, second, tmp_path / "cells")

    went_back(desk, first)
    left_at_work(desk, second)
    assert desk.cvat.world.webhooks == {}
    held = [job for name in desk.people for job in desk.inbox(name)]
    assert len(held) == 4  # both worked a moment ago: an open tab may hold edits
    assert not any(ours(job) for job in desk.jobs if job not in held)
    assert {job.id: persons(job) for job in desk.jobs if persons(job)} == drawn
    assert "archived: disconnected by a person" in desk.ask("status")
    assert desk.cvat.world.crashes == []


def connected(desk: Desk) -> str:
    """From nothing to two jobs in every inbox; returns the first version."""
    number = str(desk.project.id)
    assert "would change webhook: none -> " in desk.run("connect", "cvat", "--project", number, "--dry-run")
    assert desk.cvat.world.webhooks == {}
    assert "changed webhook: none -> " in desk.run("connect", "cvat", "--project", number)
    first = desk.service.await_version(desk.project.id, "hardfirst@0.1-")
    desk.wait(desk.full, "two jobs for everybody")
    # The weights know no cell: a cold start, nothing to draw.
    assert all(not job.shapes for job in desk.jobs)
    assert {row["id"] for row in desk.ranked()[:4]} == {job.id for name in desk.people for job in desk.inbox(name)}
    return first


def labelled(desk: Desk, name: str) -> Job:
    """Somebody finishes a job and is given the best that nobody had."""
    best = desk.best_free()
    job = desk.answer(name)
    desk.wait(desk.full, f"the next job for {name}", 20)
    assert best in {j.id for j in desk.inbox(name)}
    return job


def questioned(desk: Desk, version: str, out: Path) -> None:
    """Every question a person has for a project, as a command."""
    said = {name: desk.ask(name) for name in ("status", "rounds", "curve", "kpi", "review")}
    assert version in said["status"]
    assert "20 usable of 20 answered" in said["status"]
    assert "classes   RBC, WBC, Platelets" in said["status"]
    assert [line.split()[0] for line in said["rounds"].splitlines()[2:]] == ["1"]
    assert "AP50 of class" in said["curve"]
    assert "  images: 20\n" in said["kpi"]
    assert f"{desk.cvat.url}/tasks/" in said["review"]
    assert not any(word in text for text in said.values() for word in ("Label Studio", "label-studio", " task "))
    counts = desk.run("export", "--project", desk.key, "--out", str(out))
    assert f" {sum(len(desk.truth(job)) for job in desk.jobs if job.state == COMPLETED)} boxes: " in counts
    assert len(list((out / "labels").rglob("*.txt"))) == 20


def went_back(desk: Desk, first: str) -> None:
    """The boxes of the model that no longer serves go, and none of the first model's come, which knows no class."""
    desk.run("rollback", "--project", desk.key)
    desk.service.await_version(desk.project.id, first)
    desk.wait(lambda: not any(ours(job) for job in desk.free()), "boxes of a model that no longer serves to go", 90)
    assert f"{first}, " in desk.ask("status")


def left_at_work(desk: Desk, version: str) -> None:
    """`disconnect` is asked while the worker writes the boxes of a version; it waits, and takes those back, too."""
    leave = Thread(target=desk.run, args=("disconnect", "cvat", "--project", str(desk.project.id)))

    def in_the_middle() -> None:
        leave.start()
        desk.wait(lambda: desk.state() == "archived", "the command to begin")

    desk.cvat.faults.before("PATCH", CREATE, 2, in_the_middle)
    desk.run("rollback", "--project", desk.key, "--to", version)
    desk.wait(lambda: desk.state() == "archived", "the moment to leave")
    leave.join()


def kill_worker(service: Hardfirst) -> None:
    for process in service.processes("worker"):
        process.kill()
