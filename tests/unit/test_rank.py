"""`hardfirst rank`: which files, what they cost, what the CSV says. The model is a fake, files and store are real."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable, Container, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from common.cli import main
from common.config import Settings
from common.domain import Prediction
from common.errors import MediaError, SettingError, UnknownNameError
from common.experiments import command_line, rank, scoring
from common.experiments.files import SUFFIXES, damage, find_labelled, look, read_image
from common.experiments.rank import COLUMNS, Report, Request
from common.experiments.ranking import Wish, label_counts, project_classes
from common.experiments.scoring import Scorer
from common.ports import Model
from common.store import Store, open_store
from tests.fakes import FakeDetector, FakeModels, picture
from tests.test_docs import ROOT, table

Run = Callable[..., Report]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight pictures, one of them in a folder below."""
    made = tmp_path / "photos"
    (made / "below").mkdir(parents=True)
    for i in range(7):
        picture(made / f"{i}.png", i)
    picture(made / "below" / "7.png", 7)
    return made


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, home=tmp_path / "home", imgsz=320, min_new_labels=3)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    settings.folder.mkdir()
    made = open_store(settings.database, settings.folder)
    yield made
    made.close()


@pytest.fixture
def models() -> FakeModels:
    return FakeModels(("kitty", "dog"))


@pytest.fixture
def ranked(tmp_path: Path, settings: Settings, store: Store, models: FakeModels) -> Run:
    """Rank a folder into order.csv."""

    def run(source: Path, wish: Wish | None = None, **given: Any) -> Report:
        request = Request(source, tmp_path / "order.csv", wish or Wish(), **given)
        return rank.run(request, settings, store, models, models.base(""), lambda _done, _all: None)

    return run


def cells(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


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


def test_classes_the_model_does_not_know_are_named(ranked: Run, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "some.yaml").write_text("names: [kitty, horse]\n")
    assert ranked(folder, data=tmp_path / "some.yaml").notes == [
        "the model does not know horse: nothing is predicted for it"
    ]
    (tmp_path / "none.yaml").write_text("names: {0: horse}\n")
    assert "knows none of the classes" in ranked(folder, data=tmp_path / "none.yaml").notes[0]


def test_what_was_scored_before_ctrl_c_is_kept(
    ranked: Run, folder: Path, models: FakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "SLICE", 3)
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


def test_a_failed_write_leaves_the_old_order(ranked: Run, folder: Path, tmp_path: Path) -> None:
    ranked(folder)
    before = (tmp_path / "order.csv").read_bytes()
    with pytest.raises(ValueError, match="nonsense"):
        rank.write_csv(tmp_path / "order.csv", [{"rank": 1}, {"nonsense": 2}])
    assert (tmp_path / "order.csv").read_bytes() == before
    assert [p.name for p in tmp_path.glob(".*")] == []


def test_hidden_files_are_left_out_and_loops_end(folder: Path) -> None:
    (folder / ".hidden").mkdir()
    picture(folder / ".hidden" / "a.png", 1)
    picture(folder / ".b.png", 1)
    (folder / "notes.txt").write_text("no image")
    (folder / "below" / "loop").symlink_to(folder)
    (folder / "again").symlink_to(folder / "below")
    (folder / "link.png").symlink_to(folder / "0.png")
    (folder / "gone.png").symlink_to(folder / "nothing.png")
    found = [str(p.relative_to(folder)) for p in look(folder).images]
    assert found == [*(f"{i}.png" for i in range(7)), "below/7.png", "link.png"]


def test_links_to_folders_elsewhere_are_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    picture(tmp_path / "more" / "x.png", 1)
    (folder / "more").symlink_to(tmp_path / "more")
    assert folder / "more" / "x.png" in look(folder).images


def test_a_list_names_images_relative_to_itself_in_its_order(folder: Path) -> None:
    (folder / "some.txt").write_text("./3.png\n1.png\n3.png\nmissing.png\n")
    assert [p.name for p in look(folder / "some.txt").images] == ["3.png", "1.png", "missing.png"]
    assert "there is no such file" in read_image(folder / "missing.png", 10**6).problem
    with pytest.raises(SettingError, match="neither a folder nor a list"):
        look(folder / "0.png")


@pytest.mark.parametrize(
    ("line", "why"), [("7.png", "2 images have this name"), ("none.png", "there is no such image")]
)
def test_a_labelled_line_that_names_no_one_image_is_refused(folder: Path, tmp_path: Path, line: str, why: str) -> None:
    (folder / "other").mkdir()
    picture(folder / "other" / "7.png", 70)
    (tmp_path / "done.txt").write_text(f"1.png\n{line}\n")
    with pytest.raises(SettingError, match=f"line 2 of .*done.txt is '{line}': {why}"):
        find_labelled(tmp_path / "done.txt", look(folder).images, folder)


def test_damage_is_found_where_opencv_would_fill_in_grey(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 1)
    assert damage(tmp_path / "a.png", 10**6) == ""
    assert "48 pixels, more than the 100 allowed" in damage(tmp_path / "a.png", 100)
    assert "HARDFIRST_MAX_IMAGE_MB" in read_image(tmp_path / "a.png", 10).problem


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such file names")
def test_a_name_that_is_no_utf8_is_reported_and_not_opened(ranked: Run, folder: Path, tmp_path: Path) -> None:
    bad = folder / os.fsdecode(b"\xff.png")
    os.link(folder / "0.png", bad)
    assert ranked(folder).summary["unreadable"][0]["problem"] == "?.png: the name is not UTF-8: rename it"
    assert b"\xff.png" in (tmp_path / "order.csv").read_bytes()


def test_yolo_labels_beside_labelled_images_count(tmp_path: Path) -> None:
    root = tmp_path / "set"
    (root / "images" / "train").mkdir(parents=True)
    (root / "labels" / "train").mkdir(parents=True)
    (root / "data.yaml").write_text("names: [Dog, kitty]\n")
    (root / "labels" / "data.yaml").write_text("names: [Dog, kitty]\n")
    images = [root / "images" / "train" / f"{i}.png" for i in range(3)]
    (root / "labels" / "train" / "0.txt").write_text("0 .5 .5 .2 .2\n1 .5 .5 .2 .2\n")
    (root / "labels" / "train" / "1.txt").write_text("0 .5 .5 .2 .2\n")
    model = Model(Path("m.pt"), "0" * 64, ("kitty", "dog"))
    counts, files, why = label_counts(images, project_classes(model))
    assert (counts.tolist(), files, why) == ([1, 2], 2, "")
    numbered = project_classes(model, data=root / "data.yaml")
    assert label_counts(images, numbered)[0].tolist() == [2, 1]


def test_labels_whose_numbers_nobody_explains_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 .5 .5 .2 .2\n")
    counts, files, why = label_counts([tmp_path / "a.png"], project_classes(Model(Path("m"), "0", ("kitty",))))
    assert (counts.tolist(), files) == ([0], 1)
    assert "give --data" in why


def test_classes_are_the_models_unless_a_person_narrows_them() -> None:
    model = Model(Path("m.pt"), "0" * 64, ("kitty", "dog"))
    assert project_classes(model).columns == {0: [0], 1: [1]}
    assert project_classes(model, ("Dog",)).columns == {0: [1]}
    with pytest.raises(UnknownNameError, match=r"--classes names 'cow'; the model has \['dog', 'kitty'\]"):
        project_classes(model, ("cow",))
    with pytest.raises(SettingError, match="give one of them"):
        project_classes(model, ("dog",), Path("data.yaml"))


@pytest.fixture
def command(clean_home: Path, monkeypatch: pytest.MonkeyPatch, models: FakeModels) -> Callable[..., Result]:
    monkeypatch.setattr(command_line, "open_model", lambda _settings: (models, models.base("")))
    return lambda *words: CliRunner().invoke(main, ["rank", *words])


def test_the_command_says_where_the_order_is_and_why(
    command: Callable[..., Result], folder: Path, tmp_path: Path
) -> None:
    (folder / "broken.jpg").write_text("no")
    done = command(str(folder), "--out", "order.csv", "--sheet")
    assert done.exit_code == 0
    assert "9 images: 8 scored now, 0 known before, 1 unreadable, 0 labelled" in done.output
    assert "order of 9 images: order.csv" in done.output
    assert "broken.jpg: damaged" in done.output
    assert len([line for line in done.output.splitlines() if line.startswith("  ")]) == 5
    with Image.open(tmp_path / "order.png") as sheet:
        assert sheet.width > sheet.height


def test_json_is_all_there_is_on_the_output(command: Callable[..., Result], folder: Path) -> None:
    done = command(str(folder), "--out", "order.csv", "--json")
    said = json.loads(done.stdout)
    assert (said["order"], said["ranked"], len(said["top"])) == ("order.csv", 8, 5)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--strategy", "magic"], "--strategy is 'magic'; there are"),
        (["--acquisition", "magic"], "--acquisition is 'magic'; there are"),
        (["--acquisition", "consistency"], "mirrored image: add flip to --committee"),
        (["--acquisition", "vote_entropy"], "needs a committee: set --committee to"),
        (["--committee", "elsewhere/other.pt"], "--committee names 'elsewhere/other.pt', but there is no such file"),
        (["--committee", "other"], "--committee names 'other'; there are ['flip'"),
        (["--option", "acquisition=margin"], "--acquisition sets that one"),
        (["--budget", "0"], "--budget is 0: 1 or more is allowed"),
        (["--seed", "many"], "--seed"),
        (["--strategy", "core_set", "--acquisition", "margin"], "strategy 'core_set' uses none"),
        (["--option", "magic=1"], "--option names 'magic'"),
        (["--option", "spread=many"], "option spread of strategy 'hybrid' is 'many'"),
        (["--imgsz", "100"], "--imgsz is 100"),
        (["--sheet", "order.gif"], "must end in .png"),
        (["--random-slice", "2"], "--random-slice is 2"),
        (["--classes", "cow"], "the model has"),
        (["--data", "no.yaml"], "cannot be read as YAML"),
        (["--labelled", "no.txt"], "the list no.txt cannot be read"),
        (["--seed", "-1"], "--seed is -1: input should be greater than or equal to 0"),
        (["--classes", ","], "--classes is ',', which names no class"),
        (["--committee", "checkpoints"], "--committee names 'checkpoints', which only a project has"),
    ],
)
def test_misuse_is_one_sentence_and_exit_code_2(
    command: Callable[..., Result], folder: Path, words: list[str], why: str
) -> None:
    done = command(str(folder), "--out", "order.csv", *words)
    assert done.exit_code == 2
    assert why in done.output
    assert not Path("order.csv").exists()


def test_what_was_set_by_a_variable_is_named_by_it(
    command: Callable[..., Result], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARDFIRST_COMMITTEE", "other")
    assert "HARDFIRST_COMMITTEE names 'other'" in command(str(folder), "--out", "order.csv").output


def test_other_weights_of_the_committee_are_named_by_their_path_too(
    command: Callable[..., Result], folder: Path, tmp_path: Path, models: FakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other.pt").write_bytes(b"weights")
    asked: list[str] = []
    base = models.base

    def found(name: str) -> Model:
        asked.append(name)
        return replace(base(name), sha256="1" * 64) if name else base(name)

    monkeypatch.setattr(models, "base", found)
    words = ("--acquisition", "vote_entropy", "--committee", str(tmp_path / "other.pt"))
    done = command(str(folder), "--out", "order.csv", *words)
    assert done.exit_code == 0, done.output
    assert str(tmp_path / "other.pt") in asked
    assert {members for _, _, members, _ in models.asked} == {1}


def test_options_reach_the_strategy(command: Callable[..., Result], folder: Path) -> None:
    one = command(str(folder), "--out", "a.csv", "--strategy", "uniform", "--seed", "1")
    other = command(str(folder), "--out", "b.csv", "--strategy", "uniform", "--seed", "2")
    assert one.exit_code == other.exit_code == 0
    assert Path("a.csv").read_text() != Path("b.csv").read_text()
    cold = command(str(folder), "--out", "c.csv", "--option", "regime=cold", "--option", "guard=false")
    assert "more typical than" in cold.output


def test_nothing_readable_ends_with_1_and_ctrl_c_with_130(
    command: Callable[..., Result], folder: Path, tmp_path: Path, models: FakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    assert command("empty", "--out", "order.csv").exit_code == 1

    def interrupted(*_asked: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(models, "detector", interrupted)
    done = command(str(folder), "--out", "order.csv")
    assert done.exit_code == 130
    assert "what was scored is kept" in done.output


def test_weights_that_are_not_there_are_misuse(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(SettingError, match="there is no such file"):
        command_line.open_model(settings.model_copy(update={"model": str(tmp_path / "none.pt")}))


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


@pytest.mark.parametrize("name", ["sheet.png", "sheet.jpg"])
def test_a_contact_sheet_in_the_folder_is_no_image_to_label(
    ranked: Run, folder: Path, tmp_path: Path, name: str
) -> None:
    ranked(folder, sheet=folder / name)
    first = (folder / name).read_bytes()
    (folder / name).rename(folder / "below" / name)
    report = ranked(folder, sheet=folder / name)
    assert report.summary["images"] == 8
    assert report.notes == [f"1 contact sheets of hardfirst are left out, such as {folder / 'below' / name}"]
    assert ranked(folder, sheet=folder / name).summary["images"] == 8, "its own sheet may be written again"
    assert (folder / name).read_bytes() == first
    for path in folder.rglob("?.png"):
        path.unlink()
    with pytest.raises(MediaError, match="but contact sheets of hardfirst"):
        ranked(folder)


def test_a_sheet_is_never_written_over_anything_else(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("not even a picture")
    for other in (folder / "2.png", tmp_path / "notes.png"):
        with pytest.raises(SettingError, match="which exists and is no contact sheet of hardfirst: name another file"):
            Request(folder, tmp_path / "order.csv", Wish(), sheet=other)
    Request(folder, tmp_path / "order.csv", Wish(), sheet=tmp_path / "new.png")


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


def test_an_order_is_never_written_over_a_picture_or_what_is_read_from(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="a name for a picture"):
        Request(folder, folder / "2.png", Wish())
    listing = tmp_path / "list.txt"
    listing.write_text("2.png\n")
    with pytest.raises(SettingError, match="which is also what is read from"):
        Request(folder, listing, Wish(), labelled=listing)


@pytest.fixture
def kept(clean_home: Path) -> Path:
    """HARDFIRST_HOME with what a service keeps there."""
    (clean_home / "models").mkdir(parents=True)
    (clean_home / "models" / "mine.pt").write_bytes(b"weights")
    (clean_home / "hardfirst.db").write_bytes(b"rows")
    return clean_home


@pytest.mark.parametrize(
    ("out", "why"),
    [
        ("pipe", "which is no regular file but a device, a pipe or the like: name a file"),
        ("home", "which is a folder"),
        ("home/hardfirst.db", "which hardfirst keeps in"),
        ("home/models/mine.pt", "also what is read from"),
        ("to-the-store.csv", "which hardfirst keeps in"),
        ("w.pt", "which is also what is read from"),
        ("other.pt", "which is also what is read from"),
        ("w.pt/order.csv", "w.pt cannot be written (Not a directory): name another place"),
    ],
)
def test_an_order_that_would_destroy_something_is_refused_before_a_model_is_opened(
    kept: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, why: str
) -> None:
    monkeypatch.setattr(command_line, "open_model", lambda _settings: pytest.fail("work was begun"))
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to-the-store.csv").symlink_to(kept / "hardfirst.db")
    (tmp_path / "w.pt").write_bytes(b"weights")
    (tmp_path / "other.pt").write_bytes(b"others")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    words = ["--model", "mine.pt" if "mine" in out else "w.pt", "--committee", "other.pt"]
    done = CliRunner().invoke(main, ["rank", str(folder), "--out", out, *words])
    assert done.exit_code == 2, done.output
    assert f"--out is {out}, " in done.output
    assert why in done.output
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_database_that_is_not_there_yet_is_no_place_for_an_order(
    command: Callable[..., Result], folder: Path, clean_home: Path
) -> None:
    assert command(str(folder), "--out", str(clean_home / "hardfirst.db")).exit_code == 2
    assert not (clean_home / "hardfirst.db").exists()


def test_an_order_in_the_folder_of_hardfirst_may_be_written_again(
    command: Callable[..., Result], folder: Path, clean_home: Path
) -> None:
    """In a container nothing else can be written."""
    for _ in range(2):
        done = command(str(folder), "--out", str(clean_home / "order.csv"), "--sheet")
        assert done.exit_code == 0, done.output


def test_an_order_goes_through_a_link_to_the_file_behind_it(ranked: Run, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "order.csv").symlink_to(tmp_path / "real.csv")
    (tmp_path / "sheet.png").symlink_to(tmp_path / "real.png")
    ranked(folder, sheet=tmp_path / "sheet.png")
    assert (tmp_path / "order.csv").is_symlink()
    assert (tmp_path / "sheet.png").is_symlink()
    assert len(cells(tmp_path / "real.csv")) == 8
    with Image.open(tmp_path / "real.png") as sheet:
        assert sheet.width > 0


def test_a_sheet_is_no_pipe_and_its_own_folder_is_named_when_it_cannot_be_written(
    command: Callable[..., Result], folder: Path, tmp_path: Path, models: FakeModels
) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    piped = command(str(folder), "--out", "order.csv", "--sheet", "pipe.png")
    assert "--sheet is pipe.png, which is no regular file" in piped.output
    (tmp_path / "file").write_text("in the way")
    barred = command(str(folder), "--out", "order.csv", "--sheet", "file/sheet.png")
    assert (piped.exit_code, barred.exit_code) == (2, 2)
    assert f"--sheet is file/sheet.png, but {tmp_path / 'file'} cannot be written" in barred.output
    assert models.seen == []
    assert not Path("order.csv").exists()


def test_what_is_left_out_of_a_folder_is_told(
    ranked: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.gif", "b.GIF", "c.heic", "notes.txt", ".d.gif"):
        (folder / name).write_bytes(b"anything")
    scandir = os.scandir

    def closed(path: Path) -> Any:
        if path.name == "below":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    report = ranked(folder)
    assert report.summary["images"] == 7
    assert report.notes == [
        f"the folder {folder / 'below'} was not entered (Permission denied): its images are missing",
        "3 files (.gif, .heic) were not looked at: convert them to one of .avif, .bmp, .jpeg, .jpg, .png, .tif, .tiff, "
        ".webp",
    ]
    with pytest.raises(SettingError, match="below cannot be read: Permission denied"):
        look(folder / "below")


def test_the_documentation_names_every_kind_that_is_looked_at() -> None:
    text = (ROOT / "docs" / "folders.md").read_text()
    assert [suffix for suffix in SUFFIXES if f"`{suffix}`" not in text] == []


def test_a_line_break_in_a_name_is_shown_as_a_question_mark_and_kept_in_the_order(
    command: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "odd").mkdir()
    picture(tmp_path / "odd" / "a\nb\x1b[31m.png", 1)
    done = command("odd", "--out", "order.csv", "--sheet")
    assert done.exit_code == 0, done.output
    assert "odd/a?b?[31m.png" in done.output
    assert [r["path"] for r in cells(tmp_path / "order.csv")] == ["odd/a\nb\x1b[31m.png"]


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("1.png\n2.png\n".encode("utf-16"), 1),
        ("中.png\n".encode("utf-16-le"), 1),
        (b"1.png\n2\0.png\n", 2),
        (b"1.png\n\xff\xd8\xff\x1b\x07\n", 2),
    ],
)
def test_a_list_that_is_no_text_is_refused_without_a_byte_of_it(
    command: Callable[..., Result], folder: Path, tmp_path: Path, body: bytes, line: int
) -> None:
    (tmp_path / "lab.txt").write_bytes(body)
    done = command(str(folder), "--out", "order.csv", "--labelled", "lab.txt")
    assert done.exit_code == 2
    assert f"line {line} of lab.txt is no path: save the list as UTF-8" in done.output
    assert all(c.isprintable() or c == "\n" for c in done.output)


def test_a_line_with_an_unknown_user_or_without_an_end_names_no_image(
    command: Callable[..., Result], folder: Path, tmp_path: Path
) -> None:
    for line, shown in (("~nouser/a.png", "~nouser/a.png"), ("x" * 5000, f"{'x' * 200}...")):
        (tmp_path / "lab.txt").write_text(f"{line}\n")
        done = command(str(folder), "--out", "order.csv", "--labelled", "lab.txt")
        assert done.exit_code == 2
        assert f"line 1 of lab.txt is '{shown}': there is no such image" in done.output
    (tmp_path / "some.txt").write_text(f"~nouser/a.png\n{folder / '1.png'}\n")
    assert command("some.txt", "--out", "order.csv").exit_code == 0


def test_the_model_is_no_second_opinion_of_itself(
    command: Callable[..., Result], folder: Path, tmp_path: Path, settings: Settings, store: Store, models: FakeModels
) -> None:
    (tmp_path / "w.pt").write_bytes(b"weights")
    (tmp_path / "link.pt").symlink_to(tmp_path / "w.pt")
    for name in ("w.pt", "link.pt"):
        done = command(str(folder), "--out", "order.csv", "--model", "w.pt", "--committee", f"flip,{name}")
        assert done.exit_code == 2
        assert f"--committee names '{name}', which is the model itself" in done.output
    copied = settings.model_copy(update={"committee": ("copy.pt",)})
    with pytest.raises(SettingError, match=r"'copy\.pt', which holds the same weights as the model"):
        Scorer(store, models, models.base(""), copied)


def test_nobody_is_advised_to_ask_former_checkpoints_of_a_folder(
    command: Callable[..., Result], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARDFIRST_COMMITTEE", "checkpoints")
    assert command(str(folder), "--out", "order.csv").exit_code == 0, "a service's own may stand in .env"
    for words in (["--acquisition", "vote_entropy"], ["--committee", "other"]):
        done = command(str(folder), "--out", "order.csv", *words)
        assert done.exit_code == 2
        assert "checkpoints" not in done.output


def test_a_cold_start_is_told_in_the_words_that_were_typed(
    command: Callable[..., Result], folder: Path, models: FakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    models.usable = False
    cold = replace(models.base(""), reason="HARDFIRST_MODEL is yolo11n.yaml: a network without knowledge")
    monkeypatch.setattr(command_line, "open_model", lambda _settings: (models, cold))
    typed = command(str(folder), "--out", "order.csv", "--model", "yolo11n.yaml")
    assert "--model is yolo11n.yaml: a network without knowledge" in typed.output
    assert "HARDFIRST_MODEL" not in typed.output
    assert "HARDFIRST_MODEL is yolo11n.yaml" in command(str(folder), "--out", "order.csv").output
