"""The ports: what the loop needs from platforms, detectors, trainers and job runners. Docstrings are the contract."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from common.average_precision import Matches
from common.domain import Annotation, Label, Prediction, ProjectSpec, QueueItem, RemoteSample


@dataclass(frozen=True)
class Change:
    """One thing ``connect`` or ``disconnect`` did or would do, in words for people."""

    what: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.what}: {self.before} -> {self.after}"


@dataclass(frozen=True)
class Drift:
    """One thing on the platform that is not as hardfirst left it.

    Attributes:
        what: In words for people.
        healed: True when it was put right just now; False when it looks like a person's decision, so that
            hardfirst stops publishing to this project and says so.
        fix: What a person can do about it.
    """

    what: str
    healed: bool
    fix: str = ""


CheckState = Literal["ok", "warning", "problem", "not applicable"]
"""What a check of ``hardfirst doctor`` comes to; 'not applicable' = it could not, or need not, be looked at."""


@dataclass(frozen=True)
class Finding:
    """What one check of ``hardfirst doctor`` saw. Holds no secret.

    Attributes:
        name: Of the check.
        state: See ``CheckState``.
        evidence: What was seen, for people.
        fix: Exactly what to do; '' where nothing is to be done.
        about: Project key or platform it is about, '' = the service.
        mend: Does what is safe of the fix and returns what was done, in words; None = only a person can.
    """

    name: str
    state: CheckState
    evidence: str
    fix: str = ""
    about: str = ""
    mend: Callable[[], str] | None = field(default=None, compare=False, repr=False)


TOLD = "told"
"""Kind of ``Memory`` rows that are for people: name of a line -> its text, shown by `hardfirst status`."""


class Memory(Protocol):
    """What a platform port must remember by the row, of one project: JSON-able values by (kind, key).

    For many rows; the few words of a connection go into ``Platform.state``. Every call is on the disk when it returns.
    Rows of the kind ``TOLD`` are shown to people.
    """

    def get(self, kind: str, keys: Iterable[str]) -> dict[str, Any]:
        """Key -> value of those that are there."""

    def all(self, kind: str) -> dict[str, Any]:
        """Key -> value of every row of a kind, by key."""

    def counts(self, prefix: str = "") -> dict[str, int]:
        """Kind -> number of rows, for every kind that begins with ``prefix`` and has rows."""

    def put(self, kind: str, rows: Mapping[str, Any]) -> None:
        """Write rows, replacing those of the same key; in short transactions: a crash may leave the first of them."""

    def add(self, kind: str, key: str, value: Any) -> bool:
        """Write one row where there is none; False where there is one, which stays: of two callers one wins."""

    def drop(self, kind: str, keys: Iterable[str] | None = None, limit: int | None = None) -> int:
        """Delete rows of a kind (None = all of them, at most ``limit``); returns how many went."""


class Platform(Protocol):
    """One project on one annotation platform.

    Every method may raise the ``PlatformError`` family and nothing else. No method changes a human annotation.
    Implementations are used by one thread at a time and hold no state that must survive: what must, goes through
    ``state``, a JSON-able dict that the caller keeps and hands back at the next ``open``, or into a ``Memory``.
    """

    state: dict[str, Any]

    def spec(self) -> ProjectSpec:
        """The project as it is now. Raises UnsupportedProjectError or ProjectGoneError."""

    def connect(self, *, dry_run: bool, replace: bool, listed: bool = False) -> list[Change]:
        """Register with the platform; what was there before goes into ``state`` before the first write.

        Idempotent: connecting twice changes nothing the second time. With ``listed`` only where a person has added
        us on the platform: anybody who can reach us may say so, the platform knows.

        Raises:
            NotListedError: ``listed``, and nobody has.
        """

    def advice(self) -> list[str]:
        """What the person who connects should know, one sentence each with what to do; [] = all is well."""

    def disconnect(self) -> list[Change]:
        """Undo ``connect`` from ``state``: what was there before is put back, what we made is removed."""

    def samples(self) -> Iterator[RemoteSample]:
        """Every sample of the project, in the platform's order, cheaply: one listing, no annotations."""

    def annotations(
        self, *, since: datetime | None = None, samples: Sequence[str] = ()
    ) -> Iterator[tuple[str, list[Annotation]]]:
        """(sample id, all its annotations) for every sample that changed after ``since``, or for ``samples``.

        The list replaces what was known of that sample: an annotation missing from it was deleted.
        ``since=None`` with no ``samples`` = every sample that has an annotation.
        """

    def publish(self, version: str, items: Sequence[QueueItem]) -> int:
        """Store predictions and order under ``version``; returns how many rows the platform says it created."""

    def activate(self, version: str) -> None:
        """From now on annotators are served by ``version``. Atomic; harmless when repeated."""

    def published(self) -> dict[str, int]:
        """Version -> number of rows, for every version on the platform, ours and others'."""

    def retire(self, version: str, limit: int) -> int:
        """Delete up to ``limit`` rows of an old version; returns how many went. 0 = nothing left."""

    def tend(self, *, news: bool) -> bool:
        """Do the next short piece of work (a few seconds) that keeps the platform as the active version wants it.

        Called at every step of the loop, also when nothing happened: without ``news`` and without work left over from
        before it must cost next to nothing. For platforms that do not serve by ``QueueItem.order`` themselves.

        Args:
            news: Something may have changed: an event came in, a comparison was made, or an order was published.

        Returns:
            Whether something was done, so that more may be waiting.
        """

    def drift(self, version: str | None) -> list[Drift]:
        """Compare the platform's settings with what ``connect`` and ``activate(version)`` left, healing what is safe.

        Safe = settings the platform itself lost or reset (webhook actions, the backend's title as model version).
        """

    def link(self, sample: str) -> str:
        """Where a person opens this sample in a browser."""

    def media_origin(self) -> str:
        """Scheme, host and port of the platform: images there are fetched with ``media_headers``."""

    def media_headers(self) -> Mapping[str, str]:
        """Fresh authorisation for images on ``media_origin``; never sent elsewhere. Secret: never logged."""

    def media_url(self, sample: str, uri: str) -> str:
        """The absolute URL of an image: a platform path resolved, a cloud URI through the platform's proxy."""

    def media_bulk(self, urls: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """(URL, bytes) of images that come cheaper together than one by one; URLs as ``media_url`` gives them.

        May yield neighbours that were not asked for, because they came along. What it does not yield is fetched by
        its URL. Platforms where nothing comes cheaper together yield nothing.
        """


VIEWS = ("flip", "half", "heads")
"""Second looks a detector can take: the mirrored image, the image at half its size, its own dropout heads."""


class Detector(Protocol):
    """One checkpoint, resident. Not thread-safe: one caller at a time."""

    classes: tuple[str, ...]
    """The model's own class names, in the order of ``Instances.scores`` columns."""

    def predict(self, paths: Sequence[Path]) -> list[Prediction | str]:
        """One entry per path, in order: a prediction, or one sentence why the image cannot be read.

        Independent of batch neighbours: the same image gives the same answer whatever else is in the call.
        """


@dataclass(frozen=True)
class Model:
    """Weights as the loop sees them.

    Attributes:
        path: Weights, or an architecture's ``.yaml`` when ``usable`` is False.
        sha256: Of the weights; names what the model said in the store.
        names: The model's own class names; empty when it is not usable.
        usable: False when no weights could be had: nothing is predicted and the queue is a cold start.
        reason: One sentence when it is not usable.
    """

    path: Path
    sha256: str
    names: tuple[str, ...]
    usable: bool = True
    reason: str = ""


class Models(Protocol):
    """The model folder: the only way to weights."""

    def base(self, model_path: str) -> Model:
        """Weights to start from: the service's default, or ``model_path`` inside the model folder.

        Raises:
            ModelError: The weights named explicitly are missing, outside the folder, unsafe or broken.
        """

    def install(self, trained: Path) -> Model:
        """Take trained weights into the folder, atomically, after a check. Raises ModelError."""

    def detector(
        self, model: Model, views: Sequence[str] = (), members: Sequence[Model] = (), imgsz: int | None = None
    ) -> Detector:
        """The resident detector of a usable model; asking for the same again is free.

        Args:
            model: What answers.
            views: Out of ``VIEWS``: with "flip" predictions carry ``flip_iou`` and ``flip_scores``, and every view is
                a member of their ``committee``, in this order ("heads": one member per dropout head).
            members: Further members of the committee, after the views; usable, of the same task; their classes meet
                the model's by name, 0 where one does not know a class.
            imgsz: Pixels of the long side, a multiple of 32; None = HARDFIRST_IMGSZ.

        Raises:
            ModelError: Weights that are missing, unsafe, broken, not usable, or of another task than the model's.
            UnknownNameError: A name that is no view.
        """


@dataclass(frozen=True)
class TrainingSample:
    """One labelled image of a round."""

    id: str
    image: Path
    label: Label


@dataclass(frozen=True)
class TrainingSpec:
    """All a training child needs; written to ``folder/spec.json``.

    Attributes:
        folder: The round's own folder, absolute.
        base: Absolute path of the weights (or of a ``.yaml`` architecture) to start from.
        classes: Project class names in order.
        imgsz: Pixels of the long side, a multiple of 32.
        updates: Optimizer steps to make (epochs follow from the set's size).
        epochs: Fixed number of epochs instead, 0 = by ``updates``.
        batch: Images per step.
        device: 'auto', 'cpu', 'mps', '0', '0,1'.
        seed: Of everything random in the child.
        threads: CPU threads of the child, 0 = all but one (at least one).
        token: Fencing token; comes back in the result.
        measure: Absolute paths of other weights to measure on the same validation set once the training is done.
    """

    folder: Path
    base: Path
    classes: tuple[str, ...]
    imgsz: int
    updates: int
    epochs: int
    batch: int
    device: str
    seed: int
    threads: int
    token: int
    measure: tuple[Path, ...] = ()


@dataclass(frozen=True)
class TrainingProgress:
    """Where a training stands. ``state`` is 'running', 'done', 'failed' or 'lost' (no process, no result)."""

    state: str
    epoch: int = 0
    epochs: int = 0
    message: str = ""
    checkpoint: Path | None = None
    token: int = 0
    metrics: dict[str, float] = field(default_factory=dict)


class JobRunner(Protocol):
    """Runs training children. Here: one per project on this machine."""

    def start(self, spec: TrainingSpec) -> None:
        """Start, or resume from the last safely saved epoch, the training in ``spec.folder``."""

    def poll(self, folder: Path) -> TrainingProgress:
        """Where the training in ``folder`` stands; never blocks."""

    def cancel(self, folder: Path) -> None:
        """Stop it within seconds; harmless when it is not running."""

    def close(self) -> None:
        """Stop every child this runner started."""


class Trainer(Protocol):
    """Trains a round: a data set and a job of it."""

    def start(
        self, spec: TrainingSpec, samples: Sequence[TrainingSample], val: Sequence[TrainingSample] = ()
    ) -> list[str]:
        """Write the data set and start, or resume, the training in ``spec.folder``.

        Args:
            spec: What to train, and which other weights to measure.
            samples: To train on.
            val: To measure on, never trained on; may be empty.

        Returns:
            One sentence for every box that could not be used; its image trains all the same.
        """

    def matches(self, folder: Path) -> dict[str, Matches]:
        """sha256 of weights -> what their boxes came to on the validation set of a training that is done.

        Rows of ``truths`` are the validation samples that could be read, in the order of their ids; columns are
        ``spec.classes``. Empty without a validation set.
        """

    def poll(self, folder: Path) -> TrainingProgress:
        """Where the training in ``folder`` stands; never blocks."""

    def cancel(self, folder: Path) -> None:
        """Stop it within seconds; harmless when it is not running."""

    def close(self) -> None:
        """Stop every training this process started."""


@dataclass(frozen=True)
class ConnectOption:
    """One option of ``hardfirst connect PLATFORM`` that only this platform has; its value is in ``state["options"]``.

    Attributes:
        name: As on the command line, without dashes; dashes become underscores in ``state["options"]``.
        help: One line for people.
        kind: 'text'; or 'classes', a flag whose value is the list of class names the first model knows, and which holds
            for this one ``connect`` only.
        metavar: Of a text.
    """

    name: str
    help: str
    kind: Literal["text", "classes"] = "text"
    metavar: str = "TEXT"


class PlatformPlugin(Protocol):
    """What an entry point of the group ``hardfirst.platforms`` names."""

    name: str
    options: tuple[ConnectOption, ...]

    def open(
        self,
        project: str,
        settings: Any,
        state: dict[str, Any],
        save: Callable[[dict[str, Any]], None],
        memory: Memory,
    ) -> Platform:
        """The platform port of one project; raises SettingError when address or token are missing.

        ``save`` is called with ``state`` before every write on the platform that must be undoable.
        """

    def blueprint(self, backend: Any) -> Any:
        """The Flask blueprint that speaks this platform's protocol (see ``common.web.Backend``)."""


@dataclass(frozen=True)
class Patient:
    """One project as ``hardfirst doctor`` hands it to the checks of its platform.

    Attributes:
        project: The platform's id.
        connected: Whether hardfirst serves it, or has stopped until a person decides.
        answers: Whether hardfirst itself answers at HARDFIRST_URL, seen from here.
        version: The active publication, None before the first.
        state: What its port keeps; a copy.
        memory: What its port remembers, to be read only.
        port: A fresh port that keeps its state, for mending: the worker leaves the project alone inside.
        coming: The publication that is about to take over, None = none is on its way.
    """

    project: str
    connected: bool
    answers: bool
    version: str | None
    state: dict[str, Any]
    memory: Memory
    port: Callable[[], AbstractContextManager[Platform]]
    coming: str | None = None


@runtime_checkable
class CheckedPlugin(Protocol):
    """A ``PlatformPlugin`` that ``hardfirst doctor`` can ask; one without this method has no checks of its own."""

    def checks(self, settings: Any, patients: Sequence[Patient]) -> list[Finding]:
        """Look at the platform and at each project there; nothing is changed but by ``Finding.mend``.

        A platform that refuses, or does not answer, is a finding. Findings of a project say so in ``about`` by its
        id there. Is given up after some 20 seconds.

        Raises:
            SettingError: Address or token are missing.
        """


def chunks(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    """Consecutive slices of at most ``size``."""
    return (items[i : i + size] for i in range(0, len(items), size))
