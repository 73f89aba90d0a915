"""Our shapes in CVAT's jobs when the process ends anywhere, and when two processes write to one job."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from common.errors import PlatformError
from cvat_adapter.client import Api
from cvat_adapter.ledger import KIND
from tests.contract.cvat_preannotation_lab import (
    Json,
    Lab,
    fresh_fixture,  # noqa: F401 - fixtures are found by name
    lab_fixture,  # noqa: F401
    shop_fixture,  # noqa: F401
)
from tests.unit.cvat_memory import DictMemory


class CutError(Exception):
    """The process ends here."""


class Steps:
    """Counts requests and rows, and ends the process right before or after the one a test names."""

    def __init__(self, cut: int | None = None) -> None:
        self.cut, self.done = cut, 0

    def __call__(self) -> None:
        self.done += 1
        if self.done == self.cut:
            raise CutError

    def around(self, act: Callable[[], Any]) -> Any:
        self()
        found = act()
        self()
        return found


class CutApi:
    """The real client between two points where the process may end."""

    def __init__(self, api: Api, steps: Steps) -> None:
        self._api, self._steps = api, steps

    def get(self, path: str, params: Mapping[str, Any] | None = None, **more: Any) -> Any:
        return self._steps.around(lambda: self._api.get(path, params, **more))

    def send(self, method: str, path: str, body: Any = None, params: Any = None, **more: Any) -> Any:
        return self._steps.around(lambda: self._api.send(method, path, body, params, **more))


class CutMemory(DictMemory):
    """The same for rows; both see what is on the disk."""

    def __init__(self, disk: DictMemory, steps: Steps) -> None:
        self.rows, self._steps = disk.rows, steps

    def put(self, kind: str, rows: Mapping[str, Any]) -> None:
        self._steps()
        self.rows.update({(kind, key): json.dumps(value) for key, value in rows.items()})
        self._steps()

    def drop(self, kind: str, keys: Iterable[str] | None = None, limit: int | None = None) -> int:
        self._steps()
        gone = super().drop(kind, keys, limit)
        self._steps()
        return gone


# --- the process ends anywhere ---------------------------------------------------------------------------


Act = Callable[..., bool]
ACTS: dict[str, tuple[Sequence[str], Act]] = {
    "write": ((), lambda lab, **with_: lab.write("v1", **with_)),
    "replace": (("v1",), lambda lab, **with_: lab.write("v2", **with_)),
    "remove": (("v1",), lambda lab, **with_: lab.remove(**with_)),
}


def _end_state(lab: Lab) -> Json:
    """What must not depend on accidents: ids and times do."""
    row = lab.disk.get(KIND, [str(lab.job_id)]).get(str(lab.job_id))
    known = row and {f: sorted(json.dumps(c) for _, c in some) for f, some in row["frames"].items()}
    rest = row and [row[k] for k in ("version", "goal", "fresh", "deleting", "sent", "closed")]
    return {"autos": lab.autos(), "people": lab.checksum(), "known": _from_zero(known, lab), "rest": _no_goal(rest)}


def _from_zero(known: Any, lab: Lab) -> Any:
    return known and {int(f) - lab.frame(0): len(some) for f, some in known.items()}


def _no_goal(rest: Any) -> Any:
    return rest and [rest[0], bool(rest[1]), *rest[2:]]


@pytest.mark.parametrize("name", ACTS)
def test_a_process_that_ends_anywhere_changes_nothing_about_the_end(name: str, fresh: Callable[[], Lab]) -> None:
    before, act = ACTS[name]

    def run(cut: int | None) -> tuple[Json, int, bool]:
        lab, steps, ended = fresh(), Steps(cut), False
        for version in before:
            lab.write(version)
        people = lab.checksum()
        try:
            act(lab, api=CutApi(lab.api, steps), memory=CutMemory(lab.disk, steps))
        except CutError:
            ended = True
        for _ in range(2):
            act(lab)
            lab.now += timedelta(minutes=61)  # what was never sent is not waited for any longer
        act(lab)
        assert lab.checksum() == people
        return {**_end_state(lab), "people": ""}, steps.done, ended

    undisturbed, steps, _ = run(None)
    assert steps > 10
    for cut in range(1, steps + 1):
        found, _, ended = run(cut)
        assert ended
        assert found == undisturbed, f"{name}, ended at step {cut} of {steps}"


@pytest.mark.parametrize("name", ACTS)
def test_right_after_an_end_anywhere_one_more_call_puts_all_in_order(name: str, fresh: Callable[[], Lab]) -> None:
    before, act = ACTS[name]
    wanted = {"write": "v1", "replace": "v2", "remove": ""}[name]
    for cut in count(1):
        lab, steps = fresh(), Steps(cut)
        for version in before:
            lab.write(version)
        try:
            act(lab, api=CutApi(lab.api, steps), memory=CutMemory(lab.disk, steps))
        except CutError:
            act(lab)
            assert lab.autos() == lab.expected(wanted), f"{name}, ended at step {cut}"
        else:
            assert cut > 10
            return


# --- two processes at one job ----------------------------------------------------------------------------


class AsleepApi:
    """The real client of a process that sleeps right before or after its n-th request, while others go on."""

    def __init__(self, api: Api, at: int, meanwhile: Callable[[], object], *, after: bool) -> None:
        self._api, self._left, self._meanwhile, self._after = api, at, meanwhile, after

    def get(self, path: str, params: Mapping[str, Any] | None = None, **more: Any) -> Any:
        return self._around(lambda: self._api.get(path, params, **more))

    def send(self, method: str, path: str, body: Any = None, params: Any = None, **more: Any) -> Any:
        return self._around(lambda: self._api.send(method, path, body, params, **more))

    def _around(self, act: Callable[[], Any]) -> Any:
        self._left -= 1
        if self._left == 0 and not self._after:
            self._meanwhile()
        found = act()
        if self._left == 0 and self._after:
            self._meanwhile()
        return found

    @property
    def slept(self) -> bool:
        return self._left <= 0


def test_a_process_that_finds_anothers_row_says_so_and_sends_nothing(lab: Lab) -> None:
    api = AsleepApi(lab.api, 2, lambda: lab.write("v1"), after=True)
    with pytest.raises(PlatformError, match=r"another process of hardfirst has written to job \d+ meanwhile"):
        lab.write("v1", api=api)
    assert lab.patches() == ["create"]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("before", "late", "new"), [("", "v1", "v1"), ("", "v1", "v2"), ("v1", "one", "v2")])
def test_a_process_that_slept_while_another_wrote_leaves_what_that_one_made(
    fresh: Callable[[], Lab], before: str, late: str, new: str, after: bool
) -> None:
    for at in count(1):
        lab = fresh()
        lab.write(before)
        people = lab.checksum()
        api = AsleepApi(lab.api, at, lambda lab=lab: lab.write(new), after=after)  # type: ignore[misc]
        with suppress(PlatformError):
            lab.write(late, api=api)
        if not api.slept:
            assert at > 5
            return
        assert lab.autos() == lab.expected(new), f"slept at request {at}"
        lab.write(new)
        assert lab.autos() == lab.expected(new)
        assert lab.checksum() == people
