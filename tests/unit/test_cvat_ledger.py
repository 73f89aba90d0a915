from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from common.errors import PlatformUnreachableError
from cvat_adapter.ledger import Due, Ledger, Row, Sent, bare, digest, due, read, seen
from cvat_adapter.nouns import Job
from cvat_adapter.preannotations import Preannotations
from tests.cvat_server import annotation_rules as cvat
from tests.cvat_server.world import Job as Stored
from tests.unit.cvat_memory import DictMemory

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
CAR, OCCLUDED = 25, 4
"""A label, and an attribute that it has."""


def box(frame: int, x: float = 0, *, source: str = "auto", **more: Any) -> dict[str, Any]:
    """A rectangle of 10 by 10 pixels at x."""
    points = [x, 0.0, x + 10, 10.0]
    return {"type": "rectangle", "frame": frame, "label_id": CAR, "points": points, "source": source, **more}


def shown(number: int, shape: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """As CVAT shows it: with an id, and with the attribute that was not sent."""
    filled = {"attributes": [{"spec_id": OCCLUDED, "value": "no"}], "z_order": 0, "rotation": 0.0, "occluded": False}
    return {**filled, **shape, "id": number, **more}


def row_of(*shapes: Mapping[str, Any], **more: Any) -> Row:
    return Row(shapes={s["id"]: (s["frame"], seen(s)) for s in shapes}, **more)


def sent(*shapes: Mapping[str, Any], at: datetime = NOW) -> Sent:
    return Sent(at, tuple((s["frame"], bare(s)) for s in shapes))


def look(row: Row, *shapes: Mapping[str, Any], now: datetime = NOW, **more: Any) -> Any:
    return read(row, {"shapes": list(shapes), **more}, stop=9, now=now)


# --- rows ------------------------------------------------------------------------------------------------


def test_a_row_comes_back_from_the_memory_as_it_was_kept() -> None:
    row = Row(
        version="v1",
        goal="abc",
        updated=NOW,
        shapes={5: (1, seen(shown(5, box(1))))},
        fresh={6: (2, bare(box(2)))},
        deleting=frozenset({5}),
        sent=(sent(box(3), box(3, 20)),),
        closed=frozenset({4}),
    )
    ledger = Ledger(DictMemory())
    ledger.keep(7, row)
    assert ledger.row(7) == row
    assert ledger.row(8) == Row()


def test_a_row_names_ids_by_frame() -> None:
    memory = DictMemory()
    Ledger(memory).keep(7, row_of(shown(5, box(1))))
    found = memory.all("shapes")["7"]
    assert [number for number, _ in found["frames"]["1"]] == [5]


def test_a_row_that_says_nothing_is_dropped() -> None:
    memory = DictMemory()
    ledger = Ledger(memory)
    ledger.keep(7, row_of(shown(5, box(1))))
    ledger.keep(7, Row(version="v1"))
    assert memory.counts() == {}


def test_jobs_tell_where_shapes_of_ours_are_or_may_be() -> None:
    ledger, five = Ledger(DictMemory()), shown(5, box(1))
    ledger.keep(10, row_of(five, version="v1", goal="g", updated=NOW))
    ledger.keep(9, row_of(five, version="v2", goal="g", updated=NOW))
    ledger.keep(8, row_of(version="v2", goal="", updated=NOW, sent=(sent(box(3)),)))
    ledger.keep(7, Row(version="v2", goal="g", updated=NOW))
    ledger.keep(6, Row(closed=frozenset({1})))
    assert ledger.jobs() == [8, 9, 10]


# --- what is ours ----------------------------------------------------------------------------------------


def test_a_shape_with_the_id_and_the_content_of_the_row_is_ours() -> None:
    five = shown(5, box(1))
    scene = look(row_of(five), five)
    assert (list(scene.ours), scene.left, scene.intact) == ([5], frozenset(), True)


@pytest.mark.parametrize(
    "change",
    [
        {"points": [0.0, 0.0, 10.0, 11.0]},
        {"label_id": 26},
        {"source": "semi-auto"},
        {"rotation": 3.0},
        {"occluded": True},
        {"z_order": 1},
        {"group": 2},
        {"attributes": [{"spec_id": OCCLUDED, "value": "yes"}]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_shape_of_ours_with_another_content_is_a_persons_and_closes_its_frame(change: dict[str, Any]) -> None:
    five, six = shown(5, box(1)), shown(6, box(1, 20))
    scene = look(row_of(five, six), {**five, **change}, six)
    assert list(scene.ours) == list(scene.row.shapes) == [6]
    assert (scene.row.closed, scene.others, scene.intact) == ({1}, {1}, False)


def test_a_score_that_cvat_gives_back_differently_changes_nothing() -> None:
    five = shown(5, box(1), score=0.5)
    assert look(row_of(five), {**five, "score": 0.50000001}).intact


def test_a_shape_of_ours_that_is_gone_closes_its_frame_unless_we_deleted_it() -> None:
    row = row_of(shown(5, box(1)), shown(6, box(2)), deleting=frozenset({6}))
    scene = look(row)
    assert (scene.row.closed, scene.row.deleting, scene.row.holds) == ({1}, frozenset(), False)


def test_a_shape_that_we_were_about_to_delete_and_a_person_changed_is_theirs() -> None:
    five = shown(5, box(1))
    scene = look(row_of(five, deleting=frozenset({5})), {**five, "source": "semi-auto"})
    assert (scene.ours, scene.row.closed, scene.row.writing) == ({}, {1}, False)


@pytest.mark.parametrize(
    ("what", "frames"),
    [
        ({"tags": [{"id": 1, "frame": 3}]}, {3}),
        ({"tracks": [{"id": 1, "frame": 7, "shapes": []}]}, {7, 8, 9}),
        ({"intervals": [{"id": 1, "start": 2, "stop": 4}]}, {2, 3}),
        ({"intervals": [{"id": 1, "start": 8, "stop": None}]}, {8, 9}),
    ],
)
def test_tags_tracks_and_intervals_are_never_ours(what: dict[str, Any], frames: set[int]) -> None:
    assert look(Row(), **what).others == frames


def test_a_model_somebody_else_ran_is_not_ours() -> None:
    scene = look(Row(), shown(5, box(1)))
    assert (scene.ours, scene.others) == ({}, {1})


def test_ids_that_cvat_told_us_are_ours_as_sent_and_from_then_on_as_seen() -> None:
    fresh = Row(fresh={5: (1, bare(box(1)))})
    scene = look(fresh, shown(5, box(1)))
    assert scene.row == row_of(shown(5, box(1)))


# --- requests without an answer --------------------------------------------------------------------------


def test_what_an_unanswered_create_made_is_found_by_its_content() -> None:
    scene = look(Row(sent=(sent(box(1), box(2)),)), shown(5, box(1)), shown(6, box(2)))
    assert (list(scene.ours), scene.others, scene.row.writing) == ([5, 6], frozenset(), False)


def test_nothing_of_an_unanswered_create_is_waited_for_and_given_up_after_an_hour() -> None:
    row = Row(sent=(sent(box(1)),))
    assert look(row, now=NOW + timedelta(minutes=59)).row == row
    assert look(row, now=NOW + timedelta(minutes=61)).row == Row()


def test_what_arrived_is_found_also_after_an_hour() -> None:
    scene = look(Row(sent=(sent(box(1)),)), shown(5, box(1)), now=NOW + timedelta(days=3))
    assert list(scene.ours) == [5]


def test_each_shape_of_an_unanswered_create_matches_one_and_the_second_is_somebody_elses() -> None:
    scene = look(Row(sent=(sent(box(1)),)), shown(5, box(1)), shown(6, box(1)))
    assert (list(scene.ours), scene.others) == ([5], {1})


def test_two_equal_boxes_that_were_sent_match_two() -> None:
    scene = look(Row(sent=(sent(box(1), box(1)),)), shown(5, box(1)), shown(6, box(1)))
    assert (list(scene.ours), scene.others) == ([5, 6], frozenset())


def test_a_create_that_was_sent_twice_and_arrived_twice_is_ours_twice_and_one_of_each_too_many() -> None:
    twice = Row(sent=(sent(box(1)), sent(box(1), at=NOW + timedelta(minutes=1))))
    scene = look(twice, shown(5, box(1)), shown(6, box(1)))
    assert list(scene.ours) == [5, 6]
    assert due(scene, {1: [box(1)]}, scene.left) == Due(old=frozenset({6}))


def test_where_a_part_of_a_create_is_there_the_rest_was_deleted_by_a_person() -> None:
    scene = look(Row(sent=(sent(box(1), box(2)),)), shown(5, box(1)))
    assert (list(scene.ours), scene.row.closed, scene.row.writing) == ([5], {2}, False)


def test_a_create_that_is_there_whole_is_told_from_an_older_one_that_never_came() -> None:
    older, younger = sent(box(1), box(2)), sent(box(1), box(3), at=NOW + timedelta(minutes=1))
    scene = look(Row(sent=(older, younger)), shown(5, box(1)), shown(6, box(3)), now=NOW + timedelta(minutes=2))
    assert (list(scene.ours), scene.row.sent, scene.row.closed) == ([5, 6], (older,), frozenset())


def test_a_person_who_draws_the_very_box_that_we_sent_keeps_it() -> None:
    scene = look(Row(sent=(sent(box(1)),)), shown(5, box(1, source="manual")))
    assert (scene.ours, scene.others) == ({}, {1})


# --- what to do ------------------------------------------------------------------------------------------


def test_what_is_there_stays_and_only_the_difference_is_due() -> None:
    five, six = shown(5, box(1)), shown(6, box(1, 20))
    scene = look(row_of(five, six), five, six)
    new = box(1, 40)
    assert due(scene, {1: [box(1), new]}, ()) == Due(frozenset({6}), (new,))
    assert not due(scene, {1: [box(1, 20), box(1)]}, ())


def test_nothing_is_due_on_frames_that_are_left() -> None:
    five = shown(5, box(1))
    scene = look(row_of(five), five, shown(9, box(1, 50, source="manual")), shown(8, box(2, source="manual")))
    assert not due(scene, {1: [box(1, 20)], 2: [box(2)]}, scene.left)


def test_what_we_made_twice_goes_once_even_beside_a_persons_work() -> None:
    five, six, human = shown(5, box(1)), shown(6, box(1)), shown(7, box(1, 50, source="manual"))
    scene = look(row_of(five, six), five, six, human)
    assert due(scene, {1: [box(1, 20)]}, scene.left) == Due(old=frozenset({6}))


def test_what_we_set_out_to_delete_goes_even_when_it_is_wanted_again() -> None:
    five = shown(5, box(1))
    scene = look(row_of(five, deleting=frozenset({5})), five)
    assert due(scene, {1: [box(1)]}, ()) == Due(frozenset({5}), (box(1),))


def test_the_digest_does_not_depend_on_order_and_tells_frames_and_numbers_apart() -> None:
    one, two = box(1), box(1, 20)
    assert digest({1: [one, two], 2: []}) == digest({1: [two, one]})
    assert len({digest({}), digest({1: [one]}), digest({1: [one, one]}), digest({2: [box(2)]})}) == 4


# --- any order of events ---------------------------------------------------------------------------------


class OneJob:
    """Api and CVAT in one: a single job under CVAT's rules, where requests get lost, come late, or get no answer."""

    def __init__(self) -> None:
        self.job = Stored(7, 1, "annotation", 0, 2, NOW, NOW)
        self.next = 0
        self.late: list[tuple[str, Any]] = []
        self.fate = "answered"

    def moved(self) -> None:
        self.job.updated_date += timedelta(seconds=1)

    def number(self, kind: str) -> int:
        self.next += 1
        return self.next

    def write(self, action: str, body: Any) -> Any:
        self.moved()
        rules = cvat.Rules({CAR: {OCCLUDED: "no"}}, self.number)
        done = {"create": cvat.create, "update": cvat.update, "delete": lambda job, data, _: cvat.delete(job, data)}
        return done[action](self.job, cvat.read(body), rules)

    def get(self, path: str, params: Mapping[str, Any] | None = None, *, what: str) -> Any:
        if path.endswith("annotations/"):
            return {**cvat.annotations_of(self.job), "version": 0}
        who = None if self.job.assignee_id is None else {"id": self.job.assignee_id, "username": "ann"}
        updated = self.job.updated_date.isoformat()
        return {"state": self.job.state, "stage": self.job.stage, "assignee": who, "updated_date": updated}

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        params: Mapping[str, Any] | None = None,
        *,
        what: str,
        limit_s: float = 0,
    ) -> Any:
        action, fate, self.fate = (params or {})["action"], self.fate, "answered"
        if fate == "late":
            self.late.append((action, body))
        answer = self.write(action, body) if fate in ("answered", "unanswered") else None
        if fate != "answered":
            raise PlatformUnreachableError("no answer")
        return answer

    def listed(self) -> Job:
        job = self.job
        return Job(7, 1, 0, 2, job.state, job.stage, job.assignee_id, job.updated_date)


VERSIONS = {
    "v1": {0: [box(0), box(0, 20)], 1: [box(1)]},
    "v2": {0: [box(0), box(0, 40)], 1: [box(1, 5)], 2: [box(2)]},
    "v3": {1: [box(1), box(1)]},
}
FATES = st.sampled_from(["answered", "answered", "answered", "lost", "unanswered", "late"])


class AnyOrder(RuleBasedStateMachine):
    """Versions, people and accidents in any order: people's shapes stay, and ours are never more than a version's."""

    def __init__(self) -> None:
        super().__init__()
        self.cvat, self.memory, self.now = OneJob(), DictMemory(), NOW
        self.people: dict[int, tuple[Any, ...]] = {}

    def fresh(self) -> Preannotations:
        return Preannotations(self.cvat, Ledger(self.memory), lambda _: (), clock=lambda: self.now)

    def autos(self) -> list[dict[str, Any]]:
        return [s for s in self.cvat.job.shapes if s["id"] not in self.people]

    @rule(version=st.sampled_from(sorted(VERSIONS)), fate=FATES)
    def write(self, version: str, fate: str) -> None:
        self.cvat.fate = fate
        try:
            self.fresh().write(self.cvat.listed(), VERSIONS[version], version)
        except PlatformUnreachableError:
            self.now += timedelta(seconds=1)
        self.cvat.fate = "answered"

    @rule(fate=FATES)
    def remove(self, fate: str) -> None:
        self.cvat.fate = fate
        try:
            self.fresh().remove(self.cvat.listed())
        except PlatformUnreachableError:
            self.now += timedelta(seconds=1)
        self.cvat.fate = "answered"

    @rule(data=st.data())
    @precondition(lambda self: self.cvat.late)
    def a_late_request_arrives(self, data: st.DataObject) -> None:
        self.arrive(data.draw(st.integers(0, len(self.cvat.late) - 1)))

    @rule(frame=st.integers(0, 2), x=st.sampled_from([0.0, 5.0, 70.0]))
    def a_person_draws(self, frame: int, x: float) -> None:
        self.keep(self.cvat.write("create", {"shapes": [box(frame, x, source="manual")]})["shapes"][0])

    @rule(data=st.data())
    @precondition(lambda self: self.autos())
    def a_person_moves_one_of_ours(self, data: st.DataObject) -> None:
        shape = data.draw(st.sampled_from(self.autos()))
        moved = {**shape, "points": [90.0, 0.0, 99.0, 9.0], "source": "semi-auto"}
        self.keep(self.cvat.write("update", {"shapes": [moved]})["shapes"][0])

    @rule(data=st.data())
    @precondition(lambda self: self.autos())
    def a_person_deletes_one_of_ours(self, data: st.DataObject) -> None:
        self.cvat.write("delete", {"shapes": [data.draw(st.sampled_from(self.autos()))]})

    @rule(data=st.data())
    @precondition(lambda self: self.people)
    def a_person_deletes_their_own(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.people)))
        self.cvat.write("delete", {"shapes": [s for s in self.cvat.job.shapes if s["id"] == number]})
        del self.people[number]

    @rule()
    def an_hour_goes_by(self) -> None:
        # What has not arrived within the hour never does: see ledger.LATE.
        self.cvat.late.clear()
        self.now += timedelta(minutes=61)

    def arrive(self, n: int) -> None:
        # A delete that comes after a person took the box over is the one loss that nobody can prevent.
        action, body = self.cvat.late.pop(n)
        self.cvat.write(action, {"shapes": [s for s in body["shapes"] if s.get("id") not in self.people]})

    def keep(self, shape: Mapping[str, Any]) -> None:
        now = {s["id"]: s for s in self.cvat.job.shapes}
        self.people[shape["id"]] = seen(now[shape["id"]])

    @invariant()
    def what_people_drew_is_there_once_and_as_they_left_it(self) -> None:
        there = [(s["id"], seen(s)) for s in self.cvat.job.shapes if s["id"] in self.people]
        assert sorted(there) == sorted(self.people.items())

    def teardown(self) -> None:
        """All requests arrived or never will: the last version is there, once, wherever people left room."""
        while self.cvat.late:
            self.arrive(0)
        for _ in range(3):
            self.fresh().write(self.cvat.listed(), VERSIONS["v1"], "v1")
            self.now += timedelta(minutes=61)
        left = {s["frame"] for s in self.cvat.job.shapes if s["id"] in self.people} | self.closed()
        for frame in range(3):
            found = Counter(bare(s) for s in self.autos() if s["frame"] == frame)
            wanted = Counter(bare(s) for s in VERSIONS["v1"].get(frame, ()))
            assert found == wanted or (frame in left and max(found.values(), default=0) <= 1)
        self.what_people_drew_is_there_once_and_as_they_left_it()
        super().teardown()

    def closed(self) -> frozenset[int]:
        return Ledger(self.memory).row(7).closed


AnyOrder.TestCase.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
TestAnyOrder = AnyOrder.TestCase
