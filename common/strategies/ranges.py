"""Ranges of options: one sentence for a value that is not allowed."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any


def require_whole(least: int, **values: Any) -> None:
    """Raise ValueError unless each value, by its option's name, is a whole number of at least ``least``."""
    for name, value in values.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name} is {value!r}: a whole number, {least} or more, is allowed")


def require_number(least: float, most: float = math.inf, **values: Any) -> None:
    """Raise ValueError unless each value, by its option's name, is a finite number from ``least`` to ``most``."""
    for name, value in values.items():
        known = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
        if not known or not least <= value <= most:
            upper = " or more" if most == math.inf else f" to {most:g}"
            raise ValueError(f"{name} is {value!r}: a number, {least:g}{upper}, is allowed")
