"""The stand-in CVAT fails as a test tells it to, and has people who act as through the browser."""

from __future__ import annotations

import httpx
import pytest

from tests.contract.cvat_place import (
    BOX,
    Place,
    ann_fixture,  # noqa: F401 - fixtures are found by name
    manager_fixture,  # noqa: F401
    place_fixture,  # noqa: F401
)
from tests.cvat_server.people import Annotator, Manager


def test_a_rate_limit_ends_after_as_many_requests_as_told(place: Place) -> None:
    place.faults.rate_limit("/annotations", times=2, retry_after=7)

    answers = [place.http.get(f"/api/{place.of(0)}/annotations") for _ in range(3)]

    assert [(one.status_code, one.headers.get("Retry-After")) for one in answers] == [
        (429, "7"),
        (429, "7"),
        (200, None),
    ]


def test_a_server_that_is_down_answers_with_a_page(place: Place) -> None:
    fault = place.faults.down(502)
    assert "html" in place.http.get("/api/users/self").headers["content-type"]
    assert fault.met == 1

    place.faults.clear(fault)
    assert place.http.get("/api/users/self").status_code == 200


def test_a_write_may_happen_and_its_answer_be_lost(place: Place) -> None:
    place.faults.add("/annotations", "PATCH", hang_up=True, late=True, times=1)

    with pytest.raises(httpx.RemoteProtocolError):
        place.create(place.box())

    assert len(place.shapes()) == 1


def test_a_person_can_act_between_two_requests(place: Place, manager: Manager) -> None:
    editor = manager.open(place.jobs[0].id)
    editor.draw(0, place.van, BOX)
    place.faults.before("PATCH", "/annotations", 2, editor.save)

    place.create(place.box())
    assert [shape["label_id"] for shape in place.shapes()] == [place.car]
    place.create(place.box(frame=1))

    assert [shape["label_id"] for shape in sorted(place.shapes(), key=lambda one: one["id"])] == [
        place.car, place.van, place.car,
    ]  # fmt: skip


def test_a_person_can_act_right_after_a_request(place: Place, manager: Manager) -> None:
    place.faults.after("GET", "/annotations", 1, lambda: manager.set_state(place.jobs[0].id, "completed"))
    place.faults.add("/users", hang_up=True, times=1)

    place.shapes()

    assert place.jobs[0].state == "completed"
    with pytest.raises(httpx.RemoteProtocolError):
        place.http.get("/api/users")


def test_people_are_not_hit_by_faults(place: Place, manager: Manager) -> None:
    place.faults.down(503)

    manager.set_state(place.jobs[0].id, "in progress")

    assert place.jobs[0].state == "in progress"


def test_the_first_save_of_a_new_job_sets_it_in_progress(place: Place, ann: Annotator, manager: Manager) -> None:
    manager.assign(place.jobs[0].id, ann.id)
    editor = ann.open(place.jobs[0].id)
    editor.draw(0, place.car, BOX)
    assert place.shapes() == []

    editor.save()

    assert [shape["source"] for shape in place.shapes()] == ["manual"]
    assert place.jobs[0].state == "in progress"


def test_moving_a_box_of_the_model_keeps_its_id_and_makes_it_semi_auto(place: Place, manager: Manager) -> None:
    moved, gone = place.create(place.box(source="auto", score=0.5), place.box(frame=1, source="auto"))
    place.cvat.log.clear()
    editor = manager.open(place.jobs[0].id)
    editor.move(moved["id"], [0, 0, 5, 5])
    editor.delete(gone["id"])
    editor.draw(1, place.car, BOX)
    editor.save()

    sources = {shape["id"]: (shape["source"], shape["points"]) for shape in place.shapes()}
    assert sources == {moved["id"]: ("semi-auto", [0, 0, 5, 5]), gone["id"] + 1: ("manual", BOX)}
    assert [path.partition("=")[2] for _, path in place.cvat.log.matching("PATCH", f"/api/{place.of(0)}/ann")] == [
        "update", "delete", "create",
    ]  # fmt: skip


def test_a_save_after_the_job_went_to_somebody_else_is_refused(place: Place, ann: Annotator, manager: Manager) -> None:
    manager.assign(place.jobs[0].id, ann.id)
    editor = ann.open(place.jobs[0].id)
    editor.draw(0, place.car, BOX)
    manager.assign(place.jobs[0].id, place.bob.id)

    with pytest.raises(httpx.HTTPStatusError, match="403"):
        editor.save()

    assert place.shapes() == []


def test_a_job_is_finished_rejected_and_opened_again(place: Place, ann: Annotator, manager: Manager) -> None:
    job = place.jobs[0]
    manager.assign(job.id, ann.id)
    assert [one["id"] for one in ann.jobs()] == [job.id]

    ann.annotate(job.id, [(0, place.car, BOX)])
    assert (job.stage, job.state) == ("annotation", "completed")
    manager.reject(job.id)
    assert job.state == "rejected"
    manager.reopen(job.id)
    assert (job.stage, job.state) == ("annotation", "new")
    manager.accept(job.id)
    assert (job.stage, job.state) == ("acceptance", "completed")
