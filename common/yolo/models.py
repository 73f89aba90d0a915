"""The model folder, through ultralytics: the ``Models`` and ``Trainer`` ports."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from pathlib import Path

from common.average_precision import Matches
from common.config import Settings
from common.errors import ModelError
from common.ports import Detector, JobRunner, Model, TrainingProgress, TrainingSample, TrainingSpec
from common.yolo import files, matches, offline, weights
from common.yolo.dataset import read_manifest, write_dataset


class YoloModels:
    """Weights by name or path, checked once, and one resident detector.

    Args:
        settings: Where the model folder is, how detectors run.
        by_path: Names for ``base`` that the owner of this machine gave as paths: taken as HARDFIRST_MODEL is, from
            anywhere and through the same checks. Nothing that came from a platform belongs here.
    """

    def __init__(self, settings: Settings, by_path: Collection[str] = ()) -> None:
        self._settings = settings
        self._by_path = frozenset(by_path)
        self._bases: dict[str, Model] = {}
        self._resident: tuple[tuple[object, ...], Detector] | None = None
        self._lock = threading.Lock()
        offline.prepare(settings.folder)

    def base(self, model_path: str) -> Model:
        """See ``common.ports.Models.base``."""
        with self._lock:
            if model_path not in self._bases:
                self._bases[model_path] = self._find(model_path)
            return self._bases[model_path]

    def _find(self, model_path: str) -> Model:
        root = self._settings.models
        name = self._name(model_path)
        known = self._checked(name)
        if known is not None:
            return known
        found = weights.resolve(name, root)
        if found.kind != "checkpoint":
            return Model(found.path, found.sha256, (), usable=False, reason=found.reason)
        names = weights.class_names(found.path)
        facts = {"path": str(found.path), "size": _size(found.path), "sha256": found.sha256, "names": list(names)}
        files.write_json(self._known, {**(files.read_json(self._known) or {}), name: facts})
        return Model(found.path, found.sha256, names)

    def _name(self, model_path: str) -> str:
        if not model_path:
            return self._settings.model
        if model_path in self._by_path:
            return str(Path(model_path).expanduser().resolve())
        return str(weights.inside(self._settings.models, model_path))

    @property
    def _known(self) -> Path:
        return self._settings.folder / "checked-weights.json"

    def _checked(self, name: str) -> Model | None:
        """What an earlier process found: the web process answers without loading torch."""
        facts = (files.read_json(self._known) or {}).get(name)
        if facts is None or str(weights.located(name, self._settings.models)) != facts["path"]:
            return None  # the same name may be another file in another folder
        if _size(Path(facts["path"])) != facts["size"]:
            return None
        return Model(Path(facts["path"]), facts["sha256"], tuple(facts["names"]))

    def install(self, trained: Path) -> Model:
        """See ``common.ports.Models.install``."""
        path, sha = weights.install(trained, self._settings.models)
        return Model(path, sha, weights.class_names(path))

    def detector(
        self, model: Model, views: Sequence[str] = (), members: Sequence[Model] = (), imgsz: int | None = None
    ) -> Detector:
        """See ``common.ports.Models.detector``."""
        for one in (model, *members):
            if not one.usable:
                raise ModelError(one.reason)
        size = imgsz or self._settings.imgsz
        asked = (model.sha256, size, tuple(views), tuple(m.sha256 for m in members))
        if self._resident is None or self._resident[0] != asked:
            self._resident = None  # the old one's memory first
            self._resident = (asked, self._load(model, views, members, size))
        return self._resident[1]

    def _load(self, model: Model, views: Sequence[str], members: Sequence[Model], imgsz: int) -> Detector:
        from common.yolo.detector import YoloDetector

        others = [m.path for m in members]
        return YoloDetector(
            model.path,
            imgsz=imgsz,
            device=self._settings.device,
            reduced_decode=self._settings.reduced_decode,
            views=views,
            members=others,
            engine=self._settings.engine,
            converted=self._settings.folder / "openvino",
        )


def _size(path: Path) -> list[int]:
    """Bytes and time of the last change; [] when the file is not there."""
    try:
        stat = path.stat()
    except OSError:
        return []
    return [stat.st_size, stat.st_mtime_ns]


class YoloTrainer:
    """A data set of symlinks, then a job."""

    def __init__(self, runner: JobRunner) -> None:
        self._runner = runner

    def start(
        self, spec: TrainingSpec, samples: Sequence[TrainingSample], val: Sequence[TrainingSample] = ()
    ) -> list[str]:
        """See ``common.ports.Trainer.start``."""
        write_dataset(spec.folder, samples, val, spec.classes)
        self._runner.start(spec)
        return list(read_manifest(spec.folder).reports)

    def matches(self, folder: Path) -> dict[str, Matches]:
        """See ``common.ports.Trainer.matches``."""
        return matches.load(folder)

    def poll(self, folder: Path) -> TrainingProgress:
        """See ``common.ports.Trainer.poll``."""
        return self._runner.poll(folder)

    def cancel(self, folder: Path) -> None:
        """See ``common.ports.Trainer.cancel``."""
        self._runner.cancel(folder)

    def close(self) -> None:
        """See ``common.ports.Trainer.close``."""
        self._runner.close()
