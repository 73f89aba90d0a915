"""A CVAT that refuses, is busy, restarts or loses its answers: under the whole loop nothing is lost or doubled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.errors import AccessDeniedError, PlatformError
from tests.contract.cvat_life import ASSIGN, BOX, CREATE, Life, at_rest, begun, near_duplicates_fixture  # noqa: F401


def recovers(life: Life, times: int = 6) -> None:
    """The fault is over: what was put off is tried again."""
    for _ in range(times):
        life.later(120)
        life.settle()
        if not life.row.reason:
            return
    raise AssertionError(f"still in trouble: {life.row.reason}")


def whole(life: Life) -> None:
    """Every image has its one box, both people have their two jobs, and the project goes on."""
    assert life.sources()["auto"] == 12
    assert [len(life.inbox(name)) for name in ("anna", "ben")] == [2, 2]
    assert life.row.state == "active"
    assert life.row.reason == ""
    life.check()


# --- rights ----------------------------------------------------------------------------------------------


def read_only(life: Life) -> None:
    (token,) = life.cvat.world.tokens.values()
    token.read_only = True


def other_organization(life: Life) -> None:
    life.cvat.add_organization("elsewhere", life.cvat.world.users[1])


@pytest.mark.parametrize(
    ("prepare", "options", "kind", "sentence"),
    [
        (read_only, {}, AccessDeniedError, "the token in CVAT_ACCESS_TOKEN is read-only"),
        (lambda _: None, {"org": "nowhere"}, PlatformError, "no organization 'nowhere'"),
        (other_organization, {"org": "elsewhere"}, PlatformError, "of organization 'allab', not of 'elsewhere'"),
    ],
)
def test_connecting_says_in_one_sentence_what_is_missing_and_writes_nothing(
    tmp_path: Path, prepare: Callable[[Life], None], options: dict[str, Any], kind: type[Exception], sentence: str
) -> None:
    with Life(tmp_path, tasks=1, images=2, job=2) as life:
        prepare(life)
        with pytest.raises(kind, match=sentence) as told:
            life.connect(**options)
        assert "\n" not in str(told.value)
        assert life.cvat.world.webhooks == {}
        assert {method for method, _ in life.cvat.log} == {"GET"}
        assert life.tools.store.projects.get(life.key) is None


def test_a_token_that_became_read_only_stops_the_project_with_a_reason_until_it_may_write_again(tmp_path: Path) -> None:
    with at_rest(tmp_path) as life:
        (token,) = life.cvat.world.tokens.values()
        token.read_only = True
        job = life.inbox("anna")[0]
        life.finish("anna", job)
        life.settle()
        life.compare()
        assert life.row.state == "stopped"
        assert "read-only" in life.row.reason
        assert len(life.inbox("anna")) == 1
        token.read_only = False
        life.compare()
        recovers(life)
        whole(life)
        assert len(life.told()) == 2


def test_a_user_who_lost_the_role_stops_the_project_with_a_reason_until_the_role_is_back(tmp_path: Path) -> None:
    with at_rest(tmp_path) as life:
        world = life.cvat.world
        (mine,) = [m for m in world.memberships.values() if m.user_id == 1]
        mine.role = "worker"
        world.organizations[life.organization.id].owner_id = life.person("ben").id
        world.projects[life.project.id].owner_id = life.person("ben").id
        for task in life.tasks:
            task.owner_id = life.person("ben").id
        life.compare()
        assert life.row.state == "stopped"
        assert life.row.reason
        mine.role = "maintainer"
        life.compare()
        recovers(life)
        whole(life)


# --- busy, away, restarting ------------------------------------------------------------------------------


def test_a_rate_limit_is_waited_for_and_a_long_one_is_no_reason_to_sit_idle(tmp_path: Path) -> None:
    with begun(tmp_path) as life:
        life.cvat.faults.rate_limit(r"/annotations/$", times=1)
        life.cvat.faults.rate_limit(ASSIGN, times=1)
        life.cvat.faults.rate_limit(r"/data", times=1)
        life.settle()
        recovers(life)
        whole(life)
        fault = life.cvat.faults.rate_limit(retry_after=30)
        life.finish("anna", life.inbox("anna")[0])
        life.settle()
        assert "try again in 30 s" in life.row.reason
        assert fault.met <= 3
        life.cvat.faults.clear()
        recovers(life)
        whole(life)
        assert len(life.told()) == 2


@pytest.mark.parametrize(
    ("method", "path", "number"),
    [
        ("PATCH", CREATE, 1),
        ("PATCH", CREATE, 4),
        ("PATCH", ASSIGN, 1),
        ("PATCH", ASSIGN, 4),
        ("GET", r"/data/?$", 1),
        ("GET", r"/api/jobs$", 2),
        ("GET", CREATE, 5),
    ],
)
def test_a_restart_at_any_moment_of_the_first_order_changes_nothing_about_its_end(
    tmp_path: Path, method: str, path: str, number: int
) -> None:
    with begun(tmp_path) as life:
        restarts: list[None] = []
        life.cvat.faults.before(method, path, number, lambda: restarts.append(life.cvat.restart(0.05)))
        life.settle()
        recovers(life)
        assert len(restarts) == 1
        whole(life)


def test_a_gateway_without_a_server_in_the_middle_of_pre_annotating_is_waited_for(tmp_path: Path) -> None:
    with begun(tmp_path) as life:
        faults = life.cvat.faults
        faults.before("PATCH", CREATE, 3, faults.down)
        life.settle()
        assert "502" in life.row.reason
        faults.clear()
        recovers(life)
        whole(life)


@pytest.mark.parametrize("away", ["restart", "gateway"])
def test_a_server_that_goes_away_while_answers_are_read_loses_none(tmp_path: Path, away: str) -> None:
    with at_rest(tmp_path) as life:
        jobs = [life.inbox(name)[0] for name in ("anna", "ben")]
        faults = life.cvat.faults
        action: Callable[[], Any] = faults.down if away == "gateway" else lambda: life.cvat.restart(0.05)
        faults.before("GET", r"/annotations", 2, action)
        for name, job in zip(("anna", "ben"), jobs, strict=True):
            life.finish(name, job)
        life.settle()
        faults.clear()
        recovers(life)
        whole(life)
        assert len(life.told()) == 4


# --- answers that never come -----------------------------------------------------------------------------


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("path", [CREATE, ASSIGN])
def test_a_write_without_an_answer_is_there_once_whether_it_arrived_or_not(
    tmp_path: Path, path: str, late: bool
) -> None:
    with begun(tmp_path) as life:
        fault = life.cvat.faults.add(path, "PATCH", hang_up=True, late=late, times=2)
        life.settle()
        recovers(life)
        assert fault.met == 2
        whole(life)
        life.leave()
        assert life.sources() == {}  # we know that all of it was ours
        assert life.inbox("anna") + life.inbox("ben") == []


def test_a_replacement_without_an_answer_is_there_once(tmp_path: Path) -> None:
    with at_rest(tmp_path, images=24, min_new_labels=4) as life:
        for name in ("anna", "ben"):
            life.finish(name, life.inbox(name)[0])
        life.settle()
        before = life.checksum()
        fault = life.cvat.faults.add(CREATE, "PATCH", hang_up=True, late=True, times=4)
        life.trainer.finish()
        life.settle()
        recovers(life)
        life.compare()
        assert fault.met == 4
        free = [j for j in life.jobs if j.assignee_id is None]
        assert all(s["points"][0] == life.models.installed for j in free for s in j.shapes)
        assert life.sources() == {"auto": 24, "manual": 4}
        assert life.checksum() == before
        life.check()


# --- things that are gone --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "number"),
    [("PATCH", "{jobs}/annotations/$", 2), ("PATCH", "{jobs}$", 1), ("GET", r"/api/tasks/2/data/$", 1)],
)
def test_a_task_deleted_in_the_middle_of_our_work_is_forgotten_and_the_others_go_on(
    tmp_path: Path, method: str, path: str, number: int
) -> None:
    with begun(tmp_path, tasks=2, images=12) as life:
        stays, gone = life.tasks
        assert gone.id == 2
        deleted: list[None] = []

        def deletes() -> None:
            deleted.append(life.manager.call("DELETE", f"/api/tasks/{gone.id}"))

        jobs = f"/api/jobs/({'|'.join(str(n) for n in gone.job_ids)})"
        life.cvat.faults.before(method, path.format(jobs=jobs), number, deletes)
        life.settle()
        recovers(life)
        life.compare()
        assert len(deleted) == 1
        assert {s.external.partition(":")[0] for s in life.tools.store.samples.all(life.key)} == {str(stays.id)}
        assert {j["task"] for j in life.http.get(f"/api/jobs?project={life.key}").json["jobs"]} == {stays.id}
        whole(life)


def test_a_task_deleted_with_work_in_it_takes_its_labels_along(tmp_path: Path) -> None:
    with at_rest(tmp_path, tasks=2, images=6) as life:
        job = life.inbox("anna")[0]
        life.finish("anna", job)
        life.settle()
        assert len(life.told()) == 2
        life.manager.call("DELETE", f"/api/tasks/{job.task_id}")
        life.settle()
        life.compare()
        assert life.told() == {}
        assert all(len(life.inbox(name)) in (1, 2) for name in ("anna", "ben"))
        assert {j["task"] for j in life.http.get(f"/api/jobs?project={life.key}").json["jobs"]} == {
            t.id for t in life.tasks if t.id != job.task_id
        }
        life.check()


def test_a_webhook_that_somebody_deleted_is_made_again_and_tells_again(tmp_path: Path) -> None:
    with at_rest(tmp_path) as life:
        (hook,) = life.cvat.world.webhooks
        life.manager.call("DELETE", f"/api/webhooks/{hook}")
        life.compare()
        assert len(life.cvat.world.webhooks) == 1
        life.finish("anna", life.inbox("anna")[0])
        life.settle()
        assert len(life.told()) == 2
        whole(life)


def test_a_project_that_somebody_deleted_is_archived_and_asked_for_no_more(tmp_path: Path) -> None:
    with at_rest(tmp_path) as life:
        life.manager.call("DELETE", f"/api/projects/{life.project.id}")
        life.compare()
        assert life.row.state == "archived"
        assert "no project" in life.row.reason
        life.cvat.log.clear()
        life.compare()
        assert life.cvat.log == []


def test_shapes_deleted_right_before_we_replace_them_are_not_raised_from_the_dead(tmp_path: Path) -> None:
    with at_rest(tmp_path, images=24, min_new_labels=4) as life:
        for name in ("anna", "ben"):
            life.finish(name, life.inbox(name)[0])
        life.settle()
        hit: list[int] = []

        def deletes() -> None:
            number = int(life.cvat.log[-1][1].split("/")[3])
            job = life.cvat.world.jobs[number]
            tab = life.manager.open(number)
            for shape in tab.on_frame(job.start_frame):
                tab.delete(shape["id"])
            tab.draw(job.start_frame, life.label["dog"], BOX)
            tab.save()
            life.manager.set_state(number, "new")
            hit.append(number)

        life.cvat.faults.before("PATCH", CREATE, 1, deletes)
        life.trainer.finish()
        life.settle()
        life.compare()
        (number,) = hit
        job = life.cvat.world.jobs[number]
        here = [s for s in job.shapes if s["frame"] == job.start_frame]
        assert [(s["source"], s["points"]) for s in here] == [("manual", BOX)]
        life.check()


# --- one thing that is broken for good -------------------------------------------------------------------


def test_a_job_over_which_cvat_breaks_down_is_passed_by_and_at_last_handed_out_as_it_is(tmp_path: Path) -> None:
    with begun(tmp_path) as life:
        life.cvat.faults.add(r"/api/jobs/3/annotations/$", status=500)
        life.settle()
        bad = life.cvat.world.jobs[3]
        assert bad.assignee_id is None
        assert life.sources() == {"auto": 10}
        assert [len(life.inbox(name)) for name in ("anna", "ben")] == [2, 2]
        for _ in range(3):
            life.later(120)
            life.settle()
        for name in ("anna", "ben"):
            for job in life.inbox(name):
                life.finish(name, job)
        life.cvat.faults.clear()
        life.compare()
        assert bad in life.inbox("anna") + life.inbox("ben")


def test_a_chunk_over_which_cvat_breaks_down_costs_its_own_images_alone(tmp_path: Path) -> None:
    with begun(tmp_path, tasks=2, images=6) as life:
        life.cvat.faults.add(rf"/api/tasks/{life.tasks[0].id}/data/$", status=500)
        life.settle()
        assert {s.external.partition(":")[0] for s in life.tools.store.samples.problems(life.key)} == {
            str(life.tasks[0].id)
        }
        assert {j.task_id for j in life.jobs if j.shapes} == {life.tasks[1].id}
        assert [len(life.inbox(name)) for name in ("anna", "ben")] == [2, 2]
        assert life.row.reason == ""
