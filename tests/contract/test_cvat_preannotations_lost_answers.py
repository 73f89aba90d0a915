"""Our shapes in CVAT's jobs when a request gets no answer, a late one or a refusal."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from common.errors import AccessDeniedError, PlatformError, PlatformUnreachableError
from cvat_adapter.client import Api
from cvat_adapter.ledger import Ledger
from tests.contract.cvat_preannotation_lab import Lab, fresh_fixture, lab_fixture, shop_fixture  # noqa: F401 - fixtures
from tests.cvat_server.faults import faults_of


class LateApi:
    """The real client whose next create gets no answer and arrives when the test says so."""

    def __init__(self, api: Api) -> None:
        self._api, self.late = api, list[Callable[[], Any]]()
        self.get = api.get

    def send(self, method: str, path: str, body: Any = None, params: Any = None, **more: Any) -> Any:
        if params == {"action": "create"} and not self.late:
            self.late.append(lambda: self._api.send(method, path, body, params, **more))
            raise PlatformUnreachableError("no answer in time")
        return self._api.send(method, path, body, params, **more)


@pytest.mark.parametrize("arrived", [True, False])
@pytest.mark.parametrize("action", ["create", "delete"])
def test_a_write_whose_answer_is_lost_is_finished_once(lab: Lab, action: str, arrived: bool) -> None:
    lab.write("v1")
    faults = faults_of(lab.cvat.world)
    # Of a replacement the first PATCH is the delete, the second the create.
    hook = faults.before if action == "delete" else faults.after
    hook("PATCH", "annotations", 1, lambda: faults.add("annotations", "PATCH", hang_up=True, late=arrived, times=1))
    with pytest.raises(PlatformUnreachableError):
        lab.write("v2")
    faults.clear()
    lab.write("v2")
    assert lab.autos() == lab.expected("v2")


def test_the_ids_of_a_create_are_on_the_disk_before_anything_else_is_asked(lab: Lab) -> None:
    faults = faults_of(lab.cvat.world)
    faults.after("PATCH", "annotations", 1, lambda: faults.add(lab.path, "GET", status=403))
    with pytest.raises(AccessDeniedError):
        lab.write("one")
    faults.clear()
    lab.person("delete", *lab.stored())
    lab.write("one")
    assert lab.stored() == []  # known to be a person's doing, not a create that never came


def test_a_create_that_comes_after_its_repetition_is_taken_back(lab: Lab) -> None:
    slow = LateApi(lab.api)
    with pytest.raises(PlatformUnreachableError):
        lab.write("v1", api=slow)
    lab.write("v1")
    assert not Ledger(lab.disk).row(lab.job_id).goal  # somebody may not get this job yet
    slow.late[0]()
    assert lab.autos() == lab.expected("v1") + lab.expected("v1")
    lab.write("v1")
    assert lab.autos() == lab.expected("v1")
    assert not lab.write("v1")


def test_a_create_that_comes_after_a_newer_version_is_taken_back(lab: Lab) -> None:
    slow = LateApi(lab.api)
    with pytest.raises(PlatformUnreachableError):
        lab.write("v1", api=slow)
    lab.write("v2")
    slow.late[0]()
    lab.write("v2")
    assert lab.autos() == lab.expected("v2")


def test_a_create_that_never_comes_is_forgotten_after_an_hour(lab: Lab) -> None:
    with pytest.raises(PlatformUnreachableError):
        lab.write("v1", api=LateApi(lab.api))
    lab.write("v1")
    lab.now += timedelta(minutes=61)
    assert not lab.write("v1")
    assert not Ledger(lab.disk).row(lab.job_id).writing
    assert Ledger(lab.disk).row(lab.job_id).goal


def test_after_three_creates_without_an_answer_the_job_waits_for_an_hour(lab: Lab) -> None:
    for _ in range(3):
        with pytest.raises(PlatformUnreachableError):
            lab.write("v1", api=LateApi(lab.api))
    lab.cvat.log.clear()
    assert not lab.write("v1")
    assert lab.patches() == []
    lab.now += timedelta(minutes=61)
    assert lab.write("v1")
    assert lab.autos() == lab.expected("v1")


def test_a_refusal_leaves_everything_as_it_was(lab: Lab) -> None:
    lab.write("v1")
    weak = Api(lab.cvat.url, token=lab.cvat.add_token(lab.cvat.world.users[1], read_only=True))
    weak.organization = "lab"
    with pytest.raises(AccessDeniedError, match="read-only"):
        lab.write("v2", api=weak)
    weak.close()
    assert lab.autos() == lab.expected("v1")
    lab.write("v2")
    assert lab.autos() == lab.expected("v2")


def test_a_job_that_is_gone_is_an_error_and_no_crash(lab: Lab) -> None:
    job, ours, wanted = lab.listed(), lab.ours(), lab.wanted("v1")
    lab.manager.call("DELETE", f"/api/tasks/{job.task}")
    with pytest.raises(PlatformError):
        ours.write(job, wanted, "v1")
