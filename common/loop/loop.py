"""One project, one step at a time: compare what is with what should be, do the next thing."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from common import logs
from common.domain import Event
from common.errors import (
    AccessDeniedError,
    ChangedByPersonError,
    HardfirstError,
    NotListedError,
    ProjectGoneError,
    UnsupportedProjectError,
)
from common.loop.arrivals import arrive_step
from common.loop.control import control_step, stop_control
from common.loop.housekeeping import tidy
from common.loop.mapping import Mapping
from common.loop.ordering import order_step
from common.loop.publishing import finish_switch, highest_number, publish_step, retire_step
from common.loop.reading import compare, follow_hints
from common.loop.reviewing import review_step
from common.loop.scoring import fetch_some
from common.loop.tools import Tools
from common.loop.training import train_step
from common.loop.way_back import way_back_step
from common.ports import Platform
from common.store.projects import ProjectRow

log = logging.getLogger(__name__)

QUIET_S = 60.0
"""Old rows are deleted only when nobody has labelled for this long: a deletion makes submits wait."""

TIDY_S = 3600.0
"""Between two times of putting the disk in order."""

ASKED_S = 300.0
"""Somebody said that we were added to a project; when the platform does not say so within this time, it was not so."""

STOPPING = (AccessDeniedError, ChangedByPersonError, UnsupportedProjectError)


class ActiveLearningLoop:
    """Label until the budget is spent, train, query again."""

    def __init__(self, tools: Tools) -> None:
        self.tools = tools
        self._platforms: dict[str, Platform] = {}
        self._tidied = self._began = tools.clock()
        self._mapping = Mapping(tools)

    def record(self, event: Event) -> None:
        """Take a hint; returns when it is on the disk."""
        self.tools.store.inbox.add(event)

    def step(self, key: str) -> bool:
        """Do the next thing for one project; returns whether there was something, False = wait for events."""
        row = self.tools.store.projects.get(key)
        if row is None:
            return False
        if row.state == "archived":
            return self._leave(row)
        self._stop_cancelled(row)
        try:
            if row.retry_at is not None and self.tools.clock() < row.retry_at:
                return self._train(row, None) if row.state == "active" else False
            moved = self._step(row)
        except HardfirstError as error:
            with logs.bound(**logs.of_error(error)):
                self._trouble(row, error)
            return False
        if row.retry_at is not None:
            self.tools.store.projects.update(key, retry_at=None, reason="")
        return moved

    def give_up(self, key: str, error: Exception, wait_s: float) -> None:
        """An error nobody foresaw: say so, let go of what is held for the project, try again after ``wait_s``."""
        self._platforms.pop(key, None)
        what = f"unexpected {type(error).__name__}: {self._told(error)}"
        text = f"{what}; the log has the details, it is tried again by itself"
        self.tools.store.projects.update(key, reason=text, retry_at=self.tools.clock() + wait_s)
        self.tools.store.journal.write(key, text, "error")

    def _trouble(self, row: ProjectRow, error: HardfirstError) -> None:
        self._platforms.pop(row.key, None)
        if isinstance(error, ProjectGoneError):
            self._archive(row, self._told(error))
        elif isinstance(error, STOPPING):
            self._stop(row, self._told(error))
        else:
            self._later(row, error)

    def _told(self, error: Exception) -> str:
        """What pages and commands show of an error, without secrets."""
        return logs.Redactor(logs.known_secrets(self.tools.settings))(str(error))

    def _step(self, row: ProjectRow) -> bool:
        platform = self._platform(row)
        if row.state == "asked":
            return self._connect(row, platform)
        if row.state == "stopped":
            return self._try_again(row, platform)
        moved, read = self._read(row, platform)
        moved |= self._train(self._fresh(row), read) | finish_switch(self.tools, self._fresh(row), platform)
        row = self._fresh(row)
        moved |= self._compare_if_due(row, platform)
        moved |= way_back_step(self.tools, self._fresh(row), platform)
        row = self._fresh(row)
        moved |= self._publish(row, platform)
        moved |= platform.tend(news=moved)
        moved |= bool(fetch_some(self.tools, row, platform)) or self._order(row)
        return moved or self._retire_if_quiet(row, platform) or self._mapping.step(self._fresh(row))

    def _read(self, row: ProjectRow, platform: Platform) -> tuple[bool, float | None]:
        """Act on hints; (whether there were any, every hint acknowledged before this moment is read, None = not so)."""
        now = time.time()
        moved = follow_hints(self.tools, row, platform)
        left = self.tools.store.inbox.pending(row.platform, row.external, 1)
        return moved, None if left and left[0].at < now else now

    def _train(self, row: ProjectRow, read: float | None) -> bool:
        """Rounds first; what trains for a control waits for them. Neither needs the platform."""
        return train_step(self.tools, row, read) | control_step(self.tools, row)

    def _platform(self, row: ProjectRow) -> Platform:
        port = self._platforms.get(row.key)
        if port is not None and port.state != row.platform_state:
            port = None  # connected anew meanwhile: what this port holds is old
        if port is None:
            port = self._platforms[row.key] = self.tools.open(row)
        return port

    def _fresh(self, row: ProjectRow) -> ProjectRow:
        return self.tools.store.projects.get(row.key) or row

    def _connect(self, row: ProjectRow, platform: Platform) -> bool:
        """A person added us on the platform: do what ``hardfirst connect`` does, once it shows there."""
        spec = platform.spec()
        try:
            changes = platform.connect(dry_run=False, replace=False, listed=True)
        except NotListedError:
            if row.asked is not None and self.tools.clock() - row.asked < ASKED_S:
                raise
            self._archive(row, "nobody added hardfirst to this project")
            return False
        for change in changes:
            self.tools.store.journal.write(row.key, str(change))
        numbered = highest_number(platform.published())
        active = {"state": "active", "reason": "", "retry_at": None}
        self.tools.store.projects.update(row.key, spec=spec, numbered=numbered, **active)
        return True

    def _compare_if_due(self, row: ProjectRow, platform: Platform) -> bool:
        # What was compared before this process began may be old: events that came meanwhile found nobody.
        fresh = row.reconciled is not None and row.reconciled >= self._began
        if fresh and self.tools.clock() - (row.reconciled or 0.0) < self.tools.settings.reconcile_s:
            return False
        self._check_drift(row, platform)
        compare(self.tools, row, platform)
        return True

    def _publish(self, row: ProjectRow, platform: Platform) -> bool:
        """Send the next block; a switch would hide what a person changed, so that is looked for first."""
        waiting = self.tools.store.publications.unfinished(row.key)
        if waiting is not None and waiting.activated is None:
            self._check_drift(row, platform)
        return publish_step(self.tools, row, platform)

    def _order(self, row: ProjectRow) -> bool:
        if self._fresh(row).state != "active":  # disconnected meanwhile, and somebody waits
            return False
        ordered = arrive_step(self.tools, self._fresh(row)) or order_step(self.tools, self._fresh(row))
        return ordered or review_step(self.tools, self._fresh(row))

    def _check_drift(self, row: ProjectRow, platform: Platform) -> None:
        version = self.tools.store.publications.get(row.publication).version if row.publication else None
        for found in platform.drift(version):
            if not found.healed:
                raise ChangedByPersonError(f"{found.what}: {found.fix}")
            self.tools.store.journal.write(row.key, f"healed: {found.what}", "warning")

    def _try_again(self, row: ProjectRow, platform: Platform) -> bool:
        """Stopped for a reason that may have gone away."""
        self._check_drift(row, platform)
        spec = platform.spec()
        self.tools.store.projects.update(row.key, state="active", reason="", spec=spec, reconciled=None, retry_at=None)
        self.tools.store.journal.write(row.key, "what had stopped the project is gone; it goes on")
        return True

    def _retire_if_quiet(self, row: ProjectRow, platform: Platform) -> bool:
        last = self.tools.store.labels.last_recorded(row.key, row.first_read or 0.0)
        if last is not None and self.tools.clock() - last < QUIET_S:
            return False
        if retire_step(self.tools, row, platform):
            return True
        if self.tools.clock() - self._tidied > TIDY_S:
            tidy(self.tools)
            self._tidied = self.tools.clock()
        return False

    def _leave(self, row: ProjectRow) -> bool:
        """Disconnected by a person meanwhile: its training ends, nothing else happens."""
        self._platforms.pop(row.key, None)
        self._stop_cancelled(row)
        stop_control(self.tools, row)
        return False

    def _stop_cancelled(self, row: ProjectRow) -> None:
        """A person ended a round in the store: its child ends too, also when the next round runs; harmless later."""
        cancelled = self.tools.store.rounds.newest(row.key, "cancelled")
        if cancelled is not None:
            self.tools.trainer.cancel(Path(cancelled.folder))

    def _archive(self, row: ProjectRow, why: str) -> None:
        running = self.tools.store.rounds.running(row.key)
        if running is not None:
            self.tools.trainer.cancel(Path(running.folder))
            self.tools.store.rounds.end(running.id, "cancelled", "the project is gone")
        wishes: dict[str, Any] = {"training_asked": None, "way_back": {}}
        self.tools.store.projects.update(row.key, state="archived", reason=why, **wishes)
        self.tools.store.journal.write(row.key, f"archived: {why}", "warning")

    def _stop(self, row: ProjectRow, why: str) -> None:
        again = self.tools.clock() + self.tools.settings.reconcile_s
        state = row.state if row.state == "asked" else "stopped"
        self.tools.store.projects.update(row.key, state=state, reason=why, retry_at=again)
        self.tools.store.journal.write(row.key, f"stopped: {why}", "error")

    def _later(self, row: ProjectRow, error: HardfirstError) -> None:
        """Try again soon, later each time, at most as late as a comparison."""
        past = max(0.0, (row.retry_at or 0.0) - (row.reconciled or 0.0))
        wait = min(max(2.0, min(past, 60.0) * 2), self.tools.settings.reconcile_s)
        told = self._told(error)
        self.tools.store.projects.update(row.key, reason=told, retry_at=self.tools.clock() + wait)
        self.tools.store.journal.write(row.key, told, "error")
        log.warning("%s: %s", row.key, error)
