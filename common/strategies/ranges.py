"""Ranges of options: one sentence for a value that is not allowed."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import numpy as np


def require_whole(least: int, **values: Any) -> None:
    """Raise ValueError unless each value, by its option's name, is a whole number of at least ``least``."""
    for name, value in values.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name} is {value!r}: a whole number, {least} or more, is allowed")


def require_flag(**values: Any) -> None:
    """Raise ValueError unless each value, by its option's name, is True or False: 'no' would count as True."""
    for name, value in values.items():
        if not isinstance(value, bool | np.bool_):
            raise ValueError(f"{name} is {value!r}: True or False is allowed")


def is_number(value: Any) -> bool:
    """Whether it is a finite real number, and no bool."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def require_number(least: float, most: float = math.inf, **values: Any) -> None:
    """Raise ValueError unless each value, by its option's name, is a finite number from ``least`` to ``most``."""
    for name, value in values.items():
        if not is_number(value) or not least <= value <= most:
            what, upper = ("finite number", " or more") if most == math.inf else ("number", f" to {most:g}")
            raise ValueError(f"{name} is {value!r}: a {what}, {least:g}{upper}, is allowed")
