"""The doctor against a real Label Studio: healthy when connected, each planted problem found and mended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pydantic import SecretStr

from common.ports import Finding, Patient
from ls_backend.checks import examine
from ls_backend.project import LabelStudioPlatform
from tests.integration.test_ls_client_live import Bench, Receiver, bench, queue, receiver  # noqa: F401 - fixtures
from tests.unit.cvat_memory import DictMemory

pytestmark = pytest.mark.e2e
VERSION = "hardfirst@1.1-0a1b2c3d"


class Surgery:
    """A real project whose order was published."""

    def __init__(self, bench: Bench) -> None:  # noqa: F811 - the fixture's name
        self.bench = bench
        bench.port.connect(dry_run=False, replace=False)
        bench.port.publish(VERSION, queue(bench, [0, 1, 2]))
        bench.port.activate(VERSION)

    @contextmanager
    def port(self) -> Iterator[LabelStudioPlatform]:
        yield self.bench.port

    def look(self, *, answers: bool = True) -> dict[str, Finding]:
        state, number = dict(self.bench.state), str(self.bench.project)
        patient = Patient(number, True, answers, VERSION, state, DictMemory(), self.port)
        return {f.name: f for f in examine(self.bench.settings, [patient])}

    def bad(self) -> list[str]:
        return [name for name, f in self.look().items() if f.state in ("problem", "warning")]

    def mend(self) -> None:
        for f in self.look().values():
            if f.mend is not None and f.state == "problem":
                f.mend()


def test_each_planted_problem_is_found_mended_and_gone(
    bench: Bench,  # noqa: F811 - the fixture
    receiver: Receiver,  # noqa: F811
) -> None:
    surgery = Surgery(bench)
    assert surgery.bad() == []

    (hook,) = bench.json("GET", "/api/webhooks", project=bench.project)
    bench.json("PATCH", f"/api/webhooks/{hook['id']}", {"headers": {}, "actions": hook["actions"]})
    assert surgery.bad() == ["webhook"]
    bench.json("PATCH", f"/api/projects/{bench.project}/", {"model_version": "hardfirst"})
    left = {**hook, "url": "http://127.0.0.1:9/webhook", "project": bench.project}
    bench.json("POST", "/api/webhooks", {k: left[k] for k in ("url", "project", "headers", "actions", "send_payload")})
    assert surgery.bad() == ["webhook", "orphan webhooks", "model version"]
    surgery.mend()
    assert surgery.bad() == []

    bench.json("PATCH", f"/api/projects/{bench.project}/", {"sampling": "Sequential sampling"})
    assert surgery.bad() == ["sampling"]
    receiver.shutdown()
    receiver.server_close()
    found = surgery.look(answers=False)
    assert (found["backend"].state, found["backend"].fix) == ("problem", "start `hardfirst serve`")


def test_a_wrong_token_is_told_from_a_server_that_is_not_there(
    bench: Bench,  # noqa: F811 - the fixture
) -> None:
    wrong = bench.settings.model_copy(update={"label_studio_api_key": SecretStr("k" * 40)})
    assert {f.name: f.state for f in examine(wrong, [])} == {"address": "ok", "clock": "ok", "token": "problem"}
    gone = bench.settings.model_copy(update={"label_studio_url": "http://127.0.0.1:9"})
    assert {f.name: f.state for f in examine(gone, [])} == {"address": "problem", "clock": "not applicable"}
