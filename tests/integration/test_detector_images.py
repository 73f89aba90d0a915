"""Reduced decoding: large photographs are read faster, upright, and boxes come back in pixels of the original."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from common.domain import Prediction
from common.geometry import iou
from common.yolo.detector import YoloDetector
from common.yolo.images import Frame, Letterbox, Reader
from tests.integration.yolo_home import home_fixture  # noqa: F401 - a fixture

pytestmark = pytest.mark.integration
SIZE = 320
TIMES = 8
"""How much larger than the data set's the large photographs are."""


@pytest.fixture(scope="module")
def large(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Photographs of data sets at eight times their size, with a fine texture."""
    folder = tmp_path_factory.mktemp("large")
    rng = np.random.default_rng(0)
    made = []
    for name in ("plates", "cards"):
        for photo in sorted((shared / "data" / name / "images").glob("*.jpg"))[:4]:
            with Image.open(photo) as image:
                big = np.asarray(image.convert("RGB").resize((image.width * TIMES, image.height * TIMES)), np.float32)
            texture = np.kron(rng.normal(0, 2, (big.shape[0] // 2, big.shape[1] // 2)), np.ones((2, 2)))[..., None]
            made.append(folder / photo.name)
            Image.fromarray((big + texture).clip(0, 255).astype(np.uint8)).save(made[-1], quality=92)
    return made


@pytest.fixture(scope="module")
def weights(shared: Path) -> Path:
    return shared / "weights/yolo11n-rebuilt.pt"


def seen(answers: list[Prediction | str]) -> list[Prediction]:
    assert all(isinstance(answer, Prediction) for answer in answers), answers
    return [answer for answer in answers if isinstance(answer, Prediction)]


def read(path: Path, *, reduced: bool) -> Frame:
    frame = Reader(Letterbox(SIZE, 32), 1, reduced=reduced).read(path)
    assert isinstance(frame, Frame)
    return frame


@pytest.mark.parametrize(
    ("side", "factor"), [(319, 1), (640, 1), (1279, 1), (1280, 2), (2560, 4), (5120, 8), (9999, 8)]
)
def test_a_photograph_is_reduced_only_where_twice_the_size_is_left(side: int, factor: int) -> None:
    fit = Letterbox(SIZE, 32)
    assert fit.reduction(side, side // 2) == fit.reduction(side // 2, side) == factor


def test_confident_boxes_stay_where_they_are(weights: Path, large: list[Path]) -> None:
    """95 of 100 at an IoU of .95, in pixels of the original."""
    full, fast = (seen(YoloDetector(weights, SIZE, "cpu", reduced_decode=r).predict(large)) for r in (False, True))
    kept = total = 0
    for a, b in zip(full, fast, strict=True):
        assert (a.width, a.height) == (b.width, b.height)
        sure = a.instances.boxes[a.instances.confidence >= 0.25]
        total += len(sure)
        if len(sure) and len(b.instances):
            kept += int((iou(sure, b.instances.boxes).max(axis=1) >= 0.95).sum())
    assert total > 0
    assert kept >= 0.95 * total


def test_the_setting_turns_it_off(weights: Path, large: list[Path]) -> None:
    from ultralytics import YOLO

    detector = YoloDetector(weights, SIZE, "cpu", threads=1, reduced_decode=False)
    (answer,) = seen(detector.predict(large[:1]))
    (result,) = YOLO(str(weights)).predict(str(large[0]), imgsz=SIZE, conf=0.05, device="cpu", verbose=False)
    np.testing.assert_array_equal(answer.instances.boxes, result.boxes.xyxy.numpy())
    assert read(large[0], reduced=True).pixels.tolist() != read(large[0], reduced=False).pixels.tolist()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_large_photo_is_upright_however_the_camera_was_held(tmp_path: Path, orientation: int) -> None:
    gradient = np.add.outer(np.linspace(0, 90, 1000), np.linspace(0, 160, 1401)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.stack([gradient, gradient // 2, 255 - gradient], -1)).save(tmp_path / "a.jpg", exif=exif)
    fast, full = (read(tmp_path / "a.jpg", reduced=r) for r in (True, False))
    with Image.open(tmp_path / "a.jpg") as image:
        assert (fast.width, fast.height) == ImageOps.exif_transpose(image).size == (full.width, full.height)
    assert fast.pixels.shape == full.pixels.shape
    assert np.abs(fast.pixels.astype(int) - full.pixels).max() <= 6


def test_boxes_of_odd_sizes_come_back_to_the_same_pixels(tmp_path: Path) -> None:
    """Reduced sides are rounded up: sizes must follow from the original all the same."""
    Image.new("RGB", (2563, 1921), "white").save(tmp_path / "a.jpg")
    fast, full = (read(tmp_path / "a.jpg", reduced=r) for r in (True, False))
    assert (fast.pixels.shape, fast.width, fast.height) == (full.pixels.shape, 2563, 1921)
    assert (fast.pixels == full.pixels).all()


def test_a_large_image_that_is_no_jpeg_is_decoded_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2
    from ultralytics.utils import patches

    flags: list[Any] = []
    imread = patches.imread
    monkeypatch.setattr(patches, "imread", lambda name, flag: (flags.append(flag), imread(name, flag))[1])
    for name in ("a.png", "a.jpg"):
        Image.new("RGB", (1400, 1300), "red").save(tmp_path / name)
        assert read(tmp_path / name, reduced=True).width == 1400
    assert flags == [cv2.IMREAD_COLOR, cv2.IMREAD_REDUCED_COLOR_2]


def test_a_large_photo_that_is_damaged_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 no photograph")
    said = Reader(Letterbox(SIZE, 32), 1, reduced=True).read(tmp_path / "cut.jpg")
    assert isinstance(said, str)
    assert "cut.jpg cannot be decoded" in said
