"""Labelled sets as they lie on disks, and splits that keep groups whole."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.domain import Label
from common.errors import SettingError
from common.experiments.backtest.data import DataSet, label_path, load, require_apart, resplit
from common.ports import TrainingSample

YAML = "train: train.txt\nval: val.txt\nnames: {0: cat, 1: dog}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three training images, one to measure on; the second has no label file."""
    home = tmp_path / "pets"
    for kind in ("images", "labels"):
        (home / kind).mkdir(parents=True)
    for name in "abcd":
        (home / "images" / f"{name}.jpg").write_bytes(b"\xff\xd8\xff" + name.encode())
    for name, text in {"a": "0 .5 .5 .2 .4\n1 .9 .5 .4 .2\n", "c": "", "d": "1 .5 .5 .2 .2\n"}.items():
        (home / "labels" / f"{name}.txt").write_text(text)
    (home / "train.txt").write_text("./images/a.jpg\n./images/b.jpg\n\n./images/c.jpg\n")
    (home / "val.txt").write_text("./images/d.jpg\n")
    (home / "data.yaml").write_text(YAML)
    return home


def test_lists_labels_and_classes_are_read(folder: Path) -> None:
    data = load(folder / "data.yaml")
    assert (data.name, data.classes) == ("pets", ("cat", "dog"))
    assert [s.id for s in data.train] == ["a.jpg", "b.jpg", "c.jpg"]
    assert data.class_counts().tolist() == [[1, 1], [0, 0], [0, 0]]
    cat, dog = data.train[0].label.boxes
    assert (cat.name, cat.xyxy) == ("cat", pytest.approx((0.4, 0.3, 0.6, 0.7)))
    assert dog.xyxy == pytest.approx((0.7, 0.4, 1.0, 0.6)), "cut at the edge"


def test_splits_may_be_folders_and_names_a_list(folder: Path) -> None:
    for split, names in (("train", "ab"), ("val", "d")):
        (folder / split / "images").mkdir(parents=True)
        for name in names:
            (folder / "images" / f"{name}.jpg").rename(folder / split / "images" / f"{name}.jpg")
    (folder / "data.yaml").write_text("path: .\ntrain: [train/images]\nval: val/images\nnames: [cat, dog]\n")
    data = load(folder / "data.yaml", "mine")
    assert (data.name, [s.id for s in data.train], [s.id for s in data.val]) == ("mine", ["a.jpg", "b.jpg"], ["d.jpg"])


def test_a_polygon_counts_as_the_box_around_it(folder: Path) -> None:
    (folder / "labels" / "a.txt").write_text("1 .1 .2 .5 .2 .3 .6\n")
    (box,) = load(folder / "data.yaml").train[0].label.boxes
    assert box.xyxy == pytest.approx((0.1, 0.2, 0.5, 0.6))


@pytest.mark.parametrize(
    ("file", "text", "wanted"),
    [
        ("data.yaml", "train: train.txt\n", "needs the keys train, val and names"),
        ("data.yaml", "{", "is not YAML"),
        ("data.yaml", YAML.replace("cat", "dog"), "names must be distinct"),
        ("data.yaml", YAML.replace("0:", "5:"), "numbered from 0"),
        ("data.yaml", YAML.replace("val.txt", "none.txt"), "neither a folder of images nor a list"),
        ("val.txt", "", "no image is listed"),
        ("val.txt", "./images/z.jpg\n", "does not exist"),
        ("val.txt", "./images/a.jpg\n", "'a.jpg' is listed twice"),
        ("labels/d.txt", "2 .5 .5 .1 .1\n", "line 1: class 2, but data.yaml has classes 0 to 1"),
        ("labels/d.txt", "0.5 .5 .5 .1 .1\n", "class 0.5"),
        ("labels/d.txt", "1 .5 .5 .1\n", "not `class x y width height`"),
        ("labels/d.txt", "1 .5 .5 .1 .1 .9\n", "not `class x y width height`"),
        ("labels/d.txt", "1 .5 nan .1 .1\n", "not `class x y width height`"),
        ("labels/d.txt", "dog .5 .5 .1 .1\n", "not `class x y width height`"),
    ],
)
def test_what_is_wrong_is_one_sentence(folder: Path, file: str, text: str, wanted: str) -> None:
    (folder / file).write_text(text)
    with pytest.raises(SettingError, match=wanted):
        load(folder / "data.yaml")


@pytest.fixture
def latin(folder: Path) -> Path:
    """An image whose name is not UTF-8."""
    if sys.platform != "linux":
        pytest.skip("other systems have no such file names")
    image = folder / "images" / os.fsdecode("caf\xe9.jpg".encode("latin-1"))
    image.write_bytes(b"\xff\xd8\xffx")
    return image


def test_an_image_whose_name_is_not_utf8_is_one_sentence_in_a_list_and_in_a_folder(folder: Path, latin: Path) -> None:
    with (folder / "train.txt").open("ab") as file:
        file.write(b"./images/" + os.fsencode(latin.name) + b"\n")
    with pytest.raises(SettingError, match=r"^image .*/images/caf\?\.jpg: the name is not UTF-8: rename it$"):
        load(folder / "data.yaml")
    (folder / "data.yaml").write_text("train: images\nval: val.txt\nnames: [cat, dog]\n")
    with pytest.raises(SettingError, match=r"caf\?\.jpg: the name is not UTF-8: rename it$"):
        load(folder / "data.yaml")


def test_a_folder_whose_name_is_not_utf8_is_one_sentence(folder: Path, latin: Path) -> None:
    other = folder.rename(folder.with_name(os.fsdecode(b"pets\xe9")))
    with pytest.raises(SettingError, match=r"^--data .*/pets\?/data\.yaml: the name is not UTF-8: rename it$"):
        load(other / "data.yaml")
    link = other.with_name("link")
    link.symlink_to(other)
    with pytest.raises(SettingError, match=r"^image .*/pets\?/images/a\.jpg: the name is not UTF-8: rename it$"):
        load(link / "data.yaml")


def test_text_that_is_not_utf8_is_one_sentence(folder: Path) -> None:
    (folder / "labels" / "d.txt").write_bytes(b"caf\xe9 .5 .5 .1 .1\n")
    with pytest.raises(SettingError, match="line 1: not `class x y width height`"):
        load(folder / "data.yaml")
    (folder / "val.txt").write_bytes(b"\xff\xd8\xff\0\0")
    with pytest.raises(SettingError, match=r"line 1 of .*val\.txt is no path: save the list as UTF-8"):
        load(folder / "data.yaml")
    (folder / "data.yaml").write_bytes(YAML.replace("cat", "caf\xe9").encode("latin-1"))
    with pytest.raises(SettingError, match=r"is not YAML in UTF-8$"):
        load(folder / "data.yaml")


@pytest.mark.parametrize("names", ["{0: cat, one: dog}", "{0: cat, '1': dog}", "{0: cat, null: dog}"])
def test_names_numbered_in_two_ways_are_one_sentence(folder: Path, names: str) -> None:
    (folder / "data.yaml").write_text(f"train: train.txt\nval: val.txt\nnames: {names}\n")
    with pytest.raises(SettingError, match="names must be distinct class names, a list or numbered from 0"):
        load(folder / "data.yaml")


def test_no_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="cannot be read"):
        load(tmp_path / "data.yaml")


def test_the_digest_knows_images_labels_and_groups(folder: Path) -> None:
    first = load(folder / "data.yaml")
    assert load(folder / "data.yaml").digest() == first.digest()
    assert replace(first, group={"a.jpg": "x"}).digest() != first.digest()
    (folder / "labels" / "c.txt").write_text("0 .5 .5 .1 .1\n")
    relabelled = load(folder / "data.yaml").digest()
    (folder / "images" / "d.jpg").write_bytes(b"\xff\xd8\xffother")
    assert len({first.digest(), relabelled, load(folder / "data.yaml").digest()}) == 3


def test_a_group_in_both_splits_is_named_and_refused(folder: Path) -> None:
    groups = folder / "groups.csv"
    groups.write_text("image,video,second\na.jpg,one,1\nb.jpg,two,2\nc.jpg,two,3\nd.jpg,two,4\n")
    data = load(folder / "data.yaml", groups=groups)
    with pytest.raises(SettingError, match=r"pets: .*share 1 groups \(two\)"):
        require_apart(data)
    apart = resplit(data, 0)
    require_apart(apart)
    assert [s.id for s in apart.val] == ["a.jpg"]


def test_an_image_without_a_group_is_named(folder: Path) -> None:
    (folder / "groups.csv").write_text("image,video\na.jpg,one\n")
    with pytest.raises(SettingError, match=r"no line for image 'b.jpg' \(3 are missing\)"):
        load(folder / "data.yaml", groups=folder / "groups.csv")


def test_labels_lie_where_ultralytics_looks_for_them() -> None:
    assert label_path(Path("/images/x/images/a.b.png")) == Path("/images/x/labels/a.b.txt")
    assert label_path(Path("/data/a.png")) == Path("/data/a.txt")


def grouped(sizes: list[int], val: int) -> DataSet:
    samples = [
        TrainingSample(f"{g}-{i}", Path("x"), Label("x", ())) for g, size in enumerate(sizes) for i in range(size)
    ]
    return DataSet("d", ("a",), tuple(samples[val:]), tuple(samples[:val]), {s.id: s.id.split("-")[0] for s in samples})


@given(sizes=st.lists(st.integers(1, 9), min_size=2, max_size=8), seed=st.integers(0, 99), data=st.data())
def test_new_splits_hold_every_image_once_and_no_group_twice(sizes: list[int], seed: int, data: st.DataObject) -> None:
    before = grouped(sizes, data.draw(st.integers(1, sum(sizes) - 1)))
    after = resplit(before, seed)
    require_apart(after)
    assert after.train
    assert after.val
    assert sorted(s.id for s in after.train + after.val) == sorted(s.id for s in before.train + before.val)
    assert resplit(before, seed) == after


@given(n=st.integers(4, 40), seed=st.integers(0, 99), data=st.data())
def test_without_groups_new_splits_have_the_old_sizes(n: int, seed: int, data: st.DataObject) -> None:
    before = replace(grouped([1] * n, data.draw(st.integers(1, n - 1))), group={})
    assert len(resplit(before, seed).val) == len(before.val)


def test_one_group_cannot_be_split() -> None:
    with pytest.raises(SettingError, match="one group only"):
        resplit(grouped([5], 2), 0)
