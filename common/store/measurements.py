"""Measurements: what weights came to on the validation set of a round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import sqlalchemy as sa

from common.store.engine import transaction, upsert
from common.store.schema import measurement

CHECKPOINT = "checkpoint"
"""The kind that the gate, the curve and the order go by."""
_KEYS = ["project", "round", "kind", "trained"]


@dataclass(frozen=True)
class MeasurementRow:
    """One set of weights on one validation set.

    Attributes:
        project: Key.
        round: Number of the round whose validation set it is.
        kind: 'checkpoint'; 'control' (trained on the random slice) or 'chosen' (its opponent).
        trained: Number of the round that trained it, 0 = the weights the project began with.
        sha256: Of the weights.
        labels: It was trained on so many labelled samples.
        images: It was measured on so many.
        biased: Of those, how many are not of the random slice.
        metrics: Each in [0, 1]: 'map50' and 'map5095', with '_low' and '_high' of their 90 % interval; 'ap50/CLASS' and
            'ap5095/CLASS' of classes that are labelled there; 'quality/CLASS' of every class (see
            ``difficulty.class_quality``). Empty when no box is labelled there. Of 'chosen' also 'gained', 'gained_low'
            and 'gained_high': its mAP50-95 minus the control's, in [-1, 1].
        at: Seconds since the epoch.
    """

    project: str
    round: int
    kind: str
    trained: int
    sha256: str
    labels: int
    images: int
    biased: int
    metrics: dict[str, float]
    at: float


_COLUMNS = [measurement.c[n] for n in MeasurementRow.__dataclass_fields__]


def write_measurements(connection: sa.Connection, rows: Sequence[MeasurementRow]) -> None:
    """As a part of somebody's transaction; a measurement that is there already is replaced."""
    free = [name for name in MeasurementRow.__dataclass_fields__ if name not in _KEYS]
    upsert(connection, measurement, [asdict(row) for row in rows], _KEYS, free)


class Measurements:
    """Rows by (project, evaluating round, kind, trained round)."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def add(self, rows: Sequence[MeasurementRow]) -> None:
        """Store these; a measurement that is there already is replaced."""
        with transaction(self._engine, write=True) as connection:
            write_measurements(connection, rows)

    def all(self, key: str, kind: str = CHECKPOINT) -> list[MeasurementRow]:
        """Every measurement of one kind, by evaluating round, then by trained round."""
        c = measurement.c
        query = sa.select(*_COLUMNS).where(c.project == key, c.kind == kind).order_by(c.round, c.trained)
        with transaction(self._engine, write=False) as connection:
            return [MeasurementRow(**r) for r in connection.execute(query).mappings()]

    def newest(self, key: str, sha256: str) -> MeasurementRow | None:
        """The last measurement of these weights that has numbers, None while there is none."""
        c = measurement.c
        mine = (c.project == key) & (c.kind == CHECKPOINT) & (c.sha256 == sha256)
        query = sa.select(*_COLUMNS).where(mine).order_by(c.round.desc(), c.trained.desc())
        with transaction(self._engine, write=False) as connection:
            found = (MeasurementRow(**r) for r in connection.execute(query).mappings())
            return next((m for m in found if m.metrics), None)
