"""Which files are images, how large they are to the annotator, and what is stored of them."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from media_platform import image
from PIL import Image

from common.errors import UnreadableImageError
from common.media.decode import Checked, Decoder


def check(data: bytes, max_pixels: int = 1_000_000) -> Checked:
    return Decoder(max_pixels).check(data, "x.jpg")


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def png_header(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims any size."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0")),
        (b"IEND", b""),
    )
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(("form", "suffix"), [("JPEG", ".jpg"), ("PNG", ".png"), ("WEBP", ".webp"), ("BMP", ".bmp")])
def test_usual_formats_are_stored_as_they_came(form: str, suffix: str) -> None:
    data = image(60, 40, form)
    assert check(data) == Checked(data, suffix, 60, 40)


@pytest.mark.parametrize("form", ["GIF", "TIFF", "AVIF"])
def test_formats_that_detectors_read_differently_are_stored_as_png(form: str) -> None:
    found = check(image(60, 40, form))
    assert (found.suffix, found.width, found.height) == (".png", 60, 40)
    assert Image.open(BytesIO(found.data)).size == (60, 40)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "AVIF", "TIFF"])
def test_the_size_is_that_of_the_upright_image(form: str) -> None:
    found = check(image(60, 40, form, exif=turned(6)))
    assert (found.width, found.height) == (40, 60)


def test_a_webp_is_not_turned_because_browsers_do_not_turn_it() -> None:
    data = image(60, 40, "WEBP", exif=turned(6), lossless=True)
    found = check(data)
    assert (found.suffix, found.width, found.height) == (".png", 60, 40)
    assert np.array_equal(np.asarray(Image.open(BytesIO(found.data))), np.asarray(Image.open(BytesIO(data))))


def test_a_turned_png_is_stored_upright_and_says_so_no_more() -> None:
    found = check(image(60, 40, "PNG", exif=turned(6)))
    stored = Image.open(BytesIO(found.data))
    assert (stored.size, stored.getexif().get(0x0112)) == ((40, 60), None)


@pytest.mark.parametrize("exif", [1, 2, 3, 4, 5, 6, 7, 8, 0, 9])
def test_every_orientation_gives_the_size_opencv_gives(exif: int) -> None:
    import cv2

    found = check(image(60, 40, "JPEG", exif=turned(exif)))
    assert cv2.imdecode(np.frombuffer(found.data, np.uint8), cv2.IMREAD_COLOR).shape == (found.height, found.width, 3)


def test_cmyk_grey_palette_and_bilevel_images_are_read() -> None:
    for form, mode in [("JPEG", "CMYK"), ("TIFF", "CMYK"), ("JPEG", "L"), ("PNG", "P"), ("PNG", "1"), ("PNG", "LA")]:
        found = check(image(60, 40, form, mode))
        assert (found.width, found.height) == (60, 40)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_16_bits_become_8(form: str) -> None:
    import cv2

    buffer = BytesIO()
    Image.fromarray(np.full((40, 60), 0x8000, np.uint16)).save(buffer, form)
    pixels = cv2.imdecode(np.frombuffer(check(buffer.getvalue()).data, np.uint8), cv2.IMREAD_COLOR)
    assert (pixels.shape, pixels.dtype, pixels[0, 0, 0]) == ((40, 60, 3), np.uint8, 128)


def test_a_transparent_image_is_stored_on_white_as_a_browser_shows_it() -> None:
    buffer = BytesIO()
    Image.new("RGBA", (60, 40), (10, 20, 30, 0)).save(buffer, "PNG")
    assert Image.open(BytesIO(check(buffer.getvalue()).data)).getpixel((0, 0)) == (255, 255, 255)


def test_an_opaque_alpha_channel_changes_nothing() -> None:
    data = image(60, 40, "PNG", "RGBA")
    assert check(data).data == data


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_counts(form: str) -> None:
    frames = [Image.new("RGB", (60, 40), colour) for colour in ("red", "blue")]
    buffer = BytesIO()
    frames[0].save(buffer, form, save_all=True, append_images=frames[1:])
    red, _, blue = Image.open(BytesIO(check(buffer.getvalue()).data)).convert("RGB").getpixel((5, 5))
    assert red > 200 > 50 > blue


def test_bytes_behind_a_jpeg_are_cut_off() -> None:
    data = image(60, 40, "JPEG")
    assert check(data + b"trailer").data == data


@pytest.mark.parametrize(
    ("form", "missing"),
    [("JPEG", 300), ("JPEG", 2), ("PNG", 300), ("GIF", 300), ("WEBP", 200), ("BMP", 300), ("TIFF", 300)],
)
def test_a_cut_off_file_is_found(form: str, missing: int) -> None:
    with pytest.raises(UnreadableImageError, match="damaged or cut-off"):
        check(image(60, 40, form)[:-missing])


def test_a_progressive_jpeg_that_is_cut_off_is_found() -> None:
    with pytest.raises(UnreadableImageError, match="damaged or cut-off JPEG"):
        check(image(60, 40, "JPEG", progressive=True)[:-300])


def test_a_header_of_50000_by_50000_is_refused_before_any_decode() -> None:
    with pytest.raises(UnreadableImageError, match="50000 x 50000 pixels, more than the 100000000 allowed"):
        check(png_header(50_000, 50_000), 100_000_000)


def test_the_limit_of_pixels_is_ours_and_not_pillows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert check(image(60, 40)).width == 60
    assert check(image(60, 40), 2400).width == 60
    with pytest.raises(UnreadableImageError, match="HARDFIRST_MAX_IMAGE_PIXELS"):
        check(image(60, 40), 2399)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "0 bytes"),
        (
            b"\n<!DOCTYPE html><html><body>Log in</body></html>",
            "a web page, not an image: the token may lack the right",
        ),
        (b"<html>", "a web page"),
        (b'{"detail": "no"}', "JSON"),
        (b"<?xml version='1.0'?><Error/>", "XML"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"MZ\x90\x00 not an image", "not an image that can be read here"),
        (b"\xff\xd8\xff", "not an image that can be read here"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "not an image that can be read here"),
    ],
)
def test_what_is_no_image_is_named(data: bytes, sentence: str) -> None:
    with pytest.raises(UnreadableImageError, match=sentence):
        check(data)
