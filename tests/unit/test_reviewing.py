"""The review list in the loop: made once per round from what is stored, and never a label changed by it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from common.domain import Event, Instances, LabelledBox, Prediction
from common.errors import SettingError, UnknownNameError
from common.loop.reviewing import dismiss, review_rows, review_step
from common.ports import Model
from common.store.projects import ProjectRow
from common.store.schema import annotation
from tests.fakes import FakeDetector, FakeModels, World, make_world, settle

KEY = "fake:1"
CAT = LabelledBox("cat", (0.1, 0.1, 0.5, 0.5))
DOG = LabelledBox("dog", (0.1, 0.1, 0.5, 0.5))
IMAGES = 6
Said = Sequence[tuple[tuple[float, float, float, float], str, float]]


class SayingDetector(FakeDetector):
    """Says of an image what the test wrote down for it, else a cat where everybody draws one."""

    says: dict[str, Said]

    def _one(self, path: Path) -> Prediction | str:
        plain = super()._one(path)
        assert not isinstance(plain, str)
        said = self.says.get(path.name, [(CAT.xyxy, "cat", 0.9)])
        size = np.array([plain.width, plain.height] * 2)
        boxes = np.array([np.array(place) * size for place, _, _ in said], np.float32).reshape(-1, 4)
        scores = np.array([[_score(name, sure, c) for c in self.classes] for _, name, sure in said], np.float32)
        instances = Instances(boxes, scores.reshape(-1, len(self.classes)))
        return replace(plain, instances=instances, disagreement=np.zeros(len(said), np.float32))


def _score(name: str, sure: float, column: str) -> float:
    """'car/cat' is a car and nearly as much a cat."""
    first, _, second = name.partition("/")
    return sure * (column == first) + 0.95 * sure * (column == second)


class SayingModels(FakeModels):
    """Its trained models say what the test wrote down."""

    def __init__(self) -> None:
        super().__init__()
        self.says: dict[str, Said] = {}
        self.learns: tuple[str, ...] = ("cat", "dog")

    def install(self, trained: Path) -> Model:
        return replace(super().install(trained), names=self.learns)

    def detector(self, model: Any, views: Any = (), members: Any = (), imgsz: Any = None) -> FakeDetector:
        made = SayingDetector(model.names, self.seen, tuple(views), len(members))
        made.says = self.says
        return made


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("common.loop.lookalikes.CALIBRATED_ON", 1)  # not asked here, and costs most of the time
    world = make_world(tmp_path, IMAGES)
    world.tools.models = world.models = SayingModels()
    return world


def row_of(world: World) -> ProjectRow:
    row = world.tools.store.projects.get(KEY)
    assert row is not None
    return row


def label(world: World, task: str, *boxes: LabelledBox, **more: Any) -> None:
    world.clock[0] += 1
    world.platform.annotate(task, *boxes, **more)
    world.tools.store.inbox.add(Event("fake", "1", "labels", (task,)))


def round_of(world: World) -> None:
    """A round that is asked for, trained and ordered."""
    world.clock[0] += 1
    world.tools.store.inbox.add(Event("fake", "1", "train"))
    settle(world)
    spec = world.trainer.started[-1]
    spec.folder.mkdir(parents=True, exist_ok=True)
    (spec.folder / "final.pt").touch()
    world.trainer.finish()
    settle(world)


def says(world: World, task: str, *said: Any) -> None:
    world.models.says[world.platform.tasks[task]] = said


def checksum(world: World) -> str:
    with world.tools.store.engine.connect() as connection:
        rows = connection.execute(sa.select(annotation).order_by(annotation.c.id)).all()
    return hashlib.sha256(json.dumps([list(r) for r in rows]).encode()).hexdigest()


def listed(world: World, state: str = "open") -> list[tuple[str, str]]:
    return [(r["sample"], r["kind"]) for r in review_rows(world.tools, row_of(world), state)]


def reviewed(world: World) -> World:
    """Four labels, one of them against the model, and a round."""
    settle(world)
    for task in ("100", "101", "102"):
        label(world, task, CAT)
    label(world, "103", DOG)
    round_of(world)
    return world


def test_after_a_round_the_labels_that_its_model_contradicts_are_listed(world: World) -> None:
    row = only(reviewed(world))
    assert (row["sample"], row["kind"], row["round"], row["state"]) == ("103", "swapped", 1, "open")
    assert row["reason"] == "a dog at the upper left that the model takes for a cat (cat .90, dog none)"
    assert row["link"] == "http://platform/tasks/103"
    assert row["boxes"][0] == {"name": "dog", "xyxy": [0.1, 0.1, 0.5, 0.5], "by": "label", "score": None}
    assert json.loads(json.dumps(row)) == row


def only(world: World, state: str = "open") -> dict[str, Any]:
    (row,) = review_rows(world.tools, row_of(world), state)
    return row


def test_before_the_first_round_nothing_is_listed(world: World) -> None:
    settle(world)
    label(world, "100", DOG)
    settle(world)
    assert row_of(world).reviewed == 0
    assert listed(world) == []


def test_a_round_is_reviewed_once(world: World) -> None:
    reviewed(world)
    assert row_of(world).reviewed == 1
    looked = len(world.tools.store.journal.newest(KEY, 1000))
    assert not review_step(world.tools, row_of(world))
    settle(world)
    assert len(world.tools.store.journal.newest(KEY, 1000)) == looked


def test_a_review_changes_no_label(world: World) -> None:
    settle(world)
    for task in ("100", "101", "102"):
        label(world, task, CAT, LabelledBox("dog", (0.6, 0.6, 0.9, 0.9), "prediction"))
    label(world, "103", DOG)
    settle(world)
    before = checksum(world)
    round_of(world)
    dismiss(world.tools, row_of(world), only(world)["id"])
    round_of(world)
    assert checksum(world) == before


def test_the_same_finding_is_one_row_over_the_rounds(world: World) -> None:
    first = only(reviewed(world))
    round_of(world)
    again = only(world)
    assert (again["id"], again["round"]) == (first["id"], 2)


def test_what_a_person_dismissed_stays_dismissed(world: World) -> None:
    finding = only(reviewed(world))
    dismiss(world.tools, row_of(world), finding["id"])
    assert listed(world) == []
    round_of(world)
    assert listed(world) == []
    assert listed(world, "dismissed") == [("103", "swapped")]


def test_a_dismissed_missed_object_is_not_missed_again_because_the_model_draws_it_elsewhere(world: World) -> None:
    settle(world)
    for task in ("100", "101", "102"):
        label(world, task, CAT)
    says(world, "100", (CAT.xyxy, "cat", 0.9), ((0.6, 0.6, 0.9, 0.9), "dog", 0.95))
    round_of(world)
    dismiss(world.tools, row_of(world), only(world)["id"])
    says(world, "100", (CAT.xyxy, "cat", 0.9), ((0.62, 0.6, 0.92, 0.9), "dog", 0.9))
    round_of(world)
    assert listed(world) == []
    says(world, "100", (CAT.xyxy, "cat", 0.9), ((0.6, 0.1, 0.9, 0.3), "dog", 0.9))
    round_of(world)
    assert listed(world) == [("100", "missed")]


def test_another_label_of_a_dismissed_box_is_disputed_anew(world: World) -> None:
    dismiss(world.tools, row_of(world), only(reviewed(world))["id"])
    label(world, "103", LabelledBox("dog", (0.12, 0.1, 0.5, 0.5)))
    round_of(world)
    assert listed(world) == [("103", "swapped")]


def test_a_finding_that_is_settled_is_gone(world: World) -> None:
    reviewed(world)
    label(world, "103", CAT)
    round_of(world)
    assert listed(world) == []
    assert listed(world, "gone") == [("103", "swapped")]


def test_a_finding_that_comes_back_is_open_again_in_its_row(world: World) -> None:
    first = only(reviewed(world))
    label(world, "103", CAT)
    round_of(world)
    label(world, "103", DOG)
    round_of(world)
    assert only(world)["id"] == first["id"]


def test_an_answer_since_the_review_waits_for_the_next_round(world: World) -> None:
    reviewed(world)
    label(world, "103", DOG)
    settle(world)
    assert listed(world) == []
    round_of(world)
    assert listed(world) == [("103", "swapped")]


def test_people_who_disagree_are_listed_whatever_the_model_says(world: World) -> None:
    settle(world)
    for task in ("100", "101", "102"):
        label(world, task, CAT)
    label(world, "103", CAT)
    answers = world.platform.answers["103"]
    world.platform.answers["103"] = [*answers, replace(answers[0], id="103-2", person="bob", boxes=())]
    world.tools.store.inbox.add(Event("fake", "1", "labels", ("103",)))
    round_of(world)
    assert ("103", "disagreement") in listed(world)
    reasons = [r["reason"] for r in review_rows(world.tools, row_of(world)) if r["kind"] == "disagreement"]
    assert reasons == ["annotator ann drew a cat at the upper left, annotator bob did not"]


def test_when_every_image_is_labelled_they_are_scored_for_the_review(world: World) -> None:
    settle(world)
    for task in world.platform.tasks:
        label(world, task, DOG if task == "104" else CAT)
    round_of(world)
    assert listed(world) == [("104", "swapped")]


def test_an_image_that_cannot_be_read_now_keeps_its_findings(world: World) -> None:
    reviewed(world)
    rows = world.tools.store.samples.some(KEY, ["103"])
    lost = {"id": rows["103"].id, "sha256": None, "width": 0, "height": 0, "problem": "it cannot be read"}
    (world.folder / "pictures" / world.platform.tasks["103"]).unlink()
    world.tools.store.samples.fetched(KEY, [{**lost, "tried": world.clock[0]}])
    round_of(world)
    assert (only(world)["sample"], only(world)["round"]) == ("103", 1)


def test_the_list_is_shown_without_links_when_the_platform_cannot_be_opened(world: World) -> None:
    reviewed(world)

    def refuse(row: ProjectRow) -> Any:
        raise SettingError("LABEL_STUDIO_URL is missing")

    world.tools.open = refuse
    assert only(world)["link"] == ""


def test_a_state_or_a_finding_that_is_not_there_is_named(world: World) -> None:
    settle(world)
    with pytest.raises(UnknownNameError, match=r"no state 'new' .* \['open', 'dismissed', 'gone'\]"):
        review_rows(world.tools, row_of(world), "new")
    with pytest.raises(UnknownNameError, match="fake:1 has no finding 7: `hardfirst review --project fake:1`"):
        dismiss(world.tools, row_of(world), 7)


def test_a_forgotten_project_leaves_no_finding(world: World) -> None:
    reviewed(world)
    world.tools.store.forget(KEY)
    assert world.tools.store.reviews.all(KEY) == []


def test_boxes_of_classes_that_the_project_does_not_have_are_nothing(world: World) -> None:
    settle(world)
    for task in ("100", "101", "102"):
        label(world, task, CAT)
    world.models.learns = ("cat", "car")
    says(world, "100", (CAT.xyxy, "cat", 0.9), ((0.6, 0.6, 0.9, 0.9), "car/cat", 0.95))
    round_of(world)
    assert listed(world) == []


def test_a_cut_off_review_is_made_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("common.store.reviews.Reviews._again", cut)
        with pytest.raises(KeyboardInterrupt):
            reviewed(world)
    assert row_of(world).reviewed == 0
    assert world.tools.store.reviews.all(KEY) == []
    settle(world)
    assert listed(world) == [("103", "swapped")]
