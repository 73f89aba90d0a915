"""Batches that answer bit for bit as each image alone does on one thread: layers that would not run in smaller parts.

Adding float32 in another order gives another last bit, and oneDNN chooses the order by the shape of the whole batch and
the number of threads; for about one layer in six that shows, those with the smallest maps. So each layer is asked once
per shape how many images may go together and still equal single ones; more go in parts of that size from then on. On a
GPU nearly every layer would have to: there nothing is done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

_SEED = 0
"""Of the noise the layers are asked with: real activations may be zero everywhere, and then prove nothing."""


def make_exact(network: nn.Module) -> None:
    """Make every convolution, linear and attention layer of a network on the CPU independent of an image's neighbours.

    Attention as a whole: its products of matrices are no layers of their own.
    """
    from ultralytics.nn.modules.block import AAttn, Attention

    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, Attention, AAttn)
    for layer in network.modules():
        if isinstance(layer, kinds):
            setattr(layer, "forward", _Parts(layer.forward))  # noqa: B010 - a method, to the type checker


class _Parts:
    """A layer's ``forward`` that splits the batch only where, and only as far as, that changes the answer."""

    def __init__(self, forward: Callable[[Tensor], Tensor]) -> None:
        self._forward = forward
        self._together: dict[Any, int] = {}

    def __call__(self, x: Tensor) -> Tensor:
        key = (x.shape, x.stride(), torch.get_num_threads())
        if key not in self._together:
            self._together[key] = self._most(x)
        return self._in_parts(x, self._together[key])

    def _most(self, like: Tensor) -> int:
        """The largest of the batch, half of it, a quarter... that equals single images; 0 = all, with every thread."""
        if len(like) == 1 and torch.get_num_threads() == 1:
            return 0
        x = torch.empty_like(like).normal_(generator=torch.Generator().manual_seed(_SEED))
        single, size = self._in_parts(x, 1), len(x)
        if torch.equal(self._forward(x), single):
            return 0
        while size > 1 and not torch.equal(self._in_parts(x, size), single):
            size = (size + 1) // 2
        return size

    def _in_parts(self, x: Tensor, size: int) -> Tensor:
        if not size:
            return self._forward(x)
        threads = torch.get_num_threads()
        # On maps this small threads only wait for each other: measured ten times the work on two busy cores.
        torch.set_num_threads(1)
        try:
            return torch.cat([self._forward(part) for part in torch.split(x, size)])
        finally:
            torch.set_num_threads(threads)
