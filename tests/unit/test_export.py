"""Exports: what a round sees, as files that can be taken away."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from common import export
from common.domain import LabelledBox
from common.errors import SettingError, TrainingError, UnknownNameError
from common.export import labelled_set, write_export
from common.yolo.dataset import Manifest, read_manifest, write_dataset
from tests.fakes import World, settle
from tests.unit.cli_runs import run, sentence
from tests.unit.test_loop import KEY, label
from tests.unit.test_round_commands import world  # noqa: F401 - a fixture
from tests.unit.way_back_world import make, row_of

ORIGIN = {"project": KEY, "round": 1, "revision": 3}


def two_rounds(folder: Path) -> World:
    """Rounds on 12 and 18 labels, some of which validate."""
    made = make(folder, 24)
    made.tools.settings = made.tools.settings.model_copy(update={"min_new_labels": 6, "validation_share": 0.9})
    settle(made)
    for count in (12, 6):
        label(made, count)
        settle(made)
        made.clock[0] += 61
        settle(made)
        made.trainer.finish()
        settle(made)
    assert len(made.trainer.started) == 2
    return made


def the_rounds_own(world: World, number: int, folder: Path) -> Manifest:  # noqa: F811
    """The manifest of the data set that the trainer of a round was given."""
    spec = world.trainer.started[number - 1]
    write_dataset(folder, world.trainer.samples[number - 1], world.trainer.validation[number - 1], spec.classes)
    return read_manifest(folder)


@pytest.mark.parametrize("number", [1, 2])
def test_an_export_holds_exactly_what_its_round_saw(tmp_path: Path, number: int) -> None:
    made = two_rounds(tmp_path)
    own = the_rounds_own(made, number, tmp_path / "own")
    assert own.count("val") > 0
    found = labelled_set(made.tools, row_of(made), number)
    written = write_export(found, tmp_path / "out", ORIGIN, links=False)
    assert sorted(written.entries, key=lambda e: e.id) == sorted(own.entries, key=lambda e: e.id)
    assert (written.classes, written.foreign, written.reports) == (own.classes, own.foreign, own.reports)
    for entry in own.entries:
        image = tmp_path / "out/images" / entry.split / entry.file
        assert hashlib.sha256(image.read_bytes()).hexdigest() == entry.image
        text = (tmp_path / "out/labels" / entry.split / entry.file).with_suffix(".txt")
        assert hashlib.sha256(text.read_bytes()).hexdigest() == entry.label


def test_without_a_number_it_is_what_a_round_would_see_now(tmp_path: Path) -> None:
    made = two_rounds(tmp_path)
    label(made, 6)
    settle(made)
    now = labelled_set(made.tools, row_of(made))
    made.clock[0] += 61
    settle(made)
    assert sorted(s.id for s in made.trainer.samples[2]) == sorted(s.id for s in now.train)
    assert sorted(s.id for s in made.trainer.validation[2]) == sorted(s.id for s in now.val)


def test_a_label_changed_since_is_exported_as_the_round_saw_it(tmp_path: Path) -> None:
    made = two_rounds(tmp_path)
    before = labelled_set(made.tools, row_of(made), 1)
    changed = before.train[0].id
    made.platform.annotate(changed, LabelledBox("dog", (0.5, 0.5, 0.9, 0.9)))
    made.clock[0] += 1000
    settle(made)
    after = {s.id: s.label for s in labelled_set(made.tools, row_of(made), 1).train}
    assert after[changed] == before.train[0].label
    now = labelled_set(made.tools, row_of(made))
    assert {s.id: s.label.boxes[0].name for s in now.train + now.val}.get(changed) == "dog"


@pytest.mark.parametrize("links", [False, True])
def test_an_export_can_be_moved_and_needs_no_path_of_this_machine(tmp_path: Path, links: bool) -> None:
    made = two_rounds(tmp_path)
    write_export(labelled_set(made.tools, row_of(made), 1), tmp_path / "out", ORIGIN, links=links)
    moved = tmp_path / "elsewhere"
    shutil.move(tmp_path / "out", moved)
    assert sorted(p.name for p in moved.iterdir()) == ["data.yaml", "images", "labels", "manifest.json"]
    data = json.loads((moved / "data.yaml").read_text())
    assert data == {"train": "images/train", "val": "images/val", "names": ["cat", "dog"]}
    assert str(tmp_path) not in (moved / "manifest.json").read_text()
    images = list(moved.rglob("*.png"))
    assert images
    assert [i.is_symlink() for i in images] == [links] * len(images)
    assert json.loads((moved / "manifest.json").read_text())["export"] == ORIGIN


def test_without_validation_images_the_training_images_stand_in(tmp_path: Path) -> None:
    made = make(tmp_path)
    settle(made)
    label(made, 3)
    settle(made)
    write_export(labelled_set(made.tools, row_of(made)), tmp_path / "out", ORIGIN, links=False)
    assert json.loads((tmp_path / "out/data.yaml").read_text())["val"] == "images/train"


def test_an_earlier_export_is_replaced_and_what_a_person_put_beside_it_stays(tmp_path: Path) -> None:
    made = two_rounds(tmp_path)
    out = tmp_path / "out"
    write_export(labelled_set(made.tools, row_of(made), 2), out, ORIGIN, links=False)
    (out / "labels/train.cache").write_text("of ultralytics")
    (out / "notes.txt").write_text("mine")
    export.check_free(out)
    found = write_export(labelled_set(made.tools, row_of(made), 1), out, ORIGIN, links=False)
    assert len(list(out.rglob("*.png"))) == len(found.entries) == 12
    assert not (out / "labels/train.cache").exists()
    assert (out / "notes.txt").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".out")] == []


@pytest.mark.parametrize("holds", ["a.jpg", "manifest.json"])
def test_a_folder_with_other_things_is_left_alone(tmp_path: Path, holds: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / holds).write_text("{}")
    with pytest.raises(SettingError, match="which holds other things: name a new or an empty folder"):
        export.check_free(out)
    with pytest.raises(SettingError, match="which is a file: name a folder"):
        export.check_free(out / holds)


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    made = two_rounds(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match=r"--out is .*, which cannot be written \(Not a directory\)"):
        write_export(labelled_set(made.tools, row_of(made), 1), tmp_path / "file/out", ORIGIN, links=False)


def test_a_write_that_fails_half_way_leaves_the_earlier_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = two_rounds(tmp_path)
    out = tmp_path / "out"
    write_export(labelled_set(made.tools, row_of(made), 1), out, ORIGIN, links=False)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export.shutil, "copyfile", full)
    with pytest.raises(SettingError, match="No space left on device"):
        write_export(labelled_set(made.tools, row_of(made), 2), out, ORIGIN, links=False)
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".out")] == []


@pytest.mark.parametrize("moved", range(4))
def test_a_kill_while_an_export_takes_its_place_leaves_none_that_looks_whole_and_the_next_one_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    made = two_rounds(tmp_path)
    out = tmp_path / "out"
    write_export(labelled_set(made.tools, row_of(made), 1), out, ORIGIN, links=False)
    replace, done = Path.replace, []

    def killed(path: Path, target: Path) -> Path:
        if Path(target).parent == out and Path(target).name in export.PARTS:
            if len(done) == moved:
                raise KeyboardInterrupt
            done.append(target)
        return replace(path, target)

    second = labelled_set(made.tools, row_of(made), 2)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            write_export(second, out, ORIGIN, links=False)
    assert not (out / "manifest.json").exists()
    export.check_free(out)
    found = write_export(labelled_set(made.tools, row_of(made), 2), out, ORIGIN, links=False)
    assert read_manifest(out) == found
    assert sorted(p.name for p in out.iterdir()) == sorted(export.PARTS)


def test_nothing_to_export_and_unknown_rounds_are_said(tmp_path: Path) -> None:
    made = make(tmp_path)
    settle(made)
    with pytest.raises(UnknownNameError, match=r"no round 3; there are \[\]"):
        labelled_set(made.tools, row_of(made), 3)
    with pytest.raises(TrainingError, match="there is nothing to train on"):
        write_export(labelled_set(made.tools, row_of(made)), tmp_path / "out", ORIGIN, links=False)
    assert not (tmp_path / "out").exists()


def test_the_command_tells_what_it_wrote(world: World, tmp_path: Path) -> None:  # noqa: F811
    label(world, 3)
    settle(world)
    out = tmp_path / "taken"
    assert run("export", "--project", KEY, "--out", str(out)).stdout.splitlines() == [
        f"3 images to train on, 0 to measure on, 3 boxes: {out}/data.yaml"
    ]
    found = json.loads(run("export", "--project", KEY, "--out", str(out), "--links", "--json").stdout)
    assert (found["project"], found["folder"], found["round"], found["train"]) == (KEY, str(out), None, 3)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/a").write_text("")
    assert "which holds other things" in sentence("export", "--project", KEY, "--out", str(tmp_path / "full"), code=2)
    assert sentence("export", "--project", KEY, "--round", "5", "--out", "new", code=2) == "no round 5; there are [1]"
