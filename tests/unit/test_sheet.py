"""The contact sheet: boxes where the model put them, words that fit, nothing that makes it fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageColor, ImageDraw

from common.experiments import sheet
from common.experiments.sheet import Card, draw_sheet

WHITE = (255, 255, 255)
DOUBT, SURE = (ImageColor.getrgb(c) for c in (sheet._DOUBT, sheet._SURE))


def photo(path: Path, size: tuple[int, int] = (100, 80), colour: Any = WHITE, **saved: Any) -> Path:
    Image.new("RGB", size, colour).save(path, **saved)
    return path


def card(path: Path, rank: int = 1, **given: Any) -> Card:
    return Card(path, rank, 0.5, given.pop("reason", "one box perhaps kitty"), **given)


def boxes(*scored: tuple[tuple[float, float, float, float], float]) -> dict[str, Any]:
    return {
        "boxes": np.array([b for b, _ in scored], np.float32),
        "scores": np.array([s for _, s in scored], np.float32),
        "names": ["kitty"] * len(scored),
    }


def colours(drawn: Image.Image, colour: tuple[int, ...], *, below: int = sheet._HEAD) -> int:
    """Pixels of one colour under the heading."""
    return int((np.asarray(drawn)[below:] == colour).all(axis=2).sum())


def test_at_most_24_images_six_in_a_row(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.png")
    whole = draw_sheet([card(path, i) for i in range(30)], "title")
    assert whole.size == draw_sheet([card(path, i) for i in range(24)], "title").size
    assert whole.height > 3 * draw_sheet([card(path)] * 6, "title").height / 2
    assert draw_sheet([card(path)] * 6, "title").width == whole.width


def test_the_page_is_light_and_an_order_of_nothing_is_a_page_too() -> None:
    empty = draw_sheet([], "nothing to label")
    assert np.asarray(empty).mean() > 200


def test_sure_and_unsure_boxes_are_told_apart_and_weak_ones_left_out(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.png")
    one = {"size": (100, 80)}
    sure = draw_sheet([card(path, **one, **boxes(((20, 20, 60, 60), 0.95)))], "t")
    unsure = draw_sheet([card(path, **one, **boxes(((20, 20, 60, 60), 0.5)))], "t")
    weak = draw_sheet([card(path, **one, **boxes(((20, 20, 60, 60), 0.1)))], "t")
    assert colours(sure, SURE) > 0 == colours(sure, DOUBT)
    assert colours(unsure, DOUBT) > 0 == colours(unsure, SURE)
    assert colours(weak, DOUBT) == colours(weak, SURE) == 0


def test_a_box_lies_where_the_object_is_in_a_turned_photograph(tmp_path: Path) -> None:
    """EXIF orientation 6: stored lying, shown upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = photo(tmp_path / "a.jpg", (200, 100), exif=exif)
    drawn = draw_sheet([card(path, size=(100, 200), **boxes(((0, 0, 100, 200), 0.5)))], "t")
    rows, columns = np.nonzero((np.asarray(drawn)[sheet._HEAD :] == DOUBT).all(axis=2))
    assert rows.max() - rows.min() == pytest.approx(sheet._HIGH, abs=6)
    assert columns.max() - columns.min() == pytest.approx(sheet._HIGH / 2, abs=6)


def test_boxes_beyond_the_edge_and_of_no_size_are_drawn_inside(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.png")
    odd = boxes(((-50, -50, 500, 500), 0.5), ((99, 79, 99, 79), 0.5), ((-9, -9, -5, -5), 0.9))
    assert colours(draw_sheet([card(path, size=(100, 80), **odd)], "t"), DOUBT) > 0


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n"])
def test_an_image_that_cannot_be_opened_leaves_its_place_grey(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    drawn = draw_sheet([card(tmp_path / "a.png"), card(tmp_path / "gone.png")], "t")
    assert colours(drawn, ImageColor.getrgb(sheet._EMPTY)) > sheet._WIDE * sheet._HIGH


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16", "1"])
def test_every_kind_of_picture_is_shown(tmp_path: Path, mode: str) -> None:
    flat = np.full((80, 100), 200, np.uint8)
    made = Image.fromarray(flat.astype(np.uint16) * 256) if mode == "I;16" else Image.fromarray(flat).convert(mode)
    made.save(tmp_path / "a.png")
    drawn = draw_sheet([card(tmp_path / "a.png")], "t")
    assert colours(drawn, ImageColor.getrgb(sheet._EMPTY)) < sheet._WIDE * sheet._HIGH / 2


def test_marks_are_seen(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.png")
    for mark, colour in sheet._MARKS.items():
        rgb = ImageColor.getrgb(colour)
        assert colours(draw_sheet([card(path, marks=[mark])], "t"), rgb) > 0
        assert colours(draw_sheet([card(path)], "t"), rgb) == 0


@pytest.mark.parametrize("text", ["short", "word " * 60, "w" * 300, "", "Снимок 图片 été", "a\udcff"])
def test_words_fit_their_place(tmp_path: Path, text: str) -> None:
    pen = ImageDraw.Draw(Image.new("RGB", (9, 9)))
    font = sheet._font(14)
    shown = sheet.plain(Path(text)) if text else text
    lines = sheet._wrapped(pen, shown, font, 200, 3)
    assert len(lines) <= 3
    assert all(pen.textlength(line, font) <= 200 for line in lines)
    draw_sheet([card(photo(tmp_path / "a.png"), reason=text)], text, text)


def test_what_does_not_fit_keeps_its_ends() -> None:
    pen = ImageDraw.Draw(Image.new("RGB", (9, 9)))
    short = sheet._fitted(pen, "a_very_long_name_of_a_camera_0001.jpg", sheet._font(12), 120)
    assert short.startswith("a_very")
    assert short.endswith("1.jpg")
    assert "..." in short


def test_a_card_with_too_few_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="boxes, scores and names"):
        Card(tmp_path, 1, 0.5, "", boxes=np.zeros((1, 4), np.float32))
