"""Rounds and the checkpoints they left. One running round per project is a constraint of the database."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from common.store.engine import transaction
from common.store.schema import checkpoint, project, round_


@dataclass(frozen=True)
class RoundRow:
    """One round: 'running', 'done', 'failed' or 'cancelled'; ``labels`` = labelled samples it trains on."""

    id: int
    project: str
    number: int
    state: str
    revision: int
    labels: int
    reason: str
    folder: str
    token: int
    attempts: int
    progress: dict[str, Any]
    message: str
    started: float
    ended: float | None


@dataclass(frozen=True)
class CheckpointRow:
    """One set of weights a round left; ``names`` are its class names."""

    id: int
    project: str
    round: int
    path: str
    sha256: str
    names: list[str]
    metrics: dict[str, float]
    created: float


class Rounds:
    """Rounds by project and number."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def start(self, key: str, *, revision: int, labels: int, reason: str, folder: str, token: int) -> RoundRow | None:
        """Open the next round; None when one is running already."""
        with transaction(self._engine, write=True) as connection:
            running = sa.select(round_.c.id).where(round_.c.project == key, round_.c.state == "running")
            if connection.scalar(running) is not None:
                return None
            last = connection.scalar(sa.select(sa.func.max(round_.c.number)).where(round_.c.project == key)) or 0
            values: dict[str, Any] = {
                "project": key,
                "number": last + 1,
                "state": "running",
                "revision": revision,
                "labels": labels,
                "reason": reason,
                "folder": f"{folder}/{last + 1}",
                "token": token,
                "attempts": 0,
                "progress": {},
                "message": "",
                "started": time.time(),
                "ended": None,
            }
            connection.execute(sa.insert(round_), values)
            connection.execute(sa.update(project).where(project.c.key == key).values(training_asked=None))
        return self.running(key)

    def running(self, key: str) -> RoundRow | None:
        """The running round."""
        return self._one(sa.select(round_).where(round_.c.project == key, round_.c.state == "running"))

    def newest(self, key: str, state: str | None = None) -> RoundRow | None:
        """The newest round, of one state when given."""
        query = sa.select(round_).where(round_.c.project == key).order_by(round_.c.number.desc()).limit(1)
        return self._one(query.where(round_.c.state == state) if state else query)

    def all(self, key: str) -> list[RoundRow]:
        """Every round, oldest first."""
        query = sa.select(round_).where(round_.c.project == key).order_by(round_.c.number)
        with transaction(self._engine, write=False) as connection:
            return [RoundRow(**r) for r in connection.execute(query).mappings()]

    def _one(self, query: Any) -> RoundRow | None:
        with transaction(self._engine, write=False) as connection:
            r = connection.execute(query).mappings().first()
        return RoundRow(**r) if r else None

    def update(self, round_id: int, **values: Any) -> None:
        """Set columns of a running round."""
        with transaction(self._engine, write=True) as connection:
            where = (round_.c.id == round_id) & (round_.c.state == "running")
            connection.execute(sa.update(round_).where(where).values(**values))

    def end(self, round_id: int, state: str, message: str) -> None:
        """Close a round without new weights."""
        self.update(round_id, state=state, message=message, ended=time.time())

    def promote(
        self,
        row: RoundRow,
        *,
        path: str,
        sha256: str,
        names: list[str],
        metrics: dict[str, float],
        message: str,
    ) -> bool:
        """In one transaction: the round is done, its checkpoint exists and serves, a new order is asked for.

        Returns False, and changes nothing, when the round was ended by somebody else meanwhile.
        """
        now = time.time()
        with transaction(self._engine, write=True) as connection:
            mine = (round_.c.id == row.id) & (round_.c.state == "running")
            done = {"state": "done", "message": message, "ended": now}
            if not connection.execute(sa.update(round_).where(mine).values(**done)).rowcount:
                return False
            values = {"project": row.project, "round": row.number, "path": path, "sha256": sha256, "names": names,
                      "metrics": metrics, "created": now}  # fmt: skip
            new = connection.execute(sa.insert(checkpoint).returning(checkpoint.c.id), values).scalar_one()
            serve = {"checkpoint": new, "order_asked": now}
            connection.execute(sa.update(project).where(project.c.key == row.project).values(**serve))
        return True

    def checkpoint(self, checkpoint_id: int) -> CheckpointRow:
        """One checkpoint by id."""
        with transaction(self._engine, write=False) as connection:
            r = connection.execute(sa.select(checkpoint).where(checkpoint.c.id == checkpoint_id)).mappings().one()
        return CheckpointRow(**r)

    def checkpoints(self, key: str) -> list[CheckpointRow]:
        """Every checkpoint of a project, oldest first."""
        query = sa.select(checkpoint).where(checkpoint.c.project == key).order_by(checkpoint.c.round)
        with transaction(self._engine, write=False) as connection:
            return [CheckpointRow(**r) for r in connection.execute(query).mappings()]
