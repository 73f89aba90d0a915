"""1,000 events in 10 seconds while rounds come and go: no acknowledged label is missing from the next round."""

from __future__ import annotations

import copy
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from common.config import SECRET_HEADER
from common.domain import LabelledBox
from common.loop import ActiveLearningLoop
from common.web.app import create_app
from common.web.backend import Backend
from ls_backend import PLATFORM, label_config
from tests.fakes import World, make_world

pytestmark = pytest.mark.timeout(180)

KEY = "label-studio:2"
EVENTS, SECONDS, IMAGES = 1000, 10.0, 250
CONFIG = (
    '<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">'
    '<Label value="cat" predicted_values="kitty"/><Label value="dog"/></RectangleLabels></View>'
)


@dataclass
class Given:
    """What a person did: the ``number``-th answer, seen in the label's box, and when it was acknowledged."""

    number: int
    sample: str
    acknowledged: float


@dataclass
class Scene:
    """The application, a worker in a thread of its own, and what it trained on."""

    world: World
    recorded: dict[str, Any]
    given: list[Given] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        tools = self.world.tools
        tools.clock = time.time
        tools.store.forget("fake:1")
        tools.store.projects.ask("label-studio", "2")
        spec = label_config.parse(CONFIG, title="Pets", show_from=0.0)
        self.world.platform.spec = lambda: spec  # type: ignore[method-assign]
        backend = Backend(tools, lambda *_: [])
        self.flask = create_app(backend, [PLATFORM])
        self.secret = {SECRET_HEADER: tools.settings.secrets()[0]}

    def annotate(self, number: int) -> None:
        """A person answers, the platform tells us, we acknowledge."""
        sample = str(100 + number % IMAGES)
        box = LabelledBox("cat", (0.0, 0.0, 0.5, (number + 1) / (EVENTS + 1)))
        self.world.platform.annotate(sample, box)
        body = copy.deepcopy(self.recorded)
        body["project"]["id"] = body["task"]["project"] = body["annotation"]["project"] = 2
        body["task"]["id"] = body["annotation"]["task"] = int(sample)
        answer = self.flask.test_client().post("/webhook", json=body, headers=self.secret)
        assert 200 <= answer.status_code < 300, answer.text
        self.given.append(Given(number, sample, time.time()))

    def work(self) -> None:
        """The worker; every round takes a moment."""
        loop, trainer = ActiveLearningLoop(self.world.tools), self.world.trainer
        while not self.stop.is_set():
            moved = loop.step(KEY)
            running = self.world.tools.store.rounds.running(KEY)
            if running is not None and time.time() - running.started > 0.2:
                trainer.finish()
            if not moved:
                time.sleep(0.002)


def number_of(label: Any) -> int:
    """Which answer a label holds."""
    return round(label.boxes[0].xyxy[3] * (EVENTS + 1)) - 1


@pytest.fixture
def scene(tmp_path: Path, shared: Path) -> Scene:
    settings = {"min_new_labels": 1, "pause_s": 0, "reconcile_s": 3600, "model_score_threshold": 0.0}
    world = make_world(tmp_path, IMAGES, **settings)
    recorded = shared / "contracts" / "label-studio" / "webhook.annotation_created.json"
    return Scene(world, json.loads(recorded.read_text())["body"])


def test_no_acknowledged_label_is_missing_from_the_next_round_under_a_thousand_events_in_ten_seconds(
    scene: Scene,
) -> None:
    worker = threading.Thread(target=scene.work)
    worker.start()
    try:
        began = time.time()
        with ThreadPoolExecutor(8) as people:
            done = []
            for number in range(EVENTS):
                time.sleep(max(0.0, began + number * SECONDS / EVENTS - time.time()))
                done.append(people.submit(scene.annotate, number))
            for answer in done:
                answer.result()
        took = time.time() - began
        _await_last_round(scene)
    finally:
        scene.stop.set()
        worker.join(30)
    assert took < 1.5 * SECONDS, "the events came too slowly to be a test"
    rounds = scene.world.tools.store.rounds.all(KEY)
    assert len(rounds) > 3
    assert any(_acknowledged(scene, row.started) for row in rounds[:-1])
    for row, samples in zip(rounds, _trained(scene), strict=True):
        for sample, wanted in _acknowledged(scene, row.started).items():
            assert sample in samples, f"round {row.number} lacks sample {sample}"
            assert number_of(samples[sample]) >= wanted, f"round {row.number} has an older label of {sample}"


def _trained(scene: Scene) -> list[dict[str, Any]]:
    """Sample -> label of every round, whether it trains or is measured on."""
    trainer = scene.world.trainer
    both = zip(trainer.samples, trainer.validation, strict=True)
    return [{s.id: s.label for s in (*samples, *val)} for samples, val in both]


def _acknowledged(scene: Scene, before: float) -> dict[str, int]:
    """Sample -> number of its newest answer that was acknowledged before a moment."""
    newest: dict[str, int] = {}
    for given in scene.given:
        if given.acknowledged < before:
            newest[given.sample] = max(given.number, newest.get(given.sample, -1))
    return newest


def _await_last_round(scene: Scene) -> None:
    """Until a round that a person asks for has everything; the first may have read just before it was asked for."""
    projects = scene.world.tools.store.projects
    deadline = time.time() + 60
    while time.time() < deadline:
        projects.update(KEY, training_asked=time.time())
        trained = _trained(scene)
        if trained and all(number_of(label) >= EVENTS - IMAGES for label in trained[-1].values()):
            return
        time.sleep(0.05)
    raise AssertionError("no round with every label came")
