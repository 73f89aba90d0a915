"""Which images, in which order: (pool, budget, generator) -> selection. ``query`` is the guarded call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from common.domain import Ints
from common.errors import SettingError, UnknownNameError
from common.strategies import additive, core_set, hybrid, stream, top_utility, typicality, uniform
from common.strategies.pool import Draft, Pool, Selection
from common.strategies.schedule import merge

__all__ = ["REGISTRY", "Pool", "Selection", "Strategy", "query"]


@dataclass(frozen=True)
class Strategy:
    """A way to order a pool.

    Attributes:
        select: (pool, budget, generator, options) -> draft of at least ``budget`` candidates where there are so many.
            Whatever it draws from the generator, and the order itself, must not depend on the budget: every prefix is
            the answer to the smaller budget.
        options: Frozen dataclass of what can be set, with defaults; raises ValueError for values not allowed.
    """

    select: Callable[[Pool, int, np.random.Generator, Any], Draft]
    options: type[Any]


REGISTRY: dict[str, Strategy] = {
    "uniform": Strategy(uniform.select, uniform.Options),
    "top_utility": Strategy(top_utility.select, top_utility.Options),
    "additive": Strategy(additive.select, additive.Options),
    "core_set": Strategy(core_set.select, core_set.Options),
    "typicality": Strategy(typicality.select, typicality.Options),
    "hybrid": Strategy(hybrid.select, hybrid.Options),
    "stream": Strategy(stream.select, stream.Options),
}
"""Name -> strategy."""


def query(name: str, pool: Pool, budget: int, rng: np.random.Generator, **options: Any) -> Selection:
    """The first ``budget`` places of the queue: the strategy's order, the random slice in its places, unreadable last.

    Args:
        name: A name of ``REGISTRY``.
        pool: What to choose from.
        budget: Places wanted, 0 or more; more than there are unlabelled samples = all of them.
        rng: The only source of chance. Same seed, same order.
        **options: Fields of the strategy's options.

    Returns:
        Distinct unlabelled indices; every prefix is the answer to the smaller budget. Empty for an empty pool, or
        when everything is labelled.

    Raises:
        UnknownNameError: No such strategy or acquisition function; the message lists the right ones.
        SettingError: An option that does not exist or a value that is not allowed, or a negative budget.
        ValueError: The strategy broke its contract.
    """
    if name not in REGISTRY:
        raise UnknownNameError(f"no strategy {name!r}; there are {sorted(REGISTRY)}")
    if budget < 0:
        raise SettingError(f"budget is {budget}: 0 or more images are allowed")
    strategy = REGISTRY[name]
    draft = strategy.select(pool, min(budget, len(pool)), rng, _options(name, strategy, options))
    wanted = min(budget, len(pool.candidates))
    _check_draft(name, pool, draft, wanted)
    main = draft.order[: len(pool.candidates)]
    order = np.concatenate([merge(main, pool.slice_queue, pool.slice_share), pool.unreadable])[:budget]
    utility = np.where(pool.readable[order], draft.utility[order], 0.0)
    return Selection(order, utility, draft.parts(order))


def _options(name: str, strategy: Strategy, options: dict[str, Any]) -> Any:
    allowed = sorted(f.name for f in fields(strategy.options))
    wrong = sorted(set(options) - set(allowed))
    if wrong:
        raise SettingError(f"strategy {name!r} has no option {wrong[0]!r}; there are {allowed}")
    try:
        return strategy.options(**options)
    except ValueError as error:
        raise SettingError(f"strategy {name!r}: {error}") from error


def _check_draft(name: str, pool: Pool, draft: Draft, wanted: int) -> None:
    """Raise ValueError unless the draft keeps the contract of ``Strategy``."""
    order: Ints = draft.order
    allowed = np.zeros(len(pool), bool)
    allowed[pool.candidates] = True
    if order.ndim != 1 or (len(order) and not (order.min() >= 0 and order.max() < len(pool))):
        raise ValueError(f"strategy {name!r} returned indices outside 0..{len(pool) - 1}")
    if len(np.unique(order)) != len(order):
        raise ValueError(f"strategy {name!r} returned a sample twice")
    if not allowed[order].all():
        raise ValueError(f"strategy {name!r} returned a sample that is labelled, unreadable or of the random slice")
    if len(order) < wanted:
        raise ValueError(f"strategy {name!r} returned {len(order)} samples where {wanted} were wanted")
    if draft.utility.shape != (len(pool),) or not np.isfinite(draft.utility).all():
        raise ValueError(f"strategy {name!r} returned utilities that are not {len(pool)} finite numbers")
    if len(pool) and not (draft.utility.min() >= 0 and draft.utility.max() <= 1):
        raise ValueError(f"strategy {name!r} returned utilities outside [0, 1]")
