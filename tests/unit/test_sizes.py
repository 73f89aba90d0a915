"""Sizes that come often get a model of their own, which answers as the one for every size."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from common.yolo import sizes
from common.yolo.sizes import Sizes, chunk

SMALL, WIDE = (8, 8), (8, 16)


class FakeModel:
    """Its answer: the sum of each image, and its first pixel; open in its sizes until it is reshaped."""

    def __init__(self, off: float = 0.0) -> None:
        self.shape: list[int] | None = None
        self.calls: list[int] = []
        self.copies: list[FakeModel] = []
        self.off = off

    def clone(self) -> FakeModel:
        self.copies.append(FakeModel(self.off))
        return self.copies[-1]

    def reshape(self, shape: list[int]) -> None:
        self.shape = shape

    def create_infer_request(self) -> FakeModel:
        return self

    def infer(self, inputs: dict[int, NDArray[Any]], **_: bool) -> dict[int, NDArray[Any]]:
        (pixels,) = inputs.values()
        assert self.shape in (None, list(pixels.shape))
        self.calls.append(len(pixels))
        # The same memory every time, as OpenVINO's: the next call overwrites it.
        self.out = getattr(self, "out", np.zeros((64, 1), np.float32))
        self.out[: len(pixels), 0] = pixels.sum((1, 2, 3)) + (self.off if self.shape else 0)
        return {0: self.out[: len(pixels)], 1: pixels[:, 0, 0].copy()}


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """After 16 images of 8 x 8 pixels; 4 of them in one call."""
    monkeypatch.setattr(sizes, "OFTEN", 16 * 64)
    monkeypatch.setattr(sizes, "AT_ONCE", 4 * 64)


def images(count: int, size: tuple[int, int] = SMALL) -> NDArray[np.float32]:
    return np.random.default_rng(count).random((count, *size, 3), dtype=np.float32)


def of(model: FakeModel, weights: int = 1, compile_: Callable[[Any], Any] = lambda wanted: wanted) -> Sizes:
    return Sizes(model, compile_, weights)


def assert_answers(answer: Sizes, pixels: NDArray[np.float32]) -> None:
    total, first = answer(pixels)
    np.testing.assert_array_equal(total[:, 0], pixels.sum((1, 2, 3)))
    np.testing.assert_array_equal(first, pixels[:, 0, 0])


def test_a_size_has_a_model_of_its_own_from_the_image_on_that_makes_it_frequent() -> None:
    model = FakeModel()
    answer = of(model)
    for _ in range(3):
        assert_answers(answer, images(5))
    assert not model.copies
    assert_answers(answer, images(5))
    (own,) = model.copies
    assert own.shape == [4, *SMALL, 3]


@pytest.mark.parametrize("count", range(1, 13))
def test_every_number_of_images_is_answered_in_order(count: int) -> None:
    model = FakeModel()
    answer = of(model)
    assert_answers(answer, images(16))
    (own,) = model.copies
    model.calls.clear()
    own.calls.clear()
    assert_answers(answer, images(count))
    assert own.calls == [4] * (count // 4)
    assert model.calls == ([count % 4] if count % 4 else [])


def test_images_of_other_sizes_go_on_as_before() -> None:
    model = FakeModel()
    answer = of(model)
    assert_answers(answer, images(16))
    assert_answers(answer, images(4, WIDE))
    assert len(model.copies) == 1
    assert model.calls[-1] == 4


def test_fewer_images_than_one_call_holds_make_no_size_frequent() -> None:
    model = FakeModel()
    answer = of(model)
    for _ in range(40):
        assert_answers(answer, images(3))
    assert not model.copies


def test_single_images_count_where_one_is_a_call() -> None:
    model = FakeModel()
    answer = of(model)
    for _ in range(4):
        assert_answers(answer, images(1, (16, 16)))
    (own,) = model.copies
    assert own.shape == [1, 16, 16, 3]


@pytest.mark.parametrize(("weights", "allowed"), [(1, 4), (100 * 2**20, 2), (200 * 2**20, 1), (300 * 2**20, 0)])
def test_memory_decides_how_many_sizes_have_their_own(weights: int, allowed: int) -> None:
    model = FakeModel()
    answer = of(model, weights)
    for side in (8, 16, 24, 32, 40, 48):
        assert_answers(answer, images(16, (side, 8)))
    assert len(model.copies) == allowed


def test_large_images_take_memory_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "MEMORY", sizes.PER_PIXEL * 2 * 32 * 32)
    model = FakeModel()
    answer = of(model)
    for side in (32, 40, 48):
        assert_answers(answer, images(4, (side, 32)))
    assert [own.shape for own in model.copies] == [[1, 32, 32, 3]]


def test_a_model_that_answers_differently_is_not_used_nor_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    model = FakeModel(off=1e-3)
    answer = of(model)
    with caplog.at_level(logging.DEBUG):
        for _ in range(3):
            assert_answers(answer, images(16))
    (own,) = model.copies
    assert own.calls == [4]
    assert "not equal, not used" in caplog.text


def test_where_no_own_model_can_be_made_the_other_one_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    model = FakeModel()

    def failing(wanted: FakeModel) -> FakeModel:
        if wanted is not model:
            raise RuntimeError("no memory left")
        return wanted

    answer = of(model, compile_=failing)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            assert_answers(answer, images(16))
    (line,) = [r.getMessage() for r in caplog.records]
    assert line == "no OpenVINO model for 8 x 8 pixels alone: no memory left"
    assert len(model.copies) == 1


def test_a_call_holds_as_many_pixels_as_measured_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert [chunk(size) for size in ((256, 320), (320, 320), (640, 640), (480, 640), (160, 160), (224, 320))] == [
        4,
        4,
        1,
        1,
        8,
        4,
    ]
