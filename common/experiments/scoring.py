"""Scoring files: each content once per checkpoint and size, a slice at a time, kept in the store as it goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain, repeat
from pathlib import Path

from common.config import Settings, variable
from common.domain import Prediction
from common.errors import SettingError, UnreadableImageError
from common.experiments.files import ImageFile, damage, read_image, stamp
from common.loop.committee import CHECKPOINTS, Committee, fitting
from common.loop.thumbnails import describe, plain_prediction
from common.ports import VIEWS, Model, Models
from common.store import Store

SLICES = (8, 16, 32)
"""Images between two commits, the last number again and again: what Ctrl-C costs at most, and least at the start.
Eight are one pass of 320 pixels on a CPU."""
_READERS = 4

Tell = Callable[[int], None]
"""Called with the number of images done so far."""


@dataclass
class Scored:
    """What is known of some files, in their order.

    Attributes:
        files: By content; ``problem`` says why one could not be scored.
        predictions: None where there is a problem.
        descriptors: sha256 -> near-duplicate descriptor, of the readable ones.
        fresh: Contents that the model saw just now.
    """

    files: list[ImageFile] = field(default_factory=list)
    predictions: list[Prediction | None] = field(default_factory=list)
    descriptors: dict[str, bytes] = field(default_factory=dict)
    fresh: int = 0

    @property
    def unreadable(self) -> list[ImageFile]:
        """Files that could not be scored."""
        return [f for f in self.files if f.problem]

    @property
    def cached(self) -> int:
        """Readable files that cost no forward pass: their content was known."""
        return len(self.files) - len(self.unreadable) - self.fresh


class Scorer:
    """One checkpoint at one size, with the store as its memory.

    Args:
        store: Predictions by (checkpoint, content, size) and descriptors by content: the loop's own.
        models: Where the detector comes from; it is loaded when the first unknown image comes.
        model: The checkpoint; one that is not usable answers with colour thumbnails (a cold start).
        settings: ``imgsz``, the committee, and how large an image may be.

    Raises:
        SettingError: A member of the committee is the model itself.
        ModelError: A member of the committee is missing or broken.
    """

    def __init__(self, store: Store, models: Models, model: Model, settings: Settings) -> None:
        self.model = model
        self._said = store.predictions
        self._models = models
        self._settings = settings
        self._committee = _committee(settings, models, model)
        self._sizes = chain(SLICES, repeat(SLICES[-1]))
        self._known = self._said.have(model.sha256, settings.imgsz, self._committee.looks)

    @property
    def looks(self) -> str:
        """What was asked for besides the one pass; see ``Committee.looks``."""
        return self._committee.looks

    @property
    def notes(self) -> list[str]:
        """What the settings ask for and a folder does not have, in sentences."""
        if CHECKPOINTS not in self._settings.committee:
            return []
        return [f"{variable('committee')} names {CHECKPOINTS!r}, which only a project has: they are not asked here"]

    def descriptors(self, hashes: Sequence[str]) -> dict[str, bytes]:
        """sha256 -> near-duplicate descriptor, of the contents that have been scored before."""
        return self._said.descriptors(hashes)

    def score(self, paths: Sequence[Path], tell: Tell = lambda _done: None) -> Scored:
        """Score what has not been scored; what is done stays done when this is interrupted.

        Raises:
            ModelError: The weights cannot be loaded.
            StoreError: The database is locked or full.
        """
        out = Scored()
        for files in self._slices(paths):
            problems = self._look([f for f in files if not f.problem and f.sha256 not in self._known], out)
            self._add([replace(f, problem=f.problem or problems.get(f.sha256, "")) for f in files], out)
            tell(len(out.files))
        return out

    def _add(self, files: Sequence[ImageFile], out: Scored) -> None:
        """Answers as the store holds them, also fresh ones: a second run must see the very same numbers."""
        hashes = [f.sha256 for f in files if not f.problem]
        said = self._said.get(self.model.sha256, self._settings.imgsz, hashes, self._committee.looks)
        out.descriptors |= self._said.descriptors(hashes)
        for file in files:
            if not file.problem and file.sha256 not in said:  # a service on the same HOME tidied up
                file = replace(file, problem=f"{file.path.name}: its score was deleted meanwhile: run it again")
            out.files.append(file)
            out.predictions.append(said.get(file.sha256))

    def _slices(self, paths: Sequence[Path]) -> Iterator[list[ImageFile]]:
        """Files by content; while one slice is scored the next one is read."""
        parts = list(self._parts(paths))
        with ThreadPoolExecutor(_READERS, "read") as pool:
            ahead = [pool.submit(self._read, p) for p in (parts[0] if parts else ())]
            for following in [*parts[1:], ()]:
                now, ahead = ahead, [pool.submit(self._read, p) for p in following]
                yield [future.result() for future in now]

    def _parts(self, paths: Sequence[Path]) -> Iterator[Sequence[Path]]:
        """Consecutive paths, as many as ``SLICES`` says; a scorer begins small once."""
        start = 0
        while start < len(paths):
            size = next(self._sizes)
            yield paths[start : start + size]
            start += size

    def _read(self, path: Path) -> ImageFile:
        file = read_image(path, int(self._settings.max_image_mb * 2**20))
        if file.problem or file.sha256 in self._known:
            return file
        return replace(file, problem=damage(path, self._settings.max_image_pixels))

    def _look(self, files: Sequence[ImageFile], out: Scored) -> dict[str, str]:
        """Score unknown files and keep the answers; sha256 -> why not, for those that failed."""
        due = {f.sha256: f for f in files}
        if not due:
            return {}
        said: list[tuple[str, Prediction]] = []
        described: list[tuple[str, bytes]] = []
        problems: dict[str, str] = {}
        have = self._said.descriptors(list(due))
        for file, answer in zip(due.values(), self._ask([f.path for f in due.values()]), strict=True):
            try:
                found = _kept(file, answer)
                if file.sha256 not in have:
                    described.append((file.sha256, describe(file.path)))
                said.append((file.sha256, found))
            except (UnreadableImageError, OSError) as error:
                problems[file.sha256] = str(error)
        self._said.put_descriptors(described)
        self._said.put(self.model.sha256, self._settings.imgsz, said, self._committee.looks)
        self._known |= {sha for sha, _ in said}
        out.fresh += len(said)
        return problems

    def _ask(self, paths: Sequence[Path]) -> list[Prediction | str]:
        if not self.model.usable:
            return [plain_prediction(path) for path in paths]
        asked = self._committee
        return self._models.detector(self.model, asked.views, asked.members, self._settings.imgsz).predict(paths)


def _committee(settings: Settings, models: Models, model: Model) -> Committee:
    """What the setting asks for: a folder has no former checkpoints, and a cold start nobody to ask.

    Raises:
        SettingError: A member that is the model itself under another name.
        ModelError: A member that is missing or broken.
    """
    names = settings.committee if model.usable else ()
    others = {name: models.base(name) for name in names if name not in (*VIEWS, CHECKPOINTS)}
    for name, other in others.items():
        if other.sha256 == model.sha256:
            raise SettingError(
                f"the committee names {name!r}, which holds the same weights as the model: name other weights (.pt)"
            )
    return fitting(model, names, list(others.values()), full=not settings.reduced_decode)


def _kept(file: ImageFile, answer: Prediction | str) -> Prediction:
    """The answer, when it can be kept under the file's content. Raises UnreadableImageError."""
    if isinstance(answer, str):
        raise UnreadableImageError(answer)
    now = (0, 0)
    with suppress(OSError):
        now = stamp(file.path)
    if now != file.stamp:
        raise UnreadableImageError(f"{file.path.name}: it was changed while it was scored: run the same command again")
    return answer
