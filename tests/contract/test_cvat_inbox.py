"""The inbox over the stand-in CVAT: who has which jobs, and that what people do wins."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from common.errors import PlatformUnreachableError
from common.store import open_store
from cvat_adapter.claims import Claims
from cvat_adapter.project import CvatPlatform
from tests.contract.cvat_pool import Pool, pool

BEST_FIRST = [6, 1, 10, 8, 3, 4]
"""Frames whose jobs are 3, 0, 5, 4, 1, 2."""


@pytest.fixture(name="it")
def it_fixture(tmp_path: Path) -> Iterator[Pool]:
    with pool(tmp_path) as made:
        yield made


def test_everybody_gets_the_best_jobs_in_turn(it: Pool) -> None:
    it.publish(BEST_FIRST)
    it.tend()
    assert (it.inbox("ann"), it.inbox("bob")) == ([3, 5], [0, 4])


def test_a_completed_job_makes_room_for_the_next_best(it: Pool) -> None:
    it.publish(BEST_FIRST)
    it.tend()
    it.finish("bob", 0)
    it.tend()
    assert (it.inbox("ann"), it.inbox("bob")) == ([3, 5], [1, 4])


def test_a_job_in_progress_stays_open_and_a_rejected_one_is_open_again(it: Pool) -> None:
    it.publish(BEST_FIRST)
    it.tend()
    it.jobs[3].state = "in progress"
    it.finish("ann", 5)
    it.tend()
    assert it.inbox("ann") == [1, 3]
    it.jobs[5].state = "rejected"
    it.world.touch(it.jobs[5])
    it.finish("ann", 1)
    it.tend()
    assert it.inbox("ann") == [3, 5]


@pytest.mark.parametrize("stage", ["annotation", "acceptance"])
def test_who_completes_a_job_gets_the_next_one_whatever_review_it_waits_for(tmp_path: Path, stage: str) -> None:
    with pool(tmp_path, done_stage=stage) as it:
        it.publish(BEST_FIRST)
        it.tend()
        it.finish("bob", 0)
        it.tend()
        assert it.inbox("bob") == [1, 4]


def test_a_job_that_is_moved_on_while_its_annotator_has_it_makes_room_for_the_next(it: Pool) -> None:
    it.publish(BEST_FIRST)
    it.tend()
    assert it.inbox("ann") == [3, 5]
    with it.manager() as manager:
        manager.set_state(it.jobs[3].id, "new", stage="validation")
    it.tend()
    (given,) = set(it.inbox("ann")) - {3, 5}
    with it.manager() as manager:
        manager.set_state(it.jobs[3].id, "rejected")
    it.finish("ann", 5)
    it.tend()
    assert it.inbox("ann") == sorted([3, given]), "a rejected one is theirs to mend"


def test_a_job_that_goes_on_to_review_is_nobodys_new_job(it: Pool) -> None:
    it.publish(BEST_FIRST)
    it.tend()
    with it.person("ann") as ann:
        tab = ann.open(it.jobs[3].id)
        tab.delete(tab.on_frame(6)[0]["id"])
        tab.finish()
    with it.manager() as manager:
        manager.assign(it.jobs[3].id, None)
        manager.call("PATCH", f"/api/jobs/{it.jobs[3].id}", json={"stage": "validation"})
    assert it.jobs[3].state == "new"
    it.publish([7, *BEST_FIRST], "v@1.2-bbbbbbbb")
    it.tend()
    for name, others in (("ann", [5, 1]), ("bob", [0, 4])):
        for n in others:
            it.finish(name, n)
            it.tend()
    assert it.jobs[3].assignee_id is None
    assert it.jobs[3].shapes == []


def test_a_turn_that_was_cut_off_is_over_also_where_the_clock_was_put_back(it: Pool) -> None:
    it.memory.put("turn", {"1": {"over": False, "at": it.now + 3600}})
    it.publish(BEST_FIRST)
    it.tend()
    assert len(it.inbox("ann")) == 2


def test_jobs_that_a_manager_gave_count(it: Pool) -> None:
    with it.manager() as manager:
        manager.assign(it.jobs[2].id, it.users["ann"].id)
    it.publish(BEST_FIRST)
    it.tend()
    assert (it.inbox("ann"), it.inbox("bob")) == ([0, 2], [3, 5])


def test_a_manager_who_assigns_while_we_do_wins(it: Pool) -> None:
    it.publish(BEST_FIRST)
    best = it.jobs[3]
    with it.manager() as manager:
        take = lambda: manager.assign(best.id, it.users["bob"].id)  # noqa: E731
        it.cvat.faults.before("GET", rf"^/api/jobs/{best.id}$", 3, take)  # two were for its boxes
        it.tend()
    assert (it.inbox("ann"), it.inbox("bob")) == ([0, 5], [3, 4])


def test_a_manager_who_moves_our_job_to_somebody_else_is_left_alone(it: Pool) -> None:
    it.publish(BEST_FIRST)
    it.tend()
    with it.manager() as manager:
        manager.assign(it.jobs[3].id, it.users["bob"].id)
    it.tend()
    assert it.inbox("bob") == [0, 3, 4]
    assert it.inbox("ann") == [1, 5]


def test_nobody_gets_anything_without_an_organisation(it: Pool) -> None:
    it.state["organization"] = None
    it.port.close()
    it.port = it.open()
    it.publish(BEST_FIRST)
    it.tend()
    assert it.inbox("ann") == it.inbox("bob") == []
    assert sum(len(job.shapes) for job in it.jobs) == 6


def test_named_annotators_alone_get_jobs(it: Pool) -> None:
    it.port.state["options"]["annotators"] = "bob, nobody"
    it.publish(BEST_FIRST)
    it.tend()
    assert (it.inbox("ann"), it.inbox("bob")) == ([], [0, 3])


def test_a_maintainer_gets_no_jobs_unless_named(it: Pool) -> None:
    boss = it.cvat.add_user("boss")
    it.cvat.add_member(it.lab, boss, "maintainer")
    it.users["boss"] = boss
    it.publish(BEST_FIRST)
    it.tend()
    assert it.inbox("boss") == []
    it.port.state["options"]["annotators"] = "boss"
    it.tend()
    assert it.inbox("boss") == [1, 2]


def leave(it: Pool, name: str) -> None:
    number = it.users[name].id
    gone = [key for key, one in it.world.memberships.items() if one.user_id == number]
    for key in gone:
        del it.world.memberships[key]


def test_untouched_jobs_of_somebody_who_left_come_back(it: Pool) -> None:
    it.publish(BEST_FIRST)
    it.tend()
    with it.person("bob") as bob:
        bob.set_state(it.jobs[4].id, "in progress")
    leave(it, "bob")
    it.later(61)
    it.tend()
    assert it.jobs[0].assignee_id is None
    assert it.jobs[4].assignee_id == it.users["bob"].id
    it.finish("ann", 3)
    it.tend()
    assert it.inbox("ann") == [0, 5]


def test_who_cannot_be_given_jobs_does_not_stop_the_others(it: Pool) -> None:
    it.cvat.faults.before("PATCH", r"^/api/jobs/\d+$", 1, lambda: leave(it, "ann"))  # CVAT then says 403
    it.publish(BEST_FIRST)
    it.tend()
    assert (it.inbox("ann"), it.inbox("bob")) == ([], [0, 3])


def test_a_job_that_cannot_be_given_does_not_stop_the_others(it: Pool) -> None:
    it.cvat.faults.add(rf"^/api/jobs/{it.jobs[3].id}$", "PATCH", status=500)
    it.publish(BEST_FIRST)
    it.tend()
    assert (it.inbox("ann"), it.inbox("bob")) == ([0, 4], [1, 5])


def test_a_forbidden_assignment_is_said_once_and_tried_later(it: Pool, caplog: pytest.LogCaptureFixture) -> None:
    fault = it.cvat.faults.add(r"^/api/jobs/\d+$", "PATCH", status=403)
    it.publish(BEST_FIRST)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            it.tend()
            it.later(61)
    said = [r.getMessage() for r in caplog.records if "would not" in r.getMessage()]
    assert ["for ann (status 403)" in said[0], "for bob (status 403)" in said[1], len(said)] == [True, True, 2]
    assert fault.met == 4
    it.cvat.faults.clear()
    it.later(600)
    it.tend()
    assert (it.inbox("ann"), it.inbox("bob")) == ([3, 5], [0, 4])


def test_a_crash_between_claim_and_assignment_is_finished_next_time(it: Pool) -> None:
    it.publish(BEST_FIRST)
    it.cvat.faults.add(r"^/api/jobs/\d+$", "PATCH", hang_up=True, times=1)
    with pytest.raises(PlatformUnreachableError):
        it.tend()
    assert it.inbox("ann") == it.inbox("bob") == []
    assert len(it.memory.all("taken")) == 1
    again = it.open()
    it.tend(again)
    assert (it.inbox("ann"), it.inbox("bob")) == ([3, 5], [0, 4])


def test_an_assignment_whose_answer_was_lost_is_not_made_twice(it: Pool) -> None:
    it.publish(BEST_FIRST)
    it.cvat.faults.add(r"^/api/jobs/\d+$", "PATCH", hang_up=True, late=True, times=1)
    with pytest.raises(PlatformUnreachableError):
        it.tend()
    assert it.inbox("ann") == [3]
    it.cvat.log.clear()
    it.tend(it.open())
    assert (it.inbox("ann"), it.inbox("bob")) == ([3, 5], [0, 4])
    assert len(it.cvat.log.matching("PATCH", f"/api/jobs/{it.jobs[3].id}")) == 0


def test_a_killed_process_holds_the_others_up_for_a_minute_at_most(it: Pool) -> None:
    it.publish(BEST_FIRST)
    it.memory.put("turn", {"1": {"over": False, "at": it.now}})
    it.tend()
    assert it.inbox("ann") == []
    it.later(61)
    it.tend()
    assert it.inbox("ann") == [3, 5]


def test_a_slot_whose_claim_was_never_written_is_free_again(it: Pool) -> None:
    it.memory.put("slot", {f"{it.users['ann'].id}/0": {"job": 77, "at": it.now}})
    it.publish(BEST_FIRST)
    it.tend()
    assert it.inbox("ann") == [3, 5]


def test_a_claim_of_a_job_that_is_gone_is_dropped(it: Pool) -> None:
    it.publish(BEST_FIRST)
    it.tend()
    gone = it.jobs[3]
    it.task.job_ids.remove(gone.id)
    del it.world.jobs[gone.id]
    it.later(61)
    it.tend()
    assert str(gone.id) not in it.memory.all("taken") | it.memory.all("job")
    assert len(it.inbox("ann")) == 2


def test_of_two_turns_at_once_one_is_ours(tmp_path: Path) -> None:
    with pool(tmp_path, frames=2) as it:
        one, two = (Claims(it.memory, lambda: it.now) for _ in range(2))
        with one.turn() as first, two.turn() as second:
            assert (first, second) == (True, False)
        with two.turn() as third:
            assert third
        assert len(it.memory.all("turn")) <= 2


# --- a new order ---------------------------------------------------------------------------------------------


def test_a_new_order_ranks_only_what_nobody_has(it: Pool) -> None:
    it.publish(BEST_FIRST)
    it.tend()
    it.publish([4, 2, 6, 1, 10, 8], "v@1.2-bbbbbbbb")  # jobs 2, 1, 3, 0, 5, 4
    it.tend()
    assert (it.inbox("ann"), it.inbox("bob")) == ([3, 5], [0, 4])
    it.finish("ann", 3)
    it.tend()
    assert it.inbox("ann") == [2, 5]


def test_untouched_jobs_of_quiet_people_are_taken_back_and_written_anew(it: Pool) -> None:
    it.publish(BEST_FIRST)
    it.tend()
    it.later(1801)
    it.publish([4, 2, 6, 1, 10, 8], "v@1.2-bbbbbbbb")  # jobs 2, 1, 3, 0, 5, 4
    it.tend()
    assert sorted(it.inbox("ann") + it.inbox("bob")) == [0, 1, 2, 3]
    tops = {n: [s["points"][3] for s in it.jobs[n].shapes] for n in range(6)}
    assert tops == {2: [40], 1: [41], 3: [42], 0: [43], 5: [44], 4: [45]}


def test_nobody_finds_an_empty_list_while_jobs_are_taken_back(it: Pool) -> None:
    it.publish(BEST_FIRST)
    it.tend()
    it.later(1801)
    it.publish([4, 2, 6, 1, 10, 8], "v@1.2-bbbbbbbb")
    for _ in range(100):
        moved = it.port.tend(news=True)
        assert it.inbox("ann")
        assert it.inbox("bob")
        if not moved:
            break


@pytest.mark.parametrize("what", ["a save", "a save in another job", "a state"])
def test_who_worked_in_the_last_half_hour_keeps_their_jobs(it: Pool, what: str) -> None:
    it.publish(BEST_FIRST)
    it.tend()
    it.later(1000)
    with it.person("ann") as ann:
        if what == "a state":
            ann.set_state(it.jobs[3].id, "in progress")
        else:
            tab = ann.open(it.jobs[5 if what == "a save in another job" else 3].id)
            tab.draw(tab_frame(it, tab.id), 1, [1, 1, 9, 9])
            tab.save()
    it.later(1000)
    it.publish([4, 2, 6, 1, 10, 8], "v@1.2-bbbbbbbb")
    it.tend()
    assert it.inbox("ann") == [3, 5]


def tab_frame(it: Pool, job: int) -> int:
    return it.world.jobs[job].start_frame


def test_a_job_with_somebodys_shapes_is_not_taken_back(it: Pool) -> None:
    it.publish(BEST_FIRST)
    with it.manager() as manager:
        tab = manager.open(it.jobs[3].id)
        tab.draw(7, 1, [1, 1, 9, 9])
        tab.save()
        manager.set_state(it.jobs[3].id, "new")
    it.tend()
    it.later(1801)
    it.publish([4, 2, 6, 1, 10, 8], "v@1.2-bbbbbbbb")
    it.tend()
    assert 3 in it.inbox("ann")


# --- everybody at once ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_everybody_has_two_jobs_at_every_moment_and_the_order_is_kept(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311
    with pool(tmp_path, frames=20, segment=1) as it:
        order = rng.sample(range(20), 20)
        it.publish(order)
        it.tend()
        given = sorted(it.inbox("ann") + it.inbox("bob"), key=order.index)
        while len(given) < 20:
            who = rng.choice(["ann", "bob"])
            it.finish(who, rng.choice(it.inbox(who)))
            it.later(rng.choice([1, 6]))
            it.tend()
            assert len(it.inbox("ann")) == len(it.inbox("bob")) == 2
            given += sorted(set(it.inbox("ann") + it.inbox("bob")) - set(given), key=order.index)
        assert given == order


def test_two_that_tend_at_once_assign_no_job_twice_and_nobody_too_many(tmp_path: Path) -> None:
    with pool(tmp_path, frames=40, segment=1) as it:
        store = open_store(it.settings.database, tmp_path)
        it.memory = store.memories.of("cvat:1")
        it.port = it.open()
        it.publish(range(40))
        with at_work(it.open(), it.open()):
            owners, most = watch_and_complete(it, random.Random(1), looks=400, jobs=12)  # noqa: S311
        store.close()
        assert most == 2
        assert len(owners) >= 12


@contextmanager
def at_work(*ports: CvatPlatform) -> Iterator[None]:
    """Each tends in a thread of its own."""
    stop, errors = threading.Event(), list[BaseException]()

    def work(port: CvatPlatform) -> None:
        try:
            while not stop.is_set():
                port.tend(news=True)
        except BaseException as error:  # noqa: BLE001 - shown below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(port,)) for port in ports]
    for thread in threads:
        thread.start()
    yield
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []


def watch_and_complete(it: Pool, rng: random.Random, looks: int, jobs: int) -> tuple[dict[int, str], int]:
    """(job -> the one person who had it, most open jobs that one person had).

    Looks at least so often, and until so many jobs have had somebody: a slow machine assigns few between two looks.
    """
    owners, most, looked, late = dict[int, str](), 0, 0, time.monotonic() + 60
    while (looked < looks or len(owners) < jobs) and time.monotonic() < late:
        looked += 1
        it.later(0.5)
        with it.world.lock:
            for name in it.users:
                open_ = it.inbox(name)
                most = max(most, len(open_))
                assert {owners.setdefault(job, name) for job in open_} <= {name}
                if open_ and rng.random() < 0.15:
                    it.finish(name, rng.choice(open_))
        threading.Event().wait(0.01)
    return owners, most
