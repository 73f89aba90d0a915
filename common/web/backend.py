"""What platform blueprints may ask the service: take a hint, say what the model says, show the queue."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from common.config import Settings
from common.domain import Event, Prediction, ProjectSpec, QueueItem, RemoteSample
from common.errors import HardfirstError, MediaError, StoreError
from common.loop.publishing import shown_boxes
from common.loop.tools import Tools
from common.media import Source
from common.ports import Model
from common.store import Store
from common.store.projects import ProjectRow
from common.web.ports import OpenPorts

log = logging.getLogger(__name__)

Score = Callable[[Model, Sequence[str], int], list["Prediction | str"]]
"""(model, paths, imgsz) -> one entry per path."""


@dataclass(frozen=True)
class Answer:
    """What the serving model says about one sample; ``problem`` is '' or one sentence why it says nothing."""

    item: QueueItem
    version: str
    problem: str = ""


class Backend:
    """One per web process; thread-safe: all it holds besides its tools are open ports, lent to one thread at a time."""

    def __init__(self, tools: Tools, score: Score) -> None:
        self.tools = tools
        self._score = score
        self._ports = OpenPorts(tools.open)

    def warm(self) -> None:
        """Open the platforms of the connected projects, so that no request waits for it; sends nothing."""
        for row in self.store.projects.all():
            if row.state != "archived":
                try:
                    with self._ports.lend(row):
                        log.debug("%s is ready", row.key)
                except HardfirstError as error:
                    log.warning("%s: %s", row.key, error)

    @property
    def settings(self) -> Settings:
        """The settings of the service."""
        return self.tools.settings

    @property
    def store(self) -> Store:
        """The store of the service."""
        return self.tools.store

    def record(self, event: Event, delay_s: float = 0.0) -> None:
        """Take a hint to look at in ``delay_s`` seconds; returns when it is on the disk. Raises StoreError."""
        self.store.inbox.add(event, delay_s)

    def version(self, platform: str, project: str) -> str:
        """The version annotators are served by, '' when there is none yet."""
        row = self.store.projects.get(f"{platform}:{project}")
        return self.store.publications.get(row.publication).version if row and row.publication else ""

    def versions(self, platform: str, project: str) -> list[str]:
        """Versions on the platform, newest first."""
        rows = self.store.publications.all(f"{platform}:{project}")
        return [p.version for p in reversed(rows) if p.activated is not None and p.state != "gone"]

    def predict(self, key: str, spec: ProjectSpec, samples: Sequence[RemoteSample]) -> list[Answer]:
        """One answer per sample, in order; from the store where the serving model has seen the image."""
        row = self.store.projects.get(key)
        if row is None or row.state in ("asked", "archived"):
            self._ports.drop(key)
            problem = f"{key} is not connected: run `hardfirst connect`, or wait until the worker has connected it"
            return [Answer(QueueItem(s.id, 1.0), "", problem) for s in samples]
        version = self.version(row.platform, row.external)
        try:
            model, _ = self.tools.serving(row)
        except StoreError:
            raise
        except HardfirstError as error:
            return [Answer(QueueItem(s.id, 1.0), version, str(error)) for s in samples]
        said = self._said(row, model, samples)
        places = self._places(row, samples)
        return [
            Answer(self._item(s, p, spec, model, places.get(s.id, 1.0)), version, p if isinstance(p, str) else "")
            for s, p in zip(samples, said, strict=True)
        ]

    def queue(self, key: str, limit: int | None) -> dict[str, Any] | None:
        """The queue as people and scripts read it, best first; None when the project is unknown."""
        row = self.store.projects.get(key)
        if row is None:
            return None
        publication = self.store.publications.get(row.publication) if row.publication else None
        if publication is None:  # also once the project is disconnected
            self._ports.drop(key)
            return {"project": key, "version": "", "total": 0, "items": []}
        places, total = self.store.publications.open_places(publication, limit)
        links = self.links(row, [p.sample for p in places])
        items = [
            {
                "id": int(p.sample) if p.sample.isdecimal() else p.sample,
                "rank": rank,
                "utility": p.utility,
                "parts": p.parts,
                "version": publication.version,
                "link": link,
            }
            for rank, (p, link) in enumerate(zip(places, links, strict=True), start=1)
        ]
        return {"project": key, "version": publication.version, "total": total, "items": items}

    def links(self, row: ProjectRow, samples: Sequence[str]) -> list[str]:
        """Where a person opens each sample, '' where the platform's settings are missing: the rest is worth showing."""
        if not samples:
            return []
        try:
            with self._ports.lend(row) as platform:
                return [platform.link(s) for s in samples]
        except HardfirstError as error:
            log.warning("%s: the queue is shown without links: %s", row.key, error)
            return [""] * len(samples)

    def _places(self, row: ProjectRow, samples: Sequence[RemoteSample]) -> dict[str, float]:
        if row.publication is None:
            return {}
        return self.store.publications.places_of(row.publication, [s.id for s in samples])

    def _item(
        self, sample: RemoteSample, p: Prediction | str, spec: ProjectSpec, model: Model, place: float
    ) -> QueueItem:
        if isinstance(p, str):
            return QueueItem(sample.id, place)
        return QueueItem(sample.id, place, shown_boxes(p, spec, model.names), p.width, p.height)

    def _said(self, row: ProjectRow, model: Model, samples: Sequence[RemoteSample]) -> list[Prediction | str]:
        """From the store first; the rest through the resident model, all at once. Boxes are all that is wanted."""
        imgsz = self.tools.settings_of(row).imgsz
        known = self.store.samples.some(row.key, [s.id for s in samples])
        hashes = {i: s.sha256 for i, s in known.items() if s.sha256}
        stored = self.store.predictions.boxes(model.sha256, imgsz, list(hashes.values()))
        said: dict[str, Prediction | str] = {i: stored[h] for i, h in hashes.items() if h in stored}
        missing = [s for s in samples if s.id not in said]
        if missing and not model.usable:
            return [said.get(s.id, model.reason) for s in samples]
        said |= {s.id: "the task names no image" for s in missing if not s.uri}
        named = [s for s in missing if s.uri]
        if named:
            said |= self._score_now(row, model, named)
        return [said[s.id] for s in samples]

    def _score_now(self, row: ProjectRow, model: Model, samples: Sequence[RemoteSample]) -> dict[str, Prediction | str]:
        try:
            with self._ports.lend(row) as platform:
                source = Source(platform.media_origin(), platform.media_headers())
                urls = [platform.media_url(s.id, s.uri) for s in samples]
            got = self.tools.media.get_many(urls, source)
        except StoreError:
            raise
        except HardfirstError as error:
            return {s.id: str(error) for s in samples}
        said: dict[str, Prediction | str] = {
            s.id: str(g) for s, g in zip(samples, got, strict=True) if isinstance(g, MediaError)
        }
        here = {s.id: g for s, g in zip(samples, got, strict=True) if not isinstance(g, MediaError)}
        by_image = self._look(row, model, {g.sha256: str(g.path) for g in here.values()})
        return said | {i: by_image[g.sha256] for i, g in here.items()}

    def _look(self, row: ProjectRow, model: Model, paths: dict[str, str]) -> dict[str, Prediction | str]:
        """What the model says of images (sha256 -> path), each looked at once in its life."""
        imgsz = self.tools.settings_of(row).imgsz
        said: dict[str, Prediction | str] = dict(self.store.predictions.boxes(model.sha256, imgsz, list(paths)))
        new = [sha for sha in paths if sha not in said]
        if new:
            said |= zip(new, self._score(model, [paths[sha] for sha in new], imgsz), strict=True)
            fresh = [(sha, p) for sha in new if not isinstance(p := said[sha], str)]
            self.store.predictions.put(model.sha256, imgsz, fresh)
        return said
