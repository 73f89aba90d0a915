"""When things happened: answers of people, first labels. Read only, for figures; no model is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from common.ports import chunks
from common.store.engine import transaction
from common.store.schema import annotation, sample


@dataclass(frozen=True)
class Answer:
    """One person's answer as it is now; skips and what was made in bulk from predictions are none.

    Attributes:
        sample: Platform id.
        saved: When it last changed there, or when we learned of it if that was earlier; seconds since the epoch.
        lead_time: Seconds the person spent, None where the platform does not say.
        boxes: (class, origin) of each box.
        sha256: Of the image, '' when it was never had.
    """

    sample: str
    saved: float
    lead_time: float | None
    boxes: tuple[tuple[str, str], ...]
    sha256: str


@dataclass(frozen=True)
class First:
    """When a sample got its first answer that is no skip, and when it was first seen on the platform."""

    labelled: float
    listed: float


_SAVED = sa.case((annotation.c.updated < annotation.c.recorded, annotation.c.updated), else_=annotation.c.recorded)
_SAMPLE = (sample.c.project == annotation.c.project) & (sample.c.external == annotation.c.sample)


class Times:
    """Of one project at a time, by its key."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def answers(self, key: str, limit: int) -> list[Answer]:
        """The newest ``limit`` answers that count now, newest first, skips and bulk ones left out."""
        c = annotation.c
        newest = (
            sa.select(c.id)
            .where(c.project == key, c.until.is_(None))
            .order_by(c.id.desc())
            .limit(limit)
            .scalar_subquery()
        )
        query = (
            sa.select(c.sample, _SAVED.label("saved"), c.body, sample.c.sha256)
            .join(sample, _SAMPLE)
            .where(c.id.in_(newest), ~sample.c.gone)
            .order_by(c.id.desc())
        )
        with transaction(self._engine, write=False) as connection:
            return [_answer(r) for r in connection.execute(query) if _counts(r.body)]

    def firsts(self, key: str, samples: Sequence[str]) -> dict[str, First]:
        """Sample id -> when it got its first answer, whatever became of that answer; never answered = not there."""
        c = annotation.c
        counts = ~c.body["skipped"].as_boolean() & ~c.body["converted"].as_boolean()
        found: dict[str, First] = {}
        with transaction(self._engine, write=False) as connection:
            for part in chunks(list(samples), 500):
                query = (
                    sa.select(c.sample, sa.func.min(_SAVED), sa.func.min(sample.c.seen))
                    .join(sample, _SAMPLE)
                    .where(c.project == key, c.sample.in_(part), counts)
                    .group_by(c.sample)
                )
                found |= {s: First(labelled, listed) for s, labelled, listed in connection.execute(query)}
        return found

    def labelled_since(self, key: str, revision: int) -> int:
        """Samples with an answer that is newer than a revision, 0 = with any."""
        c = annotation.c
        query = sa.select(sa.func.count(c.sample.distinct())).where(
            c.project == key, c.until.is_(None), c.since > revision
        )
        with transaction(self._engine, write=False) as connection:
            return int(connection.scalar(query) or 0)


def _counts(body: dict[str, Any]) -> bool:
    return not body["skipped"] and not body["converted"]


def _answer(r: Any) -> Answer:
    boxes = tuple((b["name"], b["origin"]) for b in r.body["boxes"])
    return Answer(r.sample, r.saved, r.body["lead_time"], boxes, r.sha256 or "")
