"""Answers from a folder of YOLO labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import HardfirstError, SettingError
from common.sample.oracle import FolderOracle, NoAnswerError, class_names


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    folder = tmp_path / "labels"
    folder.mkdir()
    (folder / "one.txt").write_text("1 0.5 0.5 0.5 0.25\n0 0.1 0.1 0.2 0.2\n")
    (folder / "empty.txt").write_text("")
    return folder


def test_an_answer_holds_every_box_by_class_name(labels: Path) -> None:
    bolt, gear = FolderOracle(labels, ["gear", "bolt"]).answer("one.jpg")
    assert (bolt.name, bolt.xyxy) == ("bolt", (0.25, 0.375, 0.75, 0.625))
    assert (gear.name, gear.xyxy) == ("gear", pytest.approx((0, 0, 0.2, 0.2)))


@pytest.mark.parametrize("name", ["one", "one.jpg", "one.PNG", "some/where/one.jpeg"])
def test_only_the_stem_of_the_image_counts(labels: Path, name: str) -> None:
    oracle = FolderOracle(labels, ["gear", "bolt"])
    assert len(oracle.answer(name)) == 2
    assert name in oracle


def test_a_label_file_that_is_not_utf8_is_named_in_one_sentence(labels: Path) -> None:
    (labels / "one.txt").write_bytes("0 .5 .5 .1 .1\n".encode("utf-16"))
    with pytest.raises(SettingError, match=r"one\.txt is not UTF-8 \(byte 0\): save it as UTF-8 text"):
        FolderOracle(labels, ["gear", "bolt"]).answer("one.jpg")
    (labels / "classes.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(SettingError, match=r"classes\.txt is not UTF-8 \(byte 3\): save it as UTF-8 text, one class"):
        class_names(labels)


def test_numbers_and_words_mixed_in_names_are_one_sentence(labels: Path) -> None:
    (labels.parent / "data.yaml").write_text("names: {0: gear, one: bolt}\n")
    with pytest.raises(SettingError, match="numbered from 0 without gaps, got"):
        class_names(labels)


def test_an_empty_file_is_a_true_negative(labels: Path) -> None:
    assert FolderOracle(labels, ["gear", "bolt"]).answer("empty.jpg") == []


def test_a_missing_file_is_no_answer_in_one_sentence(labels: Path) -> None:
    with pytest.raises(NoAnswerError) as caught:
        FolderOracle(labels, ["gear", "bolt"]).answer("two.jpg")
    assert isinstance(caught.value, HardfirstError)
    assert isinstance(caught.value, KeyError)
    assert str(caught.value).endswith("has no answer for 'two.jpg': there is no two.txt")


def test_a_data_set_folder_is_as_good_as_its_labels_folder(labels: Path) -> None:
    (labels.parent / "classes.txt").write_text("gear\nbolt\n")
    oracle = FolderOracle(labels.parent)
    assert oracle.names == ("empty", "one")
    assert oracle.classes == ("gear", "bolt")


@pytest.mark.parametrize("content", ["names: [gear, bolt]\n", "names:\n  0: gear\n  1: bolt\n"])
def test_class_names_come_from_data_yaml_too(labels: Path, content: str) -> None:
    (labels.parent / "data.yaml").write_text(content)
    assert FolderOracle(labels).classes == ("gear", "bolt")


def test_a_classes_file_among_the_labels_is_no_label(labels: Path) -> None:
    (labels / "classes.txt").write_text("gear\nbolt\n")
    assert FolderOracle(labels).names == ("empty", "one")


def test_without_class_names_the_error_says_what_to_add(labels: Path) -> None:
    with pytest.raises(SettingError, match=r"put classes\.txt .* or data\.yaml"):
        FolderOracle(labels)


@pytest.mark.parametrize("content", ["names: {1: gear, 3: bolt}\n", "names: []\n", "names: [a, a]\n", "{", "7\n"])
def test_a_data_yaml_without_usable_names_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "data.yaml").write_text(content)
    with pytest.raises(SettingError, match=r"data\.yaml"):
        class_names(tmp_path)


def test_a_folder_that_is_not_there_or_holds_no_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="is not a folder"):
        FolderOracle(tmp_path / "absent", ["gear"])
    with pytest.raises(SettingError, match="holds no label file"):
        FolderOracle(tmp_path, ["gear"])


@pytest.mark.parametrize(
    "line",
    [
        "2 .5 .5 .1 .1",
        "-1 .5 .5 .1 .1",
        "0 .5 .5 .1",
        "0 50 50 10 10",
        "gear .5 .5 .1 .1",
        "0 nan .5 .1 .1",
        "inf 1 1 1 1",
    ],
)
def test_a_line_that_is_no_box_is_reported_with_its_number(labels: Path, line: str) -> None:
    (labels / "bad.txt").write_text(f"0 .5 .5 .1 .1\n{line}\n")
    with pytest.raises(SettingError, match=r"line 2 of .*bad\.txt is"):
        FolderOracle(labels, ["gear", "bolt"]).answer("bad.jpg")


def test_a_box_over_the_border_is_clipped_and_one_outside_is_dropped(labels: Path) -> None:
    (labels / "edge.txt").write_text("0 1.0 0.5 0.5 0.5\n1 1.5 0.5 0.2 0.2\n")
    (box,) = FolderOracle(labels, ["gear", "bolt"]).answer("edge.jpg")
    assert box.xyxy == (0.75, 0.25, 1.0, 0.75)


def test_a_polygon_is_answered_by_the_box_around_it(labels: Path) -> None:
    (labels / "poly.txt").write_text("0 0.1 0.2 0.5 0.1 0.3 0.9\n")
    (box,) = FolderOracle(labels, ["gear", "bolt"]).answer("poly.jpg")
    assert box.xyxy == (0.1, 0.1, 0.5, 0.9)
