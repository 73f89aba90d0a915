"""The plan of a control training: one file per project, so that a kill leaves it as it was."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from common.loop.tools import Tools
from common.store.projects import ProjectRow

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """A control, as ``control.json`` keeps it.

    Attributes:
        round: Number of the finished round whose labels and validation set are used.
        state: 'open', 'done', 'failed', or 'waiting': after that round there was no reason for one.
        reason: In one sentence.
        labels: Of each side.
        revision: Of the labels.
        samples: Side -> sample ids.
        val: Sample ids measured on.
        classes: Names in order.
        recipe: Values of ``control.RECIPE``.
        attempts: Side -> how often its training was launched.
        launched: When a training was last launched, None = none runs.
        seconds: Training time so far.
    """

    round: int
    state: str
    reason: str
    labels: int = 0
    revision: int = 0
    samples: dict[str, list[str]] = field(default_factory=dict)
    val: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    recipe: dict[str, Any] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    launched: float | None = None
    seconds: float = 0.0


def load_plan(tools: Tools, row: ProjectRow) -> Plan | None:
    """The newest plan, None when there is none that can be read: then one is made anew."""
    try:
        return Plan(**json.loads((_home(tools, row) / "control.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        log.warning("%s: control.json cannot be read, as if there were none: %s", row.key, error)
        return None


def save_plan(tools: Tools, row: ProjectRow, plan: Plan) -> None:
    """Write it, atomically and durably, in place of the one before."""
    folder = _home(tools, row)
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / "control.json.new"
    with fresh.open("w", encoding="utf-8") as file:
        json.dump(asdict(plan), file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(folder / "control.json")


def forget_plan(tools: Tools, row: ProjectRow) -> None:
    """As if none had ever been made."""
    (_home(tools, row) / "control.json").unlink(missing_ok=True)


def training_folder(tools: Tools, row: ProjectRow, plan: Plan, side: str) -> Path:
    """Where one side trains."""
    return _home(tools, row) / f"control-{plan.round}-{side}"


def _home(tools: Tools, row: ProjectRow) -> Path:
    return tools.settings.folder / "rounds" / row.key.replace(":", "-")
