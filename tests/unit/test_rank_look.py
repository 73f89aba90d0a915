"""`hardfirst rank`: which files of a folder or a list are images to rank, and what is said of the others."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from PIL import Image, UnidentifiedImageError

from common.errors import MediaError, SettingError
from common.experiments.files import SUFFIXES, damage, find_labelled, look, read_image
from common.experiments.ranking import label_counts, project_classes
from common.ports import Model
from tests.fakes import picture
from tests.test_docs import ROOT
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


def test_the_sentence_about_a_damaged_file_does_not_hang_on_who_opens_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jpg").write_text("no image")
    pillows = Image.open

    def of_ultralytics(*given: Any) -> Any:
        """Of a file that is no image it wants one more package."""
        try:
            return pillows(*given)
        except UnidentifiedImageError:
            raise ModuleNotFoundError("No module named 'pi_heif'") from None

    sentence = "a.jpg: damaged, cut off or no image: copy it again"
    assert damage(tmp_path / "a.jpg", 10**6) == sentence
    monkeypatch.setattr(Image, "open", of_ultralytics)
    assert damage(tmp_path / "a.jpg", 10**6) == sentence


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
