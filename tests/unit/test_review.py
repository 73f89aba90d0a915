from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from common.domain import Annotation, LabelledBox
from common.review import KINDS, Finding, Looked, disagreements, doubts, findings, recognised
from common.review.contradictions import LEAST, SURE, sureness, usual_support
from common.review.findings import one
from common.review.people import matched
from tests.unit.label_errors import NAMES as SIMULATED
from tests.unit.label_errors import WEAK, Case, Skill, cases, quality

NAMES = ("cap", "hard_hat")
START = datetime(2026, 1, 1, tzinfo=UTC)
PLACE = (0.1, 0.1, 0.3, 0.3)


def judged(images: Sequence[Looked], names: Sequence[str] = NAMES, parts: int = 1) -> list[Finding]:
    known = np.ones(len(names), bool)
    return findings([doubts(images[i::parts], names, known) for i in range(parts)], len(names))


def image(drawn: Sequence[LabelledBox], *said: tuple[Sequence[float], str, float], sample: str = "7") -> Looked:
    """``said``: place, class, confidence."""
    scores = np.array([[sure * (name == n) for n in NAMES] for _, name, sure in said]).reshape(-1, len(NAMES))
    return Looked(sample, tuple(drawn), np.array([place for place, _, _ in said]).reshape(-1, 4), scores)


def hat(xyxy: Sequence[float] = PLACE, origin: str = "manual", name: str = "hard_hat") -> LabelledBox:
    x1, y1, x2, y2 = xyxy
    return LabelledBox(name, (x1, y1, x2, y2), origin)


def usual(count: int = 40, sure: float = 0.9) -> list[Looked]:
    """Images on which model and people agree, so that the model knows its classes."""
    return [
        image([hat(name=name)], (PLACE, name, sure), sample=f"usual {name} {i}") for i in range(count) for name in NAMES
    ]


def only(found: Sequence[Finding]) -> Finding:
    assert len(found) == 1, [(f.kind, f.reason) for f in found]
    return found[0]


def simulated(made: Sequence[Case]) -> list[Finding]:
    return judged([c.looked for c in made], SIMULATED, parts=3)


def test_mistakes_that_were_put_into_labels_are_found_and_little_else() -> None:
    """`pytest -s` prints the table."""
    made = cases(np.random.default_rng(1), 2000, Skill())
    measured = quality(made, simulated(made))
    for kind, q in measured.items():
        Console().print(
            f"{kind}: {q.found}, precision {q.precision:.2f}, recall {q.recall:.2f} of {q.mistakes} mistakes"
        )
    assert min(q.mistakes for q in measured.values()) > 100
    assert min(q.precision for q in measured.values()) >= 0.8
    assert min(q.recall for q in measured.values()) >= 0.6


@pytest.mark.parametrize(("skill", "most"), [(Skill(), 0.03), (WEAK, 0.06)], ids=["good", "weak"])
def test_right_labels_raise_few_false_alarms(skill: Skill, most: float) -> None:
    made = cases(np.random.default_rng(3), 1000, skill, share=0.0)
    assert len({f.sample for f in simulated(made)}) < most * len(made)


def test_a_model_that_knows_little_denies_nothing() -> None:
    made = cases(np.random.default_rng(4), 400, WEAK)
    assert "untouched" not in {f.kind for f in simulated(made)}


def test_an_object_nobody_drew_is_missed() -> None:
    found = only(judged([*usual(), image([hat()], (PLACE, "hard_hat", 0.9), ((0.7, 0.7, 0.9, 0.9), "cap", 0.93))]))
    assert (found.kind, found.sample, found.weight) == ("missed", "7", 0.93)
    assert found.reason == "a cap at the lower right that nobody drew (model: .93)"
    assert [(b.name, b.xyxy, b.by, b.score) for b in found.boxes] == [("cap", (0.7, 0.7, 0.9, 0.9), "model", 0.93)]


def test_an_image_without_any_box_can_miss_one() -> None:
    assert only(judged([*usual(), image([], (PLACE, "cap", 0.95))])).kind == "missed"


def test_one_missed_object_is_one_finding_however_many_boxes_the_model_draws() -> None:
    nearly = (0.11, 0.1, 0.31, 0.3)
    found = only(judged([*usual(), image([], (PLACE, "cap", 0.9), (nearly, "hard_hat", 0.95))]))
    assert found.boxes[0].name == "hard_hat"


def test_a_box_that_the_model_takes_for_another_class_is_swapped() -> None:
    found = only(judged([*usual(), image([hat()], (PLACE, "cap", 0.95))]))
    assert (found.kind, found.weight) == ("swapped", 0.95)
    assert found.reason == ("a hard_hat at the upper left that the model takes for a cap (cap .95, hard_hat none)")
    assert [b.by for b in found.boxes] == ["label", "model"]


def test_a_second_object_at_the_same_place_swaps_nothing() -> None:
    both = [hat(), hat(name="cap")]
    assert judged([*usual(), image(both, (PLACE, "cap", 0.95))]) == []


def test_a_class_the_model_still_half_believes_in_is_not_swapped() -> None:
    torn = Looked("7", (hat(),), np.array([PLACE]), np.array([[0.95, 0.4]]))
    assert judged([*usual(), torn]) == []


def test_a_box_beside_the_object_is_badly_located_and_the_object_is_not_missed() -> None:
    beside = (0.2, 0.1, 0.4, 0.3)
    found = only(judged([*usual(), image([hat(beside)], (PLACE, "hard_hat", 0.95))]))
    assert found.kind == "location"
    assert "(overlap .33, model: .95)" in found.reason


def test_a_second_object_beside_a_drawn_one_is_missed() -> None:
    beside = (0.22, 0.1, 0.42, 0.3)
    found = only(judged([*usual(), image([hat()], (PLACE, "hard_hat", 0.9), (beside, "hard_hat", 0.95))]))
    assert (found.kind, found.boxes[0].xyxy) == ("missed", beside)


def test_neighbours_that_overlap_are_each_their_own() -> None:
    right = (0.2, 0.1, 0.4, 0.3)
    assert judged([*usual(), image([hat(), hat(right)], (PLACE, "hard_hat", 0.9), (right, "hard_hat", 0.9))]) == []


@pytest.mark.parametrize(("origin", "count"), [("prediction", 1), ("prediction-changed", 0), ("manual", 0)])
def test_only_a_box_that_nobody_touched_is_denied(origin: str, count: int) -> None:
    found = judged([*usual(), image([hat(origin=origin)])])
    assert [f.kind for f in found] == ["untouched"] * count


def test_of_one_drawn_box_one_thing_is_said() -> None:
    assert only(judged([*usual(), image([hat(origin="prediction")], (PLACE, "cap", 0.95))])).kind == "swapped"


def test_the_model_must_be_as_sure_as_it_usually_is() -> None:
    odd = image([], (PLACE, "cap", 0.7))
    assert judged([*usual(sure=0.95), odd]) == []
    assert only(judged([*usual(sure=0.6), odd])).kind == "missed"


def test_classes_the_model_does_not_know_are_nobody_s_fault() -> None:
    images = [image([hat(name="gone")], (PLACE, "cap", 0.95)), image([hat()], sample="8")]
    found = findings([doubts([*usual(), *images], NAMES, np.array([True, False]))], 2)
    assert found == []


def test_few_boxes_leave_the_threshold_where_it_starts() -> None:
    nobody = sureness(np.zeros(0, np.int64), np.zeros(0), 2)
    few = sureness(np.zeros(2, np.int64), np.array([0.95, 0.99]), 1)
    many = sureness(np.zeros(500, np.int64), np.full(500, 0.95), 1)
    assert nobody.tolist() == [SURE, SURE]
    assert few[0] == pytest.approx(SURE)
    assert many[0] == pytest.approx(0.95)


values = st.lists(st.tuples(st.integers(-1, 2), st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0])), max_size=40)


@given(values)
def test_thresholds_are_bounded_whatever_was_seen(rows: list[tuple[int, float]]) -> None:
    label, support = np.array([r[0] for r in rows], np.int64), np.array([r[1] for r in rows])
    sure = sureness(label, support, 3)
    assert sure.shape == (3,)
    assert ((sure >= LEAST) & (sure <= 1)).all()
    usually = usual_support(label, support, 3)
    assert ((usually >= 0) & (usually <= 1)).all()


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_the_order_of_images_and_boxes_and_how_they_are_parted_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    images = [c.looked for c in cases(rng, 25, Skill(), share=0.3)]
    shuffled = []
    for i in rng.permutation(len(images)).tolist():
        drawn, said = rng.permutation(len(images[i].drawn)), rng.permutation(len(images[i].boxes))
        boxes, scores = images[i].boxes[said], images[i].scores[said]
        shuffled.append(replace(images[i], drawn=tuple(images[i].drawn[k] for k in drawn), boxes=boxes, scores=scores))
    found = judged(images, SIMULATED)
    assert judged(shuffled, SIMULATED, parts=7) == found
    assert all(0 <= f.weight <= 1 and f.kind in KINDS for f in found)
    assert [f.weight for f in found] == sorted((f.weight for f in found), reverse=True)
    assert len({(f.sample, f.kind, f.mark) for f in found}) == len(found)


def test_the_same_drawn_box_in_dispute_has_the_same_mark_whatever_the_model_says_exactly() -> None:
    first = only(judged([*usual(), image([hat()], (PLACE, "cap", 0.95))]))
    again = only(judged([*usual(), image([hat()], ((0.11, 0.1, 0.3, 0.3), "cap", 0.99))]))
    moved = only(judged([*usual(), image([hat((0.12, 0.1, 0.3, 0.3))], (PLACE, "cap", 0.95))]))
    assert again.mark == first.mark
    assert moved.mark != first.mark


def test_a_missed_object_is_known_again_where_the_model_draws_it_a_little_otherwise() -> None:
    first = only(judged([*usual(), image([], (PLACE, "cap", 0.9))]))
    again = only(judged([*usual(), image([], ((0.12, 0.1, 0.3, 0.31), "cap", 0.95))]))
    other = only(judged([*usual(), image([], ((0.5, 0.5, 0.7, 0.7), "cap", 0.95))]))
    assert again.mark != first.mark
    before = [("7", first.mark, first.boxes[0])]
    assert [f.mark for f in recognised([again], before)] == [first.mark]
    assert [f.mark for f in recognised([other], before)] == [other.mark]
    assert recognised([replace(again, sample="8")], before)[0].mark == again.mark


def test_two_missed_objects_do_not_share_one_mark() -> None:
    nearly = (0.14, 0.1, 0.34, 0.3)
    first, second = (only(judged([*usual(), image([], (p, "cap", 0.9))])) for p in (PLACE, nearly))
    assert len({f.mark for f in recognised([first, second], [("7", "before", first.boxes[0])])}) == 2


def answer(person: str, *boxes: LabelledBox, **more: Any) -> Annotation:
    minute = timedelta(minutes=int(more.pop("minute", ord(person[0]))))
    return Annotation(f"by {person}", "7", START + minute, person, boxes=boxes, **more)


def disputed(*answers: Annotation) -> list[Finding]:
    return disagreements(answers, NAMES)


def test_two_people_who_drew_the_same_disagree_on_nothing() -> None:
    assert disputed(answer("a", hat()), answer("b", hat((0.11, 0.1, 0.3, 0.3)))) == []


def test_two_people_who_named_it_otherwise_disagree() -> None:
    found = only(disputed(answer("a", hat()), answer("b", hat(name="cap"))))
    assert found.reason == "annotator a drew a hard_hat at the upper left, annotator b a cap"
    assert (found.weight, [b.by for b in found.boxes]) == (1.0, ["annotator a", "annotator b"])


def test_a_box_that_only_one_drew_is_disputed_whoever_drew_it() -> None:
    for answers in ([answer("a", hat()), answer("b")], [answer("b"), answer("a", hat())]):
        assert only(disputed(*answers)).reason == "annotator a drew a hard_hat at the upper left, annotator b did not"


def test_one_object_outlined_very_differently_is_one_finding_not_two() -> None:
    for other in ((0.16, 0.1, 0.36, 0.3), (0.2, 0.1, 0.35, 0.3)):
        found = only(disputed(answer("a", hat()), answer("b", hat(other))))
        assert re.fullmatch(
            r"annotator a and annotator b drew a hard_hat .* differently \(overlap \.\d\d\)", found.reason
        )


def test_boxes_of_people_are_matched_one_to_one_by_class_first_and_for_the_best_of_all() -> None:
    mine = [hat((0.1, 0.1, 0.3, 0.3)), hat((0.16, 0.1, 0.36, 0.3))]
    theirs = [hat((0.14, 0.1, 0.34, 0.3)), hat((0.04, 0.1, 0.24, 0.3))]
    assert sorted((i, j) for i, j, _ in matched(mine, theirs)) == [(0, 1), (1, 0)]
    near = (0.12, 0.1, 0.32, 0.3)
    crossed = matched([hat(), hat(near, name="cap")], [hat(name="cap"), hat(near)])
    assert sorted((i, j) for i, j, _ in crossed) == [(0, 1), (1, 0)]


@pytest.mark.parametrize("more", [{"skipped": True}, {"converted": True}])
def test_what_nobody_answered_by_eye_does_not_count(more: dict[str, bool]) -> None:
    assert disputed(answer("a", hat()), answer("b", **more)) == []


def test_where_somebody_has_decided_nothing_is_disputed() -> None:
    assert disputed(answer("a", hat()), answer("b"), answer("c", hat(), ground_truth=True)) == []


def test_one_person_who_answered_twice_changed_her_mind() -> None:
    assert disputed(answer("a", minute=1), replace(answer("a", hat(), minute=2), id="later")) == []


def test_of_three_people_each_place_is_disputed_once() -> None:
    assert only(disputed(answer("a", hat()), answer("b", hat()), answer("c"))).boxes[0].by == "annotator a"


def test_classes_the_project_no_longer_has_are_not_disputed() -> None:
    assert disputed(answer("a", hat(name="gone")), answer("b")) == []


def test_a_new_answer_with_the_same_boxes_disputes_the_same_thing() -> None:
    first = only(disputed(answer("a", hat()), answer("b")))
    again = only(disputed(answer("a", hat()), replace(answer("b", minute=5000), id="new")))
    assert again.mark == first.mark


@pytest.mark.parametrize("said", ["an axe", "a hard_hat", "an RBC", "a WBC", "a HELMET", "an ANVIL"])
def test_a_class_has_the_article_that_is_spoken(said: str) -> None:
    assert one(said.split()[1]) == said
