"""Ranges of options: one sentence for a value that is not allowed."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any

import numpy as np


def require_whole(least: int, **values: Any) -> None:
    """Raise ValueError unless each value, by its option's name, is a whole number of at least ``least``."""
    for name, value in values.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name} is {value!r}: a whole number, {least} or more, is allowed")


@dataclass(frozen=True)
class Switches:
    """Options whose switches are looked at when they are made: 'no' would count as True."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, bool) and not isinstance(value, bool | np.bool_):
                raise ValueError(f"{field.name} is {value!r}: True or False is allowed")


def is_number(value: Any) -> bool:
    """Whether it is a finite real number, and no bool."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def require_number(least: float, most: float = math.inf, **values: Any) -> None:
    """Raise ValueError unless each value, by its option's name, is a finite number from ``least`` to ``most``."""
    for name, value in values.items():
        if not is_number(value) or not least <= value <= most:
            what, upper = ("finite number", " or more") if most == math.inf else ("number", f" to {most:g}")
            raise ValueError(f"{name} is {value!r}: a {what}, {least:g}{upper}, is allowed")
