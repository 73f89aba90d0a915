"""Training sets: what is written, what is left out, and that nothing disappears silently."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.domain import Label, LabelledBox
from common.errors import TrainingError
from common.ports import TrainingSample
from common.yolo.dataset import label_text, read_manifest, safe_name, write_dataset

PNG = b"\x89PNG\r\n\x1a\n"
CAT = LabelledBox("cat", (0.1, 0.2, 0.5, 0.6))


def sample(folder: Path, name: str, *boxes: LabelledBox, file: str = "", content: bytes = PNG) -> TrainingSample:
    image = folder / (file or f"{len(list(folder.iterdir()))}.png")
    image.write_bytes(content)
    return TrainingSample(name, image, Label(name, boxes))


def unchecked(name: str, *xyxy: float) -> LabelledBox:
    """A box that never went through the checks of its own class."""
    box = LabelledBox(name, (0, 0, 1, 1))
    object.__setattr__(box, "xyxy", xyxy)
    return box


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    folder.mkdir()
    return folder


def test_a_training_set_is_links_text_files_and_two_lists(tmp_path: Path, media: Path) -> None:
    run = tmp_path / "run"
    data = write_dataset(run, [sample(media, "1", CAT)], [sample(media, "2")], ["dog", "cat"])
    assert data == run / "data.yaml"
    assert (run / "labels/train/1.txt").read_text() == "1 0.300000 0.400000 0.400000 0.400000\n"
    assert (run / "images/train/1.png").is_symlink()
    assert (run / "train.txt").read_text() == f"{run}/images/train/1.png\n"
    assert (run / "val.txt").read_text() == f"{run}/images/val/2.png\n"
    assert json.loads(data.read_text()) == {
        "path": str(run), "train": "train.txt", "val": "val.txt", "names": ["dog", "cat"],
    }  # fmt: skip


def test_an_empty_label_is_an_empty_file_and_trains_as_a_negative(tmp_path: Path, media: Path) -> None:
    write_dataset(tmp_path / "run", [sample(media, "1")], [], ["cat"])
    assert (tmp_path / "run/labels/train/1.txt").read_text() == ""
    assert read_manifest(tmp_path / "run").count("train") == 1


def test_a_box_of_a_foreign_class_leaves_training_and_is_counted(tmp_path: Path, media: Path) -> None:
    cow = LabelledBox("cow", (0, 0, 1, 1))
    write_dataset(tmp_path / "run", [sample(media, "1", cow, CAT, cow)], [], ["cat"])
    manifest = read_manifest(tmp_path / "run")
    assert manifest.foreign == {"cow": 2}
    assert manifest.entries[0].boxes == 1
    assert manifest.reports == ("sample 1: 2 boxes of classes not in use: cow",)


def test_a_box_that_leaves_the_image_is_clipped_and_reported() -> None:
    text, reports, _ = label_text([unchecked("cat", -0.2, 0.0, 0.5, 1.3)], ["cat"])
    assert text == "0 0.250000 0.500000 0.500000 1.000000\n"
    assert len(reports) == 1
    assert "clipped" in reports[0]


@pytest.mark.parametrize("xyxy", [(0.1, 0.1, 0.1 + 1e-9, 0.5), (1.2, 0.1, 1.5, 0.5), (float("nan"), 0.0, 1.0, 1.0)])
def test_a_box_without_area_is_left_out_but_its_image_stays(xyxy: tuple[float, ...]) -> None:
    text, reports, _ = label_text([unchecked("cat", *xyxy), CAT], ["cat"])
    assert text.count("\n") == 1
    assert "left out" in reports[0]


@given(st.tuples(*[st.floats(-0.5, 1.5)] * 4))
def test_every_line_that_is_written_lies_inside_the_image(xyxy: tuple[float, ...]) -> None:
    text, _, _ = label_text([unchecked("cat", *xyxy)], ["cat"])
    for line in text.splitlines():
        cx, cy, w, h = map(float, line.split()[1:])
        assert w > 0
        assert h > 0
        assert -2e-6 <= cx - w / 2 <= cx + w / 2 <= 1 + 2e-6
        assert -2e-6 <= cy - h / 2 <= cy + h / 2 <= 1 + 2e-6


@given(st.lists(st.text(min_size=1), unique=True, min_size=2, max_size=5))
def test_two_samples_never_share_a_file_name_even_where_case_does_not_count(names: list[str]) -> None:
    files = [safe_name(name) for name in names]
    assert len({file.lower() for file in files}) == len(names)
    assert all(file and "/" not in file and not file.startswith("..") and "\n" not in file for file in files)


def test_an_odd_sample_id_stays_inside_the_folder(tmp_path: Path, media: Path) -> None:
    write_dataset(tmp_path / "run", [sample(media, "../../up\n and away", CAT)], [], ["cat"])
    (link,) = (tmp_path / "run/images/train").iterdir()
    assert (tmp_path / "run/labels/train" / f"{link.stem}.txt").exists()
    assert (tmp_path / "run/train.txt").read_text().count("\n") == 1


def test_an_image_without_a_suffix_is_linked_under_the_one_its_content_asks_for(tmp_path: Path, media: Path) -> None:
    write_dataset(tmp_path / "run", [sample(media, "1", CAT, file="ab12", content=b"\xff\xd8\xff\xe0")], [], ["cat"])
    assert (tmp_path / "run/images/train/1.jpg").is_symlink()


def test_an_image_that_is_none_is_reported_with_its_sample(tmp_path: Path, media: Path) -> None:
    page = sample(media, "7", file="page", content=b"<html>")
    gone = TrainingSample("8", media / "gone.jpg", Label("8", ()))
    write_dataset(tmp_path / "run", [sample(media, "1"), page, gone], [], ["cat"])
    reports = read_manifest(tmp_path / "run").reports
    assert [report.split(":")[0] for report in reports] == ["sample 7", "sample 8"]


def test_a_sample_that_comes_twice_trains_once(tmp_path: Path, media: Path) -> None:
    write_dataset(tmp_path / "run", [sample(media, "1"), sample(media, "1")], [], ["cat"])
    assert read_manifest(tmp_path / "run").count("train") == 1
    assert "twice" in read_manifest(tmp_path / "run").reports[0]


def test_the_same_set_written_again_is_not_touched_while_a_training_reads_it(tmp_path: Path, media: Path) -> None:
    samples = [sample(media, "1", CAT)]
    write_dataset(tmp_path / "run", samples, [], ["cat"])
    before = (tmp_path / "run/labels/train/1.txt").stat().st_ino
    write_dataset(tmp_path / "run", samples, [], ["cat"])
    assert (tmp_path / "run/labels/train/1.txt").stat().st_ino == before


def test_another_set_in_the_same_folder_leaves_nothing_of_the_old_one(tmp_path: Path, media: Path) -> None:
    write_dataset(tmp_path / "run", [sample(media, "1"), sample(media, "2")], [], ["cat"])
    (tmp_path / "run/labels/train.cache").write_bytes(b"old")
    write_dataset(tmp_path / "run", [sample(media, "3")], [], ["cat"])
    assert sorted(p.name for p in (tmp_path / "run/labels").rglob("*")) == ["3.txt", "train", "val"]


def test_the_manifest_says_which_images_are_measured_on(tmp_path: Path, media: Path) -> None:
    val = [sample(media, "2", CAT), sample(media, "3")]
    write_dataset(tmp_path / "run", [sample(media, "1", CAT)], val, ["cat"])
    manifest = read_manifest(tmp_path / "run")
    assert [(e.id, e.split, e.boxes) for e in manifest.entries] == [("1", "train", 1), ("2", "val", 1), ("3", "val", 0)]
    assert (manifest.count("train"), manifest.count("val")) == (1, 2)
    assert all((tmp_path / "run/images" / e.split / e.file).is_symlink() for e in manifest.entries)


def test_the_same_samples_have_the_same_content_hashes_whenever_they_are_written(tmp_path: Path, media: Path) -> None:
    import hashlib

    train, val = [sample(media, "1", CAT)], [sample(media, "2", CAT, content=PNG + b"2")]
    manifests = []
    for name in "ab":
        write_dataset(tmp_path / name, train, val, ["cat"])
        manifests.append(read_manifest(tmp_path / name))
    assert manifests[0] == manifests[1] == read_manifest(tmp_path / "a")
    assert (tmp_path / "a/manifest.json").read_bytes() == (tmp_path / "b/manifest.json").read_bytes()
    one, two = manifests[0].entries
    assert [one.image, two.image] == [hashlib.sha256(content).hexdigest() for content in (PNG, PNG + b"2")]
    assert one.label == hashlib.sha256((tmp_path / "a/labels/train/1.txt").read_bytes()).hexdigest()


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_bad_box_never_takes_its_image_with_it(tmp_path: Path, media: Path, split: str) -> None:
    bad = sample(media, "2", unchecked("cat", -0.3, 0.1, 1.4, 0.5), unchecked("cat", 0.5, 0.5, 0.5, 0.9), CAT)
    good = sample(media, "1", CAT)
    write_dataset(tmp_path / "run", *([good, bad], []) if split == "train" else ([good], [bad]), ["cat"])
    manifest = read_manifest(tmp_path / "run")
    (entry,) = [e for e in manifest.entries if e.id == "2"]
    assert (entry.split, entry.boxes) == (split, 2)
    assert len(manifest.reports) == 2
    assert all(report.startswith("sample 2: ") for report in manifest.reports)


def test_a_class_name_full_of_syntax_survives_data_yaml(tmp_path: Path, media: Path) -> None:
    yaml = pytest.importorskip("yaml")
    names = ["yes", "1", 'a: "b"', "# no", "été", "🐈", "[x]"]
    data = write_dataset(tmp_path / "run", [sample(media, "1")], [], names)
    assert yaml.safe_load(data.read_text())["names"] == names


def test_a_set_without_images_says_how_many_it_was_given(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no usable image among 0"):
        write_dataset(tmp_path / "run", [], [], ["cat"])
