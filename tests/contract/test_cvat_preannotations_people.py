"""Our shapes in CVAT's jobs beside people's, with a person who acts at every request of ours."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tests.contract.cvat_preannotation_lab import (
    SIZE,
    Json,
    Lab,
    fresh_fixture,  # noqa: F401 - fixtures are found by name
    lab_fixture,  # noqa: F401
    shop_fixture,  # noqa: F401
)
from tests.cvat_server.faults import faults_of
from tests.cvat_server.people import OpenJob

# --- beside people ---------------------------------------------------------------------------------------


def test_frames_with_a_shape_a_tag_or_a_track_of_a_person_get_nothing(lab: Lab) -> None:
    lab.draw(0)
    spec = {"label_id": lab.labels[0], "source": "manual", "attributes": []}
    drawn = {"type": "rectangle", "frame": lab.frame(2), "points": [0, 0, 9, 9], "attributes": []}
    track = {**spec, "frame": lab.frame(2), "shapes": [drawn]}
    body = {"version": 0, "shapes": [], "tags": [{**spec, "frame": lab.frame(1)}], "tracks": [track]}
    lab.manager.call("PATCH", f"{lab.path}/annotations", params={"action": "create"}, json=body)
    before = lab.checksum()
    lab.write("v1")
    assert (lab.autos(), lab.checksum()) == (Counter(), before)


def test_a_box_of_ours_that_a_person_moved_is_theirs_and_its_frame_is_left(lab: Lab) -> None:
    lab.write("v1")
    lab.person("update", lab.moved(lab.at(0)[0]))
    before, there = lab.checksum(), lab.at(0)
    lab.write("v2")
    assert (lab.at(0), lab.checksum()) == (there, before)
    assert lab.autos() - Counter({(0, (20.0, 0.0, 30.0, 10.0)): 1}) == lab.expected("v2") - frame_of(lab, "v2", 0)
    lab.write("v1")
    assert (lab.at(0), lab.checksum()) == (there, before)


def frame_of(lab: Lab, version: str, frame: int) -> Counter[Any]:
    return Counter({key: n for key, n in lab.expected(version).items() if key[0] == frame})


def test_a_label_changed_by_an_older_editor_that_keeps_auto_is_a_persons_too(lab: Lab) -> None:
    lab.write("v1")
    shape = {**lab.at(1)[0], "label_id": lab.labels[1], "attributes": []}
    lab.person("update", shape)
    lab.write("v2")
    assert [(s["label_id"], s["points"]) for s in lab.at(1)] == [(lab.labels[1], shape["points"])]


def test_a_box_of_ours_that_a_person_deleted_is_not_made_again(lab: Lab) -> None:
    lab.write("v1")
    lab.person("delete", lab.at(1)[0])
    lab.write("v1")
    assert lab.at(1) == []
    lab.write("v2")
    assert lab.at(1) == []
    assert lab.autos() == lab.expected("v2") - frame_of(lab, "v2", 1)


def test_a_shape_that_a_stale_tab_brings_back_is_a_persons(lab: Lab) -> None:
    lab.write("v1")
    tab = lab.manager.open(lab.job_id)
    lab.write("v2")
    old = tab.on_frame(lab.frame(2))[0]
    tab.move(old["id"], [1.0, 1.0, 9.0, 9.0])
    tab.save()
    lab.manager.set_state(lab.job_id, "new")
    before = lab.checksum()
    lab.write("v1")
    assert [(s["id"], s["source"]) for s in lab.at(2)] == [(old["id"], "semi-auto")]
    assert lab.checksum() == before


def test_boxes_of_somebody_elses_model_are_not_ours(lab: Lab) -> None:
    lab.person("create", lab.box(0, 0))
    lab.write("v1")
    assert len(lab.at(0)) == 1
    lab.remove()
    assert len(lab.at(0)) == 1


def test_untouched_means_exactly_what_the_ledger_says(lab: Lab) -> None:
    def untouched() -> bool:
        return lab.ours().untouched(lab.listed(), lab.api.get(f"{lab.path[1:]}/annotations/", what="look"))

    assert untouched()
    lab.write("v1")
    lab.manager.assign(lab.job_id, lab.manager.id)
    assert untouched()
    mine = lab.draw(3)
    assert not untouched()
    lab.person("delete", mine)
    assert untouched()
    lab.person("update", lab.moved(lab.at(0)[0]))
    assert not untouched()


# --- a person at every request ---------------------------------------------------------------------------


def _add(lab: Lab) -> None:
    for frame in range(SIZE):
        lab.draw(frame)


def _move_own(lab: Lab) -> None:
    for shape in [s for s in lab.stored() if s["source"] == "manual"]:
        lab.person("update", {**shape, "points": [80.0, 3.0, 95.0, 14.0]})


def _delete_own(lab: Lab) -> None:
    for shape in [s for s in lab.stored() if s["source"] == "manual"]:
        lab.person("delete", shape)


def _move_ours(lab: Lab) -> None:
    for shape in [s for s in lab.stored() if s["source"] == "auto"]:
        lab.person("update", lab.moved(shape))


def _relabel_one_of_ours(lab: Lab) -> None:
    for shape in [s for s in lab.stored() if s["source"] == "auto"][:1]:
        lab.person("update", {**shape, "label_id": lab.labels[1], "attributes": [], "source": "semi-auto"})


def _delete_ours(lab: Lab) -> None:
    lab.person("delete", *[s for s in lab.stored() if s["source"] == "auto"])


def _through_the_editor(lab: Lab) -> None:
    tab = OpenJob.load(lab.manager, lab.job_id)
    tab.draw(lab.frame(1), lab.labels[0], [60.0, 1.0, 75.0, 16.0])
    for shape in tab.on_frame(lab.frame(0)):
        if shape["source"] == "auto":
            tab.move(shape["id"], lab.moved(shape)["points"])
    tab.save()


PEOPLE = {
    "adds": _add,
    "moves their own": _move_own,
    "deletes their own": _delete_own,
    "moves ours": _move_ours,
    "relabels one of ours": _relabel_one_of_ours,
    "deletes ours": _delete_ours,
    "works in the editor": _through_the_editor,
}


def _replace_with(lab: Lab, n: int, when: str, act: Callable[[Lab], None]) -> tuple[list[Json], list[tuple[str, str]]]:
    """Replace v1 by v2 while a person acts at our n-th request: (their shapes right then, all requests)."""
    lab.write("v1")
    lab.draw(0, 100)
    job = lab.listed()
    theirs: list[Json] = []

    def acting() -> None:
        act(lab)
        theirs.extend(s for s in lab.stored() if s["source"] != "auto")

    getattr(faults_of(lab.cvat.world), when)(None, f"{lab.path}(/|$)", n, acting)
    lab.cvat.log.clear()
    lab.ours().write(job, lab.wanted("v2"), "v2")
    log = list(lab.cvat.log)
    faults_of(lab.cvat.world).clear()
    return theirs, log


def _requests_of_a_replacement(fresh: Callable[[], Lab]) -> list[tuple[str, str]]:
    """Undisturbed: nobody gets to the 99th."""
    _, log = _replace_with(fresh(), 99, "before", _add)
    return log


def _exactly(shapes: Iterable[Json]) -> list[str]:
    return sorted(json.dumps(s, sort_keys=True) for s in shapes)


@pytest.mark.parametrize("what", PEOPLE)
def test_what_a_person_does_at_any_request_survives_and_appears_once(what: str, fresh: Callable[[], Lab]) -> None:
    plain = _requests_of_a_replacement(fresh)
    delete = next(n for n, (_, path) in enumerate(plain, start=1) if "action=delete" in path)
    window = {(delete, "before"), (delete - 1, "after")}
    lost = set()
    for n in range(1, len(plain) + 1):
        for when in ("before", "after"):
            lab = fresh()
            theirs, _ = _replace_with(lab, n, when, PEOPLE[what])
            for _ in range(2):
                lab.write("v2")
            now = [s for s in lab.stored() if s["source"] != "auto"]
            if _exactly(now) != _exactly(theirs):
                lost.add((n, when))
            _assert_ours_are_not_doubled(lab, f"{what} {when} request {n}")
    # The one window: see the docstring of Preannotations.
    touches_ours = what in ("moves ours", "relabels one of ours", "works in the editor")
    assert lost <= (window if touches_ours else set())
    assert what != "moves ours" or lost == window


def _assert_ours_are_not_doubled(lab: Lab, when: str) -> None:
    """On no frame more of ours than one version has; a frame that a person touched may have an older one's."""
    found = lab.autos()
    for frame in range(SIZE):
        here = Counter({key: n for key, n in found.items() if key[0] == frame})
        assert any(here <= frame_of(lab, version, frame) for version in ("v1", "v2")), f"{when}, frame {frame}: {here}"


def test_a_person_who_adds_before_the_last_read_keeps_their_frames_to_themselves(fresh: Callable[[], Lab]) -> None:
    plain = _requests_of_a_replacement(fresh)
    create = next(n for n, (_, path) in enumerate(plain, start=1) if "action=create" in path)
    lab = fresh()
    _, log = _replace_with(lab, create - 1, "before", _add)
    assert sum("action=create" in path for _, path in log) == SIZE  # all of them the person's
    assert lab.autos() <= lab.expected("v1")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_job_assigned_at_any_request_gets_at_most_the_write_under_way(when: str, fresh: Callable[[], Lab]) -> None:
    plain = _requests_of_a_replacement(fresh)
    for n in range(1, len(plain) + 1):
        seen: list[int] = []
        lab = fresh()

        def assign(lab: Lab) -> None:
            seen.append(len(lab.cvat.log))  # noqa: B023
            lab.manager.assign(lab.job_id, lab.manager.id)

        _, log = _replace_with(lab, n, when, assign)
        after = log[seen[0] :]
        looks = [k for k, one in enumerate(after) if one == ("GET", lab.path)]
        allowed = after[: looks[0]] if looks else after
        writes = [one for one in after if "action=" in one[1]]
        assert len(writes) <= 1
        assert all(one in allowed for one in writes)
