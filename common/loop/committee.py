"""Who is asked about an image besides the one pass: the committee a project wants, as far as it can be had now."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.acquisition.committee import EVIDENCE
from common.loop.tools import Tools
from common.ports import VIEWS, Model
from common.store.projects import ProjectRow

CHECKPOINTS = "checkpoints"
"""The name that asks for former checkpoints of the project."""
LAST = 2
"""So many of them, the newest; each costs a pass."""


@dataclass(frozen=True)
class Committee:
    """What ``Models.detector`` is asked for besides the model itself.

    Attributes:
        views: Out of ``common.ports.VIEWS``.
        members: Other checkpoints.
        full: Whether photographs are decoded at their full size (``reduced_decode`` is off), which moves boxes.
    """

    views: tuple[str, ...] = ()
    members: tuple[Model, ...] = ()
    full: bool = False

    @property
    def looks(self) -> str:
        """The name of this in the store, at most 64 characters, '' = the one pass: other members, other name."""
        parts = ["full"] * self.full + list(self.views)
        if self.members:
            every = "".join(m.sha256 for m in self.members)
            parts.append(f"members-{hashlib.blake2b(every.encode(), digest_size=8).hexdigest()}")
        return "+".join(parts)


def committee_of(tools: Tools, row: ProjectRow, model: Model) -> Committee:
    """What the project's setting asks for, for one model of it; nothing for a model that is not usable.

    'checkpoints' are the newest ``LAST`` others of the project whose weights are still on the disk, without those
    that the gate kept back. A member that shares no class with the model takes no part: it would say "nothing there"
    of everything.

    Raises:
        ModelError: Weights that are named but missing, unsafe or broken.
    """
    settings = tools.settings_of(row)
    names = settings.committee if model.usable else ()
    members: list[Model] = []
    for name in dict.fromkeys(names):
        if name == CHECKPOINTS:
            members += _former(tools, row, model)
        elif name not in VIEWS:
            members.append(tools.models.base(name))
    return fitting(model, names, members, full=not settings.reduced_decode)


def fitting(model: Model, names: Sequence[str], members: Sequence[Model], *, full: bool = False) -> Committee:
    """The views among ``names``, and those of ``members`` that share a class with the model and are not the model.

    A model that is not usable sees a thumbnail, however the photograph is decoded.
    """
    known = set(model.names)
    fit = {m.sha256: m for m in members if m.usable and m.sha256 != model.sha256 and known & set(m.names)}
    return Committee(tuple(v for v in VIEWS if v in names), tuple(fit.values()), full and model.usable)


def _former(tools: Tools, row: ProjectRow, model: Model) -> list[Model]:
    refused = tools.store.rounds.refused(row.key)
    trained = (c for c in tools.store.rounds.checkpoints(row.key) if c.round not in refused)
    others = [c for c in trained if c.sha256 != model.sha256]
    there = [c for c in others if Path(c.path).is_file()][-LAST:]
    return [Model(Path(c.path), c.sha256, tuple(c.names)) for c in there]


def evidence_missing(acquisition: str, committee: Committee) -> str:
    """Why an acquisition function cannot be used now, '' when it can.

    Settings are checked where people type them; what can still be missing is a former checkpoint, in the first rounds,
    or a model at all. A committee of one, the model itself, has nobody to disagree with.
    """
    wanted = EVIDENCE.get(acquisition)
    if wanted == "committee" and not (committee.views or committee.members):
        return f"{acquisition} needs a committee, and no other member is there yet"
    if wanted == "flip" and "flip" not in committee.views:
        return f"{acquisition} needs the mirrored image, which nobody looked at"
    return ""
