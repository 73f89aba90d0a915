"""The committee a project asks for, from the setting to the order; settings of its own, from the store to the work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from common.connection import set_project
from common.domain import Event, LabelledBox
from common.errors import SettingError
from common.loop import ActiveLearningLoop
from common.loop.committee import LAST, Committee, committee_of, evidence_missing
from common.ports import Model
from common.store.projects import ProjectRow
from tests.fakes import FakeModels, World, make_world, settle

KEY = "fake:1"
CAT = LabelledBox("cat", (0.1, 0.1, 0.5, 0.5))


def row_of(world: World) -> ProjectRow:
    row = world.tools.store.projects.get(KEY)
    assert row is not None
    return row


def trained(world: World) -> None:
    """One round, from labels to the new order."""
    for task in world.platform.order()[:3]:
        world.platform.annotate(task, CAT)
    world.tools.store.inbox.add(Event("fake", "1", "labels"))
    world.tools.store.inbox.add(Event("fake", "1", "train"))
    settle(world)
    spec = world.trainer.started[-1]
    spec.folder.mkdir(parents=True, exist_ok=True)
    (spec.folder / "final.pt").touch()
    world.trainer.finish()
    settle(world)


class KeepingModels(FakeModels):
    """Trained weights stay where they are, like in a model folder."""

    def install(self, trained: Path) -> Model:
        model = super().install(trained)
        kept = trained.with_name(f"kept-{self.installed}.pt")
        kept.touch()
        return Model(kept, model.sha256, model.names)


def order_by(tmp_path: Path, **settings: Any) -> World:
    world = make_world(tmp_path, **{"strategy": "top_utility", "images": 6, **settings})
    world.tools.models = world.models = KeepingModels()
    settle(world)
    return world


def test_without_a_committee_there_is_one_pass(tmp_path: Path) -> None:
    world = order_by(tmp_path)
    assert {(views, members) for _, views, members, _ in world.models.asked} == {((), 0)}


@pytest.mark.parametrize("acquisition", ["consistency", "vote_entropy", "consensus"])
def test_an_acquisition_works_from_names_alone(tmp_path: Path, acquisition: str) -> None:
    world = order_by(tmp_path, acquisition=acquisition, committee="half,flip")
    assert {(views, members) for _, views, members, _ in world.models.asked} == {(("flip", "half"), 0)}
    by_entropy = order_by(tmp_path / "other")
    assert sorted(world.platform.order()) == sorted(by_entropy.platform.order())
    utilities = [p.utility for w in (world, by_entropy) for p in w.tools.store.publications.places(1)]
    assert utilities[:6] != utilities[6:]
    assert "entropy so far" not in str(world.tools.store.journal.newest(KEY))


def test_predictions_with_other_looks_are_not_mistaken_for_each_other(tmp_path: Path) -> None:
    world = order_by(tmp_path)
    seen = len(world.models.seen)
    set_project(world.tools.settings, KEY, ["committee=flip"])
    settle(world)
    assert len(world.models.seen) == 2 * seen
    assert len(world.tools.store.predictions.have("0" * 64, 640, "flip")) == 6
    assert len(world.tools.store.predictions.have("0" * 64, 640)) == 6
    set_project(world.tools.settings, KEY, [], ["committee"])
    settle(world)
    assert len(world.models.seen) == 2 * seen
    assert world.platform.active == "hardfirst@0.3-00000000"


def test_photographs_are_scored_again_where_they_are_decoded_in_full(tmp_path: Path) -> None:
    world = order_by(tmp_path)
    seen = len(world.models.seen)
    world.tools.settings = world.tools.settings.model_copy(update={"reduced_decode": False})
    world.tools.store.projects.update(KEY, order_asked=world.tools.clock())
    settle(world)
    assert len(world.models.seen) == 2 * seen
    assert len(world.tools.store.predictions.have("0" * 64, 640, "full")) == 6
    world.tools.settings = world.tools.settings.model_copy(update={"reduced_decode": True})
    world.tools.store.projects.update(KEY, order_asked=world.tools.clock())
    settle(world)
    assert len(world.models.seen) == 2 * seen


def test_checkpoints_are_the_newest_others_that_are_still_there(tmp_path: Path) -> None:
    world = order_by(tmp_path, images=9, acquisition="consensus", committee="checkpoints")
    journal = str(world.tools.store.journal.newest(KEY))
    assert "consensus needs a committee, and no other member is there yet: the order goes by entropy so far" in journal
    for number, members in ((1, 0), (2, 1)):
        trained(world)
        assert world.models.asked[-1][:3] == (str(number) * 4, (), members)
    row = row_of(world)
    model, _ = world.tools.serving(row)
    first, *_ = world.tools.store.rounds.checkpoints(KEY)
    assert [m.sha256 for m in committee_of(world.tools, row, model).members] == ["1" * 64]
    Path(first.path).unlink()
    assert committee_of(world.tools, row, model) == Committee()


def test_no_more_checkpoints_are_asked_than_said_and_weights_by_name_come_after_them(tmp_path: Path) -> None:
    (tmp_path / "home" / "models").mkdir(parents=True)
    for name in ("mine.pt", "strange.pt"):
        (tmp_path / "home" / "models" / name).touch()
    world = order_by(tmp_path)
    row, serving = row_of(world), Model(Path("s.pt"), "5" * 64, ("cat", "dog"))
    weights = tmp_path / "w.pt"
    weights.touch()
    for number in range(1, 6):
        running = world.tools.store.rounds.start(KEY, revision=1, labels=1, reason="", folder="/f", token=1)
        assert running is not None
        world.tools.store.rounds.finish(
            running,
            path=str(weights),
            sha256=str(number) * 64,
            names=["cat"],
            metrics={},
            message="",
            verdict="promoted",
        )
    named = {"mine.pt": Model(weights, "e" * 64, ("dog",)), "strange.pt": Model(weights, "f" * 64, ("bus",))}
    world.models.base = named.__getitem__  # type: ignore[method-assign, assignment]
    set_project(world.tools.settings, KEY, ["committee=strange.pt,checkpoints,mine.pt"])
    found = committee_of(world.tools, row_of(world), serving)
    assert [m.sha256[0] for m in found.members] == [*("3", "4")[-LAST:], "e"]
    assert row.settings == {}


def test_the_name_of_a_look_tells_members_apart_and_fits_the_store() -> None:
    one, two = (Model(Path("m.pt"), c * 64, ("cat",)) for c in "ab")
    every = [
        Committee(),
        Committee(("flip",)),
        Committee(("flip", "half")),
        Committee((), (one,)),
        Committee((), (two,)),
    ]
    every += [Committee((), (one, two)), Committee(("flip", "half", "heads"), (one, two))]
    every += [Committee(full=True), Committee(("flip", "half", "heads"), (one, two), full=True)]
    names = [c.looks for c in every]
    assert names[:3] == ["", "flip", "flip+half"]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= 64


def test_a_model_that_is_not_there_has_no_committee_and_still_orders(tmp_path: Path) -> None:
    world = make_world(tmp_path, images=4, acquisition="consistency", committee="flip")
    world.tools.models = FakeModels(usable=False)
    settle(world)
    assert len(world.platform.order()) == 4


def test_what_is_missing_is_said_per_acquisition() -> None:
    assert evidence_missing("entropy", Committee()) == ""
    assert evidence_missing("consensus", Committee(full=True)).startswith("consensus needs a committee")
    assert evidence_missing("consensus", Committee(("half",))) == ""
    assert evidence_missing("consistency", Committee(("half",))).startswith("consistency needs the mirrored image")


def test_a_change_made_while_an_order_is_made_is_not_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = order_by(tmp_path)
    create = world.tools.store.publications.create

    def slowly(*args: Any, **kwargs: Any) -> Any:
        if row_of(world).settings == {}:
            set_project(world.tools.settings, KEY, ["strategy=uniform"])
        return create(*args, **kwargs)

    monkeypatch.setattr(world.tools.store.publications, "create", slowly)
    world.tools.store.projects.update(KEY, order_asked=1.0)
    settle(world)
    reasons = [p.parts["reason"] for p in world.tools.store.publications.places(row_of(world).publication or 0)]
    assert all("drawn by chance" in r for r in reasons)


def test_every_step_works_with_the_settings_of_the_project(tmp_path: Path) -> None:
    world = make_world(tmp_path, images=6)
    world.tools.store.projects.update(
        KEY,
        settings={"imgsz": 320, "updates": 7, "epochs": 2, "batch": 4, "seed": 9, "min_new_labels": 2, "pause_s": 0},
    )
    settle(world)
    assert {imgsz for *_, imgsz in world.models.asked} == {320}
    assert len(world.tools.store.predictions.have("0" * 64, 320)) == 6
    assert any(i.boxes for i in world.platform.rows[world.platform.active or ""].values())
    for task in world.platform.order()[:2]:
        world.platform.annotate(task, CAT)
    world.clock[0] += 1
    world.tools.store.inbox.add(Event("fake", "1", "labels"))
    settle(world)
    (spec,) = world.trainer.started
    assert (spec.imgsz, spec.updates, spec.epochs, spec.batch, spec.seed) == (320, 7, 2, 4, 9)


def test_boxes_of_a_queue_on_its_way_stay_when_the_committee_changes(tmp_path: Path) -> None:
    world = make_world(tmp_path, images=12, first_block=2, later_block=2)
    loop = ActiveLearningLoop(world.tools)
    while world.platform.active is None:
        loop.step(KEY)
    set_project(world.tools.settings, KEY, ["committee=flip", "imgsz=320"])
    first = world.platform.active
    for _ in range(3):
        loop.step(KEY)
    shown = world.platform.rows[first].values()
    assert len(shown) > 2
    assert sum(bool(i.boxes) for i in shown) == sum(_bright(world, i.sample) for i in shown)


def _bright(world: World, task: str) -> bool:
    sample = world.tools.store.samples.some(KEY, [task])[task]
    said = world.tools.store.predictions.get("0" * 64, 640, [sample.sha256 or ""])[sample.sha256 or ""]
    return bool(said.instances.scores.max() >= 0.5)


def test_a_setting_the_next_version_no_longer_has_stops_the_project_with_a_sentence(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.tools.store.projects.update(KEY, settings={"strategy": "best"})
    assert ActiveLearningLoop(world.tools).step(KEY) in (True, False)
    for _ in range(5):
        ActiveLearningLoop(world.tools).step(KEY)
    assert row_of(world).reason.startswith("strategy is 'best'; there are")
    world.tools.store.projects.update(KEY, settings={"colour": "red"})
    with pytest.raises(SettingError, match="colour is 'red': extra inputs are not permitted"):
        world.tools.settings_of(row_of(world))
