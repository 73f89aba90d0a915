"""Annotations as platforms hold them, every version, reproducible at any revision."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from common.domain import Annotation, LabelledBox
from common.ports import chunks
from common.store.engine import transaction
from common.store.schema import annotation, project, sample


def _body(a: Annotation) -> dict[str, Any]:
    """What was answered, as JSON gives it back."""
    body = asdict(a)
    for name in ("id", "sample", "updated", "own_time"):
        del body[name]
    made: dict[str, Any] = json.loads(json.dumps(body))
    return made


def _annotation(r: Any) -> Annotation:
    body = dict(r["body"])
    boxes = tuple(LabelledBox(b["name"], tuple(b["xyxy"]), b["origin"]) for b in body.pop("boxes"))
    updated = datetime.fromtimestamp(r["updated"], UTC)
    return Annotation(
        id=r["external"],
        sample=r["sample"],
        updated=updated,
        boxes=boxes,
        dropped=tuple(body.pop("dropped")),
        **body,
    )


def _compared(known: Mapping[str, Any], answers: Iterable[Annotation]) -> tuple[list[int], list[dict[str, Any]]]:
    """(rows that no longer hold, what is new)."""
    left, gone, fresh = dict(known), [], []
    for a in {a.id: a for a in answers}.values():
        had, body, updated = left.pop(a.id, None), _body(a), a.updated.timestamp()
        if had is not None and had["body"] == body and (had["updated"] == updated or not a.own_time):
            continue
        gone += [had["id"]] if had else []
        fresh.append({"external": a.id, "updated": updated, "body": body})
    return [*gone, *(r["id"] for r in left.values())], fresh


class Labels:
    """Idempotent by (project, annotation id, updated, content): the same answer twice is one row."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def record(self, key: str, answers: Sequence[tuple[str, list[Annotation]]], now: float | None = None) -> int:
        """Make what is known of each sample equal to what the platform said; returns the number of changes.

        Args:
            key: Project key.
            answers: (sample id, all its annotations); an annotation that is missing was deleted.
            now: Seconds since the epoch, None = the clock's.
        """
        at = time.time() if now is None else now
        changes = 0
        for part in chunks(answers, 100):
            with transaction(self._engine, write=True) as connection:
                changes += self._record_part(connection, key, part, at)
        return changes

    def _record_part(
        self, connection: sa.Connection, key: str, part: Sequence[tuple[str, list[Annotation]]], at: float
    ) -> int:
        ids = [s for s, _ in part]
        current = sa.select(annotation).where(
            annotation.c.project == key, annotation.c.sample.in_(ids), annotation.c.until.is_(None)
        )
        known: dict[str, dict[str, Any]] = {s: {} for s in ids}
        for r in connection.execute(current).mappings():
            known[r["sample"]][r["external"]] = r
        revision = connection.scalar(sa.select(project.c.revision).where(project.c.key == key)) or 0
        gone: list[int] = []
        fresh: list[dict[str, Any]] = []
        for sample_id, answers_now in dict(part).items():
            old, new = _compared(known[sample_id], answers_now)
            gone += old
            fresh += [
                {**values, "project": key, "sample": sample_id, "since": revision + 1, "until": None, "recorded": at}
                for values in new
            ]
            answers = sum(not a.skipped for a in answers_now)
            where = (sample.c.project == key) & (sample.c.external == sample_id)
            connection.execute(sa.update(sample).where(where).values(answers=answers, skips=len(answers_now) - answers))
        if gone:
            connection.execute(sa.update(annotation).where(annotation.c.id.in_(gone)).values(until=revision + 1))
        if fresh:
            connection.execute(sa.insert(annotation), fresh)
        if gone or fresh:
            connection.execute(sa.update(project).where(project.c.key == key).values(revision=revision + 1))
        return len(gone) + len(fresh)

    def at(self, key: str, revision: int | None = None) -> dict[str, list[Annotation]]:
        """Sample id -> its annotations as of ``revision`` (None = now), samples that are gone left out."""
        c = annotation.c
        there = (
            c.until.is_(None)
            if revision is None
            else (c.since <= revision) & (c.until.is_(None) | (c.until > revision))
        )
        query = (
            sa.select(annotation)
            .join(sample, (sample.c.project == c.project) & (sample.c.external == c.sample))
            .where(c.project == key, there, ~sample.c.gone)
            .order_by(c.id)
        )
        found: dict[str, list[Annotation]] = {}
        with transaction(self._engine, write=False) as connection:
            for r in connection.execute(query).mappings():
                found.setdefault(r["sample"], []).append(_annotation(r))
        return found

    def spans(self, key: str) -> dict[str, list[tuple[int, int | None]]]:
        """Sample id -> (first revision that has it, first that no longer has it or None) of each of its annotations."""
        query = sa.select(annotation.c.sample, annotation.c.since, annotation.c.until).where(
            annotation.c.project == key
        )
        found: dict[str, list[tuple[int, int | None]]] = {}
        with transaction(self._engine, write=False) as connection:
            for sample_id, since, until in connection.execute(query):
                found.setdefault(sample_id, []).append((since, until))
        return found

    def samples_of(self, key: str, annotations: Sequence[str]) -> list[str]:
        """Samples that hold these annotation ids: deletions name no sample."""
        found: set[str] = set()
        with transaction(self._engine, write=False) as connection:
            for part in chunks(list(annotations), 500):
                query = sa.select(annotation.c.sample).where(
                    annotation.c.project == key, annotation.c.external.in_(part)
                )
                found |= set(connection.scalars(query))
        return sorted(found)

    def last_recorded(self, key: str, after: float) -> float | None:
        """When a label was last recorded, None when that was not after ``after`` (seconds since the epoch)."""
        query = sa.select(sa.func.max(annotation.c.recorded)).where(
            annotation.c.project == key, annotation.c.recorded > after
        )
        with transaction(self._engine, write=False) as connection:
            value = connection.scalar(query)
        return float(value) if value is not None else None
