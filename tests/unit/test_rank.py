"""`hardfirst rank`: what an order costs and what it says. The model is a fake, files and store are real."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from common.config import Settings
from common.domain import Prediction
from common.errors import MediaError, SettingError, UnknownNameError
from common.experiments import scoring
from common.experiments.files import look
from common.experiments.rank_rows import COLUMNS
from common.experiments.ranking import Wish, project_classes
from common.experiments.scoring import Scorer
from common.ports import Model
from common.store import Store
from tests.fakes import FakeDetector, FakeModels, picture
from tests.test_docs import ROOT, table
from tests.unit.rank_folder import (  # noqa: F401 - fixtures
    Run,
    cells,
    command_fixture,
    folder_fixture,
    models_fixture,
    ranked_fixture,
    settings_fixture,
    store_fixture,
)


def test_every_image_has_one_place_and_the_reason_is_in_words(ranked: Run, folder: Path, tmp_path: Path) -> None:
    report = ranked(folder)
    rows = cells(tmp_path / "order.csv")
    assert [r["rank"] for r in rows] == [str(i) for i in range(1, 9)]
    assert sorted(r["path"] for r in rows) == sorted(str(p) for p in folder.rglob("*.png"))
    assert all(0 <= float(r["utility"]) <= 1 for r in rows)
    assert any("kitty" in r["reason"] for r in rows)
    assert report.summary["scored"] == 8
    assert list(rows[0]) == list(COLUMNS)


def test_the_documentation_explains_every_column() -> None:
    text = (ROOT / "docs" / "folders.md").read_text()
    assert [row[0] for row in table(text, "Rank a folder")] == list(COLUMNS)


def test_an_unchanged_image_is_never_scored_twice_under_whatever_name(
    ranked: Run, folder: Path, models: FakeModels, tmp_path: Path
) -> None:
    ranked(folder)
    first = (tmp_path / "order.csv").read_bytes()
    assert ranked(folder).summary["cached"] == 8
    assert (tmp_path / "order.csv").read_bytes() == first
    (folder / "3.png").rename(folder / "renamed.png")
    picture(folder / "5.png", 55)
    assert ranked(folder).summary["scored"] == 1
    assert models.seen[8:] == ["5.png"]


def test_another_size_is_another_question(
    ranked: Run, folder: Path, settings: Settings, store: Store, models: FakeModels
) -> None:
    ranked(folder)
    other = Scorer(store, models, models.base(""), settings.model_copy(update={"imgsz": 640}))
    assert other.score(look(folder).images).fresh == 8


def test_second_looks_are_asked_for_and_kept_by_their_name(
    ranked: Run, folder: Path, settings: Settings, store: Store, models: FakeModels
) -> None:
    ranked(folder)
    looking = settings.model_copy(update={"committee": ("flip",)})
    scored = Scorer(store, models, models.base(""), looking).score(look(folder).images)
    assert scored.fresh == 8
    assert all(p is not None and p.flip_iou is not None for p in scored.predictions)
    assert Scorer(store, models, models.base(""), looking).score(look(folder).images).cached == 8


def test_labelled_images_have_no_place_and_push_look_alikes_back(ranked: Run, folder: Path, tmp_path: Path) -> None:
    with Image.open(folder / "2.png") as image:
        image.point(lambda v: min(255, v + 2)).save(folder / "2-again.png")
    (tmp_path / "done.txt").write_text(f"2.png\n# a comment\n\n{folder}/below/7.png\n")
    ranked(folder, labelled=tmp_path / "done.txt")
    rows = cells(tmp_path / "order.csv")
    assert len(rows) == 7
    assert {Path(r["path"]).name for r in rows} & {"2.png", "7.png"} == set()
    last = rows[-1]
    assert Path(last["path"]).name == "2-again.png"
    assert last["duplicate_of"] == str(folder / "2.png")
    assert last["duplicate_group"] == "1"
    assert last["nearest_labelled"] == str(folder / "2.png")
    assert float(last["nearest_labelled_distance"]) < min(float(r["nearest_labelled_distance"]) for r in rows[:-1])


def test_a_labelled_image_from_elsewhere_counts_too(ranked: Run, folder: Path, tmp_path: Path) -> None:
    picture(tmp_path / "elsewhere.png", 99)
    (tmp_path / "done.txt").write_text("elsewhere.png\n")
    assert ranked(folder, labelled=tmp_path / "done.txt").summary["ranked"] == 8
    assert {r["nearest_labelled"] for r in cells(tmp_path / "order.csv")} == {str(tmp_path / "elsewhere.png")}


def test_unreadable_images_come_last_with_their_sentence(ranked: Run, folder: Path, tmp_path: Path) -> None:
    (folder / "0-empty.png").write_bytes(b"")
    (folder / "0-text.jpg").write_text("not an image")
    whole = np.random.default_rng(0).integers(0, 255, (200, 300, 3)).astype(np.uint8)
    Image.fromarray(whole).save(folder / "0-cut.jpg")
    cut = (folder / "0-cut.jpg").read_bytes()
    (folder / "0-cut.jpg").write_bytes(cut[: len(cut) // 2])
    report = ranked(folder)
    rows = cells(tmp_path / "order.csv")
    assert [Path(r["path"]).name for r in rows[-3:]] == ["0-cut.jpg", "0-empty.png", "0-text.jpg"]
    assert all(r["reason"] == "the image cannot be read" for r in rows[-3:])
    assert ["damaged" in r["problem"] or "empty" in r["problem"] for r in rows[-3:]] == [True] * 3
    assert {r["problem"] for r in rows[:-3]} == {""}
    assert len(report.summary["unreadable"]) == 3


def test_nothing_to_read_is_an_error(ranked: Run, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    with pytest.raises(MediaError, match="there is no image in"):
        ranked(tmp_path / "bad")
    (tmp_path / "bad" / "a.jpg").write_text("no")
    with pytest.raises(MediaError, match=r"none of 1 images could be read; the first: a\.jpg"):
        ranked(tmp_path / "bad")


def test_the_budget_is_a_prefix_of_the_whole_order(ranked: Run, folder: Path, tmp_path: Path) -> None:
    ranked(folder)
    whole = cells(tmp_path / "order.csv")
    ranked(folder, Wish(budget=3))
    assert [r["path"] for r in cells(tmp_path / "order.csv")] == [r["path"] for r in whole[:3]]
    with pytest.raises(SettingError, match="--budget is 0: 1 or more is allowed"):
        Wish(budget=0)


def test_the_random_slice_is_off_until_it_is_asked_for(ranked: Run, folder: Path, tmp_path: Path) -> None:
    ranked(folder)
    assert {r["random_slice"] for r in cells(tmp_path / "order.csv")} == {""}
    ranked(folder, Wish(slice_share=0.5))
    assert "yes" in {r["random_slice"] for r in cells(tmp_path / "order.csv")}


def test_without_weights_the_order_is_a_cold_start_and_says_so(
    ranked: Run, folder: Path, models: FakeModels, tmp_path: Path
) -> None:
    models.usable = False
    report = ranked(folder)
    assert report.notes == ["cold start, the order goes by how typical images are: no weights"]
    assert "more typical than" in cells(tmp_path / "order.csv")[0]["reason"]
    assert models.seen == []


def test_what_was_scored_before_ctrl_c_is_kept(
    ranked: Run, folder: Path, models: FakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "SLICES", (3,))
    detector = models.detector

    def interrupted(*asked: Any) -> Any:
        if len(models.seen) >= 6:
            raise KeyboardInterrupt
        return detector(*asked)

    monkeypatch.setattr(models, "detector", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ranked(folder)
    monkeypatch.setattr(models, "detector", detector)
    summary = ranked(folder).summary
    assert (summary["scored"], summary["cached"]) == (2, 6)


def test_an_interrupt_near_the_start_costs_eight_images_and_later_slices_are_larger(
    folder: Path, settings: Settings, store: Store, models: FakeModels
) -> None:
    for i in range(8, 100):
        picture(folder / f"{i}.png", i)

    def interrupted(done: int) -> None:
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Scorer(store, models, models.base(""), settings).score(look(folder).images, interrupted)
    assert len(models.seen) == 8
    told: list[int] = []
    scorer = Scorer(store, models, models.base(""), settings)
    scored = scorer.score(look(folder).images, told.append)
    assert (scored.cached, scored.fresh) == (8, 92)
    scorer.score(look(folder).images, told.append)
    assert told == [8, 24, 56, 88, 100, 32, 64, 96, 100]


def test_an_image_that_changes_while_it_is_scored_is_not_kept_under_its_old_content(
    folder: Path, settings: Settings, store: Store, models: FakeModels
) -> None:
    predict = FakeDetector.predict

    def slowly(self: FakeDetector, paths: list[Path]) -> list[Prediction | str]:
        answers = predict(self, paths)
        picture(folder / "4.png", 1234)
        return answers

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeDetector, "predict", slowly)
        scored = Scorer(store, models, models.base(""), settings).score(look(folder).images)
    assert [f.path.name for f in scored.unreadable] == ["4.png"]
    assert "was changed while" in scored.unreadable[0].problem
    assert Scorer(store, models, models.base(""), settings).score(look(folder).images).fresh == 1


def test_classes_are_the_models_unless_a_person_narrows_them() -> None:
    model = Model(Path("m.pt"), "0" * 64, ("kitty", "dog"))
    assert project_classes(model).columns == {0: [0], 1: [1]}
    assert project_classes(model, ("Dog",)).columns == {0: [1]}
    with pytest.raises(UnknownNameError, match=r"--classes names 'cow'; the model has \['dog', 'kitty'\]"):
        project_classes(model, ("cow",))
    with pytest.raises(SettingError, match="give one of them"):
        project_classes(model, ("dog",), Path("data.yaml"))


def test_the_first_place_of_a_first_order_says_that_it_is_typical(ranked: Run, folder: Path, tmp_path: Path) -> None:
    ranked(folder)
    first, *others = cells(tmp_path / "order.csv")
    assert first["reason"].startswith("more typical than ")
    assert not [r for r in others if "more typical" in r["reason"]]
    (tmp_path / "done.txt").write_text(f"{first['path']}\n")
    ranked(folder, labelled=tmp_path / "done.txt")
    assert not [r for r in cells(tmp_path / "order.csv") if "more typical" in r["reason"]]


def strange(monkeypatch: pytest.MonkeyPatch, known: Container[str] = ()) -> None:
    """The detector is hardly sure of anything but of some files."""
    one = FakeDetector._one

    def doubtful(self: FakeDetector, path: Path) -> Any:
        said = one(self, path)
        scores = np.full_like(said.instances.scores, 0.25 if path.name in known else 0.1)
        return replace(said, instances=replace(said.instances, scores=scores))

    monkeypatch.setattr(FakeDetector, "_one", doubtful)


def test_a_model_that_sees_next_to_nothing_is_told_about_once(
    ranked: Run, folder: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    strange(monkeypatch)
    (said,) = ranked(folder).notes
    assert said.startswith(
        "the model does not seem to know these images: it has a box of confidence 0.25 or more in 0 of 8"
    )
    assert "rests on typicality and diversity" in said
    assert "--strategy typicality" in said


def test_a_model_that_knows_one_image_in_ten_is_not(ranked: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strange(monkeypatch, known={"3.png"})
    assert ranked(folder).notes == []


def test_a_strategy_that_asks_no_model_needs_none_that_knows(
    command: Callable[..., Result], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strange(monkeypatch)
    assert "seem to know" not in command(str(folder), "--out", "order.csv", "--strategy", "typicality").output
    assert "says little" in command(str(folder), "--out", "order.csv", "--strategy", "additive").output


def test_whoever_holds_outliers_back_says_so_in_the_column(
    command: Callable[..., Result], folder: Path, tmp_path: Path
) -> None:
    for i in range(20, 60):
        picture(folder / f"{i}.png", i, brightness=120)
    Image.fromarray(np.tile(np.array([[255, 0, 0]], np.uint8), (48, 64, 1))).save(folder / "odd.png")
    words = ("--strategy", "uniform", "--option", "guard=true")
    assert command(str(folder), "--out", "order.csv", *words).exit_code == 0
    odd = [r for r in cells(tmp_path / "order.csv") if r["outlier"] == "yes"]
    assert "odd.png" in {Path(r["path"]).name for r in odd}
    assert "`guard=true`" in COLUMNS["outlier"]
