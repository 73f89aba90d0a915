"""One job and its assignee, at CVAT: who are the members, whose is the job, make it somebody's or nobody's."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from common.errors import PlatformError
from cvat_adapter import refusals, rights
from cvat_adapter.nouns import Job, job_of
from cvat_adapter.rights import Member

if TYPE_CHECKING:
    from cvat_adapter.client import Api

MEMBERS_S = 60.0
"""Members of the organization are read at most this often."""
REFUSED = (400, 403, 404, 500)
"""Answers that are about one assignment; CVAT says 500 to a user who does not exist."""


class Assigning:
    """Requests about assignees. Without an organization there are no members."""

    def __init__(self, api: Api, clock: Callable[[], float] = time.time) -> None:
        self._api, self._clock = api, clock
        self._members: dict[int, Member] = {}
        self._read_at = float("-inf")

    @property
    def possible(self) -> bool:
        """Whether CVAT lets anybody assign jobs to others."""
        return bool(self._api.organization)

    def members(self) -> dict[int, Member]:
        """User id -> member, a minute old at most."""
        if not self.possible:
            return {}
        if not 0 <= self._clock() - self._read_at < MEMBERS_S:
            self._members = {m.id: m for m in rights.members(self._api, str(self._api.organization))}
            self._read_at = self._clock()
        return self._members

    def read(self, number: int) -> Job | None:
        """A job as it is now, None = it is gone."""
        what = f"look at job {number}"
        status, body = self._api.try_send("GET", f"api/jobs/{number}", what=what)
        if status == 404:
            return None
        if status >= 300:
            raise self._error(status, body, what)
        return job_of(body)

    def shapes(self, number: int) -> Mapping[str, Any]:
        """JSON of a job's annotations."""
        found: Mapping[str, Any] = self._api.get(f"api/jobs/{number}/annotations/", what=f"read job {number}")
        return found

    def assign(self, number: int, user: int | None) -> int:
        """Make a job somebody's, or nobody's; returns 200 or one out of ``REFUSED``, any other answer is an error."""
        what = f"assign job {number}" if user is not None else f"take job {number} back"
        status, body = self._api.try_send("PATCH", f"api/jobs/{number}", {"assignee": user}, what=what)
        if status >= 300 and status not in REFUSED:
            raise self._error(status, body, what)
        return status

    def _error(self, status: int, body: Any, what: str) -> PlatformError:
        slug = self._api.organization or ""
        return refusals.refusal(status, body, base=self._api.base, what=what, organization=slug)
