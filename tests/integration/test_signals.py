"""What the last class layers say of a box depends neither on the other rows nor on the number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402

from common.yolo import signals  # noqa: E402

ROWS = (1, 2, 3, 7, 50, 120)
"""Boxes of each image."""


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def images(generator: torch.Generator, features: int) -> list[Tensor]:
    return [torch.nn.functional.silu(torch.randn(n, features, generator=generator)) for n in ROWS]


@pytest.mark.parametrize("kind", [torch.nn.Conv2d, torch.nn.Linear])
def test_scores_under_masks_are_those_of_the_image_alone(kind: Callable[..., torch.nn.Module]) -> None:
    generator = torch.Generator().manual_seed(0)
    layer = kind(80, 5, 1) if kind is torch.nn.Conv2d else kind(80, 5)
    torch.nn.init.normal_(layer.weight, std=0.1, generator=generator)  # type: ignore[arg-type]
    torch.nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    level = signals.Level.of(layer, generator)
    xs = images(generator, 80)
    torch.set_num_threads(1)
    alone = [level.heads(x) for x in xs]

    for threads in (1, 2):
        torch.set_num_threads(threads)
        together = torch.split(level.heads(torch.cat(xs)), ROWS, dim=1)
        assert all(torch.equal(*pair) for pair in zip(together, alone, strict=True))
    assert alone[0].dtype == torch.float32


def test_the_gradient_is_the_same_on_any_number_of_threads() -> None:
    generator = torch.Generator().manual_seed(1)
    xs = images(generator, 64)
    residuals = [torch.rand(n, 5, generator=generator) - 0.5 for n in ROWS]
    torch.set_num_threads(1)
    alone = [signals.gradient(*pair) for pair in zip(xs, residuals, strict=True)]

    torch.set_num_threads(2)
    together = [signals.gradient(*pair) for pair in zip(xs, residuals, strict=True)]
    assert all(torch.equal(*pair) for pair in zip(together, alone, strict=True))
    exact = [(r.T.double() @ x.double()).square().sum(1).float() for x, r in zip(xs, residuals, strict=True)]
    assert all(torch.equal(*pair) for pair in zip(alone, exact, strict=True))
