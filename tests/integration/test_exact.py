"""The guard against batch neighbours: how far a layer's batch is split."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from common.yolo import exact  # noqa: E402
from tests.integration.yolo_home import home_fixture  # noqa: E402, F401 - a fixture


class Counting(torch.nn.Conv2d):  # type: ignore[misc]
    """A layer whose answer is another one where more than ``limit`` images come together."""

    def __init__(self, limit: int) -> None:
        super().__init__(1, 1, 1)
        self.limit = limit
        self.sizes: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(x))
        return x + (len(x) > self.limit)


@pytest.mark.parametrize(
    ("limit", "parts"),
    [(1, [1] * 8), (2, [2] * 4), (3, [2] * 4), (4, [4, 4]), (7, [4, 4]), (8, [8])],
)
def test_a_batch_goes_in_the_largest_halves_that_answer_as_single_images_do(limit: int, parts: list[int]) -> None:
    layer = Counting(limit)
    exact.make_exact(layer)
    x = torch.arange(8.0).reshape(8, 1, 1, 1)
    layer(x)  # asks
    layer.sizes.clear()

    assert torch.equal(layer(x), x)
    assert layer.sizes == parts


def test_each_shape_is_asked_once() -> None:
    layer = Counting(2)
    exact.make_exact(layer)
    layer(torch.zeros(5, 1, 2, 2))
    layer.sizes.clear()

    layer(torch.zeros(5, 1, 2, 2))
    assert layer.sizes == [2, 2, 1]


def test_threads_are_as_before_after_a_batch_in_parts() -> None:
    before = torch.get_num_threads()
    layer = Counting(1)
    exact.make_exact(layer)

    layer(torch.zeros(4, 1, 2, 2))

    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("images", "numbers", "threads", "together"),
    [
        (8, 640, 1, 0),  # whole vectors
        (8, 720, 1, 1),  # 11 of them and a quarter
        (1, 720, 1, 0),  # nobody beside it
        (1, 720, 2, 1),
        (8, 4096, 3, 0),  # as many as one thread gets
        (9, 4096, 2, 0),  # two shares of 18432
        (9, 4096, 3, 0),  # too few numbers for a third share
        (17, 4096, 3, 17),  # three shares of 23211 and a third
        (17, 4096, 1, 0),
        (4, 20480, 3, 4),  # an odd share also where each image fills its vectors
    ],
)
def test_images_part_where_vectors_would_end_elsewhere(images: int, numbers: int, threads: int, together: int) -> None:
    assert exact.whole_vectors(images, numbers, threads) == together


def test_the_activation_that_all_networks_share_stays_as_it_is() -> None:
    from ultralytics.nn.modules.conv import Conv

    layer = Conv(3, 8)
    shared = Conv.default_act
    exact.make_exact(layer)

    assert layer.act is not shared
    assert type(shared) is type(Conv(3, 8).act) is torch.nn.SiLU
    assert "forward" not in vars(shared)
