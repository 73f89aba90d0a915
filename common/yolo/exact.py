"""Batches that answer bit for bit as each image alone does on one thread: layers that would not run in smaller parts.

Adding float32 in another order gives another last bit, and oneDNN chooses the order by the shape of the whole batch and
the number of threads; for about one layer in six that shows, those with the smallest maps. So each layer is asked once
per shape how many images may go together and still equal single ones; more go in parts of that size from then on. What
works number by number follows a rule instead: there only the ends of vectors differ. On a GPU nearly every layer would
have to: there nothing is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_SEED = 0
"""Of the noise the layers are asked with: real activations may be zero everywhere, and then prove nothing."""
_VECTOR = 64
"""torch computes so many numbers at once at most, and what is left at the end one by one, with other last bits."""
_GRAIN = 32768
"""Numbers that are worth a thread of their own to torch: at::internal::GRAIN_SIZE."""


def make_exact(network: nn.Module) -> None:
    """Make every answer of a network on the CPU independent of an image's neighbours and of the number of threads.

    Guarded are convolution, linear and attention layers, SiLU, and what a head does with sigmoid and softmax. Attention
    as a whole: its products of matrices are no layers of their own.
    """
    from ultralytics.nn.modules.block import AAttn, Attention
    from ultralytics.nn.modules.head import OBB, Detect

    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, Attention, AAttn)
    for name, layer in list(network.named_modules(remove_duplicate=False)):
        if isinstance(layer, nn.SiLU):
            # Not its forward: one object serves every network of the process.
            network.set_submodule(name, _Silu(layer))
        elif isinstance(layer, kinds):
            setattr(layer, "forward", _Parts(layer.forward))  # noqa: B010 - a method, to the type checker
        if isinstance(layer, Detect):
            layer._inference = _Decode(layer._inference)
        if isinstance(layer, OBB):
            layer.forward_head = _Angles(layer.forward_head)


class _Parts:
    """A layer's ``forward`` that splits the batch only where, and only as far as, that changes the answer."""

    def __init__(self, forward: Callable[[Tensor], Tensor]) -> None:
        self._forward = forward
        self._together: dict[Any, int] = {}

    def __call__(self, x: Tensor) -> Tensor:
        key = (x.shape, x.stride(), torch.get_num_threads())
        if key not in self._together:
            self._together[key] = self._most(x)
        return _in_parts(self._forward, x, self._together[key])

    def _most(self, like: Tensor) -> int:
        """The largest of the batch, half of it, a quarter... that equals single images; 0 = all, with every thread."""
        if len(like) == 1 and torch.get_num_threads() == 1:
            return 0
        x = torch.empty_like(like).normal_(generator=torch.Generator().manual_seed(_SEED))
        single, size = _in_parts(self._forward, x, 1), len(x)
        if torch.equal(self._forward(x), single):
            return 0
        while size > 1 and not torch.equal(_in_parts(self._forward, x, size), single):
            size = (size + 1) // 2
        return size


class _Silu(nn.Module):
    """SiLU that splits the batch where images would not fill whole vectors."""

    def __init__(self, silu: nn.SiLU) -> None:
        super().__init__()
        self._silu = silu

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return _in_parts(self._silu, x, whole_vectors(len(x), x.numel() // len(x), torch.get_num_threads()))


class _Decode:
    """A head's decoding, image by image."""

    def __init__(self, decode: Callable[[dict[str, Any]], Tensor]) -> None:
        self._decode = decode

    def __call__(self, found: dict[str, Any]) -> Tensor:
        with _one_thread():
            alone = [{name: _only(i, value) for name, value in found.items()} for i in range(len(found["scores"]))]
            return torch.cat([self._decode(image) for image in alone])


class _Angles:
    """What a head of turned boxes finds, the sigmoid of its angles image by image."""

    def __init__(self, find: Callable[..., dict[str, Any]]) -> None:
        self._find = find

    def __call__(self, x: list[Tensor], box_head: Any, cls_head: Any, angle_head: Any) -> dict[str, Any]:
        found = self._find(x, box_head, cls_head, None)
        if angle_head is None:
            return found
        maps = [layers(each) for layers, each in zip(angle_head, x, strict=True)]
        as_it_is = [nn.Identity()] * len(maps)
        with _one_thread():
            alone = [self._find(_only(i, maps), None, None, as_it_is)["angle"] for i in range(len(maps[0]))]
        return {**found, "angle": torch.cat(alone)}


def whole_vectors(images: int, numbers: int, threads: int) -> int:
    """How many images an element-wise layer may take together and answer as for single ones; 0 = all, on every thread.

    Args:
        images: In the batch.
        numbers: Per image.
        threads: CPU threads, among which torch divides what is larger than ``_GRAIN``.
    """
    if numbers % _VECTOR:
        return 0 if images == threads == 1 else 1
    total = images * numbers
    shares = min(threads, -(-total // _GRAIN))
    return images if shares > 1 and -(-total // shares) % _VECTOR else 0


def _in_parts(forward: Callable[[Tensor], Tensor], x: Tensor, size: int) -> Tensor:
    """So many images at a time on one thread; 0 = all at once, with every thread."""
    if not size:
        return forward(x)
    # On maps this small threads only wait for each other: measured ten times the work on two busy cores.
    with _one_thread():
        return torch.cat([forward(part) for part in torch.split(x, size)])


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _only(image: int, value: Any) -> Any:
    """One image, with its dimension, of a tensor or of each in a list."""
    return [each[image : image + 1] for each in value] if isinstance(value, list) else value[image : image + 1]
