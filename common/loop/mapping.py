"""The map of a project, made while there is nothing better to do for it, a slice at a time; see ``projection``.

Not in a process of its own: a slice takes about as long as one of scoring, so that no hint, order or round waits for
more than that, and there is no child that could be left behind.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Sequence

import numpy as np

from common.domain import Floats, Ints
from common.errors import HardfirstError, StoreError
from common.loop.projection import Plane
from common.loop.tools import Tools
from common.ports import chunks
from common.store.projects import ProjectRow
from common.store.publications import PublicationRow
from common.store.samples import SampleRow

REPRESENTATIVES = 2_000
"""Images that are laid out; the time this takes does not depend on how many others there are."""
SLICE = 2_000
"""Images that are read and placed at once."""

Work = Generator[None, None, tuple[Ints, Floats]]
"""A map being made; ends with (ids of sample rows, ascending; their points)."""

log = logging.getLogger(__name__)


class Mapping:
    """Maps under way, at most one of each project; lost with the process, begun again by the next."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._under_way: dict[str, tuple[int, Work]] = {}
        self._seconds: dict[str, float] = {}
        self._failed: dict[str, int] = {}

    def step(self, row: ProjectRow) -> bool:
        """Do a slice of the map of the order that serves; returns whether there was something to do. Raises StoreError.

        An order that is asked for comes first: the map would be old before it is made.
        """
        publication = self._due(row)
        if publication is None:
            self._under_way.pop(row.key, None)
            return False
        number, work = self._under_way.pop(row.key, (None, None))
        if work is None or number != publication:
            work = self._make(row, self._tools.store.publications.get(publication))
            self._seconds[row.key] = 0.0
        if self._slice(row, publication, work):
            self._under_way[row.key] = (publication, work)
        return True

    def _due(self, row: ProjectRow) -> int | None:
        """The order a map is to be made of."""
        if row.state != "active" or row.publication is None or row.order_asked is not None:
            return None
        done = (self._tools.store.maps.publication(row.key), self._failed.get(row.key))
        return None if row.publication in done else row.publication

    def _slice(self, row: ProjectRow, publication: int, work: Work) -> bool:
        """Whether there is more to do."""
        started = time.process_time()
        try:
            next(work)
        except StopIteration as end:
            seconds = self._seconds.pop(row.key) + time.process_time() - started
            self._tools.store.maps.put(row.key, publication, seconds, *end.value)
            log.info("%s: a map of %d images in %.1f s of a processor", row.key, len(end.value[0]), seconds)
            return False
        except StoreError:
            raise
        except (ArithmeticError, HardfirstError, MemoryError, ValueError) as error:
            self._failed[row.key] = publication
            text = f"the map cannot be made: {type(error).__name__}: {error}; the next order brings another attempt"
            self._tools.store.journal.write(row.key, text, "warning")
            return False
        self._seconds[row.key] += time.process_time() - started
        return True

    def _make(self, row: ProjectRow, order: PublicationRow) -> Work:
        samples = [s for s in self._tools.store.samples.all(row.key) if s.sha256 and not s.problem]
        there, vectors = self._embeddings(row, order, representatives(samples))
        yield
        ids: list[Ints] = [np.zeros(0, np.int64)]
        points: list[Floats] = [np.zeros((0, 2), np.float32)]
        if there:
            plane = Plane(vectors, self._tools.settings_of(row).seed, self._before(row, there))
            yield from plane.pieces()
            for part in chunks(samples, SLICE):
                here, vectors = self._embeddings(row, order, part, vectors.shape[1])
                ids.append(np.array([s.id for s in here], np.int64))
                points.append(plane.place(vectors))
                yield
        return np.concatenate(ids), np.concatenate(points)

    def _embeddings(
        self, row: ProjectRow, order: PublicationRow, samples: Sequence[SampleRow], depth: int | None = None
    ) -> tuple[list[SampleRow], Floats]:
        """(samples the order's model has seen, their embeddings), those that are finite and of one depth."""
        model, _ = self._tools.model_of(row, order.checkpoint)
        imgsz = self._tools.settings_of(row).imgsz
        said = self._tools.store.predictions.boxes(model.sha256, imgsz, list({s.sha256 or "" for s in samples}))
        fine = {sha: p.embedding for sha, p in said.items() if np.isfinite(p.embedding).all() and len(p.embedding)}
        depth = depth or max(map(len, fine.values()), default=0)
        here = [s for s in samples if len(fine.get(s.sha256 or "", ())) == depth] if fine else []
        rows = [fine[s.sha256 or ""] for s in here]
        return here, np.array(rows, np.float32).reshape(len(rows), depth)

    def _before(self, row: ProjectRow, samples: Sequence[SampleRow]) -> Floats | None:
        """Shape (n, 2): where these were on the last map, NaN = nowhere; None without one."""
        last = self._tools.store.maps.get(row.key)
        if last is None or not len(last.samples):
            return None
        ids = np.array([s.id for s in samples], np.int64)
        at = np.searchsorted(last.samples, ids).clip(max=len(last.samples) - 1)
        return np.where((last.samples[at] == ids)[:, None], last.points[at], np.float32(np.nan)).astype(np.float32)


def representatives(samples: Sequence[SampleRow]) -> list[SampleRow]:
    """At most ``REPRESENTATIVES``, one of each picture: a hash is a draw that stays the same while a pool grows."""
    one_of_each = {s.sha256 or "": s for s in reversed(samples)}
    return [one_of_each[sha] for sha in sorted(one_of_each)[:REPRESENTATIVES]]
