"""Small real stand-ins for the ports: platform, models, trainer and image library, in memory or a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common.average_precision import Matches
from common.config import Settings
from common.domain import (
    Annotation,
    ClassMapping,
    Instances,
    LabelledBox,
    Prediction,
    ProjectSpec,
    QueueItem,
    RemoteSample,
)
from common.errors import (
    MediaError,
    ModelError,
    NotListedError,
    PlatformUnreachableError,
    ProjectGoneError,
    TrainingError,
    UnreadableImageError,
)
from common.loop import ActiveLearningLoop, Tools
from common.media import Stored
from common.ports import Change, Drift, Model, TrainingProgress, TrainingSample, TrainingSpec
from common.store import open_store


@dataclass
class FakePlatform:
    """One project of a platform that keeps its promises; ``down`` and ``gone`` switch its faults on."""

    classes: tuple[ClassMapping, ...] = (ClassMapping("cat", ("kitty",)), ClassMapping("dog"))
    tasks: dict[str, str] = field(default_factory=dict)
    answers: dict[str, list[Annotation]] = field(default_factory=dict)
    rows: dict[str, dict[str, QueueItem]] = field(default_factory=dict)
    active: str | None = None
    state: dict[str, Any] = field(default_factory=dict)
    drifts: list[Drift] = field(default_factory=list)
    swallow: int = 0
    listed: bool = True
    down: bool = False
    gone: bool = False
    calls: list[str] = field(default_factory=list)
    news: list[bool] = field(default_factory=list)
    title: str = "Pets"

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if self.down:
            raise PlatformUnreachableError("the platform does not answer")
        if self.gone:
            raise ProjectGoneError("project 1 is gone")

    def annotate(self, sample: str, *boxes: LabelledBox, number: str = "1", **values: Any) -> Annotation:
        """A person answers."""
        made = Annotation(f"{sample}-{number}", sample, datetime.now(UTC), boxes=boxes, person="ann", **values)
        kept = [a for a in self.answers.get(sample, []) if a.id != made.id]
        self.answers[sample] = [*kept, made]
        return made

    def order(self) -> list[str]:
        """Open tasks as the platform would serve them now."""
        rows = self.rows.get(self.active or "", {})
        open_ = [t for t in self.tasks if not any(not a.skipped for a in self.answers.get(t, []))]
        return sorted((t for t in open_ if t in rows), key=lambda t: rows[t].order)

    def spec(self) -> ProjectSpec:
        self._call("spec")
        return ProjectSpec(self.title, self.classes)

    def connect(self, *, dry_run: bool, replace: bool, listed: bool = False) -> list[Change]:
        self._call("connect")
        if listed and not self.listed:
            raise NotListedError("nobody added us")
        return [] if self.state.get("connected") else self._connected(dry_run)

    def _connected(self, dry_run: bool) -> list[Change]:
        if not dry_run:
            self.state["connected"] = True
        return [Change("sampling", "sequential", "by priority")]

    def advice(self) -> list[str]:
        return []

    def disconnect(self) -> list[Change]:
        self._call("disconnect")
        self.state.clear()
        self.active = None
        return [Change("sampling", "by priority", "sequential")]

    def samples(self) -> Iterator[RemoteSample]:
        self._call("samples")
        for task, uri in self.tasks.items():
            given = self.answers.get(task, [])
            answers = sum(not a.skipped for a in given)
            yield RemoteSample(task, uri, answers=answers, skips=len(given) - answers)

    def annotations(
        self, *, since: datetime | None = None, samples: Sequence[str] = ()
    ) -> Iterator[tuple[str, list[Annotation]]]:
        self._call("annotations")
        for task in samples or list(self.answers):
            given = self.answers.get(task, [])
            if samples or since is None or any(a.updated > since for a in given):
                yield task, list(given)

    def publish(self, version: str, items: Sequence[QueueItem]) -> int:
        self._call("publish")
        taken = list(items)[: len(items) - self.swallow]
        self.rows.setdefault(version, {}).update({i.sample: i for i in taken})
        return len(taken)

    def activate(self, version: str) -> None:
        self._call("activate")
        self.active = version

    def published(self) -> dict[str, int]:
        self._call("published")
        return {v: len(r) for v, r in self.rows.items()}

    def retire(self, version: str, limit: int) -> int:
        self._call("retire")
        rows = self.rows.get(version, {})
        going = list(rows)[:limit]
        for task in going:
            del rows[task]
        if not rows:
            self.rows.pop(version, None)
        return len(going)

    def tend(self, *, news: bool) -> bool:
        self.news.append(news)
        return False

    def drift(self, version: str | None) -> list[Drift]:
        self._call("drift")
        return list(self.drifts)

    def link(self, sample: str) -> str:
        return f"http://platform/tasks/{sample}"

    def media_origin(self) -> str:
        return "http://platform"

    def media_headers(self) -> Mapping[str, str]:
        return {"Authorization": "Token secret"}

    def media_url(self, sample: str, uri: str) -> str:
        return uri

    def media_bulk(self, urls: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        return iter(())


class FakeMedia:
    """Images are files of a folder; a name that is not there cannot be had."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._paths: dict[str, Path] = {}

    def get_many(self, urls: Sequence[str], source: object, workers: int = 8) -> list[Stored | MediaError]:
        return [self._get(u) for u in urls]

    def _get(self, url: str) -> Stored | MediaError:
        path = self.folder / url
        if not path.is_file():
            return UnreadableImageError(f"{url}: there is no such image")
        sha = hashlib.sha256(path.read_bytes()).hexdigest()
        self._paths[sha] = path
        with Image.open(path) as image:
            width, height = image.size
        return Stored(path, sha, width, height)

    def path(self, sha256: str) -> Path | None:
        return self._paths.get(sha256)

    def evict(self, keep: Any) -> int:
        return 0


class FakeModels:
    """A model that sees one box per image; its confidence is the image's mean brightness."""

    def __init__(self, names: tuple[str, ...] = ("kitty",), *, usable: bool = True) -> None:
        self.names = names
        self.usable = usable
        self.seen: list[str] = []
        self.asked: list[tuple[str, tuple[str, ...], int, int | None]] = []
        self.installed = 0

    def base(self, model_path: str) -> Model:
        if model_path == "missing.pt":
            raise ModelError("model_path is 'missing.pt': there is no such file")
        reason = "" if self.usable else "no weights"
        return Model(Path("base.pt"), "0" * 64, self.names if self.usable else (), self.usable, reason)

    def install(self, trained: Path) -> Model:
        self.installed += 1
        return Model(trained, f"{self.installed}" * 64, ("cat", "dog"))

    def detector(
        self, model: Model, views: Sequence[str] = (), members: Sequence[Model] = (), imgsz: int | None = None
    ) -> FakeDetector:
        self.asked.append((model.sha256[:4], tuple(views), len(members), imgsz))
        return FakeDetector(model.names, self.seen, tuple(views), len(members))


@dataclass
class FakeDetector:
    """See ``FakeModels``; what moves under a flip, and whom the committee does not believe, is the dark images."""

    classes: tuple[str, ...]
    seen: list[str]
    views: tuple[str, ...] = ()
    members: int = 0

    def predict(self, paths: Sequence[Path]) -> list[Prediction | str]:
        return [self._one(p) for p in paths]

    def _one(self, path: Path) -> Prediction | str:
        self.seen.append(path.name)
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"), np.float32) / 255
        height, width = pixels.shape[:2]
        scores = np.zeros((1, len(self.classes)), np.float32)
        scores[0, 0] = pixels.mean()
        instances = Instances(np.array([[0, 0, width / 2, height / 2]], np.float32), scores)
        embedding = pixels.mean(axis=(0, 1)) + 0.01
        each, spread = np.zeros(len(self.classes), np.float32), np.zeros(1, np.float32)
        said = Prediction(instances, embedding.astype(np.float32), each, each + 0.1, spread, width, height)
        if "flip" in self.views:
            said = replace(said, flip_iou=scores[:, 0], flip_scores=scores**2)
        members = len(self.views) + self.members
        return replace(said, committee=np.stack([scores**2] * members)) if members else said


@dataclass
class FakeTrainer:
    """Trainings that end when the test says so, with weights as good as it says.

    ``worth`` says of weights, by sha256, which share of the boxes of each validation image they find: of all classes,
    or by class name. Others were not measured.
    """

    states: dict[Path, TrainingProgress] = field(default_factory=dict)
    started: list[TrainingSpec] = field(default_factory=list)
    samples: list[list[TrainingSample]] = field(default_factory=list)
    validation: list[list[TrainingSample]] = field(default_factory=list)
    worth: dict[str, float | dict[str, float]] = field(default_factory=dict)
    refuses: str = ""

    def start(
        self, spec: TrainingSpec, samples: Sequence[TrainingSample], val: Sequence[TrainingSample] = ()
    ) -> list[str]:
        if self.refuses:
            raise TrainingError(self.refuses)
        self.started.append(spec)
        self.samples.append(list(samples))
        self.validation.append(list(val))
        self.states[spec.folder] = TrainingProgress("running", 0, 10, token=spec.token)
        return []

    def matches(self, folder: Path) -> dict[str, Matches]:
        number = max(i for i, spec in enumerate(self.started) if spec.folder == folder)
        val = sorted(self.validation[number], key=lambda s: s.id)
        classes = self.started[number].classes
        return {sha: found_boxes(val, classes, worth) for sha, worth in self.worth.items()} if val else {}

    def finish(self, state: str = "done", message: str = "") -> None:
        """The newest training ends."""
        spec = self.started[-1]
        checkpoint = spec.folder / "final.pt" if state == "done" else None
        ended = replace(self.states[spec.folder], state=state, message=message, checkpoint=checkpoint)
        self.states[spec.folder] = ended

    def poll(self, folder: Path) -> TrainingProgress:
        return self.states.get(folder, TrainingProgress("lost"))

    def cancel(self, folder: Path) -> None:
        self.states[folder] = TrainingProgress("lost", message="cancelled")

    def close(self) -> None:
        """Nothing to stop."""


def found_boxes(val: Sequence[TrainingSample], classes: Sequence[str], worth: float | dict[str, float]) -> Matches:
    """Matches of a model that finds this share of the boxes, always the same ones, and nothing else."""
    truths = np.zeros((len(val), len(classes)), np.int64)
    rows: list[tuple[int, int]] = []
    for i, sample in enumerate(val):
        for k, box in enumerate(b for b in sample.label.boxes if b.name in classes):
            c = classes.index(box.name)
            truths[i, c] += 1
            luck = hashlib.sha256(f"{sample.id}/{k}".encode()).digest()[0] / 256
            if luck < (worth if isinstance(worth, float) else worth[box.name]):
                rows.append((i, c))
    image, label = np.array(rows, np.int64).reshape(-1, 2).T
    sure = np.full(len(rows), 0.8)
    return Matches(image, label, sure, np.ones((len(rows), 10), bool), truths, sure)


@dataclass
class World:
    """One project, everything faked but the store and the loop."""

    tools: Tools
    platform: FakePlatform
    models: FakeModels
    trainer: FakeTrainer
    clock: list[float]
    folder: Path


def settle(world: World, steps: int = 200) -> None:
    """Let the loop work until nothing moves."""
    loop = ActiveLearningLoop(world.tools)
    for _ in range(steps):
        if not loop.step("fake:1"):
            return
    raise AssertionError("the loop never came to rest")


def picture(path: Path, seed: int, *, brightness: int | None = None) -> None:
    """An image that is like no other seed's."""
    rng = np.random.default_rng(seed)
    level = rng.integers(20, 235) if brightness is None else brightness
    coarse = np.clip(level + rng.integers(-60, 60, (6, 8, 3)), 0, 255).astype(np.uint8)
    Image.fromarray(coarse).resize((64, 48), Image.Resampling.BICUBIC).save(path)


def make_world(folder: Path, images: int = 12, **settings: Any) -> World:
    """A connected project 'fake:1' with ``images`` pictures, nothing read yet."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    platform = FakePlatform()
    for i in range(images):
        picture(pictures / f"{i}.png", i)
        platform.tasks[str(100 + i)] = f"{i}.png"
    values = {"home": folder / "home", "min_new_labels": 3, "pause_s": 60, "reconcile_s": 100}
    blocks = {"first_block": 5, "later_block": 5}
    made = Settings(_env_file=None, **{**values, **blocks, **settings})
    store = open_store(made.database, made.folder)
    models, trainer, clock = FakeModels(), FakeTrainer(), [1_000_000.0]
    media: Any = FakeMedia(pictures)
    tools = Tools(store, made, media, models, trainer, lambda _row: platform, clock=lambda: clock[0])
    store.projects.ask("fake", "1")
    return World(tools, platform, models, trainer, clock, folder)
