"""The review list: labels somebody should look at again. A finding keeps its row over the rounds."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from common.ports import chunks
from common.review import Finding
from common.store.engine import transaction
from common.store.schema import annotation, project, review

STATES = ("open", "dismissed", "gone")


@dataclass(frozen=True)
class ReviewRow:
    """One finding.

    Attributes:
        mark: Of the very thing disputed, see ``common.review``.
        boxes: Dicts of the fields of ``common.review.Disputed``.
        round: Number of the last round after which it was found.
        state: 'open', 'dismissed' (by a person, for good) or 'gone' (no longer disputed).
        at: The labels it was last found in were read then, seconds since the epoch.
    """

    id: int
    project: str
    sample: str
    kind: str
    mark: str
    reason: str
    weight: float
    boxes: list[dict[str, Any]]
    round: int
    state: str
    at: float


class Reviews:
    """Findings by project; one row per (sample, kind, mark)."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def record(
        self, key: str, round_number: int, found: Iterable[Finding], at: float, unseen: Collection[str] = ()
    ) -> tuple[int, int]:
        """In one transaction: these findings are the list of this round, and the round is reviewed.

        What a person dismissed stays dismissed. Whatever else is not found again is gone, but for the samples that
        could not be looked at.

        Args:
            key: Project key.
            round_number: The round after which they were found.
            found: The findings.
            at: When the labels were read, seconds since the epoch.
            unseen: Samples of which nothing is known this time: their rows stay as they are.

        Returns:
            (findings that are open and were not before, findings that are gone now).
        """
        held = _of(key).with_for_update()  # what a person dismisses meanwhile is not opened again
        with transaction(self._engine, write=True) as connection:
            known = {(r["sample"], r["kind"], r["mark"]): r for r in connection.execute(held).mappings()}
            there = {(f.sample, f.kind, f.mark): f for f in found}
            gone = [r["id"] for k, r in known.items() if r["state"] == "open" and k not in there and k[0] not in unseen]
            new = [f for k, f in there.items() if k not in known]
            again = [(known[k], f) for k, f in there.items() if k in known]
            self._insert(connection, [_values(key, f, round_number, at) for f in new])
            self._again(connection, again, round_number, at)
            for part in chunks(gone, 500):
                connection.execute(sa.update(review).where(review.c.id.in_(part)).values(state="gone"))
            connection.execute(sa.update(project).where(project.c.key == key).values(reviewed=round_number))
        return len(new) + sum(r["state"] == "gone" for r, _ in again), len(gone)

    def _insert(self, connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
        for part in chunks(rows, 500):
            connection.execute(sa.insert(review), part)

    def _again(
        self, connection: sa.Connection, found: Sequence[tuple[Any, Finding]], round_number: int, at: float
    ) -> None:
        """What was known, as it is now."""
        names = ("reason", "weight", "boxes", "round", "state", "at")
        values: dict[Any, Any] = {n: sa.bindparam(f"new_{n}") for n in names}
        statement = sa.update(review).where(review.c.id == sa.bindparam("row_id")).values(values)
        for part in chunks(found, 500):
            rows = []
            for row, finding in part:
                now = _values(row["project"], finding, round_number, at)
                now["state"] = "dismissed" if row["state"] == "dismissed" else "open"
                rows.append({"row_id": row["id"], **{f"new_{n}": now[n] for n in names}})
            connection.execute(statement, rows)

    def all(self, key: str) -> list[ReviewRow]:
        """Every finding of a project whatever its state, oldest first."""
        with transaction(self._engine, write=False) as connection:
            return [ReviewRow(**r) for r in connection.execute(_of(key)).mappings()]

    def waiting(self, key: str, state: str = "open", start: int = 0, limit: int | None = None) -> list[ReviewRow]:
        """Findings in one state, heaviest first: ``limit`` from offset ``start``.

        Of the open ones only those whose sample nobody has answered since: whether the new answer settles it is seen
        after the next round.
        """
        query = sa.select(review).where(*_waiting(key, state)).order_by(review.c.weight.desc(), review.c.id)
        with transaction(self._engine, write=False) as connection:
            rows = connection.execute(query.offset(start).limit(limit)).mappings()
            return [ReviewRow(**r) for r in rows]

    def count(self, key: str, state: str = "open") -> int:
        """How many ``waiting`` lists without a limit."""
        query = sa.select(sa.func.count()).select_from(review).where(*_waiting(key, state))
        with transaction(self._engine, write=False) as connection:
            return int(connection.scalar(query) or 0)

    def dismiss(self, key: str, finding: int) -> bool:
        """A person says that the label is right; False when the project has no such finding."""
        where = (review.c.project == key) & (review.c.id == finding)
        with transaction(self._engine, write=True) as connection:
            return bool(connection.execute(sa.update(review).where(where).values(state="dismissed")).rowcount)


def _of(key: str) -> Any:
    return sa.select(review).where(review.c.project == key).order_by(review.c.id)


def _waiting(key: str, state: str) -> list[sa.ColumnElement[bool]]:
    found = [review.c.project == key, review.c.state == state]
    if state == "open":
        a = annotation.c
        found.append(~sa.exists().where(a.project == key, a.sample == review.c.sample, a.recorded > review.c.at))
    return found


def _values(key: str, finding: Finding, round_number: int, at: float) -> dict[str, Any]:
    return {**asdict(finding), "project": key, "round": round_number, "state": "open", "at": at}
