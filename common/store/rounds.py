"""Rounds and the checkpoints they left. One running round per project is a constraint of the database."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from common.store.engine import transaction
from common.store.measurements import MeasurementRow, write_measurements
from common.store.schema import checkpoint, project, round_


@dataclass(frozen=True)
class RoundRow:
    """One round.

    Attributes:
        state: 'running', 'done', 'failed' or 'cancelled'.
        labels: Labelled samples it trains on.
        verdict: 'promoted', 'provisional' (promoted, with too few images to tell), 'kept' (the champion stays), or ''
            before it is done.
        gate: 'reason', the verdict in one sentence, and the numbers behind it, see ``policy.Verdict``.
        split: 'val': sample ids it is measured on; 'biased': those of them that are not of the random slice; 'held':
            labelled look-alikes of them that do not train; 'pseudo': how many labels the model made itself, and
            'guessed', of which samples, and 'guesser', by which checkpoint, where the setting asks for it; 'against':
            id of the checkpoint that served when its training was last launched, None = the first weights.
    """

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
    verdict: str
    gate: dict[str, Any]
    split: dict[str, Any]
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

    def start(
        self,
        key: str,
        *,
        revision: int,
        labels: int,
        reason: str,
        folder: str,
        token: int,
        split: dict[str, Any] | None = None,
        started: float | None = None,
        asked: float | None = None,
    ) -> RoundRow | None:
        """Open the next round, ``started`` seconds since the epoch (None = now); None when one is running already.

        It answers the wish for a round that was made at ``asked``; one made since then stays.
        """
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
                "split": split or {},
                "started": time.time() if started is None else started,
                "ended": None,
            }
            connection.execute(sa.insert(round_), values)
            answered = (project.c.key == key) & (project.c.training_asked == asked)
            connection.execute(sa.update(project).where(answered).values(training_asked=None))
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

    def finish(
        self,
        row: RoundRow,
        *,
        path: str,
        sha256: str,
        names: list[str],
        metrics: dict[str, float],
        message: str,
        verdict: str,
        gate: dict[str, Any] | None = None,
        measurements: Sequence[MeasurementRow] = (),
    ) -> bool:
        """In one transaction: the round is done, its checkpoint and all measurements are there.

        Unless the verdict is 'kept' the checkpoint serves, and a new order is asked for. Returns False, and changes
        nothing, when the round was ended, or taken over, by somebody else meanwhile.
        """
        now = time.time()
        with transaction(self._engine, write=True) as connection:
            mine = (round_.c.id == row.id) & (round_.c.state == "running") & (round_.c.token == row.token)
            done = {"state": "done", "message": message, "ended": now, "verdict": verdict, "gate": gate or {}}
            if not connection.execute(sa.update(round_).where(mine).values(**done)).rowcount:
                return False
            values = {"project": row.project, "round": row.number, "path": path, "sha256": sha256, "names": names,
                      "metrics": metrics, "created": now}  # fmt: skip
            new = connection.execute(sa.insert(checkpoint).returning(checkpoint.c.id), values).scalar_one()
            write_measurements(connection, measurements)
            if verdict != "kept":
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

    def refused(self, key: str) -> set[int]:
        """Numbers of the rounds whose model was kept back."""
        query = sa.select(round_.c.number).where(round_.c.project == key, round_.c.verdict == "kept")
        with transaction(self._engine, write=False) as connection:
            return set(connection.scalars(query))
