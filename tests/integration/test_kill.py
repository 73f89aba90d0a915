"""kill -9 of worker, trainer and web at any moment: no label lost, no half model served, the round resumes."""

from __future__ import annotations

import hashlib
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from common.sample import draw
from common.sample.oracle import FolderOracle
from common.store import Store, open_store
from common.store.projects import ProjectRow
from ls_backend.demo.annotator import ScriptedAnnotator
from ls_backend.label_config import rectangles
from ls_backend.local_server import LocalLabelStudio
from tests.service import Service
from tests.thorough import THOROUGH

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

SEED = 3
LABELS = 1
"""Labels a person gives around each kill; the round is asked for."""
LIMIT_S = 900.0
"""For all of them."""
QUICK = {
    "HARDFIRST_IMGSZ": "96",
    "HARDFIRST_EPOCHS": "2",
    "HARDFIRST_BATCH": "8",
    "HARDFIRST_MIN_NEW_LABELS": str(LABELS),
    "HARDFIRST_FIRST_BLOCK": "6",
    "HARDFIRST_PAUSE_S": "1",
    "HARDFIRST_RECONCILE_S": "3",
    "HARDFIRST_THREADS": "1",
}


@dataclass
class Scene:
    """A project, its annotator, the service, and a look at the service's own store."""

    server: LocalLabelStudio
    project: int
    service: Service
    store: Store
    annotator: ScriptedAnnotator

    @property
    def key(self) -> str:
        return f"label-studio:{self.project}"

    @property
    def row(self) -> ProjectRow:
        found = self.store.projects.get(self.key)
        assert found is not None
        return found

    def get(self, path: str, **params: Any) -> Any:
        with self.server.client() as http:
            return http.get(path, params=params).raise_for_status().json()

    def annotations(self) -> set[tuple[str, str]]:
        """(task, annotation) of everything on the platform."""
        tasks = self.get(f"/api/projects/{self.project}/export", exportType="JSON")
        return {(str(t["id"]), str(a["id"])) for t in tasks for a in t["annotations"]}

    def known(self) -> set[tuple[str, str]]:
        """The same in the store."""
        return {(task, a.id) for task, found in self.store.labels.at(self.key).items() for a in found}


# --- where it may hit ------------------------------------------------------------------------------------


def hints(scene: Scene) -> bool:
    return bool(scene.store.inbox.pending("label-studio", str(scene.project)))


def ordering(scene: Scene) -> bool:
    return scene.row.order_asked is not None


def first_block(scene: Scene) -> bool:
    sending = scene.store.publications.unfinished(scene.key)
    return sending is not None and sending.activated is None


def later_block(scene: Scene) -> bool:
    sending = scene.store.publications.unfinished(scene.key)
    return sending is not None and sending.activated is not None


def training(scene: Scene) -> bool:
    running = scene.store.rounds.running(scene.key)
    return running is not None and bool(scene.service.processes(COMMANDS["trainer"]))


def promoting(scene: Scene) -> bool:
    running = scene.store.rounds.running(scene.key)
    return running is not None and (Path(running.folder) / "final.pt").exists()


MOMENTS: dict[tuple[str, str], tuple[Callable[[Scene], bool], float]] = {
    ("worker", "hints"): (hints, 0.05),
    ("worker", "training"): (training, 6.0),
    ("web", "hints"): (hints, 0.0),
    ("trainer", "training"): (training, 6.0),
    ("worker", "ordering"): (ordering, 1.0),
    ("worker", "first block"): (first_block, 0.1),
    ("worker", "later block"): (later_block, 0.1),
    ("worker", "promoting"): (promoting, 0.2),
    ("web", "training"): (training, 3.0),
    ("trainer", "promoting"): (promoting, 0.0),
}
"""(victim, moment) -> (when it has come, seconds to wait at most from then on)."""

USUAL = [
    ("worker", "training"),
    ("trainer", "training"),
    ("worker", "first block"),
    ("web", "hints"),
    ("worker", "promoting"),
]
"""What `make test` has the time for; `make thorough` has every moment twice."""

COMMANDS = {"web": "web", "worker": "worker", "trainer": "common.yolo.train_child"}


def kill_at(scene: Scene, victim: str, moment: str, rng: random.Random) -> bool:
    """Whether the moment was met; a short one may slip by, then nobody is killed."""
    come, slack = MOMENTS[victim, moment]
    end = time.monotonic() + 60
    while not come(scene):
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    time.sleep(rng.uniform(0, slack))
    hit = scene.service.processes(COMMANDS[victim])
    for process in hit[:1]:
        process.kill()
    return bool(hit)


# --- what must hold --------------------------------------------------------------------------------------


def calm(scene: Scene, rounds: int) -> bool:
    """The wanted round is done, its queue is all there, and nothing is under way."""
    row, store = scene.row, scene.store
    return (
        row.state == "active"
        and row.publication is not None
        and row.checkpoint is not None
        and row.order_asked is None
        and store.rounds.checkpoint(row.checkpoint).round >= rounds
        and store.rounds.running(scene.key) is None
        and store.publications.unfinished(scene.key) is None
        and store.publications.get(row.publication).checkpoint == row.checkpoint
        and not hints(scene)
        and scene.known() == scene.annotations()
        and scene.service.healthy()
    )


def check(scene: Scene) -> None:
    row, store = scene.row, scene.store
    assert scene.known() == scene.annotations()
    states = Counter(r.state for r in store.rounds.all(scene.key))
    assert set(states) <= {"done", "failed"}, [(r.number, r.state, r.message) for r in store.rounds.all(scene.key)]
    checkpoints = store.rounds.checkpoints(scene.key)
    assert [c.id for c in checkpoints][-1] == row.checkpoint
    for c in checkpoints:
        assert hashlib.sha256(Path(c.path).read_bytes()).hexdigest() == c.sha256
    images = {s.sha256 for s in store.samples.all(scene.key)}
    assert images <= set(store.predictions.have(checkpoints[-1].sha256, 96))  # it loads: all was scored by it
    assert row.publication is not None
    active = store.publications.get(row.publication)
    assert scene.get(f"/api/projects/{scene.project}")["model_version"] == active.version
    rows = [p for p in scene.get("/api/predictions/", project=scene.project) if p["model_version"] == active.version]
    assert len(rows) == active.rows
    assert max(Counter(p["task"] for p in rows).values()) == 1
    open_now = {int(p.sample) for p in store.publications.open_places(active)[0]}
    assert open_now <= {p["task"] for p in rows}
    ours = {v for p in scene.get("/api/predictions/", project=scene.project) if (v := p["model_version"])}
    assert ours <= {p.version for p in store.publications.all(scene.key)}


@pytest.fixture
def scene(label_studio: LocalLabelStudio, shared: Path, tmp_path: Path) -> Iterator[Scene]:
    weights = shared / "weights/yolo11n-rebuilt.pt"
    if not weights.exists():
        pytest.skip(f"no weights at {weights}")
    sample = draw(tmp_path / "floor", count=24, held_out=4, size=(160, 120), seed=SEED)
    with label_studio.client() as http:
        body = {"title": "kill", "label_config": rectangles(sample.classes)}
        project = int(http.post("/api/projects", json=body).raise_for_status().json()["id"])
        prefix = label_studio.serve_folder(project, sample.images[0].parent)
        tasks = [{"image": prefix + image.name} for image in sample.images]
        http.post(f"/api/projects/{project}/import", json=tasks).raise_for_status()
        annotator = ScriptedAnnotator(http, project, FolderOracle(sample.labels))
        with Service(tmp_path / "home", label_studio, {**QUICK, "HARDFIRST_MODEL": str(weights)}) as service:
            store = open_store(f"sqlite:///{tmp_path / 'home/hardfirst.db'}", tmp_path / "home")
            made = Scene(label_studio, project, service, store, annotator)
            service.run("connect", "label-studio", "--project", str(project))
            yield made
            store.close()


def test_whatever_is_killed_whenever_nothing_is_lost_and_every_round_ends(scene: Scene) -> None:
    rng, began = random.Random(SEED), time.monotonic()  # noqa: S311 - which moment, not a secret
    service, met, kills = scene.service, [], [*MOMENTS] * 2 if THOROUGH else USUAL
    service.wait(lambda: scene.row.publication is not None, "the first queue", 120)
    for number, (victim, moment) in enumerate(kills, start=1):
        for _ in range(LABELS):
            assert scene.annotator.label_next() is not None
        scene.store.projects.update(scene.key, training_asked=time.time())
        if kill_at(scene, victim, moment, rng):
            met.append((victim, moment))
        service.wait(lambda n=number: calm(scene, n), f"calm after {victim} was killed at {moment}", 180)  # type: ignore[misc]
        check(scene)
    assert len(met) >= len(kills) * 0.8, met
    assert time.monotonic() - began < LIMIT_S
