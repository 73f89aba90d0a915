"""Batches that answer bit for bit as each image alone does on one thread: layers whose kernel sees more run singly.

Adding float32 in another order gives another last bit, and oneDNN chooses the order by the shape of the whole batch and
the number of threads; for about one layer in six that shows, those with the smallest maps. So each layer is asked once
per shape whether its batch equals its single images; where it does not, it goes image by image from then on. On a GPU
nearly every layer would have to: there nothing is done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

_SEED = 0
"""Of the noise the layers are asked with: real activations may be zero everywhere, and then prove nothing."""


def make_exact(network: nn.Module) -> None:
    """Make every convolution and linear layer of a network on the CPU independent of the batch around an image."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            setattr(layer, "forward", _Singly(layer.forward))  # noqa: B010 - a method, to the type checker


class _Singly:
    """A layer's ``forward`` that splits the batch where, and only where, that changes the answer."""

    def __init__(self, forward: Callable[[Tensor], Tensor]) -> None:
        self._forward = forward
        self._splits: dict[Any, bool] = {}

    def __call__(self, x: Tensor) -> Tensor:
        key = (x.shape, x.stride(), torch.get_num_threads())
        if key not in self._splits:
            self._splits[key] = not self._is_independent(x)
        return self._one_by_one(x) if self._splits[key] else self._forward(x)

    def _is_independent(self, like: Tensor) -> bool:
        if len(like) == 1 and torch.get_num_threads() == 1:
            return True
        x = torch.empty_like(like).normal_(generator=torch.Generator().manual_seed(_SEED))
        return torch.equal(self._forward(x), self._one_by_one(x))

    def _one_by_one(self, x: Tensor) -> Tensor:
        threads = torch.get_num_threads()
        # On maps this small threads only wait for each other: measured ten times the work on two busy cores.
        torch.set_num_threads(1)
        try:
            return torch.cat([self._forward(one) for one in torch.split(x, 1)])
        finally:
            torch.set_num_threads(threads)
