"""The pages over real photographs, served for a browser, and a window that notes what went wrong in it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import numpy as np
from playwright.sync_api import Browser, Page, Response, ViewportSize
from werkzeug.serving import make_server

from common.domain import ClassMapping, Event, Instances, LabelledBox, Prediction
from common.loop import ActiveLearningLoop
from common.ports import Model
from common.sample.oracle import FolderOracle
from common.web.app import create_app
from common.web.backend import Backend
from tests.fakes import FakeMedia, FakeModels, World, make_world
from tests.serving import in_a_thread
from tests.unit import gallery_pool as pool

KEY = "label-studio:12"
CLASSES = ("RBC", "WBC", "Platelets")
IMAGES = 320
MANY = 5_000


class NoisyEye:
    """A model that sees what is there, and is the less sure of it the rarer and smaller it is."""

    def __init__(self, oracle: FolderOracle, sha256: str) -> None:
        self.classes = CLASSES
        self._oracle = oracle
        self._sharp = 0.9 if sha256 == "0" * 64 else 1.6

    def predict(self, paths: list[Path]) -> list[Prediction | str]:
        return [self._one(path) for path in paths]

    def _one(self, path: Path) -> Prediction:
        rng = np.random.default_rng(int.from_bytes(path.stem.encode()[-4:]))
        width, height = 416, 312
        there = self._oracle.answer(path.name)
        boxes = np.array([b.xyxy for b in there], np.float32).reshape(-1, 4) * (width, height, width, height)
        scores = rng.random((len(there), 3)) ** 4 * 0.5
        for row, box in enumerate(there):
            scores[row, CLASSES.index(box.name)] = rng.beta(2.2 * self._sharp, 1.1)
        seen = scores.max(axis=1) > 0.25
        boxes = (boxes + rng.normal(0, 2, boxes.shape)).clip(0, [width, height, width, height])
        instances = Instances(boxes[seen].astype(np.float32), scores[seen].astype(np.float32))
        embedding, none = rng.normal(size=8).astype(np.float32), np.zeros(3, np.float32)
        spread = np.zeros(int(seen.sum()), np.float32)
        return Prediction(instances, embedding, none, none + 0.05, spread, width, height)


class Eyes(FakeModels):
    """Weights that keep their files, so that a person can go back to them."""

    def __init__(self, oracle: FolderOracle, folder: Path) -> None:
        super().__init__(CLASSES)
        self._oracle, self._folder = oracle, folder

    def install(self, trained: Path) -> Model:
        self.installed += 1
        path = self._folder / f"{self.installed}.pt"
        path.write_bytes(b"weights")
        return Model(path, f"{self.installed}" * 64, CLASSES)

    def detector(self, model: Model, *_: Any, **__: Any) -> Any:
        return NoisyEye(self._oracle, model.sha256)


def run_the_loop(folder: Path, shared: Path) -> World:
    """Real photographs, the real loop, order and store; the model is scripted, so is its training."""
    world = make_world(folder, 0, min_new_labels=12, imgsz=320, gate_images=12, first_block=400)
    images = shared / "data/bccd/images"
    oracle = FolderOracle(shared / "data/bccd/labels", list(CLASSES))
    files = sorted(p.name for p in images.glob("*.jpg"))[:IMAGES]
    store = world.tools.store
    store.forget("fake:1")
    store.projects.ask("label-studio", "12")
    world.platform.title = "Blood cells"
    world.platform.classes = tuple(ClassMapping(c, (c,)) for c in CLASSES)
    world.platform.tasks = {str(400 + n): name for n, name in enumerate([*files, "gone.jpg", "empty.jpg"])}
    media: Any = FakeMedia(images)
    eyes = Eyes(oracle, folder)
    world.tools.media, world.tools.models, world.clock[0] = media, eyes, time.time()
    go_through_rounds(world, oracle, (0.55, 0.7, 0.66, 0.83), 40, forgetful=True)
    answer(world, oracle, 13, forgetful=True)
    return world


def go_through_rounds(
    world: World, oracle: FolderOracle, worths: Iterable[float], labels: int, *, forgetful: bool = False
) -> None:
    """The first queue, and for each worth so many labels and a round whose weights are worth it."""
    settle(world)
    for number, worth in enumerate(worths, start=1):
        answer(world, oracle, labels, forgetful=forgetful)
        settle(world)
        world.clock[0] += 61
        settle(world)
        world.trainer.worth[f"{number}" * 64] = worth
        world.trainer.finish()
        settle(world)


def settle(world: World) -> None:
    """Let the loop work until nothing moves in the one project."""
    loop, (row,) = ActiveLearningLoop(world.tools), world.tools.store.projects.all()
    while loop.step(row.key):
        pass


def answer(world: World, oracle: FolderOracle, count: int, *, forgetful: bool = False) -> None:
    """Somebody labels what is first, and, being forgetful, leaves a box out now and then."""
    (row,) = world.tools.store.projects.all()
    for n, task in enumerate(world.platform.order()[:count]):
        name = world.platform.tasks[task]
        there = oracle.answer(name) if name in oracle else []
        boxes = [LabelledBox(b.name, b.xyxy) for b in there][forgetful and n % 9 == 8 :]
        world.platform.annotate(task, *boxes)
        world.tools.store.inbox.add(Event(row.platform, row.external, "labels", (task,)))


@contextmanager
def served(world: World) -> Iterator[str]:
    app = create_app(Backend(world.tools, lambda _model, _paths, _imgsz: []), [])
    with in_a_thread(make_server("127.0.0.1", 0, app, threaded=True)) as url:
        yield url


def many_images(folder: Path, shared: Path) -> World:
    """5,000 samples as the store writes them, photographs of the first 364, rounds, findings, a map."""
    made = make_world(folder, 1)
    made.models.names = pool.CLASSES
    made.clock[0] = time.time()
    queue, store = pool.fill(made, MANY), made.tools.store
    pool.rounds(made, 0.5, 0.6, 0.65)
    pool.review(made, 70)
    ids = np.sort([row.id for row in store.samples.all(queue.project)])
    store.maps.put(
        queue.project, queue.id, 1.0, ids, np.random.default_rng(0).normal(size=(MANY, 2)).astype(np.float32)
    )
    for n, file in enumerate(sorted((shared / "data/bccd/images").glob("*.jpg"))[:400]):
        made.tools.media._paths[pool.digest(str(n))] = file  # type: ignore[attr-defined]
    return made


class Watched:
    """A window that notes what went wrong."""

    def __init__(self, browser: Browser, width: int = 1360, height: int = 850, **options: Any) -> None:
        self.context = browser.new_context(viewport=ViewportSize(width=width, height=height), **options)
        self.page: Page = self.context.new_page()
        self.hosts: set[str] = set()
        self.errors: list[str] = []
        self.page.on("request", lambda r: self.hosts.add(urlsplit(r.url).netloc))
        self.page.on("requestfailed", lambda r: self.errors.append(f"{r.url}: {r.failure}"))
        self.page.on("response", self._answered)
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda e: self.errors.append(str(e)))

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            self.errors.append(f"{response.url}: {response.status}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def open(self, address: str) -> None:
        self.page.goto(address)
        self.page.wait_for_load_state("networkidle")

    def picture(self, name: str) -> None:
        """Into the folder that HARDFIRST_PICTURES names, to be looked at; those of docs/ are by bench.pictures."""
        folder = os.environ.get("HARDFIRST_PICTURES")
        if folder:
            self.page.screenshot(path=str(Path(folder) / f"page-{name}.png"))
