"""Files that are no image hardfirst reads: one sentence each, and the others go on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from common.experiments.files import damage
from common.media.pixels import pixels
from common.yolo.images import Frame, Letterbox, Reader
from tests.integration.yolo_home import home_fixture  # noqa: F401 - a fixture

pytestmark = pytest.mark.integration


def floats(folder: Path) -> Path:
    import cv2

    path = folder / "floats.tif"
    assert cv2.imwrite(str(path), np.full((40, 60, 3), 0.5, np.float32))
    return path


def long_name(folder: Path) -> Path:
    return folder / f"{'a' * 300}.jpg"


@pytest.mark.parametrize(
    ("odd", "why"), [(floats, "pixels of the type float32"), (long_name, "cannot be decoded: "), (Path, "is not there")]
)
def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path, odd: type[Path], why: str) -> None:
    good = tmp_path / "good.png"
    Image.new("RGB", (60, 40), "red").save(good)
    path = odd(tmp_path)
    reader = Reader(Letterbox(64, 32), 1, reduced=True)
    (_, first), (_, said), (_, last) = reader.frames([good, path, good], 2)
    assert isinstance(first, Frame)
    assert isinstance(last, Frame)
    assert isinstance(said, str)
    assert said.startswith(f"the image {path.name} ")
    assert why in said


def test_a_file_that_is_no_image_is_the_same_to_pillow_once_ultralytics_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("no image")
    with pytest.raises(UnidentifiedImageError):
        pixels(tmp_path / "a.jpg")
    assert damage(tmp_path / "a.jpg", 10**6) == "a.jpg: damaged, cut off or no image: copy it again"
