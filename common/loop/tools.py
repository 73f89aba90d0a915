"""What every step of the loop works with."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from common.config import Settings, for_project
from common.domain import Label
from common.loop.lookalikes import Lookalikes
from common.media import MediaLibrary
from common.ports import Model, Models, Platform, Trainer
from common.store import Store
from common.store.projects import ProjectRow
from common.strategies.keeper import Keeper

OpenPlatform = Callable[[ProjectRow], Platform]


@dataclass
class Tools:
    """Handed from step to step; holds no state that must survive."""

    store: Store
    settings: Settings
    media: MediaLibrary
    models: Models
    trainer: Trainer
    open: OpenPlatform
    clock: Callable[[], float] = time.time
    labels: dict[tuple[str, float, int], dict[str, Label]] = field(default_factory=dict)
    """Agreed labels by (project, when it was created, revision): agreeing on them again at every step would cost."""
    seconds: dict[str, dict[str, float]] = field(default_factory=dict)
    """What each project's next publication took so far, by kind of work; a restart begins at zero."""
    _keeper: tuple[str, Keeper] | None = None
    _lookalikes: tuple[str, Lookalikes] | None = None

    def keeper(self, key: str) -> Keeper:
        """Holds the features of the project ordered last: of its labels only those that are new have to be met."""
        if self._keeper is None or self._keeper[0] != key:
            self._keeper = (key, Keeper())
        return self._keeper[1]

    def lookalikes(self, key: str) -> Lookalikes:
        """Remembers the near-duplicate groups of the project ordered last: newcomers alone are compared with all."""
        if self._lookalikes is None or self._lookalikes[0] != key:
            self._lookalikes = (key, Lookalikes())
        return self._lookalikes[1]

    def settings_of(self, row: ProjectRow) -> Settings:
        """The settings a project works with: the service's, its own values in their place. Raises SettingError."""
        return for_project(self.settings, row.settings)

    @contextmanager
    def timed(self, row: ProjectRow, work: str) -> Iterator[None]:
        """Count the time inside towards the project's next publication, as ``work``."""
        started = time.monotonic()
        try:
            yield
        finally:
            spent = self.seconds.setdefault(row.key, {})
            spent[work] = round(spent.get(work, 0.0) + time.monotonic() - started, 3)

    def serving(self, row: ProjectRow) -> tuple[Model, int]:
        """(the model that serves a project, the round that made it; 0 = the one it started from)."""
        return self.model_of(row, row.checkpoint)

    def model_of(self, row: ProjectRow, checkpoint: int | None) -> tuple[Model, int]:
        """(model, round) of one checkpoint of a project; None = what it started from."""
        if checkpoint is None:
            return self.models.base(row.spec.model_path), 0
        c = self.store.rounds.checkpoint(checkpoint)
        return Model(Path(c.path), c.sha256, tuple(c.names)), c.round
