"""What the values of a watch hang on: the head of its journal, so that another scale is never mixed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from common.errors import SettingError
from common.experiments.journal import Journal

KIND = "made with"
"""The journal's lines of this kind."""


@dataclass(frozen=True)
class MadeWith:
    """Values can be compared where all of it is the same.

    Attributes:
        model: Content hash of the weights.
        weights: Their file's name; for people, the content counts.
        imgsz: Pixels of the long side.
        committee: Further looks, see ``Committee.looks``; '' = none.
        classes: Names of the classes that count, sorted.
        acquisition: Name of the acquisition function.
    """

    model: str
    weights: str
    imgsz: int
    committee: str
    classes: tuple[str, ...]
    acquisition: str

    def differences(self, known: dict[str, Any]) -> list[str]:
        """What a journal says otherwise, as a person sets it: '--imgsz 640 (now 320)'. What it leaves out is equal."""
        mine = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items() if k != "weights"}
        other = {k: v for k, v in mine.items() if known.get(k, v) != v}
        return [f"--{k} {_shown(known, k)} (now {_shown(asdict(self), k)})" for k in other]


def _shown(told: dict[str, Any], name: str) -> str:
    value = told[name]
    if name == "model":
        return f"{told.get('weights', '')} {str(value)[:8]}".strip()
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value) or "none"


def begin(journal: Journal, now: MadeWith, at: str, note: Callable[[str], None]) -> None:
    """Write the head of a journal, or compare with the one it has.

    Args:
        journal: Nothing in it changes when this raises.
        now: What values would be made with.
        at: The time, ISO 8601.
        note: Hears that a journal of an older version says nothing.

    Raises:
        SettingError: The journal was made with something else.
    """
    known = journal.known(KIND)
    if known is None:
        if journal.lines():
            note(f"{journal.path} does not say what it was made with: it is gone on with as if it were the same as now")
        journal.keep(at, KIND, asdict(now))
        return
    different = now.differences(known)
    if different:
        raise SettingError(
            f"--out is {journal.path}, which was made with {' and '.join(different)}, so that its values cannot be "
            "compared: go back to that, name another --out, or begin anew with --restart (the old file is kept)"
        )
